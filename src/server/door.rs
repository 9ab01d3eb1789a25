//! The door: who may come in, and how often they may knock. One for all protocols.
//!
//! Every wrong password makes its session, its user and its address slower. What is told about an
//! unknown user, and when, is what is told about a wrong password.
//!
//! An address that failed gets its tries one after the other, however many connections it has; who
//! would wait too long is told to come again later. A user who was failed at is not locked out:
//! only the answers to further wrong passwords take longer. This machine itself is not slowed down
//! by address or user, since many people and tests may share it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::credentials::{Credentials, CredentialsError};
use crate::maillog::SessionLog;
use crate::sasl::{Login, Mechanism, Proof, scram};
use crate::secret;
use crate::user::UserName;

use super::failures::Failures;
use super::limits::counted_by;

/// Logins that may wait for a processor; one more is told to try later.
const LOGINS_WAITING_MAX: usize = 64;
/// How long the answer to a wrong password is held back, times how often it was wrong.
const LOGIN_FAILURE_DELAY: Duration = Duration::from_secs(1);
/// Passwords that are checked at once: each takes a processor and 19 MiB for a while.
const TURNS_MAX: usize = 4;
/// How long a try may have to wait for the tries before it from the same address.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Door {
    credentials: Arc<dyn Credentials>,
    /// No more at once than there are processors.
    turns: Semaphore,
    waiting: Semaphore,
    by_address: Failures,
    by_user: Failures,
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
    TryLater,
}

impl Door {
    pub(super) fn new(credentials: Arc<dyn Credentials>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            credentials,
            turns: Semaphore::new(processors.min(TURNS_MAX)),
            waiting: Semaphore::new(LOGINS_WAITING_MAX),
            by_address: Failures::new(),
            by_user: Failures::new(),
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
    pub(super) async fn login(&self, login: Login, visitor: &mut Visitor) -> Entry {
        let name = login.user.clone();
        let verify =
            move |credentials: &dyn Credentials| credentials.verify(&login.user, &login.password);
        match self.check(visitor, verify).await {
            Some(Some(user)) => welcome(user, visitor),
            Some(None) => self.turn_away(&name, visitor).await,
            None => Entry::TryLater,
        }
    }

    /// Finds what a user proves a password with; `None` if there is no telling now.
    pub(super) async fn keys(&self, user: String, visitor: &Visitor) -> Option<scram::Offer> {
        let find = move |credentials: &dyn Credentials| credentials.scram_keys(&user);
        let keys = self.check(visitor, find).await?;
        match secret::random() {
            Ok(nonce) => Some(scram::Offer { keys, nonce }),
            Err(error) => {
                visitor.log.failed("login", &error);
                None
            }
        }
    }

    /// Hears what came of a proof. The answer to a wrong one takes its time.
    pub(super) async fn proof(&self, proof: Proof, visitor: &mut Visitor) -> Entry {
        if !proof.is_right {
            return self.turn_away(&proof.user, visitor).await;
        }
        match self.credentials.find(&proof.user) {
            Ok(Some(user)) => welcome(user, visitor),
            // Removed in the meantime.
            Ok(None) => self.turn_away(&proof.user, visitor).await,
            Err(error) => {
                visitor.log.failed("login", &error);
                Entry::TryLater
            }
        }
    }

    /// Asks the credentials something that takes a while, when it is this visitor's turn. What
    /// fails is logged.
    async fn check<T: Send + 'static>(
        &self,
        visitor: &Visitor,
        work: impl FnOnce(&dyn Credentials) -> Result<T, CredentialsError> + Send + 'static,
    ) -> Option<T> {
        if let Some(address) = visitor.address() {
            let turn = self.by_address.turn(&address, Instant::now(), PATIENCE);
            let Some(wait) = turn else {
                visitor.log.failed("login", &TooManyFailures(visitor.peer));
                return None;
            };
            tokio::time::sleep(wait).await;
        }
        match self.in_turn(work).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => visitor.log.failed("login", &error),
            Err(busy) => visitor.log.failed("login", &busy),
        }
        None
    }

    async fn turn_away(&self, user: &str, visitor: &mut Visitor) -> Entry {
        visitor.log.login_failed(user, visitor.peer);
        visitor.failures += 1;
        let mut delay = LOGIN_FAILURE_DELAY * visitor.failures;
        if let Some(address) = visitor.address() {
            let now = Instant::now();
            let by_user = self.by_user.note(&user.to_lowercase(), now);
            delay = delay.max(by_user).max(self.by_address.note(&address, now));
        }
        tokio::time::sleep(delay).await;
        Entry::BadCredentials
    }

    /// Does what takes a processor and memory for a while, when it is its turn.
    ///
    /// # Errors
    ///
    /// Too many wait already, or it panicked.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Credentials) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let _place = self.waiting.try_acquire().map_err(|_| Busy)?;
        let _turn = self.turns.acquire().await.map_err(|_| Busy)?;
        let credentials = Arc::clone(&self.credentials);
        let worked = tokio::task::spawn_blocking(move || work(&*credentials));
        worked.await.map_err(|_| Busy)
    }
}

fn welcome(user: UserName, visitor: &Visitor) -> Entry {
    visitor.log.logged_in(&user);
    Entry::LoggedIn(user)
}

/// Why a password was not even looked at.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many failed logins from {}", .0.ip())]
struct TooManyFailures(SocketAddr);

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many logins at once")]
pub(super) struct Busy;
