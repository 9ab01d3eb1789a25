//! Passwords as they are kept: an Argon2id hash, a SCRAM-SHA-256 verifier, or one plain word.
//!
//! A hash is a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`), made with the parameters
//! that the OWASP Password Storage Cheat Sheet gives as a minimum. A verifier
//! (`SCRAM-SHA-256$32768:salt$StoredKey:ServerKey`, RFC 5803, as PostgreSQL writes it) lets a
//! client prove the password without sending it; whoever steals it can try passwords faster than
//! with a hash, as SCRAM has no memory-hard function. A plain password is what NITC prescribes: one
//! word that anyone can read in the file.

use std::borrow::Cow;
use std::fmt;
use std::hint::black_box;
use std::sync::{LazyLock, Mutex, PoisonError};

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::sasl::scram::{Keys, VERIFIER_PREFIX};
use crate::secret::{self, Secret};

/// The longest password that is taken, in octets. RFC 4616 §2 asks for 255 at least; what is longer
/// than this is no password but somebody keeping the processor busy.
pub const PASSWORD_OCTETS_MAX: usize = 1024;

/// The most memory that checking one password may take, in KiB. A line that asks for more would let
/// a login exhaust the machine.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// The most passes over that memory.
pub const ARGON2_PASSES_MAX: u32 = 32;

/// The iterations of the verifiers that we write: about as much work for a client as an Argon2id
/// hash is for us, and eight times what RFC 7677 §4 has as the least.
pub(super) const SCRAM_ITERATIONS: u32 = 32_768;
/// The salt of the verifiers that we write, in octets.
pub(super) const SCRAM_SALT_OCTETS: usize = 16;

/// What every hash begins with, of whatever kind; no plain password may.
const HASH_PREFIX: &str = "$argon2";

/// What stands behind the method of a crypt(3) hash has so many octets at least; what people make up
/// between full dollar signs is shorter.
const FOREIGN_HASH_OCTETS_MIN: usize = 20;

/// Memory for hashing that is kept for the next password. Given back to the allocator and asked
/// for again by ever other threads, it would add up there.
static MEMORIES: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());
/// How many are kept, 19 MiB each. More passwords at once than that are hashed, but in memory of
/// their own.
const MEMORIES_MAX: usize = 4;

/// A hash that no password has, with the parameters we write.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGtub3dzIGl0$\
     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static NOBODYS: LazyLock<phc::PasswordHash> =
    LazyLock::new(|| phc::PasswordHash::new(NOBODY).expect("a PHC string, as a test has it"));

/// A password as it is kept in the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Kept);

#[derive(Clone, PartialEq, Eq)]
enum Kept {
    /// A PHC string that was parsed once already.
    Argon2id(Box<str>),
    Plain(Secret),
    Scram(Box<Keys>),
}

/// What a client of SCRAM is told about a user: iterations, and the length of the salt.
pub(super) type Shape = (u32, usize);

impl PasswordHash {
    /// Hashes a password with a salt of its own. Takes tens of milliseconds.
    ///
    /// # Errors
    ///
    /// The rule that the password breaks: 1 to [`PASSWORD_OCTETS_MAX`] octets, none of them CR, LF
    /// or NUL, which could never be sent in a login.
    pub fn argon2id(password: &Secret) -> Result<Self, PasswordError> {
        check_octets(password.expose())?;
        let hash: phc::PasswordHash = hasher()
            .hash_password(password.expose())
            .map_err(|error| PasswordError::Hashing(error.to_string()))?;
        Ok(Self(Kept::Argon2id(hash.to_string().into())))
    }

    /// Hashes a password that nobody knows: no login succeeds until another one is set.
    ///
    /// # Errors
    ///
    /// The system has no random numbers to give, or as for [`PasswordHash::argon2id`].
    pub fn nobodys() -> Result<Self, PasswordError> {
        let octets: [u8; 32] =
            secret::random().map_err(|error| PasswordError::Hashing(error.to_string()))?;
        let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        Self::argon2id(&Secret::new(digits))
    }

    /// Makes a SCRAM verifier of a password, with a salt of its own. Takes tens of milliseconds.
    ///
    /// # Errors
    ///
    /// As for [`PasswordHash::argon2id`].
    pub fn scram(password: &Secret) -> Result<Self, PasswordError> {
        check_octets(password.expose())?;
        let salt: [u8; SCRAM_SALT_OCTETS] =
            secret::random().map_err(|error| PasswordError::Hashing(error.to_string()))?;
        let keys = Keys::derive(password, &salt, SCRAM_ITERATIONS);
        Ok(Self(Kept::Scram(Box::new(keys))))
    }

    /// Takes a password to be kept as it is.
    ///
    /// # Errors
    ///
    /// The rule that the password breaks: one word of printable UTF-8, not longer than
    /// [`PASSWORD_OCTETS_MAX`] octets, that does not begin as a hash does.
    pub fn plain(password: &Secret) -> Result<Self, PasswordError> {
        let octets = password.expose();
        check_octets(octets)?;
        let word = std::str::from_utf8(octets).map_err(|_| PasswordError::NotText)?;
        if word.starts_with(HASH_PREFIX) || word.starts_with(VERIFIER_PREFIX) {
            return Err(PasswordError::LooksHashed);
        }
        if word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(PasswordError::NotOneWord);
        }
        Ok(Self(Kept::Plain(password.clone())))
    }

    /// Reads what stands in the credentials: a PHC string, a verifier, or else a plain word.
    ///
    /// # Errors
    ///
    /// Why it is none of them.
    pub fn parse(secret: &str) -> Result<Self, PasswordError> {
        if secret.starts_with(VERIFIER_PREFIX) {
            let keys = Keys::parse(secret).ok_or(PasswordError::BadVerifier)?;
            return Ok(Self(Kept::Scram(Box::new(keys))));
        }
        if !secret.starts_with(HASH_PREFIX) {
            return Self::plain(&Secret::new(secret));
        }
        let hash = phc::PasswordHash::new(secret).map_err(|_| PasswordError::BadHash)?;
        let known = hash.algorithm == Algorithm::Argon2id.ident()
            && hash.version.is_none_or(|v| Version::try_from(v).is_ok())
            && hash.salt.is_some()
            && hash.hash.is_some();
        let parameters = Params::try_from(&hash).map_err(|_| PasswordError::BadHash)?;
        if !known {
            return Err(PasswordError::BadHash);
        }
        if parameters.m_cost() > ARGON2_MEMORY_KIB_MAX || parameters.t_cost() > ARGON2_PASSES_MAX {
            return Err(PasswordError::CostlyHash);
        }
        Ok(Self(Kept::Argon2id(secret.into())))
    }

    /// Whether it is kept as a readable word.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.0, Kept::Plain(_))
    }

    /// Whether it is a readable word that looks like the hash of another system: `$id$…` as crypt(3)
    /// has them, or `{SCHEME}…` of LDAP and Dovecot. A word it is all the same: any may be chosen.
    #[must_use]
    pub fn is_foreign_hash(&self) -> bool {
        let Kept::Plain(word) = &self.0 else {
            return false;
        };
        let word = word.expose();
        let split = |end: u8| {
            let (open, rest) = word.split_first()?;
            let at = rest.iter().position(|&octet| octet == end)?;
            Some((*open, &rest[..at], &rest[at + 1..]))
        };
        let is_crypt = split(b'$').is_some_and(|(open, id, hash)| {
            let is_id = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'-';
            open == b'$'
                && !id.is_empty()
                && id.iter().all(is_id)
                && hash.len() >= FOREIGN_HASH_OCTETS_MIN
        });
        let is_scheme = split(b'}').is_some_and(|(open, scheme, hash)| {
            let is_part = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._".contains(octet);
            open == b'{'
                && scheme.first().is_some_and(u8::is_ascii_uppercase)
                && scheme.iter().all(is_part)
                && !hash.is_empty()
        });
        is_crypt || is_scheme
    }

    /// What a client of SCRAM is told about it; `None` where SCRAM cannot be had from it.
    pub(super) fn scram_shape(&self) -> Option<Shape> {
        match &self.0 {
            Kept::Argon2id(_) => None,
            Kept::Plain(_) => Some((SCRAM_ITERATIONS, SCRAM_SALT_OCTETS)),
            Kept::Scram(keys) => Some((keys.iterations, keys.salt.len())),
        }
    }

    /// The octets to write into the credentials.
    #[must_use]
    pub fn expose(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Kept::Argon2id(hash) => hash.as_bytes().into(),
            Kept::Plain(word) => word.expose().into(),
            Kept::Scram(keys) => keys.verifier().into_bytes().into(),
        }
    }
}

/// Whether `password` is the one that is kept; never so for `None`, which stands for a user that
/// does not exist.
///
/// Exactly one Argon2id computation whatever is kept and whatever the answer; and, where others
/// have verifiers of this `shape`, the work that one of those takes.
pub(super) fn verify(kept: Option<&PasswordHash>, password: &Secret, shape: Option<Shape>) -> bool {
    let (hash, keys) = match kept {
        Some(PasswordHash(Kept::Argon2id(hash))) => (phc::PasswordHash::new(hash).ok(), None),
        Some(PasswordHash(Kept::Scram(keys))) => (None, Some(keys)),
        Some(PasswordHash(Kept::Plain(_))) | None => (None, None),
    };
    let is_hashed = verify_argon2id(hash.as_ref().unwrap_or(&NOBODYS), password);
    let is_derived = match (keys, shape) {
        (Some(keys), _) => keys.are_of(password),
        (None, Some(shape)) => {
            black_box(nobodys_keys(password, shape));
            false
        }
        (None, None) => false,
    };
    match kept {
        Some(PasswordHash(Kept::Argon2id(_))) => hash.is_some() && is_hashed,
        Some(PasswordHash(Kept::Plain(word))) => equal(word.expose(), password.expose()),
        Some(PasswordHash(Kept::Scram(_))) => is_derived,
        None => false,
    }
}

/// The keys to check a client's proof with, or such as no proof has, if there is no user or no way
/// to the keys. The same work in every case. `made_up` gives what has to be told where nothing is
/// kept: random octets that are always the same for the user.
pub(super) fn scram_keys(
    kept: Option<&PasswordHash>,
    shape: Shape,
    made_up: impl Fn(&str) -> [u8; 32],
) -> Keys {
    let salt = |octets: usize| {
        let salt = made_up("salt");
        let salt = salt.iter().copied().cycle().take(octets);
        salt.collect::<Vec<_>>()
    };
    match kept.map(|kept| &kept.0) {
        Some(Kept::Plain(word)) => Keys::derive(word, &salt(SCRAM_SALT_OCTETS), SCRAM_ITERATIONS),
        Some(Kept::Scram(keys)) => {
            let shape = (keys.iterations, keys.salt.len());
            black_box(nobodys_keys(&Secret::new(""), shape));
            (**keys).clone()
        }
        Some(Kept::Argon2id(_)) | None => {
            let mut keys = nobodys_keys(&Secret::new(""), shape);
            keys.salt = salt(shape.1);
            keys.stored_key = made_up("stored key");
            keys.server_key = made_up("server key");
            keys
        }
    }
}

fn nobodys_keys(password: &Secret, (iterations, salt_octets): Shape) -> Keys {
    Keys::derive(password, &vec![0; salt_octets], iterations)
}

/// One computation with the parameters of `hash`.
fn verify_argon2id(hash: &phc::PasswordHash, password: &Secret) -> bool {
    let (Ok(parameters), Some(salt), Some(expected)) =
        (Params::try_from(hash), &hash.salt, &hash.hash)
    else {
        return false;
    };
    let version = hash.version.map_or(Ok(Version::V0x13), Version::try_from);
    let Ok(version) = version else { return false };
    let mut memory = memory(parameters.block_count());
    let argon2 = Argon2::new(Algorithm::Argon2id, version, parameters);
    let mut got = vec![0; expected.as_bytes().len()];
    let hashed =
        argon2.hash_password_into_with_memory(password.expose(), salt, &mut got, &mut memory);
    keep(memory);
    hashed.is_ok() && equal(expected.as_bytes(), &got)
}

/// At least so many blocks, used before or new; every hash writes them before it reads them.
fn memory(blocks: usize) -> Vec<Block> {
    let kept = MEMORIES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop();
    match kept {
        Some(memory) if memory.len() >= blocks => memory,
        _ => vec![Block::default(); blocks],
    }
}

/// Keeps memory for the next hash, if it has the usual size.
fn keep(memory: Vec<Block>) {
    let mut kept = MEMORIES.lock().unwrap_or_else(PoisonError::into_inner);
    if memory.len() == Params::DEFAULT.block_count() && kept.len() < MEMORIES_MAX {
        kept.push(memory);
    }
}

/// Compares in a time that depends on the length of `given` alone.
fn equal(kept: &[u8], given: &[u8]) -> bool {
    let mut different = usize::from(kept.len() != given.len());
    for (index, octet) in given.iter().enumerate() {
        // Kept passwords are never empty; past the end of this one the outcome is settled.
        let other = kept[index % kept.len().max(1)];
        different |= usize::from(black_box(octet ^ other));
    }
    black_box(different) == 0
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn check_octets(password: &[u8]) -> Result<(), PasswordError> {
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.len() > PASSWORD_OCTETS_MAX {
        return Err(PasswordError::TooLong {
            octets: password.len(),
        });
    }
    if password.iter().any(|octet| b"\r\n\0".contains(octet)) {
        return Err(PasswordError::NotOneLine);
    }
    Ok(())
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kept::Argon2id(_) => "Argon2id(<redacted>)",
            Kept::Plain(_) => "Plain(<redacted>)",
            Kept::Scram(_) => "Scram(<redacted>)",
        })
    }
}

/// Why a password cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Begins as a hash does and is none that we can check.
    #[error("it begins with `$argon2` and is not a whole `$argon2id$` hash")]
    BadHash,
    /// Begins as a verifier does and is none.
    #[error("it begins with `SCRAM-SHA-256$` and is not a whole verifier")]
    BadVerifier,
    /// Checking it once would take the machine down.
    #[error(
        "its hash asks for more than {ARGON2_MEMORY_KIB_MAX} KiB of memory or {ARGON2_PASSES_MAX} \
         passes"
    )]
    CostlyHash,
    /// Nothing at all.
    #[error("a password cannot be empty")]
    Empty,
    /// The system has no randomness or the hash function failed.
    #[error("the password cannot be hashed: {0}")]
    Hashing(String),
    /// A plain password that would be read back as a hash.
    #[error("a plain password cannot begin with `$argon2` or `SCRAM-SHA-256$`")]
    LooksHashed,
    /// CR, LF or NUL.
    #[error("a password cannot hold a line end or a NUL")]
    NotOneLine,
    /// A plain password with spaces or control characters.
    #[error("a plain password is one word, without spaces or control characters")]
    NotOneWord,
    /// A plain password that is not UTF-8.
    #[error("a plain password is UTF-8 text")]
    NotText,
    /// Longer than [`PASSWORD_OCTETS_MAX`].
    #[error("a password has at most {PASSWORD_OCTETS_MAX} octets, got {octets}")]
    TooLong {
        /// How long it is.
        octets: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "password" with the salt "somesalt", from the reference implementation's test.c.
    const REFERENCE: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn a_hash_is_argon2id_with_our_parameters_and_a_salt_of_its_own() {
        let password = Secret::new("correct horse, battery $taple");
        let [one, two] = [(); 2].map(|()| PasswordHash::argon2id(&password).unwrap());
        assert!(one != two && !one.is_plain());
        for hash in [one, two] {
            let text = String::from_utf8(hash.expose().into_owned()).unwrap();
            assert!(
                text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
                "{text}"
            );
            assert_eq!(PasswordHash::parse(&text).unwrap(), hash);
            assert!(verify(Some(&hash), &password, None));
            assert!(!verify(Some(&hash), &Secret::new("correct horse"), None));
            assert!(!verify(Some(&hash), &Secret::new(""), None));
            assert_eq!(format!("{hash:?}"), "Argon2id(<redacted>)");
        }
    }

    #[test]
    fn the_hash_nobody_has_costs_what_ours_cost() {
        let parameters = Params::try_from(&*NOBODYS).unwrap();
        assert_eq!(parameters.m_cost(), Params::DEFAULT.m_cost());
        assert_eq!(parameters.t_cost(), Params::DEFAULT.t_cost());
        assert_eq!(parameters.p_cost(), Params::DEFAULT.p_cost());
        assert_eq!(parameters.output_len(), Some(Params::DEFAULT_OUTPUT_LEN));
        assert!(PasswordHash::parse(NOBODY).is_ok());
        assert!(!verify(None, &Secret::new("anything"), None));
    }

    #[test]
    fn hashes_of_other_programs_are_checked_with_their_own_parameters() {
        let hash = PasswordHash::parse(REFERENCE).unwrap();
        assert!(verify(Some(&hash), &Secret::new("password"), None));
        assert!(!verify(Some(&hash), &Secret::new("Password"), None));
    }

    #[test]
    fn a_verifier_serves_both_ways_of_logging_in() {
        let password = Secret::new("correct horse");
        let [one, two] = [(); 2].map(|()| PasswordHash::scram(&password).unwrap());
        assert!(one != two && !one.is_plain());
        let text = String::from_utf8(one.expose().into_owned()).unwrap();
        assert!(text.starts_with("SCRAM-SHA-256$32768:"), "{text}");
        assert_eq!(PasswordHash::parse(&text).unwrap(), one);
        let shape = one.scram_shape();
        assert!(verify(Some(&one), &password, shape));
        assert!(!verify(Some(&one), &Secret::new("correct"), shape));
        let keys = scram_keys(Some(&one), (4096, 8), |_| [0; 32]);
        assert!(keys.are_of(&password) && keys.iterations == 32_768);
        assert_eq!(format!("{one:?}"), "Scram(<redacted>)");
        let half = PasswordHash::parse(&text[..text.len() - 4]);
        assert_eq!(half, Err(PasswordError::BadVerifier));
    }

    #[test]
    fn who_has_no_keys_gets_some_that_nobody_has() {
        let plain = PasswordHash::plain(&Secret::new("d@t@comm")).unwrap();
        let hash = PasswordHash::parse(REFERENCE).unwrap();
        let made_up = |what: &str| [what.as_bytes()[1]; 32];
        let keys = |kept| scram_keys(kept, (4096, 8), made_up);
        assert!(keys(Some(&plain)).are_of(&Secret::new("d@t@comm")));
        assert_eq!(keys(Some(&plain)).salt, [b'a'; SCRAM_SALT_OCTETS]);
        assert_eq!(keys(Some(&hash)), keys(None));
        let nobodys = keys(None);
        assert_eq!(
            (nobodys.iterations, &*nobodys.salt),
            (4096, &b"aaaaaaaa"[..])
        );
        assert!(!nobodys.are_of(&Secret::new("")));
    }

    #[test]
    fn memory_is_used_again() {
        let usual = Params::DEFAULT.block_count();
        for _ in 0..3 * MEMORIES_MAX {
            verify(None, &Secret::new("x"), None);
        }
        // Other tests hash too, at the same time.
        let kept = MEMORIES.lock().unwrap();
        assert!(kept.len() <= MEMORIES_MAX, "{}", kept.len());
        assert!(kept.iter().all(|memory| memory.len() == usual));
    }

    #[test]
    fn plain_passwords_are_compared_whole() {
        let kept = PasswordHash::plain(&Secret::new("d@t@comm")).unwrap();
        assert!(kept.is_plain());
        for (given, expected) in [
            ("d@t@comm", true),
            ("", false),
            ("d", false),
            ("d@t@com", false),
            ("d@t@commd@t@comm", false),
            ("D@t@comm", false),
            ("d@t@comn", false),
        ] {
            assert_eq!(
                verify(Some(&kept), &Secret::new(given), None),
                expected,
                "{given}"
            );
        }
    }

    #[test]
    fn hashes_of_other_systems_are_known_by_their_looks() {
        for (word, expected) in [
            ("$1$abcdefgh$G8UJDK7Kkbaw1Dm6QQGCy1", true),
            (
                "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
                true,
            ),
            (
                "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
                true,
            ),
            (
                "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
                true,
            ),
            (
                "$6$rounds=5000$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTS",
                true,
            ),
            (
                "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC",
                true,
            ),
            (
                "$pbkdf2-sha256$29000$N2YMIWQsBWBMae09x1jrPQ$1t8iyB2A.WF/Z5JZv",
                true,
            ),
            ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", true),
            ("{BLF-CRYPT}$2y$05$x", true),
            ("{PLAIN}secret", true),
            ("$", false),
            ("$$$", false),
            ("$a$short", false),
            ("$100 is not much$for a password that is long", false),
            ("network$ecurity", false),
            ("{}", false),
            ("{X}", false),
            ("{x}y", false),
            ("{A B}c", false),
        ] {
            let kept = PasswordHash(Kept::Plain(Secret::new(word)));
            assert_eq!(kept.is_foreign_hash(), expected, "{word}");
        }
        let own = PasswordHash::parse(NOBODY).unwrap();
        assert!(!own.is_foreign_hash());
    }

    #[test]
    fn plain_passwords_are_one_word() {
        let long = "x".repeat(PASSWORD_OCTETS_MAX);
        for good in [
            "network$ecurity",
            "d@t@comm",
            "@dministr@tor",
            "a,b,,",
            "$",
            "ключ",
            "#;'\"\\",
            &long,
        ] {
            assert!(PasswordHash::plain(&Secret::new(good)).is_ok(), "{good}");
            assert!(PasswordHash::parse(good).unwrap().is_plain(), "{good}");
        }
        let longer = format!("{long}x").into_bytes();
        let octets = longer.len();
        for (bad, expected) in [
            (b"".to_vec(), PasswordError::Empty),
            (b"two words".to_vec(), PasswordError::NotOneWord),
            (b" lead".to_vec(), PasswordError::NotOneWord),
            (b"tab\t".to_vec(), PasswordError::NotOneWord),
            ("no\u{a0}break".into(), PasswordError::NotOneWord),
            (b"bell\x07".to_vec(), PasswordError::NotOneWord),
            (b"line\r".to_vec(), PasswordError::NotOneLine),
            (b"nul\0".to_vec(), PasswordError::NotOneLine),
            (b"latin\xe9".to_vec(), PasswordError::NotText),
            (b"$argon2id$mine".to_vec(), PasswordError::LooksHashed),
            (b"$argon2".to_vec(), PasswordError::LooksHashed),
            (b"SCRAM-SHA-256$1".to_vec(), PasswordError::LooksHashed),
            (longer, PasswordError::TooLong { octets }),
        ] {
            assert_eq!(PasswordHash::plain(&Secret::new(bad)), Err(expected));
        }
    }

    #[test]
    fn hashed_passwords_may_be_almost_anything() {
        for (password, expected) in [
            (b"two words".to_vec(), None),
            (b"$argon2id$mine".to_vec(), None),
            (b"latin\xe9 \x07".to_vec(), None),
            (vec![b'x'; PASSWORD_OCTETS_MAX], None),
            (b"".to_vec(), Some(PasswordError::Empty)),
            (b"a\nb".to_vec(), Some(PasswordError::NotOneLine)),
            (b"a\0".to_vec(), Some(PasswordError::NotOneLine)),
            (
                vec![b'x'; 1025],
                Some(PasswordError::TooLong { octets: 1025 }),
            ),
        ] {
            assert_eq!(
                PasswordHash::argon2id(&Secret::new(password)).err(),
                expected
            );
        }
    }

    #[test]
    fn what_begins_as_a_hash_is_a_whole_one() {
        let with = |from: &str, to: &str| REFERENCE.replace(from, to);
        for (case, secret, expected) in [
            ("cut", with("$nf65", "#"), PasswordError::BadHash),
            (
                "no hash",
                REFERENCE.rsplit_once('$').unwrap().0.into(),
                PasswordError::BadHash,
            ),
            (
                "no salt",
                "$argon2id$v=19$m=256,t=2,p=1".into(),
                PasswordError::BadHash,
            ),
            (
                "argon2i",
                with("argon2id", "argon2i"),
                PasswordError::BadHash,
            ),
            (
                "no such version",
                with("v=19", "v=18"),
                PasswordError::BadHash,
            ),
            ("no memory", with("m=256", "m=1"), PasswordError::BadHash),
            (
                "more after it",
                with("Gi/4", "Gi/4$x"),
                PasswordError::BadHash,
            ),
            (
                "a space after it",
                with("Gi/4", "Gi/4 "),
                PasswordError::BadHash,
            ),
            (
                "4 TiB",
                with("m=256", "m=4294967295"),
                PasswordError::CostlyHash,
            ),
            (
                "for ever",
                with("t=2", "t=4294967295"),
                PasswordError::CostlyHash,
            ),
        ] {
            assert_eq!(
                PasswordHash::parse(&secret),
                Err(expected),
                "{case}: {secret}"
            );
        }
    }
}
