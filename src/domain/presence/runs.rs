//! Which processes of an agent sent heartbeats. Two that send them in turn have one identity: a copied disk, or a
//! volume that two containers share. A process that was started anew is none.

use sha2::{Digest, Sha256};

/// The runs of the heartbeats that one credential sent since the last flush, as hashes of their ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    latest: Option<i32>,
    continued: Option<i32>,
    overlap: bool,
}

impl Runs {
    /// The run of one heartbeat; `continues` is whether an earlier heartbeat of this run was accepted.
    pub(super) fn of(run_id: Option<&str>, continues: bool) -> Self {
        let latest = run_id.map(hash);
        Self { latest, continued: latest.filter(|_| continues), overlap: false }
    }

    /// Adds the runs of later heartbeats.
    pub(super) fn merge(&mut self, later: Self) {
        self.overlap |= later.overlap;
        if self.latest.is_none() {
            (self.latest, self.continued) = (later.latest, later.continued);
        } else if later.latest.is_some() {
            self.overlap |= later.continued.is_some() && later.continued != self.latest;
            self.latest = later.latest;
        }
    }

    /// The run of the last heartbeat that named one.
    pub fn latest(self) -> Option<i32> {
        self.latest
    }

    /// The run of the first heartbeat that named one, unless that run starts with it. If the heartbeat stored before was
    /// another run's, there are two processes.
    pub fn continued(self) -> Option<i32> {
        self.continued
    }

    /// Whether these heartbeats alone show two processes.
    pub fn overlap(self) -> bool {
        self.overlap
    }
}

/// The same in every version of the program: replicas compare each other's.
fn hash(run_id: &str) -> i32 {
    let [first, second, third, fourth, ..] = <[u8; 32]>::from(Sha256::digest(run_id));
    i32::from_be_bytes([first, second, third, fourth])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(heartbeats: &[(&str, bool)]) -> Runs {
        heartbeats.iter().fold(Runs::default(), |mut runs, &(run_id, continues)| {
            runs.merge(Runs::of(Some(run_id), continues));
            runs
        })
    }

    #[test]
    fn run_that_goes_on_after_another_overlaps() {
        for (heartbeats, overlap, why) in [
            (&[("a", false), ("a", true)][..], false, "one process"),
            (&[("a", true), ("b", false), ("b", true)], false, "started anew"),
            (&[("a", true), ("b", true)], true, "both go on"),
            (&[("a", false), ("b", false), ("a", true)], true, "both are new"),
        ] {
            assert_eq!(merged(heartbeats).overlap(), overlap, "{why}");
        }
    }

    #[test]
    fn merged_runs_keep_the_first_and_the_last() {
        let runs = merged(&[("a", true), ("b", false)]);
        assert_eq!((runs.continued(), runs.latest()), (Some(hash("a")), Some(hash("b"))));
        let mut runs = Runs::of(None, false);
        runs.merge(Runs::of(Some("a"), true));
        runs.merge(Runs::of(None, false));
        assert_eq!(runs, Runs::of(Some("a"), true));
        assert_eq!(merged(&[("a", false), ("b", true)]).continued(), None);
    }

    #[test]
    fn hash_is_the_same_everywhere() {
        assert_eq!(hash("abc"), i32::from_be_bytes([0xba, 0x78, 0x16, 0xbf]));
    }
}
