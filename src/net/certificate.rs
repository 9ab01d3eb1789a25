//! Certificates: what a server shows to prove who it is, and how a person tells one from another.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Local};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use ring::digest::{SHA256, digest};
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};

/// How long a certificate lasts that is made here, in years.
const SELF_SIGNED_YEARS: i32 = 10;

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(octets)
    }

    /// Of the first certificate in a PEM text; `None` if there is none.
    #[must_use]
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pem).ok()?;
        Some(Self::of(&certificate))
    }
}

impl fmt::Display for Fingerprint {
    /// As `openssl x509 -fingerprint` writes it: `AB:CD:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02X}")?;
        }
        Ok(())
    }
}

/// A text is no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 fingerprint has 64 hexadecimal digits, with or without colons")]
pub struct FingerprintError;

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.chars().filter(|c| *c != ':');
        let digits: Option<Vec<u32>> = digits.map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 64);
        let mut octets = [0; 32];
        for (octet, pair) in octets
            .iter_mut()
            .zip(digits.ok_or(FingerprintError)?.chunks(2))
        {
            *octet = u8::try_from(pair[0] * 16 + pair[1]).map_err(|_| FingerprintError)?;
        }
        Ok(Self(octets))
    }
}

/// A certificate, those that vouch for it, and its key.
#[derive(Debug)]
pub struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

/// Why there is no identity in two PEM texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The first holds no certificate.
    #[error("there is no certificate in it, or it is damaged")]
    NoCertificate,
    /// The certificate is of X.509 version 1, which knows no names of servers.
    #[error("the certificate is of X.509 version 1, and only version 3 will do")]
    OldVersion,
    /// The second holds no private key.
    #[error("there is no private key in it, or it is damaged")]
    NoKey,
    /// The key cannot be read without its pass phrase.
    #[error("the private key has a pass phrase")]
    EncryptedKey,
    /// A key of a kind that is not known.
    #[error("the private key is of no kind that is known here")]
    UnknownKey,
    /// They are not a pair.
    #[error("the private key is not that of the certificate")]
    NoPair,
}

impl Identity {
    /// Takes a chain of certificates, the server's own first, and the key of that one, both PEM.
    ///
    /// # Errors
    ///
    /// What is not there, or does not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let chain = chain.map_err(|_| IdentityError::NoCertificate)?;
        let own = chain.first().ok_or(IdentityError::NoCertificate)?;
        let fingerprint = Fingerprint::of(own);
        if is_old(own) {
            return Err(IdentityError::OldVersion);
        }
        if is_encrypted(key) {
            return Err(IdentityError::EncryptedKey);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::NoKey)?;
        let provider = rustls::crypto::ring::default_provider();
        let loaded = provider.key_provider.load_private_key(key);
        let key = CertifiedKey::new(chain, loaded.map_err(|_| IdentityError::UnknownKey)?);
        match key.keys_match() {
            Ok(()) => Ok(Self {
                key: Arc::new(key),
                fingerprint,
            }),
            Err(Error::InconsistentKeys(_)) => Err(IdentityError::NoPair),
            Err(_) => Err(IdentityError::NoCertificate),
        }
    }

    /// The fingerprint of the server's own certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether clients that call the server by this name or address find it in the certificate. What
    /// none of them could call it by is in every one.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        let (Ok(name), Some(own)) = (ServerName::try_from(name), self.key.cert.first()) else {
            return true;
        };
        let parsed = ParsedCertificate::try_from(own);
        parsed.is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    }

    /// Whether the certificate has expired or will within a time. One that is not valid yet has not.
    #[must_use]
    pub fn expires_within(&self, now: DateTime<Local>, time: Duration) -> bool {
        matches!(self.flaw(now + time), Some(Flaw::Expired(_)))
    }

    /// Why clients that know that time refuse the certificate, be it vouched for or not.
    #[must_use]
    pub fn flaw(&self, now: DateTime<Local>) -> Option<Flaw> {
        let since = Duration::from_secs(now.timestamp().try_into().unwrap_or(0));
        let at = UnixTime::since_unix_epoch(since);
        let own = self.key.cert.first()?;
        let name = ServerName::try_from("localhost").ok()?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates([own.clone()]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        // Dates come first, before names and who vouches for it.
        let verified = verifier
            .build()
            .ok()?
            .verify_server_cert(own, &[], &name, &[], at);
        match verified {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Some(Flaw::Expired(date(not_after)?)),
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => Some(Flaw::NotYet(date(not_before)?)),
            _ => None,
        }
    }
}

/// Whether this is a certificate, but of X.509 version 1.
fn is_old(certificate: &CertificateDer<'_>) -> bool {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    matches!(parsed, Err(webpki::Error::UnsupportedCertVersion))
}

/// Whether a key in PEM has a pass phrase: as PKCS #8 has it (RFC 7468 §11), or as RFC 1421 had.
fn is_encrypted(pem: &[u8]) -> bool {
    let mut lines = pem.split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii);
    lines.any(|line| {
        line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----" || line == b"Proc-Type: 4,ENCRYPTED"
    })
}

/// What is wrong with a certificate's dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It has expired.
    #[error("expired on {}", .0.format("%Y-%m-%d, %H:%M"))]
    Expired(DateTime<Local>),
    /// It is of use later.
    #[error("is not valid before {}", .0.format("%Y-%m-%d, %H:%M"))]
    NotYet(DateTime<Local>),
}

fn date(time: UnixTime) -> Option<DateTime<Local>> {
    let seconds = time.as_secs().try_into().ok()?;
    Some(DateTime::from_timestamp(seconds, 0)?.with_timezone(&Local))
}

/// Makes a certificate that vouches for itself, and its key, both PEM. It is for these names and
/// addresses, from the beginning of this year on; a name that no certificate can hold is left out.
///
/// # Errors
///
/// The system has no random numbers to give.
pub fn self_signed(
    names: &[String],
    addresses: &[IpAddr],
    year: i32,
) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(year, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + SELF_SIGNED_YEARS, 12, 31);
    let dns_names = names.iter().filter_map(|name| {
        let name = name.as_str().try_into().ok()?;
        Some(SanType::DnsName(name))
    });
    params.subject_alt_names = dns_names.collect();
    let addresses = addresses.iter().copied().map(SanType::IpAddress);
    params.subject_alt_names.extend(addresses);
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = names.first().map_or("minismtp", String::as_str);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let names = ["mx.example".to_owned(), "nö".to_owned()];
        self_signed(&names, &["127.0.0.1".parse().unwrap()], 2026).unwrap()
    }

    #[test]
    fn what_is_made_can_be_shown() {
        let (certificate, key) = made();
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        let fingerprint = Fingerprint::of_pem(certificate.as_bytes());
        assert_eq!(Some(identity.fingerprint()), fingerprint);
    }

    #[test]
    fn names_and_the_end_are_known() {
        let (certificate, key) = made();
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        for (name, expected) in [
            ("mx.example", true),
            ("MX.example", true),
            ("127.0.0.1", true),
            ("example", false),
            ("mx.example.org", false),
            ("127.0.0.2", false),
            ("::1", false),
            // Nobody can call it so.
            ("nö", true),
            ("", true),
        ] {
            assert_eq!(identity.is_for(name), expected, "{name}");
        }
        for (day, expected) in [
            ("2025-12-31", false),
            ("2026-01-02", false),
            ("2036-12-30", false),
            ("2037-01-01", true),
        ] {
            let day: chrono::NaiveDate = day.parse().unwrap();
            let now = day.and_time(chrono::NaiveTime::MIN).and_utc();
            let expires = identity.expires_within(now.into(), Duration::ZERO);
            assert_eq!(expires, expected, "{day}");
            let month = Duration::from_secs(30 * 24 * 3600);
            let expires = identity.expires_within((now - month).into(), month);
            assert_eq!(expires, expected, "a month before {day}");
        }
    }

    #[test]
    fn dates_are_told_whoever_vouches_for_it() {
        let (key, authority) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 3, 5);
        params.not_after = rcgen::date_time_ymd(2026, 6, 3);
        let issuer = CertificateParams::new(vec!["authority.example".to_owned()]).unwrap();
        let issuer = rcgen::Issuer::new(issuer, authority);
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let key = key.serialize_pem();
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        let day = |day: &str| {
            let day: chrono::NaiveDate = day.parse().unwrap();
            DateTime::<Local>::from(day.and_time(chrono::NaiveTime::MIN).and_utc())
        };
        let (from, to) = (day("2026-03-05"), day("2026-06-03"));
        for (now, expected) in [
            ("1970-01-01", Some(Flaw::NotYet(from))),
            ("2026-03-04", Some(Flaw::NotYet(from))),
            ("2026-03-06", None),
            ("2026-06-02", None),
            ("2026-06-04", Some(Flaw::Expired(to))),
        ] {
            assert_eq!(identity.flaw(day(now)), expected, "{now}");
        }
    }

    #[test]
    fn what_is_no_pair_is_told() {
        let ((certificate, key), (_, other)) = (made(), made());
        for (certificate, key, expected) in [
            ("", key.as_str(), IdentityError::NoCertificate),
            (key.as_str(), key.as_str(), IdentityError::NoCertificate),
            (certificate.as_str(), "", IdentityError::NoKey),
            (certificate.as_str(), other.as_str(), IdentityError::NoPair),
        ] {
            let found = Identity::from_pem(certificate.as_bytes(), key.as_bytes());
            assert_eq!(found.map(|_| ()), Err(expected));
        }
    }

    #[test]
    fn fingerprints_are_read_as_they_are_written() {
        let (certificate, _) = made();
        let fingerprint = Fingerprint::of_pem(certificate.as_bytes()).unwrap();
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 95);
        for text in [text.clone(), text.to_lowercase(), text.replace(':', "")] {
            assert_eq!(text.parse(), Ok(fingerprint), "{text}");
        }
        for text in ["", "AB", &text[1..], &text.replace(['A', '0'], "G")] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }
}
