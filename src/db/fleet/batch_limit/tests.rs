//! The limit against simulated statements: seconds for the statement, and seconds for each row.

use super::*;

const MAX: u32 = 4_096;
const TARGET: Duration = Duration::from_millis(250);
const TIMEOUT: f64 = 1.5;

struct Cost {
    fixed: f64,
    per_row: f64,
    /// Relative deviation, alternately up and down.
    noise: f64,
}

/// What a busy time came to.
struct Run {
    rows: f64,
    seconds: f64,
    longest: f64,
    timeouts: u32,
}

impl Run {
    fn rate(&self) -> f64 {
        self.rows / self.seconds
    }
}

/// Always as many rows wait as a statement may take.
fn run(limit: &mut BatchLimit, cost: &Cost, seconds: f64) -> Run {
    let (mut run, mut sign) = (Run { rows: 0.0, seconds: 0.0, longest: 0.0, timeouts: 0 }, 1.0);
    while run.seconds < seconds {
        let rows = limit.get();
        sign = -sign;
        let took = (cost.fixed + cost.per_row * to_float(rows)) * (1.0 + sign * cost.noise);
        run.seconds += took.min(TIMEOUT);
        run.longest = run.longest.max(took);
        if took > TIMEOUT {
            run.timeouts += 1;
            limit.record_timeout(rows, Duration::from_secs_f64(TIMEOUT));
        } else {
            run.rows += to_float(rows);
            limit.record_success(rows, Duration::from_secs_f64(took));
        }
    }
    run
}

#[test]
fn limit_on_slow_rows_keeps_capacity() {
    for per_row in [0.000_2, 0.002, 0.002_2, 0.02, 0.1, 0.4] {
        for noise in [0.0, 0.2] {
            let (mut limit, cost) = (BatchLimit::new(MAX, TARGET), Cost { fixed: 0.002, per_row, noise });
            let start = run(&mut limit, &cost, 5.0 + 10.0 * per_row);
            assert!(start.timeouts <= 6, "{per_row}: {} timeouts", start.timeouts);
            let steady = run(&mut limit, &cost, 60.0);
            assert_eq!(steady.timeouts, 0, "{per_row}");
            assert!(steady.rate() > 0.9 / per_row, "{per_row}, {noise}: {} rows a second", steady.rate());
            let longest = (2.0 * TARGET.as_secs_f64()).max(1.3 * per_row);
            assert!(steady.longest < longest, "{per_row}, {noise}: {} s", steady.longest);
        }
    }
}

#[test]
fn limit_with_slow_commits_stays_large() {
    for fixed in [0.3, 0.5, 0.8] {
        let (mut limit, cost) = (BatchLimit::new(MAX, TARGET), Cost { fixed, per_row: 0.000_02, noise: 0.1 });
        let run = run(&mut limit, &cost, 60.0);
        assert_eq!(run.timeouts, 0, "{fixed}");
        assert!(run.rate() > 0.7 * f64::from(MAX) / (fixed + 0.08), "{fixed}: {} rows a second", run.rate());
    }
}

#[test]
fn limit_after_an_outage_recovers_within_a_second() {
    let mut limit = BatchLimit::new(MAX, TARGET);
    for _ in 0..20 {
        limit.record_timeout(limit.get(), Duration::from_secs(1));
    }
    assert_eq!(limit.get(), 1);
    run(&mut limit, &Cost { fixed: 0.001, per_row: 0.000_02, noise: 0.0 }, 0.5);
    assert_eq!(limit.get(), MAX as usize);
}

#[test]
fn small_batch_that_is_slow_once_lowers_nothing() {
    let mut limit = BatchLimit::new(MAX, TARGET);
    limit.record_success(3, Duration::from_millis(600));
    assert_eq!(limit.get(), MAX as usize);
    limit.record_success(0, Duration::from_secs(1));
    assert_eq!(limit.get(), MAX as usize);
}

#[test]
fn rows_within_a_time_follow_the_limit() {
    let second = Duration::from_secs(1);
    let mut limit = BatchLimit::new(MAX, TARGET);
    assert_eq!(limit.rows_within(second), 4 * MAX as usize);
    run(&mut limit, &Cost { fixed: 0.0, per_row: 0.002, noise: 0.0 }, 10.0);
    let within = limit.rows_within(second);
    assert!((400..=500).contains(&within), "{within}");
    assert!(limit.expected(limit.get()) <= TARGET * 3 / 2, "{:?}", limit.expected(limit.get()));
    limit.record_timeout(1, second);
    assert_eq!(limit.rows_within(Duration::ZERO), 1);
}

#[test]
fn growing_batches_on_slow_rows_are_cut_before_they_time_out() {
    let (mut limit, mut rows) = (BatchLimit::new(MAX, TARGET), 100.0);
    while rows < to_float(limit.get()) {
        let took = 0.002_2 * rows;
        assert!(took < 0.8, "{rows} rows");
        limit.record_success(to_rows(rows), Duration::from_secs_f64(took));
        rows *= 1.2;
    }
}
