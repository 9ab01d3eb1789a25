//! Whose try at a password is next, among all from one address.
//!
//! A guess counts when it is known to be wrong. What is under way by then would pass for free, so
//! only a few tries are under way at once from an address that did not fail, and one from an
//! address that did. Of all tries for one user one at a time waits for that, so that a program that
//! goes on with an old password keeps the others at its address waiting for one try and not for all.
//! Who waits does so in the order of coming; how many those are is limited by how many connections
//! an address may have.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Tries under way at once from an address that did not fail of late.
pub(super) const TRIES_MAX: u32 = 4;
/// How many users are known to have logged in.
const KNOWN_MAX: usize = 4096;

/// The queues of all addresses from which somebody tries, and of the users whom they try there.
#[derive(Debug, Default)]
pub(super) struct Turns(Arc<Mutex<Queues>>);

type Queues = HashMap<Key, Queue>;

/// An address, or a user at an address.
type Key = (IpAddr, Option<String>);

#[derive(Debug)]
struct Queue {
    /// Those who wait and those whose turn it is.
    visitors: usize,
    turns: Arc<Semaphore>,
}

/// A try that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_address: Front,
    _of_user: Front,
}

/// The front of a queue.
#[derive(Debug)]
struct Front {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

/// A place in a queue, which is there as long as somebody has one.
#[derive(Debug)]
struct Place {
    queues: Arc<Mutex<Queues>>,
    key: Key,
}

impl Turns {
    /// Waits for a turn to try a user's password: for being the only one if the address has failed by
    /// then. `None` when there are none any more.
    pub(super) async fn take(
        &self,
        address: IpAddr,
        user: String,
        has_failed: impl Fn() -> bool,
    ) -> Option<Turn> {
        Some(Turn {
            _of_user: self.front((address, Some(user)), || true).await?,
            _of_address: self.front((address, None), has_failed).await?,
        })
    }

    async fn front(&self, key: Key, is_for_one: impl Fn() -> bool) -> Option<Front> {
        let (place, turns) = self.enter(key);
        loop {
            let is_alone = is_for_one();
            let wanted = if is_alone { TRIES_MAX } else { 1 };
            let permit = Arc::clone(&turns).acquire_many_owned(wanted).await.ok()?;
            // What came out while this one waited holds for it too.
            if is_alone || !is_for_one() {
                return Some(Front {
                    _permit: permit,
                    _place: place,
                });
            }
        }
    }

    fn enter(&self, key: Key) -> (Place, Arc<Semaphore>) {
        let mut queues = lock(&self.0);
        let queue = queues.entry(key.clone()).or_insert_with(|| Queue {
            visitors: 0,
            turns: Arc::new(Semaphore::new(TRIES_MAX as usize)),
        });
        queue.visitors += 1;
        let turns = Arc::clone(&queue.turns);
        drop(queues);
        let queues = Arc::clone(&self.0);
        (Place { queues, key }, turns)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get_mut(&self.key) {
            queue.visitors -= 1;
            if queue.visitors == 0 {
                queues.remove(&self.key);
            }
        }
    }
}

fn lock(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who logged in from where, and was not failed at from there since: the next try of such a user
/// waits for nobody, whoever else guesses at that address. Some thousands, in memory that does not
/// grow; where two fall on one place the later one has it.
#[derive(Debug)]
pub(super) struct Known {
    hasher: RandomState,
    /// Empty before the first try.
    places: Mutex<Vec<Option<u64>>>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            places: Mutex::default(),
        }
    }

    /// Remembers one who logged in.
    pub(super) fn add(&self, who: &impl Hash) {
        self.with(who, |place, key| *place = Some(key));
    }

    /// Whether this one is known. It is forgotten: of many tries at once, one goes ahead.
    pub(super) fn take(&self, who: &impl Hash) -> bool {
        self.with(who, |place, key| {
            place.take_if(|known| *known == key).is_some()
        })
    }

    fn with<T>(&self, who: &impl Hash, look: impl FnOnce(&mut Option<u64>, u64) -> T) -> T {
        let key = self.hasher.hash_one(who);
        let at = usize::try_from(key % KNOWN_MAX as u64).unwrap_or_default();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.resize(KNOWN_MAX, None);
        look(&mut places[at], key)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The turn, if it comes at once.
    async fn at_once(turn: impl Future<Output = Option<Turn>>) -> Option<Turn> {
        tokio::select! {
            biased;
            turn = turn => turn,
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn a_few_at_once_and_after_a_failure_one() {
        let (turns, address) = (Turns::default(), IpAddr::from([192, 0, 2, 1]));
        let (has_failed, users) = (Cell::new(false), Cell::new(0));
        let take = || {
            users.set(users.get() + 1);
            turns.take(address, users.get().to_string(), || has_failed.get())
        };
        let mut under_way = Vec::new();
        for _ in 0..TRIES_MAX {
            under_way.push(at_once(take()).await.unwrap());
        }
        assert!(at_once(take()).await.is_none());
        let other = turns.take([192, 0, 2, 2].into(), String::new(), || false);
        assert!(at_once(other).await.is_some());

        // Who waits since before the failure is held to it all the same.
        let mut waiting = std::pin::pin!(take());
        assert!(at_once(waiting.as_mut()).await.is_none());
        has_failed.set(true);
        while under_way.len() > 1 {
            under_way.pop();
            assert!(at_once(waiting.as_mut()).await.is_none());
        }
        under_way.pop();
        let alone = at_once(waiting.as_mut()).await.unwrap();
        assert!(at_once(take()).await.is_none());
        drop(alone);
        assert!(at_once(take()).await.is_some());
    }

    #[tokio::test]
    async fn many_tries_for_one_user_are_one_in_the_queue() {
        let (turns, address) = (Turns::default(), IpAddr::from([192, 0, 2, 1]));
        let take = |user: &str| turns.take(address, user.to_owned(), || true);
        let first = at_once(take("a")).await.unwrap();
        let (mut second, mut third) = (std::pin::pin!(take("a")), std::pin::pin!(take("a")));
        assert!(at_once(second.as_mut()).await.is_none());
        assert!(at_once(third.as_mut()).await.is_none());
        let mut other = std::pin::pin!(take("b"));
        assert!(at_once(other.as_mut()).await.is_none());
        drop(first);
        let other = at_once(other).await.unwrap();
        assert!(at_once(second.as_mut()).await.is_none());
        drop(other);
        assert!(at_once(second).await.is_some());
        assert!(at_once(third).await.is_some());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_who_left() {
        let (turns, address) = (Turns::default(), IpAddr::from([192, 0, 2, 1]));
        let take = |user: &str| turns.take(address, user.to_owned(), || true);
        let alone = at_once(take("a")).await;
        assert!(at_once(take("a")).await.is_none());
        assert!(at_once(take("b")).await.is_none());
        assert_eq!(lock(&turns.0).len(), 2);
        drop(alone);
        assert_eq!(lock(&turns.0).len(), 0);
    }

    #[test]
    fn one_who_logged_in_goes_ahead_once() {
        let known = Known::new();
        assert!(!known.take(&"a"));
        known.add(&"a");
        assert!(known.take(&"a"));
        assert!(!known.take(&"a"));
    }
}
