//! Who may run beside whom: tests that storm a server, or hold it to the clock, run while no other does.
//!
//! The machine is small, and a test that loads it must not be what makes another one late.

use std::{
    cell::Cell,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

#[derive(Default)]
struct Running {
    together: usize,
    alone: bool,
    waiting: usize,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { together: 0, alone: false, waiting: 0 });
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// How many turns this thread's test holds: it never waits for itself.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A test's turn, until it is dropped.
pub struct Turn {
    first: bool,
    alone: bool,
}

/// A turn beside others. Each test's database holds one.
pub fn together() -> Turn {
    take(false)
}

/// A turn that nobody shares: the first thing that such a test takes.
pub fn alone() -> Turn {
    take(true)
}

fn take(alone: bool) -> Turn {
    let first = HELD.get() == 0;
    assert!(first || !alone, "a test that runs alone says so first");
    if first {
        let mut running = lock();
        if alone {
            running.waiting += 1;
            running = wait(running, |running| running.alone || running.together > 0);
            running.waiting -= 1;
            running.alone = true;
        } else {
            running = wait(running, |running| running.alone || running.waiting > 0);
            running.together += 1;
        }
        drop(running);
    }
    HELD.set(HELD.get() + 1);
    Turn { first, alone }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HELD.set(HELD.get().saturating_sub(1));
        if self.first {
            let mut running = lock();
            if self.alone {
                running.alone = false;
            } else {
                running.together -= 1;
            }
            drop(running);
            CHANGED.notify_all();
        }
    }
}

fn lock() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(running: MutexGuard<'_, Running>, not_yet: impl Fn(&mut Running) -> bool) -> MutexGuard<'_, Running> {
    CHANGED.wait_while(running, not_yet).unwrap_or_else(PoisonError::into_inner)
}
