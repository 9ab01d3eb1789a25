//! Passwords as they are kept: an Argon2id hash, or one plain word.
//!
//! A hash is a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`), made with the parameters
//! that the OWASP Password Storage Cheat Sheet gives as a minimum. A plain password is what NITC
//! prescribes: one word that anyone can read in the file.

use std::fmt;
use std::hint::black_box;
use std::sync::LazyLock;

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::secret::Secret;

/// The longest password that is taken, in octets. RFC 4616 §2 asks for 255 at least; what is longer
/// than this is no password but somebody keeping the processor busy.
pub const PASSWORD_OCTETS_MAX: usize = 1024;

/// The most memory that checking one password may take, in KiB. A line that asks for more would let
/// a login exhaust the machine.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// The most passes over that memory.
pub const ARGON2_PASSES_MAX: u32 = 32;

/// What every hash begins with, of whatever kind; no plain password may.
const HASH_PREFIX: &str = "$argon2";

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
}

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
        let mut octets = [0; 32];
        let got = rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty());
        match got {
            Ok(count) if count == octets.len() => {}
            Ok(_) => return Err(PasswordError::Hashing("too few random numbers".to_owned())),
            Err(error) => return Err(PasswordError::Hashing(error.to_string())),
        }
        Self::argon2id(&Secret::new(crate::sasl::encode(&octets)))
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
        if word.starts_with(HASH_PREFIX) {
            return Err(PasswordError::LooksHashed);
        }
        if word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(PasswordError::NotOneWord);
        }
        Ok(Self(Kept::Plain(password.clone())))
    }

    /// Reads what stands in the credentials: a PHC string, or else a plain word.
    ///
    /// # Errors
    ///
    /// Why it is neither.
    pub fn parse(secret: &str) -> Result<Self, PasswordError> {
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

    /// The octets to write into the credentials.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        match &self.0 {
            Kept::Argon2id(hash) => hash.as_bytes(),
            Kept::Plain(word) => word.expose(),
        }
    }
}

/// Whether `password` is the one that is kept; never so for `None`, which stands for a user that
/// does not exist. Exactly one Argon2id computation whatever is kept and whatever the answer.
pub(super) fn verify(kept: Option<&PasswordHash>, password: &Secret) -> bool {
    let hash = match kept {
        Some(PasswordHash(Kept::Argon2id(hash))) => phc::PasswordHash::new(hash).ok(),
        Some(PasswordHash(Kept::Plain(_))) | None => None,
    };
    let hashed = hasher().verify_password(password.expose(), hash.as_ref().unwrap_or(&NOBODYS));
    match kept {
        Some(PasswordHash(Kept::Argon2id(_))) => hash.is_some() && hashed.is_ok(),
        Some(PasswordHash(Kept::Plain(word))) => equal(word.expose(), password.expose()),
        None => false,
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
        })
    }
}

/// Why a password cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Begins as a hash does and is none that we can check.
    #[error("it begins with `$argon2` and is not a whole `$argon2id$` hash")]
    BadHash,
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
    #[error("a plain password cannot begin with `$argon2`")]
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
            let text = std::str::from_utf8(hash.expose()).unwrap();
            assert!(
                text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
                "{text}"
            );
            assert_eq!(PasswordHash::parse(text).unwrap(), hash);
            assert!(verify(Some(&hash), &password));
            assert!(!verify(Some(&hash), &Secret::new("correct horse")));
            assert!(!verify(Some(&hash), &Secret::new("")));
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
        assert!(!verify(None, &Secret::new("anything")));
    }

    #[test]
    fn hashes_of_other_programs_are_checked_with_their_own_parameters() {
        let hash = PasswordHash::parse(REFERENCE).unwrap();
        assert!(verify(Some(&hash), &Secret::new("password")));
        assert!(!verify(Some(&hash), &Secret::new("Password")));
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
                verify(Some(&kept), &Secret::new(given)),
                expected,
                "{given}"
            );
        }
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
