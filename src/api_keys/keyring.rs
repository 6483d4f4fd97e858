//! Is this API key good? The slow hash is computed once a key and replica; everything else about the key
//! is read fresh on every request, so a revoked key is refused by the very next one.
//!
//! A verdict is remembered by the token's SHA-256 *and the stored hash it was about*, so it cannot be
//! stale. Forged keys fall at the stored four bytes of SHA-256; what gets past those waits for a turn in the
//! [`HashPool`], once for all requests that present the same key.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use planasonix_wire::ApiKeyId;
use subtle::ConstantTimeEq;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::hash_pool::{HashPool, HashWork};
use crate::{
    db::{Budget, Db, Turn, auth::StoredKey},
    domain::{
        Error, Result,
        credential::{ApiKey, Hashed, Plain},
    },
};

const MOST_REMEMBERED: u64 = 10_000;
/// How often a key's use is written down.
const SELDOM: Duration = Duration::from_mins(1);

/// A presented key, and the stored hash that it is compared with.
type Pair = (Hashed<ApiKey>, Arc<str>);

/// What this replica remembers of API keys.
pub struct Keyring {
    /// Empty while the first verification is under way.
    verdicts: Cache<Pair, Arc<OnceCell<bool>>>,
    used_lately: Cache<ApiKeyId, ()>,
    pool: HashPool,
}

impl Default for Keyring {
    fn default() -> Self {
        Self {
            verdicts: Cache::new(MOST_REMEMBERED),
            used_lately: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(SELDOM).build(),
            pool: HashPool::default(),
        }
    }
}

impl Keyring {
    /// Where the hashes of new keys are computed too.
    pub fn pool(&self) -> &HashPool {
        &self.pool
    }

    /// Finds the key as it stands now, if this is its secret and it may still be used.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; once the secret is verified also [`Error::ApiKeyRevoked`] and
    /// [`Error::ApiKeyExpired`]; [`Error::Unavailable`] when too many verifications wait.
    pub async fn open(
        &self,
        db: &Db,
        key: &Arc<Plain<ApiKey>>,
        turn: Turn,
        budget: &Budget,
    ) -> Result<(ApiKeyId, StoredKey)> {
        let id = ApiKeyId::from_uuid(Uuid::from_u128(key.public_id().0));
        let stored = db.stored_key(id, turn, budget).await?.ok_or(Error::Unauthenticated)?;
        if !bool::from(key.hashed().check().ct_eq(&stored.sha256_check))
            || !self.verify(key, &stored, budget).await?
        {
            return Err(Error::Unauthenticated);
        }
        match &stored {
            StoredKey { revoked: true, .. } => Err(Error::ApiKeyRevoked),
            StoredKey { expired: true, .. } => Err(Error::ApiKeyExpired),
            _ => {
                self.note_use(db, id);
                Ok((id, stored))
            }
        }
    }

    /// Notes, at most once a minute, that a key is in use. Worth neither a request's failure nor its time, so
    /// it goes on by itself, for as long as a request may wait on the database.
    fn note_use(&self, db: &Db, id: ApiKeyId) {
        if self.used_lately.contains_key(&id) {
            return;
        }
        self.used_lately.insert(id, ());
        let (db, used_lately) = (db.clone(), self.used_lately.clone());
        tokio::spawn(async move {
            if db.note_key_use(id, &Budget::default()).await.is_err() {
                used_lately.invalidate(&id);
            }
        });
    }

    async fn verify(&self, key: &Arc<Plain<ApiKey>>, stored: &StoredKey, budget: &Budget) -> Result<bool> {
        let verdict = self.verdicts.get_with((key.hashed(), Arc::from(stored.argon2.as_str())), Arc::default);
        if let Some(verdict) = verdict.get() {
            return Ok(*verdict);
        }
        let verifying = verdict.get_or_try_init(|| self.hash(key, stored));
        budget.bound("the verification of an API key", verifying).await?.copied()
    }

    async fn hash(&self, key: &Arc<Plain<ApiKey>>, stored: &StoredKey) -> Result<bool> {
        let (key, argon2) = (Arc::clone(key), stored.argon2.clone());
        self.pool
            .run(HashWork::Verify, stored.workspace, move || key.matches(&argon2))
            .await?
            .map_err(|error| Error::Internal(format!("the stored hash of a key: {error}").into()))
    }
}
