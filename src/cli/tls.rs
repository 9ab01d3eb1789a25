//! How the commands that call a server protect the connection.

use std::fs;
use std::path::PathBuf;

use super::Global;
use super::report::{ExitStatus, Failure, Output};
use crate::client::{Security, Tls};
use crate::disk::{self, Open};
use crate::net::certificate::Fingerprint;
use crate::net::tls;
use crate::net::trust::{Authorities, Trust};
use crate::server::certificates::CERTIFICATE_FILE;

/// What to do about a certificate that nobody vouches for.
const TRUST_HINT: &str = "`--tls-ca FILE` names who is trusted, `--tls-fingerprint SHA256` trusts \
                          one certificate, `--tls-insecure` trusts anybody";

/// What to do about a server that says nothing: under TLS the client speaks first.
pub(super) const SILENCE_HINT: &str = "if TLS comes first on this port, `--tls implicit` begins it";

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// When the connection is under TLS [default: starttls]
    ///
    /// The server's certificate has to be for the name that `--server` has, and be vouched for by an
    /// authority that this system trusts. The certificate that `minismtp serve --tls self-signed`
    /// made in this mail root is trusted as it is, if it belongs to you or to root and nobody else can
    /// change it.
    #[arg(long = "tls", value_name = "WHEN", value_enum)]
    when: Option<When>,

    /// Go no further where the server offers no TLS; so do `--tls-ca` and `--tls-fingerprint`
    #[arg(long)]
    require_tls: bool,

    /// Trust the authorities, or the server's certificate, in this PEM file and no others
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    tls_ca: Option<PathBuf>,

    /// Trust the certificate with this SHA-256 fingerprint and no other, whatever stands in it
    #[arg(long, value_name = "SHA256", conflicts_with = "tls_ca")]
    tls_fingerprint: Option<Fingerprint>,

    /// Do not check the certificate: others may be at the other end
    ///
    /// There is then no login to another machine, unless `--insecure-auth` is given too.
    #[arg(long, conflicts_with_all = ["tls_ca", "tls_fingerprint"])]
    tls_insecure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum When {
    /// Once the server offers it
    Starttls,
    /// From the first octet, on a port that is meant for it
    Implicit,
    /// Never
    Off,
}

impl Args {
    /// Whether TLS was asked for: who says whom to trust, or to trust anybody, means TLS.
    pub(super) fn is_asked_for(&self) -> bool {
        self.when.is_some() || self.flag().is_some()
    }

    /// A flag that is of no use without TLS.
    fn flag(&self) -> Option<&'static str> {
        let flags = [
            ("--require-tls", self.require_tls),
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-fingerprint", self.tls_fingerprint.is_some()),
            ("--tls-insecure", self.tls_insecure),
        ];
        let given = flags.into_iter().find(|(_, is_given)| *is_given);
        given.map(|(flag, _)| flag)
    }

    /// What the flags come to; says what is dangerous about it.
    pub(super) fn security(&self, global: &Global, out: &mut Output) -> Result<Security, Failure> {
        // Whoever takes STARTTLS away could not be told from a server without it, and who names a
        // certificate wants nobody else to be sent anything.
        let is_required =
            self.require_tls || self.tls_ca.is_some() || self.tls_fingerprint.is_some();
        let tls = match (self.when.unwrap_or(When::Starttls), self.flag()) {
            (When::Starttls, _) if is_required => Tls::Required,
            (When::Starttls, _) => Tls::IfOffered,
            (When::Implicit, _) => Tls::Implicit,
            (When::Off, None) => Tls::Off,
            (When::Off, Some(flag)) => {
                return Err(Failure::new(
                    ExitStatus::Usage,
                    format_args!("`--tls off` and `{flag}` cannot both be"),
                ));
            }
        };
        if self.tls_insecure {
            out.warning(
                "the server's certificate is not checked: whoever is on the way can read and \
                 change what is sent",
            );
        }
        Ok(Security {
            tls,
            trust: self.trust(global)?,
        })
    }

    fn trust(&self, global: &Global) -> Result<Trust, Failure> {
        if self.tls_insecure {
            return Ok(Trust::Anybody);
        }
        if let Some(fingerprint) = self.tls_fingerprint {
            return Ok(Trust::Fingerprint(fingerprint));
        }
        let Some(file) = &self.tls_ca else {
            return Ok(Trust::Authorities(Authorities::System, own(global)));
        };
        let path = file.display();
        let pem = fs::read(file).map_err(|error| {
            Failure::new(
                ExitStatus::InputOutput,
                format_args!("cannot read `{path}`: {error}"),
            )
        })?;
        let authorities = Authorities::from_pem(&pem).ok_or_else(|| {
            Failure::new(
                ExitStatus::BadData,
                format_args!("`{path}` holds no certificate in PEM, or a damaged one"),
            )
        })?;
        Ok(Trust::Authorities(authorities, None))
    }
}

/// What `--tls` says of itself where TLS with this machine has to be asked for.
pub(super) fn only_if_asked(arg: clap::Arg) -> clap::Arg {
    let told = |help: &dyn std::fmt::Display| {
        help.to_string().replace(
            "[default: starttls]",
            "[default: starttls, and off with this machine unless another flag asks for TLS]",
        )
    };
    let [short, long] =
        [arg.get_help(), arg.get_long_help()].map(|help| help.map(|help| told(help)));
    arg.help(short.unwrap_or_default())
        .long_help(long.unwrap_or_default())
}

/// The certificate that a server of ours made, if there is one here that we may read. The mail root may
/// be whatever directory we are in: another user who made it must not choose whom we trust.
fn own(global: &Global) -> Option<Fingerprint> {
    let disk = global.root().ok()?.open_existing().ok()??;
    let file = disk.open(CERTIFICATE_FILE.as_ref(), Open::Read).ok()?;
    let status = file.status().ok()?;
    let owner = status.owner.0;
    let is_ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    let can_others_write = status.mode & 0o022 != 0;
    if !is_ours || can_others_write {
        return None;
    }
    let pem = disk::read_whole(&*file).ok()?;
    Fingerprint::of_pem(&pem)
}

/// What to do where a password was not sent because others could read it.
pub(super) fn unprotected_hint(security: &Security, is_secure: bool) -> String {
    let instead = match (security.tls, is_secure) {
        (Tls::Off, _) => "without `--tls off` TLS begins where the server offers it",
        (_, true) => {
            "`--tls-ca FILE` or `--tls-fingerprint SHA256`, instead of `--tls-insecure`, say who the \
             server is"
        }
        (_, false) => "the server offers no TLS",
    };
    format!(
        "{instead}; `--insecure-auth` sends the password all the same, for others on the way to read"
    )
}

/// How to end where TLS did not come about, and what to do about it.
pub(super) fn failure(cause: &tls::Failure, told: impl std::fmt::Display) -> Failure {
    let status = match cause {
        tls::Failure::Lost | tls::Failure::TimedOut | tls::Failure::Stopped => ExitStatus::TryAgain,
        _ => ExitStatus::Protocol,
    };
    let told = Failure::new(status, told);
    match cause {
        tls::Failure::UnknownIssuer(Some(shown)) => {
            // Whoever is on the way shows one too: it is to be compared, not to be believed.
            told.hint(format_args!(
                "{TRUST_HINT}; `serve` prints the fingerprint of the right one, that of this one is \
                 {shown}"
            ))
        }
        tls::Failure::UnknownIssuer(None) => told.hint(TRUST_HINT),
        tls::Failure::WrongName { .. } | tls::Failure::Name(_) => told.hint(
            "`--server` has to name it as its certificate does; `--tls-fingerprint SHA256` trusts \
             one certificate whatever its names are",
        ),
        tls::Failure::Expired(_) | tls::Failure::NotYetValid(_) => told.hint(
            "check this machine's date; if it is right, the server needs another certificate",
        ),
        tls::Failure::NotTls => told.hint(
            "`--tls implicit` is for ports where TLS comes first, `--tls starttls` for the others",
        ),
        _ => told,
    }
}
