//! Attacks by callers with one ordinary key, or none, on the real program, and what a neighbour in another
//! workspace notices.

mod actor;
mod arena;
mod burst;
mod cgroup;
mod client;
mod connections;
mod dead;
mod hangups;
mod keys;
mod paced;
mod pipeline;
mod readyz;
mod rounds;
mod search;
mod sockets;
mod streams;
mod subject;
mod together;
mod unread;

use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use planasonix::cli::output;

use self::arena::{Arena, Check};
pub use self::{
    actor::{Act, Actor, Args as ActorArgs, Outcome, run as act},
    arena::workspace,
    paced::{Paced, Requests},
    subject::{Args as SubjectArgs, Program},
};
use crate::{Result, database, report};

/// Enough for the connections of all attacks together, in each process.
const OPEN_FILES: u64 = 65_536;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which attack
    #[arg(value_enum)]
    name: Name,
    /// Duration of a turn in seconds, for attacks that alternate with quiet turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Number of rounds, of a quiet turn and an attacked one each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Memory limit of the program under test in MiB; 0 is none
    #[arg(long, default_value_t = 512, value_name = "MIB")]
    memory: u32,
    /// Agents of the attacker that the searches look through
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1_000..=2_000_000))]
    agents: u32,
    /// The neighbour's GET requests a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=60))]
    gets: u32,
    /// The neighbour's heartbeats a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    heartbeats: u32,
    /// Fail unless everything holds that is listed at the end; the neighbour's 99th percentile may be this many
    /// times its quiet value, and 100 ms in any case
    #[arg(long, value_name = "RATIO")]
    at_most: Option<f64>,
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    database: database::Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Each of the others in turn
    All,
    /// 600 API keys created at once
    Keys,
    /// Streams of the connected view that the client does not read
    Streams,
    /// Pipelined requests whose answers the client does not read
    Pipeline,
    /// 17,000 connections with one request each
    Connections,
    /// 9,000 connections on /readyz
    Readyz,
    /// Clients that close before the answer
    Hangups,
    /// Revoked credentials and tokens, and a key over its limit
    Dead,
    /// What the time of a search tells of other workspaces
    Search,
    /// 1,100 requests at once, and 120 slow searches
    Burst,
    /// Keys, streams, pipeline and connections at the same time
    Together,
}

pub async fn run(args: Args) -> Result<()> {
    raise_open_files()?;
    let (name, strict, json) = (args.name, args.at_most.is_some(), args.database.json);
    let mut arena = Arena::build(args).await?;
    let mut checks = Vec::new();
    for attack in Name::value_variants() {
        if *attack != Name::All && (name == Name::All || name == *attack) {
            checks.extend(one(*attack, &mut arena).await?);
        }
    }
    let rows: Vec<_> = checks.iter().map(row).collect();
    report::rows("What the attacks must show", &rows, json)?;
    let broken = checks.iter().filter(|check| !check.holds).count();
    if strict && broken > 0 {
        return Err(format!("{broken} of {} do not hold", checks.len()).into());
    }
    Ok(output::line(&format!("{} of {} hold", checks.len() - broken, checks.len()))?)
}

async fn one(name: Name, arena: &mut Arena) -> Result<Vec<Check>> {
    match name {
        Name::All => Ok(Vec::new()),
        Name::Keys => keys::run(arena).await,
        Name::Streams => streams::run(arena).await,
        Name::Pipeline => pipeline::run(arena).await,
        Name::Connections => connections::run(arena).await,
        Name::Readyz => readyz::run(arena).await,
        Name::Hangups => hangups::run(arena).await,
        Name::Dead => dead::run(arena).await,
        Name::Search => search::run(arena).await,
        Name::Burst => burst::run(arena).await,
        Name::Together => together::run(arena).await,
    }
}

fn row(check: &Check) -> report::Row {
    vec![
        ("attack", check.attack.to_owned()),
        ("must", check.must.clone()),
        ("seen", check.seen.clone()),
        ("holds", if check.holds { "yes" } else { "NO" }.to_owned()),
    ]
}

/// Raises the limit of open files, which the processes started from here inherit.
pub fn raise_open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < OPEN_FILES {
        let wanted = OPEN_FILES.max(hard);
        // Above the hard limit only for root.
        setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, wanted)
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))?;
    }
    Ok(())
}
