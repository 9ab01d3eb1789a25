//! Who failed to log in how often of late: by address and by user name, in memory that does not
//! grow.
//!
//! Nothing is kept of the names and addresses but a number that is different in every run. A table
//! has room for some thousands; where it is full, whoever failed longest ago is forgotten. One who
//! has so many addresses is not slowed down by address, but still by user.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Places in a table.
const PLACES: usize = 4096;
/// How many places there are for one number.
const WAYS: usize = 8;
/// A failure is forgotten after this time, one after the other.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// What one failure costs the next try.
const DELAY: Duration = Duration::from_secs(1);
/// The most that all of them together cost.
const DELAY_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(PLACES.is_multiple_of(WAYS));

/// Counts failures by some key.
#[derive(Debug)]
pub(super) struct Failures {
    hasher: RandomState,
    /// Empty before the first try.
    places: Mutex<Vec<Option<Place>>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    key: u64,
    count: u32,
    /// When one of them was last added or forgotten.
    changed: Instant,
    /// When the next try may be.
    next: Instant,
}

impl Failures {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            places: Mutex::default(),
        }
    }

    /// Notes a failure; says how long to hold back the answer.
    pub(super) fn note(&self, key: &impl Hash, now: Instant) -> Duration {
        self.with(key, now, |key, ways| {
            let new = Place {
                key,
                count: 0,
                changed: now,
                next: now,
            };
            let is_its = |place: &Option<Place>| place.is_some_and(|place| place.key == key);
            let place = if let Some(at) = ways.iter().position(is_its) {
                ways[at].get_or_insert(new)
            } else {
                let oldest = ways.iter_mut().min_by_key(|place| place.map(|p| p.changed));
                let Some(place) = oldest else { return DELAY };
                place.insert(new)
            };
            place.count = place.count.saturating_add(1);
            place.changed = now;
            let delay = delay(place.count);
            place.next = place.next.max(now + delay);
            delay
        })
    }

    /// How long to wait before the next try; `None` for who did not fail of late.
    pub(super) fn wait(&self, key: &impl Hash, now: Instant) -> Option<Duration> {
        self.with(key, now, |key, ways| {
            let place = ways.iter().flatten().find(|place| place.key == key)?;
            Some(place.next.saturating_duration_since(now))
        })
    }

    /// Looks at the places that a key may have, after what is old is forgotten.
    fn with<T>(
        &self,
        key: &impl Hash,
        now: Instant,
        look: impl FnOnce(u64, &mut [Option<Place>]) -> T,
    ) -> T {
        let key = self.hasher.hash_one(key);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.resize(PLACES, None);
        let sets = (PLACES / WAYS) as u64;
        let start = usize::try_from(key % sets).unwrap_or_default() * WAYS;
        let ways = &mut places[start..start + WAYS];
        for place in ways.iter_mut() {
            *place = place.and_then(|place| place.at(now));
        }
        look(key, ways)
    }
}

impl Place {
    /// What is left of it by now.
    fn at(mut self, now: Instant) -> Option<Self> {
        while self.count > 0 && now.saturating_duration_since(self.changed) >= FORGET_AFTER {
            self.count -= 1;
            self.changed += FORGET_AFTER;
        }
        (self.count > 0).then_some(self)
    }
}

fn delay(count: u32) -> Duration {
    DELAY.saturating_mul(count).min(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::limits::network;
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_failure_costs_a_second_more_up_to_ten() {
        let (failures, now) = (Failures::new(), Instant::now());
        assert_eq!(failures.wait(&"a", now), None);
        for count in 1..=12 {
            assert_eq!(failures.note(&"a", now), seconds(count.min(10)));
            assert_eq!(failures.wait(&"a", now), Some(seconds(count.min(10))));
        }
        assert_eq!(failures.wait(&"b", now), None);
    }

    #[test]
    fn a_try_that_is_no_failure_costs_nothing() {
        let (failures, now) = (Failures::new(), Instant::now());
        failures.note(&"a", now);
        failures.note(&"a", now);
        for _ in 0..3 {
            assert_eq!(failures.wait(&"a", now + seconds(1)), Some(seconds(1)));
            assert_eq!(failures.wait(&"a", now + seconds(2)), Some(seconds(0)));
        }
    }

    #[test]
    fn failures_are_forgotten_one_a_minute() {
        let (failures, now) = (Failures::new(), Instant::now());
        for _ in 0..3 {
            failures.note(&"a", now);
        }
        assert_eq!(failures.note(&"a", now + seconds(119)), seconds(3));
        // The clock of forgetting began again.
        assert_eq!(failures.note(&"a", now + seconds(119 + 180)), seconds(1));
        let long_after = now + seconds(86_400);
        assert_eq!(failures.wait(&"a", long_after), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_and_not_the_latest_place() {
        let (failures, now) = (Failures::new(), Instant::now());
        for number in 0..100_000_u32 {
            failures.note(&number, now + Duration::from_micros(number.into()));
        }
        let end = now + Duration::from_millis(100);
        let wait = failures.wait(&99_999_u32, end).unwrap();
        assert!(wait > Duration::ZERO, "{wait:?}");
        assert_eq!(failures.places.lock().unwrap().len(), PLACES);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
