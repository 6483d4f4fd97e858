//! Requests within one workspace's allowance, all at once.

use std::net::SocketAddr;

use super::{
    actor::Act,
    arena::{ATTACKER_LABEL, ATTACKERS, Arena, Check},
    client::get,
    paced::{Paced, Requests},
    rounds::{Plan, Report},
};
use crate::Result;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    // The search reads every agent of the workspace, since the label fits all and the tag none.
    let search = format!("/api/agents?label={ATTACKER_LABEL}&tag=absent");
    let mut checks = Vec::new();
    for (name, title, path, connections) in [
        ("burst", "1,100 requests at once", "/api/agents?limit=100", 1_100),
        ("slow searches", "120 searches at once through all agents of the workspace", &*search, 120),
    ] {
        let plan = Plan { name, title, latency: true };
        let mut subject = arena.serve().await?;
        let (address, seconds) = (subject.address, arena.seconds());
        let report = Report::take(arena, &mut subject, plan, async |arena: &mut Arena| {
            let key = arena.attacker_key("agents:read").await?;
            Ok(vec![once(address, get(path, &key), connections, seconds)])
        })
        .await?;
        subject.stop().await?;
        checks.extend(report.checks());
    }
    Ok(checks)
}

fn once(address: SocketAddr, request: String, connections: u32, seconds: f64) -> Act {
    Act::Paced(Paced {
        address,
        sources: ATTACKERS,
        connections,
        requests: Requests::Texts(vec![request]),
        rate: None,
        together: true,
        most: Some(1),
        seconds,
        hold: false,
    })
}
