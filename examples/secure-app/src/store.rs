//! What must survive a restart: one embedded database (redb), read once at start-up and only written after that.
//! Whoever looks something up does it in memory.

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};
use tokio::sync::oneshot;

/// Session id → when the entry may go, and the user. Times are milliseconds since 1970.
const SESSIONS: TableDefinition<&[u8; 16], (u64, &str)> = TableDefinition::new("signed-out sessions");
/// User → the epoch since signing out everywhere, and when the entry may go.
const USERS: TableDefinition<&str, (u64, u64)> = TableDefinition::new("users signed out everywhere");
/// Kind and hash → attempts counted, and when they expire.
const ATTEMPTS: TableDefinition<&[u8; 17], (u32, u64)> = TableDefinition::new("attempts to sign in");

/// One change, as it is stored.
#[derive(Clone, Debug)]
pub enum Change {
    Session { id: [u8; 16], until: u64, user: String },
    ForgetSession { id: [u8; 16] },
    User { name: String, epoch: u64, until: u64 },
    ForgetUser { name: String },
    Attempts { key: [u8; 17], count: u32, expires: u64 },
    ForgetAttempts { key: [u8; 17] },
}

/// What was stored before the start.
#[derive(Debug, Default)]
pub struct Stored {
    pub sessions: Vec<([u8; 16], (u64, String))>,
    pub users: Vec<(String, (u64, u64))>,
    pub attempts: Vec<([u8; 17], (u32, u64))>,
}

/// Whoever has something to store.
#[derive(Clone)]
pub struct Store(mpsc::Sender<Job>);

enum Job {
    Write { changes: Vec<Change>, done: oneshot::Sender<Result<(), StoreError>> },
    End,
}

/// The disk said no.
#[derive(Clone, Debug)]
pub struct StoreError(String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database could not be written: {}", self.0)
    }
}

impl std::error::Error for StoreError {}

/// The thread that writes. Dropped, it ends, with everything on disk that was asked for so far, and the next process can
/// open the database.
pub struct Writer(Store, Option<thread::JoinHandle<()>>);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.0.send(Job::End);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the database in `folder`, making both if they are not there.
    pub fn open(folder: &Path) -> Result<(Store, Writer, Stored), String> {
        let path = make(folder)?;
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                format!(
                    "{} is open in another process: stop that one, or set another `data` folder",
                    path.display()
                )
            }
            error => format!("{} cannot be opened: {error}", path.display()),
        })?;
        let stored =
            read(&database).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("store".to_owned());
        let thread =
            thread.spawn(move || write_all(&database, &receiver)).map_err(|error| error.to_string())?;
        let store = Store(sender);
        Ok((store.clone(), Writer(store, Some(thread)), stored))
    }

    /// Returns once the changes are on disk. They are written in the order of the calls, even of calls whose
    /// futures are dropped.
    pub fn write(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let (done, written) = oneshot::channel();
        let sent = self.0.send(Job::Write { changes, done }).is_ok();
        async move {
            match written.await {
                Ok(result) if sent => result,
                _ => Err(StoreError("its thread has ended".to_owned())),
            }
        }
    }
}

fn make(folder: &Path) -> Result<PathBuf, String> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| {
        format!("the folder {} (setting `data`) cannot be made: {error}", folder.display())
    })?;
    Ok(folder.join("secure-app.redb"))
}

fn read(database: &Database) -> Result<Stored, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(SESSIONS)?;
    transaction.open_table(USERS)?;
    transaction.open_table(ATTEMPTS)?;
    transaction.commit()?;

    let transaction = database.begin_read()?;
    let mut stored = Stored::default();
    for entry in transaction.open_table(SESSIONS)?.iter()? {
        let (id, entry) = entry?;
        let (until, user) = entry.value();
        stored.sessions.push((*id.value(), (until, user.to_owned())));
    }
    for entry in transaction.open_table(USERS)?.iter()? {
        let (name, times) = entry?;
        stored.users.push((name.value().to_owned(), times.value()));
    }
    for entry in transaction.open_table(ATTEMPTS)?.iter()? {
        let (key, record) = entry?;
        stored.attempts.push((*key.value(), record.value()));
    }
    Ok(stored)
}

/// A commit waits for the disk; whatever was asked for meanwhile goes into the next one together.
fn write_all(database: &Database, jobs: &mpsc::Receiver<Job>) {
    const MOST: usize = 1000;
    let mut ends = false;
    while !ends && let Ok(first) = jobs.recv() {
        let (mut changes, mut waiting) = (Vec::new(), Vec::new());
        for job in std::iter::once(first).chain(jobs.try_iter().take(MOST)) {
            match job {
                Job::Write { changes: more, done } => {
                    changes.extend(more);
                    waiting.push(done);
                }
                Job::End => ends = true,
            }
        }
        let result = commit(database, &changes).map_err(|error| StoreError(error.to_string()));
        if let Err(error) = &result {
            tracing::error!(%error, "state is lost at the next restart");
        }
        for done in waiting {
            // Whoever asked may have gone.
            let _ = done.send(result.clone());
        }
    }
}

fn commit(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    {
        let mut sessions = transaction.open_table(SESSIONS)?;
        let mut users = transaction.open_table(USERS)?;
        let mut attempts = transaction.open_table(ATTEMPTS)?;
        for change in changes {
            match change {
                Change::Session { id, until, user } => drop(sessions.insert(id, (*until, user.as_str()))?),
                Change::ForgetSession { id } => drop(sessions.remove(id)?),
                Change::User { name, epoch, until } => drop(users.insert(name.as_str(), (*epoch, *until))?),
                Change::ForgetUser { name } => drop(users.remove(name.as_str())?),
                Change::Attempts { key, count, expires } => drop(attempts.insert(key, (*count, *expires))?),
                Change::ForgetAttempts { key } => drop(attempts.remove(key)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
