//! `minismtp users`: who may have mail, and with which password.

use std::path::Path;
use std::sync::Arc;

use clap::Subcommand;

use super::mailbox::{mailbox_name, maildrop_lock};
use super::password::Source;
use super::report::{ExitStatus, Failure, Output};
use super::{Global, root::Root};
use crate::credentials::{
    CREDENTIALS_FILE, Credentials, CredentialsError, CredentialsFile, Doing, PasswordError,
    PasswordHash,
};
use crate::disk::Disk;
use crate::mailbox::Store;
use crate::mailbox::file::FileStore;
use crate::secret::Secret;
use crate::user::UserName;

/// List, add and remove users, and set or check their passwords
///
/// The users stand in the file `logincred.txt` of the mail root, one on each line, as
/// `name,password`. You may write that file with an editor too. A running server sees every change
/// at the next login or message; it need not be restarted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  Add a user; the password is asked for, and kept as a hash:
      minismtp users add Andrew

  The same from a script, with the password on standard input:
      printf '%s\\n' \"$PASSWORD\" | minismtp users add Andrew --password-stdin

  See who is there:
      minismtp users list

  Let a script check a password:
      printf '%s\\n' \"$PASSWORD\" | minismtp users check Andrew --password-stdin && echo welcome

Exit codes:
  0 done, 64 bad name or usage, 65 bad password, 67 no such user, 73 the user exists already,
  74 cannot read or write the file, 77 wrong password, 78 the file has a user twice")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the names of all users, one on each line
    ///
    /// The names come in the order of the file. Lines of the file that hold no user are skipped and
    /// reported on standard error.
    List {
        /// Print JSON: an array with an object, `{"name": "Andrew"}`, for each user
        #[arg(long)]
        json: bool,
    },

    /// Add a user
    ///
    /// Asks twice for the password, which is kept as an Argon2id hash that nobody can read back. The
    /// user's directory and mailbox are made when the first message comes.
    #[command(after_long_help = "\
Examples:
  minismtp users add Andrew
  printf '%s\\n' '@dministr@tor' | minismtp users add Andrew --plain --password-stdin")]
    Add {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        password: NewPassword,
    },

    /// Remove a user; the mailbox stays
    ///
    /// The user can no longer log in or get mail. Messages that are there already are kept, and are
    /// there again for a user who is added with the same name; `--with-mail` removes them too, also
    /// of a user who was removed before.
    #[command(after_long_help = "\
Examples:
  minismtp users remove Andrew
  minismtp users remove Andrew --with-mail")]
    Remove {
        #[command(flatten)]
        name: Name,

        /// Remove the mailbox too, with all mail in it, unless a mail client has it open
        #[arg(long)]
        with_mail: bool,
    },

    /// Give a user another password
    ///
    /// Asks twice for it. The old password need not be known: whoever may write the file may do this.
    #[command(after_long_help = "Example:\n  minismtp users passwd Andrew")]
    Passwd {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        password: NewPassword,
    },

    /// Check a user's password
    ///
    /// The exit code is the answer: 0 if the password is right, 77 if it is wrong, 67 if there is no
    /// such user.
    #[command(after_long_help = "\
Examples:
  minismtp users check Andrew
  printf '%s\\n' \"$PASSWORD\" | minismtp users check Andrew --password-stdin")]
    Check {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        password: Source,
    },
}

#[derive(Debug, clap::Args)]
struct Name {
    /// One word: no spaces, `/`, `,` or `@`; in any case, `andrew` is the user `Andrew`
    name: UserName,
}

#[derive(Debug, clap::Args)]
struct NewPassword {
    #[command(flatten)]
    source: Source,
    /// Keep the password as a readable word instead of a hash
    ///
    /// Anyone who can read `logincred.txt` then knows it. It has to be one word, without spaces.
    #[arg(long)]
    plain: bool,
    /// Keep the password as a SCRAM-SHA-256 verifier, so that clients can log in without sending it
    ///
    /// The server offers SCRAM only while every user has a verifier or a readable word. A file that
    /// is stolen gives passwords away sooner than with the usual hash.
    #[arg(long, conflicts_with = "plain")]
    scram: bool,
}

impl NewPassword {
    fn ask(&self, name: &UserName) -> Result<PasswordHash, Failure> {
        let password = self.source.ask_new(&format!("New password for {name}: "))?;
        let kept = if self.plain {
            PasswordHash::plain(&password)
        } else if self.scram {
            PasswordHash::scram(&password)
        } else {
            PasswordHash::argon2id(&password)
        };
        Ok(kept?)
    }
}

/// Runs `minismtp users`.
pub(super) fn run(args: &Args, global: &Global, out: &mut Output) -> Result<(), Failure> {
    let root = global.root()?;
    match &args.command {
        Command::List { json } => list(&root, *json, out),
        Command::Add { name, password } => add(&root, &name.name, password, out),
        Command::Remove { name, with_mail } => remove(&root, &name.name, *with_mail, out),
        Command::Passwd { name, password } => passwd(&root, &name.name, password, out),
        Command::Check { name, password } => check(&root, &name.name, password, out),
    }
}

fn list(root: &Root, json: bool, out: &mut Output) -> Result<(), Failure> {
    let users = match open_existing(root, out)? {
        Some(credentials) => credentials.list()?,
        None => Vec::new(),
    };
    if json {
        let users: Vec<_> = users
            .iter()
            .map(|name| serde_json::json!({ "name": name.as_str() }))
            .collect();
        return out.result(serde_json::Value::from(users));
    }
    if users.is_empty() {
        let file = root.path().join(CREDENTIALS_FILE);
        out.note(format_args!("no users in `{}`", file.display()));
        out.hint("`minismtp users add NAME` adds one");
        return Ok(());
    }
    // At once: ten thousand names are no reason for ten thousand writes.
    let lines: String = users.iter().map(|name| format!("{name}\n")).collect();
    out.write(lines.as_bytes())
}

fn add(
    root: &Root,
    name: &UserName,
    password: &NewPassword,
    out: &mut Output,
) -> Result<(), Failure> {
    // Before the password is asked for; `add` itself looks again.
    if let Some(credentials) = open_existing(root, out)?
        && let Some(name) = credentials.find(name.as_str())?
    {
        return Err(CredentialsError::Exists { name }.into());
    }
    let kept = password.ask(name)?;
    CredentialsFile::new(root.open()?).add(name, &kept)?;
    out.done(format_args!("added user {name}"))
}

fn remove(root: &Root, name: &UserName, with_mail: bool, out: &mut Output) -> Result<(), Failure> {
    let (credentials, name) = match existing_user(root, name, out) {
        Err(failure) if with_mail && failure.code == ExitStatus::NoUser => {
            // Removed before, without the mail.
            let (store, name) = left_mail(root, name, out)?.ok_or(failure)?;
            let _lock = maildrop_lock(&store, &name)?;
            store.remove(&name)?;
            return out.done(format_args!("removed the mail of {name}, who was no user"));
        }
        found => found?,
    };
    if !with_mail {
        let name = credentials.remove(name.as_str())?;
        out.done(format_args!("removed user {name}"))?;
        if left_mail(root, &name, out)?.is_some() {
            out.hint(format_args!(
                "the mail is still there; `minismtp users remove {name} --with-mail` removes it"
            ));
        }
        return Ok(());
    }
    let store = FileStore::visit(root.open()?, out.reporter());
    let _lock = maildrop_lock(&store, &name)?;
    // The user first: a mailbox that is gone must not come back with the next message.
    let name = credentials.remove(name.as_str())?;
    store.remove(&name)?;
    out.done(format_args!("removed user {name} and the mail"))
}

/// The store, if there is a mailbox of that name, and the name as it is there.
fn left_mail(
    root: &Root,
    name: &UserName,
    out: &Output,
) -> Result<Option<(FileStore, UserName)>, Failure> {
    let Some(disk) = root.open_existing()? else {
        return Ok(None);
    };
    let store = FileStore::visit(disk, out.reporter());
    let found = mailbox_name(&store, name)?;
    Ok(found.map(|name| (store, name)))
}

fn passwd(
    root: &Root,
    name: &UserName,
    password: &NewPassword,
    out: &mut Output,
) -> Result<(), Failure> {
    let (credentials, name) = existing_user(root, name, out)?;
    let kept = password.ask(&name)?;
    let name = credentials.set(name.as_str(), &kept)?;
    out.done(format_args!("changed the password of user {name}"))
}

fn check(root: &Root, name: &UserName, password: &Source, out: &mut Output) -> Result<(), Failure> {
    let (credentials, name) = existing_user(root, name, out)?;
    let password: Secret = password.ask(&format!("Password of {name}: "))?;
    match credentials.verify(name.as_str(), &password)? {
        Some(name) => out.done(format_args!("the password of user {name} is right")),
        None => Err(Failure::new(
            ExitStatus::Denied,
            format_args!("wrong password for user `{name}`"),
        )
        .hint(format_args!("`minismtp users passwd {name}` sets another"))),
    }
}

/// The credentials, and the user's name as they have it.
fn existing_user(
    root: &Root,
    name: &UserName,
    out: &mut Output,
) -> Result<(CredentialsFile, UserName), Failure> {
    if let Some(credentials) = open_existing(root, out)?
        && let Some(name) = credentials.find(name.as_str())?
    {
        return Ok((credentials, name));
    }
    Err(CredentialsError::NoSuchUser {
        name: name.to_string(),
    }
    .into())
}

/// The credentials of a root that is there; reports the lines that somebody should look at.
fn open_existing(root: &Root, out: &mut Output) -> Result<Option<CredentialsFile>, Failure> {
    let Some(disk) = root.open_existing()? else {
        return Ok(None);
    };
    let credentials = CredentialsFile::new(Arc::<dyn Disk>::clone(&disk));
    let file = root.path().join(CREDENTIALS_FILE);
    for warning in credentials.warnings()? {
        out.warning(format_args!("`{}`: {warning}", file.display()));
    }
    if credentials.is_exposed()? {
        out.warning(exposed(&file));
    }
    Ok(Some(credentials))
}

/// The warning of a credentials file that everybody may read, or others may change.
pub(super) fn exposed(file: &Path) -> String {
    let file = file.display();
    format!(
        "others can read or change the passwords in `{file}`; `chmod 600 {file}` keeps them out"
    )
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        let (code, hint) = match &error {
            CredentialsError::CaseTwins { line, .. } => (
                ExitStatus::Configuration,
                format!("names are the same in upper and lower case: change or remove line {line}"),
            ),
            CredentialsError::Exists { name } => (
                ExitStatus::CannotCreate,
                format!("`minismtp users passwd {name}` gives it another password"),
            ),
            CredentialsError::NoSuchUser { .. } => (
                ExitStatus::NoUser,
                "`minismtp users list` prints the users; `--root DIR` names another mail root"
                    .to_owned(),
            ),
            CredentialsError::Reserved { .. } => {
                (ExitStatus::Usage, "choose another name".to_owned())
            }
            CredentialsError::Gone { .. } => (
                ExitStatus::TryAgain,
                "put it back, or start anew if there are to be no users".to_owned(),
            ),
            CredentialsError::TooLarge { .. } => (
                ExitStatus::Configuration,
                "each line is `name,password`: is that the right file?".to_owned(),
            ),
            CredentialsError::Io { doing, error, .. } => io_advice(*doing, error.kind()),
        };
        Self::new(code, error).hint(hint)
    }
}

fn io_advice(doing: Doing, kind: std::io::ErrorKind) -> (ExitStatus, String) {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    match (doing, kind) {
        (Doing::Read, InvalidInput) => (
            ExitStatus::InputOutput,
            "links are not followed: put the file itself there".to_owned(),
        ),
        (Doing::Read, PermissionDenied) => (
            ExitStatus::InputOutput,
            "run it as the user who owns the mail root, to whom the file has to belong too, or \
             name another with `--root DIR`"
                .to_owned(),
        ),
        (Doing::Lock | Doing::Write, PermissionDenied | ReadOnlyFilesystem) => (
            ExitStatus::CannotCreate,
            "run it as the user who owns the mail root, or name another with `--root DIR`"
                .to_owned(),
        ),
        _ => (
            ExitStatus::InputOutput,
            "nothing was changed; try again when the cause is gone".to_owned(),
        ),
    }
}

impl From<PasswordError> for Failure {
    fn from(error: PasswordError) -> Self {
        let plain = matches!(
            error,
            PasswordError::LooksHashed | PasswordError::NotOneWord | PasswordError::NotText
        );
        let code = match error {
            PasswordError::Hashing(_) => ExitStatus::Internal,
            _ => ExitStatus::BadData,
        };
        let failure = Self::new(code, error);
        if plain {
            failure.hint("without `--plain` any password will do")
        } else {
            failure
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::report::tests::Written;
    use super::*;

    /// Runs a command that asks for no password: exit code, stdout and stderr.
    fn users(root: &str, quiet: bool, command: Command) -> (ExitStatus, String, String) {
        let (stdout, stderr) = (Written::default(), Written::default());
        let mut out = Output::new(stdout.clone(), stderr.clone(), quiet);
        let global = Global {
            root: Some(PathBuf::from(root)),
            verbose: 0,
            quiet,
            color: clap::ColorChoice::Never,
        };
        let code = super::super::guarded(&mut out, |out| run(&Args { command }, &global, out));
        let told = stderr.text().replace(root, "ROOT");
        (code, stdout.text().replace(root, "ROOT"), told)
    }

    fn remove(name: &str) -> Command {
        Command::Remove {
            name: Name {
                name: UserName::new(name).unwrap(),
            },
            with_mail: false,
        }
    }

    #[test]
    fn users_are_listed_and_removed() {
        let path = std::env::temp_dir().join(format!("minismtp-users-{}", std::process::id()));
        let root = path.to_str().unwrap();
        let text = |(code, stdout, stderr): (ExitStatus, String, String)| {
            format!("{stdout}{stderr}[{}]", code as u8)
        };
        let list = |json| Command::List { json };
        assert_eq!(
            text(users(root, false, list(false))),
            "no users in `ROOT/logincred.txt`\nhint: `minismtp users add NAME` adds one\n[0]"
        );
        assert_eq!(text(users(root, true, list(false))), "[0]");
        assert_eq!(text(users(root, false, list(true))), "[]\n[0]");
        assert!(!path.exists(), "looking makes no root");
        std::fs::create_dir(&path).unwrap();
        let write = |text: &str| {
            let file = path.join(CREDENTIALS_FILE);
            std::fs::write(&file, text).unwrap();
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(file, private).unwrap();
        };
        write("Andrew,x\nrubbish\nBob,y\n");
        for (case, quiet, command, expected) in [
            (
                "warned",
                false,
                list(false),
                "Andrew\nBob\nwarning: `ROOT/logincred.txt`: line 2 has no comma; it is skipped\n[0]",
            ),
            ("quiet", true, list(false), "Andrew\nBob\n[0]"),
            (
                "json",
                true,
                list(true),
                "[{\"name\":\"Andrew\"},{\"name\":\"Bob\"}]\n[0]",
            ),
            ("removed", true, remove("ANDREW"), "[0]"),
            ("gone", true, list(false), "Bob\n[0]"),
            (
                "unknown",
                true,
                remove("andrew"),
                "error: no such user: `andrew`\nhint: `minismtp users list` prints the users; `--root DIR` names another mail root\n[67]",
            ),
        ] {
            assert_eq!(text(users(root, quiet, command)), expected, "{case}");
        }
        write("Bob,y\nbob,y\n");
        assert_eq!(
            text(users(root, false, remove("bob"))),
            "error: credentials file `ROOT/logincred.txt` is refused: line 2 has `bob`, the user \
             `Bob` again\nhint: names are the same in upper and lower case: change or remove \
             line 2\n[78]"
        );
        std::fs::remove_dir_all(path).unwrap();
    }
}
