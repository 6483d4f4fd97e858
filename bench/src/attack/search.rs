//! Whether the time of a search tells what the labels of other workspaces hold.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use planasonix::cli::output;

use super::{
    arena::{ATTACKER_LABEL, Arena, Check, label_agents, workspace},
    client::{Client, get},
    rounds::Plan,
};
use crate::{Result, report};

/// As long as the attacker's word; in no label at all.
const ABSENT_LABEL: &str = "qzhfrdqz";
/// In all labels of the searcher's own agents, of which there are as many.
const SEARCHER_LABEL: &str = "bench-agent";
/// Pairs of searches, within the allowance of one key.
const PAIRS: usize = 250;
/// A difference of medians that the noise of a machine explains.
const RATIO_AT_MOST: f64 = 1.25;
const NOISE_MS: f64 = 0.3;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan = Plan {
        name: "search",
        latency: false,
        title: "a label that only others have, and one that none has",
    };
    let id = workspace(&arena.program, "searcher").await?;
    label_agents(&mut arena.connection, id, SEARCHER_LABEL, arena.args.agents).await?;
    let key = arena.program.api_key("searcher", "agents:read").await?;
    let subject = arena.serve().await?;
    let (others, none) = medians(subject.address, &key).await?;
    subject.stop().await?;
    let row = vec![
        ("agents of others with the label", arena.args.agents.to_string()),
        ("others have it, median ms", format!("{others:.2}")),
        ("none has it, median ms", format!("{none:.2}")),
        ("ratio", format!("{:.2}", others / none)),
    ];
    report::rows(&format!("search: {}", plan.title), &[row], arena.args.database.json)?;
    if arena.args.agents < 10_000 {
        output::line("with so few agents the plans may not be those of a large fleet")?;
    }
    let alike = others <= RATIO_AT_MOST * none + NOISE_MS && none <= RATIO_AT_MOST * others + NOISE_MS;
    let seen = format!("{others:.2} and {none:.2} ms");
    Ok(vec![plan.check("both searches take the same time", seen, alike)])
}

/// Medians in milliseconds of the search for the label that only others have, and of the one that none has, in
/// turns.
async fn medians(address: SocketAddr, key: &str) -> Result<(f64, f64)> {
    let mut client = Client::new(address, Ipv4Addr::LOCALHOST);
    let search = |label| get(&format!("/api/agents?label={label}"), key);
    let (mut others, mut none) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        for (label, times) in [(ATTACKER_LABEL, &mut others), (ABSENT_LABEL, &mut none)] {
            let started = Instant::now();
            let found = client.data(&search(label), 200).await?;
            if found.as_array().is_none_or(|rows| !rows.is_empty()) {
                return Err("a search found another workspace's agents".into());
            }
            // The first ones fill caches.
            if pair >= PAIRS / 10 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok((report::median(&mut others), report::median(&mut none)))
}
