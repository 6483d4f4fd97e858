//! How many rows one statement may take, learnt from what the last ones cost.
//!
//! A statement has a fixed time limit, so its amount of work must not be fixed: on a slow database it would time out,
//! be tried again whole, and never succeed.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// Largest factor by which one fast statement raises the limit.
const MAX_GROWTH: f64 = 8.0;
/// A statement that took longer than this multiple of the target was too large. The margin keeps noise from moving the
/// limit.
const TOLERANCE: f64 = 1.25;

/// Bounds the rows of one kind of statement so that it takes about `target`, well below its time limit.
#[derive(Debug, Clone)]
pub struct BatchLimit {
    max: f64,
    target: f64,
    limit: f64,
    costs: Costs,
    /// Rows and seconds of the last statement.
    last: (f64, f64),
}

impl BatchLimit {
    /// Starts at `max` rows, which is never exceeded.
    pub fn new(max: u32, target: Duration) -> Self {
        let max = f64::from(max.max(1));
        Self { max, target: target.as_secs_f64(), limit: max, costs: Costs::default(), last: (0.0, 0.0) }
    }

    /// Starts at fewer rows than its maximum, where the first statements must not be slow.
    #[must_use]
    pub fn starting_at(mut self, rows: u32) -> Self {
        self.set(f64::from(rows));
        self
    }

    /// Most rows that the next statement may take, at least 1.
    pub fn get(&self) -> usize {
        to_rows(self.limit)
    }

    /// The same, as a `LIMIT` in SQL.
    pub fn sql(&self) -> i64 {
        i64::try_from(self.get()).unwrap_or(i64::MAX)
    }

    /// A statement of `rows` rows ended after `elapsed`.
    pub fn record_success(&mut self, rows: usize, elapsed: Duration) {
        if rows == 0 {
            return;
        }
        let (rows, seconds) = (to_float(rows), elapsed.as_secs_f64().max(1e-6));
        self.costs.add(rows, seconds);
        self.last = (rows, seconds);
        if seconds <= self.target * TOLERANCE {
            // Whatever part of the cost is fixed, this many rows fit the target too.
            let fit = rows * self.target / seconds;
            self.set(fit.clamp(self.limit, self.limit * MAX_GROWTH));
        } else if let Some(costs) = self.costs.split() {
            // Only the cost of rows counts: taking fewer of them does not shorten what is fixed.
            let fit = self.target / costs.per_row.max(1e-9);
            self.set(fit.clamp(self.limit / 2.0, self.limit * 2.0));
        } else if rows >= self.limit.floor() {
            self.set(self.limit / 2.0);
        }
    }

    /// A statement of `rows` rows had not ended after `elapsed` (SQLSTATE 57014 or 55P03, or the client gave up).
    pub fn record_timeout(&mut self, rows: usize, elapsed: Duration) {
        let (rows, seconds) = (to_float(rows), elapsed.as_secs_f64().max(1e-6));
        let fit = rows * (self.target / seconds).min(0.5);
        self.costs = Costs::default();
        self.set(fit.min(self.limit));
        self.last = (self.limit, self.target);
    }

    /// How long the next statement is expected to take if it has this many rows; a guess of at most the target where
    /// the last ones do not say.
    pub fn expected(&self, rows: usize) -> Duration {
        Duration::try_from_secs_f64(self.expected_seconds(to_float(rows))).unwrap_or_default()
    }

    /// How many rows consecutive full statements are expected to store within `time`, at least 1.
    pub fn rows_within(&self, time: Duration) -> usize {
        let one = self.expected_seconds(self.limit).max(self.target);
        to_rows(self.limit * time.as_secs_f64() / one)
    }

    fn expected_seconds(&self, rows: f64) -> f64 {
        let (last_rows, last_seconds) = self.last;
        match self.costs.split() {
            Some(costs) => (costs.fixed + costs.per_row * rows).min(last_seconds.max(self.target) * 2.0),
            None if last_rows * 2.0 >= rows => last_seconds,
            None => last_seconds.min(self.target),
        }
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(1.0, self.max);
    }
}

/// Sums over the recent statements, older ones weighing less: a straight line through (rows, seconds).
#[derive(Debug, Clone, Copy, Default)]
struct Costs {
    statements: f64,
    rows: f64,
    seconds: f64,
    rows_squared: f64,
    rows_by_seconds: f64,
}

/// What a statement costs, in seconds.
struct Split {
    fixed: f64,
    per_row: f64,
}

impl Costs {
    /// Weight of what was known before each new measurement.
    const DECAY: f64 = 0.8;
    /// Variance of the batch sizes over their squared mean from which the two costs can be told apart: sizes that
    /// differ by about a fifth.
    const MIN_SPREAD: f64 = 0.04;

    fn add(&mut self, rows: f64, seconds: f64) {
        self.statements = self.statements * Self::DECAY + 1.0;
        self.rows = self.rows * Self::DECAY + rows;
        self.seconds = self.seconds * Self::DECAY + seconds;
        self.rows_squared = self.rows_squared * Self::DECAY + rows * rows;
        self.rows_by_seconds = self.rows_by_seconds * Self::DECAY + rows * seconds;
    }

    /// `None` where the batches were too much of one size to tell.
    fn split(&self) -> Option<Split> {
        let spread = self.statements * self.rows_squared - self.rows * self.rows;
        if self.statements < 1.5 || spread < Self::MIN_SPREAD * self.rows * self.rows {
            return None;
        }
        let slope = (self.statements * self.rows_by_seconds - self.rows * self.seconds) / spread;
        let per_row = slope.clamp(0.0, self.seconds / self.rows);
        Some(Split { fixed: (self.seconds - per_row * self.rows) / self.statements, per_row })
    }
}

#[expect(clippy::cast_precision_loss, reason = "no batch is that large")]
fn to_float(rows: usize) -> f64 {
    rows as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, and far below 2^32")]
fn to_rows(rows: f64) -> usize {
    rows.max(1.0) as usize
}
