//! The texts of a beat, which seldom change: stored after the answer, and only when there is news.
//!
//! What counts as news is told by what the database holds, which every replica sees the same.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use planasonix_wire::json::Patch;

use tokio::time::Instant;

use super::{
    connection::{Failure, FailureKind},
    queue::Key,
};
use crate::{
    db::fleet::{BatchLimit, SlowBeat, SlowMark},
    domain::presence::SlowFields,
};

/// An agent's texts are written this often at most, its complaint's coming and going excepted.
const SELDOM: Duration = Duration::from_mins(1);

/// Most agents whose texts one statement writes, at first and later, and how long it should take: it shares the flusher's connection, and
/// changes rows with many indexes.
const MAX_FACTS: u32 = 512;
const FIRST_FACTS: u32 = 32;
const FACTS_TARGET: Duration = Duration::from_millis(50);
/// While heartbeats wait, texts take at most one part in this many of the flusher's time.
const FACTS_SHARE: u32 = 10;

/// How many texts may be written after a flush, so that they hold up no heartbeats.
pub(super) struct FactsBudget {
    limit: BatchLimit,
    /// Until when texts yield to waiting heartbeats.
    yield_until: Instant,
}

impl FactsBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { limit: BatchLimit::new(MAX_FACTS, FACTS_TARGET).starting_at(FIRST_FACTS), yield_until: now }
    }

    /// Picks what is to be written now; `busy` is whether heartbeats wait. What is left out is news to the next beat
    /// still.
    pub(super) fn pick(
        &self,
        accepted: Vec<(Key, SlowFields, SlowMark)>,
        busy: bool,
        now: Instant,
    ) -> Vec<SlowBeat> {
        if busy && now < self.yield_until { Vec::new() } else { news(accepted, self.limit.get()) }
    }

    /// The statement for this many agents has ended.
    pub(super) fn record(&mut self, agents: usize, stored: Result<((), Duration), Failure>, now: Instant) {
        let elapsed = match stored {
            Ok(((), elapsed)) => {
                self.limit.record_success(agents, elapsed);
                elapsed
            }
            Err(Failure { kind, elapsed, error }) => {
                match kind {
                    FailureKind::TooSlow => self.limit.record_timeout(agents, elapsed),
                    FailureKind::InvalidData => tracing::error!(%error, "unstorable texts of heartbeats"),
                    FailureKind::Unavailable => {}
                }
                elapsed
            }
        };
        self.yield_until = now + elapsed * (FACTS_SHARE - 1);
    }
}

/// Picks what is to be written of the beats that were just accepted, at most `limit` agents' texts. The others' turn is
/// their next beat.
fn news(accepted: Vec<(Key, SlowFields, SlowMark)>, limit: usize) -> Vec<SlowBeat> {
    accepted
        .into_iter()
        .filter(|(_, fields, _)| !fields.is_empty())
        .filter_map(|(key, fields, mark)| {
            let hash = hash(&fields);
            let (agent, credential) = (key.agent, key.credential);
            is_news(&fields, hash, mark).then_some(SlowBeat { agent, credential, fields, hash })
        })
        .take(limit)
        .collect()
}

fn is_news(fields: &SlowFields, hash: i64, mark: SlowMark) -> bool {
    let complaint_turned = match &fields.last_error {
        Patch::Keep => false,
        Patch::Clear => mark.complaining,
        Patch::Set(_) => !mark.complaining,
    };
    mark.hash != Some(hash) && (mark.age.is_none_or(|age| age >= SELDOM) || complaint_turned)
}

/// The same in every process of one program. Where another program's differs, the texts are compared once
/// more.
fn hash(fields: &SlowFields) -> i64 {
    let mut hasher = DefaultHasher::new();
    fields.hash(&mut hasher);
    hasher.finish().cast_signed()
}

#[cfg(test)]
mod tests {
    use planasonix_wire::AgentId;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::domain::credential::{Agent, Plain};

    fn key(number: u128) -> Key {
        let agent = AgentId::from_uuid(uuid::Uuid::from_u128(number));
        let mut rng = StdRng::seed_from_u64(1);
        Key { agent, credential: Plain::<Agent>::generate(&mut rng, agent.ulid()).hashed() }
    }

    fn fields(version: &str, last_error: Patch<String>) -> SlowFields {
        SlowFields { version: Patch::Set(version.to_owned()), last_error, ..SlowFields::default() }
    }

    fn mark(last: &SlowFields, seconds: u64, complaining: bool) -> SlowMark {
        SlowMark { hash: Some(hash(last)), age: Some(Duration::from_secs(seconds)), complaining }
    }

    #[test]
    fn only_news_is_written_and_seldom() {
        let (first, second) = (fields("1", Patch::Keep), fields("2", Patch::Keep));
        let complaint = |text: &str| fields("2", Patch::Set(text.to_owned()));
        for (said, mark, written, why) in [
            (SlowFields::default(), SlowMark::default(), false, "nothing said"),
            (first.clone(), SlowMark::default(), true, "nothing known"),
            (first.clone(), mark(&first, 3_600, false), false, "nothing new"),
            (second.clone(), mark(&first, 59, false), false, "too soon"),
            (second.clone(), mark(&first, 60, false), true, "news"),
            (
                second.clone(),
                SlowMark { age: None, ..mark(&first, 0, false) },
                true,
                "written at no past time",
            ),
            (
                first.clone(),
                SlowMark { age: None, ..mark(&first, 0, false) },
                false,
                "nothing new all the same",
            ),
            (complaint("disk"), mark(&second, 1, false), true, "a complaint appears"),
            (complaint("disk!"), mark(&complaint("disk"), 1, true), false, "it changes"),
            (fields("2", Patch::Clear), mark(&complaint("disk"), 1, true), true, "it clears"),
            (fields("3", Patch::Clear), mark(&second, 1, false), false, "there was none"),
        ] {
            assert_eq!(!news(vec![(key(1), said, mark)], 1).is_empty(), written, "{why}");
        }
    }

    #[test]
    fn what_is_too_much_for_one_flush_stays_news() {
        let beats = (0..9).map(|n| (key(n), fields("2", Patch::Keep), SlowMark::default()));
        assert_eq!(news(beats.collect(), 8).len(), 8);
    }

    #[test]
    fn texts_after_a_slow_statement_yield_to_waiting_heartbeats() {
        let now = Instant::now();
        let mut budget = FactsBudget::new(now);
        let pick = |budget: &FactsBudget, busy, seconds| {
            let accepted = (0..9).map(|n| (key(n), fields("2", Patch::Keep), SlowMark::default())).collect();
            budget.pick(accepted, busy, now + Duration::from_secs(seconds)).len()
        };
        assert_eq!(pick(&budget, true, 0), 9);
        let error = "statement timeout".into();
        let failure = Failure { kind: FailureKind::TooSlow, elapsed: Duration::from_secs(1), error };
        budget.record(4, Err(failure), now);
        assert_eq!(pick(&budget, true, 8), 0);
        assert_eq!(pick(&budget, false, 8), 1, "the limit has followed");
        assert_eq!(pick(&budget, true, 9), 1);
    }
}
