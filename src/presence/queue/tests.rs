//! The queue by itself, with times of the tests' own.

use planasonix_wire::json::Patch;
use rand::{SeedableRng, rngs::StdRng};
use ulid::Ulid;

use super::*;
use crate::domain::credential::Plain;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn key(n: u64) -> Key {
    let mut rng = StdRng::seed_from_u64(n);
    Key {
        agent: AgentId::from_uuid(uuid::Uuid::from_u128(u128::from(n))),
        credential: Plain::<Agent>::generate(&mut rng, Ulid::nil()).hashed(),
    }
}

fn cpu(percent: f64) -> Sample {
    let mut sample = Sample::default();
    sample.figures.cpu_percent = Patch::Set(percent);
    sample
}

fn waiter() -> (Waiter, oneshot::Receiver<Outcome>) {
    let (reply, answer) = oneshot::channel();
    (Waiter { reply, deadline: Instant::now() + Duration::from_mins(1) }, answer)
}

fn push(queue: &mut Queue, key: Key, sample: Sample) -> Option<oneshot::Receiver<Outcome>> {
    let (waiter, answer) = waiter();
    queue.push(key, sample, HERE, waiter).ok().map(|()| answer)
}

#[test]
fn one_credential_s_beats_become_one_row_and_everyone_is_answered() {
    let mut queue = Queue::default();
    let mut answers: Vec<_> = (0..3).filter_map(|n| push(&mut queue, key(1), cpu(f64::from(n)))).collect();
    let mut batch = queue.take(Instant::now());
    assert_eq!(batch.len(), 1);
    let entry = batch.remove(0);
    assert_eq!(entry.sample, cpu(2.0));
    entry.answer(Outcome::Unknown);
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_ok()));
}

#[test]
fn another_credential_for_the_same_agent_is_another_row() {
    let mut queue = Queue::default();
    let forged = Key { agent: key(1).agent, ..key(2) };
    let _answers = [push(&mut queue, key(1), cpu(1.0)), push(&mut queue, forged, cpu(99.0))];
    assert_eq!(queue.take(Instant::now()).len(), 2);
}

#[test]
fn what_is_put_back_pauses_and_yields_to_what_was_said_since() {
    let mut queue = Queue::default();
    queue.know([key(1).credential].into_iter());
    let _first = push(&mut queue, key(1), cpu(1.0));
    let now = Instant::now();
    let batch = queue.take(now);
    let _later = push(&mut queue, key(1), cpu(2.0));
    queue.put_back(batch, now);
    assert!(queue.take(now).is_empty(), "it pauses");
    let due = queue.next_due(now).unwrap();
    let batch = queue.take(due);
    assert_eq!(batch[0].sample, cpu(2.0));
    assert_eq!(batch[0].waiters.len(), 2);
    assert_eq!(queue.next_due(due), None);
}

#[test]
fn strangers_fill_half_of_the_queue_and_of_a_batch() {
    let mut queue = Queue::default();
    let good = key(0);
    queue.know([good.credential].into_iter());
    let answers: Vec<_> =
        (1..=MOST_WAITING as u64).map_while(|n| push(&mut queue, key(n), cpu(0.0))).collect();
    assert_eq!(answers.len(), MOST_WAITING / 2);
    let _good = push(&mut queue, good, cpu(1.0)).unwrap();
    let batch = queue.take(Instant::now());
    assert_eq!(batch.len(), MOST_IN_BATCH / 2 + 1);
    assert!(batch.iter().any(|entry| entry.key == good));
}

#[test]
fn strangers_gather_while_the_known_go_on() {
    let mut queue = Queue::default();
    let good = key(0);
    queue.know([good.credential].into_iter());
    let now = Instant::now() + Duration::from_secs(1);
    let _first = push(&mut queue, key(1), cpu(1.0));
    assert_eq!(queue.take(now).len(), 1, "the first is taken at once");
    let _later = [push(&mut queue, key(2), cpu(1.0)), push(&mut queue, key(3), cpu(1.0))];
    assert!(queue.take(now).is_empty());
    assert_eq!(queue.next_due(now), Some(now + GATHER));
    let _good = push(&mut queue, good, cpu(1.0));
    assert_eq!(queue.next_due(now), Some(now));
    assert_eq!(queue.take(now).iter().map(|entry| entry.key).collect::<Vec<_>>(), [good]);
    assert_eq!(queue.take(now + GATHER).len(), 2);
}

#[test]
fn a_caller_that_has_gone_away_frees_its_place() {
    let mut queue = Queue::default();
    drop(push(&mut queue, key(1), cpu(1.0)));
    assert!(queue.take(Instant::now()).is_empty());
    assert_eq!(queue.unknown.waiting, 0);
}
