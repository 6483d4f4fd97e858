//! Where a request comes from, when proxies stand between.
//!
//! The socket's peer is believed and nothing else is, unless it is a proxy that the operator trusts. Then one
//! header counts, the other never does, and it is read from the right: each trusted hop vouches for the entry
//! to its left, up to the first address that is nobody's proxy. That is the client. All to the left of it is
//! what the client wrote, and is never looked at: not even its quotes and commas change how the entries to
//! the right of them are read.
//!
//! An entry that is no address (`unknown`, an obfuscated name, nonsense) ends the walk at the hop that vouched
//! for it: the nearest address that is known for certain. So does the header's end.

use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use ipnet::{IpNet, Ipv4Net};

/// How many bits of an IPv6 address say that it is an IPv4 one.
const MAPPED_BITS: u8 = 96;

/// The header that trusted proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`
    #[default]
    XForwardedFor,
    /// `Forwarded`, as RFC 7239 has it.
    Forwarded,
}

/// Addresses of proxies that are trusted: one, or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range(IpNet);

impl FromStr for Range {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip)));
        net.map(|net| Self(unmapped(net))).map_err(|_| "must be an address or a range of them, as 10.0.0.0/8")
    }
}

/// Addresses are compared as what they are shown as: IPv4-mapped ones as IPv4.
fn unmapped(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(net) if net.prefix_len() >= MAPPED_BITS => net
            .addr()
            .to_ipv4_mapped()
            .and_then(|address| Ipv4Net::new(address, net.prefix_len() - MAPPED_BITS).ok())
            .map_or(IpNet::V6(net), IpNet::V4),
        net => net,
    }
}

/// Which proxies are trusted, and how they say whom they speak for.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Where they are.
    pub trusted: Vec<Range>,
    /// What they write.
    pub header: ForwardedHeader,
}

impl Proxies {
    /// The client's address: the right-most one that is no trusted proxy's.
    pub fn remote_ip(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = peer.to_canonical();
        if !self.trusts(nearest) {
            return nearest;
        }
        for entry in self.entries(headers) {
            let Some(address) = entry else { break };
            nearest = address;
            if !self.trusts(nearest) {
                break;
            }
        }
        nearest
    }

    /// Whether a trusted proxy has this address, given in its canonical form.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|Range(net)| net.contains(&address))
    }

    /// The entries of all the header's lines, the last one first; `None` is one that holds no address.
    fn entries<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = Option<IpAddr>> + use<'h> {
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::XForwardedFor => (HeaderName::from_static("x-forwarded-for"), address),
            ForwardedHeader::Forwarded => (FORWARDED, forwarded_for),
        };
        let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        lines
            .into_iter()
            .rev()
            .flat_map(|line| split_from_right(line, b','))
            .filter(|entry| !entry.is_empty())
            .map(move |entry| read(std::str::from_utf8(entry).ok()?))
    }
}

/// The parts of a text, the last one first, without the blanks around them. A separator within quotes is
/// none; and since quotes are counted from the right, an open one on the left cannot swallow what follows it.
fn split_from_right(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let cut = text.iter().enumerate().rev().find(|&(at, byte)| {
            quoted ^= *byte == b'"' && !is_escaped(text, at);
            *byte == separator && !quoted
        });
        let (left, part) = match cut {
            Some((at, _)) => (text.get(..at), text.get(at + 1..)),
            None => (None, Some(text)),
        };
        rest = left;
        part.map(<[u8]>::trim_ascii)
    })
}

fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The one `for` of an element such as `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = split_from_right(element.as_bytes(), b';').filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let value = found.next()?;
    if found.next().is_some() {
        return None;
    }
    address(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address with or without a port; IPv6 stands in brackets where there is a port.
fn address(node: &str) -> Option<IpAddr> {
    let address = if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        IpAddr::V6(address.parse().ok()?)
    } else if let Some((address, _)) = node.split_once(':').filter(|(_, port)| is_port(port)) {
        IpAddr::V4(address.parse::<Ipv4Addr>().ok()?)
    } else {
        node.parse().ok()?
    };
    Some(address.to_canonical())
}

/// A port's number, or the name that a proxy gives out in its place.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests;
