//! A public path that asks the database.

use super::{
    actor::Act,
    arena::{ATTACKERS, Arena, Check},
    client::get,
    paced::{Paced, Requests},
    rounds::{Plan, Report},
};
use crate::Result;

const CONNECTIONS: u32 = 9_000;
/// On each connection one request in this many seconds, the first of all at once.
const EVERY_SECONDS: f64 = 3.0;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan = Plan { name: "readyz", latency: true, title: "9,000 connections on /readyz" };
    let mut subject = arena.serve().await?;
    let act = Act::Paced(Paced {
        address: subject.address,
        sources: ATTACKERS,
        connections: CONNECTIONS,
        requests: Requests::Texts(vec![get("/readyz", "")]),
        rate: Some(f64::from(CONNECTIONS) / EVERY_SECONDS),
        together: true,
        most: None,
        seconds: arena.seconds(),
        hold: false,
    });
    let report = Report::take(arena, &mut subject, plan, async |_| Ok(vec![act.clone()])).await?;
    subject.stop().await?;
    Ok(report.checks())
}
