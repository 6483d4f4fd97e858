//! Every key that is created costs a memory-hard hash.

use std::net::SocketAddr;

use super::{
    actor::Act,
    arena::{ATTACKERS, Arena, Check},
    client::post,
    paced::{Paced, Requests},
    rounds::{Plan, Report},
};
use crate::Result;

const CONNECTIONS: u32 = 600;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan = Plan { name: "keys", latency: true, title: "600 clients create API keys with one admin key" };
    let mut subject = arena.serve().await?;
    let (address, seconds) = (subject.address, arena.seconds());
    let report = Report::take(arena, &mut subject, plan, async |arena: &mut Arena| {
        Ok(vec![act(address, &arena.attacker_key("admin:organization").await?, seconds)])
    })
    .await?;
    subject.stop().await?;
    Ok(report.checks())
}

/// All at once, then each again as soon as it was answered.
pub fn act(address: SocketAddr, key: &str, seconds: f64) -> Act {
    let request = post("/api/user/api-keys", key, r#"{"name":"bench","scopes":["agents:read"]}"#);
    Act::Paced(Paced {
        address,
        sources: ATTACKERS,
        connections: CONNECTIONS,
        requests: Requests::Texts(vec![request]),
        rate: None,
        together: true,
        most: None,
        seconds,
        hold: false,
    })
}
