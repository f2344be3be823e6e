//! `Session<T>`: lazy opening, reading, transactional updates, and what to commit.
//!
//! One short lock guards the *stored* state: the encoding of the value as it was last stored, its
//! times, and flags. Nothing of the user's ever runs under it, so that `read`, `clear` and the head
//! never wait for a closure. The value itself is taken out of the state while a closure has it; who
//! finds it gone works on a copy decoded from the stored encoding. An `update` notes its thread and
//! the epoch (the number of `clear`s) when it begins, and stores only if both the epoch and the
//! head allow it.

use crate::{
    codec::{
        Arrival, Elsewhere, Evidence, Form, Loaded, Meta, Origin, Payload, SessionCodec, SessionId,
        SessionMeta, draw,
    },
    config::{self, Hooks},
    cookie::{Cookies, SetCookie, Template},
    error::{Incoming, MissingLayer, NotEncodable, UpdateError},
    key::{Key, KeyRing},
    lifetime::{self, LATE, Lifetime, Times},
    log::event,
    ring::LayerKeys,
    seal::random,
};
use http::request::Parts;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What all requests of a layer share.
pub(crate) struct Shared<T> {
    pub(crate) codec: SessionCodec<T>,
    pub(crate) hooks: Hooks,
}

/// The session of a request: a cheap handle, which clones share.
///
/// An extractor of axum (feature `axum`), or [`Session::from_parts`]. Reads see the session as it
/// was last stored; an update stores all of its change or nothing; the layer sends the cookie when
/// the response's headers leave. Nothing is decrypted before the first use.
///
/// ```
/// # use cookie_session::{Session, UpdateError};
/// # #[derive(Default, serde::Serialize, serde::Deserialize)]
/// # struct Shop { user: Option<u64>, cart: Vec<u32> }
/// # fn handler(session: Session<Shop>) -> Result<(), UpdateError> {
/// let items = session.read(|shop| shop.cart.len());
/// session.update(|shop| shop.cart.push(7))?;
/// # Ok(()) }
/// # handler(Session::detached(Shop::default())).unwrap();
/// ```
///
/// # Threads and nesting
///
/// A `read` never waits, also inside an `update`. An `update` waits for one that runs on another
/// thread (whose closure must not wait for it in turn), and is [`UpdateError::Nested`] inside one on
/// its own thread. A `clear` inside or beside an update wins.
pub struct Session<T>(Arc<Handle<T>>);

impl<T> Clone for Session<T> {
    fn clone(&self) -> Self {
        Session(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

struct Handle<T> {
    shared: Arc<Shared<T>>,
    /// Set when the session is first handed out, before anybody has a `Session`.
    noted: OnceLock<Noted>,
    passive: OnceLock<bool>,
    state: Mutex<State<T>>,
    /// Signals that a running update has ended, or that waiting for it has become pointless.
    turn: Condvar,
}

/// What the request looked like when the session was handed out.
struct Noted {
    cookies: Cookies,
    at: u64,
    /// The head had passed: nobody can be told any more that the response is for one visitor.
    too_late: bool,
}

struct State<T> {
    /// The head has passed, or the response is gone.
    committed: bool,
    /// How many times the session was cleared.
    epoch: u64,
    /// How many times a value was stored or thrown away: a value taken out under another number is
    /// not put back.
    version: u64,
    updating: Option<Me>,
    /// How many updates wait for that one: nobody is woken, by a system call, where nobody waits.
    waiting: usize,
    /// The value, unless a closure has it.
    value: Option<T>,
    /// `None` before the first use, and again after `clear`.
    stored: Option<Stored>,
    /// What the first use found; `clear` leaves it.
    arrived: Option<Arrived>,
}

#[derive(Clone)]
struct Arrived {
    incoming: Incoming,
    evidence: Evidence,
    /// The ring that the request opened with seals too.
    keys: Arc<LayerKeys>,
}

/// The session as it was last stored. Of the value there are up to three encodings: `own` and `out`
/// as last stored (see [`Encoded`]), and `base`, what came in, in the form that is written.
struct Stored {
    origin: Option<Origin>,
    old_form: bool,
    own: Option<Payload>,
    out: Option<Payload>,
    /// `None` while the last stored encoding is the base itself.
    base: Option<Payload>,
    /// The base does not encode: every write is a change.
    baseless: bool,
    changed: bool,
    resend: Option<(Form, Payload)>,
    /// The id of a new session, if somebody has asked for it.
    new: Option<SessionId>,
    renewed: Option<(SessionId, u64)>,
    lifetime: Lifetime,
}

impl Stored {
    fn written(&self) -> Option<&Payload> {
        self.out.as_ref().or(self.own.as_ref())
    }

    fn is_changed(&self) -> bool {
        self.changed || self.is_renewed()
    }

    /// A session that came in was renewed or got another lifetime.
    fn is_renewed(&self) -> bool {
        let came_in = |origin: &Origin| self.renewed.is_some() || self.lifetime != origin.meta.lifetime;
        self.origin.as_ref().is_some_and(came_in)
    }
}

impl<T> State<T> {
    fn new() -> Self {
        State {
            committed: false,
            epoch: 0,
            version: 0,
            updating: None,
            waiting: 0,
            value: None,
            stored: None,
            arrived: None,
        }
    }
}

impl<T> Session<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Session(Arc::new(Handle {
            shared,
            noted: OnceLock::new(),
            passive: OnceLock::new(),
            state: Mutex::new(State::new()),
            turn: Condvar::new(),
        }))
    }

    /// The name of the cookie that this session is kept in.
    pub(crate) fn cookie_name(&self) -> &str {
        self.0.shared.codec.session.name()
    }

    pub(crate) fn belongs_to(&self, shared: &Arc<Shared<T>>) -> bool {
        Arc::ptr_eq(&self.0.shared, shared)
    }

    /// Notes the request's cookies when the session is first handed out.
    fn hand_out(&self, parts: &Parts) {
        if self.0.noted.get().is_none() {
            let Shared { hooks, .. } = &*self.0.shared;
            let cookies = Cookies::of(&parts.headers);
            // Not `get_or_init`: the clock and the predicate are the user's, and run under no lock.
            let _ = self.0.noted.set(Noted { cookies, at: hooks.now(), too_late: false });
            // After the cookies, so that the predicate may look at the session.
            if let Some(passive_if) = &hooks.passive_if {
                let _ = self.0.passive.set(passive_if(parts));
            }
        }
        if self.0.noted.get().is_some_and(|noted| noted.too_late) {
            event!(
                ERROR,
                "session_too_late",
                "a session was first asked for when the response's headers had left: it is empty"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that can panic runs under the lock, so a poisoned one is as good as any.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the session: the response asks the browser to forget the cookie, whatever its
    /// status, and sends the sign-out marker, so that a slow response that is still under way does
    /// not bring the session back. Reads see `T::default()` from now on, and updates that have begun
    /// answer [`UpdateError::Cleared`]; one that begins later starts a new session.
    ///
    /// Returns `false`, and logs an error, only after the head: then it is too late.
    pub fn clear(&self) -> bool {
        let mut state = self.state();
        if state.committed {
            drop(state);
            event!(
                ERROR,
                "session_clear_too_late",
                "a session was cleared after the response's headers had left"
            );
            return false;
        }
        state.epoch += 1;
        state.version += 1;
        let gone = (state.value.take(), state.stored.take());
        self.wake(state);
        // The value's `Drop` is the user's.
        drop(gone);
        true
    }

    /// From now on nothing can be written: the response is about to leave.
    fn close(&self) {
        let mut state = self.state();
        state.committed = true;
        self.wake(state);
    }

    /// The same where the response, unless its head has passed, never comes.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        let waits = !std::mem::replace(&mut state.committed, true);
        let cleared = waits && state.epoch > 0;
        let changed = waits && state.stored.as_ref().is_some_and(Stored::is_changed);
        self.wake(state);
        if cleared {
            event!(WARN, "session_clear_dropped", "a session was cleared, and its response never came");
        }
        if changed && !cleared {
            event!(DEBUG, "session_write_dropped", "a session was changed, and its response never came");
        }
    }

    /// Lets go of the state, and lets the updates that wait see what has become of it.
    fn wake(&self, state: MutexGuard<'_, State<T>>) {
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.0.turn.notify_all();
        }
    }
}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Session<T> {
    /// The session of a request, for use without axum's extractors.
    ///
    /// One that is first asked for when the response's headers have left (in a streamed body) is empty: caches
    /// were not told that the response is for one visitor.
    ///
    /// # Errors
    ///
    /// [`MissingLayer`] if no [`SessionLayer<T>`](crate::SessionLayer) is around the service.
    pub fn from_parts(parts: &Parts) -> Result<Self, MissingLayer> {
        let missing = MissingLayer { type_name: std::any::type_name::<T>() };
        let session =
            parts.extensions.get::<Entry<T>>().map(|Entry(session)| session.clone()).ok_or(missing)?;
        session.hand_out(parts);
        Ok(session)
    }

    /// A session without a layer, for unit tests of handlers. It behaves as one that came in with
    /// this value, has the default settings, and is sent nowhere.
    pub fn detached(value: T) -> Self {
        let codec = config::detached_codec(KeyRing::single(Key::placeholder()));
        let session = Session::new(Arc::new(Shared { codec, hooks: Hooks::default() }));
        let Shared { codec, hooks } = &*session.0.shared;
        let at = hooks.now();
        let _ = session.0.noted.set(Noted { cookies: Cookies::default(), at, too_late: false });
        let keys = codec.keys.keys();
        let id = SessionId::from_bytes(random().unwrap_or_default());
        let times = Times { created: at, renewed: at, issued: at };
        let meta = Meta { form: codec.schemas.own, id, times, lifetime: Lifetime::Timeouts };
        let origin =
            Origin { meta, suite: codec.writes, key_id: keys.primary_id(), moves: false, elsewhere: None };
        let own = codec.encode(&value, false, 0).ok().map(|encoded| encoded.own);
        let incoming = Incoming::Accepted;
        let loaded =
            Loaded { value, incoming, origin: Some(origin), fallback: None, own, out: None, resend: None };
        let mut state = session.state();
        state.arrived = Some(Arrived { incoming, evidence: Evidence::default(), keys });
        let nothing = session.adopt(&mut state, loaded);
        drop(state);
        drop(nothing);
        session
    }

    /// Calls `f` with the session's value as it was last stored, and returns what it returns.
    ///
    /// It never fails: without a good cookie, and after `clear`, the value is `T::default()`. Fields
    /// with `serde(skip)` are not stored: they are at their default in the next request, after an
    /// error, and whenever a `read` or `update` overlaps another closure. (What the closure changes
    /// through a `Cell` is no update: it may be lost, or go along with the next one.)
    pub fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let (value, version) = self.take_value();
        let result = f(&value);
        self.put_back(value, version);
        result
    }

    /// A clone of the session's value.
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.read(T::clone)
    }

    /// Changes the session by a closure, and returns what that returns.
    ///
    /// The change is stored at once and sent with the response's headers, unless its status is 5xx.
    /// Whether the session has changed is decided by its encoding: writing what was there is no
    /// change. (A `HashMap` encodes differently each time; use a `BTreeMap`.)
    ///
    /// # Errors
    ///
    /// Whenever an error is returned, the session is as it was before: [`UpdateError::TooLarge`],
    /// [`UpdateError::NotEncodable`], [`UpdateError::Nested`], [`UpdateError::Cleared`],
    /// [`UpdateError::Committed`]. If the closure panics, likewise. (But see [`read`](Self::read) about fields with
    /// `serde(skip)`.)
    pub fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> Result<R, UpdateError> {
        let result: Result<Result<R, std::convert::Infallible>, _> = self.try_update(|value| Ok(f(value)));
        result.map(|Ok(result)| result)
    }

    /// Changes the session by a closure that can fail: on `Err` nothing has changed.
    ///
    /// ```
    /// # use cookie_session::Session;
    /// # fn handler(session: Session<u32>) -> Result<(), Box<dyn std::error::Error>> {
    /// session.try_update(|count| count.checked_sub(1).map(|less| *count = less).ok_or("nothing left"))??;
    /// # Ok(()) }
    /// # assert!(handler(Session::detached(0)).is_err());
    /// # assert!(handler(Session::detached(1)).is_ok());
    /// ```
    ///
    /// A closure that itself uses `?` ends in `Ok::<_, E>(…)`.
    ///
    /// # Errors
    ///
    /// The outer error is as for [`update`](Self::update), the inner one is the closure's.
    pub fn try_update<R, E>(
        &self,
        f: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<Result<R, E>, UpdateError> {
        let mut turn = self.begin()?;
        let mut value = match turn.value.take() {
            Some(value) => value,
            None => {
                let copy = turn.copy.take().and_then(|copy| self.0.shared.codec.decode_own(&copy));
                copy.ok_or(UpdateError::NotEncodable(NotEncodable::RoundTrip))?
            }
        };
        match f(&mut value) {
            Ok(result) => turn.store(value).map(|()| Ok(result)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Puts another value in the session's place. It keeps its id and its times: to replace the
    /// whole session, `clear` first.
    ///
    /// # Errors
    ///
    /// As for [`update`](Self::update).
    pub fn set(&self, value: T) -> Result<(), UpdateError> {
        self.update(|old| *old = value)
    }

    /// Gives the session another lifetime, such as [`Lifetime::Own`] for "remember me". On a session
    /// that nobody has written it waits for the first write.
    ///
    /// # Errors
    ///
    /// [`UpdateError::LifetimeTooLong`] over the configured maximum,
    /// [`UpdateError::LifetimeTooShort`] under a second or if it would be over already, as the
    /// timeouts are for a session renewed longer ago than the absolute one (`renew` first),
    /// [`UpdateError::TooLarge`] if the session has outgrown its budget since it was written,
    /// [`UpdateError::Nested`] inside an update, [`UpdateError::Committed`] after the head.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), UpdateError> {
        let rules = self.0.shared.codec.rules;
        let (lifetime, asked) = match lifetime {
            Lifetime::Own(asked) => (Lifetime::Own(Duration::from_secs(asked.as_secs())), asked),
            other => (other, Duration::from_millis(rules.absolute)),
        };
        if matches!(lifetime, Lifetime::Own(_)) && lifetime::millis(asked) > rules.max_own {
            let max = Duration::from_millis(rules.max_own);
            return Err(UpdateError::LifetimeTooLong { asked, max });
        }
        let now = self.now();
        let mut state = self.settled()?;
        let Some(stored) = &mut state.stored else { return Err(UpdateError::Committed) };
        // Zero stands for no lifetime of its own in the seal.
        let zero = lifetime == Lifetime::Own(Duration::ZERO);
        if zero || now >= rules.absolute_deadline(self.times(stored), lifetime) {
            return Err(UpdateError::LifetimeTooShort { asked });
        }
        if stored.lifetime != lifetime {
            self.check_kept(stored)?;
            stored.lifetime = lifetime;
        }
        Ok(())
    }

    /// Gives the session a new id and restarts its absolute timeout or own lifetime, after the user
    /// has proved who they are: at sign-in, and when a privilege rises. Data, lifetime and
    /// `created_at` stay. (Where a privilege falls, `clear`, then `update`.)
    ///
    /// Returns the old id, for a denylist; `None` if the session is new. Note that a 5xx response
    /// does not send the renewed cookie: whoever has denied the old id has signed the user out.
    ///
    /// # Errors
    ///
    /// [`UpdateError::Random`], [`UpdateError::TooLarge`] if the session has outgrown its budget
    /// since it was written, [`UpdateError::Nested`] inside an update, [`UpdateError::Committed`]
    /// after the head.
    pub fn renew(&self) -> Result<Option<SessionId>, UpdateError> {
        let id = SessionId::from_bytes(random().ok_or(UpdateError::Random)?);
        let now = self.now();
        let mut state = self.settled()?;
        let Some(stored) = &mut state.stored else { return Err(UpdateError::Committed) };
        let Some(origin) = &stored.origin else { return Ok(None) };
        self.check_kept(stored)?;
        let old = stored.renewed.map_or(origin.meta.id, |(id, _)| id);
        stored.renewed = Some((id, now));
        Ok(Some(old))
    }

    /// What is known of the session beside its data: as it came in, with what was changed since.
    /// `None` for a session that nobody has written, or if the operating system has no randomness for a new one's id.
    pub fn meta(&self) -> Option<SessionMeta> {
        let codec = &self.0.shared.codec;
        let mut state = self.opened();
        let lacks_id = |stored: &Stored| stored.origin.is_none() && stored.changed && stored.new.is_none();
        if state.stored.as_ref().is_some_and(lacks_id) {
            drop(state);
            let drawn = SessionId::from_bytes(random()?);
            state = self.opened();
            if let Some(stored) = state.stored.as_mut().filter(|stored| lacks_id(stored)) {
                stored.new = Some(drawn);
            }
        }
        let (stored, arrived) = (state.stored.as_ref()?, state.arrived.as_ref()?);
        match &stored.origin {
            Some(origin) => {
                let mut meta = origin.meta.clone();
                meta.lifetime = stored.lifetime;
                if let Some((id, renewed)) = stored.renewed {
                    meta.id = id;
                    meta.times.renewed = renewed;
                }
                Some(codec.describe(&meta, origin.suite, origin.key_id))
            }
            None => {
                let id = stored.new.filter(|_| stored.changed)?;
                let meta = Meta {
                    form: codec.form(stored.old_form),
                    id,
                    times: self.times(stored),
                    lifetime: stored.lifetime,
                };
                Some(codec.describe(&meta, codec.writes, arrived.keys.primary_id()))
            }
        }
    }

    /// Whether no session came in, or it was not accepted, or was cleared.
    pub fn is_new(&self) -> bool {
        self.opened().stored.as_ref().is_none_or(|stored| stored.origin.is_none())
    }

    /// Whether the session would be sent as it is now: its data changed, or it was renewed or got
    /// another lifetime.
    pub fn is_changed(&self) -> bool {
        self.opened().stored.as_ref().is_some_and(Stored::is_changed)
    }

    /// What became of the cookie that came in: for logs and metrics.
    pub fn incoming(&self) -> Incoming {
        self.opened().arrived.as_ref().map_or(Incoming::Absent, |arrived| arrived.incoming)
    }

    /// How many bytes of encoded data still fit into the cookie.
    pub fn remaining(&self) -> usize {
        let len = self.opened().stored.as_ref().and_then(Stored::written).map_or(0, Payload::len);
        self.0.shared.codec.max_payload.saturating_sub(len)
    }

    /// The state, in which there is a session: opens it if nobody has used it yet. All of the user's code in that
    /// (`Deserialize`, migration, `accept_if`, `default`) runs under no lock, so two first uses at one moment may
    /// both open; the one that is done first counts for both.
    fn opened(&self) -> MutexGuard<'_, State<T>> {
        self.open(self.state())
    }

    fn open<'s>(&'s self, mut state: MutexGuard<'s, State<T>>) -> MutexGuard<'s, State<T>> {
        let codec = &self.0.shared.codec;
        while state.stored.is_none() {
            let (epoch, opened) = (state.epoch, state.arrived.is_some());
            drop(state);
            let (arrival, loaded) = match self.0.noted.get() {
                Some(noted) if !opened => {
                    let mut arrival = codec.arrive(&noted.cookies, noted.at);
                    let loaded = codec.load(&mut arrival, &noted.cookies, noted.at);
                    (Some(arrival), loaded)
                }
                _ => (None, codec.fresh(Incoming::Absent)),
            };
            let incoming = loaded.incoming;
            state = self.state();
            let mut first = None;
            if let Some(arrival) = arrival.filter(|_| state.arrived.is_none()) {
                let Arrival { keys, found } = arrival;
                state.arrived = Some(Arrived { incoming, evidence: found.evidence, keys });
                first = Some((loaded.fallback.clone(), found.unknown_keys));
            }
            let cleared_before = loaded.origin.is_some() && epoch > 0;
            let value = if state.stored.is_none() && state.epoch == epoch && !cleared_before {
                self.adopt(&mut state, loaded)
            } else {
                // Somebody else was first, or the session has been cleared.
                Some(loaded.value)
            };
            let silent = matches!(first, None | Some((None, 0)))
                && matches!(incoming, Incoming::Absent | Incoming::Accepted);
            if value.is_some() || !silent {
                drop(state);
                drop(value);
                if let Some((fallback, unknown_keys)) = first {
                    self.count(incoming, fallback.as_deref(), unknown_keys);
                }
                state = self.state();
            }
        }
        state
    }

    /// Puts a session in place that is ready for use; returns a value that is in the way.
    fn adopt(&self, state: &mut State<T>, loaded: Loaded<T>) -> Option<T> {
        let Loaded { value, origin, own, out, resend, .. } = loaded;
        let came_in = origin.as_ref().map(|origin| origin.meta.form.schema);
        state.stored = Some(Stored {
            old_form: self.0.shared.codec.writes_old_form(came_in),
            lifetime: origin.as_ref().map_or(Lifetime::Timeouts, |origin| origin.meta.lifetime),
            baseless: own.is_none(),
            origin,
            own,
            out,
            base: None,
            changed: false,
            resend,
            new: None,
            renewed: None,
        });
        state.value.replace(value)
    }

    /// Once for each request.
    fn count(&self, incoming: Incoming, fallback: Option<&AtomicU64>, unknown_keys: u64) {
        let counts = self.0.shared.codec.ring.counts();
        if let Some(fallback) = fallback {
            fallback.fetch_add(1, Relaxed);
        }
        if unknown_keys > 0 {
            counts.unknown_keys.fetch_add(unknown_keys, Relaxed);
        }
        match incoming {
            Incoming::Rejected(kind) => {
                counts.rejected(kind).fetch_add(1, Relaxed);
                event!(DEBUG, "session_rejected", "a session cookie was not accepted", kind = kind);
            }
            Incoming::Imported => {
                counts.imported.fetch_add(1, Relaxed);
                event!(DEBUG, "session_imported", "a session was imported from an older format");
            }
            Incoming::Absent | Incoming::Accepted => {}
        }
    }

    /// The value for a closure that reads, and the number under which it may be put back.
    fn take_value(&self) -> (T, u64) {
        let mut state = self.opened();
        let version = state.version;
        if let Some(value) = state.value.take() {
            return (value, version);
        }
        // A closure has it, or an update was rolled back.
        let copy = state.stored.as_ref().and_then(|stored| Some(stored.own.as_ref()?.bytes().to_vec()));
        drop(state);
        match copy.and_then(|copy| self.0.shared.codec.decode_own(&copy)) {
            Some(value) => (value, version),
            // A default that does not encode. A number that no state has: what was made up here is
            // not put in the session's place.
            None => (T::default(), u64::MAX),
        }
    }

    fn put_back(&self, value: T, version: u64) {
        let mut state = self.state();
        if state.version == version && state.value.is_none() && state.updating.is_none() {
            state.value = Some(value);
        } else {
            drop(state);
            drop(value);
        }
    }

    /// Waits for the turn to update.
    fn begin(&self) -> Result<Turn<'_, T>, UpdateError> {
        let me = Me::get();
        let mut state = self.state();
        let epoch = state.epoch;
        Self::may_write(&state, epoch, me)?;
        loop {
            state = self.open(state);
            Self::may_write(&state, epoch, me)?;
            while state.updating.is_some() {
                state.waiting += 1;
                state = self.0.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
                Self::may_write(&state, epoch, me)?;
            }
            let value = state.value.take();
            let Some(stored) = &state.stored else { continue };
            let copy = match (&value, &stored.own) {
                (None, Some(own)) => Some(own.bytes().to_vec()),
                _ => None,
            };
            let old_form = stored.old_form;
            // What is filled for the first time grows by more.
            let hint = (stored.own.as_ref().map_or(0, Payload::len) + 64).max(480);
            state.updating = Some(me);
            return Ok(Turn { session: self, epoch, old_form, value, copy, hint, ended: false });
        }
    }

    fn may_write(state: &State<T>, epoch: u64, me: Me) -> Result<(), UpdateError> {
        if state.committed {
            Err(UpdateError::Committed)
        } else if state.updating == Some(me) {
            Err(UpdateError::Nested)
        } else if state.epoch != epoch {
            Err(UpdateError::Cleared)
        } else {
            Ok(())
        }
    }

    /// The state, loaded, for a change that runs no closure.
    fn settled(&self) -> Result<MutexGuard<'_, State<T>>, UpdateError> {
        let state = self.opened();
        Self::may_write(&state, state.epoch, Me::get())?;
        Ok(state)
    }

    /// What a renewal or a new lifetime would send must fit too.
    fn check_kept(&self, stored: &Stored) -> Result<(), UpdateError> {
        let codec = &self.0.shared.codec;
        let len = stored.written().map_or(0, Payload::len);
        if stored.origin.is_some() && len > codec.max_payload {
            return Err(UpdateError::TooLarge(codec.too_large(len)));
        }
        Ok(())
    }

    /// The session's times as a write would keep or set them, but for `issued`.
    fn times(&self, stored: &Stored) -> Times {
        match (&stored.origin, stored.renewed) {
            (Some(origin), Some((_, renewed))) => Times { renewed, ..origin.meta.times },
            (Some(origin), None) => origin.meta.times,
            (None, _) => {
                let now = self.handed_out();
                let created = SessionCodec::<T>::created_after(None, now);
                Times { created, renewed: now, issued: now }
            }
        }
    }

    fn handed_out(&self) -> u64 {
        self.0.noted.get().map_or(0, |noted| noted.at)
    }

    /// The clock, which never runs backwards within a request.
    fn now(&self) -> u64 {
        self.0.shared.hooks.now().max(self.handed_out())
    }
}

/// A thread, by the address of something that only it has: no two that live have one. (`thread::current` counts a
/// reference up and down.)
#[derive(Clone, Copy, PartialEq, Eq)]
struct Me(usize);

impl Me {
    fn get() -> Me {
        // A cell, so that nobody takes it for one constant of all threads.
        thread_local!(static HERE: Cell<u8> = const { Cell::new(0) });
        HERE.with(|here| Me(std::ptr::from_ref(here).addr()))
    }
}

/// An update's turn: nobody else updates until it has stored or is dropped. Dropped without `store`, by an error
/// or a panic, it leaves the stored state as it was.
struct Turn<'s, T> {
    session: &'s Session<T>,
    epoch: u64,
    old_form: bool,
    value: Option<T>,
    /// The stored encoding, where the value is not there.
    copy: Option<Vec<u8>>,
    /// How long the changed value's encoding will be, more or less.
    hint: usize,
    ended: bool,
}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Turn<'_, T> {
    /// Encodes and stores the changed value.
    fn store(mut self, value: T) -> Result<(), UpdateError> {
        let codec = &self.session.0.shared.codec;
        let encoded = codec.encode(&value, self.old_form, self.hint).map_err(UpdateError::NotEncodable)?;
        let written = encoded.out.as_ref().unwrap_or(&encoded.own);
        let mut checked = codec.is_plain(&encoded);
        loop {
            let mut state = self.session.state();
            if state.committed {
                return Err(UpdateError::Committed);
            }
            let uncleared = state.epoch == self.epoch;
            let Some(stored) = state.stored.as_mut().filter(|_| uncleared) else {
                return Err(UpdateError::Cleared);
            };
            let base = stored.base.as_ref().or(stored.written()).map(Payload::bytes);
            let changed = stored.baseless || base != Some(written.bytes());
            if (changed || stored.is_renewed()) && written.len() > codec.max_payload {
                return Err(UpdateError::TooLarge(codec.too_large(written.len())));
            }
            // What is stored has come in, or was checked.
            let known = !changed && stored.own.as_ref().is_some_and(|own| own.bytes() == encoded.own.bytes());
            if !known && !checked {
                drop(state);
                // In release builds too: what does not come back would be lost, or misread, at the next request.
                if !codec.comes_back(&encoded) {
                    return Err(UpdateError::NotEncodable(NotEncodable::RoundTrip));
                }
                checked = true;
                continue;
            }
            if changed && stored.base.is_none() {
                stored.base = stored.out.take().or(stored.own.take());
            }
            (stored.changed, stored.own, stored.out) = (changed, Some(encoded.own), encoded.out);
            state.version += 1;
            let old = state.value.replace(value);
            (state.updating, self.ended) = (None, true);
            self.session.wake(state);
            drop(old);
            return Ok(());
        }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if !self.ended {
            let mut state = self.session.state();
            state.updating = None;
            self.session.wake(state);
        }
    }
}

/// The layer's private entry in a request's extensions; the only way to a `Session`.
pub(crate) struct Entry<T>(pub(crate) Session<T>);

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Entry(self.0.clone())
    }
}

/// What a response does about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nobody asked for the session.
    Unused,
    /// It was used, and no cookie goes out.
    Read,
    /// A re-issue: the same session in a new cookie.
    Reissue,
    /// A write or a removal.
    Write,
}

/// Cookies for a response, each with the template that it was rendered from. The session's own goes first: it must get
/// in, should the response have room for few.
pub(crate) struct Commit<'c> {
    pub(crate) effect: Effect,
    pub(crate) own: Option<(SetCookie, &'c Template)>,
    pub(crate) others: Vec<(SetCookie, &'c Template)>,
}

impl<'c> Commit<'c> {
    pub(crate) fn cookies(&self) -> impl Iterator<Item = &(SetCookie, &'c Template)> {
        self.own.iter().chain(&self.others)
    }
}

impl<T> Session<T> {
    /// The head of a response whose handler did not ask for the session: whoever asks from now on gets an empty
    /// one. `false` if somebody has asked.
    pub(crate) fn retire(&self) -> bool {
        if self.0.noted.get().is_some() {
            return false;
        }
        // Closed first: whoever gets the empty one must not be told that a write was stored.
        self.close();
        // Another thread may have been given the session in between.
        self.0.noted.set(Noted { cookies: Cookies::default(), at: 0, too_late: true }).is_ok()
    }

    /// The head: decides what the response does about the session. Runs nothing of the user's but
    /// the clock, and waits for nothing. `shared`: the handler asked for shared caching.
    pub(crate) fn commit(&self, server_error: bool, shared: bool) -> Commit<'_> {
        let mut commit = Commit { effect: Effect::Unused, own: None, others: Vec::new() };
        let Some(noted) = self.0.noted.get() else {
            self.close();
            return commit;
        };
        commit.effect = Effect::Read;
        let codec = &self.0.shared.codec;
        // Later than that nothing is re-issued: most reads need not look at the clock again.
        let latest = noted.at.saturating_add(LATE);
        let is_due =
            |stored: &Stored| stored.origin.as_ref().is_some_and(|origin| self.is_due(origin, latest));
        let mut now = None;
        let mut state = self.state();
        let (cleared, goes_out) = loop {
            let cleared = state.epoch > 0;
            let may_reissue = !(cleared || shared || server_error);
            let due = |stored: &Stored| stored.is_changed() || may_reissue && is_due(stored);
            let goes_out = state.stored.as_ref().is_some_and(due);
            if now.is_some() || !cleared && !goes_out {
                break (cleared, goes_out);
            }
            drop(state);
            // The user's, so under no lock, and before anything is decided: it may panic.
            now = Some(self.0.shared.hooks.now().max(noted.at));
            state = self.state();
        };
        state.committed = true;
        // The buffers can be had if no other handle is left that might read.
        let alone = Arc::strong_count(&self.0) == 1;
        let stored = state.stored.as_mut().filter(|_| goes_out);
        let outgoing = stored.and_then(|stored| Outgoing::of(stored, alone, codec.max_payload));
        let Some(now) = now.filter(|_| outgoing.is_some() || cleared) else {
            self.wake(state);
            return commit;
        };
        let found = if alone { state.arrived.take() } else { state.arrived.clone() };
        self.wake(state);

        let (keys, mut evidence) = match found {
            Some(Arrived { keys, evidence, .. }) => (keys, evidence),
            // Cleared, and never used: nothing was opened, and the sign-out needs to know what came in.
            None => {
                let arrival = codec.arrive(&noted.cookies, noted.at);
                (arrival.keys, arrival.found.evidence)
            }
        };
        if cleared {
            codec.note_old_cookies(&mut evidence, &noted.cookies);
        }
        let departure = cleared.then(|| codec.depart(&keys, &evidence, now));
        let sent_marker = departure.as_ref().and_then(|departure| departure.marker);

        if server_error && outgoing.is_some() {
            event!(DEBUG, "session_write_dropped", "a 5xx response does not send the session's change");
        }
        let mut elsewhere = None;
        let session = outgoing.filter(|_| !server_error).and_then(|outgoing| {
            elsewhere = outgoing.origin.as_ref().and_then(|origin| origin.elsewhere);
            let writes = outgoing.writes;
            if !writes && !self.reissues(&outgoing, noted, now) {
                return None;
            }
            let cookie = self.seal(outgoing, &keys, noted, &evidence, sent_marker, now)?;
            commit.effect = if writes { Effect::Write } else { Effect::Reissue };
            Some(cookie)
        });
        let goes_out = session.is_some();
        let own = match session {
            None if cleared && evidence.ours > 0 => Some(codec.session.removal()),
            session => session,
        };
        commit.own = own.map(|cookie| (cookie, &codec.session));
        if let Some(departure) = departure {
            if departure.no_randomness {
                self.no_randomness();
            }
            commit.others = departure.cookies;
        } else if goes_out {
            commit.others = codec.left_behind(&evidence, elsewhere, commit.effect == Effect::Write);
        }
        if commit.cookies().next().is_some() && commit.effect == Effect::Read {
            commit.effect = Effect::Write;
        }
        commit
    }

    fn is_due(&self, Origin { meta, moves, elsewhere, .. }: &Origin, now: u64) -> bool {
        // What was imported has no cookie of ours yet.
        (*elsewhere == Some(Elsewhere::OldFormat)
            || self.0.shared.codec.rules.reissue_due(meta.times, meta.lifetime, *moves, now))
            && !self.0.passive.get().is_some_and(|passive| *passive)
    }

    /// Whether an unchanged session gets a new cookie.
    fn reissues(&self, outgoing: &Outgoing, noted: &Noted, now: u64) -> bool {
        let codec = &self.0.shared.codec;
        let Some(origin) = &outgoing.origin else { return false };
        let Meta { times, lifetime, .. } = origin.meta;
        if !self.is_due(origin, now)
            || now - noted.at > LATE
            || now >= codec.rules.absolute_deadline(times, lifetime)
        {
            return false;
        }
        let len = outgoing.payload.len();
        if len > codec.max_payload {
            codec.ring.counts().reissues_too_large.fetch_add(1, Relaxed);
            let needed = codec.too_large(len).needed;
            event!(
                WARN,
                "session_reissue_too_large",
                "a session no longer fits, so its cookie is not re-issued",
                needed = needed
            );
            return false;
        }
        true
    }

    fn seal(
        &self,
        outgoing: Outgoing,
        keys: &LayerKeys,
        noted: &Noted,
        evidence: &Evidence,
        sent_marker: Option<u64>,
        now: u64,
    ) -> Option<SetCookie> {
        let codec = &self.0.shared.codec;
        let Outgoing { writes: _, alone, resent, old_form, payload, origin, new, renewed, lifetime } =
            outgoing;
        let (id, times) = match &origin {
            Some(Origin { meta: Meta { id, times, .. }, .. }) => {
                let (id, renewed) = renewed.unwrap_or((*id, times.renewed));
                let issued = now.max(codec.issued_after(*times)).max(renewed);
                (Some(id), Times { renewed, issued, created: times.created })
            }
            None => {
                let came_in = codec.marker_time(keys, evidence, &noted.cookies);
                let created = SessionCodec::<T>::created_after(sent_marker.max(came_in), noted.at);
                (new, Times { created, renewed: noted.at, issued: now })
            }
        };
        if now >= codec.rules.absolute_deadline(times, lifetime) {
            codec.ring.counts().writes_too_late.fetch_add(1, Relaxed);
            event!(
                WARN,
                "session_write_too_late",
                "a session had ended when the response's headers left: not written"
            );
            return None;
        }
        let cookie = draw(codec.writes, id).and_then(|(drawn, half)| {
            // Who asks a handle that is left gets the id that went out; and who has asked meanwhile was told another.
            let id = if id.is_none() && !alone { self.keep_id(drawn) } else { drawn };
            let meta = Meta { form: resent.unwrap_or(codec.form(old_form)), id, times, lifetime };
            codec.seal_session(keys, &meta, &half, payload, now)
        });
        if cookie.is_none() {
            self.no_randomness();
        }
        cookie
    }

    fn keep_id(&self, drawn: SessionId) -> SessionId {
        let mut state = self.state();
        state.stored.as_mut().map_or(drawn, |stored| *stored.new.get_or_insert(drawn))
    }

    fn no_randomness(&self) {
        self.0.shared.codec.ring.counts().no_randomness.fetch_add(1, Relaxed);
        event!(
            ERROR,
            "session_no_randomness",
            "the operating system gave no randomness: a sealed cookie was left out"
        );
    }
}

/// What would go out for a session.
struct Outgoing {
    /// It is a write; otherwise the session is unchanged, for a re-issue.
    writes: bool,
    /// Nobody will read any more.
    alone: bool,
    /// The form of a payload that goes out as it came in.
    resent: Option<Form>,
    old_form: bool,
    payload: Payload,
    origin: Option<Origin>,
    new: Option<SessionId>,
    renewed: Option<(SessionId, u64)>,
    lifetime: Lifetime,
}

impl Outgoing {
    /// `None` for a session that nobody has written. `alone`: nobody will read any more.
    fn of(stored: &mut Stored, alone: bool, max_payload: usize) -> Option<Outgoing> {
        fn have(payload: &mut Option<Payload>, alone: bool) -> Option<Payload> {
            if alone { payload.take() } else { payload.clone() }
        }
        let writes = stored.is_changed();
        if !writes && stored.origin.is_none() {
            return None;
        }
        // A write sends what was checked when it was stored; what came in may be larger.
        let changed = stored.changed;
        let resends =
            |(_, payload): &mut (Form, Payload)| !(changed || writes && payload.len() > max_payload);
        let (resent, payload) = match stored.resend.take_if(resends) {
            Some((form, payload)) => (Some(form), payload),
            None => (None, have(&mut stored.out, alone).or_else(|| have(&mut stored.own, alone))?),
        };
        Some(Outgoing {
            writes,
            alone,
            resent,
            old_form: stored.old_form,
            payload,
            origin: if alone { stored.origin.take() } else { stored.origin.clone() },
            new: stored.new,
            renewed: stored.renewed,
            lifetime: stored.lifetime,
        })
    }
}
