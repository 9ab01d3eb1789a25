//! User names: one word, safe as the name of a directory.
//!
//! The rule is the mailbox contract's: the spelling in the credentials file is the user's
//! directory name, and two spellings that differ only in case are one user (NITC mails
//! `andrew@localhost` for the user `Andrew`).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest user name, in octets: RFC 5321 §4.5.3.1.1 allows no longer local part.
pub const USER_NAME_OCTETS_MAX: usize = 64;

/// A user's name as it is spelled in the credentials file.
///
/// One word of 1 to 64 octets without `/`, `,`, `@`, white space or control characters, that does
/// not begin with `.` or `-`. So it can be joined to a directory without leaving it, stand in a
/// line of `name,secret`, and never be taken for an option. A clone shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Arc<str>);

impl UserName {
    /// Takes a name as typed.
    ///
    /// # Errors
    ///
    /// The rule that the name breaks.
    pub fn new(name: &str) -> Result<Self, UserNameError> {
        if name.is_empty() {
            return Err(UserNameError::Empty);
        }
        if name.len() > USER_NAME_OCTETS_MAX {
            return Err(UserNameError::TooLong { octets: name.len() });
        }
        if name.starts_with(['.', '-']) {
            return Err(UserNameError::FirstCharacter);
        }
        match name.chars().find(|&c| !allowed(c)) {
            Some(character) => Err(UserNameError::Character { character }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as spelled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with case folded: equal for the spellings of one user.
    #[must_use]
    pub fn key(&self) -> String {
        fold(&self.0).into_owned()
    }

    /// The key of whoever has this name. What is no user name has none, or nobody's.
    #[must_use]
    pub fn key_of(name: &str) -> Option<Cow<'_, str>> {
        let key = fold(name);
        let is_as_written = matches!(key, Cow::Borrowed(_));
        (is_as_written || Self::new(name).is_ok()).then_some(key)
    }

    /// Whether `name` is a spelling of this user's name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        *self.0 == *name || fold(&self.0) == fold(name)
    }
}

fn allowed(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | ',' | '@')
}

fn fold(name: &str) -> Cow<'_, str> {
    if !name.is_ascii() {
        name.to_lowercase().into()
    } else if name.bytes().any(|octet| octet.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(name: &str) -> Result<Self, UserNameError> {
        Self::new(name)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a word is no user name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// Nothing at all.
    #[error("a user name cannot be empty")]
    Empty,
    /// Longer than [`USER_NAME_OCTETS_MAX`].
    #[error("a user name has at most {USER_NAME_OCTETS_MAX} octets, got {octets}")]
    TooLong {
        /// How long it is.
        octets: usize,
    },
    /// Begins with `.` (hidden, or a way out of the directory) or `-` (an option).
    #[error("a user name cannot begin with `.` or `-`")]
    FirstCharacter,
    /// Holds a character that no user name may hold.
    #[error(
        "a user name cannot hold {character:?}: no spaces, control characters, `/`, `,` or `@`"
    )]
    Character {
        /// The first such character.
        character: char,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_safe_as_directories() {
        for good in [
            "Andrew",
            "a",
            "j.doe",
            "x-1",
            "a+b",
            "Jürgen",
            "用户",
            "0",
            &"n".repeat(64),
        ] {
            assert!(UserName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-rf",
            "a/b",
            "a b",
            "a,b",
            "a@b",
            "a\0",
            "a\tb",
            "a\n",
            "a\u{a0}b",
            &"n".repeat(65),
        ] {
            assert!(UserName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn case_does_not_tell_users_apart() {
        let andrew = UserName::new("Andrew").unwrap();
        assert!(andrew.is("andrew") && andrew.is("ANDREW") && !andrew.is("andre"));
        assert_eq!(andrew.key(), "andrew");
        assert!(UserName::new("Jürgen").unwrap().is("JÜRGEN"));
    }
}
