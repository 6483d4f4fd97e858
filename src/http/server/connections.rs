//! How many connections there may be, in all and from one address.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::capacity::Capacity;
use crate::{
    http::{limits::network, remote_ip::Proxies},
    meter::{self, CloseReason},
};

/// The most connections of one process, whatever the machine.
const MAX_CONNECTIONS: u64 = 200_000;
/// The memory that a connection may cost at worst, buffers of the system included.
pub(super) const BYTES_PER_CONNECTION: u64 = 64 * 1024;

/// Settings: the most connections. `None` follows from what the system grants the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionLimits {
    /// In all.
    pub total: Option<usize>,
    /// From one address, or one IPv6 /64 network; 0 is no limit. Trusted proxies are exempt.
    pub per_address: Option<usize>,
}

impl ConnectionLimits {
    fn total(self, capacity: &Capacity) -> usize {
        let granted = (capacity.open_files / 10 * 8).min(capacity.memory_bytes / BYTES_PER_CONNECTION);
        self.total.unwrap_or_else(|| usize::try_from(granted.clamp(1, MAX_CONNECTIONS)).unwrap_or(usize::MAX))
    }
}

/// The connections that are open.
pub(super) struct Connections {
    max: usize,
    max_per_network: usize,
    proxies: Proxies,
    open: AtomicUsize,
    by_network: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits, capacity: &Capacity, proxies: Proxies) -> Arc<Self> {
        let max = limits.total(capacity);
        let max_per_network = match limits.per_address.unwrap_or(max.div_ceil(2)) {
            0 => usize::MAX,
            given => given,
        };
        Arc::new(Self {
            max,
            max_per_network,
            proxies,
            open: AtomicUsize::new(0),
            by_network: Mutex::default(),
        })
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection for as long as the result is kept.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Admitted, CloseReason> {
        let counted = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < self.max).then_some(open + 1));
        counted.map_err(|_| CloseReason::MaxConnections)?;
        meter::connection_opened();
        let mut admitted = Admitted { connections: Arc::clone(self), network: None };
        if self.max_per_network < usize::MAX && !self.proxies.trusts(peer.to_canonical()) {
            let network = network(peer);
            let mut by_network = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_network.entry(network).or_default();
            if *count >= self.max_per_network {
                return Err(CloseReason::MaxConnectionsPerAddress);
            }
            *count += 1;
            admitted.network = Some(network);
        }
        Ok(admitted)
    }

    fn leave(&self, network: IpAddr) {
        let mut by_network = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = by_network.entry(network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A connection that is counted.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    network: Option<IpAddr>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(network) = self.network {
            self.connections.leave(network);
        }
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        meter::connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(total: usize, per_address: usize, trusted: &str) -> Arc<Connections> {
        let limits = ConnectionLimits { total: Some(total), per_address: Some(per_address) };
        let proxies = Proxies { trusted: vec![trusted.parse().unwrap()], ..Proxies::default() };
        Connections::new(limits, &Capacity { open_files: 1, memory_bytes: 1 }, proxies)
    }

    fn from(connections: &Arc<Connections>, address: &str) -> Result<Admitted, CloseReason> {
        connections.admit(address.parse().unwrap())
    }

    #[test]
    fn limit_by_default_is_the_least_of_what_is_granted() {
        for (open_files, memory_bytes, expected) in [
            (1_000_000, u64::MAX, 200_000),
            (20_000, u64::MAX, 16_000),
            (1_000_000, 512 * 1024 * 1024, 8_192),
            (0, 0, 1),
        ] {
            let limits = ConnectionLimits::default();
            assert_eq!(limits.total(&Capacity { open_files, memory_bytes }), expected);
        }
    }

    #[test]
    fn connections_beyond_the_total_are_refused_until_one_ends() {
        let connections = connections(2, 0, "10.0.0.1");
        let first = from(&connections, "192.0.2.1").unwrap();
        let _second = from(&connections, "192.0.2.1").unwrap();
        assert_eq!(from(&connections, "192.0.2.2").err(), Some(CloseReason::MaxConnections));
        drop(first);
        assert!(from(&connections, "192.0.2.2").is_ok());
        assert_eq!(connections.open(), 1);
    }

    #[test]
    fn connections_are_counted_by_address_ipv6_by_network_proxies_not() {
        let connections = connections(100, 2, "10.0.0.0/8");
        let refused = Some(CloseReason::MaxConnectionsPerAddress);
        for [one, same, other] in [
            ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"],
            ["2001:db8:0:1::1", "2001:db8:0:1:ffff::", "2001:db8:0:2::1"],
        ] {
            let held = [from(&connections, one).unwrap(), from(&connections, same).unwrap()];
            assert_eq!(from(&connections, one).err(), refused);
            assert!(from(&connections, other).is_ok());
            drop(held);
            assert!(from(&connections, one).is_ok());
        }
        let proxied: Vec<_> = (0..50).map(|_| from(&connections, "::ffff:10.1.2.3").unwrap()).collect();
        assert_eq!(connections.open(), proxied.len());
        drop(proxied);
        assert!(connections.by_network.lock().unwrap().is_empty());
    }
}
