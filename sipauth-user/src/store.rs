//! Where gateways live: SQLite in the state directory. The kernel's maps are a compiled cache of this.
//!
//! The agent is the only writer. A change is a [`Change`]: the caller applies it to the maps before it commits, and drops
//! it where that fails, so that store, maps and answer agree. After a kill in between the store wins.

mod bans;
mod copies;
mod files;
mod ids;
mod keys;
mod rows;
mod schema;

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Sqlite, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};

use self::ids::FreeIds;
pub use self::{
    bans::StoredBan,
    copies::{Restored, ago, restore},
    keys::passing_keys,
};
use crate::gateway::Gateway;

/// File name of the database in the state directory.
pub const FILE: &str = "sipauth.db";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or the file.
    #[error("cannot open {}: {source}; check --state-dir and its permissions", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Written by a later version.
    #[error("{} has schema version {found}, this sipauth knows {known}; install a sipauth that knows {found}, or go back to the copy that it made of version {known} or before: `sipauth restore FILE` (sipauth.db.v*.bak)", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// In the file.
        found: i64,
        /// In this program.
        known: i64,
    },
    /// Not a database, or damaged.
    #[error("{} is damaged ({detail}); {}", path.display(), copies::remedy(path))]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite or a check said.
        detail: String,
    },
    /// Nothing to restore from.
    #[error("there is no copy of the database in {}; name one", directory.display())]
    NoCopy {
        /// The state directory.
        directory: PathBuf,
    },
    /// Name or username is taken.
    #[error("gateway {gateway}: its name or username is taken; choose another")]
    Taken {
        /// The gateway that could not be added.
        gateway: String,
    },
    /// No such gateway.
    #[error("there is no gateway {gateway}; `sipauth gateway list` shows all")]
    Unknown {
        /// The name that was asked for.
        gateway: String,
    },
    /// No id is left.
    #[error("all {max} gateway ids are in use; remove gateways first")]
    Full {
        /// How many there can be.
        max: u32,
    },
    /// No random numbers.
    #[error("cannot read random numbers from the kernel: {0}; is /dev/urandom there?")]
    Random(io::Error),
    /// Anything else that SQLite refuses, such as a full disk.
    #[error("{}: {source}; nothing was changed", path.display())]
    Sql {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
}

/// The open database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
    /// Something changed since the recent copy was made.
    changed: Arc<AtomicBool>,
    /// Once they were asked for.
    free: Arc<Mutex<Option<FreeIds>>>,
}

impl Store {
    /// Opens the database in the state directory; creates both where they are missing.
    ///
    /// # Errors
    /// It cannot be opened, is damaged, or is of a later version. The file is left as it was.
    pub async fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        let changed = Arc::new(AtomicBool::new(copies::outdated(&path)));
        files::prepare(state_dir, &path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that was answered must survive a power cut: the operator was told that a gateway is locked out.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let opened = SqlitePoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await;
        let pool = opened.map_err(|source| classify(&path, source))?;
        let store = Self {
            pool,
            path,
            changed,
            free: Arc::default(),
        };
        schema::check(&store).await?;
        Ok(store)
    }

    /// The same for an agent. A database that is missing or empty is a new one only where none was `used`, nor left a copy; else it is damaged.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_used(state_dir: &Path, used: bool) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        let empty = match fs::metadata(&path) {
            Ok(found) => found.len() == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if empty && (used || copies::exist(state_dir)) {
            let detail = "it is missing or empty, although an agent has used it".to_owned();
            return Err(StoreError::Corrupt { path, detail });
        }
        Self::open(state_dir).await
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All gateways with their ids, in the order of these.
    ///
    /// # Errors
    /// The database cannot be read, or holds what no version of this program wrote.
    pub async fn load_all(&self) -> Result<Vec<(u32, Gateway)>, StoreError> {
        rows::load(&self.pool, &self.path).await
    }

    /// How many gateways it has: a question that shows whether it answers at all.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count(&self) -> Result<i64, StoreError> {
        let counted = sqlx::query_scalar("SELECT COUNT(*) FROM gateways").fetch_one(&self.pool).await;
        counted.map_err(|source| classify(&self.path, source))
    }

    /// Begins a change. Dropped without [`Change::commit`], it changes nothing.
    ///
    /// # Errors
    /// Another process holds the database.
    pub async fn begin(&self) -> Result<Change, StoreError> {
        // Takes the write lock now, so that no later step fails for want of it.
        let transaction = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(|source| classify(&self.path, source))?;
        Ok(Change {
            transaction,
            path: self.path.clone(),
            changed: Arc::clone(&self.changed),
            free: Arc::clone(&self.free),
            given: Vec::new(),
            freed: BTreeSet::new(),
        })
    }

    /// Closes the database; commits that were answered are on disk already.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A change under way, invisible to others until [`Change::commit`].
#[derive(Debug)]
pub struct Change {
    transaction: Transaction<'static, Sqlite>,
    path: PathBuf,
    changed: Arc<AtomicBool>,
    free: Arc<Mutex<Option<FreeIds>>>,
    /// Ids that this change has given to gateways.
    given: Vec<u32>,
    /// And those that it has taken from some.
    freed: BTreeSet<u32>,
}

impl Change {
    /// Adds a gateway under the lowest free id.
    ///
    /// # Errors
    /// The name or username is taken, or no id is left.
    pub async fn add(&mut self, gateway: &Gateway) -> Result<u32, StoreError> {
        let ids = self.add_many(std::slice::from_ref(gateway)).await?;
        ids.first().copied().ok_or(StoreError::Full { max: rows::MAX_ID })
    }

    /// Adds gateways; answers their ids in the same order.
    ///
    /// # Errors
    /// As for [`Change::add`]; drop the change then.
    pub async fn add_many(&mut self, gateways: &[Gateway]) -> Result<Vec<u32>, StoreError> {
        let ids = self.free_ids(gateways.len(), &[]).await?;
        let rows: Vec<_> = ids.iter().copied().zip(gateways).collect();
        self.insert(&rows).await?;
        self.given.extend(&ids);
        Ok(ids)
    }

    /// Adds gateways under ids that are free.
    ///
    /// # Errors
    /// As for [`Change::add`]; drop the change then.
    pub async fn add_as(&mut self, gateways: &[(u32, Arc<Gateway>)]) -> Result<(), StoreError> {
        self.insert_all(gateways).await?;
        self.given.extend(gateways.iter().map(|(id, _)| *id));
        Ok(())
    }

    /// The lowest ids that are free and none of the `other`.
    ///
    /// # Errors
    /// There are not so many, or the database cannot be read.
    pub async fn free_ids(&mut self, count: usize, other: &[u32]) -> Result<Vec<u32>, StoreError> {
        if self.known().is_none() {
            // As before this change.
            let taken = rows::ids(&mut self.transaction)
                .await
                .map_err(|source| classify(&self.path, source))?;
            let taken = taken
                .into_iter()
                .filter(|id| !self.given.contains(id))
                .chain(self.freed.iter().copied());
            let free = FreeIds::new(taken);
            *self.known() = Some(free);
        }
        let except: HashSet<u32> = other.iter().chain(&self.given).copied().collect();
        let ids: Vec<u32> = match &*self.known() {
            Some(free) => free.lowest(rows::MAX_ID, &except, &self.freed).take(count).collect(),
            None => Vec::new(),
        };
        if ids.len() < count {
            return Err(StoreError::Full { max: rows::MAX_ID });
        }
        Ok(ids)
    }

    fn known(&self) -> MutexGuard<'_, Option<FreeIds>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another gateway in the place of one with this id.
    ///
    /// # Errors
    /// As for [`Change::add`]; drop the change then.
    pub async fn replace(&mut self, id: u32, gateway: &Gateway) -> Result<(), StoreError> {
        self.delete_ids(std::iter::once(id)).await?;
        self.insert(&[(id, gateway)]).await
    }

    /// As [`Change::replace`] for several. A name or username may go from one of them to another.
    ///
    /// # Errors
    /// As for [`Change::add`]; drop the change then.
    pub async fn replace_many(&mut self, gateways: &[(u32, Arc<Gateway>)]) -> Result<(), StoreError> {
        self.delete_ids(gateways.iter().map(|(id, _)| *id)).await?;
        self.insert_all(gateways).await
    }

    async fn insert_all(&mut self, gateways: &[(u32, Arc<Gateway>)]) -> Result<(), StoreError> {
        let rows: Vec<_> = gateways.iter().map(|(id, gateway)| (*id, &**gateway)).collect();
        self.insert(&rows).await
    }

    async fn delete_ids(&mut self, ids: impl Iterator<Item = u32>) -> Result<(), StoreError> {
        for id in ids {
            rows::delete_id(&mut self.transaction, id)
                .await
                .map_err(|source| classify(&self.path, source))?;
        }
        Ok(())
    }

    async fn insert(&mut self, gateways: &[(u32, &Gateway)]) -> Result<(), StoreError> {
        rows::insert(&mut self.transaction, gateways)
            .await
            .map_err(|source| match source.as_database_error() {
                Some(error) if error.is_unique_violation() => StoreError::Taken {
                    // Of several it does not say which; the agent has looked before.
                    gateway: gateways.first().map(|(_, gateway)| gateway.name.clone()).unwrap_or_default(),
                },
                _ => classify(&self.path, source),
            })
    }

    /// Removes a gateway; answers its id, which is free from now on.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn remove(&mut self, name: &str) -> Result<u32, StoreError> {
        let id = rows::delete(&mut self.transaction, name)
            .await
            .map_err(|source| classify(&self.path, source))?;
        let id = id.ok_or_else(|| StoreError::Unknown { gateway: name.to_owned() })?;
        self.given.retain(|given| *given != id);
        self.freed.insert(id);
        Ok(id)
    }

    /// Makes the change last. On an error it may or may not have; load again to know.
    ///
    /// # Errors
    /// The disk.
    pub async fn commit(self) -> Result<(), StoreError> {
        let committed = self.transaction.commit().await;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match (&committed, &mut *free) {
            (Ok(()), Some(free)) => free.settle(&self.given, &self.freed),
            // Nobody knows: they are read again.
            _ => *free = None,
        }
        committed.map_err(|source| classify(&self.path, source))?;
        self.changed.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes the change back. Dropping it does the same, a little later.
    ///
    /// # Errors
    /// The disk; nothing was changed then either.
    pub async fn rollback(self) -> Result<(), StoreError> {
        let path = self.path;
        self.transaction.rollback().await.map_err(|source| classify(&path, source))
    }
}

/// SQLite's result codes 11 (corrupt), 24 and 26 (not a database) and 522 (short read) mean a damaged file. So do a table or column that is not there (1) and a
/// value that cannot be read: this program has made and written all of them.
fn classify(path: &Path, source: sqlx::Error) -> StoreError {
    let damaged = match &source {
        sqlx::Error::Database(error) => match error.code().and_then(|code| code.parse::<u32>().ok()) {
            Some(522) => true,
            Some(1) => error.message().starts_with("no such"),
            Some(code) => matches!(code & 0xff, 11 | 24 | 26),
            None => false,
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => true,
        _ => false,
    };
    if damaged {
        StoreError::Corrupt {
            path: path.to_owned(),
            detail: source.to_string(),
        }
    } else {
        StoreError::Sql {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
