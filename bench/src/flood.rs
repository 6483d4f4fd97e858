//! Good heartbeats alone, and the same beside a flood of bogus ones, in turns.

use planasonix::cli::output;
use sqlx::{PgConnection, query_scalar};

use crate::{
    Result,
    contenders::Server,
    database::{self, Database},
    fill, load, process,
    report::{self, Row, count, median, percentile},
};

/// A run lasts a little longer than what was to be sent in it.
const ENOUGH: f64 = 0.95;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many agents beat in turn
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    agents: u64,
    /// How many good heartbeats a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    good: u32,
    /// How many bogus ones a second beside them: well-formed credentials, each sent once and never issued
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    bogus: u32,
    /// How long a turn lasts
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// How many turns there are with the flood and without it, after one that does not count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Over how many connections each kind is sent
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    connections: u64,
    /// Fail if the good ones' 99th percentile grows to more than so many times what it is without the flood, if any
    /// of them fails, or if less than 95 % of what was to be sent was answered
    #[arg(long)]
    at_most: Option<f64>,
    #[command(flatten)]
    database: database::Args,
}

/// What turns of one kind came to.
#[derive(Default)]
struct Score {
    p99s: Vec<f64>,
    good: load::Outcome,
    refused: u64,
    errors: u64,
    transactions: i64,
    server_cpu: f64,
    postgres_cpu: f64,
}

pub async fn run(args: Args) -> Result<()> {
    let database = Database::start(&args.database).await?;
    let mut connection = database.connect().await?;
    let workspace = fill::workspace(&mut connection).await?;
    fill::agents(&mut connection, workspace, 0..args.agents).await?;
    let server = Server::start("group-commit", &database.url, &[]).await?;
    let (mut quiet, mut flooded) = (Score::default(), Score::default());
    for round in 0..=args.rounds {
        for (score, bogus) in [(&mut quiet, false), (&mut flooded, true)] {
            let mut turn = Score::default();
            turn.take(&args, &database, &mut connection, &server, bogus).await?;
            if round > 0 {
                score.add(turn);
            }
        }
    }
    server.stop().await?;
    tell(&args, quiet, flooded)
}

impl Score {
    async fn take(
        &mut self,
        args: &Args,
        database: &Database,
        connection: &mut PgConnection,
        server: &Server,
        bogus: bool,
    ) -> Result<()> {
        let good = load::Args {
            address: server.address,
            agents: args.agents,
            // Each sends eight a second or more: the fewer it sends, the more of its last pause is left out.
            connections: args.connections.min(args.agents).min((args.good / 8).max(1).into()),
            seconds: f64::from(args.seconds),
            rate: Some(args.good.into()),
            forged: false,
        };
        let forged =
            load::Args { connections: args.connections, rate: Some(args.bogus.into()), forged: true, ..good };
        let before = transactions(connection).await?;
        let (own, postgres) = (process::cpu_seconds(server.process()), database.cpu_seconds());
        let (good, forged) = if bogus {
            tokio::try_join!(good.run_apart(), forged.run_apart())?
        } else {
            (good.run_apart().await?, load::Outcome::default())
        };
        self.server_cpu = process::cpu_seconds(server.process()) - own;
        self.postgres_cpu = database.cpu_seconds() - postgres;
        self.transactions = transactions(connection).await? - before;
        self.p99s.push(percentile(&good.micros, 0.99));
        self.refused = forged.good;
        self.errors = good.errors;
        self.good = good;
        Ok(())
    }

    fn add(&mut self, turn: Self) {
        self.p99s.extend(turn.p99s);
        self.good.seconds += turn.good.seconds;
        self.good.micros.extend(turn.good.micros);
        self.refused += turn.refused;
        self.errors += turn.errors;
        self.transactions += turn.transactions;
        self.server_cpu += turn.server_cpu;
        self.postgres_cpu += turn.postgres_cpu;
    }

    /// Fails unless the good ones were answered, all of them well.
    fn must_be_whole(&self, args: &Args) -> Result<()> {
        let rate = count(self.good.micros.len() as u64) / self.good.seconds;
        if self.errors > 0 || rate < ENOUGH * f64::from(args.good) {
            return Err(
                format!("{} good ones failed, and {rate:.0} a second were answered", self.errors).into()
            );
        }
        Ok(())
    }

    fn refused_a_second(&self) -> f64 {
        count(self.refused) / self.good.seconds
    }

    fn row(&mut self, name: &str) -> Row {
        self.good.micros.sort_unstable();
        let micros = &self.good.micros;
        let (seconds, good) = (self.good.seconds, count(micros.len() as u64));
        let requests = good + count(self.refused);
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let transactions = self.transactions as f64;
        vec![
            ("heartbeats", name.to_owned()),
            ("good/s", format!("{:.0}", good / seconds)),
            ("bogus/s", format!("{:.0}", self.refused_a_second())),
            ("p50 ms", format!("{:.2}", percentile(micros, 0.5) / 1e3)),
            ("p99 ms", format!("{:.2}", percentile(micros, 0.99) / 1e3)),
            ("good ones failed", self.errors.to_string()),
            ("transactions/s", format!("{:.0}", transactions / seconds)),
            ("transactions/request", format!("{:.2}", transactions / requests.max(1.0))),
            ("server CPU %", format!("{:.0}", 100.0 * self.server_cpu / seconds)),
            ("Postgres CPU %", format!("{:.0}", 100.0 * self.postgres_cpu / seconds)),
        ]
    }
}

async fn transactions(connection: &mut PgConnection) -> Result<i64> {
    database::settle().await;
    Ok(query_scalar("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(connection)
        .await?)
}

fn tell(args: &Args, mut quiet: Score, mut flooded: Score) -> Result<()> {
    let title = format!(
        "Good heartbeats of {} agents, alone and beside bogus ones, {} turns of {} s each",
        args.agents, args.rounds, args.seconds
    );
    let rows = [quiet.row("good alone"), flooded.row("with bogus ones")];
    report::rows(&title, &rows, args.database.json)?;
    let mut ratios: Vec<_> =
        flooded.p99s.iter().zip(&quiet.p99s).map(|(flooded, quiet)| flooded / quiet.max(1.0)).collect();
    let (worst, ratio) = (ratios.iter().copied().fold(0.0, f64::max), median(&mut ratios));
    let row =
        vec![("p99, flooded : alone", format!("{ratio:.2}")), ("in the worst round", format!("{worst:.2}"))];
    report::rows("Ratio (median over rounds)", &[row], args.database.json)?;
    let Some(most) = args.at_most else { return Ok(()) };
    for score in [&quiet, &flooded] {
        score.must_be_whole(args)?;
    }
    if flooded.refused_a_second() < ENOUGH * f64::from(args.bogus) {
        return Err("there was less of a flood than was asked for".into());
    }
    if ratio > most {
        return Err(format!("the 99th percentile grows {ratio:.2} times, not at most {most}").into());
    }
    Ok(output::line(&format!("at most {most}: holds"))?)
}
