//! Where the mail is: the mail root, found in one way by all commands.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::{ExitStatus, Failure};
use crate::credentials::CREDENTIALS_FILE;
use crate::disk::{Disk, RealDisk};

/// The environment variable that `--root` overrides.
const ROOT_VARIABLE: &str = "MINISMTP_ROOT";

/// A mail root that may not be there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// Finds the root: `--root`, else `MINISMTP_ROOT`, else the current directory if it holds a
    /// credentials file, else `minismtp` in the user's data directory.
    pub(super) fn find(flag: Option<&Path>) -> Result<Self, Failure> {
        let current = env::current_dir().ok();
        choose(flag, env::var_os(ROOT_VARIABLE), current, dirs::data_dir())
            .map(Self)
            .ok_or_else(|| {
                Failure::new(
                    ExitStatus::Configuration,
                    "no mail root: there is no home directory to keep it in",
                )
                .hint(format_args!(
                    "name one with `--root DIR` or in `{ROOT_VARIABLE}`"
                ))
            })
    }

    /// The directory, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the root; makes it, private to its owner, where it is missing.
    pub(crate) fn open(&self) -> Result<Arc<dyn Disk>, Failure> {
        let there = self.exists()?;
        match RealDisk::open(&self.0) {
            Ok(disk) => Ok(Arc::new(disk)),
            Err(error) if there => Err(self.failure(ExitStatus::InputOutput, "open", &error)),
            Err(error) => Err(self.failure(ExitStatus::CannotCreate, "create", &error)),
        }
    }

    /// Opens the root; `None` where it is missing, for commands that only look.
    pub(crate) fn open_existing(&self) -> Result<Option<Arc<dyn Disk>>, Failure> {
        if self.exists()? {
            self.open().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The number of the user whom the root belongs to; `None` where it is missing.
    pub(super) fn owner(&self) -> Result<Option<u32>, Failure> {
        use std::os::unix::fs::MetadataExt;
        if !self.exists()? {
            return Ok(None);
        }
        match std::fs::metadata(&self.0) {
            Ok(found) => Ok(Some(found.uid())),
            Err(error) => Err(self.failure(ExitStatus::InputOutput, "open", &error)),
        }
    }

    fn exists(&self) -> Result<bool, Failure> {
        match std::fs::metadata(&self.0) {
            Ok(found) if found.is_dir() => Ok(true),
            Ok(_) => Err(Failure::new(
                ExitStatus::CannotCreate,
                format_args!("mail root `{}` is not a directory", self.0.display()),
            )
            .hint("name another with `--root DIR`")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failure(ExitStatus::InputOutput, "open", &error)),
        }
    }

    fn failure(&self, code: ExitStatus, doing: &str, error: &io::Error) -> Failure {
        Failure::new(
            code,
            format_args!("cannot {doing} mail root `{}`: {error}", self.0.display()),
        )
        .hint(format_args!(
            "name a directory that is yours with `--root DIR` or in `{ROOT_VARIABLE}`"
        ))
    }
}

fn choose(
    flag: Option<&Path>,
    variable: Option<OsString>,
    current: Option<PathBuf>,
    data: Option<PathBuf>,
) -> Option<PathBuf> {
    if let Some(root) = flag {
        return Some(root.to_owned());
    }
    if let Some(root) = variable.filter(|root| !root.is_empty()) {
        return Some(root.into());
    }
    // A link counts, so that it is refused by name instead of being passed over.
    let holds = |directory: &PathBuf| directory.join(CREDENTIALS_FILE).symlink_metadata().is_ok();
    current
        .filter(holds)
        .or_else(|| data.map(|data| data.join("minismtp")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_root_that_is_named_wins() {
        let with_file = env::temp_dir().join(format!("minismtp-root-{}", std::process::id()));
        std::fs::create_dir_all(&with_file).unwrap();
        std::fs::write(with_file.join(CREDENTIALS_FILE), "").unwrap();
        let here = with_file.to_str().unwrap();
        for (flag, variable, current, data, expected) in [
            (Some("f"), Some("v"), here, Some("/d"), Some("f")),
            (None, Some("v"), here, Some("/d"), Some("v")),
            (None, Some(""), here, Some("/d"), Some(here)),
            (None, None, here, Some("/d"), Some(here)),
            (None, None, "/nowhere", Some("/d"), Some("/d/minismtp")),
            (None, None, "/nowhere", None, None),
        ] {
            let found = choose(
                flag.map(Path::new),
                variable.map(OsString::from),
                Some(current.into()),
                data.map(PathBuf::from),
            );
            assert_eq!(found, expected.map(PathBuf::from), "{flag:?} {variable:?}");
        }
        std::fs::remove_dir_all(with_file).unwrap();
    }

    #[test]
    fn looking_does_not_make_a_root() {
        let path = env::temp_dir().join(format!("minismtp-no-root-{}", std::process::id()));
        let root = Root(path.clone());
        assert!(root.open_existing().unwrap().is_none());
        assert!(!path.exists());
        root.open().unwrap();
        assert!(root.open_existing().unwrap().is_some());
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(root.open().unwrap_err().code, ExitStatus::CannotCreate);
        std::fs::remove_file(path).unwrap();
    }
}
