//! What the layer must do, said once more: by plain rules over plain values, without sealing, encoding or
//! locks. Each request has a twin here that is told what the handler did, and says what must come of it, to
//! the millisecond and the byte. Beside it stand the claims about sign-outs, which use none of those rules:
//! only what was sent, what arrived, and when.

use cookie_session::{Incoming, Lifetime, Mode, RejectedKind, SessionId};
use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

pub const SECOND: u64 = 1000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;

pub const IDLE: u64 = 20 * MINUTE;
pub const ABSOLUTE: u64 = HOUR;
pub const LONGEST_OWN: u64 = 2 * HOUR;
/// A cookie this old is re-issued: a tenth of the idle timeout, as nothing else is configured.
pub const DUE: u64 = IDLE / 10;
pub const TOLERATED: u64 = MINUTE;
/// A head that comes later than this after the handle was handed out re-issues nothing.
const LATE: u64 = 10 * SECOND;
/// The longest lifetime that any settings allow.
pub const MARKER_AGE: u64 = 400 * 24 * HOUR;
/// A browser waits so long for a response.
const PATIENCE: u64 = 50 * MINUTE;

pub const NAME: &str = "__Host-Http-session";
pub const ATTRIBUTES: &str = "; HttpOnly; SameSite=Lax; Secure; Path=/";

/// A session's data, as a handler sees them; `note` is what the new release adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// No two writes of a run have the same.
    pub stamp: u32,
    pub len: usize,
    pub note: u16,
}

impl Data {
    /// What is left of it in a cookie of this schema.
    fn in_form(self, schema: u16) -> Data {
        if schema == 1 { Data { note: 0, ..self } } else { self }
    }

    /// Bytes in postcard: the stamp, the text behind its length, the note.
    pub fn bytes(self, schema: u16) -> usize {
        4 + if self.len < 128 { 1 } else { 2 } + self.len + if schema == 1 { 0 } else { 2 }
    }
}

/// How many bytes there are for the data, of the 4093.
pub fn room(mode: Mode) -> usize {
    let digits = (LONGEST_OWN / SECOND).to_string().len();
    let text = 4093 - NAME.len() - "=".len() - ATTRIBUTES.len() - "; Max-Age=".len() - digits;
    // Suite and key id; nonce and tag, or MAC; the session's fixed fields.
    let before = 1 + 4 + if mode == Mode::Encrypted { 24 + 16 } else { 32 } + 45;
    text * 3 / 4 - before
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Knows schema 1 only.
    Old,
    /// Reads both and still writes schema 1: the first step of a deploy.
    Both,
    /// Reads both, writes schema 2.
    New,
}

impl Release {
    fn reads(self, schema: u16) -> bool {
        schema == 1 || self != Release::Old
    }

    /// The schema of what it writes for a session that came in so, or is new.
    fn writes(self, came_in: Option<u16>) -> u16 {
        match self {
            Release::Old => 1,
            Release::Both => came_in.unwrap_or(1),
            Release::New => 2,
        }
    }
}

pub const KEYS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    pub primary: usize,
    pub fallback: Option<usize>,
}

const fn ring(primary: usize, fallback: Option<usize>) -> Ring {
    Ring { primary, fallback }
}

/// Two rotations by the steps of the crate page. (To skip to the last stage is to replace a leaked key.)
pub const RINGS: [Ring; 7] = [
    ring(0, None),
    ring(0, Some(1)),
    ring(1, Some(0)),
    ring(1, None),
    ring(1, Some(2)),
    ring(2, Some(1)),
    ring(2, None),
];

impl Ring {
    fn opens(self, key: usize) -> bool {
        self.primary == key || self.fallback == Some(key)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub fallback: [u64; KEYS],
    pub unknown_keys: u64,
    pub from_the_future: u64,
    pub expired: u64,
    pub signed_out: u64,
    pub schema: u64,
    pub reissues_too_large: u64,
    pub writes_too_late: u64,
}

pub struct Instance {
    pub ring: Ring,
    pub release: Release,
    /// How far its clock is ahead.
    pub skew: i64,
    pub counts: Counts,
}

/// A session's cookie, as if it were not sealed.
#[derive(Clone, Debug)]
pub struct Cookie {
    pub value: String,
    /// Not known before the first look at it.
    pub id: Option<SessionId>,
    pub created: u64,
    pub renewed: u64,
    pub issued: u64,
    pub lifetime: Lifetime,
    pub schema: u16,
    pub key: usize,
    pub data: Data,
    /// Sessions with one beginning have one number, whatever their ids.
    lineage: usize,
}

impl Cookie {
    pub fn idle_deadline(&self) -> Option<u64> {
        (!matches!(self.lifetime, Lifetime::Own(_))).then_some(self.issued + IDLE)
    }

    pub fn deadline(&self) -> u64 {
        self.renewed
            + match self.lifetime {
                Lifetime::Own(own) => own.as_millis() as u64,
                _ => ABSOLUTE,
            }
    }

    pub fn expires(&self) -> u64 {
        self.idle_deadline().unwrap_or(u64::MAX).min(self.deadline())
    }

    fn max_age(&self, now: u64) -> Option<u64> {
        let left = (self.expires() - now).div_ceil(SECOND).min(LONGEST_OWN / SECOND);
        (self.lifetime != Lifetime::Browser).then_some(left)
    }
}

#[derive(Clone, Debug)]
pub struct Marker {
    pub value: String,
    pub time: u64,
    pub key: usize,
    /// When its response arrived.
    arrived: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    TooLarge,
    TooLong,
    TooShort,
    Nested,
    Cleared,
    Committed,
}

/// A request, from the moment at which the browser sends it.
pub struct Request {
    pub instance: usize,
    pub release: Release,
    pub room: usize,
    passive: bool,
    pub cookie: Option<Rc<Cookie>>,
    pub marker: Option<Rc<Marker>>,
    /// When it was sent, as an event's number, and on the browser's clock.
    sent: usize,
    sent_at: u64,
    /// When the session was handed out.
    pub at: u64,
    /// Its session was signed out in this browser before it was sent.
    forbidden: bool,
    pub committed: bool,
    cleared: bool,
    /// What the first use found, with the ring that it found it by.
    pub opened: Option<(Ring, Incoming)>,
    /// The session that came in, unless it was cleared.
    pub origin: Option<Rc<Cookie>>,
    pub value: Data,
    pub base: Data,
    lifetime: Lifetime,
    pub renewed: Option<(Option<SessionId>, u64)>,
    pub new_id: Option<SessionId>,
}

impl Request {
    fn came_in(&self) -> Option<u16> {
        self.origin.as_ref().map(|cookie| cookie.schema)
    }

    pub fn schema(&self) -> u16 {
        self.release.writes(self.came_in())
    }

    pub fn remaining(&self) -> usize {
        self.room.saturating_sub(self.value.bytes(self.schema()))
    }

    fn fits(&self, data: Data) -> bool {
        data.bytes(self.schema()) <= self.room
    }

    fn differs(&self, data: Data) -> bool {
        data.in_form(self.schema()) != self.base.in_form(self.schema())
    }

    fn kept_otherwise(&self) -> bool {
        let other = |cookie: &Rc<Cookie>| self.renewed.is_some() || self.lifetime != cookie.lifetime;
        self.origin.as_ref().is_some_and(other)
    }

    pub fn is_changed(&self) -> bool {
        self.differs(self.value) || self.kept_otherwise()
    }

    /// What was opened, or would have been had this ring been there.
    fn judge(&self, ring: Ring) -> Incoming {
        let Some(cookie) = &self.cookie else { return Incoming::Absent };
        let signed_out = |marker: &Rc<Marker>| ring.opens(marker.key) && cookie.created <= marker.time;
        Incoming::Rejected(if !ring.opens(cookie.key) {
            RejectedKind::UnknownKey
        } else if cookie.issued > self.at + TOLERATED {
            RejectedKind::FromTheFuture
        } else if self.at >= cookie.expires() {
            RejectedKind::Expired
        } else if self.marker.as_ref().is_some_and(signed_out) {
            RejectedKind::SignedOut
        } else if !self.release.reads(cookie.schema) {
            RejectedKind::Schema
        } else {
            return Incoming::Accepted;
        })
    }

    pub fn update(&mut self, data: Data) -> Result<(), Refusal> {
        if (self.differs(data) || self.kept_otherwise()) && !self.fits(data) {
            return Err(Refusal::TooLarge);
        }
        self.value = data;
        Ok(())
    }

    /// The old id, which is `None` for a new session.
    pub fn renew(&mut self, now: u64) -> Result<Option<SessionId>, Refusal> {
        let Some(cookie) = &self.origin else { return Ok(None) };
        if !self.fits(self.value) {
            return Err(Refusal::TooLarge);
        }
        let old = self.renewed.map_or(cookie.id, |(id, _)| id);
        self.renewed = Some((None, now.max(self.at)));
        Ok(old)
    }

    pub fn set_lifetime(&mut self, lifetime: Lifetime, now: u64) -> Result<(), Refusal> {
        let renewed = self.renewed.map(|(_, renewed)| renewed);
        let came_in = self.origin.as_ref().map(|cookie| cookie.renewed);
        let lasts = match lifetime {
            Lifetime::Own(own) => own.as_secs() * SECOND,
            _ => ABSOLUTE,
        };
        if lasts == 0 || now.max(self.at) >= renewed.or(came_in).unwrap_or(self.at) + lasts {
            return Err(Refusal::TooShort);
        }
        if lifetime != self.lifetime && self.origin.is_some() && !self.fits(self.value) {
            return Err(Refusal::TooLarge);
        }
        self.lifetime = lifetime;
        Ok(())
    }

    pub fn clear(&mut self) -> bool {
        if !self.committed {
            self.cleared = true;
            self.start_fresh();
        }
        !self.committed
    }

    fn start_fresh(&mut self) {
        (self.origin, self.renewed, self.new_id) = (None, None, None);
        (self.value, self.base, self.lifetime) = (Data::default(), Data::default(), Lifetime::Timeouts);
    }

    /// The session as it is now, its issue being that of the cookie that came in.
    pub fn session(&self) -> Option<Cookie> {
        let (ring, _) = self.opened?;
        match &self.origin {
            Some(cookie) => {
                let (id, renewed) = self.renewed.unwrap_or((cookie.id, cookie.renewed));
                Some(Cookie { id, renewed, lifetime: self.lifetime, ..(**cookie).clone() })
            }
            None => self.differs(self.value).then(|| Cookie {
                value: String::new(),
                id: self.new_id,
                created: self.at,
                renewed: self.at,
                issued: self.at,
                lifetime: self.lifetime,
                schema: self.schema(),
                key: ring.primary,
                data: self.value,
                lineage: 0,
            }),
        }
    }
}

/// A response, as its head must be.
pub struct Answer {
    pub cookie: Option<Cookie>,
    pub max_age: Option<u64>,
    pub removes: bool,
    pub marker: Option<Marker>,
    /// A write or a removal goes out; a re-issue does not count.
    pub writes: bool,
    sent: usize,
    sent_at: u64,
    /// By its instance's clock.
    pub head_at: u64,
    /// The session that its request signed out: number and beginning.
    signs_out: Option<(usize, u64)>,
    /// Its request had a marker that the instance could not read.
    blind: bool,
}

/// A session's beginning, for the claims.
struct Lineage {
    /// When the request was sent that began it.
    sent: usize,
    /// That request had a marker that the instance could not read.
    blind: bool,
}

/// That a session was signed out in this browser: it must not come back.
struct SignedOut {
    arrived: usize,
    created: u64,
}

/// The fleet, the browser, and true time, by which the browser goes.
pub struct World {
    pub now: u64,
    pub instances: [Instance; 3],
    pub session: Option<(Rc<Cookie>, Option<u64>)>,
    pub marker: Option<(Rc<Marker>, u64)>,
    room: usize,
    /// Counts what is sent and what arrives.
    event: usize,
    ids: HashSet<SessionId>,
    lineages: Vec<Lineage>,
    signed_out: HashMap<usize, SignedOut>,
    ever_signed_out: HashSet<usize>,
    /// The clocks were never further apart than the documentation asks for.
    clocks_agree: bool,
}

impl World {
    pub fn new(mode: Mode) -> World {
        let instance =
            || Instance { ring: RINGS[0], release: Release::Old, skew: 0, counts: Counts::default() };
        World {
            now: 1_800_000_000_000,
            instances: [instance(), instance(), instance()],
            session: None,
            marker: None,
            room: room(mode),
            event: 0,
            ids: HashSet::new(),
            lineages: Vec::new(),
            signed_out: HashMap::new(),
            ever_signed_out: HashSet::new(),
            clocks_agree: true,
        }
    }

    pub fn clock(&self, instance: usize) -> u64 {
        self.now.saturating_add_signed(self.instances[instance].skew)
    }

    pub fn set_skew(&mut self, instance: usize, skew: i64) {
        self.instances[instance].skew = skew;
        let skews = || self.instances.iter().map(|instance| instance.skew).chain([0]);
        let apart = skews().max().unwrap_or(0) - skews().min().unwrap_or(0);
        self.clocks_agree &= apart.unsigned_abs() <= TOLERATED;
    }

    pub fn replace_ring(&mut self, instance: usize, ring: Ring) {
        let Instance { ring: before, counts, .. } = &mut self.instances[instance];
        for (key, count) in counts.fallback.iter_mut().enumerate() {
            if before.fallback != Some(key) || ring.fallback != Some(key) {
                *count = 0;
            }
        }
        *before = ring;
    }

    /// An id that was drawn, and which nothing had before.
    pub fn is_fresh(&mut self, id: SessionId) -> bool {
        self.ids.insert(id)
    }

    /// The browser sends a request, and the handler is given the session.
    pub fn send(&mut self, instance: usize, passive: bool) -> Request {
        self.event += 1;
        let live = |expires: Option<u64>| expires.is_none_or(|expires| self.now < expires);
        let cookie = self.session.clone().filter(|(_, expires)| live(*expires)).map(|(cookie, _)| cookie);
        let marker =
            self.marker.clone().filter(|(_, expires)| live(Some(*expires))).map(|(marker, _)| marker);
        let forbidden = cookie.as_ref().is_some_and(|cookie| self.signed_out.contains_key(&cookie.lineage));
        let mut request = Request {
            instance,
            release: self.instances[instance].release,
            room: self.room,
            passive,
            cookie,
            marker,
            sent: self.event,
            sent_at: self.now,
            at: self.clock(instance),
            forbidden,
            committed: false,
            cleared: false,
            opened: None,
            origin: None,
            value: Data::default(),
            base: Data::default(),
            lifetime: Lifetime::Timeouts,
            renewed: None,
            new_id: None,
        };
        request.start_fresh();
        request
    }

    /// The first use of the session opens it, by the ring that is in place then.
    pub fn load(&mut self, request: &mut Request) {
        if request.opened.is_some() {
            return;
        }
        let Instance { ring, counts, .. } = &mut self.instances[request.instance];
        let incoming = request.judge(*ring);
        request.opened = Some((*ring, incoming));
        match (incoming, &request.cookie) {
            (Incoming::Accepted, Some(cookie)) => {
                if ring.fallback == Some(cookie.key) {
                    counts.fallback[cookie.key] += 1;
                }
                if !request.cleared {
                    (request.value, request.base) = (cookie.data, cookie.data);
                    request.lifetime = cookie.lifetime;
                    request.origin = Some(Rc::clone(cookie));
                }
            }
            (Incoming::Rejected(kind), _) => {
                *match kind {
                    RejectedKind::UnknownKey => &mut counts.unknown_keys,
                    RejectedKind::FromTheFuture => &mut counts.from_the_future,
                    RejectedKind::Expired => &mut counts.expired,
                    RejectedKind::SignedOut => &mut counts.signed_out,
                    RejectedKind::Schema => &mut counts.schema,
                    _ => unreachable!("the model rejects for no other reason"),
                } += 1;
            }
            _ => {}
        }
    }

    /// The claims about sign-outs, of what the layer says it did with the cookie.
    pub fn claim(&mut self, request: &Request, ring: Ring, incoming: Incoming) {
        let Some(cookie) = &request.cookie else { return };
        let lineage = &self.lineages[cookie.lineage];
        let unread = request.marker.as_ref().is_some_and(|marker| !ring.opens(marker.key));
        if incoming == Incoming::Accepted && request.forbidden {
            // Where a key was dropped too soon, or promoted too soon, the sign-out is forgotten with it;
            // where clocks disagree, its marker may end before the session.
            let ended = request.marker.is_none() && !self.clocks_agree;
            assert!(unread || ended, "a signed-out session came back: {cookie:?}");
            self.signed_out.remove(&cookie.lineage);
        }
        if incoming == Incoming::Rejected(RejectedKind::SignedOut) {
            let overlaps = request.marker.as_ref().is_some_and(|marker| lineage.sent < marker.arrived);
            let legitimate = self.ever_signed_out.contains(&cookie.lineage) || overlaps || lineage.blind;
            assert!(legitimate, "a session that nobody signed out is lost: {cookie:?}");
        }
    }

    /// The head of the response.
    pub fn head(&mut self, request: &mut Request, status: u16, shared: bool) -> Answer {
        let now = self.clock(request.instance).max(request.at);
        request.committed = true;
        let mut answer = Answer {
            cookie: None,
            max_age: None,
            removes: false,
            marker: None,
            writes: false,
            sent: request.sent,
            sent_at: request.sent_at,
            head_at: now,
            signs_out: None,
            blind: false,
        };
        let ring = match request.opened {
            Some((ring, _)) => ring,
            None if request.cleared => self.instances[request.instance].ring,
            None => return answer,
        };
        let read_marker = request.marker.as_ref().filter(|marker| ring.opens(marker.key));
        answer.blind = request.marker.is_some() && read_marker.is_none();
        let mut latest = read_marker.map(|marker| marker.time);
        if request.cleared {
            let authentic = request.cookie.as_ref().filter(|cookie| ring.opens(cookie.key));
            answer.signs_out = authentic.map(|cookie| (cookie.lineage, cookie.created));
            answer.marker = authentic.map(|cookie| Marker {
                value: String::new(),
                time: now.max(cookie.created).max(latest.unwrap_or(0)),
                key: ring.primary,
                arrived: 0,
            });
            latest = latest.max(answer.marker.as_ref().map(|marker| marker.time));
        }
        answer.cookie = self.outgoing(request, ring, latest, status, shared, now);
        answer.max_age = answer.cookie.as_ref().and_then(|cookie| cookie.max_age(now));
        answer.removes = request.cleared && request.cookie.is_some() && answer.cookie.is_none();
        answer.writes =
            answer.cookie.is_some() && request.is_changed() || answer.removes || answer.marker.is_some();
        answer
    }

    fn outgoing(
        &mut self,
        request: &Request,
        ring: Ring,
        latest_marker: Option<u64>,
        status: u16,
        shared: bool,
        now: u64,
    ) -> Option<Cookie> {
        let counts = &mut self.instances[request.instance].counts;
        let mut session = request.session().filter(|_| status < 500)?;
        let schema = request.schema();
        let moves = session.key != ring.primary || session.schema < schema;
        if !request.is_changed() {
            let own = matches!(session.lifetime, Lifetime::Own(_));
            let due = now.saturating_sub(session.issued) >= DUE && (moves || !own);
            let late = now - request.at > LATE;
            if !due || shared || request.passive || late || now >= session.deadline() {
                return None;
            }
            if !request.fits(request.value) {
                counts.reissues_too_large += 1;
                return None;
            }
        }
        if now >= session.deadline() {
            counts.writes_too_late += 1;
            return None;
        }
        if request.origin.is_none() {
            session.created = latest_marker.map_or(request.at, |marker| request.at.max(marker + 1));
            session.lineage = self.lineages.len();
            let blind = request.marker.as_ref().is_some_and(|marker| !ring.opens(marker.key));
            self.lineages.push(Lineage { sent: request.sent, blind });
        }
        session.issued = now.max(session.issued).max(session.renewed);
        session.data = request.value.in_form(schema);
        (session.schema, session.key) = (schema, ring.primary);
        Some(session)
    }

    /// The response arrives at the browser, if that still waits.
    pub fn arrive(&mut self, answer: Answer) {
        if self.now - answer.sent_at > PATIENCE {
            return;
        }
        self.event += 1;
        if let Some(cookie) = answer.cookie {
            let expires = answer.max_age.map(|seconds| self.now + seconds * SECOND);
            self.session = Some((Rc::new(cookie), expires));
        } else if answer.removes {
            self.session = None;
        }
        if let Some(marker) = answer.marker {
            // Of two sign-outs under way at once, the one that arrives last replaces the other's marker. It
            // holds all the same, unless it was made, by its clock, before that other session began.
            self.signed_out.retain(|_, out| {
                let overtaken = answer.sent < out.arrived && answer.head_at < out.created;
                !overtaken && !answer.blind
            });
            if let Some((lineage, created)) = answer.signs_out {
                self.signed_out.insert(lineage, SignedOut { arrived: self.event, created });
                self.ever_signed_out.insert(lineage);
            }
            let marker = Marker { arrived: self.event, ..marker };
            self.marker = Some((Rc::new(marker), self.now + MARKER_AGE));
        }
    }
}

pub fn own(millis: u64) -> Lifetime {
    Lifetime::Own(Duration::from_millis(millis))
}
