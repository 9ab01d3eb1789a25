//! `minismtp mailbox`: list, show and delete mail, with or without a running server.

use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Global;
use super::report::{ExitStatus, Failure, Output};
use crate::credentials::{Credentials, CredentialsFile};
use crate::disk::{Disk, Lock};
use crate::mailbox::file::{FileStore, mailbox_path};
use crate::mailbox::format::Record;
use crate::mailbox::{CopyError, Mailbox, Seen, Store};
use crate::user::UserName;

/// How much of a list is written at once, in octets.
const WRITE_OCTETS: usize = 64 * 1024;

/// List, show and delete mail
///
/// Works on the files, with or without a running server. Messages are numbered from 1, the oldest
/// first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  How much mail everybody has:
      minismtp mailbox list

  The whole mailbox, as it is stored:
      minismtp mailbox show Andrew

  The newest message, in a script:
      minismtp mailbox show Andrew last

  A message by the name that mail clients give it, which `list --json` tells as `id`:
      minismtp mailbox show Andrew 51f2a0c5c1c3b6e8d0a4f3f1b2c0d9e7.1

  Delete the first and the third:
      minismtp mailbox delete Andrew 1 3")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Delete(DeleteArgs),
}

/// List a user's messages, or every user with the number of messages
///
/// A message is a line: number, time of arrival, sender, subject.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The user, in any case
    #[arg(value_name = "NAME")]
    name: Option<UserName>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Print messages as they are stored
///
/// A record is four lines, the content, and a line with only a full stop. Content lines that begin
/// with a full stop have one more in front, as in the file; `--json` gives them without.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The user, in any case
    #[arg(value_name = "NAME")]
    name: UserName,

    /// Which messages: a number, a range as 2-5, `last`, or a unique-id; all without it
    #[arg(value_name = "N|N-M|last|ID")]
    which: Option<Which>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Delete messages by number
///
/// All that are named, or none if one does not exist. Numbers are as `list` shows them at that
/// moment; afterwards the later messages move up.
#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// The user, in any case
    #[arg(value_name = "NAME")]
    name: UserName,

    /// The messages: numbers, ranges as 2-5, `last`, or unique-ids
    #[arg(value_name = "N", required = true)]
    which: Vec<Which>,
}

/// Messages, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Last,
    Range(usize, usize),
    /// As mail clients know it (POP3's UIDL).
    UniqueId(String),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("last") {
            return Ok(Self::Last);
        }
        let number = |text: &str| match text.parse() {
            Ok(0) => Err("messages are numbered from 1".to_owned()),
            Ok(number) => Ok(number),
            Err(_) => Err("a number, a range as 2-5, `last`, or a unique-id".to_owned()),
        };
        if text.contains('.') {
            return Ok(Self::UniqueId(text.to_ascii_lowercase()));
        }
        match text.split_once('-') {
            None => number(text).map(|number| Self::Range(number, number)),
            Some((first, last)) => match (number(first)?, number(last)?) {
                (first, last) if first <= last => Ok(Self::Range(first, last)),
                _ => Err("a range goes up, as 2-5".to_owned()),
            },
        }
    }
}

impl Which {
    /// First and last number in a mailbox.
    fn bounds(&self, mailbox: &dyn Mailbox) -> Result<(usize, usize), Failure> {
        let count = mailbox.count();
        match self {
            Self::Last if count == 0 => Err(Failure::new(ExitStatus::No, "the mailbox is empty")),
            Self::Last => Ok((count, count)),
            Self::Range(_, last) if *last > count => Err(no_such_message(*last, count)),
            Self::Range(first, last) => Ok((*first, *last)),
            Self::UniqueId(unique_id) => match mailbox.find(unique_id) {
                Some(number) => Ok((number, number)),
                None => Err(
                    Failure::new(ExitStatus::No, format_args!("no message `{unique_id}`"))
                        .hint("`minismtp mailbox list NAME --json` tells them as `id`"),
                ),
            },
        }
    }
}

/// Runs `minismtp mailbox`.
pub(super) fn run(args: &Args, global: &Global, out: &mut Output) -> Result<(), Failure> {
    let root = Root::open(global, out)?;
    match &args.command {
        Command::List(ListArgs {
            name: Some(name),
            json,
        }) => root.list(name, *json, out),
        Command::List(ListArgs { name: None, json }) => root.list_users(*json, out),
        Command::Show(args) => root.show(args, out),
        Command::Delete(args) => root.delete(args, out),
    }
}

/// Users and their mail.
struct Root {
    /// `None` where there is no root yet.
    opened: Option<(CredentialsFile, FileStore)>,
    path: PathBuf,
}

impl Root {
    fn open(global: &Global, out: &Output) -> Result<Self, Failure> {
        let root = global.root()?;
        let disk: Option<Arc<dyn Disk>> = root.open_existing()?;
        let opened = disk.map(|disk| {
            (
                CredentialsFile::new(Arc::clone(&disk)),
                FileStore::visit(disk, out.reporter()),
            )
        });
        let path = root.path().to_owned();
        Ok(Self { opened, path })
    }

    /// The store, and the user in the spelling that the store has. Mail of a user who was removed
    /// can still be read.
    fn user(&self, name: &UserName) -> Result<(&FileStore, UserName), Failure> {
        let no_such_user = || {
            Failure::new(ExitStatus::NoUser, format_args!("no such user: `{name}`"))
                .hint("`minismtp users list` names them all")
        };
        let Some((credentials, store)) = &self.opened else {
            return Err(no_such_user());
        };
        if let Some(user) = credentials.find(name.as_str())? {
            return Ok((store, user));
        }
        let orphan = mailbox_name(store, name)?;
        Ok((store, orphan.ok_or_else(no_such_user)?))
    }

    fn warn_of_torn(&self, mailbox: &dyn Mailbox, user: &UserName, out: &mut Output) {
        let octets = mailbox.torn_octets();
        if octets > 0 {
            let file = self.path.join(mailbox_path(user.as_str()));
            out.warning(format_args!(
                "the last {octets} octets of `{}` are left out: no line with only a full stop ends \
                 them",
                file.display()
            ));
        }
    }

    fn list_users(&self, json: bool, out: &mut Output) -> Result<(), Failure> {
        let mut counts = Vec::new();
        let mut unreadable = None;
        if let Some((credentials, store)) = &self.opened {
            let mut users = credentials.list()?;
            users.extend(store.users()?);
            let mut seen = std::collections::HashSet::new();
            for user in users.into_iter().filter(|user| seen.insert(user.key())) {
                match store.open(&user) {
                    Ok(mailbox) => counts.push((user, mailbox.count())),
                    // The others are told all the same.
                    Err(error) => {
                        if let Some(earlier) = unreadable.replace(error) {
                            out.warning(earlier);
                        }
                    }
                }
            }
        }
        if json {
            let rows = counts
                .iter()
                .map(|(user, count)| json!({ "user": user.as_str(), "messages": count }));
            out.result(Value::Array(rows.collect()))?;
            return unreadable.map_or(Ok(()), |error| Err(error.into()));
        }
        if counts.is_empty() && unreadable.is_none() {
            out.note(format_args!("no users in `{}`", self.path.display()));
            out.hint("`--root DIR` names another mail root");
        }
        let width = counts
            .iter()
            .map(|(_, count)| count.to_string().len())
            .max()
            .unwrap_or(0);
        for (user, count) in counts {
            out.result(format_args!("{count:width$}  {user}"))?;
        }
        unreadable.map_or(Ok(()), |error| Err(error.into()))
    }

    fn list(&self, name: &UserName, json: bool, out: &mut Output) -> Result<(), Failure> {
        let (store, user) = self.user(name)?;
        let mailbox = store.open(&user)?;
        self.warn_of_torn(&*mailbox, &user, out);
        let count = mailbox.count();
        let width = count.to_string().len();
        let mut lines = Vec::new();
        // A list may be long: it goes out while it is made.
        mailbox.list(1..=count, &mut |number, message| {
            let text = String::from_utf8_lossy;
            let (received, from) = (text(message.received), text(message.from));
            let subject = text(message.subject);
            let written = if json {
                let row = json!({
                    "number": number,
                    "id": mailbox.unique_id(number),
                    "received": received,
                    "from": from,
                    "to": text(message.to),
                    "subject": subject,
                });
                let before = if number == 1 { '[' } else { ',' };
                write!(lines, "{before}{row}")
            } else {
                writeln!(lines, "{number:width$}  {received}  {from}  {subject}")
            };
            written.map_err(CopyError::Write)?;
            if lines.len() > WRITE_OCTETS {
                out.stdout().write_all(&lines).map_err(CopyError::Write)?;
                lines.clear();
            }
            Ok(())
        })?;
        if json {
            lines.extend_from_slice(if count == 0 { b"[]\n" } else { b"]\n" });
        }
        out.write(&lines)
    }

    fn show(&self, args: &ShowArgs, out: &mut Output) -> Result<(), Failure> {
        let (store, user) = self.user(&args.name)?;
        let mailbox = store.open(&user)?;
        self.warn_of_torn(&*mailbox, &user, out);
        let (first, last) = match &args.which {
            None => (1, mailbox.count()),
            Some(which) => which.bounds(&*mailbox)?,
        };
        let mut rows = Vec::new();
        for number in first..=last {
            if args.json {
                let mut octets = Vec::new();
                mailbox.copy(number, &mut octets)?;
                let record = Record::parse(&octets);
                let mut row = summary_json(number, &record);
                row["id"] = mailbox.unique_id(number).into();
                row["full"] = record.is_full.into();
                row["content"] = String::from_utf8_lossy(&record.content).into();
                rows.push(row);
            } else {
                mailbox.copy(number, &mut *out.mail())?;
            }
        }
        if args.json {
            out.result(Value::Array(rows))
        } else {
            out.write(b"")
        }
    }

    fn delete(&self, args: &DeleteArgs, out: &mut Output) -> Result<(), Failure> {
        let (store, user) = self.user(&args.name)?;
        let _lock = maildrop_lock(store, &user)?;
        let messages: Vec<Seen> = {
            // Who reads keeps a mailbox from being changed in its place.
            let mailbox = store.open(&user)?;
            let mut numbers = std::collections::BTreeSet::new();
            for which in &args.which {
                let (first, last) = which.bounds(&*mailbox)?;
                numbers.extend(first..=last);
            }
            let seen = numbers.into_iter().map(|number| {
                let seen = mailbox.seen(number);
                seen.ok_or_else(|| no_such_message(number, mailbox.count()))
            });
            seen.collect::<Result<_, _>>()?
        };
        let count = messages.len();
        if let Some(&missing) = store.expunge(&user, &messages)?.first() {
            return Err(Failure::new(
                ExitStatus::TryAgain,
                format_args!("message {missing} has changed meanwhile; nothing is deleted"),
            )
            .hint(format_args!(
                "`minismtp mailbox list {user}` shows what is there"
            )));
        }
        let messages = if count == 1 { "message" } else { "messages" };
        out.done(format_args!("deleted {count} {messages} of {user}"))
    }
}

/// The name under which there is mail of who has this name, or had it; `None` where there is none.
pub(super) fn mailbox_name(
    store: &FileStore,
    name: &UserName,
) -> Result<Option<UserName>, Failure> {
    let mut names = store.users()?.into_iter();
    Ok(names.find(|found| found.is(name.as_str())))
}

/// Keeps mail clients out. One that has the mailbox open counts on its numbers.
pub(super) fn maildrop_lock(store: &FileStore, user: &UserName) -> Result<Box<dyn Lock>, Failure> {
    store.lock(user)?.ok_or_else(|| {
        Failure::new(
            ExitStatus::TryAgain,
            format_args!("a mail client has the mailbox of {user} open"),
        )
        .hint("try again when it is done")
    })
}

fn summary_json(number: usize, record: &Record) -> Value {
    json!({
        "number": number,
        "received": record.received,
        "from": record.from,
        "to": record.to,
        "subject": record.subject,
    })
}

fn no_such_message(number: usize, count: usize) -> Failure {
    let messages = if count == 1 { "message" } else { "messages" };
    Failure::new(
        ExitStatus::No,
        format_args!("no message {number}: the mailbox has {count} {messages}"),
    )
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Read(error) => error.into(),
            CopyError::Write(error) => Self::stdout(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_named_by_number() {
        for (text, which) in [
            ("1", Which::Range(1, 1)),
            ("2-5", Which::Range(2, 5)),
            ("last", Which::Last),
            ("LAST", Which::Last),
            ("0A.1", Which::UniqueId("0a.1".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(which), "{text}");
        }
        for text in ["", "0", "-1", "5-2", "1-", "0-3", "x", "1,2"] {
            assert!(text.parse::<Which>().is_err(), "{text}");
        }
    }
}
