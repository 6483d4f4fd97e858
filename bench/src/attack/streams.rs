//! The view of connected agents as one stream each, which nobody takes.

use std::net::SocketAddr;

use super::{
    actor::Act,
    arena::{ATTACKERS, Arena, Check},
    client::get,
    rounds::{Plan, Report},
    unread::Unread,
};
use crate::Result;

const STREAMS: u32 = 400;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan =
        Plan { name: "streams", latency: true, title: "400 streams of 2,500 connected agents, not read" };
    let mut subject = arena.serve().await?;
    let (address, seconds) = (subject.address, arena.seconds());
    let report = Report::take(arena, &mut subject, plan, async |arena: &mut Arena| {
        arena.connect_agents().await?;
        Ok(vec![act(address, &arena.attacker_key("agents:read").await?, seconds)])
    })
    .await?;
    subject.stop().await?;
    Ok(report.checks())
}

pub fn act(address: SocketAddr, key: &str, seconds: f64) -> Act {
    Act::Unread(Unread {
        address,
        sources: ATTACKERS,
        connections: STREAMS,
        requests: vec![get("/api/agents/connected", key)],
        read_status: true,
        seconds,
    })
}
