//! The statements that meet the whole fleet: a flush of heartbeats, what goes with it, and the search for
//! silent agents. They are the control plane's own, on a connection set up as its own are, but for the
//! time limit: one that would have run into it shows how long it takes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use planasonix::{
    cli::output,
    db::{
        Db, LaneSizes,
        fleet::{self, Beat, BeatRules, Search, SlowBeat},
    },
    domain::{
        credential::{Agent, Hashed},
        presence::{Figures, Sample, SlowFields},
    },
    tasks::reaper::{MOST_A_PASS, PAGES_A_PASS},
};
use planasonix_wire::{AgentId, json::Patch};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection, PgConnection, query_scalar, raw_sql};

use crate::{
    Result,
    database::{self, Database},
    fill,
    report::{self, Row, median},
};

const WINDOW: Duration = Duration::from_mins(2);
const RULES: BeatRules = BeatRules { window: WINDOW, min_interval: Duration::ZERO };
/// More than the five after which Postgres may change to a plan for any values.
const FLUSHES: u32 = 12;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many agents are connected
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=5_000_000))]
    agents: u64,
    /// How many of them fall silent
    #[arg(long, default_value_t = 10_000)]
    silent: u64,
    /// How many beats a flush holds
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,
    /// Print the flush's plans
    #[arg(long)]
    plans: bool,
    #[command(flatten)]
    database: database::Args,
}

pub async fn run(args: Args) -> Result<()> {
    let database = Database::start(&args.database).await?;
    let mut connection = database.connect().await?;
    let workspace = fill::workspace(&mut connection).await?;
    let started = Instant::now();
    fill::agents(&mut connection, workspace, 0..args.agents).await?;
    fill::connect(&mut connection).await?;
    let seconds = started.elapsed().as_secs();
    let table = database.table(&mut connection).await?;
    output::line(&format!(
        "{} agents after {seconds} s; table {} MB, indexes {} MB",
        args.agents,
        report::megabytes(table.heap_bytes),
        report::megabytes(table.index_bytes),
    ))?;
    let db = Db::new(database.options.clone(), LaneSizes { reads: 1, writes: 1 });
    let mut own = PgConnection::connect_with(db.options()).await?;
    raw_sql("SET statement_timeout = 0").execute(&mut own).await?;
    flushes(&args, &mut own).await?;
    searches(&args, &mut own).await?;
    own.close().await?;
    Ok(())
}

/// A batch of different agents, with their credentials.
fn batch(args: &Args, rng: &mut StdRng) -> Vec<(AgentId, Hashed<Agent>)> {
    let mut numbers = BTreeSet::new();
    while (numbers.len() as u64) < args.batch.min(args.agents) {
        numbers.insert(rng.random_range(0..args.agents));
    }
    numbers
        .into_iter()
        .map(|number| {
            let (id, credential) = fill::agent(number);
            (id, credential.hashed())
        })
        .collect()
}

fn sample() -> Sample {
    let figures = Figures {
        cpu_percent: Patch::Set(34.2),
        memory_percent: Patch::Set(61.0),
        active_jobs: Patch::Set(2),
        ..Figures::default()
    };
    Sample { figures, ..Sample::default() }
}

async fn flushes(args: &Args, connection: &mut PgConnection) -> Result<()> {
    let (mut rng, sample) = (StdRng::seed_from_u64(1), sample());
    let (mut flush, mut texts, mut same, mut lookup) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..FLUSHES {
        let agents = batch(args, &mut rng);
        let beats: Vec<_> = agents.iter().map(|agent| beat(agent, &sample)).collect();
        let started = Instant::now();
        let stored = fleet::store_beats(connection, &beats, RULES).await?;
        flush.push(millis(started));
        if stored.len() != beats.len() {
            return Err(format!("{} of {} beats were stored", stored.len(), beats.len()).into());
        }
        let slow = SlowFields { version: Patch::Set(format!("2.14.{round}")), ..SlowFields::default() };
        // As many as follow one flush.
        let news: Vec<_> = agents
            .iter()
            .take(512)
            .map(|(agent, credential)| SlowBeat {
                agent: *agent,
                credential: *credential,
                fields: slow.clone(),
                hash: i64::from(round),
            })
            .collect();
        for times in [&mut texts, &mut same] {
            let started = Instant::now();
            fleet::store_slow_fields(connection, &news).await?;
            times.push(millis(started));
        }
        let digests: Vec<_> = agents.iter().map(|(_, digest)| *digest).collect();
        let started = Instant::now();
        fleet::explain(connection, &digests, Duration::ZERO).await?;
        lookup.push(millis(started));
    }
    let rows: Vec<_> = [
        ("store_beats", flush),
        ("store_slow_fields, 512 new", texts),
        ("store_slow_fields, 512 the same", same),
        ("explain", lookup),
    ]
    .into_iter()
    .map(|(name, times)| timing(name, times))
    .collect();
    let title =
        format!("{} beats in one statement, {FLUSHES} times, among {} agents", args.batch, args.agents);
    report::rows(&title, &rows, args.database.json)?;
    for mode in ["force_generic_plan", "force_custom_plan"] {
        plan(args, connection, &batch(args, &mut rng), mode).await?;
    }
    Ok(())
}

fn beat<'s>((agent, credential): &(AgentId, Hashed<Agent>), sample: &'s Sample) -> Beat<'s> {
    let remote_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Beat { agent: *agent, credential: *credential, remote_ip, sample, resent: false }
}

/// Runs the statement that the control plane prepared once more under EXPLAIN, and tells how it found its
/// rows.
async fn plan(
    args: &Args,
    connection: &mut PgConnection,
    agents: &[(AgentId, Hashed<Agent>)],
    mode: &str,
) -> Result<()> {
    let name: String =
        query_scalar("SELECT name FROM pg_prepared_statements WHERE statement LIKE '-- store_beats%'")
            .fetch_one(&mut *connection)
            .await?;
    let ids: Vec<_> = agents.iter().map(|(id, _)| format!("'{}'", id.uuid())).collect();
    let digests: Vec<_> =
        agents.iter().map(|(_, digest)| format!("decode('{}', 'hex')", hex(digest.as_bytes()))).collect();
    let same = |value: &str| format!("array_fill({value}, '{{{}}}')", agents.len());
    let execute = format!(
        "SET plan_cache_mode = {mode}; EXPLAIN (ANALYZE, BUFFERS) EXECUTE {name} (ARRAY[{ids}]::uuid[],
         ARRAY[{digests}]::bytea[], {text}, {bits}, {float}, {float}, {float}, {int}, {int}, {long}, {unnamed},
         {unnamed}, {no}, 120, 0, {unnamed})",
        ids = ids.join(","),
        digests = digests.join(","),
        text = same("'127.0.0.1'::text"),
        bits = same("31"),
        float = same("1::float8"),
        int = same("1"),
        long = same("NULL::int8"),
        unnamed = same("NULL::text"),
        no = same("false"),
    );
    let rows = raw_sql(AssertSqlSafe(execute)).fetch_all(&mut *connection).await?;
    let lines =
        rows.iter().map(|row| sqlx::Row::try_get::<String, _>(row, 0)).collect::<sqlx::Result<Vec<_>>>()?;
    raw_sql("RESET plan_cache_mode").execute(&mut *connection).await?;
    let joins = nodes(&lines, &["Join", "Nested Loop"]);
    let scans = nodes(&lines, &["on agent_liveness l"]);
    let removed: Vec<_> = lines.iter().filter(|line| line.contains("Rows Removed by Join")).collect();
    output::line(&format!("{mode}: joins {joins:?}; scans {scans:?}; compared in vain: {removed:?}"))?;
    if args.plans {
        output::line(&lines.join("\n"))?;
    }
    Ok(())
}

/// The plan's nodes whose names hold one of these.
fn nodes(lines: &[String], names: &[&str]) -> Vec<String> {
    lines
        .iter()
        .filter_map(|line| line.split_once("->")?.1.split_once("  (cost"))
        .map(|(node, _)| node.trim().to_owned())
        .filter(|node| names.iter().any(|name| node.contains(name)))
        .collect()
}

fn hex(bytes: &[u8; 32]) -> String {
    let (upper, lower) = bytes.split_at(16);
    let number = |half: &[u8]| half.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
    format!("{:032x}{:032x}", number(upper), number(lower))
}

async fn searches(args: &Args, connection: &mut PgConnection) -> Result<()> {
    let mut rows = Vec::new();
    for turn in 1..=3 {
        rows.push(round(connection, &format!("none silent, {turn}")).await?);
    }
    let every = (args.agents / args.silent.max(1)).max(1);
    let shift = format!(
        "WITH numbered AS (SELECT agent_id, row_number() OVER (ORDER BY agent_id) AS n FROM agent_liveness)
         UPDATE agent_liveness l SET last_seen_at = now() - interval '1 hour'
         FROM numbered WHERE numbered.agent_id = l.agent_id AND n % {every} = 0"
    );
    raw_sql(AssertSqlSafe(shift)).execute(&mut *connection).await?;
    rows.push(round(connection, "spread silent").await?);
    let shift = format!(
        "UPDATE agent_liveness SET last_seen_at = now() - interval '1 hour' WHERE agent_id IN
            (SELECT agent_id FROM agent_liveness WHERE connected_since IS NOT NULL ORDER BY agent_id LIMIT {})",
        args.silent
    );
    raw_sql(AssertSqlSafe(shift)).execute(&mut *connection).await?;
    rows.push(round(connection, "neighbours silent").await?);
    rows.push(round(connection, "none silent again").await?);
    let title = format!("A round in search of silent agents, among {}", args.agents);
    report::rows(&title, &rows, args.database.json)
}

/// One round through the table, as the reaper goes, but without its pauses.
async fn round(connection: &mut PgConnection, name: &str) -> Result<Row> {
    // Beats may have aged while this benchmark ran; only those shifted shall be silent.
    let window = Duration::from_mins(30);
    let (mut times, mut closed, mut page) = (Vec::new(), 0, 0);
    loop {
        let search = Search { page, pages: PAGES_A_PASS.into(), most: MOST_A_PASS.into() };
        let started = Instant::now();
        let look = fleet::close_silent_runs(connection, window, &search).await?;
        times.push(millis(started));
        closed += look.closed;
        if look.closed < search.most {
            page += search.pages;
        }
        if page >= look.pages {
            break;
        }
    }
    let mut row = timing(name, times);
    row.push(("closed", closed.to_string()));
    Ok(row)
}

fn timing(name: &str, mut times: Vec<f64>) -> Row {
    let (first, last) = (times.first().copied(), times.last().copied());
    let all: f64 = times.iter().sum();
    let number = times.len();
    let middle = median(&mut times);
    vec![
        ("what", name.to_owned()),
        ("statements", number.to_string()),
        ("first ms", format!("{:.1}", first.unwrap_or_default())),
        ("last ms", format!("{:.1}", last.unwrap_or_default())),
        ("median ms", format!("{middle:.1}")),
        ("longest ms", format!("{:.1}", times.last().copied().unwrap_or_default())),
        ("all ms", format!("{all:.1}")),
    ]
}

fn millis(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}
