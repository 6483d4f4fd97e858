//! The queue by itself, with times of the tests' own.

use planasonix_wire::{AgentId, json::Patch};
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::oneshot;
use ulid::Ulid;

use super::*;
use crate::domain::credential::{Agent, Plain};

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

fn know(queue: &mut Queue, key: Key) {
    queue.know([key].iter(), 0);
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
    know(&mut queue, key(1));
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
    know(&mut queue, good);
    let answers: Vec<_> =
        (1..=MOST_WAITING as u64).map_while(|n| push(&mut queue, key(n), cpu(0.0))).collect();
    assert_eq!(answers.len(), MOST_WAITING / 2);
    let _good = push(&mut queue, good, cpu(1.0)).unwrap();
    let batch = queue.take(Instant::now());
    assert_eq!(batch.len(), MAX_BATCH as usize / 2 + 1);
    assert!(batch.iter().any(|entry| entry.key == good));
}

#[test]
fn strangers_gather_while_the_known_go_on() {
    let mut queue = Queue::default();
    let good = key(0);
    know(&mut queue, good);
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

/// A queue behind a database that stores `rows` rows in the time that a flush should take.
fn slow_queue(rows: usize, known: u64) -> Queue {
    let mut queue = Queue::default();
    queue.record_timeout(2 * rows, 2 * FLUSH_TARGET);
    assert_eq!(queue.limit.get(), rows);
    (0..known).for_each(|n| know(&mut queue, key(n)));
    queue
}

#[test]
fn queue_of_a_slow_database_takes_what_can_be_stored_in_time() {
    let mut queue = slow_queue(10, 100);
    let answers: Vec<_> = (0..100).map_while(|n| push(&mut queue, key(n), cpu(0.0))).collect();
    assert_eq!(answers.len(), 40, "four flushes in a second");
    assert!(push(&mut queue, key(0), cpu(1.0)).is_some(), "a merged one costs no row");
    assert_eq!(queue.take(Instant::now()).len(), 10);
    let answers: Vec<_> = (40..100).map_while(|n| push(&mut queue, key(n), cpu(0.0))).collect();
    assert_eq!(answers.len(), 10);
}

#[test]
fn limit_of_one_row_leaves_one_to_the_known() {
    let mut queue = slow_queue(1, 1);
    let _stranger = push(&mut queue, key(7), cpu(0.0)).unwrap();
    let _good = push(&mut queue, key(0), cpu(0.0)).unwrap();
    let batch = queue.take(Instant::now());
    assert_eq!(batch.iter().map(|entry| entry.key).collect::<Vec<_>>(), [key(7), key(0)]);
}

#[test]
fn entry_whose_deadline_cannot_be_met_is_answered_unsent() {
    let mut queue = slow_queue(10, 2);
    let now = Instant::now() + Duration::from_secs(1);
    let mut push_until = |n, left| {
        let (reply, answer) = oneshot::channel();
        queue.push(key(n), cpu(0.0), HERE, Waiter { reply, deadline: now + left }).unwrap();
        answer
    };
    let mut late = push_until(0, FLUSH_TARGET);
    let mut timely = push_until(1, 2 * FLUSH_TARGET);
    let batch = queue.take(now);
    assert_eq!(batch.iter().map(|entry| entry.key).collect::<Vec<_>>(), [key(1)]);
    assert!(matches!(late.try_recv(), Ok(Outcome::Overloaded)));
    assert!(timely.try_recv().is_err());
    assert!(queue.take_overload());
    assert!(!queue.take_overload());
}

#[test]
fn batch_that_was_too_slow_leaves_room_for_fresh_entries() {
    let mut queue = Queue::default();
    (0..200).for_each(|n| know(&mut queue, key(n)));
    let mut answers: Vec<_> = (0..100).map_while(|n| push(&mut queue, key(n), cpu(0.0))).collect();
    let now = Instant::now();
    let batch = queue.take(now);
    queue.record_timeout(batch.len(), 5 * FLUSH_TARGET);
    queue.put_back_some(batch, now);
    let turned_away = answers.iter_mut().filter_map(|answer| answer.try_recv().ok()).count();
    assert_eq!((turned_away, queue.known.entries, queue.known.waiting), (80, 20, 20));
    let _fresh: Vec<_> = (100..120).map(|n| push(&mut queue, key(n), cpu(0.0)).unwrap()).collect();
    let later = now + Duration::from_secs(1);
    let keys: Vec<_> = queue.take(later).iter().map(|entry| entry.key).collect();
    assert_eq!(keys, (100..120).map(key).collect::<Vec<_>>(), "fresh ones come first");
    let keys: Vec<_> = queue.take(later).iter().map(|entry| entry.key).collect();
    assert_eq!(keys, (80..100).map(key).collect::<Vec<_>>(), "then the youngest of the others");
    assert_eq!((queue.known.entries, queue.known.waiting), (0, 0));
}

#[test]
fn good_credential_on_another_path_waits_with_the_unknown() {
    let mut queue = Queue::default();
    let own = key(1);
    know(&mut queue, own);
    let _answer = push(&mut queue, Key { agent: key(2).agent, ..own }, cpu(0.0));
    assert_eq!((queue.known.entries, queue.unknown.entries), (0, 1));
    let _answer = push(&mut queue, own, cpu(0.0));
    assert_eq!((queue.known.entries, queue.unknown.entries), (1, 1));
}
