//! Answers an SMTP session's questions from the credentials and the store.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use crate::address::{Address, ForwardPath, ReversePath};
use crate::clock;
use crate::credentials::{Credentials, CredentialsError};
use crate::digits::push_number;
use crate::mailbox::spool::Spool;
use crate::mailbox::{AppendError, Message, Recipients, Store};
use crate::maillog::{Log, SessionLog};
use crate::message::trace::{Arrival, Trace};
use crate::net::drive::Owner;
use crate::sasl::Mechanism;
use crate::smtp::Event;
use crate::smtp::command::Command;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::server::{Answer, Delivery, Question, Session};
use crate::user::UserName;

use super::arrivals::Arrivals;
use super::door::{Door, Entry, Visitor};
use super::{aside, processors};

/// More than the name of a message mostly takes.
const ID_OCTETS: usize = 32;
/// In how many batches the messages are stored of sessions that all send one after the other: while one
/// is stored, the next is taken. All in one would have everybody wait for everybody.
const BATCHES: usize = 8;
/// A message that is stored for each recipient by itself is stored for so many at once.
const COPIES_MAX: usize = 50;

/// Whose mail is taken.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Our domains; with none, every domain is ours (as in NITC's lab).
    pub domains: Vec<String>,
    /// Who gets mail for users that do not exist.
    pub catch_all: Option<String>,
}

impl Policy {
    /// Whether mail to an address is for us.
    pub(super) fn is_ours(&self, address: &Address) -> bool {
        let mut domains = self.domains.iter();
        self.domains.is_empty()
            || domains.any(|domain| domain.eq_ignore_ascii_case(address.domain()))
    }
}

/// What all sessions share.
#[derive(Debug)]
pub struct Office {
    policy: Arc<Policy>,
    hostname: String,
    credentials: Arc<dyn Credentials>,
    store: Arc<dyn Store>,
    /// Begun with the first message.
    outcomes: OnceLock<Outcomes>,
    log: Log,
    door: Door,
    arrivals: Arrivals,
    messages: AtomicU64,
    /// Messages that are appended and not committed.
    appended: AtomicUsize,
    /// How many sessions there are, of all protocols.
    present: AtomicUsize,
    /// A client may run at the same time as we.
    has_several_processors: bool,
}

impl Office {
    /// Opens.
    #[must_use]
    pub fn new(
        policy: Policy,
        hostname: String,
        credentials: Arc<dyn Credentials>,
        store: Arc<dyn Store>,
        log: Log,
    ) -> Self {
        let policy = Arc::new(policy);
        Self {
            door: Door::new(Arc::clone(&credentials), Arc::clone(&policy)),
            policy,
            hostname,
            credentials,
            store,
            outcomes: OnceLock::new(),
            log,
            arrivals: Arrivals::default(),
            messages: AtomicU64::new(0),
            appended: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            has_several_processors: processors() > 1,
        }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A session begins; it lasts until what is given back is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Presence {
        self.present.fetch_add(1, Ordering::Relaxed);
        Presence(Arc::clone(self))
    }

    pub(super) fn credentials(&self) -> &dyn Credentials {
        &*self.credentials
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    /// The ways to log in that may be offered now.
    pub(super) fn mechanisms(&self) -> &'static [Mechanism] {
        self.door.mechanisms()
    }

    pub(super) fn hostname(&self) -> &str {
        &self.hostname
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The domain of addresses that we make up.
    pub(super) fn domain(&self) -> &str {
        self.policy
            .domains
            .first()
            .map_or("localhost", String::as_str)
    }

    /// The user that a name or an address of ours belongs to.
    pub(super) fn named(&self, name: &str) -> Result<Option<UserName>, CredentialsError> {
        match (self.credentials.find(name)?, Address::parse(name)) {
            (None, Ok(address)) if self.policy.is_ours(&address) => self.user_of(&address),
            (found, _) => Ok(found),
        }
    }

    /// Stores a message and waits until that is durable or has failed; logs which.
    pub(super) async fn file(
        &self,
        message: Message,
        id: &str,
        octets: u64,
        log: &SessionLog,
    ) -> Result<(), AppendError> {
        let filing = self.append(message);
        self.commit().await;
        filing.settle(id, octets, log).await
    }

    /// Hands a message to the store, which may hold it back until [`Office::commit`].
    fn append(&self, message: Message) -> Filing {
        let reverse_path = message.reverse_path.clone();
        let recipients = Arc::clone(&message.recipients);
        let (sender, outcome) = oneshot::channel();
        let outcomes = self.outcomes.get_or_init(Outcomes::begin).clone();
        self.store.append(
            message,
            Box::new(move |stored| outcomes.tell(sender, stored)),
        );
        Filing {
            reverse_path,
            recipients,
            outcome,
        }
    }

    fn present(&self) -> usize {
        self.present.load(Ordering::Relaxed)
    }

    /// Whether a client may be waited for without sleeping.
    pub(super) fn may_spin(&self) -> bool {
        self.has_several_processors && self.present() == 1
    }

    async fn commit(&self) {
        let present = self.present();
        let appended = self.appended.fetch_add(1, Ordering::Relaxed) + 1;
        if present > 1 && appended * BATCHES < present {
            // Whoever else is ready now gets stored with the same sync: the runtime comes back here
            // once it has nothing else to do.
            tokio::task::yield_now().await;
        }
        self.appended.store(0, Ordering::Relaxed);
        self.store.commit(present == 1);
    }

    /// The host's own postmaster, for whom it takes mail whatever its domains are (RFC 5321 §4.5.1).
    fn is_our_postmaster(&self, address: &Address) -> bool {
        is_postmaster(address) && address.domain().eq_ignore_ascii_case(&self.hostname)
    }

    /// The user that an address belongs to: the local part, or what stands before its `+`.
    fn user_of(&self, address: &Address) -> Result<Option<UserName>, CredentialsError> {
        let name = address.local_part();
        if let Some(user) = self.credentials.find(name)? {
            return Ok(Some(user));
        }
        match name.split_once('+') {
            Some((untagged, _)) => self.credentials.find(untagged),
            None => Ok(None),
        }
    }

    fn recipient(&self, path: &ForwardPath) -> Result<Answer, CredentialsError> {
        let found = match path {
            ForwardPath::Postmaster => self.postmaster()?,
            ForwardPath::Address(address) if self.policy.is_ours(address) => {
                match self.user_of(address)? {
                    None if is_postmaster(address) => self.postmaster()?,
                    None => self.catch_all()?,
                    user => user,
                }
            }
            ForwardPath::Address(address) if self.is_our_postmaster(address) => {
                self.postmaster()?
            }
            ForwardPath::Address(_) => return Ok(Answer::NotOurs),
        };
        Ok(found.map_or(Answer::NoSuchUser, Answer::Recipient))
    }

    fn catch_all(&self) -> Result<Option<UserName>, CredentialsError> {
        match &self.policy.catch_all {
            None => Ok(None),
            Some(name) => self.credentials.find(name),
        }
    }

    /// Somebody always reads the postmaster's mail (RFC 5321 §4.5.1).
    fn postmaster(&self) -> Result<Option<UserName>, CredentialsError> {
        if let Some(user) = self.credentials.find("postmaster")? {
            return Ok(Some(user));
        }
        if let Some(user) = self.catch_all()? {
            return Ok(Some(user));
        }
        Ok(self.credentials.list()?.into_iter().next())
    }

    fn sender(
        &self,
        path: &ReversePath,
        login: Option<&UserName>,
        peer: SocketAddr,
    ) -> Result<Answer, CredentialsError> {
        let Some(address) = path.address() else {
            return Ok(Answer::Accept);
        };
        if login.is_none() && crate::net::is_local(peer) {
            return Ok(Answer::Accept);
        }
        let owner = if self.policy.is_ours(address) {
            match self.user_of(address)? {
                // Where domains are named, theirs alone; else every domain's postmaster is ours.
                None if !self.policy.domains.is_empty() && is_postmaster(address) => {
                    self.postmaster()?
                }
                owner => owner,
            }
        } else if self.is_our_postmaster(address) {
            self.postmaster()?
        } else {
            None
        };
        Ok(match (login, owner) {
            (None, None) => Answer::Accept,
            (None, Some(_)) => Answer::LoginFirst,
            (Some(user), Some(owner)) if *user == owner => Answer::Accept,
            (Some(_), _) => Answer::NotYours,
        })
    }

    /// A name for a message: when it came, and a number that makes it the only one.
    pub(super) fn message_id(&self) -> String {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let mut id = String::with_capacity(ID_OCTETS);
        push_number::<16>(&mut id, clock::unix_micros().cast_unsigned());
        id.push('.');
        push_number::<16>(&mut id, number);
        id
    }

    /// The time now, for a message that is taken.
    pub(super) fn arrival(&self) -> Arrival {
        self.arrivals.now()
    }
}

/// What became of messages, on the way from the thread that stores them to the sessions'. To wake that
/// one takes a system call, and one does for all messages that were stored together.
#[derive(Clone, Debug)]
struct Outcomes(mpsc::UnboundedSender<(oneshot::Sender<Outcome>, Outcome)>);

type Outcome = Result<(), AppendError>;

impl Outcomes {
    /// Begins to pass them on.
    fn begin() -> Self {
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some((session, outcome)) = outcomes.recv().await {
                tell(session, outcome);
            }
        });
        Self(sender)
    }

    fn tell(&self, session: oneshot::Sender<Outcome>, outcome: Outcome) {
        if tokio::task::try_id().is_some() {
            // In a session, which is alone.
            tell(session, outcome);
        } else if let Err(unsent) = self.0.send((session, outcome)) {
            let (session, outcome) = unsent.0;
            tell(session, outcome);
        }
    }
}

fn tell(session: oneshot::Sender<Outcome>, outcome: Outcome) {
    // Whoever is gone by then does not want to know.
    drop(session.send(outcome));
}

/// A message that the store has.
#[derive(Debug)]
struct Filing {
    reverse_path: ReversePath,
    recipients: Recipients,
    outcome: oneshot::Receiver<Outcome>,
}

impl Filing {
    /// Waits until it is durable or has failed; logs which.
    async fn settle(self, id: &str, octets: u64, log: &SessionLog) -> Result<(), AppendError> {
        let stored = self
            .outcome
            .await
            .unwrap_or_else(|closed| Err(AppendError::Unknown(closed.to_string())));
        let users = self.recipients.iter().map(|(user, _)| user);
        match &stored {
            Ok(()) => log.delivered(id, &self.reverse_path, users, octets),
            Err(error) => log.not_delivered(id, &self.reverse_path, users, error),
        }
        stored
    }
}

/// A session is there.
#[derive(Debug)]
pub(super) struct Presence(Arc<Office>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The owner of one session.
#[derive(Debug)]
pub struct Clerk {
    office: Arc<Office>,
    visitor: Visitor,
    spool: Option<Spool>,
    /// What the next reply is to, for the log.
    said: Said,
    /// The last MAIL was refused, so that what was sent ahead behind it is refused too.
    is_sender_refused: bool,
}

/// Something a client said, written out only when somebody wants to know.
#[derive(Debug)]
enum Said {
    Command(Command),
    Text(&'static str),
    Words(String),
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command) => command.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::Words(words) => f.write_str(words),
        }
    }
}

impl Clerk {
    /// Serves the session of that number.
    #[must_use]
    pub fn new(office: Arc<Office>, session: u64, peer: SocketAddr) -> Self {
        let log = office.log.session(session);
        Self {
            office,
            visitor: Visitor::new(log, peer),
            spool: None,
            said: Said::Text(""),
            is_sender_refused: false,
        }
    }

    /// The session's log.
    #[must_use]
    pub fn log(&self) -> &SessionLog {
        &self.visitor.log
    }

    async fn take_text(&mut self, text: Vec<u8>) -> Answer {
        let (spool, pushed) = push(self.take_spool(), text).await;
        self.spool = Some(spool);
        match pushed {
            Ok(()) => Answer::Accept,
            Err(error) => self.no_spool(&error),
        }
    }

    fn no_spool(&self, error: &io::Error) -> Answer {
        let error = AppendError::from_disk("the spool file", error);
        self.visitor.log.failed("spool", &error);
        refusal(&error)
    }

    async fn deliver(&mut self, delivery: Delivery) -> Answer {
        let id = self.office.message_id();
        let spool = self.take_spool();
        let recipients = self.recipients(&delivery);
        let is_only = delivery.recipients.len() == 1;
        let message = self.message(&delivery, &id, is_only, recipients, spool);
        let log = &self.visitor.log;
        match self.office.file(message, &id, delivery.octets, log).await {
            Ok(()) => Answer::Delivered(id),
            Err(error) => refusal(&error),
        }
    }

    /// Stores a message for each recipient by itself.
    async fn deliver_each(&mut self, delivery: Delivery) -> Answer {
        if delivery.recipients.len() == 1 {
            return Answer::Each(vec![self.deliver(delivery).await]);
        }
        let mut spool = self.take_spool();
        if spool.is_too_large_to_copy() {
            let moved;
            (spool, moved) = aside(spool, Spool::move_to_file).await;
            if let Err(error) = moved {
                return Answer::Each(vec![self.no_spool(&error); delivery.recipients.len()]);
            }
        }
        let id = self.office.message_id();
        let log = &self.visitor.log;
        let mut outcomes = HashMap::new();
        for group in self.recipients(&delivery).chunks(COPIES_MAX) {
            let filings: Vec<Filing> = group
                .iter()
                .map(|recipient| {
                    let only = [recipient.clone()].into();
                    let message = self.message(&delivery, &id, true, only, spool.copy());
                    self.office.append(message)
                })
                .collect();
            self.office.commit().await;
            for (filing, (user, _)) in filings.into_iter().zip(group) {
                let answer = match filing.settle(&id, delivery.octets, log).await {
                    Ok(()) => Answer::Delivered(id.clone()),
                    Err(error) => refusal(&error),
                };
                outcomes.insert(user.clone(), answer);
            }
        }
        let outcome = |(_, user): &(_, UserName)| outcomes.get(user).cloned();
        let outcomes = delivery.recipients.iter().filter_map(outcome);
        Answer::Each(outcomes.collect())
    }

    fn take_spool(&mut self) -> Spool {
        let spool = self.spool.take();
        spool.unwrap_or_else(|| self.office.store.spool())
    }

    fn message(
        &self,
        delivery: &Delivery,
        id: &str,
        is_for_one: bool,
        recipients: Recipients,
        text: Spool,
    ) -> Message {
        let received = self.office.arrival();
        let trace = Trace {
            client_name: &delivery.client_name,
            peer: self.visitor.peer.ip(),
            hostname: &self.office.hostname,
            protocol: delivery.protocol,
            id,
            recipient: match &*recipients {
                [(_, address)] if is_for_one => Some(address),
                _ => None,
            },
            received: &received.internet_date,
        };
        Message {
            trace: trace.fields(&delivery.reverse_path),
            reverse_path: delivery.reverse_path.clone(),
            recipients,
            received: received.mailbox_date,
            text,
        }
    }

    /// Each user once, with the first address that was given for them (a user may have many).
    fn recipients(&self, delivery: &Delivery) -> Recipients {
        let recipient = |(path, user): &(ForwardPath, UserName)| {
            let address = match path.address() {
                Some(address) => address.into(),
                None => format!("postmaster@{}", self.office.hostname).into(),
            };
            (user.clone(), address)
        };
        if let [only] = &delivery.recipients[..] {
            return [recipient(only)].into();
        }
        let mut seen = HashSet::new();
        let recipients = delivery.recipients.iter();
        recipients
            .filter(|(_, user)| seen.insert(user))
            .map(recipient)
            .collect()
    }

    fn try_later(&self, what: &str, error: &dyn std::fmt::Display) -> Answer {
        self.visitor.log.failed(what, error);
        Answer::TryLater
    }

    /// Logs a reply: a refusal where something is refused, not where that has its consequences.
    fn replied(&mut self, reply: &Reply) {
        let is_refused = matches!(reply.severity(), Severity::Transient | Severity::Permanent);
        let is_consequence = match &self.said {
            Said::Command(Command::Mail(..)) => {
                self.is_sender_refused = is_refused;
                false
            }
            Said::Command(Command::Rcpt(..) | Command::Data) => {
                *reply == Reply::NO_VALID_RECIPIENTS
                    || *reply == Reply::NO_RECIPIENTS_NOW
                    || self.is_sender_refused
                        && (*reply == Reply::MAIL_FIRST || *reply == Reply::LOGIN_REQUIRED)
            }
            _ => false,
        };
        if is_refused && !is_consequence {
            self.visitor.log.refused(&self.said.to_string(), reply);
        } else {
            self.visitor.log.reply(reply);
        }
    }
}

impl Owner<Session> for Clerk {
    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Login(login) => self
                .office
                .door
                .login(login, &mut self.visitor)
                .await
                .into(),
            Question::Keys(user) => match self.office.door.keys(user, &self.visitor).await {
                Ok(offer) => Answer::Keys(offer),
                Err(entry) => entry.into(),
            },
            Question::Proof(proof) => self
                .office
                .door
                .proof(proof, &mut self.visitor)
                .await
                .into(),
            Question::Sender(path, login) => {
                let answer = self.office.sender(&path, login.as_ref(), self.visitor.peer);
                answer.unwrap_or_else(|error| self.try_later("sender", &error))
            }
            Question::Recipient(path) => {
                let answer = self.office.recipient(&path);
                answer.unwrap_or_else(|error| self.try_later("recipient", &error))
            }
            Question::Text(text) => self.take_text(text).await,
            Question::Deliver(delivery) => self.deliver(delivery).await,
            Question::DeliverEach(delivery) => self.deliver_each(delivery).await,
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
        match event {
            Event::Command(command) => {
                self.visitor.log.command(&command);
                self.said = Said::Command(command);
            }
            Event::Malformed(line) => {
                self.visitor.log.command(&line);
                self.said = Said::Words(line);
            }
            Event::AuthResponse => self.said = Said::Text("(response)"),
            Event::Content(_) => self.said = Said::Text("(message)"),
            Event::Text(_) | Event::Silence => {}
            Event::Secured(version) => self.visitor.log.secured(version),
            Event::Reply(reply) => self.replied(&reply),
        }
    }
}

impl From<Entry> for Answer {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::LoggedIn(user) => Self::LoggedIn(user),
            Entry::BadCredentials => Self::BadCredentials,
            Entry::TooManyLogins => Self::TooManyLogins,
            Entry::TryLater => Self::TryLater,
        }
    }
}

/// Adds text to what is there, in another thread where that uses the disk.
pub(super) async fn push(mut spool: Spool, text: Vec<u8>) -> (Spool, io::Result<()>) {
    if spool.will_write(text.len()) {
        return aside(spool, move |spool| spool.push(&text)).await;
    }
    let pushed = spool.push_owned(text);
    (spool, pushed)
}

fn is_postmaster(address: &Address) -> bool {
    address.local_part().eq_ignore_ascii_case("postmaster")
}

fn refusal(error: &AppendError) -> Answer {
    match error {
        AppendError::NoSpace(_) => Answer::NoSpace,
        AppendError::Failed(_) => Answer::TryLater,
        AppendError::Unknown(_) => Answer::Unknown,
        AppendError::Loop(_) => Answer::Loop,
    }
}
