//! Secrets, as a pair of types: [`Plain`] is made once and shown once, [`Hashed`] is what is kept.
//!
//! The kind stands in the type as it stands in the token's prefix, so an enrollment token cannot be
//! passed where an agent's credential is meant. SHA-256 is enough for 190 random bits; API keys are
//! long-lived and get Argon2id on top.

use std::{fmt, marker::PhantomData};

use argon2::{
    Argon2, PasswordHasher, PasswordVerifier,
    password_hash::{Error as HashError, phc::PasswordHash},
};
use planasonix_wire::token::{self, MalformedToken, SECRET_CHARS};
use rand::{CryptoRng, RngExt};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use ulid::Ulid;

/// A kind of token, as a type.
pub trait Kind {
    /// The same kind, as a value.
    const KIND: token::Kind;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident),+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub enum $name {}

            impl Kind for $name {
                const KIND: token::Kind = token::Kind::$name;
            }
        )+
    };
}

kinds!(
    /// Held by dashboards and automation.
    ApiKey,
    /// Held by an installer, good for one enrollment.
    Enrollment,
    /// Held by one agent.
    Agent
);

/// A token in clear. No `Clone`, no `Serialize`, and `Debug` says nothing.
pub struct Plain<K> {
    token: SecretString,
    public_id: Ulid,
    kind: PhantomData<K>,
}

impl<K: Kind> Plain<K> {
    /// Makes a token that never was before.
    pub fn generate(rng: &mut impl CryptoRng, public_id: Ulid) -> Self {
        let secret: [u8; SECRET_CHARS] = std::array::from_fn(|_| rng.random_range(0..62));
        let token = SecretString::from(token::assemble(K::KIND, public_id, &secret));
        Self { token, public_id, kind: PhantomData }
    }

    /// Takes a token that somebody presents.
    ///
    /// # Errors
    /// It is mistyped, or of another kind.
    pub fn parse(token: &str) -> Result<Self, MalformedToken> {
        match token::inspect(token)? {
            (kind, public_id) if kind == K::KIND => {
                Ok(Self { token: SecretString::from(token), public_id, kind: PhantomData })
            }
            _ => Err(MalformedToken),
        }
    }

    /// The id that the token shows openly: an API key's own, otherwise its agent's.
    pub fn public_id(&self) -> Ulid {
        self.public_id
    }

    /// The part of the token that may be shown in lists.
    pub fn prefix(&self) -> String {
        K::KIND.public_part(self.public_id)
    }

    /// What is kept of the token.
    pub fn hashed(&self) -> Hashed<K> {
        Hashed { digest: Sha256::digest(self.token.expose_secret()).into(), kind: PhantomData }
    }

    /// Shows the token. It cannot be shown again.
    pub fn reveal(self) -> String {
        self.token.expose_secret().to_owned()
    }
}

impl Plain<ApiKey> {
    /// The key's Argon2id hash as a PHC string. Takes tens of milliseconds and 19 MiB.
    ///
    /// # Errors
    /// Only if the random number generator gives nothing for the salt.
    pub fn argon2(&self, rng: &mut impl CryptoRng) -> Result<String, HashError> {
        let hash: PasswordHash =
            Argon2::default().hash_password_with_rng(rng, self.token.expose_secret().as_bytes())?;
        Ok(hash.to_string())
    }

    /// Whether a stored PHC string is this key's. Takes tens of milliseconds and 19 MiB.
    ///
    /// # Errors
    /// The stored text is no PHC string that we can read.
    pub fn matches(&self, phc: &str) -> Result<bool, HashError> {
        match Argon2::default().verify_password(self.token.expose_secret().as_bytes(), phc) {
            Ok(()) => Ok(true),
            Err(HashError::PasswordInvalid) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<K> fmt::Debug for Plain<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(…)")
    }
}

/// The SHA-256 of a token.
pub struct Hashed<K> {
    digest: [u8; 32],
    kind: PhantomData<K>,
}

impl<K> Hashed<K> {
    /// Takes a digest that the database kept; `None` if it is not 32 bytes long.
    pub fn from_stored(digest: &[u8]) -> Option<Self> {
        Some(Self { digest: digest.try_into().ok()?, kind: PhantomData })
    }

    /// The digest, for the database.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The digest's first eight bytes: enough to tell tokens apart where a mix-up costs nothing.
    pub fn fingerprint(&self) -> u64 {
        self.digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    /// The digest's first four bytes: what stands beside an Argon2 hash to turn bogus keys down cheaply.
    pub fn check(&self) -> [u8; 4] {
        self.digest.first_chunk().copied().unwrap_or_default()
    }
}

impl<K> Clone for Hashed<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Hashed<K> {}

impl<K> PartialEq for Hashed<K> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<K> Eq for Hashed<K> {}

impl<K> std::hash::Hash for Hashed<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint());
    }
}

impl<K> fmt::Debug for Hashed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(…)")
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_plain_token_reads_back_and_shows_nothing() {
        let mut rng = StdRng::seed_from_u64(7);
        let plain = Plain::<Agent>::generate(&mut rng, Ulid::from_parts(1, 2));
        let (hashed, debug) = (plain.hashed(), format!("{plain:?} {:?}", plain.hashed()));
        let token = plain.reveal();
        assert_eq!(debug, "Plain(…) Hashed(…)");
        assert!(Plain::<Agent>::parse(&token).is_ok_and(|again| again.hashed() == hashed));
        assert!(Plain::<Enrollment>::parse(&token).is_err(), "the kind counts");
    }

    #[test]
    fn argon2_tells_a_key_from_another() {
        let mut rng = StdRng::seed_from_u64(7);
        let key = Plain::<ApiKey>::generate(&mut rng, Ulid::from_parts(1, 2));
        let other = Plain::<ApiKey>::generate(&mut rng, Ulid::from_parts(1, 2));
        let phc = key.argon2(&mut rng).unwrap();
        assert!(phc.starts_with("$argon2id$"));
        assert!(key.matches(&phc).unwrap());
        assert!(!other.matches(&phc).unwrap());
        assert!(key.matches("nonsense").is_err());
    }
}
