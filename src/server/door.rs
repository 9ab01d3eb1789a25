//! The door: who may come in, and how often they may knock. One for all protocols.
//!
//! Every wrong password makes its session, its user and its address slower. What is told about an
//! unknown user, and when, is what is told about a wrong password.
//!
//! From one address only a few passwords are tried at once, and after a failure one after the
//! other, each when the failures before it have had their time: many connections gain nothing. A
//! right password costs nothing, and who waits too long is told to come again later. A user who
//! logged in from there before goes ahead. One who was failed at is not locked out: only the answers
//! to further wrong passwords take longer. This machine itself is not slowed down by address or
//! user, since many people and tests may share it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, watch};

use crate::address::Address;
use crate::credentials::{Credentials, CredentialsError};
use crate::maillog::SessionLog;
use crate::sasl::{Login, Mechanism, Proof, scram};
use crate::secret;
use crate::user::UserName;

use super::delivery::Policy;
use super::failures::Failures;
use super::limits::counted_by;
use super::processors;
use super::turns::{Known, Turn, Turns};

/// Logins that may wait for a processor; one more is told to try later.
const LOGINS_WAITING_MAX: usize = 64;
/// How long the answer to a wrong password is held back, times how often it was wrong.
const LOGIN_FAILURE_DELAY: Duration = Duration::from_secs(1);
/// Passwords that are checked at once: each takes a processor and 19 MiB for a while.
const CHECKS_MAX: usize = 4;
/// How long a try waits for those before it from the same address; clients wait longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Door {
    credentials: Arc<dyn Credentials>,
    policy: Arc<Policy>,
    /// No more at once than there are processors.
    processors: Semaphore,
    waiting: Semaphore,
    by_address: Failures,
    by_user: Failures,
    turns: Turns,
    known: Known,
    /// Somebody has become known.
    news: Notify,
    /// The server is about to end: nobody waits any more.
    is_closed: watch::Sender<bool>,
}

/// Somebody at the door: one session.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) log: SessionLog,
    pub(super) peer: SocketAddr,
    failures: u32,
}

impl Visitor {
    pub(super) fn new(log: SessionLog, peer: SocketAddr) -> Self {
        Self {
            log,
            peer,
            failures: 0,
        }
    }

    /// What failures are counted by; `None` for this machine itself.
    fn address(&self) -> Option<IpAddr> {
        counted_by(self.peer)
    }
}

/// What a login came to. It is logged by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    LoggedIn(UserName),
    BadCredentials,
    TooManyLogins,
    TryLater,
}

/// Leave to try a password.
#[derive(Debug)]
enum Leave {
    /// This machine needs none.
    Local,
    /// The user is known to log in from there.
    Known,
    /// It is the address's turn.
    Turn { _turn: Turn },
}

impl Door {
    pub(super) fn new(credentials: Arc<dyn Credentials>, policy: Arc<Policy>) -> Self {
        Self {
            credentials,
            policy,
            processors: Semaphore::new(processors().min(CHECKS_MAX)),
            waiting: Semaphore::new(LOGINS_WAITING_MAX),
            by_address: Failures::new(),
            by_user: Failures::new(),
            turns: Turns::default(),
            known: Known::new(),
            news: Notify::new(),
            is_closed: watch::Sender::new(false),
        }
    }

    /// The ways to log in that work for every user: a client takes the best one that it is offered,
    /// and does not try another when that is refused.
    pub(super) fn mechanisms(&self) -> &'static [Mechanism] {
        if self.credentials.has_scram_for_all().unwrap_or(false) {
            &Mechanism::ALL
        } else {
            &Mechanism::WITH_PASSWORD
        }
    }

    /// Checks a password. The answer to a wrong one takes its time.
    pub(super) async fn login(&self, mut login: Login, visitor: &mut Visitor) -> Entry {
        login.user = self.name(login.user);
        let name = login.user.clone();
        let Some(leave) = self.leave(&name, visitor).await else {
            return Entry::TooManyLogins;
        };
        let verify =
            move |credentials: &dyn Credentials| credentials.verify(&login.user, &login.password);
        match self.check(visitor, verify).await {
            Ok(Some(user)) => self.welcome(user, &name, visitor),
            Ok(None) => self.turn_away(&name, visitor, leave).await,
            Err(entry) => {
                self.give_back(&leave, &name, visitor);
                entry
            }
        }
    }

    /// Finds what a user proves a password with.
    ///
    /// # Errors
    ///
    /// There is no telling now.
    pub(super) async fn keys(
        &self,
        user: String,
        visitor: &Visitor,
    ) -> Result<scram::Offer, Entry> {
        let user = self.name(user);
        let name = user.clone();
        let leave = self.leave(&name, visitor).await;
        let leave = leave.ok_or(Entry::TooManyLogins)?;
        let find = move |credentials: &dyn Credentials| credentials.scram_keys(&user);
        let keys = self.check(visitor, find).await;
        // Nothing is tried yet.
        self.give_back(&leave, &name, visitor);
        let nonce = secret::random().map_err(|error| {
            visitor.log.failed("login", &error);
            Entry::TryLater
        });
        Ok(scram::Offer {
            keys: keys?,
            nonce: nonce?,
        })
    }

    /// Hears what came of a proof. It is told when its turn comes, as if it had been checked then,
    /// and the answer to a wrong one takes its time.
    pub(super) async fn proof(&self, mut proof: Proof, visitor: &mut Visitor) -> Entry {
        proof.user = self.name(proof.user);
        let Some(leave) = self.leave(&proof.user, visitor).await else {
            return Entry::TooManyLogins;
        };
        if !proof.is_right {
            return self.turn_away(&proof.user, visitor, leave).await;
        }
        match self.credentials.find(&proof.user) {
            Ok(Some(user)) => self.welcome(user, &proof.user, visitor),
            // Removed in the meantime.
            Ok(None) => self.turn_away(&proof.user, visitor, leave).await,
            Err(error) => {
                self.give_back(&leave, &proof.user, visitor);
                visitor.log.failed("login", &error);
                Entry::TryLater
            }
        }
    }

    /// The name of the user whom somebody says they are: many mail clients give the address, which no
    /// name can be.
    fn name(&self, given: String) -> String {
        match Address::parse(&given) {
            Ok(address) if self.policy.is_ours(&address) => address.local_part().to_owned(),
            _ => given,
        }
    }

    /// Waits for leave to try this user's password; `None` when that takes too long.
    async fn leave(&self, user: &str, visitor: &Visitor) -> Option<Leave> {
        let Some(address) = visitor.address() else {
            return Some(Leave::Local);
        };
        let user = user.to_lowercase();
        let wait = || self.by_address.wait(&address, Instant::now());
        let turn = async {
            let turn = self.turns.take(address, user.clone(), || wait().is_some());
            let turn = turn.await?;
            tokio::time::sleep(wait().unwrap_or_default()).await;
            Some(Leave::Turn { _turn: turn })
        };
        // Who opens several connections is known when the first one is let in.
        let known = async {
            loop {
                let news = self.news.notified();
                if self.known.take(&(address, &user)) {
                    return Some(Leave::Known);
                }
                news.await;
            }
        };
        let leave = async {
            tokio::select! {
                biased;
                leave = known => leave,
                leave = turn => leave,
                () = self.closed() => None,
            }
        };
        tokio::time::timeout(PATIENCE, leave).await.ok().flatten()
    }

    /// Makes as if this user's password had not been tried.
    fn give_back(&self, leave: &Leave, user: &str, visitor: &Visitor) {
        if matches!(leave, Leave::Known) {
            self.know(user, visitor);
        }
    }

    fn know(&self, user: &str, visitor: &Visitor) {
        if let Some(address) = visitor.address() {
            self.known.add(&(address, &user.to_lowercase()));
            self.news.notify_waiters();
        }
    }

    /// Asks the credentials something that takes a while. What fails is logged.
    async fn check<T: Send + 'static>(
        &self,
        visitor: &Visitor,
        work: impl FnOnce(&dyn Credentials) -> Result<T, CredentialsError> + Send + 'static,
    ) -> Result<T, Entry> {
        let failed = |error: &dyn std::fmt::Display| {
            visitor.log.failed("login", error);
            Entry::TryLater
        };
        match self.in_turn(work).await {
            Ok(worked) => worked.map_err(|error| failed(&error)),
            Err(Undone::Full) => Err(Entry::TooManyLogins),
            Err(panicked) => Err(failed(&panicked)),
        }
    }

    fn welcome(&self, user: UserName, name: &str, visitor: &Visitor) -> Entry {
        visitor.log.logged_in(&user);
        self.know(name, visitor);
        Entry::LoggedIn(user)
    }

    async fn turn_away(&self, user: &str, visitor: &mut Visitor, leave: Leave) -> Entry {
        visitor.log.login_failed(user, visitor.peer);
        visitor.failures += 1;
        let mut delay = LOGIN_FAILURE_DELAY * visitor.failures;
        if let Some(address) = visitor.address() {
            let now = Instant::now();
            let by_user = self.by_user.note(&user.to_lowercase(), now);
            delay = delay.max(by_user).max(self.by_address.note(&address, now));
        }
        // The next one waits for what was noted, not for this answer.
        drop(leave);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.closed() => {}
        }
        Entry::BadCredentials
    }

    /// Ends all waiting: a server that stops is not held up by who guesses.
    pub(super) fn close(&self) {
        self.is_closed.send_replace(true);
    }

    async fn closed(&self) {
        // The sender is here.
        drop(
            self.is_closed
                .subscribe()
                .wait_for(|is_closed| *is_closed)
                .await,
        );
    }

    /// Does what takes a processor and memory for a while, when it is its turn.
    ///
    /// # Errors
    ///
    /// Too many wait already, or it panicked.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Credentials) -> T + Send + 'static,
    ) -> Result<T, Undone> {
        let _place = self.waiting.try_acquire().map_err(|_| Undone::Full)?;
        let _processor = self.processors.acquire().await.map_err(|_| Undone::Full)?;
        let credentials = Arc::clone(&self.credentials);
        let worked = tokio::task::spawn_blocking(move || work(&*credentials));
        worked.await.map_err(|_| Undone::Panicked)
    }
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undone {
    #[error("too many logins at once")]
    Full,
    #[error("the check of a password panicked")]
    Panicked,
}
