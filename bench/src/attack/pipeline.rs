//! Clients without a credential that pipeline requests and one byte more, and read nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    actor::{Act, Actor},
    arena::{ATTACKERS, Arena, Check},
    client::Link,
    rounds::Plan,
    sockets::{established, tcp_megabytes},
    subject::Subject,
    unread::Unread,
};
use crate::{
    Result,
    report::{self, Row},
};

const CLIENTS: u32 = 200;
/// Requests on each connection: together their answers exceed what the kernel takes from the server.
const PIPELINED: usize = 32;
const FILES: [&str; 2] = ["/docs/swagger-ui-bundle.js", "/api/openapi.json"];
/// A client without progress is cut after 30 s; what the machine needs for it comes on top.
const CUT_WITHIN: f64 = 40.0;
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What was seen of the clients' connections. Times are in seconds since the start.
#[derive(Default)]
struct Cuts {
    most: usize,
    left: usize,
    first: Option<f64>,
    last: Option<f64>,
    /// Most megabytes that the kernel held for TCP beyond what it held before.
    kernel: f64,
}

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let plan = Plan { name: "pipeline", latency: false, title: "200 clients that pipeline and do not read" };
    let mut subject = arena.serve().await?;
    let cuts = Cuts::watch(&mut subject).await?;
    let memory = subject.memory();
    report::rows(&format!("pipeline: {}", plan.title), &[cuts.row(&memory)], arena.args.database.json)?;
    let survived = subject.ended()?.is_none() && subject.is_within_limit();
    subject.stop().await?;
    let seen = format!("{} of {} still open", cuts.left, cuts.most);
    Ok(vec![
        plan.check("survives within its memory", memory, survived),
        plan.check("every client is cut within 40 s", seen, cuts.last.is_some() && survived),
    ])
}

impl Cuts {
    /// Watches until the last connection is cut, or for as long as that may take.
    async fn watch(subject: &mut Subject) -> Result<Self> {
        let mut cuts = Self::default();
        let before = tcp_megabytes();
        let _actor = Actor::start(&[act(subject.address, CUT_WITHIN + 2.0)], true).await?;
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < CUT_WITHIN && subject.ended()?.is_none() {
            sleep(LOOK_INTERVAL).await;
            let seconds = started.elapsed().as_secs_f64();
            cuts.left = established(subject.address, 1);
            cuts.most = cuts.most.max(cuts.left);
            cuts.kernel = cuts.kernel.max(tcp_megabytes() - before);
            if cuts.left < cuts.most {
                cuts.first.get_or_insert(seconds);
            }
            if cuts.most > 0 && cuts.left == 0 {
                cuts.last = Some(seconds);
                break;
            }
        }
        Ok(cuts)
    }

    fn row(&self, memory: &str) -> Row {
        let seconds = |cut: Option<f64>| cut.map_or_else(|| "never".to_owned(), |cut| format!("{cut:.1}"));
        vec![
            ("most connections", self.most.to_string()),
            ("first cut after s", seconds(self.first)),
            ("last cut after s", seconds(self.last)),
            ("still open", self.left.to_string()),
            ("kernel memory MB", format!("{:.0}", self.kernel)),
            ("peak memory", memory.to_owned()),
        ]
    }
}

pub fn act(address: SocketAddr, seconds: f64) -> Act {
    let request = |path| format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
    let requests = FILES.iter().map(|path| request(path).repeat(PIPELINED) + "G").collect();
    Act::Unread(Unread {
        address,
        sources: ATTACKERS,
        link: Link { receive_buffer: Some(4_096), segment: None },
        connections: CLIENTS,
        requests,
        opening: 50,
        until_accepted: false,
        seconds,
    })
}
