//! Turns of the neighbour alone and beside an attack, alternating, so that what else the machine does meets both.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    actor::{Act, Actor, Outcome},
    arena::{Arena, Check},
    subject::Subject,
};
use crate::{
    Result,
    report::{self, Row},
};

/// The neighbour begins before the attack and ends after it.
const LEAD: Duration = Duration::from_millis(300);
/// A 99th percentile in milliseconds that is never too much.
const ACCEPTABLE_MS: f64 = 100.0;
/// How often the neighbour's quiet 99th percentile may be reached, unless told otherwise.
const AT_MOST: f64 = 2.0;

/// What an attack is called, and whether the neighbour's latency is bounded.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub name: &'static str,
    pub title: &'static str,
    pub latency: bool,
}

/// The sum of the turns of one kind.
#[derive(Default)]
pub struct Turn {
    pub gets: Outcome,
    pub heartbeats: Outcome,
    /// One for each act of the attack.
    pub attack: Vec<Outcome>,
    pub transactions: f64,
    pub sessions: f64,
    pub seconds: f64,
}

pub struct Report {
    pub plan: Plan,
    pub quiet: Turn,
    pub attacked: Turn,
    at_most: f64,
    /// How the program under test ended, if it did.
    ended: Option<String>,
    memory: String,
    within_limit: bool,
}

impl Plan {
    pub fn check(&self, must: &str, seen: impl ToString, holds: bool) -> Check {
        Check { attack: self.name, must: must.to_owned(), seen: seen.to_string(), holds }
    }
}

impl Turn {
    /// Runs the neighbour, and the attack's acts beside it if there are any.
    pub async fn take(arena: &mut Arena, subject: &Subject, acts: &[Act], seconds: f64) -> Result<Self> {
        // Before a quiet turn nothing was done since the counters were last settled.
        let before = if acts.is_empty() { arena.counters().await? } else { arena.settled_counters().await? };
        let lead = LEAD.as_secs_f64() * 2.0;
        let neighbour = Actor::start(&arena.neighbour(subject.address, seconds + lead), false).await?;
        sleep(LEAD).await;
        let attack =
            if acts.is_empty() { Vec::new() } else { Actor::start(acts, true).await?.finish().await? };
        let mut neighbour = neighbour.finish().await?.into_iter();
        let after = arena.settled_counters().await?;
        Ok(Self {
            gets: neighbour.next().unwrap_or_default(),
            heartbeats: neighbour.next().unwrap_or_default(),
            attack,
            transactions: after.transactions - before.transactions,
            sessions: after.sessions - before.sessions,
            seconds: seconds + lead,
        })
    }

    fn add(&mut self, turn: Self) {
        self.gets.add(turn.gets);
        self.heartbeats.add(turn.heartbeats);
        self.attack.resize_with(turn.attack.len().max(self.attack.len()), Outcome::default);
        self.attack.iter_mut().zip(turn.attack).for_each(|(sum, outcome)| sum.add(outcome));
        self.transactions += turn.transactions;
        self.sessions += turn.sessions;
        self.seconds += turn.seconds;
    }

    pub fn connected_per_second(&self) -> f64 {
        self.attack.iter().map(|act| report::count(act.connected)).sum::<f64>() / self.seconds
    }

    fn row(&self, name: &'static str) -> Row {
        let milliseconds = |outcome: &Outcome, part| format!("{:.1}", outcome.percentile(200, part));
        let answers: Vec<_> = self.attack.iter().map(Outcome::summary).collect();
        vec![
            ("neighbour", name.to_owned()),
            ("GET p50 ms", milliseconds(&self.gets, 0.5)),
            ("GET p99 ms", milliseconds(&self.gets, 0.99)),
            ("heartbeat p50 ms", milliseconds(&self.heartbeats, 0.5)),
            ("heartbeat p99 ms", milliseconds(&self.heartbeats, 0.99)),
            ("failed", format!("{} of {}", self.failed(), self.sent())),
            ("transactions/s", format!("{:.0}", self.transactions / self.seconds)),
            ("new backends/s", format!("{:.1}", self.sessions / self.seconds)),
            ("attackers' answers", answers.join("; ")),
        ]
    }

    fn failed(&self) -> u64 {
        self.gets.failed() + self.heartbeats.failed()
    }

    fn sent(&self) -> u64 {
        [&self.gets, &self.heartbeats].map(|outcome| outcome.answered() + outcome.lost).iter().sum()
    }
}

impl Report {
    /// Takes as many rounds as asked for, or until the program under test has ended. `acts` prepares the attack of
    /// each round.
    pub async fn take(
        arena: &mut Arena,
        subject: &mut Subject,
        plan: Plan,
        mut acts: impl AsyncFnMut(&mut Arena) -> Result<Vec<Act>>,
    ) -> Result<Self> {
        let (mut quiet, mut attacked) = (Turn::default(), Turn::default());
        let seconds = arena.seconds();
        for _ in 0..arena.args.rounds {
            quiet.add(Turn::take(arena, subject, &[], seconds).await?);
            let acts = acts(arena).await?;
            let longest = acts.iter().map(Act::seconds).fold(seconds, f64::max);
            attacked.add(Turn::take(arena, subject, &acts, longest).await?);
            if subject.ended()?.is_some() {
                break;
            }
        }
        Self::new(arena, subject, plan, quiet, attacked)
    }

    /// Prints the figures.
    pub fn new(
        arena: &Arena,
        subject: &mut Subject,
        plan: Plan,
        quiet: Turn,
        attacked: Turn,
    ) -> Result<Self> {
        let ended = subject.ended()?.map(|status| status.to_string());
        let rows = [quiet.row("alone"), attacked.row("attacked")];
        report::rows(&format!("{}: {}", plan.name, plan.title), &rows, arena.args.database.json)?;
        let memory = subject.memory();
        let row = vec![
            ("peak memory", memory.clone()),
            ("threads", subject.threads().to_string()),
            ("ended", ended.clone().unwrap_or_else(|| "no".to_owned())),
        ];
        report::rows(&format!("{}: the program under test", plan.name), &[row], arena.args.database.json)?;
        let at_most = arena.args.at_most.unwrap_or(AT_MOST);
        let within_limit = subject.is_within_limit();
        Ok(Self { plan, quiet, attacked, at_most, ended, memory, within_limit })
    }

    pub fn died(&self) -> bool {
        self.ended.is_some()
    }

    /// What every attack must show.
    pub fn checks(&self) -> Vec<Check> {
        let survived = self.ended.is_none() && self.within_limit;
        let seen = self
            .ended
            .as_ref()
            .map_or_else(|| self.memory.clone(), |ended| format!("{ended}, {}", self.memory));
        let failed = self.attacked.failed();
        let mut checks = vec![
            self.plan.check("survives within its memory", seen, survived),
            self.plan.check(
                "no request of the neighbour fails",
                failed,
                failed == 0 && self.attacked.sent() > 0,
            ),
        ];
        if self.plan.latency {
            checks.push(self.latency("GET", &self.quiet.gets, &self.attacked.gets));
            checks.push(self.latency("heartbeat", &self.quiet.heartbeats, &self.attacked.heartbeats));
        }
        checks
    }

    fn latency(&self, what: &str, quiet: &Outcome, attacked: &Outcome) -> Check {
        let most = (self.at_most * quiet.percentile(200, 0.99)).max(ACCEPTABLE_MS);
        let seen = attacked.percentile(200, 0.99);
        let must = format!("neighbour's {what} p99 at most {most:.0} ms");
        self.plan.check(&must, format!("{seen:.1} ms"), seen <= most && attacked.count(200) > 0)
    }
}
