//! Bans of the operator. Those that failures made due are in the kernel's map only.

use std::{net::IpAddr, sync::atomic::Ordering};

use sqlx::Row as _;

use super::{Store, StoreError, classify};

/// A ban as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBan {
    /// Source address.
    pub address: IpAddr,
    /// Only this port of it.
    pub port: Option<u16>,
    /// Unix time in seconds; `None`: until it is removed.
    pub expires: Option<i64>,
    /// The operator's words.
    pub reason: String,
}

impl Store {
    /// All that were not removed, also those that are over.
    ///
    /// # Errors
    /// The database cannot be read, or holds what no version of this program wrote.
    pub async fn bans(&self) -> Result<Vec<StoredBan>, StoreError> {
        let failed = |source| classify(self.path(), source);
        let rows = sqlx::query("SELECT address, port, expires, reason FROM bans ORDER BY address")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let mut bans = Vec::with_capacity(rows.len());
        for row in rows {
            let text: String = row.try_get(0).map_err(failed)?;
            let address = text.parse().map_err(|_| StoreError::Corrupt {
                path: self.path().to_owned(),
                detail: "a ban's address is none".to_owned(),
            })?;
            bans.push(StoredBan {
                address,
                port: row.try_get(1).map_err(failed)?,
                expires: row.try_get(2).map_err(failed)?,
                reason: row.try_get(3).map_err(failed)?,
            });
        }
        Ok(bans)
    }

    /// Adds bans, all or none; each replaces an earlier one of its address. Forgets those that are over at `now`.
    ///
    /// # Errors
    /// The disk; nothing was changed then.
    pub async fn add_bans(&self, bans: &[StoredBan], now: i64) -> Result<(), StoreError> {
        let failed = |source| classify(self.path(), source);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let expire = sqlx::query("DELETE FROM bans WHERE expires <= ?").bind(now);
        expire.execute(&mut *transaction).await.map_err(failed)?;
        for ban in bans {
            sqlx::query("INSERT OR REPLACE INTO bans (address, port, expires, reason) VALUES (?, ?, ?, ?)")
                .bind(ban.address.to_string())
                .bind(ban.port)
                .bind(ban.expires)
                .bind(&ban.reason)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        self.changed.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes a ban; false where there was none.
    ///
    /// # Errors
    /// The disk.
    pub async fn remove_ban(&self, address: IpAddr) -> Result<bool, StoreError> {
        let delete = sqlx::query("DELETE FROM bans WHERE address = ?").bind(address.to_string());
        let done = delete.execute(&self.pool).await.map_err(|source| classify(self.path(), source))?;
        self.changed.store(true, Ordering::Release);
        Ok(done.rows_affected() > 0)
    }
}
