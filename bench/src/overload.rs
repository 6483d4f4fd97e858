//! Heartbeats beyond what the database takes: how many are stored, and how the others are refused.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use planasonix::cli::output;
use sqlx::{AssertSqlSafe, PgConnection, query_scalar, raw_sql};
use tokio::time::sleep;

use crate::{
    Result,
    attack::{Act, Actor, Outcome, Paced, Program, Requests, SubjectArgs, raise_open_files, workspace},
    database::{self, Database},
    fill,
    report::{self, Row, count},
};

const LOADS: [f64; 5] = [0.5, 0.8, 1.2, 2.0, 5.0];
/// How long a request may take before its connection is missed for the next one, in seconds. The server's own
/// deadline is 2 s.
const BUSY_SECONDS: f64 = 4.0;
/// Host facts follow the acknowledgement.
const FACTS_STORED: Duration = Duration::from_secs(3);
const CAPACITY_CONNECTIONS: u32 = 256;
/// Clients come from these addresses in turn, so that no limit for one address is met.
const SOURCES: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 2, 1), 8);
/// The server's default.
const WINDOW_SECONDS: i32 = 120;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of agents, each sending in turn
    #[arg(long, default_value_t = 15_500, value_parser = clap::value_parser!(u32).range(1_000..=100_000))]
    agents: u32,
    /// What each row costs the database, in milliseconds
    #[arg(long, default_value_t = 2.2)]
    row_cost: f64,
    /// Duration of each load in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=300))]
    seconds: u32,
    /// Fail unless goodput is at least this part of capacity at 1.2, 2 and 5 times the load, and every refusal
    /// carries a Retry-After
    #[arg(long, value_name = "PART")]
    at_least: Option<f64>,
    #[command(flatten)]
    subject: SubjectArgs,
    #[command(flatten)]
    database: database::Args,
}

/// One point of the curve.
struct Point {
    load: f64,
    offered: f64,
    outcome: Outcome,
    connected: i64,
}

pub async fn run(args: Args) -> Result<()> {
    raise_open_files()?;
    let database = Database::start_empty(&args.database).await?;
    let program = Program::find(&args.subject, &database.url, database.folder.clone())?;
    program.run(&["migrate"]).await?;
    let mut connection = database.connect().await?;
    let workspace = workspace(&program, "bench").await?;
    fill::agents(&mut connection, workspace, 0..args.agents.into()).await?;
    let subject = program.serve(0).await?;
    introduce(&args, subject.address).await?;
    slow_down(&mut connection, args.row_cost).await?;
    let capacity = capacity(&args, subject.address).await?;
    output::line(&format!("capacity: {capacity:.0} heartbeats a second"))?;
    let mut points = Vec::new();
    for load in LOADS {
        let offered = load * capacity;
        let outcome = offer(&args, subject.address, offered).await?;
        let connected = connected(&mut connection).await?;
        points.push(Point { load, offered, outcome, connected });
    }
    subject.stop().await?;
    let rows: Vec<_> = points.iter().map(|point| point.row(capacity)).collect();
    let title = format!(
        "Heartbeats of {} agents, {} ms a row, {} s each; capacity {capacity:.0}/s",
        args.agents, args.row_cost, args.seconds
    );
    report::rows(&title, &rows, args.database.json)?;
    judge(&args, &points, capacity)
}

/// Makes every row that is written to the table of heartbeats cost time.
async fn slow_down(connection: &mut PgConnection, milliseconds: f64) -> Result<()> {
    let seconds = milliseconds / 1e3;
    let trigger = format!(
        "CREATE FUNCTION bench_row_cost() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_sleep({seconds});
             RETURN NEW;
         END $$;
         CREATE TRIGGER bench_row_cost BEFORE UPDATE ON agent_liveness
             FOR EACH ROW EXECUTE FUNCTION bench_row_cost()"
    );
    raw_sql(AssertSqlSafe(trigger)).execute(connection).await?;
    Ok(())
}

/// Has every agent send a heartbeat while rows are cheap. As in a fleet that is connected, the server then knows
/// all credentials, and their host facts are stored.
async fn introduce(args: &Args, address: SocketAddr) -> Result<()> {
    let each = u64::from(args.agents.div_ceil(CAPACITY_CONNECTIONS));
    let all = Paced { most: Some(each), ..heartbeats(args, address, 60.0) };
    let outcome = perform(all).await?;
    if outcome.failed() > 0 {
        return Err(format!("the agents' first heartbeats failed: {}", outcome.summary()).into());
    }
    sleep(FACTS_STORED).await;
    Ok(())
}

/// What the database takes in heartbeats a second: each client sends once it was answered, so that no batch is
/// larger than their number.
async fn capacity(args: &Args, address: SocketAddr) -> Result<f64> {
    let outcome = perform(heartbeats(args, address, 10.0)).await?;
    Ok(count(outcome.count(200)) / outcome.seconds)
}

/// Heartbeats at an even pace, on so many connections that one is free whenever a heartbeat is due.
async fn offer(args: &Args, address: SocketAddr, rate: f64) -> Result<Outcome> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "thousands")]
    let connections = ((rate * BUSY_SECONDS).ceil() as u32).clamp(1, args.agents);
    let seconds = f64::from(args.seconds);
    perform(Paced { connections, rate: Some(rate), ..heartbeats(args, address, seconds) }).await
}

/// Heartbeats of all agents in turn, on each connection as soon as the last was answered.
fn heartbeats(args: &Args, address: SocketAddr, seconds: f64) -> Paced {
    Paced {
        address,
        sources: SOURCES,
        connections: CAPACITY_CONNECTIONS,
        requests: Requests::Heartbeats { first: 0, agents: args.agents.into() },
        rate: None,
        together: false,
        most: None,
        seconds,
        hold: false,
    }
}

async fn perform(load: Paced) -> Result<Outcome> {
    let mut outcomes = Actor::start(&[Act::Paced(load)], false).await?.finish().await?;
    outcomes.pop().ok_or_else(|| "no outcome".into())
}

async fn connected(connection: &mut PgConnection) -> Result<i64> {
    let connected = "SELECT count(*) FROM agent_liveness
                     WHERE is_connected(connected_since, last_seen_at, make_interval(secs => $1))";
    Ok(query_scalar(connected).bind(f64::from(WINDOW_SECONDS)).fetch_one(connection).await?)
}

impl Point {
    fn goodput(&self) -> f64 {
        count(self.outcome.count(200)) / self.outcome.seconds
    }

    /// Refusals: every answer but 200.
    fn shed(&self) -> u64 {
        self.outcome.answered() - self.outcome.count(200)
    }

    fn row(&self, capacity: f64) -> Row {
        let outcome = &self.outcome;
        let sent = count(outcome.answered() + outcome.lost);
        vec![
            ("load", format!("{:.1}", self.load)),
            ("offered/s", format!("{:.0}", self.offered)),
            ("sent/s", format!("{:.0}", sent / outcome.seconds)),
            ("goodput/s", format!("{:.0}", self.goodput())),
            ("goodput : capacity", format!("{:.2}", self.goodput() / capacity)),
            ("shed/s", format!("{:.0}", count(self.shed()) / outcome.seconds)),
            ("with Retry-After", format!("{} of {}", outcome.retry_after, self.shed())),
            ("accepted p50 ms", format!("{:.0}", outcome.percentile(200, 0.5))),
            ("accepted p99 ms", format!("{:.0}", outcome.percentile(200, 0.99))),
            ("shed p50 ms", format!("{:.0}", outcome.percentile(503, 0.5))),
            ("shed p99 ms", format!("{:.0}", outcome.percentile(503, 0.99))),
            ("answers", outcome.summary()),
            ("load's CPU %", format!("{:.0}", 100.0 * outcome.cpu_seconds / outcome.seconds)),
            ("agents connected", self.connected.to_string()),
        ]
    }
}

fn judge(args: &Args, points: &[Point], capacity: f64) -> Result<()> {
    let Some(least) = args.at_least else { return Ok(()) };
    for point in points {
        let part = point.goodput() / capacity;
        if point.load > 1.0 && part < least {
            return Err(format!(
                "goodput at {} times capacity is {part:.2} of it, below {least}",
                point.load
            )
            .into());
        }
        if point.outcome.retry_after < point.shed() {
            return Err(format!("refusals at {} times capacity lack a Retry-After", point.load).into());
        }
    }
    Ok(output::line(&format!("at least {least}: holds"))?)
}
