//! Connections of strangers that send one request with a large body and stay.

use std::net::SocketAddr;

use tokio::time::{Duration, sleep};

use super::{
    actor::Act,
    arena::{ATTACKERS, Arena, Check},
    paced::{Paced, Requests},
    rounds::{Plan, Report, Turn},
};
use crate::{Result, report};

const CONNECTIONS: u32 = 17_000;
const BODY_BYTES: usize = 15_000;
const HOLD_SECONDS: f64 = 20.0;
const REST: Duration = Duration::from_secs(5);
/// Megabytes that may remain when all connections are gone.
const MAY_REMAIN: f64 = 128.0;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan =
        Plan { name: "connections", latency: false, title: "17,000 connections, each a body of 15 KB" };
    let mut subject = arena.serve().await?;
    let quiet = Turn::take(arena, &subject, &[], arena.seconds()).await?;
    let before = subject.resident();
    let acts = [act(subject.address, HOLD_SECONDS)];
    let attacked = Turn::take(arena, &subject, &acts, HOLD_SECONDS).await?;
    sleep(REST).await;
    let after = subject.resident();
    let report = Report::new(arena, &mut subject, plan, quiet, attacked)?;
    let row = vec![("before, MB", format!("{before:.0}")), ("after all are gone, MB", format!("{after:.0}"))];
    report::rows("connections: resident memory", &[row], arena.args.database.json)?;
    let mut checks = report.checks();
    let remains = after - before;
    let seen = if report.died() { "it ended".to_owned() } else { format!("{remains:.0} MB") };
    let freed = !report.died() && remains <= MAY_REMAIN;
    checks.push(plan.check("at most 128 MB remain when all are gone", seen, freed));
    subject.stop().await?;
    Ok(checks)
}

pub fn act(address: SocketAddr, seconds: f64) -> Act {
    Act::Paced(Paced {
        address,
        sources: ATTACKERS,
        connections: CONNECTIONS,
        requests: Requests::Forged { bytes: BODY_BYTES },
        rate: None,
        together: true,
        most: Some(1),
        seconds,
        hold: true,
    })
}
