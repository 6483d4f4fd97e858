//! The one place that reads the system's clock. What decides by time takes it as an argument.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

/// Now, by this host's clock, which may be wrong.
pub fn now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    Utc::now()
}

/// Now, as files bear it.
pub fn file_time() -> SystemTime {
    now().into()
}
