//! The one place where chance comes from. Everything else takes it as an argument.

use rand::{CryptoRng, RngExt};

/// The thread's generator, seeded by the operating system: fit for secrets.
pub fn rng() -> impl CryptoRng {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    rand::rng()
}

/// A number drawn evenly from 0 (included) to 1 (excluded).
pub fn fraction() -> f64 {
    rng().random()
}
