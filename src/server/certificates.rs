//! The certificate that a server shows: in files that somebody renews, or of its own making.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Datelike as _;

use crate::clock;
use crate::disk::{self, Disk};
use crate::maillog::Log;
use crate::net::certificate::{Flaw, Identity, IdentityError, self_signed};
use crate::net::tls::Identities;

/// Where the certificate of our own making is kept in the mail root. Anybody may have it.
pub const CERTIFICATE_FILE: &str = ".minismtp.tls.crt";
/// Where its key is.
pub const KEY_FILE: &str = ".minismtp.tls.key";
/// How long before its end the certificate of our own making is made anew: whoever trusts it needs
/// time to hear of another, and a server may go on for weeks after its start.
const RENEWAL_TIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Who has this permission is neither a key's owner nor of its group.
const EXPOSING_MODE: u32 = 0o004;
/// How often files are looked at, at most, whether they were renewed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("cannot {doing} `{path}`: {cause}")]
    File {
        /// `read`, `remove` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// What is in the files is of no use.
    #[error("`{path}`: {cause}")]
    Content {
        /// The file that is to blame.
        path: PathBuf,
        /// What is wrong with it.
        cause: IdentityError,
    },
    /// What was kept of our own making is damaged.
    #[error("`{path}`: {cause}")]
    Damaged {
        /// The file that is to blame.
        path: PathBuf,
        /// What is wrong with it.
        cause: IdentityError,
    },
    /// The system has no random numbers to give.
    #[error("cannot make a certificate: {0}")]
    Making(String),
}

/// A certificate and its key in two PEM files, and what was last read of them.
#[derive(Debug)]
pub struct PemFiles {
    certificate: PathBuf,
    key: PathBuf,
    identity: Arc<Identity>,
    stamps: Option<[Stamp; 2]>,
    /// What is wrong with its dates, as far as that was told.
    flaw: Option<Flaw>,
}

/// A file as it was: equal as long as nobody wrote to it or put another in its place.
type Stamp = (u64, u64, u64, i64, i64);

impl PemFiles {
    /// Reads the chain of certificates, the server's own first, and the key.
    ///
    /// # Errors
    ///
    /// The files cannot be read, or are no certificate and its key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        // Before they are read: what changes meanwhile is read again.
        let stamps = stamps(certificate, key);
        let read = |path: &Path| fs::read(path).map_err(cannot("read", path));
        let identity = identity(certificate, &read(certificate)?, key, &read(key)?)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            identity: Arc::new(identity),
            stamps,
            flaw: None,
        })
    }

    /// Tells of a key that others than its owner and group may read.
    fn tell_exposure(&self, log: &Log) {
        let status = fs::metadata(&self.key);
        if status.is_ok_and(|status| status.mode() & EXPOSING_MODE != 0) {
            log.warning(&exposed(&self.key));
        }
    }

    /// Tells of dates that make clients refuse the certificate, once: whoever renews it should hear
    /// of that before they do.
    fn tell_flaw(&mut self, log: &Log) {
        let flaw = self.identity.flaw(clock::now());
        if let Some(new) = flaw.filter(|_| flaw != self.flaw) {
            let certificate = self.certificate.display();
            log.warning(&format!(
                "the certificate in `{certificate}` {new}; it is shown all the same, and clients refuse it"
            ));
        }
        self.flaw = flaw;
    }
}

/// Shows what is in the files at the time; where that is of no use, what was there before.
#[derive(Debug)]
pub struct Renewable {
    files: Mutex<(PemFiles, Instant)>,
    log: Log,
}

impl Renewable {
    /// Begins with what was read. What is renewed, or fails to be, is logged.
    #[must_use]
    pub fn new(mut files: PemFiles, log: Log) -> Self {
        files.tell_exposure(&log);
        files.tell_flaw(&log);
        let files = Mutex::new((files, Instant::now()));
        Self { files, log }
    }
}

impl Identities for Renewable {
    fn current(&self) -> Arc<Identity> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, looked) = &mut *files;
        if looked.elapsed() < LOOK_INTERVAL {
            return Arc::clone(&files.identity);
        }
        *looked = Instant::now();
        let stamps = stamps(&files.certificate, &files.key);
        if stamps != files.stamps {
            match PemFiles::read(&files.certificate, &files.key) {
                Ok(renewed) => {
                    renewed.tell_exposure(&self.log);
                    *files = renewed;
                    self.log.certificate(&files.identity.fingerprint());
                }
                Err(error) => {
                    // Once for each try: the second of the two files may be on its way.
                    files.stamps = stamps;
                    let kept = format!("{error}; the certificate from before is shown");
                    self.log.warning(&kept);
                }
            }
        }
        // A certificate that nobody renewed expires while the server runs.
        files.tell_flaw(&self.log);
        Arc::clone(&files.identity)
    }
}

/// One certificate that stays.
#[derive(Debug)]
pub struct Own(Arc<Identity>);

impl Own {
    /// Takes the certificate of our own making from the mail root, or makes it, for these names and
    /// addresses. One that has expired, or soon will have, is made anew, and that is told.
    ///
    /// One that lacks a name stays, and that is told: another would have to be handed to everybody who
    /// trusts this one, though most may call the server by a name that it has, and names come and go
    /// with flags and networks. One that is not valid yet stays too: a machine without a battery
    /// begins in 1970.
    ///
    /// # Errors
    ///
    /// The files cannot be read or written, or somebody put something else there.
    pub fn open(
        disk: &dyn Disk,
        names: &[String],
        addresses: &[IpAddr],
        log: &Log,
    ) -> Result<Self, CertificateError> {
        let expiring = match kept(disk)? {
            Some(kept) if !kept.expires_within(clock::now(), RENEWAL_TIME) => {
                let addresses = addresses.iter().map(IpAddr::to_string);
                let mut missing: Vec<_> = names.iter().cloned().chain(addresses).collect();
                missing.retain(|name| !kept.is_for(name));
                if !missing.is_empty() {
                    log.warning(&lacking(&disk.show(Path::new(CERTIFICATE_FILE)), &missing));
                }
                let key = Path::new(KEY_FILE);
                let status = disk.status(key).ok().flatten();
                if status.is_some_and(|status| status.mode & EXPOSING_MODE != 0) {
                    log.warning(&exposed(&disk.show(key)));
                }
                return Ok(Self(Arc::new(kept)));
            }
            expiring => expiring,
        };
        let made = make(disk, names, addresses);
        let Some(expiring) = expiring else {
            return Ok(Self(Arc::new(made?)));
        };
        let certificate = disk.show(Path::new(CERTIFICATE_FILE));
        let certificate = certificate.display();
        let days = RENEWAL_TIME.as_secs() / (24 * 3600);
        match made {
            Ok(made) => {
                log.warning(&format!(
                    "the certificate in `{certificate}` has expired or would have within {days} days, and \
                     another is in its place; whoever trusts {} has to be told of {}",
                    expiring.fingerprint(),
                    made.fingerprint()
                ));
                Ok(Self(Arc::new(made)))
            }
            Err(error) => {
                log.warning(&format!(
                    "the certificate in `{certificate}` has expired or will within {days} days, and is \
                     shown all the same: {error}"
                ));
                Ok(Self(Arc::new(expiring)))
            }
        }
    }
}

/// What to do about a key that others can read.
fn exposed(key: &Path) -> String {
    let key = key.display();
    format!("others can read the private key in `{key}`; `chmod 600 {key}` keeps them out")
}

/// What is in the mail root, if both files are.
fn kept(disk: &dyn Disk) -> Result<Option<Identity>, CertificateError> {
    let paths = [CERTIFICATE_FILE, KEY_FILE].map(Path::new);
    let read = |path| disk::read(disk, path).map_err(cannot("read", &disk.show(path)));
    let (Some(certificate), Some(key)) = (read(paths[0])?, read(paths[1])?) else {
        return Ok(None);
    };
    let [shown_certificate, shown_key] = paths.map(|path| disk.show(path));
    match identity(&shown_certificate, &certificate, &shown_key, &key) {
        Err(CertificateError::Content { path, cause }) => {
            Err(CertificateError::Damaged { path, cause })
        }
        identity => identity.map(Some),
    }
}

/// Makes both files, in the place of those that are there.
fn make(
    disk: &dyn Disk,
    names: &[String],
    addresses: &[IpAddr],
) -> Result<Identity, CertificateError> {
    let made = self_signed(names, addresses, clock::now().year());
    let made = made.map_err(|error| CertificateError::Making(error.to_string()))?;
    let [certificate, key] = [(CERTIFICATE_FILE, made.0), (KEY_FILE, made.1)];
    // Both are written before one of those that are there goes: there may be no room for them. They
    // are new files, since who was let to read the key from before may not read this one.
    let beside = |path: &str| PathBuf::from(format!("{path}.new"));
    for (path, pem) in [&key, &certificate] {
        let new = beside(path);
        let written = disk::remove_if_there(disk, &new)
            .and_then(|()| disk::replace(disk, &new, pem.as_bytes()));
        written.map_err(cannot("write", &disk.show(&new)))?;
    }
    // A certificate that is there has its key, whenever the power goes.
    let sync = |()| disk.sync_directory(Path::new(""));
    let path = Path::new(CERTIFICATE_FILE);
    let removed = disk::remove_if_there(disk, path).and_then(sync);
    removed.map_err(cannot("remove", &disk.show(path)))?;
    for (path, _) in [&key, &certificate] {
        let renamed = disk.rename(&beside(path), Path::new(path)).and_then(sync);
        renamed.map_err(cannot("write", &disk.show(Path::new(path))))?;
    }
    let [(certificate, certificate_pem), (key, key_pem)] =
        [certificate, key].map(|(path, pem)| (disk.show(Path::new(path)), pem));
    identity(
        &certificate,
        certificate_pem.as_bytes(),
        &key,
        key_pem.as_bytes(),
    )
}

/// What to do about names that are not in it.
fn lacking(certificate: &Path, missing: &[String]) -> String {
    let missing: Vec<_> = missing.iter().map(|name| format!("`{name}`")).collect();
    let (certificate, missing) = (certificate.display(), missing.join(", "));
    format!(
        "the certificate in `{certificate}` is not for {missing}; remove it, and the next start makes \
         one that is, with another fingerprint"
    )
}

impl Identities for Own {
    fn current(&self) -> Arc<Identity> {
        Arc::clone(&self.0)
    }
}

fn identity(
    certificate: &Path,
    certificate_pem: &[u8],
    key: &Path,
    key_pem: &[u8],
) -> Result<Identity, CertificateError> {
    Identity::from_pem(certificate_pem, key_pem).map_err(|cause| CertificateError::Content {
        path: match cause {
            IdentityError::NoCertificate | IdentityError::OldVersion => certificate.to_owned(),
            IdentityError::NoKey
            | IdentityError::EncryptedKey
            | IdentityError::UnknownKey
            | IdentityError::NoPair => key.to_owned(),
        },
        cause,
    })
}

fn cannot(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    let path = path.to_owned();
    move |cause| CertificateError::File { doing, path, cause }
}

fn stamps(certificate: &Path, key: &Path) -> Option<[Stamp; 2]> {
    let stamp = |path: &Path| {
        let status = fs::metadata(path).ok()?;
        let (seconds, nanoseconds) = (status.mtime(), status.mtime_nsec());
        Some((
            status.dev(),
            status.ino(),
            status.size(),
            seconds,
            nanoseconds,
        ))
    };
    Some([stamp(certificate)?, stamp(key)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Cut, SimulatedDisk};
    use crate::maillog::Level;
    use crate::net::certificate::Fingerprint;

    fn log() -> Log {
        Log::new(Level::Warning, Box::new(io::sink()))
    }

    fn open(disk: &SimulatedDisk) -> Result<Own, CertificateError> {
        Own::open(disk, &["mx.example".to_owned()], &[], &log())
    }

    fn fingerprint(disk: &SimulatedDisk) -> Fingerprint {
        open(disk).unwrap().current().fingerprint()
    }

    #[test]
    fn a_certificate_is_made_once_for_its_owner_alone() {
        let disk = SimulatedDisk::default();
        let made = fingerprint(&disk);
        assert_eq!(fingerprint(&disk), made);
        for name in [CERTIFICATE_FILE, KEY_FILE] {
            let status = disk.status(Path::new(name)).unwrap().unwrap();
            assert_eq!(status.mode & 0o777, 0o600, "{name}");
        }
        disk::replace(&disk, Path::new(KEY_FILE), b"no key").unwrap();
        let error = open(&disk).unwrap_err().to_string();
        assert!(error.contains(KEY_FILE), "{error}");
        disk.remove(Path::new(KEY_FILE)).unwrap();
        assert_ne!(fingerprint(&disk), made);
    }

    /// A certificate of 2001, on a disk that has it for good.
    fn expired() -> SimulatedDisk {
        let disk = SimulatedDisk::default();
        let (certificate, key) = self_signed(&["mx.example".to_owned()], &[], 2001).unwrap();
        for (name, pem) in [(KEY_FILE, key), (CERTIFICATE_FILE, certificate)] {
            disk::replace(&disk, Path::new(name), pem.as_bytes()).unwrap();
        }
        disk
    }

    #[test]
    fn without_room_for_another_the_old_one_is_shown_and_stays() {
        let disk = expired();
        let octets = |name| disk::read(&disk, Path::new(name)).unwrap();
        let before = [CERTIFICATE_FILE, KEY_FILE].map(octets);
        for operation in 1..=4 {
            disk.fail_at(disk.operations() + operation, io::ErrorKind::StorageFull);
            open(&disk).unwrap();
            assert_eq!(
                [CERTIFICATE_FILE, KEY_FILE].map(octets),
                before,
                "{operation}"
            );
        }
    }

    #[test]
    fn a_power_cut_leaves_a_certificate_with_its_key_or_none() {
        let operations = {
            let disk = expired();
            let before = disk.operations();
            open(&disk).unwrap();
            disk.operations() - before
        };
        for operation in 1..=operations {
            for cut in [Cut::Drop, Cut::Keep, Cut::Torn(operation)] {
                let disk = expired();
                disk.cut_at(disk.operations() + operation);
                // It is shown as long as there is no other.
                open(&disk).unwrap();
                let disk = disk.restart(cut);
                let made = fingerprint(&disk);
                assert_eq!(fingerprint(&disk), made, "{cut:?} at {operation}");
            }
        }
    }
}
