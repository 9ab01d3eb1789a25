//! Answers a POP3 session's questions from the credentials and the store.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::address::{Address, ReversePath};
use crate::clock;
use crate::credentials::{CredentialsError, PasswordHash};
use crate::disk::Lock;
use crate::mailbox::spool::Spool;
use crate::mailbox::{AppendError, Mailbox, Message, Reading, Seen, Store, StoreError};
use crate::maillog::SessionLog;
use crate::message::draft;
use crate::message::trace::{Trace, internet_date};
use crate::net::drive::Owner;
use crate::pop3::Event;
use crate::pop3::server::{Answer, Letter, Question, Session};
use crate::user::UserName;

use super::aside;
use super::delivery::{Office, push};
use super::door::{Entry, Visitor};

/// How much of a message is read at once, and not much more.
const PIECE_OCTETS_MIN: usize = 64 * 1024;

/// The owner of one session.
#[derive(Debug)]
pub struct Clerk {
    office: Arc<Office>,
    visitor: Visitor,
    /// A place among those who have no mailbox open yet.
    entrance: Option<OwnedSemaphorePermit>,
    maildrop: Option<Maildrop>,
    reading: Option<Box<dyn Reading>>,
    spool: Option<Spool>,
    /// The command that the next reply is to, for the log.
    command: String,
}

/// An open mailbox, as it was when it was opened.
#[derive(Debug)]
struct Maildrop {
    user: UserName,
    /// What the session sees; `None` once it is over.
    mailbox: Option<Box<dyn Mailbox>>,
    /// Messages that are removed already, in order: the others' numbers in the store are lower
    /// by that.
    removed: Vec<usize>,
    _lock: Box<dyn Lock>,
}

/// What opening a mailbox came to.
enum Opened {
    InUse,
    Maildrop(Maildrop, Vec<u64>),
}

impl Clerk {
    /// Serves the session of that number.
    #[must_use]
    pub fn new(office: Arc<Office>, session: u64, peer: SocketAddr) -> Self {
        let log = office.log().session(session);
        Self {
            office,
            visitor: Visitor::new(log, peer),
            entrance: None,
            maildrop: None,
            reading: None,
            spool: None,
            command: String::new(),
        }
    }

    /// Gives the session a place that it holds until a mailbox is open.
    #[must_use]
    pub fn at_entrance(mut self, place: Option<OwnedSemaphorePermit>) -> Self {
        self.entrance = place;
        self
    }

    /// The session's log.
    #[must_use]
    pub fn log(&self) -> &SessionLog {
        &self.visitor.log
    }

    async fn enter(&mut self, entry: Entry) -> Answer {
        match entry {
            Entry::LoggedIn(user) => self.open(user).await,
            Entry::BadCredentials => Answer::BadCredentials,
            Entry::TooManyLogins => Answer::TooManyLogins,
            Entry::TryLater => Answer::TryLater,
        }
    }

    async fn open_by_name(&mut self, name: &str) -> Answer {
        match self.office.credentials().find(name) {
            Ok(Some(user)) => self.open(user).await,
            Ok(None) => Answer::NoSuchUser,
            Err(error) => self.try_later("open", &error),
        }
    }

    async fn open(&mut self, user: UserName) -> Answer {
        let store = Arc::clone(self.office.store());
        let name = user.clone();
        // A large mailbox takes a while.
        let opened = tokio::task::spawn_blocking(move || open(&*store, name)).await;
        match opened {
            Ok(Ok(Opened::Maildrop(maildrop, octets))) => {
                self.visitor.log.opened(&user, octets.len());
                self.maildrop = Some(maildrop);
                self.entrance = None;
                Answer::Opened { user, octets }
            }
            Ok(Ok(Opened::InUse)) => Answer::InUse,
            Ok(Err(error)) => self.try_later("open", &error),
            Err(error) => self.try_later("open", &error),
        }
    }

    async fn reopen(&mut self) -> Answer {
        let store = Arc::clone(self.office.store());
        let reopened = self.with_maildrop(move |maildrop| {
            let (mailbox, octets) = read(&*store, &maildrop.user)?;
            maildrop.mailbox = Some(mailbox);
            maildrop.removed.clear();
            let user = maildrop.user.clone();
            Ok::<_, StoreError>(Answer::Opened { user, octets })
        });
        match reopened.await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => self.try_later("open", &error),
            None => Answer::TryLater,
        }
    }

    fn users(&self) -> Answer {
        match self.office.credentials().list() {
            Ok(mut users) => {
                users.sort_by_key(UserName::key);
                Answer::Users(users)
            }
            Err(error) => self.try_later("users", &error),
        }
    }

    /// Does something with the open mailbox, aside; `None` if there is none.
    async fn with_maildrop<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Maildrop) -> R + Send + 'static,
    ) -> Option<R> {
        let (maildrop, result) = aside(self.maildrop.take()?, work).await;
        self.maildrop = Some(maildrop);
        Some(result)
    }

    async fn unique_ids(&mut self, numbers: Vec<usize>) -> Answer {
        let unique_ids = self.with_maildrop(move |maildrop| {
            let mailbox = maildrop.mailbox.as_ref()?;
            let unique_ids = numbers.iter().map(|&number| mailbox.unique_id(number));
            unique_ids.collect()
        });
        let unique_ids = unique_ids.await.flatten();
        unique_ids.map_or(Answer::TryLater, Answer::UniqueIds)
    }

    async fn read(&mut self, number: usize) -> Answer {
        let read = self.with_maildrop(move |maildrop| {
            let mailbox = maildrop.mailbox.as_ref()?;
            let reading = mailbox.read(number).transpose()?;
            Some(reading.and_then(|mut reading| Ok((piece(&mut *reading)?, reading))))
        });
        match read.await.flatten() {
            Some(read) => self.has_read(read),
            None => Answer::TryLater,
        }
    }

    async fn read_on(&mut self) -> Answer {
        let Some(reading) = self.reading.take() else {
            return Answer::TryLater;
        };
        let (reading, read) = aside(reading, |reading| piece(&mut **reading)).await;
        self.has_read(read.map(|piece| (piece, reading)))
    }

    /// Gives out a piece of a message, and keeps the message for the next.
    fn has_read(&mut self, read: Result<(Piece, Box<dyn Reading>), StoreError>) -> Answer {
        match read {
            Ok(((text, is_last), reading)) => {
                self.reading = (!is_last).then_some(reading);
                Answer::Text { text, is_last }
            }
            Err(error) => self.try_later("read", &error),
        }
    }

    async fn remove(&mut self, numbers: Vec<usize>, is_over: bool) -> Answer {
        let (store, count) = (Arc::clone(self.office.store()), numbers.len());
        let removed = self.with_maildrop(move |maildrop| {
            let missing = maildrop.remove(&*store, &numbers, is_over)?;
            Ok::<_, StoreError>((missing, maildrop.user.clone()))
        });
        let Some(removed) = removed.await else {
            return Answer::TryLater;
        };
        match removed {
            Ok((missing, user)) if missing.is_empty() => {
                self.visitor.log.removed(&user, count);
                Answer::Accept
            }
            Ok((missing, _)) => {
                let reason = format!("no messages {missing:?} any more");
                self.try_later("remove", &reason)
            }
            Err(error) => self.try_later("remove", &error),
        }
    }

    async fn close(&mut self, numbers: Vec<usize>) -> Answer {
        self.reading = None;
        let answer = if numbers.is_empty() {
            Answer::Accept
        } else {
            self.remove(numbers, true).await
        };
        // Before the reply: who hears it may come again at once.
        self.maildrop = None;
        answer
    }

    fn recipient(&self, name: &str) -> Answer {
        match self.office.named(name) {
            Ok(found) => found.map_or(Answer::NoSuchUser, Answer::Recipient),
            Err(error) => self.try_later("recipient", &error),
        }
    }

    /// Keeps a piece of a text, after the header section that it gets.
    async fn take_text(&mut self, letter: &mut Letter, is_whole: bool) -> Result<(), AppendError> {
        let text = std::mem::take(&mut letter.text);
        let (spool, text) = match self.spool.take() {
            Some(spool) => (spool, text),
            None => {
                let mut whole = header(&self.office, letter, &text, is_whole);
                whole.extend_from_slice(&text);
                (self.office.store().spool(), whole)
            }
        };
        let (spool, pushed) = push(spool, text).await;
        self.spool = Some(spool);
        pushed.map_err(|error| AppendError::from_disk("the spool file", &error))
    }

    async fn text(&mut self, mut letter: Letter) -> Answer {
        match self.take_text(&mut letter, false).await {
            Ok(()) => Answer::Accept,
            Err(error) => {
                self.visitor.log.failed("spool", &error);
                refusal(&error)
            }
        }
    }

    async fn deliver(&mut self, mut letter: Letter) -> Answer {
        let taken = self.take_text(&mut letter, true).await;
        let Some(spool) = self.spool.take().filter(|_| taken.is_ok()) else {
            let error = taken.err();
            return error.map_or(Answer::TryLater, |error| {
                self.visitor.log.failed("spool", &error);
                refusal(&error)
            });
        };
        let (id, received) = (self.office.message_id(), self.office.arrival());
        let peer = self.visitor.peer.ip();
        let client_name = match peer.to_canonical() {
            std::net::IpAddr::V4(address) => format!("[{address}]"),
            std::net::IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        let sender = address(&self.office, &letter.sender);
        let recipient = address(&self.office, &letter.recipient);
        let reverse_path = sender.map_or(ReversePath::Null, ReversePath::Address);
        let recipient: Arc<str> = recipient.as_ref().map_or_else(|| "".into(), Arc::from);
        let trace = Trace {
            client_name: &client_name,
            peer,
            hostname: self.office.hostname(),
            protocol: "POP3",
            id: &id,
            recipient: Some(&recipient),
            received: &received.internet_date,
        };
        let message = Message {
            trace: trace.fields(&reverse_path),
            reverse_path,
            recipients: [(letter.recipient, recipient)].into(),
            received: received.mailbox_date,
            text: spool,
        };
        let log = &self.visitor.log;
        match self.office.file(message, &id, letter.octets, log).await {
            Ok(()) => Answer::Delivered,
            Err(error) => refusal(&error),
        }
    }

    fn try_later(&self, what: &str, error: &dyn std::fmt::Display) -> Answer {
        self.visitor.log.failed(what, error);
        Answer::TryLater
    }
}

impl Owner<Session> for Clerk {
    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Login(login) => {
                let entry = self.office.door().login(login, &mut self.visitor).await;
                self.enter(entry).await
            }
            Question::Keys(user) => match self.office.door().keys(user, &self.visitor).await {
                Ok(offer) => Answer::Keys(offer),
                Err(entry) => self.enter(entry).await,
            },
            Question::Proof(proof) => {
                let entry = self.office.door().proof(proof, &mut self.visitor).await;
                self.enter(entry).await
            }
            Question::Open(name) => self.open_by_name(&name).await,
            Question::Users => self.users(),
            Question::Add(name) => add(&self.office, &self.visitor.log, name).await,
            Question::UniqueIds(numbers) => self.unique_ids(numbers).await,
            Question::Read(number) => self.read(number).await,
            Question::ReadOn => self.read_on().await,
            Question::Reopen => self.reopen().await,
            Question::Remove(number) => self.remove(vec![number], false).await,
            Question::Close(numbers) => self.close(numbers).await,
            Question::Recipient(name) => self.recipient(&name),
            Question::Text(letter) => self.text(letter).await,
            Question::Deliver(letter) => self.deliver(letter).await,
            Question::Discard => {
                self.spool = None;
                Answer::Accept
            }
        }
    }

    fn may_spin(&self) -> bool {
        self.office.may_spin()
    }

    fn event(&mut self, event: Event) {
        let log = &self.visitor.log;
        match event {
            Event::Command(command) => {
                log.command(&command);
                self.command = command.to_string();
            }
            Event::Malformed(line) => {
                log.command(&line);
                self.command = line;
            }
            Event::AuthResponse => "(response)".clone_into(&mut self.command),
            Event::Content(_) => "(message)".clone_into(&mut self.command),
            Event::Secured(version) => log.secured(version),
            Event::Reply(reply) if reply.is_ok() => log.reply(&reply),
            Event::Reply(reply) => log.refused(&self.command, &reply),
        }
    }
}

impl Maildrop {
    /// Removes messages, durably. Gives those that are not there.
    fn remove(
        &mut self,
        store: &dyn Store,
        numbers: &[usize],
        is_over: bool,
    ) -> Result<Vec<usize>, StoreError> {
        let Some(mailbox) = &self.mailbox else {
            return Ok(numbers.to_vec());
        };
        let now = numbers.iter().map(|&number| {
            let seen = mailbox.seen(number)?;
            Some(Seen {
                number: self.number_now(number),
                ..seen
            })
        });
        let Some(now) = now.collect::<Option<Vec<Seen>>>() else {
            return Ok(numbers.to_vec());
        };
        if is_over {
            // Who reads keeps a mailbox from being changed in its place.
            self.mailbox = None;
        }
        let missing = store.expunge(&self.user, &now)?;
        if missing.is_empty() {
            self.removed.extend_from_slice(numbers);
            self.removed.sort_unstable();
        }
        Ok(missing)
    }

    /// The number that a message has in the store by now.
    fn number_now(&self, number: usize) -> usize {
        number - self.removed.partition_point(|&removed| removed < number)
    }
}

/// Why a user was not added.
#[derive(Debug, thiserror::Error)]
enum AddError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Password(#[from] crate::credentials::PasswordError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn open(store: &dyn Store, user: UserName) -> Result<Opened, StoreError> {
    let Some(lock) = store.lock(&user)? else {
        return Ok(Opened::InUse);
    };
    let (mailbox, octets) = read(store, &user)?;
    let maildrop = Maildrop {
        user,
        mailbox: Some(mailbox),
        removed: Vec::new(),
        _lock: lock,
    };
    Ok(Opened::Maildrop(maildrop, octets))
}

/// The mailbox as it is now, and the sizes of all messages.
fn read(store: &dyn Store, user: &UserName) -> Result<(Box<dyn Mailbox>, Vec<u64>), StoreError> {
    let sizes = |mailbox: &dyn Mailbox| -> Option<Vec<u64>> {
        let numbers = 1..=mailbox.count();
        numbers.map(|number| mailbox.octets(number)).collect()
    };
    let mailbox = store.open(user)?;
    if let Some(octets) = sizes(&*mailbox) {
        return Ok((mailbox, octets));
    }
    // What is kept about it was damaged, and is made anew.
    let mailbox = store.open(user)?;
    let octets = sizes(&*mailbox).ok_or_else(|| StoreError::Io {
        action: "read",
        path: user.to_string(),
        source: io::ErrorKind::InvalidData.into(),
    })?;
    Ok((mailbox, octets))
}

/// Adds a user whose password nobody knows: `users passwd` gives them one.
async fn add(office: &Office, log: &SessionLog, name: UserName) -> Answer {
    let try_later = |error: &dyn std::fmt::Display| {
        log.failed("add", error);
        Answer::TryLater
    };
    match office.credentials().find(name.as_str()) {
        Ok(None) => {}
        Ok(Some(user)) => return Answer::Exists(user),
        Err(error) => return try_later(&error),
    }
    let store = Arc::clone(office.store());
    let user = name.clone();
    let added = office.door().in_turn(move |credentials| {
        let password = PasswordHash::nobodys()?;
        credentials.add(&user, &password)?;
        if let Err(error) = store.create(&user) {
            // Half a user is none: whoever asked is told that it failed.
            drop(credentials.remove(user.as_str()));
            return Err(error.into());
        }
        Ok::<_, AddError>(())
    });
    match added.await {
        Ok(Ok(())) => {
            log.user_added(&name);
            Answer::Accept
        }
        Ok(Err(AddError::Credentials(CredentialsError::Exists { name }))) => Answer::Exists(name),
        Ok(Err(AddError::Credentials(CredentialsError::Reserved { .. }))) => Answer::Reserved,
        Ok(Err(error)) => try_later(&error),
        Err(error) => try_later(&error),
    }
}

/// A piece of a message, and whether it is the last.
type Piece = (Vec<u8>, bool);

/// The next piece. A small message is all one piece.
fn piece(reading: &mut dyn Reading) -> Result<Piece, StoreError> {
    let mut text = Vec::new();
    while text.len() < PIECE_OCTETS_MIN {
        if !reading.next(&mut text)? {
            return Ok((text, true));
        }
    }
    Ok((text, false))
}

/// The header section of a letter, and the empty line. Where From, To and Subject say it all there
/// is no Date: the store notes when it came.
fn header(office: &Office, letter: &Letter, text: &[u8], is_whole: bool) -> Vec<u8> {
    let is_simple = is_whole && text.is_ascii();
    let charset = (!is_simple).then(|| draft::charset(text));
    let subject = letter.subject.as_deref().unwrap_or_default();
    let mut section = match (
        address(office, &letter.sender),
        address(office, &letter.recipient),
    ) {
        (Some(from), Some(to)) => draft::fields(&from, &to, subject, charset),
        _ => Vec::new(),
    };
    if !is_simple {
        let date = internet_date(&clock::now());
        section.extend_from_slice(format!("Date: {date}\n").as_bytes());
    }
    section.push(b'\n');
    section
}

/// A user's address. Quoted, every user name can be a local part.
fn address(office: &Office, user: &UserName) -> Option<Address> {
    let quoted = user.as_str().replace('\\', "\\\\").replace('"', "\\\"");
    Address::parse(&format!("\"{quoted}\"@{}", office.domain())).ok()
}

fn refusal(error: &AppendError) -> Answer {
    match error {
        AppendError::NoSpace(_) => Answer::NoSpace,
        AppendError::Failed(_) | AppendError::Loop(_) => Answer::TryLater,
        AppendError::Unknown(_) => Answer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::CredentialsFile;
    use crate::disk::SimulatedDisk;
    use crate::mailbox::memory::MemoryStore;
    use crate::maillog::{Level, Log};
    use crate::server::delivery::Policy;

    fn office(store: Arc<dyn Store>) -> Arc<Office> {
        let credentials = Arc::new(CredentialsFile::new(Arc::new(SimulatedDisk::default())));
        let log = Log::new(Level::Warning, Box::new(io::sink()));
        let hostname = "mx.example".to_owned();
        Arc::new(Office::new(
            Policy::default(),
            hostname,
            credentials,
            store,
            log,
        ))
    }

    fn name(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    fn letter(to: &str, subject: Option<&str>, text: &str) -> Letter {
        Letter {
            sender: name("Bob"),
            recipient: name(to),
            subject: subject.map(str::to_owned),
            text: text.into(),
            octets: text.len() as u64,
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        crate::server::runtime().unwrap().block_on(future)
    }

    #[test]
    fn what_send_takes_is_a_message() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut clerk = Clerk::new(office(Arc::clone(&store)), 1, ([127, 0, 0, 1], 9).into());
        let odd = name("a\"b\\c");
        run(async {
            for (letter, stored) in [
                (
                    letter("Andrew", Some("Hi"), "text\n"),
                    "From: Bob@localhost\nTo: Andrew@localhost\nSubject: Hi\nReceived: ",
                ),
                (
                    letter("Andrew", None, ""),
                    "From: Bob@localhost\nTo: Andrew@localhost\nSubject: \nReceived: ",
                ),
                (
                    letter("Andrew", Some("Grüße"), "ü\n"),
                    "From: Bob@localhost\nTo: Andrew@localhost\nSubject: Grüße\nReceived: ",
                ),
                (
                    letter(odd.as_str(), None, "x\n"),
                    "From: Bob@localhost\nTo: \"a\\\"b\\\\c\"@localhost\n",
                ),
            ] {
                let user = letter.recipient.clone();
                let is_plain = letter.text.is_ascii();
                assert_eq!(clerk.deliver(letter).await, Answer::Delivered, "{stored}");
                let mailbox = store.open(&user).unwrap();
                let mut record = Vec::new();
                mailbox.copy(mailbox.count(), &mut record).unwrap();
                let record = String::from_utf8(record).unwrap();
                assert!(record.starts_with(stored), "{record}");
                assert_eq!(!record.contains("Return-Path"), is_plain, "{record}");
            }
            let piece = letter("Carol", Some("Long"), &"line\n".repeat(20_000));
            assert_eq!(
                clerk.answer(Question::Text(piece.clone())).await,
                Answer::Accept
            );
            assert_eq!(
                clerk.answer(Question::Deliver(piece)).await,
                Answer::Delivered
            );
            let carol = store.open(&name("Carol")).unwrap();
            assert!(carol.octets(1).unwrap() > 2 * 20_000 * 6);
        });
    }

    #[test]
    fn numbers_stay_while_messages_go() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut clerk = Clerk::new(office(Arc::clone(&store)), 1, ([127, 0, 0, 1], 9).into());
        run(async {
            for subject in ["1", "2", "3", "4", "5"] {
                clerk.deliver(letter("Andrew", Some(subject), "")).await;
            }
            let opened = clerk.open(name("Andrew")).await;
            assert!(matches!(opened, Answer::Opened { octets, .. } if octets.len() == 5));
            let mut other = Clerk::new(Arc::clone(&clerk.office), 2, clerk.visitor.peer);
            assert_eq!(other.open(name("Andrew")).await, Answer::InUse);
            assert_eq!(clerk.answer(Question::Remove(2)).await, Answer::Accept);
            assert_eq!(clerk.answer(Question::Remove(4)).await, Answer::Accept);
            let read = clerk.answer(Question::Read(3)).await;
            assert!(
                matches!(read, Answer::Text { text, .. } if text.windows(10).any(|w| w == b"Subject: 3"))
            );
            other.deliver(letter("Andrew", Some("6"), "")).await;
            assert_eq!(
                clerk.answer(Question::Close(vec![1, 5])).await,
                Answer::Accept
            );
            let mailbox = store.open(&name("Andrew")).unwrap();
            let subjects: Vec<_> = (1..=mailbox.count())
                .map(|n| mailbox.summary(n).unwrap().unwrap().subject)
                .collect();
            assert_eq!(subjects, ["3", "6"]);
            assert!(matches!(
                other.open(name("Andrew")).await,
                Answer::Opened { .. }
            ));
        });
    }

    #[test]
    fn users_are_added_with_a_password_that_nobody_knows() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let office = office(Arc::clone(&store));
        let mut clerk = Clerk::new(Arc::clone(&office), 1, ([127, 0, 0, 1], 9).into());
        run(async {
            assert_eq!(clerk.open_by_name("Andrew").await, Answer::NoSuchUser);
            assert_eq!(
                clerk.answer(Question::Add(name("Andrew"))).await,
                Answer::Accept
            );
            assert_eq!(
                clerk.answer(Question::Add(name("ANDREW"))).await,
                Answer::Exists(name("Andrew"))
            );
            assert_eq!(
                clerk.answer(Question::Add(name("logincred.txt"))).await,
                Answer::Reserved
            );
            assert_eq!(clerk.users(), Answer::Users(vec![name("Andrew")]));
            assert_eq!(store.users().unwrap(), [name("Andrew")]);
            assert_eq!(clerk.recipient("andrew"), Answer::Recipient(name("Andrew")));
            assert_eq!(
                clerk.recipient("andrew+x@any"),
                Answer::Recipient(name("Andrew"))
            );
            assert_eq!(clerk.recipient("bob"), Answer::NoSuchUser);
            assert!(matches!(
                clerk.open_by_name("andrew").await,
                Answer::Opened { .. }
            ));
        });
    }
}
