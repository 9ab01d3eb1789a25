//! Who the users are and what their passwords are.
//!
//! The rest of the program sees the trait [`Credentials`]; [`CredentialsFile`] keeps them in the
//! text file that NITC prescribes, a user a line. A password leaves this room in no form: what
//! comes out is a name, or nothing.

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

use crate::sasl::scram::Keys;
use crate::secret::Secret;
use crate::user::{UserName, UserNameError};

mod file;
mod password;

pub use file::{CREDENTIALS_FILE, CREDENTIALS_FILE_OCTETS_MAX, CredentialsFile};
pub use password::{
    ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES_MAX, PASSWORD_OCTETS_MAX, PasswordError, PasswordHash,
};

/// The users and their passwords.
///
/// Names are compared without regard to case; what is returned is the spelling that is kept, which
/// is also the name of the user's directory. Every call sees what other processes changed. The
/// calls read files, and [`Credentials::verify`] and [`PasswordHash::argon2id`] take tens of
/// milliseconds of processor time: an asynchronous caller gives them a thread of their own.
pub trait Credentials: Send + Sync + Debug {
    /// Looks a user up; `None` where there is no such user.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read or are refused.
    fn find(&self, name: &str) -> Result<Option<UserName>, CredentialsError>;

    /// Checks a password; `None` where it is wrong or there is no such user.
    ///
    /// Costs one Argon2id computation in every case, and the work of a SCRAM verifier where anybody
    /// has one, so that the time taken does not tell a name that exists from one that does not.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read or are refused.
    fn verify(&self, name: &str, password: &Secret) -> Result<Option<UserName>, CredentialsError>;

    /// The keys to check a client's proof in SCRAM with. Where there is no such user, or the
    /// password is kept in a way that has no keys, they are made up: always the same salt for the
    /// name, and keys that no proof has.
    ///
    /// Costs the same in every case.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read or are refused; the system has no random numbers.
    fn scram_keys(&self, name: &str) -> Result<Keys, CredentialsError>;

    /// Whether there are users, and every one of them can log in with SCRAM.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read or are refused.
    fn has_scram_for_all(&self) -> Result<bool, CredentialsError>;

    /// All users, in the order they are kept.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read or are refused.
    fn list(&self) -> Result<Vec<UserName>, CredentialsError>;

    /// The lines that a person should look at, for the log or the terminal.
    ///
    /// # Errors
    ///
    /// The credentials cannot be read or are refused.
    fn warnings(&self) -> Result<Vec<Warning>, CredentialsError>;

    /// Adds a user, durably.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Exists`] for any spelling of a user's name,
    /// [`CredentialsError::Reserved`] for a name that no directory can have here; the credentials
    /// cannot be read or written, or are refused.
    fn add(&self, name: &UserName, password: &PasswordHash) -> Result<(), CredentialsError>;

    /// Gives a user another password, durably; returns the name as it is kept.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::NoSuchUser`]; the credentials cannot be read or written, or are refused.
    fn set(&self, name: &str, password: &PasswordHash) -> Result<UserName, CredentialsError>;

    /// Removes a user, durably; returns the name as it was kept. The mailbox is not touched.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::NoSuchUser`]; the credentials cannot be read or written, or are refused.
    fn remove(&self, name: &str) -> Result<UserName, CredentialsError>;
}

/// A line of the credentials that is hardly meant so.
///
/// Says nothing of its secret; of a line that is skipped, any part may be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A password that looks like what another system made of one: whoever moved users here will
    /// not log in with it.
    #[error(
        "line {line} has a hash that only other systems can check: it is itself the password of \
         {name} here; `minismtp users passwd {name}` sets another"
    )]
    ForeignHash {
        /// Its number, from 1.
        line: usize,
        /// The user.
        name: UserName,
    },
    /// A line that holds no user.
    #[error("line {line} {reason}; it is skipped")]
    Skipped {
        /// Its number, from 1.
        line: usize,
        /// The rule that it breaks.
        reason: Malformed,
    },
}

/// Why a line is no `name,secret`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Octets that are no text.
    #[error("is not UTF-8")]
    Encoding,
    /// One word only.
    #[error("has no comma")]
    NoComma,
    /// What stands before the comma is no user name.
    #[error("does not begin with a user name: {0}")]
    Name(UserNameError),
    /// The name is the credentials file's own: a directory cannot have it too.
    #[error("names a user like the credentials file itself")]
    Reserved,
    /// What stands after the comma is no password.
    #[error("has no usable password: {0}")]
    Password(PasswordError),
}

/// Why credentials cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Two names that are equal, or differ only in case: which of the two passwords is meant
    /// cannot be told, so nobody is let in.
    #[error(
        "credentials file `{}` is refused: line {line} has `{second}`, the user `{first}` again",
        .path.display()
    )]
    CaseTwins {
        /// The file.
        path: PathBuf,
        /// The name that stands first.
        first: UserName,
        /// The name that is the same user.
        second: UserName,
        /// The number of the second line, from 1.
        line: usize,
    },
    /// The user is there already.
    #[error("user `{name}` exists already")]
    Exists {
        /// The name as it is kept.
        name: UserName,
    },
    /// Nobody has that name.
    #[error("no such user: `{name}`")]
    NoSuchUser {
        /// The name as it was asked for.
        name: String,
    },
    /// The user's directory would have the name of the credentials file.
    #[error("a user cannot be called `{name}`: the credentials file has that name")]
    Reserved {
        /// The name as it was asked for.
        name: UserName,
    },
    /// The file had users in it and is gone, or empty.
    #[error(
        "credentials file `{}` had users in it and is gone or empty: it may be in the middle of being \
         saved",
        .path.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The credentials file is larger than any we would write.
    #[error(
        "credentials file `{}` has {octets} octets, at most {CREDENTIALS_FILE_OCTETS_MAX} are read",
        .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        octets: u64,
    },
    /// The system would not have it.
    #[error("cannot {} `{}`: {error}", .doing.words(), .path.display())]
    Io {
        /// What was tried.
        doing: Doing,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// What was tried when the system reported an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Taking the lock that every change needs.
    Lock,
    /// Reading the file.
    Read,
    /// Replacing the file with the changed one.
    Write,
}

impl Doing {
    fn words(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Read => "read credentials file",
            Self::Write => "write credentials file",
        }
    }
}
