//! What the kernel holds for TCP, and which connections to the program under test there are.

use std::{collections::HashSet, fs, net::SocketAddr};

/// As `/proc/net/tcp` writes it.
const ESTABLISHED: &str = "01";

/// Memory of all TCP sockets of this host in megabytes.
pub fn tcp_megabytes() -> f64 {
    const PAGE_KIB: f64 = 4.0;
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = line.split_once(" mem ").and_then(|(_, pages)| pages.trim().parse::<f64>().ok());
    pages.unwrap_or_default() * PAGE_KIB / 1024.0
}

/// Established connections of the server at `address` from the addresses 127.0.`third`.0/24.
pub fn established(address: SocketAddr, third: u8) -> usize {
    let local = format!(":{:04X}", address.port());
    // Addresses are written as one number in the byte order of the machine.
    let peers = u32::from_ne_bytes([127, 0, third, 0]);
    let mask = u32::from_ne_bytes([255, 255, 255, 0]);
    let text = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    // The kernel may list a connection twice while others come and go.
    let mut found = HashSet::new();
    for line in text.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(own), Some(peer), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let host = peer.split(':').next().and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let is_attacker = host.is_some_and(|host| host & mask == peers);
        if own.ends_with(&local) && state == ESTABLISHED && is_attacker {
            found.insert(peer);
        }
    }
    found.len()
}
