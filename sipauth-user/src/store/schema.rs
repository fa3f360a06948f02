//! The tables, and the version of them that a file has.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, StoreError, classify};

/// Version of the tables, kept in SQLite's `user_version`. A file of version 0 is new.
pub(super) const VERSION: i64 = 4;

/// An address is stored as text, so that a person can read the database when nothing else works any more.
const TABLES: &str = "
CREATE TABLE gateways (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    mode TEXT NOT NULL,
    username TEXT UNIQUE,
    realm TEXT,
    credentials TEXT,
    priority INTEGER NOT NULL
) STRICT;
CREATE TABLE addresses (
    gateway INTEGER NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    PRIMARY KEY (gateway, network)
) STRICT, WITHOUT ROWID;
CREATE TABLE ports (
    gateway INTEGER NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    port INTEGER NOT NULL,
    PRIMARY KEY (gateway, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
";

/// New in version 2.
const BANS: &str = "
CREATE TABLE bans (
    address TEXT PRIMARY KEY,
    port INTEGER,
    expires INTEGER,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// New in version 3: what was set for one gateway's digest, as JSON; null for nothing.
const DIGEST: &str = "ALTER TABLE gateways ADD COLUMN digest TEXT;";

/// New in version 4: host names of gateways, and what each stood for by its last good answer, between spaces.
const NAMES: &str = "
CREATE TABLE names (
    gateway INTEGER NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    addresses TEXT NOT NULL,
    PRIMARY KEY (gateway, name)
) STRICT, WITHOUT ROWID;
";

/// Makes the tables in a new file, and what is new in an older one; refuses a damaged or newer one.
pub(super) async fn check(store: &Store) -> Result<(), StoreError> {
    let path = store.path();
    let failed = |source| classify(path, source);
    let row = sqlx::query("PRAGMA user_version").fetch_one(&store.pool).await.map_err(failed)?;
    let found: i64 = row.try_get(0).map_err(failed)?;
    if !(0..=VERSION).contains(&found) {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        });
    }
    let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(&store.pool).await.map_err(failed)?;
    let detail: String = row.try_get(0).map_err(failed)?;
    if detail != "ok" {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail,
        });
    }
    if found == VERSION {
        return Ok(());
    }
    let mut transaction = store.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    if found == 0 {
        sqlx::raw_sql(TABLES).execute(&mut *transaction).await.map_err(failed)?;
    }
    if found < 2 {
        sqlx::raw_sql(BANS).execute(&mut *transaction).await.map_err(failed)?;
    }
    if found < 3 {
        sqlx::raw_sql(DIGEST).execute(&mut *transaction).await.map_err(failed)?;
    }
    sqlx::raw_sql(NAMES).execute(&mut *transaction).await.map_err(failed)?;
    let version = AssertSqlSafe(format!("PRAGMA user_version = {VERSION}"));
    sqlx::raw_sql(version).execute(&mut *transaction).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}
