//! A semaphore whose permits go round among keys.
//!
//! Every waiter belongs to a key, a workspace for example. Keys with waiters are served round-robin, one permit a
//! turn; within a key those of [`Priority::High`] come first, and otherwise the order is that of arrival. A key that holds permits may take another one only while it then
//! holds at most `SHARE` times the number that stays free, so a key that arrives later finds a permit at once: of
//! eight permits one key alone holds at most six, two keys three each.
//!
//! Dropping the future of [`FairSemaphore::acquire`] is safe at any time: the place in the queue is given up, and a
//! permit that was already granted goes to the next waiter.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// How many times the number of free permits one key may hold.
const SHARE: usize = 3;

/// Permits that are handed out by turns. Cheap to clone; clones share the permits.
pub struct FairSemaphore<K: Copy + Eq + Hash>(Arc<Mutex<State<K>>>);

/// The order among the waiters of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// For work that is under way already: it is finished before more is begun.
    High,
    /// For work that begins.
    Normal,
}

/// The queue has no place for another waiter.
#[derive(Debug, thiserror::Error)]
#[error("too many requests wait for the same resource")]
pub struct QueueFull;

struct State<K: Copy + Eq + Hash> {
    free: usize,
    /// Keys that hold none are not listed.
    held: HashMap<K, usize>,
    /// Keys without waiters are not listed.
    queues: HashMap<K, Queue<K>>,
    /// The keys with waiters, the one whose turn it is first.
    turns: VecDeque<K>,
    waiting: usize,
    max_waiting: usize,
    next_id: u64,
}

/// The waiters of one key, by priority.
struct Queue<K: Copy + Eq + Hash> {
    high: VecDeque<Waiter<K>>,
    normal: VecDeque<Waiter<K>>,
}

/// Among those of one priority the ids ascend.
struct Waiter<K: Copy + Eq + Hash> {
    id: u64,
    grant: oneshot::Sender<Permit<K>>,
}

impl<K: Copy + Eq + Hash> Queue<K> {
    fn len(&self) -> usize {
        self.high.len() + self.normal.len()
    }

    fn of(&mut self, priority: Priority) -> &mut VecDeque<Waiter<K>> {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
        }
    }

    fn pop(&mut self) -> Option<Waiter<K>> {
        self.high.pop_front().or_else(|| self.normal.pop_front())
    }
}

impl<K: Copy + Eq + Hash> Clone for FairSemaphore<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Copy + Eq + Hash> FairSemaphore<K> {
    /// `max_waiting` bounds the waiters of all keys together.
    pub fn new(permits: usize, max_waiting: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: permits,
            held: HashMap::new(),
            queues: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            max_waiting,
            next_id: 0,
        })))
    }

    /// Waits for a permit, unless `max_waiting` waiters of the key are there already.
    ///
    /// # Errors
    /// [`QueueFull`], at once.
    pub async fn acquire(
        &self,
        key: K,
        priority: Priority,
        max_waiting: usize,
    ) -> Result<Permit<K>, QueueFull> {
        let mut place = match self.enter(key, priority, max_waiting)? {
            Entered::Granted(permit) => return Ok(permit),
            Entered::Queued(place) => place,
        };
        // The sender is dropped only after it was used.
        (&mut place.granted).await.map_err(|_| QueueFull)
    }

    fn enter(&self, key: K, priority: Priority, max_waiting: usize) -> Result<Entered<K>, QueueFull> {
        let mut state = lock(&self.0);
        let ahead = state.queues.get(&key).map_or(0, Queue::len);
        if ahead == 0 && state.may_take(key) {
            state.take(key);
            return Ok(Entered::Granted(Permit { key, state: Arc::clone(&self.0) }));
        }
        if ahead >= max_waiting || state.waiting >= state.max_waiting {
            return Err(QueueFull);
        }
        let (grant, granted) = oneshot::channel();
        let id = state.enqueue(key, priority, grant);
        Ok(Entered::Queued(Place { id, key, priority, granted, state: Arc::clone(&self.0) }))
    }
}

enum Entered<K: Copy + Eq + Hash> {
    Granted(Permit<K>),
    Queued(Place<K>),
}

impl<K: Copy + Eq + Hash> State<K> {
    fn may_take(&self, key: K) -> bool {
        let held = self.held.get(&key).copied().unwrap_or(0);
        self.free > 0 && (held == 0 || held < SHARE * (self.free - 1))
    }

    fn take(&mut self, key: K) {
        self.free -= 1;
        *self.held.entry(key).or_default() += 1;
    }

    fn give_back(&mut self, key: K) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&key) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&key);
            }
        }
    }

    fn enqueue(&mut self, key: K, priority: Priority, grant: oneshot::Sender<Permit<K>>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let queue = self.queues.entry(key).or_insert_with(|| {
            self.turns.push_back(key);
            Queue { high: VecDeque::new(), normal: VecDeque::new() }
        });
        queue.of(priority).push_back(Waiter { id, grant });
        self.waiting += 1;
        id
    }

    /// Takes a permit for the next waiter that may have one, and removes it from its queue.
    fn next_grant(&mut self) -> Option<(K, Waiter<K>)> {
        if self.free == 0 {
            return None;
        }
        let at = self.turns.iter().position(|key| self.may_take(*key))?;
        let key = self.turns.remove(at)?;
        let queue = self.queues.get_mut(&key)?;
        let waiter = queue.pop()?;
        if queue.len() == 0 {
            self.queues.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        self.waiting -= 1;
        self.take(key);
        Some((key, waiter))
    }

    /// Removes a waiter that has given up, if no permit was granted to it yet.
    fn leave(&mut self, key: K, priority: Priority, id: u64) {
        let Some(queue) = self.queues.get_mut(&key) else { return };
        let waiters = queue.of(priority);
        let Ok(at) = waiters.binary_search_by_key(&id, |waiter| waiter.id) else { return };
        waiters.remove(at);
        self.waiting -= 1;
        if queue.len() == 0 {
            self.queues.remove(&key);
            self.turns.retain(|turn| *turn != key);
        }
    }
}

/// A permit. Dropping it gives it to the next waiter.
pub struct Permit<K: Copy + Eq + Hash> {
    key: K,
    state: Arc<Mutex<State<K>>>,
}

impl<K: Copy + Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut grants = Vec::new();
        {
            let mut state = lock(&self.state);
            state.give_back(self.key);
            while let Some(grant) = state.next_grant() {
                grants.push(grant);
            }
        }
        for (key, waiter) in grants {
            // Outside the lock: a permit whose receiver has gone comes back and is dropped here, which passes it on.
            drop(waiter.grant.send(Permit { key, state: Arc::clone(&self.state) }));
        }
    }
}

/// A place in the queue, given up when dropped.
struct Place<K: Copy + Eq + Hash> {
    id: u64,
    key: K,
    priority: Priority,
    granted: oneshot::Receiver<Permit<K>>,
    state: Arc<Mutex<State<K>>>,
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.state).leave(self.key, self.priority, self.id);
    }
}

fn lock<K>(state: &Mutex<State<K>>) -> MutexGuard<'_, State<K>>
where
    K: Copy + Eq + Hash,
{
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
