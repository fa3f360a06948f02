//! The keys that nonces are made with. They are kept so that a restart leaves the challenges under way genuine, and are
//! made anew once a day. The one before still verifies, and a nonce lives for a day at most, so nobody is cut off.

use std::io::{self, Read as _};

use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError, classify};
use crate::auth::{NonceKeys, Timestamp};

/// Milliseconds that a key issues.
const PERIOD: u64 = 24 * 3_600 * 1_000;
const CURRENT: &str = "nonce-key";
const PREVIOUS: &str = "nonce-key-previous";
/// When the current one was made: Unix time in ms, big endian.
const MADE: &str = "nonce-key-made";

type Key = [u8; 32];

impl Store {
    /// The keys for now: made up at the first call, and renewed when the current one has served its time, or seems to be from
    /// a day in the future, after which the clock was set back.
    ///
    /// # Errors
    /// The database or the kernel's random numbers fail.
    pub async fn nonce_keys(&self, now: Timestamp) -> Result<NonceKeys, StoreError> {
        let failed = |source| classify(self.path(), source);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let current: Option<Key> = read(&mut transaction, CURRENT).await.map_err(failed)?;
        let made = read(&mut transaction, MADE).await.map_err(failed)?.map_or(0, u64::from_be_bytes);
        if let Some(current) = current
            && now.0.abs_diff(made) < PERIOD
        {
            let previous = read(&mut transaction, PREVIOUS).await.map_err(failed)?;
            return Ok(NonceKeys { current, previous });
        }
        let fresh = random().map_err(StoreError::Random)?;
        if let Some(current) = current {
            write(&mut transaction, PREVIOUS, &current).await.map_err(failed)?;
        }
        write(&mut transaction, CURRENT, &fresh).await.map_err(failed)?;
        write(&mut transaction, MADE, &now.0.to_be_bytes()).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(NonceKeys {
            current: fresh,
            previous: current,
        })
    }
}

/// Keys that nobody keeps.
///
/// # Errors
/// The kernel's random numbers fail.
pub fn passing_keys() -> Result<NonceKeys, StoreError> {
    Ok(NonceKeys {
        current: random().map_err(StoreError::Random)?,
        previous: None,
    })
}

/// `None` also for a value of another length, which no version of this program wrote: it is made anew.
async fn read<const N: usize>(transaction: &mut Transaction<'static, Sqlite>, key: &str) -> Result<Option<[u8; N]>, sqlx::Error> {
    let value: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM settings WHERE key = ?")
        .bind(key)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(value.and_then(|bytes| bytes.try_into().ok()))
}

async fn write(transaction: &mut Transaction<'static, Sqlite>, key: &str, value: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(key)
        .bind(value)
        .execute(&mut **transaction)
        .await
        .map(drop)
}

fn random() -> io::Result<Key> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
