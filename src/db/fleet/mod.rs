//! The statements that work across workspaces: the heartbeat's, and those of the background tasks.
//! Nobody else may use them.

mod ageing;
mod beats;
mod explain;
mod retention;
mod slow_fields;

pub(super) use ageing::GAP;
pub use ageing::{Look, Search, close_silent_runs, estimate_connected, mark_alive};
pub use beats::{Beat, BeatRules, Stored, store_beats};
pub use explain::{Explained, explain};
pub use retention::{prune_events, prune_idempotency_keys};
pub use slow_fields::{SlowBeat, SlowMark, store_slow_fields};
