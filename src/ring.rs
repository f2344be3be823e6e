//! The ring handle: one key ring for all layers, replaced in a running process, and the counters.

use crate::{
    error::RejectedKind,
    frame::Suite,
    key::{Key, KeyId, KeyRing, Purpose, clearing_the_stack},
    seal::SealKey,
};
use arc_swap::ArcSwap;
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// A key ring that can be replaced while the server runs, and what was counted.
///
/// Clones share one ring: give clones to several layers, keep one for rotation and metrics.
///
/// ```
/// # use cookie_session::{Key, KeyRing, KeyRingHandle};
/// let (old, new) = (Key::generate()?, Key::generate()?);
/// let keys = KeyRingHandle::new(KeyRing::new(old.clone(), [])?);
/// // layers are built with keys.clone(); then, without a restart:
/// keys.replace(KeyRing::new(old.clone(), [new.clone()])?); // step 1, everywhere
/// keys.replace(KeyRing::new(new, [old])?);                 // step 2, everywhere
/// # Ok::<(), cookie_session::KeyError>(())
/// ```
#[derive(Clone)]
pub struct KeyRingHandle(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    counts: Counts,
}

struct State {
    ring: KeyRing,
    opened: Vec<(KeyId, Arc<AtomicU64>)>,
    layers: Vec<Weak<LayerSlot>>,
}

impl KeyRingHandle {
    /// A handle on `ring`.
    pub fn new(ring: KeyRing) -> Self {
        let opened = fallback_counters(&ring, &[]);
        KeyRingHandle(Arc::new(Shared {
            state: Mutex::new(State { ring, opened, layers: Vec::new() }),
            counts: Counts::default(),
        }))
    }

    /// Puts another ring in place, in all layers that share this handle.
    ///
    /// Requests under way seal with the ring that they opened with; the old keys are zeroised when
    /// the last of them is done. To rotate, keep the old key as a fallback; a *leaked* key must not
    /// be on the new ring at all, nor any that was in use beside it.
    pub fn replace(&self, ring: KeyRing) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.opened = fallback_counters(&ring, &state.opened);
        state.ring = ring;
        let State { ring, opened, layers } = &mut *state;
        layers.retain(|layer| match layer.upgrade() {
            Some(layer) => {
                layer.keys.store(Arc::new(layer.binding.derive(ring, opened)));
                true
            }
            None => false,
        });
    }

    /// What was counted since this handle was made.
    pub fn counters(&self) -> Counters {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &self.0.counts;
        Counters {
            opened_by_fallback: state.opened.iter().map(|(id, count)| (*id, count.load(Relaxed))).collect(),
            unknown_keys: counts.unknown_keys.load(Relaxed),
            rejected: RejectedKind::ALL.map(|kind| (kind, counts.rejected(kind).load(Relaxed))).into(),
            reissues_too_large: counts.reissues_too_large.load(Relaxed),
            writes_too_late: counts.writes_too_late.load(Relaxed),
            imported: counts.imported.load(Relaxed),
            no_randomness: counts.no_randomness.load(Relaxed),
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Derives a layer's keys, now and whenever the ring is replaced.
    pub(crate) fn attach(&self, binding: Binding) -> Arc<LayerSlot> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = ArcSwap::from_pointee(binding.derive(&state.ring, &state.opened));
        let slot = Arc::new(LayerSlot { binding, keys });
        state.layers.retain(|layer| layer.strong_count() > 0);
        state.layers.push(Arc::downgrade(&slot));
        slot
    }
}

impl From<KeyRing> for KeyRingHandle {
    fn from(ring: KeyRing) -> Self {
        KeyRingHandle::new(ring)
    }
}

impl fmt::Debug for KeyRingHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_tuple("KeyRingHandle").field(&state.ring).finish()
    }
}

/// One counter for each fallback; a key that stays a fallback keeps its count.
fn fallback_counters(ring: &KeyRing, before: &[(KeyId, Arc<AtomicU64>)]) -> Vec<(KeyId, Arc<AtomicU64>)> {
    let counter = |key: &Key| {
        let kept = before.iter().find(|(id, _)| *id == key.id());
        (key.id(), kept.map(|(_, count)| Arc::clone(count)).unwrap_or_default())
    };
    ring.fallbacks().iter().map(counter).collect()
}

/// Counters of a [`KeyRingHandle`], as they stood when asked for.
///
/// They are this process's, and count from when the handle was made. The primary key's openings are not
/// counted: that would put a shared cache line on the hot path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Accepted sessions that each fallback key had sealed: who has not moved to the primary yet. A
    /// count that stands still is no proof that nobody needs the key; see the crate page.
    pub opened_by_fallback: Vec<(KeyId, u64)>,
    /// Cookies whose key id is not on the ring. A hint, no alarm: anybody can write four bytes.
    pub unknown_keys: u64,
    /// Requests whose session cookie was not accepted, by kind; where several came in, the kind of
    /// the one that got furthest.
    pub rejected: Vec<(RejectedKind, u64)>,
    /// Re-issues left out because the cookie would have exceeded `max_set_cookie`.
    pub reissues_too_large: u64,
    /// Writes left out because the session had ended by the time the headers left.
    pub writes_too_late: u64,
    /// Requests whose session was imported from an older format: who has not moved yet. Of one session there are
    /// several where requests come in at one moment, or where the old cookie stays.
    pub imported: u64,
    /// Sealed cookies left out because the operating system gave no randomness.
    pub no_randomness: u64,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) unknown_keys: AtomicU64,
    rejected: [AtomicU64; RejectedKind::ALL.len()],
    pub(crate) reissues_too_large: AtomicU64,
    pub(crate) writes_too_late: AtomicU64,
    pub(crate) imported: AtomicU64,
    pub(crate) no_randomness: AtomicU64,
}

impl Counts {
    pub(crate) fn rejected(&self, kind: RejectedKind) -> &AtomicU64 {
        static NOWHERE: AtomicU64 = AtomicU64::new(0);
        self.rejected.get(kind as usize).unwrap_or(&NOWHERE)
    }
}

/// What a layer's keys are bound to: in its own identity, and in each other one.
pub(crate) struct Binding {
    pub(crate) own: Bound,
    pub(crate) others: Vec<Bound>,
}

/// What the seals of one identity are bound to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) context: String,
    /// What seals.
    pub(crate) writes: Suite,
    /// What is opened.
    pub(crate) accepts: Vec<Suite>,
}

/// A layer's place at the ring.
pub(crate) struct LayerSlot {
    binding: Binding,
    keys: ArcSwap<LayerKeys>,
}

impl LayerSlot {
    /// The keys that are in force now.
    pub(crate) fn keys(&self) -> Arc<LayerKeys> {
        self.keys.load_full()
    }
}

/// All derived keys of one layer and one ring.
pub(crate) struct LayerKeys {
    primary: KeySet,
    /// Sorted by id.
    fallbacks: Vec<(KeySet, Arc<AtomicU64>)>,
    writes: Suite,
    /// What seals the primary's sign-out markers in other identities, in their order.
    markers: Vec<SealKey>,
}

/// What one key of the ring opens for one layer.
struct KeySet {
    id: KeyId,
    own: BoundKeys,
    others: Vec<BoundKeys>,
}

/// What it opens in one identity.
struct BoundKeys {
    session: Vec<SealKey>,
    sign_out: Vec<SealKey>,
}

/// A key that was found by its id.
pub(crate) struct Found<'k> {
    pub(crate) seal_key: &'k SealKey,
    /// Counts the openings of a fallback; the primary has none.
    pub(crate) fallback: Option<&'k Arc<AtomicU64>>,
}

impl Binding {
    /// The place of an identity among the others, anew if it has none; `None` where the layer's own keys do.
    pub(crate) fn place(&mut self, bound: &Bound) -> Option<usize> {
        let Bound { name, context, writes, accepts } = &self.own;
        let same = *name == bound.name && *context == bound.context && *writes == bound.writes;
        if same && bound.accepts.iter().all(|suite| accepts.contains(suite)) {
            return None;
        }
        let known = self.others.iter().position(|known| known == bound);
        Some(known.unwrap_or_else(|| {
            self.others.push(bound.clone());
            self.others.len() - 1
        }))
    }

    fn derive(&self, ring: &KeyRing, counters: &[(KeyId, Arc<AtomicU64>)]) -> LayerKeys {
        let derive = |key: &Key, suite: Suite, purpose, bound: &Bound| {
            clearing_the_stack(|| {
                SealKey::new(suite, &key.derive(suite.byte(), purpose, &bound.name, &bound.context))
            })
        };
        let keys = |key: &Key, bound: &Bound| {
            let all =
                |purpose| bound.accepts.iter().map(|&suite| derive(key, suite, purpose, bound)).collect();
            BoundKeys { session: all(Purpose::Session), sign_out: all(Purpose::SignOut) }
        };
        let set = |key: &Key| KeySet {
            id: key.id(),
            own: keys(key, &self.own),
            others: self.others.iter().map(|bound| keys(key, bound)).collect(),
        };
        let counted = |(key, (_, counter)): (&Key, &(KeyId, Arc<AtomicU64>))| (set(key), Arc::clone(counter));
        let mut fallbacks: Vec<_> = ring.fallbacks().iter().zip(counters).map(counted).collect();
        fallbacks.sort_by_key(|(set, _)| set.id);
        let marker = |bound: &Bound| derive(ring.primary(), bound.writes, Purpose::SignOut, bound);
        LayerKeys {
            primary: set(ring.primary()),
            fallbacks,
            writes: self.own.writes,
            markers: self.others.iter().map(marker).collect(),
        }
    }
}

impl KeySet {
    fn find(&self, identity: Option<usize>, suite: Suite, purpose: Purpose) -> Option<&SealKey> {
        let keys = match identity {
            None => &self.own,
            Some(other) => self.others.get(other)?,
        };
        let keys = match purpose {
            Purpose::Session => &keys.session,
            Purpose::SignOut => &keys.sign_out,
        };
        keys.iter().find(|key| key.suite() == suite)
    }
}

impl LayerKeys {
    /// The one key that this id names, if any, in the layer's own identity or another one of its binding; no key
    /// is ever tried in turn.
    pub(crate) fn find(
        &self,
        id: KeyId,
        identity: Option<usize>,
        suite: Suite,
        purpose: Purpose,
    ) -> Option<Found<'_>> {
        let (set, fallback) = if self.primary.id == id {
            (&self.primary, None)
        } else {
            let at = self.fallbacks.binary_search_by_key(&id, |(set, _)| set.id).ok()?;
            let (set, counter) = self.fallbacks.get(at)?;
            (set, Some(counter))
        };
        Some(Found { seal_key: set.find(identity, suite, purpose)?, fallback })
    }

    pub(crate) fn primary_id(&self) -> KeyId {
        self.primary.id
    }

    /// What seals a session now.
    pub(crate) fn session(&self) -> Option<&SealKey> {
        self.primary.find(None, self.writes, Purpose::Session)
    }

    /// What seals a sign-out marker, in the layer's own identity or in another one of its binding.
    pub(crate) fn marker(&self, identity: Option<usize>) -> Option<&SealKey> {
        match identity {
            None => self.primary.find(None, self.writes, Purpose::SignOut),
            Some(other) => self.markers.get(other),
        }
    }
}
