//! The tables, and the version of them that a file has.

use std::path::Path;

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

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

/// Makes the tables in a new file, and what is new in an older one, of which a copy is kept; refuses a damaged or newer one.
pub(super) async fn check(store: &Store) -> Result<(), StoreError> {
    let path = store.path();
    let failed = |source| classify(path, source);
    let mut connection = store.pool.acquire().await.map_err(failed)?;
    let found = inspect(&mut connection, path).await?;
    // Before the copy is made, which wants a connection as well.
    drop(connection);
    if found == VERSION {
        return Ok(());
    }
    if found > 0 {
        store.back_up_version(found).await?;
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

/// The version of a database that is whole; refuses a damaged or newer one.
pub(super) async fn inspect(connection: &mut SqliteConnection, path: &Path) -> Result<i64, StoreError> {
    let failed = |source| classify(path, source);
    // First: the version is in the file, and may be what is damaged. Indexes too, since they decide which names are taken.
    let row = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    let detail: String = row.try_get(0).map_err(failed)?;
    if detail != "ok" {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail,
        });
    }
    let row = sqlx::query("PRAGMA user_version").fetch_one(connection).await.map_err(failed)?;
    let found: i64 = row.try_get(0).map_err(failed)?;
    match found {
        0..=VERSION => Ok(found),
        ..0 => Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: format!("schema version {found}"),
        }),
        _ => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: VERSION,
        }),
    }
}
