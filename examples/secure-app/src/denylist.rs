//! Signing out for good. In the browser where it is done, the session layer's own marker holds; this list holds against a
//! *copy* of the cookie: ids of sessions that were signed out, and users who signed out everywhere, each until no
//! cookie of theirs can be good any more.
//!
//! Asked in memory for each request that uses the session ([`crate::session::layer`]); stored, so that it holds after a restart;
//! and shared, where there are other instances, so that it holds there.

use crate::{
    clock::{Clock, milliseconds},
    shared::Shared,
    store::{Change, Store, StoreError, Written},
};
use cookie_session::{CLOCK_SKEW, SessionId, SessionMeta};
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use tokio::task::yield_now;

/// A user who signs out of more sessions, within [`LONGEST`], signs out everywhere: so much memory, and no more,
/// can a user make this list take.
const MOST_SESSIONS: usize = 10_000;

/// No session lives longer, by the crate's own limit; so that a copy is refused also where a later configuration raises the
/// timeouts, all entries are kept for so long.
pub const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Of the list: each user is in one of them, so that whoever goes through all of it holds nobody up for long, nor does a
/// table that grows.
const PARTS: usize = 256;

pub struct Denylist {
    parts: [RwLock<Users>; PARTS],
    hasher: RandomState,
    store: Store,
    shared: Option<Arc<Shared>>,
    clock: Clock,
}

/// Those of one part, and how much there is: nobody waits while that is counted.
#[derive(Default)]
struct Users {
    by_name: HashMap<Box<str>, SignedOut>,
    sessions: usize,
    everywhere: usize,
}

/// Of one user; times in milliseconds since 1970.
#[derive(Default)]
struct SignedOut {
    /// The user's epoch, which began at this time: sessions of earlier ones are over. And when it may be forgotten.
    everywhere: Option<(u64, u64)>,
    /// Sorted, and no longer than it must be: there may be many users with one.
    sessions: Vec<One>,
}

struct One {
    id: SessionId,
    epoch: u64,
    until: u64,
}

impl SignedOut {
    fn epoch(&self) -> u64 {
        self.everywhere.map_or(0, |(epoch, _)| epoch)
    }

    fn holds(&self, id: SessionId) -> Result<usize, usize> {
        self.sessions.binary_search_by_key(&id, |one| one.id)
    }

    /// Whether it is new.
    fn add(&mut self, one: One) -> bool {
        let Err(place) = self.holds(one.id) else { return false };
        // By half as much again, from one on.
        if self.sessions.len() == self.sessions.capacity() {
            self.sessions.reserve_exact(self.sessions.len() / 2 + 1);
        }
        self.sessions.insert(place, one);
        true
    }
}

impl Users {
    fn of(&mut self, name: &str) -> &mut SignedOut {
        self.by_name.entry(name.into()).or_default()
    }

    /// Whether it is new.
    fn add(&mut self, name: &str, one: One) -> bool {
        let signed_out = self.of(name);
        let is_new = one.epoch >= signed_out.epoch() && signed_out.add(one);
        self.sessions += usize::from(is_new);
        is_new
    }

    /// Begins an epoch, which stands for all sessions of earlier ones.
    fn begin(&mut self, name: &str, epoch: u64, until: u64) -> Vec<Change> {
        let signed_out = self.of(name);
        let is_first = signed_out.everywhere.replace((epoch, until)).is_none();
        let earlier = signed_out.sessions.extract_if(.., |one| one.epoch < epoch);
        let mut changes: Vec<_> = earlier.map(|one| one.forget()).collect();
        signed_out.sessions.shrink_to_fit();
        self.sessions -= changes.len();
        self.everywhere += usize::from(is_first);
        changes.push(Change::User { name: name.to_owned(), epoch, until });
        changes
    }

    /// Adds what of it was new to `new`. Of a user's epochs the highest counts; what an epoch stands for is left out.
    fn take_over(&mut self, changes: Vec<Change>, new: &mut Vec<Change>) {
        for change in changes {
            match &change {
                Change::Session { id, user, epoch, until } => {
                    let one = One { id: SessionId::from_bytes(*id), epoch: *epoch, until: *until };
                    if self.add(user, one) {
                        new.push(change);
                    }
                }
                Change::User { name, epoch, until } if *epoch > self.of(name).epoch() => {
                    new.extend(self.begin(name, *epoch, *until));
                }
                _ => {}
            }
        }
    }

    /// What no cookie can ask for any more.
    fn forget(&mut self, now: u64) -> Vec<Change> {
        let Users { by_name, sessions, everywhere } = self;
        let mut changes = Vec::new();
        by_name.retain(|name, signed_out| {
            let before = changes.len();
            let expired = signed_out.sessions.extract_if(.., |one| one.until <= now);
            changes.extend(expired.map(|one| one.forget()));
            *sessions -= changes.len() - before;
            if changes.len() > before {
                signed_out.sessions.shrink_to_fit();
            }
            if signed_out.everywhere.take_if(|(_, until)| *until <= now).is_some() {
                changes.push(Change::ForgetUser { name: name.to_string() });
                *everywhere -= 1;
            }
            signed_out.everywhere.is_some() || !signed_out.sessions.is_empty()
        });
        changes
    }

    /// As it was stored.
    fn entries(&self) -> impl Iterator<Item = Change> {
        self.by_name.iter().flat_map(|(user, signed_out)| {
            let sessions = signed_out.sessions.iter().map(|&One { id, epoch, until }| Change::Session {
                id: id.to_bytes(),
                user: user.to_string(),
                epoch,
                until,
            });
            let everywhere = signed_out.everywhere;
            let everywhere =
                everywhere.map(|(epoch, until)| Change::User { name: user.to_string(), epoch, until });
            sessions.chain(everywhere)
        })
    }
}

impl One {
    fn forget(&self) -> Change {
        Change::ForgetSession { id: self.id.to_bytes() }
    }
}

impl Denylist {
    pub fn new(stored: Vec<Change>, store: Store, shared: Option<Arc<Shared>>, clock: Clock) -> Denylist {
        let parts = std::array::from_fn(|_| RwLock::default());
        let denylist = Denylist { parts, hasher: RandomState::new(), store, shared, clock };
        for (part, changes) in denylist.by_part(stored) {
            denylist.write(part).take_over(changes, &mut Vec::new());
        }
        denylist
    }

    /// Where a user is.
    fn part(&self, user: &str) -> usize {
        self.hasher.hash_one(user) as usize % PARTS
    }

    fn by_part(&self, changes: Vec<Change>) -> BTreeMap<usize, Vec<Change>> {
        let mut by_part: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for change in changes {
            if let Change::Session { user: name, .. } | Change::User { name, .. } = &change {
                by_part.entry(self.part(name)).or_default().push(change);
            }
        }
        by_part
    }

    fn read(&self, part: usize) -> RwLockReadGuard<'_, Users> {
        self.parts[part].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, part: usize) -> RwLockWriteGuard<'_, Users> {
        self.parts[part].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a session of this user is to hold, so that signing out everywhere ends it.
    ///
    /// No session's own time is compared: a clock that was set back, or two things in one millisecond, change nothing.
    pub fn epoch(&self, user: &str) -> u64 {
        self.read(self.part(user)).by_name.get(user).map_or(0, SignedOut::epoch)
    }

    /// Takes over which epoch Redis says that a user has. It may lose that before anybody reads it in the log, and the next
    /// one is to be a later one than sessions have by then.
    pub fn hear(&self, user: &str, epoch: u64) {
        if epoch > self.epoch(user) {
            let until = milliseconds((self.clock)() + LONGEST + CLOCK_SKEW);
            drop(self.merge(vec![Change::User { name: user.to_owned(), epoch, until }]));
        }
    }

    /// Whether a session was signed out, by itself or with all of its user's.
    pub fn refuses(&self, id: SessionId, user: &str, epoch: u64) -> bool {
        let users = self.read(self.part(user));
        users
            .by_name
            .get(user)
            .is_some_and(|signed_out| epoch < signed_out.epoch() || signed_out.holds(id).is_ok())
    }

    /// Refuses one session of this user's epoch from now on, here at once, and returns when that is on disk and the other
    /// instances can hear of it.
    pub async fn sign_out(&self, meta: &SessionMeta, user: &str, epoch: u64) -> Result<(), StoreError> {
        let until = milliseconds(meta.renewed_at() + LONGEST + CLOCK_SKEW);
        let (written, change) = {
            let mut users = self.write(self.part(user));
            let (changes, last) = if users.of(user).sessions.len() < MOST_SESSIONS {
                // Else it was signed out just now, and that is on its way.
                let is_new = users.add(user, One { id: meta.id(), epoch, until });
                let id = meta.id().to_bytes();
                let change = is_new.then(|| Change::Session { id, user: user.to_owned(), epoch, until });
                (Vec::from_iter(change.clone()), change)
            } else {
                self.next_epoch(user, epoch, &mut users)
            };
            (self.store.write(changes), last)
        };
        self.share(change).await;
        written.soon().await
    }

    /// Refuses all sessions that a user has signed in to so far. One of them, which asks for it, has this epoch.
    pub async fn sign_out_everywhere(&self, user: &str, epoch: u64) -> Result<(), StoreError> {
        let (written, change) = {
            let mut users = self.write(self.part(user));
            let (changes, last) = self.next_epoch(user, epoch, &mut users);
            (self.store.write(changes), last)
        };
        self.share(change).await;
        written.soon().await
    }

    /// Returns what is to be stored, and what is to be shared. Where another clock is ahead, its number alone does not say
    /// that it is new: that is kept until it is delivered.
    fn next_epoch(&self, user: &str, epoch: u64, users: &mut Users) -> (Vec<Change>, Option<Change>) {
        let now = (self.clock)();
        let next = milliseconds(now).max(users.of(user).epoch() + 1).max(epoch + 1);
        let until = milliseconds(now + LONGEST + CLOCK_SKEW);
        let mut changes = users.begin(user, next, until);
        let last = changes.last().cloned();
        if self.shared.is_some() {
            changes.push(Change::Undelivered { name: user.to_owned(), epoch: next, until });
        }
        (changes, last)
    }

    async fn share(&self, change: Option<Change>) {
        if let Some(shared) = &self.shared {
            shared.put(change).await;
        }
    }

    /// Takes over what other instances have done. Where something of it is new, the future ends when that is on disk.
    pub fn merge(&self, changes: Vec<Change>) -> Option<Written> {
        let (mut parts, mut new) = (Vec::new(), Vec::new());
        // In their order, as anybody who takes several.
        for (part, changes) in self.by_part(changes) {
            let mut users = self.write(part);
            users.take_over(changes, &mut new);
            parts.push(users);
        }
        // Handed over under the locks: what is signed out here meanwhile comes to the disk after it.
        (!new.is_empty()).then(|| self.store.write(new))
    }

    /// All that there is, as it was stored.
    pub async fn each(&self, mut take: impl FnMut(Change)) {
        for part in 0..PARTS {
            let entries: Vec<Change> = self.read(part).entries().collect();
            entries.into_iter().for_each(&mut take);
            yield_now().await;
        }
    }

    /// Forgets what no cookie can ask for any more.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = milliseconds((self.clock)());
        let mut written = None;
        for part in 0..PARTS {
            {
                let mut users = self.write(part);
                let changes = users.forget(now);
                if !changes.is_empty() {
                    written = Some(self.store.write(changes));
                }
            }
            yield_now().await;
        }
        // Those before it are written then, too.
        match written {
            Some(written) => written.await,
            None => Ok(()),
        }
    }

    /// How many sessions, and how many users who signed out everywhere.
    pub fn sizes(&self) -> (usize, usize) {
        (0..PARTS).fold((0, 0), |(sessions, everywhere), part| {
            let users = self.read(part);
            (sessions + users.sessions, everywhere + users.everywhere)
        })
    }
}
