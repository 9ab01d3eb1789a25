//! How many may be here at once, and how long they may take to leave.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::is_local;

/// Connections at once from one address where nothing else is said.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 50;
/// How long it may take to stop: containers wait for ten seconds, and kill.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(9);
/// How much of that sessions leave to the store.
pub(super) const CLOSE_TIME_MIN: Duration = Duration::from_secs(1);
/// How long to wait when the system has no file handle for another connection.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it may take to tell a connection that there are too many.
pub(super) const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are seen out at once; others are told too, and closed.
const TURNED_AWAY_MAX: usize = 256;
/// Of how many places sessions of POP3 that have not logged in may take one.
const LOGIN_SHARE: usize = 2;
/// IPv6 addresses are counted by networks, for a host has many (RFC 4291 §2.5.4).
const IPV6_NETWORK_BITS: u32 = 64;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    max: usize,
    logins: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    addresses: Arc<Addresses>,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _address: Option<AddressPlace>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// There are too many connections in all.
    All,
    /// There are too many from this address.
    Address,
}

impl Places {
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(max)),
            max,
            logins: Arc::new(Semaphore::new((max / LOGIN_SHARE).max(1))),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            addresses: Arc::new(Addresses {
                max: per_address_max,
                counts: Mutex::default(),
            }),
        }
    }

    /// Takes a place for a peer. This machine may have any number.
    pub(super) fn take(&self, peer: SocketAddr) -> Result<Place, Full> {
        let place = Arc::clone(&self.all).try_acquire_owned();
        let place = place.map_err(|_| Full::All)?;
        let address = match counted_by(peer) {
            None => None,
            Some(address) => Some(Addresses::take(&self.addresses, address).ok_or(Full::Address)?),
        };
        Ok(Place {
            _place: place,
            _address: address,
        })
    }

    /// Takes a place among those who have not logged in.
    pub(super) fn take_before_login(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.logins).try_acquire_owned().ok()
    }

    /// Takes a place among those who are told that there is none.
    pub(super) fn take_outside(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turned_away).try_acquire_owned().ok()
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.max - self.all.available_permits()
    }

    /// Waits until nobody has one.
    pub(super) async fn empty(&self) {
        let everybody = u32::try_from(self.max).unwrap_or(u32::MAX);
        drop(self.all.acquire_many(everybody).await);
    }
}

/// How many connections there are from each address that has one.
#[derive(Debug)]
struct Addresses {
    max: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them.
#[derive(Debug)]
struct AddressPlace {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn take(this: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let mut counts = this.counts();
        let count = counts.entry(address).or_default();
        // One that is full is not zero: nothing is left behind.
        if *count >= this.max {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(AddressPlace {
            addresses: Arc::clone(this),
            address,
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What a peer's connections and failures are counted by; `None` for this machine itself.
pub(super) fn counted_by(peer: SocketAddr) -> Option<IpAddr> {
    (!is_local(peer)).then(|| network(peer.ip()))
}

/// What counts as one address.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - IPV6_NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let places = Places::new(5, 2);
        let take = |address: &str| places.take(SocketAddr::new(address.parse().unwrap(), 1));
        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").unwrap_err(), Full::Address);
        let _other = take("192.0.2.2").unwrap();
        drop(first);
        let _again = take("192.0.2.1").unwrap();
        let local = [take("127.0.0.1").unwrap(), take("::1").unwrap()];
        assert_eq!(take("127.0.0.1").unwrap_err(), Full::All);
        assert_eq!(places.taken(), 5);
        drop(local);
        assert_eq!(places.taken(), 3);
        assert_eq!(places.addresses.counts().len(), 2);
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let places = Places::new(9, 2);
        let take = |address: &str| places.take(SocketAddr::new(address.parse().unwrap(), 1));
        let _one = take("2001:db8::1").unwrap();
        let _two = take("2001:db8::2:0:0:1").unwrap();
        assert_eq!(take("2001:db8::3").unwrap_err(), Full::Address);
        let _three = take("2001:db8:0:1::1").unwrap();
    }
}
