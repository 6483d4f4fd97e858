//! The statements that work across workspaces: the heartbeat's, and those of the background tasks.
//! Nobody else may use them.

mod ageing;
mod backend;
mod batch_limit;
mod beats;
mod explain;
mod outage;
mod retention;
mod slow_fields;

pub use ageing::{Look, Search, close_silent_runs, estimate_connected};
pub use backend::{Backend, backend, end_backend};
pub use batch_limit::BatchLimit;
pub use beats::{Beat, BeatRules, Stored, store_beats};
pub use explain::{Explained, explain};
pub use outage::{announce_outage, record_control_plane_alive};
pub use retention::{prune_events, prune_idempotency_keys};
pub use slow_fields::{SlowBeat, SlowMark, store_slow_fields};
