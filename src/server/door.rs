//! The door: who may come in, and how often they may knock. One for all protocols.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::credentials::Credentials;
use crate::maillog::SessionLog;
use crate::sasl::Login;
use crate::user::UserName;

/// Logins that may wait for a processor; one more is told to try later.
const LOGINS_WAITING_MAX: usize = 64;
/// How long the answer to a wrong password is held back, times how often it was wrong.
const LOGIN_FAILURE_DELAY: Duration = Duration::from_secs(1);

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Door {
    credentials: Arc<dyn Credentials>,
    /// A password check takes a processor and 19 MiB for a while: no more at once than there
    /// are processors.
    turns: Semaphore,
    waiting: Semaphore,
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
            turns: Semaphore::new(processors),
            waiting: Semaphore::new(LOGINS_WAITING_MAX),
        }
    }

    /// Checks a password. The answer to a wrong one takes its time.
    pub(super) async fn login(&self, login: Login, visitor: &mut Visitor) -> Entry {
        let name = login.user.clone();
        let verify =
            move |credentials: &dyn Credentials| credentials.verify(&login.user, &login.password);
        match self.in_turn(verify).await {
            Ok(Ok(Some(user))) => {
                visitor.log.logged_in(&user);
                Entry::LoggedIn(user)
            }
            Ok(Ok(None)) => {
                visitor.log.login_failed(&name, visitor.peer);
                visitor.failures += 1;
                tokio::time::sleep(LOGIN_FAILURE_DELAY * visitor.failures).await;
                Entry::BadCredentials
            }
            Ok(Err(error)) => {
                visitor.log.failed("login", &error);
                Entry::TryLater
            }
            Err(busy) => {
                visitor.log.failed("login", &busy);
                Entry::TryLater
            }
        }
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

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many logins at once")]
pub(super) struct Busy;
