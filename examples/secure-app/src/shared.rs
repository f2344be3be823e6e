//! What all instances share, in Redis or Valkey: counts of attempts to sign in, and a log of sign-outs. Here are the commands
//! and scripts; [`crate::fleet`] keeps an instance in step with them.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `secure-app:generation` | string | the server, a number and the time, by whoever found it empty or another one. Not as before: something may be gone |
//! | `secure-app:sign-outs` | stream | each session that was signed out, and each user everywhere, for 400 days |
//! | `secure-app:epochs` | hash | user → the epoch since the last sign-out everywhere |
//! | `secure-app:begun` | set | users whose epoch began since Redis was empty or another one, or for a day |
//! | `secure-app:attempts:…` | hash | as in [`crate::limits`]; ends with its window or its lock |
//! | `secure-app:delivered:…` | string | how many sign-outs an instance has delivered; for a day |
//! | `secure-app:acme:…` | string | what [`crate::shelf`] holds, sealed; and a lock |
//! | `secure-app:restoring` | string | whoever writes back what was lost; for ten seconds |
//!
//! It takes one server, or one with replicas behind one address: Redis Cluster would want each script's keys on one node.

use crate::{clock::milliseconds_of, store::Change};
use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, FromRedisValue, RedisError, Script,
    ScriptInvocation, aio::MultiplexedConnection, cmd,
};
use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

const GENERATION: &str = "secure-app:generation";
const SIGN_OUTS: &str = "secure-app:sign-outs";
const EPOCHS: &str = "secure-app:epochs";
const BEGUN: &str = "secure-app:begun";
const ATTEMPTS: &str = "secure-app:attempts:";
const DELIVERED: &str = "secure-app:delivered:";
const ACME: &str = "secure-app:acme:";
const RESTORING: &str = "secure-app:restoring";

/// For one answer. Whoever waits for it is a user who signs in.
const ANSWER: Duration = Duration::from_secs(1);
/// To connect, with TLS and a password.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a read waits for something to be there.
pub const WAIT: Duration = Duration::from_millis(500);
/// Entries that are read or written at a time: of 100 bytes or so.
pub const PAGE: usize = 1000;
/// How long a lock is held for whoever may have died. Others order until then no certificate.
pub const LOCK: Duration = Duration::from_secs(30);
/// How long nobody signs in after Redis was empty, or another server: all that reach it have by then written back what they
/// have counted. They look each [`WAIT`], or try each second and a quarter; but for those whose packets vanish, which is longer.
pub const GRACE: Duration = Duration::from_secs(3);
/// Epochs begin at the time, in milliseconds: one of the year 37648 was made up, and none could follow it. Lua counts to
/// some more.
const LAST_EPOCH: u64 = 1 << 50;
/// How long a response to a sign-out waits for Redis to have it, while that is reached.
const DELIVERY: Duration = Duration::from_millis(500);

/// Redis says no, or nothing.
#[derive(Clone, Debug)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

impl From<RedisError> for Unavailable {
    fn from(error: RedisError) -> Unavailable {
        Unavailable(match error.kind() {
            // Some servers repeat what they were sent, and that was the password.
            ErrorKind::AuthenticationFailed => "it refuses user name or password".to_owned(),
            _ => error.to_string(),
        })
    }
}

/// Where the server is: `redis://[user:password@]host[:port][/database]`, or `rediss://` with TLS.
#[derive(Clone)]
pub struct Url(Client);

impl std::str::FromStr for Url {
    type Err = ();

    fn from_str(text: &str) -> Result<Url, ()> {
        Client::open(text).map(Url).map_err(|_| ())
    }
}

pub struct Shared {
    client: Client,
    link: ArcSwapOption<Link>,
    /// Why a request has broken it.
    broken: watch::Sender<Option<Unavailable>>,
    /// Of this process, drawn with the first connection.
    id: OnceLock<String>,
    outbox: Mutex<Outbox>,
    more: Notify,
    delivered: watch::Sender<u64>,
    connections: AtomicU64,
    errors: AtomicU64,
    resyncs: AtomicU64,
}

/// Sign-outs of this instance that Redis has not got yet. They stand in its own database as well, and in the denylist, which
/// has no more of one user than [its bound](crate::denylist): so has this, of each user of whom there was a session.
#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Change>,
    /// How many there have been.
    put: u64,
    /// When those end that were not delivered before the start, as far as is known here; until the first delivery.
    again: HashSet<u64>,
}

/// A connection over which Redis answers.
pub struct Link {
    commands: MultiplexedConnection,
    /// The instance's.
    id: String,
    /// Another one than before: Redis may have lost the last of what was there, or all.
    pub generation: String,
    since: Instant,
    /// When attempts are counted again.
    opens: Instant,
    /// What Redis's clock said then, in milliseconds since 1970, as far as is known.
    began: AtomicU64,
}

/// A count as it is in Redis; times in milliseconds since 1970, by Redis's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub count: u32,
    /// The end of the window.
    pub window: u64,
    /// The end of the window or of the lock.
    pub expires: u64,
}

/// What became of an attempt.
pub enum Counted {
    Attempt([Count; 2]),
    /// By which of the two; and how many milliseconds are left.
    Locked {
        by: usize,
        count: Count,
        left: u64,
    },
}

/// Of one rule, in milliseconds.
#[derive(Clone, Copy)]
pub struct Rule {
    pub most: u32,
    pub window: u64,
    pub lock: u64,
}

impl Shared {
    pub fn new(url: &Url) -> Arc<Shared> {
        Arc::new(Shared {
            client: url.0.clone(),
            link: ArcSwapOption::empty(),
            broken: watch::Sender::new(None),
            id: OnceLock::new(),
            outbox: Mutex::default(),
            more: Notify::new(),
            delivered: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            resyncs: AtomicU64::new(0),
        })
    }

    /// For the log; without user name and password.
    pub fn address(&self) -> String {
        let address = self.client.get_connection_info().addr();
        let is_tls = matches!(address, ConnectionAddr::TcpTls { .. });
        format!("{address}, {} TLS", if is_tls { "with" } else { "without" })
    }

    /// Whether Redis answers, has given all that there is, and counts attempts.
    pub fn is_up(&self) -> bool {
        self.link.load().as_ref().is_some_and(|link| link.is_open())
    }

    fn is_reached(&self) -> bool {
        self.link.load().is_some()
    }

    /// How many sign-outs Redis has not got.
    pub fn waiting(&self) -> usize {
        self.outbox().waiting.len()
    }

    /// How often it was reached.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// How often it was lost, or not reached.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// How often all that it holds was read.
    pub fn resyncs(&self) -> u64 {
        self.resyncs.load(Relaxed)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // -------------------------------------------------------------------------------------------- For requests

    fn link(&self) -> Result<Arc<Link>, Unavailable> {
        self.link.load_full().ok_or_else(|| Unavailable("Redis is not reached".to_owned()))
    }

    /// Runs a script; what goes wrong ends the link, so that those who come next need not wait.
    async fn run<T: FromRedisValue>(
        &self,
        link: &Link,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Unavailable> {
        let result = script.invoke_async(&mut link.commands.clone()).await;
        result.map_err(|error: RedisError| self.give_up(link, error.into()))
    }

    fn give_up(&self, link: &Link, error: Unavailable) -> Unavailable {
        let current = self.link.load();
        if current.as_ref().is_some_and(|current| std::ptr::eq(&**current, link)) {
            self.link.compare_and_swap(&current, None);
            self.broken.send_replace(Some(error.clone()));
        }
        error
    }

    /// Counts an attempt, unless one of its two keys is at its limit: all in one step, for all instances.
    pub async fn count(&self, keys: &[[u8; 17]; 2], rules: &[Rule; 2]) -> Result<Counted, Unavailable> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(COUNT));
        let link = self.link()?;
        if !link.is_open() {
            return Err(Unavailable("it had lost what it held, which is written back".to_owned()));
        }
        let mut script = SCRIPT.key(GENERATION);
        for key in keys {
            script.key(attempts(key));
        }
        // Whoever asks has gone by then.
        script.arg(&link.generation).arg(link.now() + milliseconds_of(ANSWER));
        for rule in rules {
            script.arg(rule.most).arg(rule.window).arg(rule.lock);
        }
        let answer: Vec<u64> = self.run(&link, &script).await?;
        let count = |at: &[u64]| Count { count: at[0] as u32, window: at[1], expires: at[2] };
        match answer.as_slice() {
            [0, first @ .., _, _, _] if first.len() == 3 => {
                Ok(Counted::Attempt([count(first), count(&answer[4..])]))
            }
            [1, by @ 0..=1, left, rest @ ..] if rest.len() == 3 => {
                Ok(Counted::Locked { by: *by as usize, count: count(rest), left: *left })
            }
            // Emptied, or after the deadline.
            _ => {
                let error = Unavailable("Redis has lost what it held, or was too slow".to_owned());
                Err(self.give_up(&link, error))
            }
        }
    }

    /// Gives an attempt back, of these windows; if it was `right`, the first key's others too. Returns what the counts
    /// are then, where the windows are still the same, and the user's epoch.
    pub async fn settle(
        &self,
        keys: &[[u8; 17]; 2],
        windows: [u64; 2],
        most: [u32; 2],
        right: Option<&str>,
    ) -> Result<([Option<Count>; 2], u64), Unavailable> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SETTLE));
        let link = self.link()?;
        let mut script = SCRIPT.key(EPOCHS);
        script.key(attempts(&keys[0])).key(attempts(&keys[1]));
        script.arg(u8::from(right.is_some())).arg(right.unwrap_or_default());
        for (window, most) in windows.into_iter().zip(most) {
            script.arg(window).arg(most);
        }
        let (epoch, first, second): (u64, (i64, u64), (i64, u64)) = self.run(&link, &script).await?;
        let count = |(count, expires): (i64, u64), window| {
            u32::try_from(count).ok().map(|count| Count { count, window, expires })
        };
        let epoch = if epoch < LAST_EPOCH { epoch } else { 0 };
        Ok(([count(first, windows[0]), count(second, windows[1])], epoch))
    }

    /// Sign-outs that Redis is to get, as soon as it can be reached. Returns when it has them, or does not get them soon.
    pub async fn put(&self, changes: impl IntoIterator<Item = Change>) {
        let put = {
            let mut outbox = self.outbox();
            let before = outbox.waiting.len();
            outbox.waiting.extend(changes);
            outbox.put += (outbox.waiting.len() - before) as u64;
            outbox.put
        };
        self.more.notify_one();
        if self.is_reached() {
            let mut delivered = self.delivered.subscribe();
            let _ = tokio::time::timeout(DELIVERY, delivered.wait_for(|delivered| *delivered >= put)).await;
        }
    }

    /// Waits until Redis has all sign-outs, if it is reached, for so long.
    pub async fn flush(&self, most: Duration) {
        let put = self.outbox().put;
        if self.is_reached() {
            let mut delivered = self.delivered.subscribe();
            let _ = tokio::time::timeout(most, delivered.wait_for(|delivered| *delivered >= put)).await;
        }
    }

    // -------------------------------------------------------------------------------------------- Certificates

    /// Of an entry of [`crate::shelf`].
    pub async fn entry(&self, name: &str) -> Result<Option<String>, Unavailable> {
        self.command(cmd("GET").arg(acme(name))).await
    }

    pub async fn put_entry(&self, name: &str, text: &str) -> Result<(), Unavailable> {
        self.command(cmd("SET").arg(acme(name)).arg(text)).await
    }

    pub async fn remove_entry(&self, name: &str) -> Result<(), Unavailable> {
        self.command(cmd("DEL").arg(acme(name))).await
    }

    /// Takes or keeps the lock for [`LOCK`]; `false`: another holder has it.
    pub async fn lock(&self, holder: &str) -> Result<bool, Unavailable> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(HOLD));
        let link = self.link()?;
        let mut script = SCRIPT.key(acme("lock"));
        script.arg(holder).arg(milliseconds_of(LOCK));
        let result = script.invoke_async(&mut link.commands.clone()).await;
        result.map_err(|error| self.give_up_unless_refused(&link, error))
    }

    pub async fn unlock(&self, holder: &str) -> Result<(), Unavailable> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(RELEASE));
        let link = self.link()?;
        let result = SCRIPT.key(acme("lock")).arg(holder).invoke_async(&mut link.commands.clone()).await;
        result.map_err(|error| self.give_up_unless_refused(&link, error))
    }

    async fn command<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Unavailable> {
        let link = self.link()?;
        let result = command.query_async(&mut link.commands.clone()).await;
        result.map_err(|error| self.give_up_unless_refused(&link, error))
    }

    fn give_up_unless_refused(&self, link: &Link, error: RedisError) -> Unavailable {
        // It says no to this alone.
        let is_refused = matches!(error.code(), Some("NOPERM" | "WRONGTYPE"));
        let error = error.into();
        if is_refused { error } else { self.give_up(link, error) }
    }

    // -------------------------------------------------------------------------------------------- For the fleet

    /// A link, and a connection to read from. Redis is written to here, so that one that is a replica, or full, says so.
    pub async fn connect(&self) -> Result<(Link, MultiplexedConnection), Unavailable> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(FIND));
        let config = |answer| {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(answer))
        };
        let mut commands = self.client.get_multiplexed_async_connection_with_config(&config(ANSWER)).await?;
        let reader = config(WAIT + ANSWER);
        let mut reader = self.client.get_multiplexed_async_connection_with_config(&reader).await?;
        let server = server(&mut commands).await?;
        if self::server(&mut reader).await? != server {
            return Err(Unavailable("there are two servers at its address".to_owned()));
        }
        let number = random().map_err(Unavailable)?;
        let id = self.id.get_or_init(|| number.clone()).clone();
        let grace = milliseconds_of(GRACE);
        let mut script = SCRIPT.key(GENERATION);
        script.key(SIGN_OUTS).key(BEGUN).arg(server).arg(number).arg(grace);
        let (generation, time, left): (String, u64, u64) = script.invoke_async(&mut commands).await?;
        let since = Instant::now();
        let opens = since + Duration::from_millis(left.min(grace));
        Ok((Link { commands, id, generation, since, opens, began: AtomicU64::new(time) }, reader))
    }

    /// All that it holds is read now.
    pub fn count_resync(&self) {
        self.resyncs.fetch_add(1, Relaxed);
    }

    /// From here on requests go over it.
    pub fn use_link(&self, link: &Arc<Link>) {
        self.connections.fetch_add(1, Relaxed);
        self.broken.send_replace(None);
        self.link.store(Some(Arc::clone(link)));
    }

    pub fn lose_link(&self) {
        self.errors.fetch_add(1, Relaxed);
        self.drop_link();
    }

    pub fn drop_link(&self) {
        self.link.store(None);
    }

    /// Returns when a request has broken the link.
    pub async fn broken(&self) -> Unavailable {
        let mut broken = self.broken.subscribe();
        let error = broken.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        error.unwrap_or_else(|| Unavailable("there is no link".to_owned()))
    }

    /// What was not delivered before the start.
    pub fn put_again(&self, changes: Vec<Change>) {
        let mut outbox = self.outbox();
        outbox.put += changes.len() as u64;
        outbox.again.extend(changes.iter().filter_map(Change::until));
        outbox.waiting.extend(changes);
    }

    /// The log has this one. If it is one that was delivered before the start, and only the answer was lost, it is not to be
    /// begun again, which would end all sessions since. The time that it ends at tells it from others of the same user.
    /// Returns it as it is on disk. Not while something is delivered.
    pub fn recognize(&self, change: &Change) -> Option<Change> {
        let mut outbox = self.outbox();
        if !change.until().is_some_and(|until| outbox.again.contains(&until)) {
            return None;
        }
        let is_same = |other: &Change| {
            other.until() == change.until() && other.about() == change.about() && change.covers(other)
        };
        let place = outbox.waiting.iter().position(is_same)?;
        let same = outbox.waiting.remove(place);
        self.delivered.send_modify(|delivered| *delivered += 1);
        same
    }

    /// Delivers what waits, for as long as that goes well; what Redis has got is `done`, with the epochs that it gave.
    pub async fn deliver(&self, link: &Link, done: impl Fn(Vec<Change>, Vec<u64>)) -> Unavailable {
        loop {
            match self.deliver_some(link, &done).await {
                Ok(0) => self.more.notified().await,
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Returns how many that were.
    pub async fn deliver_some(
        &self,
        link: &Link,
        done: impl Fn(Vec<Change>, Vec<u64>),
    ) -> Result<usize, Unavailable> {
        let (page, first) = {
            let outbox = self.outbox();
            let page: Vec<Change> = outbox.waiting.iter().take(PAGE).cloned().collect();
            (page, outbox.put - outbox.waiting.len() as u64)
        };
        let many = page.len();
        if many > 0 {
            let epochs = link.add(&page, Some(first)).await?;
            done(page, epochs);
            // Nobody else takes from it.
            let mut outbox = self.outbox();
            outbox.waiting.drain(..many);
            outbox.again.clear();
            drop(outbox);
            self.delivered.send_modify(|delivered| *delivered += many as u64);
        }
        Ok(many)
    }
}

impl Link {
    /// By Redis's clock, so that those of the instances may differ.
    fn now(&self) -> u64 {
        self.began.load(Relaxed) + milliseconds_of(self.since.elapsed())
    }

    fn is_open(&self) -> bool {
        self.opens <= Instant::now()
    }

    /// Returns when attempts are counted.
    pub async fn opened(&self) {
        tokio::time::sleep_until(self.opens.into()).await;
    }

    /// The next sign-outs after a place in the log, and the last one's place; waits so long for one to be there.
    pub async fn read(
        reader: &mut MultiplexedConnection,
        after: &str,
        wait: Duration,
    ) -> Result<Vec<(String, Option<Change>)>, Unavailable> {
        type Entries = Vec<(String, Vec<Vec<u8>>)>;
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(PAGE);
        if !wait.is_zero() {
            read.arg("BLOCK").arg(milliseconds_of(wait));
        }
        let streams: Option<Vec<(String, Entries)>> =
            read.arg("STREAMS").arg(SIGN_OUTS).arg(after).query_async(reader).await?;
        let entries = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
        Ok(entries.map(|(id, fields)| (id, entry(&fields))).collect())
    }

    /// Fails if what was there is gone.
    pub async fn beat(&self) -> Result<(), Unavailable> {
        let mut pipe = redis::pipe();
        pipe.get(GENERATION).exists(SIGN_OUTS).cmd("TIME");
        let (generation, is_there, (seconds, microseconds)): (Option<String>, bool, (u64, u64)) =
            pipe.query_async(&mut self.commands.clone()).await?;
        // Two clocks go apart, or one is set.
        let now = seconds * 1000 + microseconds / 1000;
        self.began.store(now.saturating_sub(milliseconds_of(self.since.elapsed())), Relaxed);
        if generation.as_deref() == Some(self.generation.as_str()) && is_there {
            return Ok(());
        }
        Err(emptied())
    }

    /// Adds to the log. Those that this instance delivers are numbered, from the `first` on: a user's sign-out everywhere
    /// among them begins an epoch, of whichever number is free; and what Redis has got is not added again, where only
    /// the answer was lost. Returns the epoch of each sign-out everywhere, or a later one; or 0.
    pub async fn add(&self, changes: &[Change], first: Option<u64>) -> Result<Vec<u64>, Unavailable> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(ADD));
        let mut script = SCRIPT.key(GENERATION);
        script.key(SIGN_OUTS).key(EPOCHS).key(format!("{DELIVERED}{}", self.id)).key(BEGUN);
        script.arg(&self.generation).arg(first.map_or(-1, |first| first as i64));
        for change in changes {
            match change {
                Change::Session { id, user, epoch, until } => {
                    let id = cookie_session::SessionId::from_bytes(*id).to_string();
                    script.arg(id).arg(user).arg(epoch).arg(until);
                }
                Change::User { name, epoch, until } => drop(script.arg("").arg(name).arg(epoch).arg(until)),
                // Each instance forgets by itself.
                _ => {}
            }
        }
        let epochs: Option<Vec<String>> = script.invoke_async(&mut self.commands.clone()).await?;
        let known = |epoch: String| epoch.parse().ok().filter(|epoch| *epoch < LAST_EPOCH).unwrap_or(0);
        Ok(epochs.ok_or_else(emptied)?.into_iter().map(known).collect())
    }

    /// Whether this instance may write back, for ten seconds from now on. It is no lock that anything hangs on: without it,
    /// all would write the same.
    pub async fn may_restore(&self, holds: bool) -> Result<bool, Unavailable> {
        let condition = if holds { "XX" } else { "NX" };
        let mut set = cmd("SET");
        set.arg(RESTORING).arg("").arg(condition).arg("PX").arg(10_000);
        let done: Option<String> = set.query_async(&mut self.commands.clone()).await?;
        Ok(done.is_some())
    }

    /// Another instance may.
    pub async fn end_restoring(&self) -> Result<(), Unavailable> {
        Ok(cmd("DEL").arg(RESTORING).query_async(&mut self.commands.clone()).await?)
    }

    /// Writes back counts that are higher than what is there.
    pub async fn restore(&self, counts: &[([u8; 17], Count)]) -> Result<(), Unavailable> {
        static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(RESTORE));
        for page in counts.chunks(PAGE) {
            let mut script = SCRIPT.prepare_invoke();
            for (key, Count { count, window, expires }) in page {
                script.key(attempts(key)).arg(count).arg(window).arg(expires);
            }
            let () = script.invoke_async(&mut self.commands.clone()).await?;
        }
        Ok(())
    }

    /// Forgets what is older than that in the log.
    pub async fn trim(&self, age: Duration) -> Result<(), Unavailable> {
        let mut trim = cmd("XTRIM");
        let before = self.now().saturating_sub(milliseconds_of(age));
        trim.arg(SIGN_OUTS).arg("MINID").arg("~").arg(before);
        Ok(trim.query_async(&mut self.commands.clone()).await?)
    }
}

/// The process, and the history of what it holds: a replica has that of its server, and begins one when it takes its place.
async fn server(connection: &mut MultiplexedConnection) -> Result<String, Unavailable> {
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("server").cmd("INFO").arg("replication");
    let (server, replication): (String, String) = pipe.query_async(connection).await?;
    let find = |info: &str, name| {
        info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    Ok(format!("{}-{}", find(&server, "run_id:"), find(&replication, "master_replid:")))
}

/// A name that nobody else has.
pub fn random() -> Result<String, String> {
    let number = getrandom::u64().map_err(|error| error.to_string())?;
    Ok(format!("{number:016x}"))
}

fn emptied() -> Unavailable {
    Unavailable("it has lost what it held".to_owned())
}

fn acme(name: &str) -> String {
    format!("{ACME}{name}")
}

fn attempts(key: &[u8; 17]) -> String {
    key.iter().fold(ATTEMPTS.to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// As [`Link::add`] writes it. Others in the log are whatever a later version may put there.
fn entry(fields: &[Vec<u8>]) -> Option<Change> {
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        let value = &pairs.find(|pair| pair[0] == name.as_bytes())?[1];
        str::from_utf8(value).ok()
    };
    let (user, epoch, until): (String, u64, u64) =
        (field("user")?.to_owned(), field("epoch")?.parse().ok()?, field("until")?.parse().ok()?);
    if epoch >= LAST_EPOCH {
        return None;
    }
    match field("session") {
        None => Some(Change::User { name: user, epoch, until }),
        Some(id) => {
            let id = id.parse::<cookie_session::SessionId>().ok()?.to_bytes();
            Some(Change::Session { id, user, epoch, until })
        }
    }
}

/// Keys: generation, sign-outs, begun; arguments: the server, a number, and how many milliseconds nothing is counted after another one.
/// The generation, and a new one where there is none or another server's; the time; and how long nothing is counted.
/// It is written even where it is there. What is of another type is as good as not there, as in all that follows: nobody else is
/// to wait for whoever put it there.
const FIND: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local generation = redis.pcall('GET', KEYS[1])
if type(generation) ~= 'string' then generation = nil end
local is_there = generation and redis.call('TYPE', KEYS[2]).ok == 'stream'
if not is_there or string.sub(generation, 1, #ARGV[1]) ~= ARGV[1] then
    generation = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. string.format('%.0f', now)
    redis.call('DEL', KEYS[3])
end
if not is_there then
    redis.call('DEL', KEYS[2])
    redis.call('XADD', KEYS[2], '*', 'generation', generation)
end
redis.call('SET', KEYS[1], generation)
local passed = now - (tonumber(string.match(generation, '%d+$')) or now)
return {generation, now, math.max(0, math.min(ARGV[3] - passed, ARGV[3]))}
";

/// Keys: generation, pair, address; arguments: generation, deadline, and most, window, lock of each.
const COUNT: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {2} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[2]) then return {3} end
for i = 3, 2, -1 do
    local held = redis.pcall('HMGET', KEYS[i], 'count', 'window')
    local count, ends = tonumber(held[1]), tonumber(held[2])
    if not (count and ends) then
        if held.err or held[1] or held[2] then redis.call('DEL', KEYS[i]) end
    elseif count >= tonumber(ARGV[i * 3 - 3]) then
        local left = math.max(redis.call('PTTL', KEYS[i]), 1)
        return {1, i - 2, left, count, ends, now + left}
    end
end
local answer = {0}
for i = 2, 3 do
    local most, window, lock = tonumber(ARGV[i * 3 - 3]), tonumber(ARGV[i * 3 - 2]), tonumber(ARGV[i * 3 - 1])
    local count = redis.call('HINCRBY', KEYS[i], 'count', 1)
    local ends, expires
    if count == 1 then
        ends = now + window
        expires = ends
        redis.call('HSET', KEYS[i], 'window', ends)
        redis.call('PEXPIREAT', KEYS[i], expires)
    else
        ends = tonumber(redis.call('HGET', KEYS[i], 'window'))
        expires = now + redis.call('PTTL', KEYS[i])
    end
    if count == most then
        expires = now + lock
        redis.call('PEXPIREAT', KEYS[i], expires)
    end
    answer[#answer + 1] = count
    answer[#answer + 1] = ends
    answer[#answer + 1] = expires
end
return answer
";

/// Keys: epochs, pair, address; arguments: whether it was right, the user, and window, most of each.
const SETTLE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {tonumber(redis.pcall('HGET', KEYS[1], ARGV[2])) or 0}
for i = 2, 3 do
    local window, most = ARGV[i * 2 - 1], tonumber(ARGV[i * 2])
    local count, expires = -1, 0
    if redis.pcall('HGET', KEYS[i], 'window') == window then
        count = redis.call('HINCRBY', KEYS[i], 'count', -1)
        if count <= 0 or (i == 2 and ARGV[1] == '1') then
            count = 0
            redis.call('DEL', KEYS[i])
        else
            if count + 1 == most then redis.call('PEXPIREAT', KEYS[i], window) end
            expires = now + redis.call('PTTL', KEYS[i])
        end
    end
    answer[#answer + 1] = {count, expires}
end
return answer
";

/// Key: of the lock; arguments: who, and for how many milliseconds.
const HOLD: &str = "
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

/// Key: of the lock; argument: who.
const RELEASE: &str = "
if redis.pcall('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
";

/// Keys: of counts; arguments: count, window and expiry of each.
const RESTORE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
    local count, window, expires = ARGV[i * 3 - 2], ARGV[i * 3 - 1], ARGV[i * 3]
    local there = redis.pcall('HGET', key, 'count')
    if type(there) == 'table' then redis.call('DEL', key) end
    if (tonumber(there) or 0) < tonumber(count) and tonumber(expires) > now then
        redis.call('HSET', key, 'count', count, 'window', window)
        redis.call('PEXPIREAT', key, expires)
    end
end
";

/// Keys: generation, sign-outs, epochs, delivered, begun; arguments: generation, the first one's number (-1: none is new), and session
/// (or nothing), user, epoch, end of each. An epoch that is new is above all before it, whatever the clock of the
/// instance that began it; also above one that was lost, and is written back after it.
const ADD: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return false end
local epochs = {}
local first = tonumber(ARGV[2])
local delivered = redis.pcall('GET', KEYS[4])
delivered = first >= 0 and type(delivered) == 'string' and tonumber(delivered) or 0
local number = first
-- Before anything is added: a script that fails takes nothing back.
if redis.call('TYPE', KEYS[3]).ok ~= 'hash' then redis.call('DEL', KEYS[3]) end
if redis.call('TYPE', KEYS[5]).ok ~= 'set' then redis.call('DEL', KEYS[5]) end
for i = 3, #ARGV, 4 do
    local session, user, epoch, ends = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if first < 0 or number >= delivered then
        if session ~= '' then
            redis.call('XADD', KEYS[2], '*', 'session', session, 'user', user, 'epoch', epoch, 'until', ends)
        else
            local least = tonumber(redis.call('HGET', KEYS[3], user)) or 0
            epoch = tonumber(epoch)
            if first >= 0 then
                least = least + 1
                redis.call('SADD', KEYS[5], user)
                redis.call('EXPIRE', KEYS[5], 86400)
            elseif epoch > least and redis.call('SISMEMBER', KEYS[5], user) == 1 then
                epoch = epoch + 1
            end
            epoch = string.format('%.0f', math.max(least, epoch))
            redis.call('HSET', KEYS[3], user, epoch)
            redis.call('XADD', KEYS[2], '*', 'user', user, 'epoch', epoch, 'until', ends)
        end
    end
    if session == '' then epochs[#epochs + 1] = redis.call('HGET', KEYS[3], user) or epoch end
    number = number + 1
end
if first >= 0 then redis.call('SET', KEYS[4], math.max(number, delivered), 'EX', 86400) end
return epochs
";
