//! Places for what anybody may ask of a server: so many in all, and so many for one address.
//!
//! Invariant: one address never holds more than its share, so that it leaves places to all others; and an address that holds nothing
//! takes no memory.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::shares::{Share, Shares};
use crate::metrics;

/// A number of places for one kind of work; clones share them.
#[derive(Clone, Debug)]
pub struct ByAddress {
    kind: &'static str,
    all: Arc<Semaphore>,
    max_per_address: usize,
    shares: Shares<IpAddr>,
}

/// What has no place left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All places are taken.
    #[error("there are too many of these at once")]
    All,
    /// The address has as many as it may.
    #[error("there are too many of these at once from this address")]
    Address,
}

impl Full {
    /// Its name in metrics and in the metadata of errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

/// One place, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    _all: OwnedSemaphorePermit,
    _own: Share<IpAddr>,
}

impl ByAddress {
    /// `max` places, of which one address takes at most `max_per_address`; `kind` is what metrics call them.
    #[must_use]
    pub fn new(kind: &'static str, max: usize, max_per_address: usize) -> Self {
        let permits = |max: usize| max.min(Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(permits(max)));
        Self { kind, all, max_per_address: permits(max_per_address), shares: Shares::default() }
    }

    /// Takes a place, if there is one.
    ///
    /// # Errors
    /// What is full; a metric counts it.
    pub fn try_take(&self, address: IpAddr) -> Result<Place, Full> {
        let mut own = self.share(address);
        let place = match own.try_take() {
            false => Err(Full::Address),
            true => match Arc::clone(&self.all).try_acquire_owned() {
                Ok(all) => Ok(Place { _all: all, _own: own }),
                Err(_) => Err(Full::All),
            },
        };
        place.inspect_err(|full| self.count(*full))
    }

    /// Takes a place, for which it waits no longer than `wait`. Whoever waits is behind the others of its own address first, so that
    /// no address has more of the queue than its share.
    ///
    /// # Errors
    /// What was full all the time; a metric counts it.
    pub async fn take_within(&self, address: IpAddr, wait: Duration) -> Result<Place, Full> {
        let mut own = self.share(address);
        let mut full = Full::Address;
        let work = async {
            own.take().await;
            full = Full::All;
            Arc::clone(&self.all).acquire_owned().await.ok()
        };
        let all = timeout(wait, work).await.ok().flatten();
        match all {
            Some(all) => Ok(Place { _all: all, _own: own }),
            None => Err(full).inspect_err(|full| self.count(*full)),
        }
    }

    fn count(&self, full: Full) {
        metrics::REFUSED_BY_ADDRESS.with([self.kind, full.as_str()]).increment(1);
    }

    fn share(&self, address: IpAddr) -> Share<IpAddr> {
        self.shares.of(network(address), self.max_per_address)
    }
}

/// What counts as one address: in version 6 the network of 64 bits, which a provider gives to each of its customers.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_takes_its_share_and_leaves_the_others() {
        let places = ByAddress::new("test", 3, 2);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let held: Vec<_> = (0..2).map(|_| places.try_take(one).unwrap()).collect();
        assert_eq!(places.try_take(one).unwrap_err(), Full::Address);
        let last = places.try_take(other).unwrap();
        assert_eq!(places.try_take(other).unwrap_err(), Full::All);
        drop(held);
        let _again = [places.try_take(one).unwrap(), places.try_take(other).unwrap()];
        drop(last);
        assert_eq!(places.shares.len(), 2);
    }

    #[test]
    fn nothing_stays_of_who_is_gone() {
        let places = ByAddress::new("test", 1, 1);
        let held = places.try_take(address("192.0.2.1")).unwrap();
        for other in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            assert!(places.try_take(address(other)).is_err());
        }
        assert_eq!(places.shares.len(), 1, "of who was refused nothing stays");
        drop(held);
        assert_eq!(places.shares.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_place_that_becomes_free_and_gives_up_in_time() {
        let places = ByAddress::new("test", 2, 1);
        let (one, wait) = (address("192.0.2.1"), Duration::from_secs(2));
        let held = places.try_take(one).unwrap();
        let waiting = tokio::spawn({
            let places = places.clone();
            async move { places.take_within(one, wait).await.map(drop) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(places.try_take(address("192.0.2.2")).is_ok(), "its queue is in nobody's way");
        drop(held);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        let _held = places.try_take(one).unwrap();
        assert_eq!(places.take_within(one, wait).await.unwrap_err(), Full::Address);
        assert_eq!(places.shares.len(), 1);
    }

    #[test]
    fn a_network_of_version_6_is_one_address() {
        assert_eq!(network(address("2001:db8:1:2:aaaa::1")), network(address("2001:db8:1:2::7")));
        assert_ne!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:3::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
