//! Turns, shares, bounds, and what a dropped waiter leaves behind.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};

use super::{Priority::Normal, *};

const MANY: usize = 1_000;

fn try_now(semaphore: &FairSemaphore<u32>, key: u32) -> Option<Permit<u32>> {
    match semaphore.enter(key, Normal, 0) {
        Ok(Entered::Granted(permit)) => Some(permit),
        _ => None,
    }
}

fn take_all(semaphore: &FairSemaphore<u32>, key: u32) -> Vec<Permit<u32>> {
    std::iter::from_fn(|| try_now(semaphore, key)).collect()
}

#[test]
fn key_alone_leaves_permits_for_others() {
    for (permits, alone) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (16, 12)] {
        let semaphore = FairSemaphore::new(permits, MANY);
        assert_eq!(take_all(&semaphore, 1).len(), alone, "of {permits}");
    }
}

#[test]
fn key_without_a_permit_takes_the_last_one() {
    let semaphore = FairSemaphore::new(4, MANY);
    let _first = take_all(&semaphore, 1);
    let second = try_now(&semaphore, 2);
    assert!(second.is_some() && try_now(&semaphore, 2).is_none() && try_now(&semaphore, 3).is_none());
}

#[tokio::test]
async fn waiters_are_served_by_turns_of_their_keys() {
    let semaphore = FairSemaphore::new(1, MANY);
    let first = try_now(&semaphore, 0).unwrap();
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    for (at, key) in [1, 1, 1, 1, 2, 3, 3].into_iter().enumerate() {
        let (semaphore, served) = (semaphore.clone(), served.clone());
        tokio::spawn(async move {
            let _permit = semaphore.acquire(key, Normal, MANY).await.unwrap();
            served.send((key, at)).unwrap();
        });
        yield_now().await;
    }
    drop((first, served));
    let mut seen = Vec::new();
    while let Some(next) = order.recv().await {
        seen.push(next);
    }
    assert_eq!(seen, [(1, 0), (2, 4), (3, 5), (1, 1), (3, 6), (1, 2), (1, 3)]);
}

#[tokio::test]
async fn work_under_way_goes_before_work_of_its_key_that_begins() {
    let semaphore = FairSemaphore::new(1, MANY);
    let first = try_now(&semaphore, 0).unwrap();
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    for (key, priority) in [(1, Normal), (1, Normal), (2, Normal), (1, Priority::High), (1, Priority::High)] {
        let (semaphore, served) = (semaphore.clone(), served.clone());
        tokio::spawn(async move {
            let _permit = semaphore.acquire(key, priority, MANY).await.unwrap();
            served.send((key, priority)).unwrap();
        });
        yield_now().await;
    }
    drop((first, served));
    let mut seen = Vec::new();
    while let Some(next) = order.recv().await {
        seen.push(next);
    }
    let (high, normal) = ((1, Priority::High), (1, Normal));
    assert_eq!(seen, [high, (2, Normal), high, normal, normal]);
}

#[tokio::test]
async fn full_queue_refuses_at_once() {
    let semaphore = FairSemaphore::new(1, 3);
    let held = try_now(&semaphore, 0).unwrap();
    let mut waiting = JoinSet::new();
    for key in [1, 1, 2] {
        let semaphore = semaphore.clone();
        waiting.spawn(async move { semaphore.acquire(key, Normal, 2).await.map(drop) });
        yield_now().await;
    }
    assert!(semaphore.acquire(1, Normal, 2).await.is_err(), "two of this key wait");
    assert!(semaphore.acquire(3, Normal, 2).await.is_err(), "three wait in all");
    drop(held);
    assert!(waiting.join_all().await.into_iter().all(|result| result.is_ok()));
    assert!(semaphore.acquire(3, Normal, 2).await.is_ok());
}

#[tokio::test]
async fn dropped_waiter_passes_its_turn_on() {
    let semaphore = FairSemaphore::new(1, MANY);
    let held = try_now(&semaphore, 0).unwrap();
    let next = {
        let mut first = pin!(semaphore.acquire(1, Normal, MANY));
        let mut second = pin!(semaphore.acquire(2, Normal, MANY));
        let mut next = Box::pin(semaphore.acquire(3, Normal, MANY));
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
            assert!(next.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        // The first is dropped with a permit that it has not seen, the second while it still waits.
        drop(held);
        next
    };
    drop(timeout(Duration::from_secs(5), next).await.unwrap().unwrap());
    let state = lock(&semaphore.0);
    assert_eq!((state.free, state.waiting, state.held.len(), state.queues.len()), (1, 0, 0, 0));
    assert!(state.turns.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_waiters_lose_no_permit() {
    let semaphore = FairSemaphore::new(3, MANY);
    let mut tasks = JoinSet::new();
    for task in 0..32_u32 {
        let semaphore = semaphore.clone();
        let mut rng = StdRng::seed_from_u64(task.into());
        tasks.spawn(async move {
            for _ in 0..200 {
                let patience = Duration::from_micros(rng.random_range(0..200));
                if let Ok(Ok(_permit)) = timeout(patience, semaphore.acquire(task % 5, Normal, MANY)).await {
                    sleep(Duration::from_micros(rng.random_range(0..50))).await;
                }
            }
            // Every waiter that stays is served.
            drop(semaphore.acquire(task % 5, Normal, MANY).await.unwrap());
        });
    }
    timeout(Duration::from_mins(1), tasks.join_all()).await.unwrap();
    let state = lock(&semaphore.0);
    assert_eq!((state.free, state.waiting, state.held.len(), state.turns.len()), (3, 0, 0, 0));
}
