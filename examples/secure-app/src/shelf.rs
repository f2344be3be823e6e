//! Where instances of the app that have one certificate keep it, with all that it takes to renew it: the certificate and
//! its key, the account at the CA, challenges under way, and a lock, so that one of them orders and the others take the
//! result. It is a folder, of one machine or of a file system that they share; or Redis, and a folder of each instance, from
//! which it starts without Redis and writes back what that has lost.

use crate::{
    sealed::Seal,
    shared::{LOCK as LOCKED, Shared, Unavailable, random},
    store::make_private,
};
use cookie_session::KeyRing;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Mutex,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

const CERTIFICATE: &str = "certificate.json";
const ACCOUNT: &str = "account.json";
const CHALLENGES: &str = "challenges.json";
const PAUSE: &str = "pause.json";
const LOCK: &str = "lock";
/// What an instance keeps of what is in Redis.
const KEPT: [&str; 2] = [CERTIFICATE, ACCOUNT];

/// Anybody may ask for challenges: they are read no more often than that, for all who have asked by then.
const LOOK: Duration = Duration::from_millis(50);

/// Entries are texts, each replaced as a whole.
pub struct Shelf {
    folder: PathBuf,
    shared: Option<InRedis>,
    challenges: Mutex<Challenges>,
}

/// As they were last read.
struct Challenges {
    /// When somebody began to; who asks may go before the end.
    begun: Option<Instant>,
    /// When it was begun that came to this end.
    read: Option<Instant>,
    found: Result<BTreeMap<String, String>, String>,
}

/// Nobody who reads Redis gets a private key, and nobody who writes there has a certificate taken.
pub struct InRedis {
    pub shared: Arc<Shared>,
    pub seal: Seal,
}

/// Whoever has it is the only one that orders. Dropped, it is free again; of a process that died, the system frees it, or
/// Redis does after [`LOCKED`].
pub enum Guard {
    Folder(#[allow(dead_code, reason = "open for as long as it is locked")] File),
    Shared { shared: Arc<Shared>, holder: String, keeps: AbortHandle },
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Guard::Shared { shared, holder, keeps } = self {
            keeps.abort();
            let (shared, holder) = (Arc::clone(shared), std::mem::take(holder));
            // What goes wrong there goes by in half a minute.
            tokio::spawn(async move { drop(shared.unlock(&holder).await) });
        }
    }
}

/// A certificate as it came from the CA, with its key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Stored {
    /// PEM, the server's own first.
    pub chain: String,
    /// PEM.
    pub key: String,
    /// In milliseconds since 1970, by the clock of whoever ordered it.
    pub issued: u64,
}

/// An account at a CA.
#[derive(Serialize, Deserialize)]
pub struct Account {
    pub directory: String,
    pub contact: Vec<String>,
    /// The account's key among them.
    pub credentials: serde_json::Value,
}

/// After failures, before which nobody orders: a CA counts them, whichever instance and however often it is restarted.
#[derive(Serialize, Deserialize)]
pub struct Pause {
    /// What could not be had. Another order is not held up by it.
    pub order: String,
    pub failures: u32,
    /// In milliseconds since 1970.
    pub until: u64,
}

impl Shelf {
    pub fn new(folder: PathBuf, shared: Option<InRedis>) -> Shelf {
        let challenges = Challenges { begun: None, read: None, found: Ok(BTreeMap::new()) };
        Shelf { folder, shared, challenges: Mutex::new(challenges) }
    }

    /// What is shared is sealed under these keys from now on.
    pub fn replace_keys(&self, ring: KeyRing) {
        if let Some(InRedis { seal, .. }) = &self.shared {
            seal.replace_keys(ring);
        }
    }

    /// The certificate, as text: it may be broken, and [`parse`] says so.
    pub async fn load(&self) -> Result<Option<String>, String> {
        self.read(CERTIFICATE).await
    }

    /// The same, before the server listens.
    pub fn load_at_start(&self) -> Result<Option<String>, String> {
        read(&self.folder.join(CERTIFICATE))
    }

    pub async fn store(&self, certificate: &Stored) -> Result<(), String> {
        self.write(CERTIFICATE, certificate).await
    }

    pub async fn account(&self) -> Result<Option<Account>, String> {
        self.entry(ACCOUNT).await
    }

    pub async fn store_account(&self, account: &Account) -> Result<(), String> {
        self.write(ACCOUNT, account).await
    }

    pub async fn pause(&self) -> Result<Option<Pause>, String> {
        self.entry(PAUSE).await
    }

    pub async fn store_pause(&self, pause: &Pause) -> Result<(), String> {
        self.write(PAUSE, pause).await
    }

    pub async fn remove_pause(&self) -> Result<(), String> {
        self.remove(PAUSE).await
    }

    /// What to answer the CA that asks for this token. No token becomes part of a file's name.
    pub async fn challenge(&self, token: &str) -> Result<Option<String>, String> {
        let asked = Instant::now();
        let mut challenges = self.challenges.lock().await;
        // Else somebody has read them since, while this one waited.
        if challenges.read.is_none_or(|read| read < asked) {
            if let Some(begun) = challenges.begun {
                sleep_until(begun + LOOK).await;
            }
            let begun = Some(Instant::now());
            challenges.begun = begun;
            let found = self.entry(CHALLENGES).await.map(Option::unwrap_or_default);
            if let Err(error) = &found
                && challenges.found.as_ref().err() != Some(error)
            {
                tracing::error!(error, "challenges of the CA cannot be answered");
            }
            (challenges.read, challenges.found) = (begun, found);
        }
        challenges.found.as_ref().map(|found| found.get(token).cloned()).map_err(String::clone)
    }

    /// Beside those that are there. Under the lock, as all that writes.
    pub async fn put_challenge(&self, token: &str, answer: &str) -> Result<(), String> {
        let mut challenges: BTreeMap<String, String> = self.entry(CHALLENGES).await?.unwrap_or_default();
        challenges.insert(token.to_owned(), answer.to_owned());
        self.write(CHALLENGES, &challenges).await
    }

    /// All of them: an order is over, or whoever was at it has died.
    pub async fn remove_challenges(&self) -> Result<(), String> {
        self.remove(CHALLENGES).await
    }

    /// `None`: somebody else has it.
    pub async fn lock(&self) -> Result<Option<Guard>, String> {
        let Some(InRedis { shared, .. }) = &self.shared else {
            let folder = self.folder.clone();
            return blocking(move || Ok(lock(&folder)?.map(Guard::Folder))).await;
        };
        let holder = random()?;
        if !shared.lock(&holder).await.map_err(redis)? {
            return Ok(None);
        }
        let (keeping, keeper) = (Arc::clone(shared), holder.clone());
        let keeps = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOCKED / 3).await;
                // If somebody else has got it meanwhile, two order: that is one too many, and no harm.
                drop(keeping.lock(&keeper).await);
            }
        });
        Ok(Some(Guard::Shared { shared: Arc::clone(shared), holder, keeps: keeps.abort_handle() }))
    }

    /// One that is broken is as good as none.
    async fn entry<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, String> {
        let Some(text) = self.read(name).await? else { return Ok(None) };
        let entry = parse(&text);
        if entry.is_none() {
            tracing::warn!(entry = name, "what is stored for acme is broken, and as good as not there");
        }
        Ok(entry)
    }

    async fn read(&self, name: &'static str) -> Result<Option<String>, String> {
        let here = if self.shared.is_none() || KEPT.contains(&name) {
            let path = self.folder.join(name);
            blocking(move || read(&path)).await
        } else {
            Ok(None)
        };
        let Some(InRedis { shared, seal }) = &self.shared else { return here };
        let sealed = shared.entry(name).await.map_err(redis)?;
        let there = sealed.and_then(|sealed| seal.open(&sealed));
        let Some(there) = there else {
            let Some(here) = here? else { return Ok(None) };
            // Lost there, or sealed under a key that is gone.
            self.write_there(name, &here).await?;
            return Ok(Some(here));
        };
        // A folder that cannot be written is no reason to do without it, and to order another one.
        if KEPT.contains(&name)
            && here.as_ref() != Ok(&Some(there.clone()))
            && let Err(error) = self.write_here(name, there.clone()).await
        {
            tracing::warn!(error, "what is shared for acme is not kept here: without Redis it is missing");
        }
        Ok(Some(there))
    }

    async fn write(&self, name: &'static str, entry: &impl Serialize) -> Result<(), String> {
        let text = serde_json::to_string_pretty(entry).map_err(|error| error.to_string())?;
        self.write_there(name, &text).await?;
        if self.shared.is_none() || KEPT.contains(&name) {
            self.write_here(name, text).await?;
        }
        Ok(())
    }

    async fn write_there(&self, name: &'static str, text: &str) -> Result<(), String> {
        let Some(InRedis { shared, seal }) = &self.shared else { return Ok(()) };
        shared.put_entry(name, &seal.seal(text)?).await.map_err(redis)
    }

    async fn write_here(&self, name: &'static str, text: String) -> Result<(), String> {
        let folder = self.folder.clone();
        blocking(move || write(&folder, name, &text)).await
    }

    async fn remove(&self, name: &'static str) -> Result<(), String> {
        if let Some(InRedis { shared, .. }) = &self.shared {
            return shared.remove_entry(name).await.map_err(redis);
        }
        let path = self.folder.join(name);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault(&path, &error)),
            _ => Ok(()),
        })
        .await
    }
}

fn redis(error: Unavailable) -> String {
    format!("Redis: {error}")
}

/// `None`: it is no such entry. Not the reader's own words: they quote.
pub fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, String> + Send + 'static,
) -> Result<R, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

fn fault(path: &Path, error: &io::Error) -> String {
    format!("{} (in the folder of `acme`): {error}", path.display())
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read(path) {
        // What is no text is broken, and whoever parses it says so.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(path, &error)),
    }
}

/// For this user alone, and whole or not at all, also if the machine stops.
fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    let written = || {
        make_private(folder)?;
        // Whoever died while writing may have left one.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private().create_new(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    written().map_err(|error| fault(&path, &error))
}

fn lock(folder: &Path) -> Result<Option<File>, String> {
    let path = folder.join(LOCK);
    let opened = make_private(folder).and_then(|()| private().create(true).truncate(false).open(&path));
    let file = opened.map_err(|error| fault(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(fault(&path, &error)),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
