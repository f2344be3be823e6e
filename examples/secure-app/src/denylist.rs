//! Signing out for good. In the browser where it is done, the session layer's own marker holds; this list holds against a
//! *copy* of the cookie: ids of sessions that were signed out, and users who signed out everywhere, each until no
//! cookie of theirs can be good any more.
//!
//! Asked in memory for each request that uses the session ([`crate::session::layer`]); stored, so that it holds after a restart.

use crate::{
    clock::{Clock, milliseconds},
    store::{Change, Store, StoreError},
};
use cookie_session::{CLOCK_SKEW, SessionId, SessionMeta};
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

pub struct Denylist {
    entries: RwLock<Entries>,
    store: Store,
    clock: Clock,
}

#[derive(Default)]
struct Entries {
    sessions: HashMap<SessionId, u64>,
    users: HashMap<String, (u64, u64)>,
}

impl Denylist {
    pub fn new(
        sessions: Vec<([u8; 16], u64)>,
        users: Vec<(String, (u64, u64))>,
        store: Store,
        clock: Clock,
    ) -> Denylist {
        let sessions = sessions.into_iter().map(|(id, until)| (SessionId::from_bytes(id), until)).collect();
        let entries = Entries { sessions, users: users.into_iter().collect() };
        Denylist { entries: RwLock::new(entries), store, clock }
    }

    /// Whether a session was signed out, by itself or with all of its user's.
    pub fn refuses(&self, meta: &SessionMeta, user: Option<&str>) -> bool {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.sessions.contains_key(&meta.id())
            || user
                .and_then(|name| entries.users.get(name))
                .is_some_and(|(at, _)| milliseconds(meta.renewed_at()) <= *at)
    }

    /// Refuses one session from now on, here at once, and returns when that is on disk.
    ///
    /// Until its absolute deadline, and as much longer as clocks may differ: no copy is good after that.
    pub async fn sign_out(&self, meta: &SessionMeta) -> Result<(), StoreError> {
        let until = milliseconds(meta.absolute_deadline() + CLOCK_SKEW);
        let written = {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.sessions.insert(meta.id(), until);
            self.store.write(vec![Change::Session { id: meta.id().to_bytes(), until }])
        };
        written.await
    }

    /// Refuses all sessions that a user has signed in to so far.
    pub async fn sign_out_everywhere(&self, user: &str) -> Result<(), StoreError> {
        let now = (self.clock)();
        let (at, until) = (milliseconds(now), milliseconds(now + LONGEST));
        let written = {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.users.insert(user.to_owned(), (at, until));
            self.store.write(vec![Change::User { name: user.to_owned(), at, until }])
        };
        written.await
    }

    /// Forgets what no cookie can ask for any more.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = milliseconds((self.clock)());
        let written = {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            let mut changes = Vec::new();
            entries.sessions.retain(|id, until| {
                if *until <= now {
                    changes.push(Change::ForgetSession { id: id.to_bytes() });
                }
                *until > now
            });
            entries.users.retain(|name, (_, until)| {
                if *until <= now {
                    changes.push(Change::ForgetUser { name: name.clone() });
                }
                *until > now
            });
            self.store.write(changes)
        };
        written.await
    }

    /// How many sessions, and how many users.
    pub fn sizes(&self) -> (usize, usize) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        (entries.sessions.len(), entries.users.len())
    }
}

/// No session lives longer, by the crate's own limit.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);
