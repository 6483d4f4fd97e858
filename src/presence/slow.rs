//! The texts of a beat, which seldom change: stored after the answer, and only when there is news.
//!
//! What counts as news is told by what the database holds, which every replica sees the same.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use planasonix_wire::json::Patch;

use super::queue::Key;
use crate::{
    db::fleet::{SlowBeat, SlowMark},
    domain::presence::SlowFields,
};

/// An agent's texts are written this often at most, its complaint's coming and going excepted.
const SELDOM: Duration = Duration::from_mins(1);
/// So many agents' texts are written after one flush. They share its connection, and each changes a row with
/// many indexes, so that a whole fleet's upgrade would hold up its heartbeats. The others' turn is their
/// next beat.
const MOST_AT_ONCE: usize = 512;

/// Picks what is to be written of the beats that were just accepted.
pub(super) fn news(accepted: Vec<(Key, SlowFields, SlowMark)>) -> Vec<SlowBeat> {
    accepted
        .into_iter()
        .filter(|(_, fields, _)| !fields.is_empty())
        .filter_map(|(key, fields, mark)| {
            let hash = hash(&fields);
            let (agent, credential) = (key.agent, key.credential);
            is_news(&fields, hash, mark).then_some(SlowBeat { agent, credential, fields, hash })
        })
        .take(MOST_AT_ONCE)
        .collect()
}

fn is_news(fields: &SlowFields, hash: i64, mark: SlowMark) -> bool {
    let complaint_turned = match &fields.last_error {
        Patch::Keep => false,
        Patch::Clear => mark.complaining,
        Patch::Set(_) => !mark.complaining,
    };
    mark.hash != Some(hash) && (mark.hash.is_none() || mark.age >= SELDOM || complaint_turned)
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
        SlowMark { hash: Some(hash(last)), age: Duration::from_secs(seconds), complaining }
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
            (complaint("disk"), mark(&second, 1, false), true, "a complaint appears"),
            (complaint("disk!"), mark(&complaint("disk"), 1, true), false, "it changes"),
            (fields("2", Patch::Clear), mark(&complaint("disk"), 1, true), true, "it clears"),
            (fields("3", Patch::Clear), mark(&second, 1, false), false, "there was none"),
        ] {
            assert_eq!(!news(vec![(key(1), said, mark)]).is_empty(), written, "{why}");
        }
    }

    #[test]
    fn what_is_too_much_for_one_flush_stays_news() {
        let beats =
            (0..=MOST_AT_ONCE as u128).map(|n| (key(n), fields("2", Patch::Keep), SlowMark::default()));
        assert_eq!(news(beats.collect()).len(), MOST_AT_ONCE);
    }
}
