//! Whom a server runs as: root binds the ports that only root may, and is not needed after that.

use std::ffi::CString;
use std::fmt::Display;

use nix::unistd::{self, Gid, Uid};

use super::report::{ExitStatus, Failure};
use super::root::Root;

/// A user of the machine.
#[derive(Debug)]
pub(super) struct SystemUser {
    name: String,
    uid: Uid,
    gid: Gid,
}

impl SystemUser {
    /// Looks the user up, and whether we can become it.
    pub(super) fn find(name: &str) -> Result<Self, Failure> {
        let found = unistd::User::from_name(name)
            .map_err(|error| unusable(name, &error))?
            .ok_or_else(|| {
                unusable(name, &"this machine has no such user")
                    .hint(format_args!("`useradd --system {name}` makes one"))
            })?;
        let user = Self {
            name: found.name,
            uid: found.uid,
            gid: found.gid,
        };
        if is_root() || user.is_current() {
            Ok(user)
        } else {
            Err(unusable(name, &"only root can become another user")
                .hint("start it as root, or as that user without `--user`"))
        }
    }

    /// Makes sure that the mail root is this user's: what root would make there on the way, the
    /// user could not write later.
    pub(super) fn owns(&self, root: &Root) -> Result<(), Failure> {
        let (name, path) = (&self.name, root.path().display());
        match root.owner()? {
            Some(owner) if owner == self.uid.as_raw() => Ok(()),
            Some(_) => Err(Failure::new(
                ExitStatus::Configuration,
                format_args!("mail root `{path}` does not belong to the user `{name}`"),
            )
            .hint(format_args!("`chown -R {name}: {path}` gives it away"))),
            None => Err(Failure::new(
                ExitStatus::Configuration,
                format_args!("mail root `{path}` is not there for the user `{name}`"),
            )
            .hint(format_args!(
                "`install -d -m 700 -o {name} {path}` makes it"
            ))),
        }
    }

    /// Becomes the user, with its groups and no others, and for good. Before there are threads.
    pub(super) fn become_for_good(&self) -> Result<(), Failure> {
        if self.is_current() && !is_root() {
            return Ok(());
        }
        let name = CString::new(self.name.as_str()).map_err(|e| unusable(&self.name, &e))?;
        // Groups first: whoever is not root any more cannot give them up.
        unistd::initgroups(&name, self.gid)
            .and_then(|()| unistd::setgid(self.gid))
            .and_then(|()| unistd::setuid(self.uid))
            .map_err(|error| unusable(&self.name, &error))?;
        if !self.uid.is_root() && unistd::setuid(Uid::from_raw(0)).is_ok() {
            return Err(unusable(&self.name, &"root could be had back"));
        }
        Ok(())
    }

    fn is_current(&self) -> bool {
        self.uid == unistd::geteuid() && self.uid == unistd::getuid()
    }
}

/// Whether we may do everything.
pub(super) fn is_root() -> bool {
    unistd::geteuid().is_root()
}

fn unusable(name: &str, cause: &dyn Display) -> Failure {
    Failure::new(
        ExitStatus::Configuration,
        format_args!("`--user {name}`: {cause}"),
    )
}
