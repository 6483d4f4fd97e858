//! The view of connected agents as one stream each, which the client does not read.

use std::net::SocketAddr;

use super::{
    actor::Act,
    arena::{ATTACKERS, Arena, Check},
    client::{Link, get},
    rounds::{Plan, Report},
    unread::Unread,
};
use crate::Result;

const STREAMS: u32 = 600;
/// Time to open them all, a few at once, and to keep them for a while.
const SECONDS: f64 = 12.0;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan =
        Plan { name: "streams", latency: true, title: "600 streams of 2,500 connected agents, not read" };
    let mut subject = arena.serve().await?;
    let address = subject.address;
    let report = Report::take(arena, &mut subject, plan, async |arena: &mut Arena| {
        arena.connect_agents().await?;
        Ok(vec![act(address, &arena.attacker_key("agents:read").await?, SECONDS)])
    })
    .await?;
    subject.stop().await?;
    Ok(report.checks())
}

pub fn act(address: SocketAddr, key: &str, seconds: f64) -> Act {
    Act::Unread(Unread {
        address,
        sources: ATTACKERS,
        link: Link { receive_buffer: Some(4_096), segment: Some(1_460) },
        connections: STREAMS,
        requests: vec![get("/api/agents/connected", key)],
        opening: 8,
        until_accepted: true,
        seconds,
    })
}
