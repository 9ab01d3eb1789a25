//! The certificate that `minismtp serve` shows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::{ExitStatus, Failure};
use crate::disk::Disk;
use crate::maillog::Log;
use crate::net::certificate::{Fingerprint, IdentityError};
use crate::net::tls::{Identities, Side};
use crate::server::Protocol;
use crate::server::certificates::{
    CERTIFICATE_FILE, CertificateError, KEY_FILE, Own, PemFiles, Renewable,
};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The port for SMTP under TLS from the first octet; 0 is a free one
    #[arg(long, value_name = "PORT")]
    smtps_port: Option<u16>,

    /// The port for access to mailboxes under TLS from the first octet; 0 is a free one
    #[arg(long, value_name = "PORT")]
    pop3s_port: Option<u16>,

    /// The server's certificate, and those that vouch for it, in PEM; for STARTTLS, STLS and the ports
    /// under TLS
    ///
    /// This file and the key's are read again when they have changed; connections stay. With `--user`
    /// that user has to be able to read them then.
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = clap::ValueHint::FilePath)]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM, without a pass phrase
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = clap::ValueHint::FilePath)]
    tls_key: Option<PathBuf>,

    /// Make a certificate of our own, once, and keep it in the mail root
    ///
    /// It lasts for ten years, and is made anew at the first start in its last month. Where it lacks a
    /// name that this machine has by now, a warning says so: to make another, remove it.
    ///
    /// Its fingerprint is printed at the start, for `--tls-fingerprint`; clients can also be given
    /// the file `.minismtp.tls.crt`. Commands of the same user that use the same mail root trust it
    /// without either.
    #[arg(long, value_name = "KIND", value_enum, conflicts_with = "tls_cert")]
    tls: Option<Kind>,

    /// Take passwords in clear from other machines too, for others on the way to read
    #[arg(long)]
    pub(super) insecure_auth: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Nobody vouches for it but itself
    SelfSigned,
}

/// What TLS begins with, and what a person knows it by.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) side: Side,
    pub(super) fingerprint: Fingerprint,
}

impl Args {
    /// Whether there will be a certificate.
    pub(super) fn is_given(&self) -> bool {
        self.tls.is_some() || self.tls_cert.is_some()
    }

    /// The ports on which TLS comes first.
    pub(super) fn ports(&self) -> [(Protocol, Option<u16>); 2] {
        [
            (Protocol::Smtps, self.smtps_port),
            (Protocol::Pop3s, self.pop3s_port),
        ]
    }

    /// Reads the files that were named: as root, who may, before it is given up.
    pub(super) fn files(&self) -> Result<Option<PemFiles>, Failure> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            return Ok(Some(PemFiles::read(certificate, key)?));
        }
        let needs_one = self.ports().into_iter().find(|(_, port)| port.is_some());
        match needs_one {
            Some((protocol, _)) if !self.is_given() => Err(Failure::new(
                ExitStatus::Usage,
                format_args!("`--{}-port` needs a certificate", protocol.name()),
            )
            .hint("`--tls-cert FILE --tls-key FILE` name one, `--tls self-signed` makes one")),
            _ => Ok(None),
        }
    }

    /// What to show: what is in the files, or a certificate of our own for these names.
    pub(super) fn shown(
        &self,
        files: Option<PemFiles>,
        disk: &dyn Disk,
        hostname: &str,
        listeners: &[(Protocol, SocketAddr)],
        log: &Log,
    ) -> Result<Option<Shown>, Failure> {
        let identities: Arc<dyn Identities> = match (files, self.tls) {
            (Some(files), _) => Arc::new(Renewable::new(files, log.clone())),
            (None, Some(Kind::SelfSigned)) => {
                let addresses: Vec<_> = listeners.iter().map(|(_, to)| to.ip()).collect();
                let (names, addresses) = own_names(hostname, &addresses);
                Arc::new(Own::open(disk, &names, &addresses, log)?)
            }
            (None, None) => return Ok(None),
        };
        let fingerprint = identities.current().fingerprint();
        let side =
            Side::server(identities).map_err(|error| Failure::new(ExitStatus::Internal, error))?;
        Ok(Some(Shown { side, fingerprint }))
    }
}

/// What clients may call this machine: by these names, and at these addresses.
fn own_names(hostname: &str, listening: &[IpAddr]) -> (Vec<String>, Vec<IpAddr>) {
    let system = super::serve::hostname();
    let mut names: Vec<String> = Vec::new();
    for name in [hostname, &system, "localhost"] {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    let mut addresses: Vec<IpAddr> = ["127.0.0.1", "::1"]
        .iter()
        .flat_map(|a| a.parse())
        .collect();
    for address in listening {
        if !address.is_unspecified() && !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    (names, addresses)
}

/// What to do about a file of no use.
fn content_hint(path: &Path, cause: &IdentityError) -> String {
    let path = path.display();
    match cause {
        IdentityError::NoPair => "of a pair, `openssl x509 -in CERTIFICATE -noout -pubkey` and \
                                  `openssl pkey -in KEY -pubout` print the same"
            .to_owned(),
        IdentityError::EncryptedKey => {
            format!("`openssl pkey -in {path} -out FILE` writes it without one")
        }
        IdentityError::OldVersion => "`openssl req -x509` makes one of version 3, and so does \
                                      `openssl x509 -req` with `-extfile FILE`, a file that has \
                                      `subjectAltName=DNS:NAME`"
            .to_owned(),
        IdentityError::NoCertificate | IdentityError::NoKey | IdentityError::UnknownKey => {
            format!("`{path}` has to be PEM: a certificate and, in a file of its own, its key")
        }
    }
}

impl From<CertificateError> for Failure {
    fn from(error: CertificateError) -> Self {
        match &error {
            CertificateError::File {
                doing: "read",
                cause,
                ..
            } if cause.kind() == io::ErrorKind::PermissionDenied => Self::new(
                ExitStatus::InputOutput,
                error,
            )
            .hint(
                "the user whom the server runs as has to be able to read it, now and when it is \
                     renewed; let whoever renews it make a copy for that user",
            ),
            CertificateError::File { .. } => Self::new(ExitStatus::InputOutput, error),
            CertificateError::Content { path, cause } => {
                let hint = content_hint(path, cause);
                Self::new(ExitStatus::Configuration, error).hint(hint)
            }
            CertificateError::Damaged { .. } => {
                let hint = format!(
                    "remove `{CERTIFICATE_FILE}` and `{KEY_FILE}` there, and others are made; \
                     whoever trusts the certificate has to be told of the new one"
                );
                Self::new(ExitStatus::Configuration, error).hint(hint)
            }
            CertificateError::Making(_) => Self::new(ExitStatus::Internal, error),
        }
    }
}
