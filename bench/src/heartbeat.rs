//! The group commit beside one UPDATE a heartbeat and a handler that stores nothing.
//!
//! They take turns in short rounds, so that what else the machine does hits all alike.

use planasonix::cli::output;

use crate::{
    Result,
    contenders::Server,
    database::{self, Database, Table},
    fill, load, process,
    report::{self, Row, count, median, percentile},
};

const CONTENDERS: [&str; 3] = ["group-commit", "one-update", "bare"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many agents beat in turn
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    agents: u64,
    /// How long each contender is under load, over all rounds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How many connections send, one request at a time on each
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=4_096))]
    connections: u64,
    /// How many turns each contender has, after one that does not count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many connections to Postgres the single UPDATEs share
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100))]
    pool: u32,
    /// Fail if the group commit is not so many times as fast as single UPDATEs
    #[arg(long)]
    at_least: Option<f64>,
    #[command(flatten)]
    database: database::Args,
}

/// What one contender did over all its rounds.
#[derive(Default)]
struct Score {
    rates: Vec<f64>,
    micros: Vec<u32>,
    errors: u64,
    server_cpu: f64,
    postgres_cpu: f64,
    load_cpu: f64,
    wal: i64,
}

pub async fn run(args: Args) -> Result<()> {
    let database = Database::start(&args.database).await?;
    let mut connection = database.connect().await?;
    let workspace = fill::workspace(&mut connection).await?;
    fill::agents(&mut connection, workspace, 0..args.agents).await?;
    let mut servers = Vec::new();
    let more = ["--pool".to_owned(), args.pool.to_string()];
    for contender in CONTENDERS {
        servers.push(Server::start(contender, &database.url, &more).await?);
    }
    let mut before = database.table(&mut connection).await?;
    let mut scores: [Score; 3] = Default::default();
    for round in 0..=args.rounds {
        for (server, score) in servers.iter().zip(&mut scores) {
            let mut turn = Score::default();
            turn.take(&args, &database, &mut connection, server).await?;
            if round > 0 {
                score.add(turn);
            }
        }
        if round == 0 {
            // Each agent's first beat opens its run, and that is no heap-only update.
            before = database.table(&mut connection).await?;
        }
    }
    for server in servers {
        server.stop().await?;
    }
    let after = database.table(&mut connection).await?;
    tell(&args, &mut scores, before, after)
}

impl Score {
    async fn take(
        &mut self,
        args: &Args,
        database: &Database,
        connection: &mut sqlx::PgConnection,
        server: &Server,
    ) -> Result<()> {
        let wal = database.wal_bytes(connection).await?;
        let (own, postgres) = (process::cpu_seconds(server.process()), database.cpu_seconds());
        let outcome = load::Args {
            address: server.address,
            agents: args.agents,
            connections: args.connections.min(args.agents),
            seconds: f64::from(args.seconds) / f64::from(args.rounds),
            rate: None,
            forged: false,
        };
        let outcome = outcome.run_apart().await?;
        self.server_cpu = process::cpu_seconds(server.process()) - own;
        self.postgres_cpu = database.cpu_seconds() - postgres;
        self.load_cpu = outcome.cpu_seconds;
        self.wal = database.wal_bytes(connection).await? - wal;
        self.rates.push(count(outcome.good) / outcome.seconds);
        self.errors = outcome.errors;
        self.micros = outcome.micros;
        Ok(())
    }

    fn add(&mut self, turn: Self) {
        self.rates.extend(turn.rates);
        self.micros.extend(turn.micros);
        self.errors += turn.errors;
        self.server_cpu += turn.server_cpu;
        self.postgres_cpu += turn.postgres_cpu;
        self.load_cpu += turn.load_cpu;
        self.wal += turn.wal;
    }

    /// What a beat costs server and Postgres together.
    fn cpu_a_beat(&self) -> f64 {
        (self.server_cpu + self.postgres_cpu) / count(self.micros.len() as u64).max(1.0)
    }

    fn row(&mut self, name: &str) -> Row {
        self.micros.sort_unstable();
        let beats = count(self.micros.len() as u64).max(1.0);
        let each = |seconds: f64| format!("{:.1}", seconds * 1e6 / beats);
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let wal = self.wal as f64 / beats;
        vec![
            ("contender", name.to_owned()),
            ("beats/s", format!("{:.0}", median(&mut self.rates.clone()))),
            ("p50 ms", format!("{:.2}", percentile(&self.micros, 0.5) / 1e3)),
            ("p99 ms", format!("{:.2}", percentile(&self.micros, 0.99) / 1e3)),
            ("errors", self.errors.to_string()),
            ("server CPU µs/beat", each(self.server_cpu)),
            ("Postgres CPU µs/beat", each(self.postgres_cpu)),
            ("generator CPU µs/beat", each(self.load_cpu)),
            ("WAL bytes/beat", format!("{wal:.0}")),
        ]
    }
}

fn tell(args: &Args, scores: &mut [Score; 3], before: Table, after: Table) -> Result<()> {
    let title = format!(
        "Heartbeats of {} agents over {} connections, {} rounds each; fsync on",
        args.agents, args.connections, args.rounds
    );
    let rows: Vec<_> =
        CONTENDERS.iter().zip(scores.iter_mut()).map(|(name, score)| score.row(name)).collect();
    report::rows(&title, &rows, args.database.json)?;
    let [group, update, bare] = scores;
    let (by_update, by_bare) = (ratio(group, update), ratio(group, bare));
    let by_cpu = update.cpu_a_beat() / group.cpu_a_beat();
    let updates = after.updates - before.updates;
    let hot = percent(after.hot - before.hot, updates);
    let row = vec![
        ("group commit : one UPDATE", format!("{by_update:.2}")),
        ("group commit : bare", format!("{by_bare:.2}")),
        ("CPU, one UPDATE : group commit", format!("{by_cpu:.2}")),
        ("rows updated", updates.to_string()),
        ("heap-only %", format!("{hot:.2}")),
        ("table MB before", report::megabytes(before.heap_bytes)),
        ("after", report::megabytes(after.heap_bytes)),
        ("indexes MB before", report::megabytes(before.index_bytes)),
        ("after ", report::megabytes(after.index_bytes)),
    ];
    report::rows("Ratios (medians over rounds), and the table behind", &[row], args.database.json)?;
    match args.at_least {
        Some(least) if by_update < least => {
            Err(format!("the group commit is {by_update:.2} times as fast, not {least}").into())
        }
        Some(least) => Ok(output::line(&format!("at least {least}: holds"))?),
        None => Ok(()),
    }
}

fn ratio(one: &Score, other: &Score) -> f64 {
    let mut ratios: Vec<_> =
        one.rates.iter().zip(&other.rates).map(|(one, other)| one / other.max(1.0)).collect();
    median(&mut ratios)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn percent(part: i64, whole: i64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
