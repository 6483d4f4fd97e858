//! Clients without a credential that pipeline requests and one byte more, and read nothing.

use std::{net::SocketAddr, time::Instant};

use tokio::time::{Duration, sleep};

use super::{
    actor::{Act, Actor},
    arena::{ATTACKERS, Arena, Check},
    rounds::Plan,
    sockets::{established, tcp_megabytes},
    unread::Unread,
};
use crate::{Result, report};

const CLIENTS: u32 = 200;
/// Requests on each connection: together their answers exceed what the kernel takes from the server.
const PIPELINED: usize = 32;
const FILES: [&str; 2] = ["/docs/swagger-ui-bundle.js", "/api/openapi.json"];
/// A client without progress is cut after 30 s; what the machine needs for it comes on top.
const CUT_WITHIN: f64 = 40.0;

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan = Plan { name: "pipeline", latency: false, title: "200 clients that pipeline and do not read" };
    let mut subject = arena.serve().await?;
    let before = tcp_megabytes();
    let actor = Actor::start(&[act(subject.address, CUT_WITHIN + 2.0)], true).await?;
    let started = Instant::now();
    let (mut most, mut first_cut, mut last_cut, mut kernel) = (0, None, None, 0.0_f64);
    while started.elapsed().as_secs_f64() < CUT_WITHIN && subject.ended()?.is_none() {
        sleep(Duration::from_millis(500)).await;
        let open = established(subject.address, 1);
        (most, kernel) = (most.max(open), kernel.max(tcp_megabytes() - before));
        let seconds = started.elapsed().as_secs_f64();
        if open < most {
            first_cut.get_or_insert(seconds);
        }
        if most > 0 && open == 0 {
            last_cut = Some(seconds);
            break;
        }
    }
    let left = established(subject.address, 1);
    drop(actor);
    let seconds = |cut: Option<f64>| cut.map_or_else(|| "never".to_owned(), |cut| format!("{cut:.1}"));
    let row = vec![
        ("most connections", most.to_string()),
        ("first cut after s", seconds(first_cut)),
        ("last cut after s", seconds(last_cut)),
        ("still open", left.to_string()),
        ("kernel memory MB", format!("{kernel:.0}")),
        ("peak memory", subject.memory()),
    ];
    report::rows(&format!("pipeline: {}", plan.title), &[row], arena.args.database.json)?;
    let survived = subject.ended()?.is_none() && subject.is_within_limit();
    let checks = vec![
        plan.check("survives within its memory", subject.memory(), survived),
        plan.check(
            "every client is cut within 40 s",
            format!("{left} of {most} still open"),
            last_cut.is_some() && survived,
        ),
    ];
    subject.stop().await?;
    Ok(checks)
}

pub fn act(address: SocketAddr, seconds: f64) -> Act {
    let request = |path| format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
    let requests = FILES.iter().map(|path| request(path).repeat(PIPELINED) + "G").collect();
    Act::Unread(Unread {
        address,
        sources: ATTACKERS,
        connections: CLIENTS,
        requests,
        read_status: false,
        seconds,
    })
}
