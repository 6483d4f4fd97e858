//! What is counted and measured while the service runs, for Prometheus.
//!
//! [`METRICS`] is the one list of names: the operator's guide repeats it, and a test sees each of them move. Labels
//! hold what we chose ourselves (a route's pattern, a lane, a code), never what a caller sent, so that nobody can
//! make them many. Where no metrics are asked for, recording costs next to nothing.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often each size was met.
    Histogram,
}

/// A metric: its name, how it behaves, and what it tells.
pub type Metric = (&'static str, Kind, &'static str);

const REQUESTS: &str = "planasonix_http_requests_total";
const REQUEST_SECONDS: &str = "planasonix_http_request_seconds";
const REFUSALS: &str = "planasonix_refusals_total";
const BATCH_SIZE: &str = "planasonix_heartbeat_batch_size";
const FLUSH_SECONDS: &str = "planasonix_heartbeat_flush_seconds";
const FLUSH_FAILURES: &str = "planasonix_heartbeat_flush_failures_total";
const QUEUE_DEPTH: &str = "planasonix_heartbeat_queue_depth";
const AGENTS_BEATING: &str = "planasonix_agents_beating";
const AGENTS_CONNECTED: &str = "planasonix_agents_connected";
const LANE_CONNECTIONS: &str = "planasonix_database_connections";
const LANE_USED: &str = "planasonix_database_connections_used";
const LANE_WAIT_SECONDS: &str = "planasonix_database_wait_seconds";
const STATEMENT_SECONDS: &str = "planasonix_database_statement_seconds";
const STATEMENT_FAILURES: &str = "planasonix_database_failures_total";
const EVENTS: &str = "planasonix_events_total";
const CONNECTIONS: &str = "planasonix_connections";
const CONNECTIONS_CLOSED: &str = "planasonix_connections_closed_total";
const INSTALLER_READY: &str = "planasonix_installer_ready";

/// Every metric.
pub const METRICS: [Metric; 18] = [
    (REQUESTS, Kind::Counter, "Requests answered, by method, route and status."),
    (REQUEST_SECONDS, Kind::Histogram, "Time from a request's head to its answer's, by method and route."),
    (REFUSALS, Kind::Counter, "Errors told to callers, by the code in the error's envelope."),
    (BATCH_SIZE, Kind::Histogram, "Heartbeats stored by one flush."),
    (FLUSH_SECONDS, Kind::Histogram, "Time that a flush took."),
    (FLUSH_FAILURES, Kind::Counter, "Flushes that stored nothing and are sent again."),
    (QUEUE_DEPTH, Kind::Gauge, "Callers whose heartbeat waits for a flush."),
    (
        AGENTS_BEATING,
        Kind::Gauge,
        "Credentials whose heartbeats this replica accepted in its last window or two.",
    ),
    (
        AGENTS_CONNECTED,
        Kind::Gauge,
        "Agents connected, over all replicas, by Postgres's statistics: as old as the last autovacuum.",
    ),
    (LANE_CONNECTIONS, Kind::Gauge, "Connections to the database that a lane holds."),
    (LANE_USED, Kind::Gauge, "Those of them that are in use."),
    (LANE_WAIT_SECONDS, Kind::Histogram, "Time that work waited for a connection, by lane."),
    (STATEMENT_SECONDS, Kind::Histogram, "Time that work on the database took, by lane and statement."),
    (STATEMENT_FAILURES, Kind::Counter, "Work that the database did not do, or not in time, by lane."),
    (EVENTS, Kind::Counter, "Entries written to the audit trail, by type."),
    (CONNECTIONS, Kind::Gauge, "Open client connections, those to the metrics listener included."),
    (
        CONNECTIONS_CLOSED,
        Kind::Counter,
        "Client connections refused or cut by the server, by reason: `max_connections`, \
         `max_connections_per_address`, `idle`, `slow_head`, `stalled_write`, `slow_write`.",
    ),
    (
        INSTALLER_READY,
        Kind::Gauge,
        "Whether the installer for a platform is ready (1), or is not yet or cannot be prepared (0), by platform.",
    ),
];

/// Why the server closes a connection of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Refused: the limit of all connections is reached.
    MaxConnections,
    /// Refused: the limit of one address is reached.
    MaxConnectionsPerAddress,
    /// No request came in time.
    Idle,
    /// A request's head did not come in time.
    SlowHead,
    /// The peer took nothing of an answer in time.
    StalledWrite,
    /// The peer took less than the least average rate.
    SlowWrite,
}

impl CloseReason {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerAddress => "max_connections_per_address",
            Self::Idle => "idle",
            Self::SlowHead => "slow_head",
            Self::StalledWrite => "stalled_write",
            Self::SlowWrite => "slow_write",
        }
    }
}

/// A client's connection was taken.
pub fn connection_opened() {
    gauge!(CONNECTIONS).increment(1);
}

/// A client's connection that was taken has ended.
pub fn connection_closed() {
    gauge!(CONNECTIONS).decrement(1);
}

/// The server refused a connection, or ended one.
pub fn connection_cut(reason: CloseReason) {
    counter!(CONNECTIONS_CLOSED, "reason" => reason.as_str()).increment(1);
}

/// The installer for a platform became ready, or is not.
pub fn installer_ready(platform: &'static str, ready: bool) {
    gauge!(INSTALLER_READY, "platform" => platform).set(f64::from(u8::from(ready)));
}

/// Tells the recorder what each metric is.
pub fn describe() {
    for (name, kind, help) in METRICS {
        match kind {
            Kind::Counter => describe_counter!(name, help),
            Kind::Gauge => describe_gauge!(name, help),
            Kind::Histogram => describe_histogram!(name, help),
        }
    }
}

/// A request was answered. `route` is a pattern of ours, or nothing where none matched.
pub fn request(method: &'static str, route: Option<&str>, status: u16, elapsed: Duration) {
    let route = route.unwrap_or("unmatched").to_owned();
    histogram!(REQUEST_SECONDS, "method" => method, "route" => route.clone()).record(elapsed);
    counter!(REQUESTS, "method" => method, "route" => route, "status" => status.to_string()).increment(1);
}

/// A caller was told an error.
pub fn refusal(code: &'static str) {
    counter!(REFUSALS, "code" => code).increment(1);
}

/// A flush of this many beats ended; `stored` is whether it did what it should.
pub fn flush(beats: usize, elapsed: Duration, stored: bool) {
    histogram!(FLUSH_SECONDS).record(elapsed);
    if stored {
        histogram!(BATCH_SIZE).record(count(beats));
    } else {
        counter!(FLUSH_FAILURES).increment(1);
    }
}

/// The state of the desk for heartbeats after a flush: who waits, and how many are known to beat here.
pub fn desk(waiting: usize, beating: usize) {
    gauge!(QUEUE_DEPTH).set(count(waiting));
    gauge!(AGENTS_BEATING).set(count(beating));
}

/// The fleet was counted.
pub fn connected(agents: u64) {
    gauge!(AGENTS_CONNECTED).set(f64::from(u32::try_from(agents).unwrap_or(u32::MAX)));
}

/// A connection in use, until this is dropped.
pub struct Used(&'static str);

impl Used {
    /// Work got its connection after this wait, from a lane that now holds so many.
    pub fn after(waited: Duration, lane: &'static str, connections: u32) -> Self {
        histogram!(LANE_WAIT_SECONDS, "lane" => lane).record(waited);
        gauge!(LANE_CONNECTIONS, "lane" => lane).set(f64::from(connections));
        gauge!(LANE_USED, "lane" => lane).increment(1);
        Self(lane)
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        gauge!(LANE_USED, "lane" => self.0).decrement(1);
    }
}

/// Work on the database ended; `done` is false when the database was away or too slow.
pub fn statement(lane: &'static str, name: &'static str, elapsed: Duration, done: bool) {
    histogram!(STATEMENT_SECONDS, "lane" => lane, "statement" => name).record(elapsed);
    if !done {
        counter!(STATEMENT_FAILURES, "lane" => lane).increment(1);
    }
}

/// Entries were written to the audit trail.
pub fn events(event_type: &'static str, many: u64) {
    counter!(EVENTS, "type" => event_type).increment(many);
}

/// Exact for every number that is met here.
fn count(many: usize) -> f64 {
    f64::from(u32::try_from(many).unwrap_or(u32::MAX))
}
