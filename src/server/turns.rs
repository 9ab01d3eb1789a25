//! Whose try at a password is next, among all from one address.
//!
//! A guess counts when it is known to be wrong. What is under way by then would pass for free, so
//! only a few tries are under way at once from an address that did not fail, and one from an
//! address that did. The others wait in the order they came; how many those are is limited by how
//! many connections an address may have.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Tries under way at once from an address that did not fail of late.
pub(super) const TRIES_MAX: u32 = 4;
/// How many users are known to have logged in.
const KNOWN_MAX: usize = 4096;

/// The queues of all addresses from which somebody tries.
#[derive(Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<IpAddr, Queue>>>);

#[derive(Debug)]
struct Queue {
    /// Those who wait and those whose turn it is.
    visitors: usize,
    turns: Arc<Semaphore>,
}

/// A try that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _place: Place,
}

/// A place in the queue of an address, which is there as long as somebody has one.
#[derive(Debug)]
struct Place {
    queues: Arc<Mutex<HashMap<IpAddr, Queue>>>,
    address: IpAddr,
}

impl Turns {
    /// Waits for a turn: for being the only one if the address has failed by then. `None` when
    /// there are none any more.
    pub(super) async fn take(
        &self,
        address: IpAddr,
        has_failed: impl Fn() -> bool,
    ) -> Option<Turn> {
        let (place, turns) = self.enter(address);
        loop {
            let is_alone = has_failed();
            let wanted = if is_alone { TRIES_MAX } else { 1 };
            let turn = Arc::clone(&turns).acquire_many_owned(wanted).await.ok()?;
            // What came out while this one waited holds for it too.
            if is_alone || !has_failed() {
                return Some(Turn {
                    _turn: turn,
                    _place: place,
                });
            }
        }
    }

    fn enter(&self, address: IpAddr) -> (Place, Arc<Semaphore>) {
        let mut queues = lock(&self.0);
        let queue = queues.entry(address).or_insert_with(|| Queue {
            visitors: 0,
            turns: Arc::new(Semaphore::new(TRIES_MAX as usize)),
        });
        queue.visitors += 1;
        let turns = Arc::clone(&queue.turns);
        drop(queues);
        let queues = Arc::clone(&self.0);
        (Place { queues, address }, turns)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get_mut(&self.address) {
            queue.visitors -= 1;
            if queue.visitors == 0 {
                queues.remove(&self.address);
            }
        }
    }
}

fn lock(queues: &Mutex<HashMap<IpAddr, Queue>>) -> MutexGuard<'_, HashMap<IpAddr, Queue>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who logged in from where, and was not failed at from there since: the next try of such a user
/// waits for nobody, whoever else guesses at that address. Some thousands, in memory that does not
/// grow; where two fall on one place the later one has it.
#[derive(Debug)]
pub(super) struct Known {
    hasher: RandomState,
    places: Mutex<Box<[Option<u64>]>>,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            places: Mutex::new(vec![None; KNOWN_MAX].into_boxed_slice()),
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
        let has_failed = Cell::new(false);
        let take = || turns.take(address, || has_failed.get());
        let mut under_way = Vec::new();
        for _ in 0..TRIES_MAX {
            under_way.push(at_once(take()).await.unwrap());
        }
        assert!(at_once(take()).await.is_none());
        let other = turns.take(IpAddr::from([192, 0, 2, 2]), || false);
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
    async fn nothing_is_kept_of_who_left() {
        let (turns, address) = (Turns::default(), IpAddr::from([192, 0, 2, 1]));
        let alone = at_once(turns.take(address, || true)).await;
        assert!(at_once(turns.take(address, || true)).await.is_none());
        assert_eq!(lock(&turns.0).len(), 1);
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
