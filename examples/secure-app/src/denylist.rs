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

/// A user who signs out of more sessions, within [`LONGEST`], signs out everywhere: so much memory, and no more,
/// can a user make this list take.
const MOST_SESSIONS: usize = 10_000;

/// No session lives longer, by the crate's own limit; so that a copy is refused also where a later configuration raises the
/// timeouts, all entries are kept for so long.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);

pub struct Denylist {
    users: RwLock<HashMap<String, SignedOut>>,
    store: Store,
    clock: Clock,
}

/// Of one user; times in milliseconds since 1970.
#[derive(Default)]
struct SignedOut {
    /// The user's epoch, which began at this time: sessions of earlier ones are over. And when it may be forgotten.
    everywhere: Option<(u64, u64)>,
    /// When each may be forgotten.
    sessions: HashMap<SessionId, u64>,
}

impl Denylist {
    pub fn new(
        sessions: Vec<([u8; 16], (u64, String))>,
        everywhere: Vec<(String, (u64, u64))>,
        store: Store,
        clock: Clock,
    ) -> Denylist {
        let mut users: HashMap<String, SignedOut> = HashMap::new();
        for (id, (until, user)) in sessions {
            users.entry(user).or_default().sessions.insert(SessionId::from_bytes(id), until);
        }
        for (user, times) in everywhere {
            users.entry(user).or_default().everywhere = Some(times);
        }
        Denylist { users: RwLock::new(users), store, clock }
    }

    /// What a session of this user is to hold, so that signing out everywhere ends it.
    ///
    /// No session's own time is compared: a clock that was set back, or two things in one millisecond, change nothing.
    pub fn epoch(&self, user: &str) -> u64 {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(user).and_then(|signed_out| signed_out.everywhere).map_or(0, |(epoch, _)| epoch)
    }

    /// Whether a session was signed out, by itself or with all of its user's.
    pub fn refuses(&self, id: SessionId, user: &str, epoch: u64) -> bool {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(user).is_some_and(|signed_out| {
            signed_out.everywhere.is_some_and(|(current, _)| epoch < current)
                || signed_out.sessions.contains_key(&id)
        })
    }

    /// Refuses one session from now on, here at once, and returns when that is on disk.
    pub async fn sign_out(&self, meta: &SessionMeta, user: &str) -> Result<(), StoreError> {
        let until = milliseconds(meta.renewed_at() + LONGEST + CLOCK_SKEW);
        let written = {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            let signed_out = users.entry(user.to_owned()).or_default();
            if signed_out.sessions.len() < MOST_SESSIONS {
                signed_out.sessions.insert(meta.id(), until);
                let id = meta.id().to_bytes();
                self.store.write(vec![Change::Session { id, until, user: user.to_owned() }])
            } else {
                self.store.write(self.everywhere(user, signed_out))
            }
        };
        written.await
    }

    /// Refuses all sessions that a user has signed in to so far.
    pub async fn sign_out_everywhere(&self, user: &str) -> Result<(), StoreError> {
        let written = {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            let changes = self.everywhere(user, users.entry(user.to_owned()).or_default());
            self.store.write(changes)
        };
        written.await
    }

    fn everywhere(&self, user: &str, signed_out: &mut SignedOut) -> Vec<Change> {
        let now = (self.clock)();
        let before = signed_out.everywhere.map_or(0, |(epoch, _)| epoch);
        let (epoch, until) = (milliseconds(now).max(before + 1), milliseconds(now + LONGEST));
        signed_out.everywhere = Some((epoch, until));
        let forget = |(id, _): (SessionId, u64)| Change::ForgetSession { id: id.to_bytes() };
        let mut changes: Vec<_> = signed_out.sessions.drain().map(forget).collect();
        changes.push(Change::User { name: user.to_owned(), epoch, until });
        changes
    }

    /// Forgets what no cookie can ask for any more.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = milliseconds((self.clock)());
        let written = {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            let mut changes = Vec::new();
            users.retain(|name, signed_out| {
                signed_out.sessions.retain(|id, until| {
                    if *until <= now {
                        changes.push(Change::ForgetSession { id: id.to_bytes() });
                    }
                    *until > now
                });
                if signed_out.everywhere.take_if(|(_, until)| *until <= now).is_some() {
                    changes.push(Change::ForgetUser { name: name.clone() });
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
        let sessions = users.values().map(|signed_out| signed_out.sessions.len()).sum();
        (sessions, users.values().filter(|signed_out| signed_out.everywhere.is_some()).count())
    }
}
