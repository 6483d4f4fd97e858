//! The attacks on memory at the same time.

use super::{
    arena::{Arena, Check},
    connections, keys, pipeline,
    rounds::{Plan, Report, Turn},
    streams,
};
use crate::Result;

const SECONDS: f64 = 20.0;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let title = "keys, streams, pipeline and connections at the same time";
    let plan = Plan { name: "together", latency: false, title };
    let mut subject = arena.serve().await?;
    let quiet = Turn::take(arena, &subject, &[], arena.seconds()).await?;
    arena.connect_agents().await?;
    let (admin, reader) =
        (arena.attacker_key("admin:organization").await?, arena.attacker_key("agents:read").await?);
    let acts = [
        keys::act(subject.address, &admin, SECONDS),
        streams::act(subject.address, &reader, SECONDS),
        pipeline::act(subject.address, SECONDS),
        connections::act(subject.address, SECONDS),
    ];
    let attacked = Turn::take(arena, &subject, &acts, SECONDS).await?;
    let report = Report::new(arena, &mut subject, plan, quiet, attacked)?;
    subject.stop().await?;
    Ok(report.checks())
}
