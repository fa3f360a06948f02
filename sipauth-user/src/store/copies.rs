//! Copies of the database beside it, and how one of them takes its place again.
//!
//! There is one of each earlier schema version ([`schema`](super::schema) makes it before it changes the tables), and a recent one, which the agent renews
//! after changes. A copy is whole or not there: it is written under another name first.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::SystemTime,
};

use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{FILE, Store, StoreError, classify, schema};
use crate::config::DEFAULT_STATE_DIR;

/// Of the database as it was not long ago.
const RECENT: &str = "sipauth.db.bak";
/// The damaged database, when a copy has taken its place.
const DAMAGED: &str = "sipauth.db.damaged";
/// Log and index of the log, which belong to one database and to no other.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// What a restoration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The copy that is the database now.
    pub from: PathBuf,
    /// Seconds since it was made.
    pub age: u64,
    /// How many gateways it has.
    pub gateways: u64,
    /// Where the damaged database is; `None` where there was none.
    pub kept: Option<PathBuf>,
}

impl Store {
    /// Renews the recent copy, where there is none or something changed since.
    ///
    /// # Errors
    /// The disk, or a damaged database; the copy before stays.
    pub async fn back_up(&self) -> Result<(), StoreError> {
        let target = self.path().with_file_name(RECENT);
        // Taken down first: a change that comes while the copy is made is in it or renews it the next time.
        if !self.changed.swap(false, Ordering::AcqRel) && target.exists() {
            return Ok(());
        }
        self.copy_to(&target)
            .await
            .inspect_err(|_| self.changed.store(true, Ordering::Release))
    }

    /// Copies the database before its tables are changed from version `found`.
    pub(super) async fn back_up_version(&self, found: i64) -> Result<(), StoreError> {
        self.copy_to(&self.path().with_file_name(format!("{FILE}.v{found}.bak"))).await
    }

    async fn copy_to(&self, target: &Path) -> Result<(), StoreError> {
        let unfinished = suffixed(target, "~");
        let made = fresh(&unfinished).map_err(failed(&unfinished));
        // SQLite takes a file that is there if it is empty, and leaves its mode as it is.
        made?;
        sqlx::query("VACUUM INTO ?")
            .bind(unfinished.display().to_string())
            .execute(&self.pool)
            .await
            .map_err(|source| classify(self.path(), source))?;
        let finish = || {
            File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, target)?;
            sync_directory(target)
        };
        finish().map_err(failed(target))
    }
}

/// Whether something may have changed since the recent copy was made: by an agent that was killed before it renewed it.
pub(super) fn outdated(database: &Path) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let last = [database.to_owned(), suffixed(database, "-wal")]
        .iter()
        .filter_map(|path| written(path))
        .max();
    last > written(&database.with_file_name(RECENT))
}

/// Whether there is any copy.
pub(super) fn exist(directory: &Path) -> bool {
    !copies(directory).is_empty()
}

/// Puts a copy in the database's place: the one that is named, else the newest that is whole. No agent may have the database open.
///
/// # Errors
/// There is no such copy, it is damaged too, or the disk. The database is as it was then.
pub async fn restore(state_dir: &Path, chosen: Option<&Path>) -> Result<Restored, StoreError> {
    let database = state_dir.join(FILE);
    let candidates = match chosen {
        Some(copy) => vec![copy.to_owned()],
        None => copies(state_dir).into_iter().map(|(_, path)| path).collect(),
    };
    let mut last = StoreError::NoCopy {
        directory: state_dir.to_owned(),
    };
    for copy in candidates {
        match inspect(&copy).await {
            Ok(gateways) => {
                let age = age(&copy).unwrap_or(0);
                let kept = replace(&database, &copy).map_err(failed(&database))?;
                return Ok(Restored {
                    from: copy,
                    age,
                    gateways,
                    kept,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What to do about a damaged database: names the copy and the commands.
pub(super) fn remedy(database: &Path) -> String {
    let directory = database.parent().unwrap_or(Path::new("."));
    let option = if directory == Path::new(DEFAULT_STATE_DIR) {
        String::new()
    } else {
        format!(" --state-dir {}", directory.display())
    };
    match copies(directory).first() {
        Some((_, copy)) => format!(
            "{} is a copy made {}: stop the agent, run `sipauth restore{option}`, and start it again",
            copy.display(),
            ago(age(copy).unwrap_or(0))
        ),
        None => format!(
            "there is no copy beside it: bring one back from elsewhere as {}, or to begin anew stop the agent, run `sipauth detach`, move {} away, start the agent, and \
             add the gateways again (`sipauth apply`)",
            directory.join(RECENT).display(),
            database.display()
        ),
    }
}

/// Seconds as people say them.
#[must_use]
pub fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// All copies, the newest first.
fn copies(directory: &Path) -> Vec<(SystemTime, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(FILE) && name.ends_with(".bak"))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    found
}

fn age(copy: &Path) -> Option<u64> {
    let made = fs::metadata(copy).ok()?.modified().ok()?;
    Some(SystemTime::now().duration_since(made).unwrap_or_default().as_secs())
}

/// Whether a copy is whole and of a version that this program knows; answers how many gateways it has.
async fn inspect(copy: &Path) -> Result<u64, StoreError> {
    let failed = |source| classify(copy, source);
    // SQLite says only that it cannot be opened; the system knows why.
    File::open(copy).map_err(self::failed(copy))?;
    let options = SqliteConnectOptions::new().filename(copy).read_only(true).immutable(true);
    let mut connection: SqliteConnection = options.connect().await.map_err(failed)?;
    schema::inspect(&mut connection, copy).await?;
    let row = sqlx::query("SELECT count(*) FROM gateways")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    let gateways: i64 = row.try_get(0).map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(u64::try_from(gateways).unwrap_or(0))
}

/// The database is at every moment the old one or the copy, never missing: an agent that starts without one makes an empty one.
fn replace(database: &Path, copy: &Path) -> io::Result<Option<PathBuf>> {
    let unfinished = suffixed(database, "~");
    fresh(&unfinished)?;
    fs::copy(copy, &unfinished)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
    // Of whoever the state directory belongs to: the agent need not be root, who is likely to run this.
    let owner = fs::metadata(database.parent().unwrap_or(Path::new(".")))?;
    chown(&unfinished, Some(owner.uid()), Some(owner.gid()))?;
    File::open(&unfinished)?.sync_all()?;
    let mut kept = None;
    if database.exists() {
        let damaged = database.with_file_name(DAMAGED);
        remove(&damaged)?;
        fs::hard_link(database, &damaged)?;
        kept = Some(damaged);
    }
    for companion in COMPANIONS {
        let (from, to) = (
            suffixed(database, companion),
            suffixed(&database.with_file_name(DAMAGED), companion),
        );
        remove(&to)?;
        // Left here, SQLite would take the log for the copy's.
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(&unfinished, database)?;
    sync_directory(database)?;
    Ok(kept)
}

/// An empty file for nobody else's eyes.
fn fresh(path: &Path) -> io::Result<()> {
    remove(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map(drop)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_directory(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Open { path, source }
}
