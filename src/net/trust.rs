//! Whom a client believes (RFC 5280, RFC 9525): authorities, or one certificate by its fingerprint.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::certificate::Fingerprint;

/// Which servers are believed to be who they say.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Every one: the connection is encrypted, to whomever.
    Anybody,
    /// The one with this certificate, whatever names and dates stand in it.
    Fingerprint(Fingerprint),
    /// Those that an authority vouches for, by name and for the time being; and, if it is there,
    /// the one with this certificate.
    Authorities(Authorities, Option<Fingerprint>),
}

/// Who may vouch for a server.
#[derive(Clone, Debug)]
pub enum Authorities {
    /// Those that the system trusts.
    System,
    /// These and no others.
    These(Vec<CertificateDer<'static>>),
}

impl Authorities {
    /// Takes certificates in PEM; `None` if there is none, or one is damaged.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.ok()?;
        (!certificates.is_empty()).then_some(Self::These(certificates))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificates = match self {
            // One that cannot be read vouches for nobody.
            Self::System => rustls_native_certs::load_native_certs().certs,
            Self::These(certificates) => certificates.clone(),
        };
        roots.add_parsable_certificates(certificates);
        roots
    }

    /// Whether this very certificate was given.
    fn hold(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::System => false,
            Self::These(certificates) => certificates.iter().any(|these| these == certificate),
        }
    }
}

/// The certificate is not the one with the fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("not the certificate that was expected")]
pub(super) struct OtherCertificate;

/// Judges one server.
pub(super) struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    /// What the server showed.
    shown: OnceLock<Fingerprint>,
}

impl Verifier {
    pub(super) fn new(trust: Trust, provider: Arc<CryptoProvider>) -> Self {
        Self {
            trust,
            provider,
            shown: OnceLock::new(),
        }
    }

    /// The certificate that the server showed, if it came so far.
    pub(super) fn shown(&self) -> Option<Fingerprint> {
        self.shown.get().copied()
    }

    /// Whether an authority vouches for the server.
    fn is_vouched_for(
        &self,
        authorities: &Authorities,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let provider = Arc::clone(&self.provider);
        let roots = Arc::new(authorities.roots());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        // It is an error to have no roots; then nobody is trusted.
        let verifier = verifier.map_err(|_| CertificateError::UnknownIssuer)?;
        let is_held = authorities.hold(end_entity);
        // Of one that was given, those that come with it have nothing to say.
        let intermediates = if is_held { &[] } else { intermediates };
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, &[], now);
        match verified {
            // The one that was given to be trusted is the server's: nobody needs to vouch for it. Its
            // dates are checked by then.
            Err(error) if is_held && is_about_issuer(&error) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
            }
            // What `openssl req -x509` makes is its own authority.
            Err(error) if is_authority(&error) && vouches_for_itself(end_entity) => {
                Err(CertificateError::UnknownIssuer.into())
            }
            verified => verified.map(|_| ()),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(end_entity);
        self.shown.get_or_init(|| shown);
        match &self.trust {
            Trust::Anybody => {}
            Trust::Fingerprint(fingerprint) if *fingerprint == shown => {}
            Trust::Fingerprint(_) => {
                let cause = OtherError(Arc::new(OtherCertificate));
                return Err(CertificateError::Other(cause).into());
            }
            Trust::Authorities(_, Some(known)) if *known == shown => {}
            Trust::Authorities(authorities, _) => {
                self.is_vouched_for(authorities, end_entity, intermediates, server_name, now)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whether the fault is who vouches for the certificate, or how.
#[expect(
    deprecated,
    reason = "the library may still give the variant without details"
)]
fn is_about_issuer(error: &Error) -> bool {
    let Error::InvalidCertificate(cause) = error else {
        return false;
    };
    let is_unknown = matches!(
        cause,
        CertificateError::UnknownIssuer
            | CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    );
    is_unknown || is_authority(error)
}

/// Whether the fault is that the server's certificate is also an authority's.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Whether nobody else is named as the one who signed it.
fn vouches_for_itself(certificate: &CertificateDer<'_>) -> bool {
    let parsed = webpki::EndEntityCert::try_from(certificate);
    parsed.is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}
