//! Is this API key good? The slow hash is computed once a key and replica; everything else about the key
//! is read fresh on every request, so a revoked key is refused by the very next one.
//!
//! A verdict is remembered by the token's SHA-256 *and the stored hash it was about*, so it cannot be
//! stale. Bogus keys fall at the stored four bytes of SHA-256; whoever gets past those meets a bounded
//! number of verifications at once, and a bounded number of waiters.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use planasonix_wire::ApiKeyId;
use subtle::ConstantTimeEq;
use tokio::{sync::Semaphore, task::spawn_blocking};
use uuid::Uuid;

use crate::{
    db::{Budget, Db, auth::StoredKey},
    domain::{
        Error, Result,
        credential::{ApiKey, Hashed, Plain},
    },
};

const MOST_REMEMBERED: u64 = 10_000;
const AT_ONCE: usize = 2;
const MOST_WAITING: usize = 256;
/// How often a key's use is written down.
const SELDOM: Duration = Duration::from_mins(1);

/// What this replica remembers of API keys.
pub struct Keyring {
    verdicts: Cache<(Hashed<ApiKey>, Arc<str>), bool>,
    used_lately: Cache<ApiKeyId, ()>,
    waiting: Semaphore,
    verifying: Arc<Semaphore>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self {
            verdicts: Cache::new(MOST_REMEMBERED),
            used_lately: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(SELDOM).build(),
            waiting: Semaphore::new(MOST_WAITING),
            verifying: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Keyring {
    /// Finds the key as it stands now, if this is its secret and it may still be used.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]; once the secret is verified also [`Error::ApiKeyRevoked`] and
    /// [`Error::ApiKeyExpired`]; [`Error::Unavailable`] when too many verifications wait.
    pub async fn open(
        &self,
        db: &Db,
        key: &Arc<Plain<ApiKey>>,
        budget: &Budget,
    ) -> Result<(ApiKeyId, StoredKey)> {
        let id = ApiKeyId::from_uuid(Uuid::from_u128(key.public_id().0));
        let stored = db.stored_key(id, budget).await?.ok_or(Error::Unauthenticated)?;
        if !bool::from(key.hashed().check().ct_eq(&stored.sha256_check))
            || !self.verify(key, &stored.argon2, budget).await?
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

    async fn verify(&self, key: &Arc<Plain<ApiKey>>, argon2: &str, budget: &Budget) -> Result<bool> {
        let pair = (key.hashed(), Arc::from(argon2));
        if let Some(verdict) = self.verdicts.get(&pair) {
            return Ok(verdict);
        }
        let full = || Error::Unavailable("too many API keys wait to be verified".into());
        let _place = self.waiting.try_acquire().map_err(|_| full())?;
        let turn = budget
            .bound("a key's turn to be verified", Arc::clone(&self.verifying).acquire_owned())
            .await?
            .map_err(|error| Error::Internal(error.into()))?;
        if let Some(verdict) = self.verdicts.get(&pair) {
            return Ok(verdict);
        }
        let (key, argon2) = (Arc::clone(key), Arc::clone(&pair.1));
        let verifying = spawn_blocking(move || {
            let verdict = key.matches(&argon2);
            drop(turn);
            verdict
        });
        let verdict = budget
            .bound("a key's verification", verifying)
            .await?
            .map_err(|error| Error::Internal(error.into()))?
            .map_err(|error| Error::Internal(format!("the stored hash of a key: {error}").into()))?;
        self.verdicts.insert(pair, verdict);
        Ok(verdict)
    }
}
