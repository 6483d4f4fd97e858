//! The one place where chance comes from. Everything else takes it as an argument.

use rand::{Rng, RngExt};

use crate::secret::hex;

fn rng() -> impl Rng {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    rand::rng()
}

/// A number drawn evenly from 0 (included) to 1 (excluded).
pub fn fraction() -> f64 {
    rng().random()
}

/// 128 random bits, as 32 hexadecimal digits.
pub fn nonce() -> String {
    hex(&rng().random::<[u8; 16]>())
}
