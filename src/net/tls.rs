//! TLS 1.2 and 1.3 over rustls: each side's configuration, and the layer that a connection is under.
//!
//! The layer does no input or output: octets of the network go in and text comes out, and the
//! other way round. [`super::stream`] moves them.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, Error,
    InvalidMessage, PeerIncompatible, ProtocolVersion, ServerConfig, ServerConnection,
};

use super::certificate::{Fingerprint, Identity};
use super::trust::{OtherCertificate, Trust, Verifier};

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Text that waits for its taker keeps this much room; more is given back.
const PLAINTEXT_OCTETS_KEPT: usize = 4096;

/// Where a server's identity comes from: asked at each handshake, so that it may be renewed.
pub trait Identities: Send + Sync + fmt::Debug {
    /// The one for now.
    fn current(&self) -> Arc<Identity>;
}

/// Which end of a connection we are, and all that takes to begin TLS there.
#[derive(Clone, Debug)]
pub struct Side(Role);

#[derive(Clone, Debug)]
enum Role {
    /// With the name that the certificate has to be for, if one can be.
    Client(
        Arc<ClientConfig>,
        Result<ServerName<'static>, Failure>,
        Arc<Verifier>,
    ),
    Server(Arc<ServerConfig>),
}

impl Side {
    /// The server's.
    ///
    /// # Errors
    ///
    /// The library has no TLS to offer, which is a fault of how it was built.
    pub fn server(identities: Arc<dyn Identities>) -> Result<Self, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Other(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(identities)));
        Ok(Self(Role::Server(Arc::new(config))))
    }

    /// The client's, of a connection to the host of this name or address.
    ///
    /// # Errors
    ///
    /// As for [`Side::server`].
    pub fn client(trust: &Trust, host: &str) -> Result<Self, Failure> {
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
            .map_err(|_| Failure::Name(host.to_owned()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(trust.clone(), Arc::clone(&provider)));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Other(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Role::Client(Arc::new(config), name, verifier)))
    }
}

#[derive(Debug)]
struct Resolver(Arc<dyn Identities>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().key))
    }
}

/// Why a connection is not under TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The certificate is for other names.
    #[error("the certificate is for {}, not for `{name}`", names(.presented))]
    WrongName {
        /// Whom we called.
        name: String,
        /// Whom it is for.
        presented: Vec<String>,
    },
    /// Nobody who is trusted vouches for it.
    #[error("the certificate is signed by nobody who is trusted here")]
    UnknownIssuer(Option<Fingerprint>),
    /// It is over.
    #[error("the certificate expired{}", date(" on ", .0))]
    Expired(Option<String>),
    /// It is not yet time.
    #[error("the certificate is not valid{}", date(" before ", .0))]
    NotYetValid(Option<String>),
    /// It is another than it should be.
    #[error(
        "the certificate is not the one with the fingerprint that was given{}",
        fingerprint(.0)
    )]
    WrongFingerprint(Option<Fingerprint>),
    /// It is wrong in another way.
    #[error("the certificate is no good: {0}")]
    BadCertificate(String),
    /// No certificate can be for what the peer was called by.
    #[error("`{0}` is no name that a certificate could be for")]
    Name(String),
    /// What came is no TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// Only versions before 1.2, or nothing else in common.
    #[error("the peer has no TLS from 1.2 on, or no cipher that is safe")]
    NothingInCommon,
    /// The peer broke off and said why, in the words of TLS.
    #[error("the peer broke off the TLS handshake: {0}")]
    Alert(String),
    /// The connection ended.
    #[error("the connection was lost during the TLS handshake")]
    Lost,
    /// It took too long.
    #[error("the TLS handshake took too long")]
    TimedOut,
    /// The server stops.
    #[error("stopped during the TLS handshake")]
    Stopped,
    /// Anything else.
    #[error("the TLS handshake failed: {0}")]
    Other(String),
}

fn names(presented: &[String]) -> String {
    // A certificate may be for hundreds.
    const NAMES_MAX: usize = 5;
    // They come as `DnsName("mx.example")` or `IpAddress(0::1)`, and what stands in them is the
    // peer's.
    let plain = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        let inner = inner.trim_end_matches(')').trim_matches('"');
        if let Ok(address) = inner.parse::<IpAddr>() {
            return format!("`{address}`");
        }
        let shown: String = inner.chars().filter(|c| !c.is_control()).collect();
        format!("`{shown}`")
    };
    let mut shown: Vec<_> = presented.iter().take(NAMES_MAX).map(plain).collect();
    if presented.len() > NAMES_MAX {
        shown.push("others".to_owned());
    }
    if shown.is_empty() {
        return "no name at all".to_owned();
    }
    shown.join(", ")
}

fn date(before: &str, date: &Option<String>) -> String {
    match date {
        Some(date) => format!("{before}{date}"),
        None if before == " on " => String::new(),
        None => " yet".to_owned(),
    }
}

fn fingerprint(shown: &Option<Fingerprint>) -> String {
    shown.map_or_else(String::new, |shown| format!(" but with {shown}"))
}

/// What lies over a connection.
#[derive(Debug)]
pub(super) struct Layer {
    connection: Connection,
    verifier: Option<Arc<Verifier>>,
    plaintext: Vec<u8>,
    has_ended: bool,
}

impl Layer {
    /// Begins a handshake.
    pub(super) fn new(side: &Side) -> Result<Self, Failure> {
        let other = |error: Error| Failure::Other(error.to_string());
        let (connection, verifier) = match &side.0 {
            Role::Client(config, name, verifier) => {
                let connection = ClientConnection::new(Arc::clone(config), name.clone()?);
                (
                    connection.map_err(other)?.into(),
                    Some(Arc::clone(verifier)),
                )
            }
            Role::Server(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).map_err(other)?;
                (connection.into(), None)
            }
        };
        Ok(Self {
            connection,
            verifier,
            plaintext: Vec::new(),
            has_ended: false,
        })
    }

    /// Whether the handshake is still going on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// `1.3`.
    pub(super) fn version(&self) -> &'static str {
        match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        }
    }

    /// Takes octets of the network. What there is to write may be an alert, even after an error.
    pub(super) fn receive(&mut self, octets: &[u8]) -> Result<(), Error> {
        let mut rest = octets;
        while !rest.is_empty() && !self.has_ended {
            let taken = self.connection.read_tls(&mut rest);
            if taken.map_err(|error| Error::General(error.to_string()))? == 0 {
                break;
            }
            let state = self.connection.process_new_packets()?;
            let start = self.plaintext.len();
            self.plaintext
                .resize(start + state.plaintext_bytes_to_read(), 0);
            let read = self
                .connection
                .reader()
                .read_exact(&mut self.plaintext[start..]);
            read.map_err(|error| Error::General(error.to_string()))?;
            self.has_ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// Hands over the text that has come; whether there was any.
    pub(super) fn take(&mut self, take: &mut Option<impl FnOnce(&[u8])>) -> bool {
        if self.plaintext.is_empty() {
            return false;
        }
        if let Some(take) = take.take() {
            take(&self.plaintext);
        }
        if self.plaintext.capacity() > PLAINTEXT_OCTETS_KEPT {
            self.plaintext = Vec::new();
        } else {
            self.plaintext.clear();
        }
        true
    }

    /// Whether the peer has said that it will send nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes as much of a text to send as there is room for.
    pub(super) fn send(&mut self, text: &[u8]) -> io::Result<usize> {
        self.connection.writer().write(text)
    }

    /// Says that nothing more will be sent.
    pub(super) fn end(&mut self) {
        self.connection.send_close_notify();
    }

    /// Whether there are octets for the network.
    pub(super) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Writes some of them.
    pub(super) fn write_to(&mut self, out: &mut dyn Write) -> io::Result<usize> {
        self.connection.write_tls(out)
    }

    /// What an error says about the handshake.
    pub(super) fn failure(&self, error: &Error) -> Failure {
        let shown = self.verifier.as_ref().and_then(|verifier| verifier.shown());
        match error {
            Error::InvalidCertificate(error) => bad_certificate(error, shown),
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) => Failure::NotTls,
            Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
            )
            | Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon
                // Who begins with TLS 1.1 has no such extension.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
            ) => Failure::NothingInCommon,
            Error::AlertReceived(AlertDescription::Unknown(number)) => {
                Failure::Alert(format!("alert {number}"))
            }
            Error::AlertReceived(alert) => Failure::Alert(words(alert)),
            error => Failure::Other(fault(error)),
        }
    }
}

fn bad_certificate(error: &CertificateError, shown: Option<Fingerprint>) -> Failure {
    match error {
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => Failure::WrongName {
            name: match expected {
                ServerName::IpAddress(address) => IpAddr::from(*address).to_string(),
                name => name.to_str().into_owned(),
            },
            presented: presented.clone(),
        },
        CertificateError::UnknownIssuer => Failure::UnknownIssuer(shown),
        CertificateError::ExpiredContext { not_after, .. } => Failure::Expired(day(*not_after)),
        CertificateError::Expired => Failure::Expired(None),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Failure::NotYetValid(day(*not_before))
        }
        CertificateError::NotValidYet => Failure::NotYetValid(None),
        CertificateError::Other(other) if other.0.is::<OtherCertificate>() => {
            Failure::WrongFingerprint(shown)
        }
        error => Failure::BadCertificate(certificate_fault(error)),
    }
}

/// What is wrong with a certificate, in words for people: the library has only names for most of it.
#[expect(
    deprecated,
    reason = "the library may still give the variants without details"
)]
fn certificate_fault(error: &CertificateError) -> String {
    let fault = match error {
        CertificateError::BadEncoding => "it cannot be read",
        CertificateError::Revoked => "it was revoked",
        CertificateError::BadSignature => "its signature is wrong",
        CertificateError::UnhandledCriticalExtension => {
            "it wants something to be heeded that is not known here"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id,
            ..
        } if is_sha1(signature_algorithm_id) => "it is signed with SHA-1, which can be forged",
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed in a way that is not safe or not known here"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for servers"
        }
        CertificateError::NotValidForName => "it is for other names",
        CertificateError::Other(other) => match other.0.downcast_ref() {
            Some(webpki::Error::CaUsedAsEndEntity) => "it is an authority's, not a server's",
            Some(webpki::Error::UnsupportedCertVersion) => {
                "it is of X.509 version 1, and only version 3 will do"
            }
            Some(error) => return words(error),
            None => "it cannot be checked",
        },
        error => return words(error),
    };
    fault.to_owned()
}

/// Whether a signature's algorithm, in DER, is RSA or ECDSA over SHA-1 (RFC 3279 §2.2).
fn is_sha1(algorithm: &[u8]) -> bool {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    let holds = |id: &[u8]| algorithm.windows(id.len()).any(|part| part == id);
    holds(RSA) || holds(ECDSA)
}

/// What went wrong in a handshake, in words.
fn fault(error: &Error) -> String {
    match error {
        Error::InvalidMessage(why) => format!("the peer sent a damaged message: {}", words(why)),
        Error::PeerIncompatible(why) => format!("the peer lacks what is needed: {}", words(why)),
        Error::PeerMisbehaved(why) => format!("the peer does not keep to TLS: {}", words(why)),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "the peer sent a message out of turn".to_owned()
        }
        error => error.to_string(),
    }
}

/// The library's name for something as words: `CertificateUnknown` is `certificate unknown`. What
/// stands behind the name is for programmers.
fn words(name: &impl fmt::Debug) -> String {
    let name = format!("{name:?}");
    let mut words = String::new();
    for character in name.chars().take_while(char::is_ascii_alphanumeric) {
        if character.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    words
}

fn day(time: UnixTime) -> Option<String> {
    let seconds = i64::try_from(time.as_secs()).ok()?;
    let time = DateTime::from_timestamp(seconds, 0)?;
    Some(time.format("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use rustls::PeerMisbehaved;

    use super::*;

    #[test]
    fn names_of_the_library_become_words() {
        let alert = AlertDescription::CertificateUnknown;
        assert_eq!(words(&alert), "certificate unknown");
        let old = webpki::Error::UnsupportedCrlVersion;
        assert_eq!(words(&old), "unsupported crl version");
        let misbehaved = Error::PeerMisbehaved(PeerMisbehaved::SignedKxWithWrongAlgorithm);
        assert_eq!(
            fault(&misbehaved),
            "the peer does not keep to TLS: signed kx with wrong algorithm"
        );
        for algorithm in [&[1, 1, 5, 9][..], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]] {
            assert!(!is_sha1(algorithm), "{algorithm:?}");
        }
    }

    #[test]
    fn addresses_are_written_as_people_write_them() {
        let name = "::2".to_owned();
        let presented = ["IpAddress(0::1)", "IpAddress(127.0.0.1)", "DnsName(\"mx\")"];
        let presented = presented.map(str::to_owned).to_vec();
        assert_eq!(
            Failure::WrongName { name, presented }.to_string(),
            "the certificate is for `::1`, `127.0.0.1`, `mx`, not for `::2`"
        );
    }
}
