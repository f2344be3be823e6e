//! What must survive a restart: one embedded database (redb), read once at start-up and only written after that.
//! Whoever looks something up does it in memory.

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Session id → when the entry may go, the user, and the user's epoch at sign-in. Times are milliseconds since 1970.
const SESSIONS: TableDefinition<&[u8; 16], (u64, &str, u64)> = TableDefinition::new("sessions signed out");
/// User → the epoch since signing out everywhere, and when the entry may go.
const USERS: TableDefinition<&str, (u64, u64)> = TableDefinition::new("users signed out everywhere");
/// User and epoch → when the entry may go, of those that the other instances have not got yet.
const UNDELIVERED: TableDefinition<(&str, u64), u64> =
    TableDefinition::new("signed out everywhere, not delivered");
/// Kind and hash → attempts counted, and when they expire.
const ATTEMPTS: TableDefinition<&[u8; 17], (u32, u64)> = TableDefinition::new("attempts to sign in");

/// The generation of what instances share that all was heard of: of the sign-outs so far, and of the counts since.
const IN_STEP: TableDefinition<(), &str> = TableDefinition::new("in step");

/// How long a disk that said no is left alone.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for the disk.
const SOON: Duration = Duration::from_secs(5);
/// A disk that has not answered for so long is as bad as one that says no.
const HANGS: Duration = Duration::from_secs(10);

/// One change, as it is stored.
#[derive(Clone, Debug)]
pub enum Change {
    Session {
        id: [u8; 16],
        user: String,
        epoch: u64,
        until: u64,
    },
    ForgetSession {
        id: [u8; 16],
    },
    User {
        name: String,
        epoch: u64,
        until: u64,
    },
    ForgetUser {
        name: String,
    },
    Attempts {
        key: [u8; 17],
        count: u32,
        expires: u64,
    },
    ForgetAttempts {
        key: [u8; 17],
    },
    InStep {
        generation: String,
    },
    /// Of a [`Change::User`] that begins here.
    Undelivered {
        name: String,
        epoch: u64,
        until: u64,
    },
    Delivered {
        name: String,
        epoch: u64,
    },
}

/// What was stored before the start.
#[derive(Debug, Default)]
pub struct Stored {
    /// [`Change::Session`] and [`Change::User`].
    pub signed_out: Vec<Change>,
    /// [`Change::User`], to be delivered as new.
    pub undelivered: Vec<Change>,
    /// With which generation, if it ever was.
    pub in_step: Option<String>,
    pub attempts: Vec<([u8; 17], (u32, u64))>,
}

/// Whoever has something to store.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    failing: Arc<AtomicBool>,
    /// Since when it is written; for ever, if its thread has ended in the middle of it.
    writing: Arc<Mutex<Option<Instant>>>,
    errors: Arc<AtomicU64>,
}

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
        let _ = self.0.jobs.send(Job::End);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the database in `folder`, making both if they are not there.
    pub fn open(folder: &Path) -> Result<(Store, Writer, Stored), String> {
        make_private(folder).map_err(|error| {
            format!("the folder {} (setting `data`) cannot be made: {error}", folder.display())
        })?;
        let path = folder.join("secure-app.redb");
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                format!(
                    "{} is open in another process: stop that one, or set another `data` folder",
                    path.display()
                )
            }
            error => format!(
                "{} cannot be opened: {error}; without it, sign-outs and counts of wrong passwords so far are lost",
                path.display()
            ),
        })?;
        let stored =
            read(&database).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("store".to_owned());
        let store =
            Store { jobs: sender, failing: Arc::default(), writing: Arc::default(), errors: Arc::default() };
        let (failing, errors) = (Arc::clone(&store.failing), Arc::clone(&store.errors));
        let writing = Arc::clone(&store.writing);
        let disk =
            Disk { path, database: Some(database), unwritten: HashMap::new(), failing, writing, errors };
        let thread = thread.spawn(move || disk.work(&receiver)).map_err(|error| error.to_string())?;
        Ok((store.clone(), Writer(store, Some(thread)), stored))
    }

    /// Whether the last changes have not come to the disk, or do not get there.
    pub fn is_failing(&self) -> bool {
        let writing = *self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.failing.load(Relaxed) || writing.is_some_and(|since| since.elapsed() > HANGS)
    }

    /// Fails while [`is_failing`](Store::is_failing), for whoever is not even to begin then.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.is_failing() { Err(StoreError("nor has it been since".to_owned())) } else { Ok(()) }
    }

    /// How often they have not: a disk with a little room left takes the next try, and not the one after.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Returns once the changes are on disk. They are written in the order of the calls, even of calls whose
    /// futures are dropped. After an error they are tried again, until they are on disk or the process ends.
    pub fn write(&self, changes: Vec<Change>) -> Written {
        let (done, written) = oneshot::channel();
        // If it is not taken, `done` is dropped, and that is the answer.
        let _ = self.jobs.send(Job::Write { changes, done });
        Written(written)
    }
}

/// Ends when what was to be written is on disk, or a first try has failed.
#[must_use = "what was asked for is not on disk yet"]
pub struct Written(oneshot::Receiver<Result<(), StoreError>>);

impl Written {
    /// The same, for a request: after [`SOON`] it fails, and the changes are written all the same once the disk answers.
    pub async fn soon(self) -> Result<(), StoreError> {
        let hangs = |_| Err(StoreError("it does not answer".to_owned()));
        tokio::time::timeout(SOON, self).await.unwrap_or_else(hangs)
    }
}

impl Future for Written {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = |_| Err(StoreError("its thread has ended".to_owned()));
        Pin::new(&mut self.0).poll(context).map(|result| result.unwrap_or_else(ended))
    }
}

/// Makes a folder for this user alone, unless it is there.
pub fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn read(database: &Database) -> Result<Stored, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(SESSIONS)?;
    transaction.open_table(USERS)?;
    transaction.open_table(ATTEMPTS)?;
    transaction.open_table(IN_STEP)?;
    transaction.open_table(UNDELIVERED)?;
    transaction.commit()?;

    let transaction = database.begin_read()?;
    let mut stored = Stored::default();
    for entry in transaction.open_table(SESSIONS)?.iter()? {
        let (id, entry) = entry?;
        let (until, user, epoch) = entry.value();
        stored.signed_out.push(Change::Session { id: *id.value(), user: user.to_owned(), epoch, until });
    }
    for entry in transaction.open_table(USERS)?.iter()? {
        let (name, times) = entry?;
        let (epoch, until) = times.value();
        stored.signed_out.push(Change::User { name: name.value().to_owned(), epoch, until });
    }
    for entry in transaction.open_table(UNDELIVERED)?.iter()? {
        let (key, until) = entry?;
        let (name, epoch) = key.value();
        stored.undelivered.push(Change::User { name: name.to_owned(), epoch, until: until.value() });
    }
    for entry in transaction.open_table(ATTEMPTS)?.iter()? {
        let (key, record) = entry?;
        stored.attempts.push((*key.value(), record.value()));
    }
    stored.in_step =
        transaction.open_table(IN_STEP)?.get(())?.map(|generation| generation.value().to_owned());
    Ok(stored)
}

impl Change {
    /// What it is about: a later change of the same replaces it.
    pub fn about(&self) -> (u8, Vec<u8>) {
        match self {
            Change::Session { id, .. } | Change::ForgetSession { id } => (0, id.to_vec()),
            Change::User { name, .. } | Change::ForgetUser { name } => (1, name.clone().into_bytes()),
            Change::Attempts { key, .. } | Change::ForgetAttempts { key } => (2, key.to_vec()),
            Change::InStep { .. } => (3, Vec::new()),
            Change::Undelivered { name, epoch, .. } | Change::Delivered { name, epoch } => {
                (4, [&epoch.to_be_bytes(), name.as_bytes()].concat())
            }
        }
    }

    /// Of a user who signed out everywhere: when that may be forgotten.
    pub fn until(&self) -> Option<u64> {
        if let Change::User { until, .. } = self { Some(*until) } else { None }
    }

    /// Whether nothing is missing of the other one, which is about the same, where this one is.
    pub fn covers(&self, other: &Change) -> bool {
        match (self, other) {
            (Change::User { epoch, .. }, Change::User { epoch: other, .. }) => epoch >= other,
            _ => true,
        }
    }
}

struct Disk {
    path: PathBuf,
    /// `None`: after an error redb wants to be opened anew, and that has failed so far.
    database: Option<Database>,
    /// The latest change of each thing, of those that are not on disk.
    unwritten: HashMap<(u8, Vec<u8>), Change>,
    failing: Arc<AtomicBool>,
    writing: Arc<Mutex<Option<Instant>>>,
    errors: Arc<AtomicU64>,
}

impl Disk {
    /// A commit waits for the disk; whatever was asked for meanwhile goes into the next one together.
    fn work(mut self, jobs: &mpsc::Receiver<Job>) {
        const MOST: usize = 1000;
        let mut ends = false;
        while !ends {
            let first = if self.unwritten.is_empty() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(PAUSE)
            };
            let first = match first {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut waiting = Vec::new();
            for job in first.into_iter().chain(jobs.try_iter().take(MOST)) {
                match job {
                    Job::Write { changes, done } => {
                        self.unwritten.extend(changes.into_iter().map(|change| (change.about(), change)));
                        waiting.push(done);
                    }
                    Job::End => ends = true,
                }
            }
            let result = self.write();
            for done in waiting {
                // Whoever asked may have gone.
                let _ = done.send(result.clone());
            }
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let result = self.try_write();
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        match &result {
            Ok(()) => self.unwritten.clear(),
            // It is gone before it is opened anew: one process has one.
            Err(_) => {
                self.errors.fetch_add(1, Relaxed);
                self.database = None;
            }
        }
        match (&result, self.failing.swap(result.is_err(), Relaxed)) {
            (Err(error), false) => {
                tracing::error!(
                    %error,
                    "until it can, but for what Redis holds: nobody signs in, and a restart forgets who signs out"
                );
            }
            (Ok(()), true) => tracing::info!("the database is written again, and nothing is missing"),
            _ => {}
        }
        result
    }

    fn try_write(&mut self) -> Result<(), StoreError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::create(&self.path).map_err(|error| StoreError(error.to_string()))?,
        };
        let database = self.database.insert(database);
        commit(database, self.unwritten.values()).map_err(|error| StoreError(error.to_string()))
    }
}

fn commit<'c>(database: &Database, changes: impl Iterator<Item = &'c Change>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut sessions = transaction.open_table(SESSIONS)?;
        let mut users = transaction.open_table(USERS)?;
        let mut attempts = transaction.open_table(ATTEMPTS)?;
        let mut in_step = transaction.open_table(IN_STEP)?;
        let mut undelivered = transaction.open_table(UNDELIVERED)?;
        for change in changes {
            match change {
                Change::Session { id, user, epoch, until } => {
                    drop(sessions.insert(id, (*until, user.as_str(), *epoch))?);
                }
                Change::ForgetSession { id } => drop(sessions.remove(id)?),
                Change::User { name, epoch, until } => drop(users.insert(name.as_str(), (*epoch, *until))?),
                Change::ForgetUser { name } => drop(users.remove(name.as_str())?),
                Change::Attempts { key, count, expires } => drop(attempts.insert(key, (*count, *expires))?),
                Change::ForgetAttempts { key } => drop(attempts.remove(key)?),
                Change::Undelivered { name, epoch, until } => {
                    drop(undelivered.insert((name.as_str(), *epoch), *until)?);
                }
                Change::Delivered { name, epoch } => drop(undelivered.remove((name.as_str(), *epoch))?),
                Change::InStep { generation } => drop(in_step.insert((), generation.as_str())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}
