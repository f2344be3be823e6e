//! Signing out for good. In the browser where it is done, the session layer's own marker holds; this list holds against a
//! *copy* of the cookie: ids of sessions that were signed out, and users who signed out everywhere, each until no
//! cookie of theirs can be good any more.
//!
//! Asked in memory for each request that uses the session ([`crate::session::layer`]); stored, so that it holds after a restart;
//! and shared, where there are other instances, so that it holds there.

use crate::{
    clock::{Clock, milliseconds},
    shared::Shared,
    store::{Change, Store, StoreError},
};
use cookie_session::{CLOCK_SKEW, SessionId, SessionMeta};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// A user who signs out of more sessions, within [`LONGEST`], signs out everywhere: so much memory, and no more,
/// can a user make this list take.
const MOST_SESSIONS: usize = 10_000;

/// No session lives longer, by the crate's own limit; so that a copy is refused also where a later configuration raises the
/// timeouts, all entries are kept for so long.
pub const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);

pub struct Denylist {
    users: RwLock<Users>,
    store: Store,
    shared: Option<Arc<Shared>>,
    clock: Clock,
}

/// All of them, and how many there are: nobody waits while they are counted.
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
}

impl One {
    fn forget(&self) -> Change {
        Change::ForgetSession { id: self.id.to_bytes() }
    }
}

impl Denylist {
    pub fn new(stored: Vec<Change>, store: Store, shared: Option<Arc<Shared>>, clock: Clock) -> Denylist {
        let mut users = Users::default();
        take_over(&mut users, stored);
        Denylist { users: RwLock::new(users), store, shared, clock }
    }

    /// What a session of this user is to hold, so that signing out everywhere ends it.
    ///
    /// No session's own time is compared: a clock that was set back, or two things in one millisecond, change nothing.
    pub fn epoch(&self, user: &str) -> u64 {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.by_name.get(user).map_or(0, SignedOut::epoch)
    }

    /// Whether a session was signed out, by itself or with all of its user's.
    pub fn refuses(&self, id: SessionId, user: &str, epoch: u64) -> bool {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users
            .by_name
            .get(user)
            .is_some_and(|signed_out| epoch < signed_out.epoch() || signed_out.holds(id).is_ok())
    }

    /// Refuses one session of this user's epoch from now on, here at once, and returns when that is on disk and the other
    /// instances can hear of it.
    pub async fn sign_out(&self, meta: &SessionMeta, user: &str, epoch: u64) -> Result<(), StoreError> {
        let until = milliseconds(meta.renewed_at() + LONGEST + CLOCK_SKEW);
        let (written, change) =
            {
                let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
                if users.of(user).sessions.len() < MOST_SESSIONS {
                    let id = meta.id().to_bytes();
                    // Else it was signed out just now, and that is on its way.
                    let change = users
                        .add(user, One { id: meta.id(), epoch, until })
                        .then(|| Change::Session { id, user: user.to_owned(), epoch, until });
                    (self.store.write(change.iter().cloned().collect()), change)
                } else {
                    let (changes, last) = self.next_epoch(user, epoch, &mut users);
                    (self.store.write(changes), last)
                }
            };
        self.share(change).await;
        written.await
    }

    /// Refuses all sessions that a user has signed in to so far. One of them, which asks for it, has this epoch.
    pub async fn sign_out_everywhere(&self, user: &str, epoch: u64) -> Result<(), StoreError> {
        let (written, change) = {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            let (changes, last) = self.next_epoch(user, epoch, &mut users);
            (self.store.write(changes), last)
        };
        self.share(change).await;
        written.await
    }

    /// Returns what is to be stored, and what is to be shared. Where another clock is ahead, its number alone does not say
    /// that it is new: that is kept until it is delivered.
    fn next_epoch(&self, user: &str, epoch: u64, users: &mut Users) -> (Vec<Change>, Option<Change>) {
        let now = (self.clock)();
        let next = milliseconds(now).max(users.of(user).epoch() + 1).max(epoch + 1);
        let until = milliseconds(now + LONGEST);
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
    pub fn merge(
        &self,
        changes: Vec<Change>,
    ) -> Option<impl Future<Output = Result<(), StoreError>> + Send + use<>> {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let new = take_over(&mut users, changes);
        // Handed over under the lock: what is signed out here meanwhile comes to the disk after it.
        (!new.is_empty()).then(|| self.store.write(new))
    }

    /// All that there is, as it was stored.
    pub fn entries(&self) -> Vec<Change> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        for (user, signed_out) in &users.by_name {
            for One { id, epoch, until } in &signed_out.sessions {
                let (epoch, until) = (*epoch, *until);
                entries.push(Change::Session { id: id.to_bytes(), user: user.to_string(), epoch, until });
            }
            if let Some((epoch, until)) = signed_out.everywhere {
                entries.push(Change::User { name: user.to_string(), epoch, until });
            }
        }
        entries
    }

    /// Forgets what no cookie can ask for any more.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = milliseconds((self.clock)());
        let written = {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            let Users { by_name, sessions, everywhere } = &mut *users;
            let mut changes = Vec::new();
            by_name.retain(|name, signed_out| {
                let before = changes.len();
                let expired = signed_out.sessions.extract_if(.., |one| one.until <= now);
                changes.extend(expired.map(|one| one.forget()));
                *sessions -= changes.len() - before;
                if signed_out.everywhere.take_if(|(_, until)| *until <= now).is_some() {
                    changes.push(Change::ForgetUser { name: name.to_string() });
                    *everywhere -= 1;
                }
                signed_out.everywhere.is_some() || !signed_out.sessions.is_empty()
            });
            self.store.write(changes)
        };
        written.await
    }

    /// How many sessions, and how many users who signed out everywhere.
    pub fn sizes(&self) -> (usize, usize) {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        (users.sessions, users.everywhere)
    }
}

/// Returns what of it was new. Of a user's epochs the highest counts; what an epoch stands for is left out.
fn take_over(users: &mut Users, changes: Vec<Change>) -> Vec<Change> {
    let mut new = Vec::new();
    for change in changes {
        match &change {
            Change::Session { id, user, epoch, until } => {
                let one = One { id: SessionId::from_bytes(*id), epoch: *epoch, until: *until };
                if users.add(user, one) {
                    new.push(change);
                }
            }
            Change::User { name, epoch, until } if *epoch > users.of(name).epoch() => {
                new.extend(users.begin(name, *epoch, *until));
            }
            _ => {}
        }
    }
    new
}
