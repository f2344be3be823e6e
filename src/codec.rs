//! `SessionCodec<T>`: headers in, headers out, time as a parameter. The session's times, schema and
//! migration, which of several cookies, and the sign-out marker.

use crate::{
    cookie::{self, Cookies, Finder, SetCookie, Target, Template},
    encode::{self, Layout, Notes},
    error::{Incoming, NotEncodable, ParseIdError, RejectedKind, TooLarge, UpdateError},
    frame::{self, Frame, FrameError, Suite},
    identity::Mode,
    import::{Imported, OldCookies, OldFormat},
    key::{KeyId, Purpose},
    lifetime::{self, Lifetime, Rules, Times, Verdict},
    ring::{self, Bound, KeyRingHandle, LayerKeys, LayerSlot},
    seal::{HALF, NotAuthentic, random},
    shape::Shape,
};
use http::HeaderMap;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    str::FromStr,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

/// At most this many of our cookies that name a key of the ring are authenticated.
const MOST_CANDIDATES: usize = 8;

/// The session's fixed-width fields, before its payload in the plaintext.
pub(crate) const META: usize = 45;

/// The `created_at` of sessions from older formats.
const IMPORTED: u64 = 0;

/// A marker's plaintext: one time, 64 bits.
const MARKER: usize = 8;

/// Room before a payload for everything that a frame has there, in the suite that needs most.
const ROOM: usize = Suite::Xaes256Gcm.before() + META;

/// A session's random id: 16 bytes, new with each session and with each `renew`, shown as 32
/// hexadecimal digits. It is no secret, and opens nothing; a denylist can name a session by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The id with these bytes, as a denylist has stored them.
    pub const fn from_bytes(bytes: [u8; 16]) -> SessionId {
        SessionId(bytes)
    }

    /// The id's bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for SessionId {
    type Err = ParseIdError;

    /// Parses what `Display` shows: 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<SessionId, ParseIdError> {
        let digits = text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit());
        let id = digits.then(|| u128::from_str_radix(text, 16)).and_then(Result::ok);
        id.map(|id| SessionId(id.to_be_bytes())).ok_or(ParseIdError)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known of a session beside its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionMeta {
    key_id: KeyId,
    mode: Mode,
    meta: Meta,
    idle_deadline: Option<u64>,
    absolute_deadline: u64,
}

impl SessionMeta {
    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.meta.id
    }
    /// The key that opened the cookie; the primary, if none came in.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }
    /// How the cookie was sealed.
    pub fn mode(&self) -> Mode {
        self.mode
    }
    /// The schema number in the cookie.
    pub fn schema(&self) -> u16 {
        self.meta.form.schema
    }
    /// How long the session lives.
    pub fn lifetime(&self) -> Lifetime {
        self.meta.lifetime
    }
    /// Whether the session was imported from an older format, now or in an earlier request; kept by `renew`.
    pub fn is_imported(&self) -> bool {
        self.meta.times.created == IMPORTED
    }
    /// When the session began; kept by `renew`. For a new session, a sign-out marker raises it when the
    /// response's headers leave. `UNIX_EPOCH` for an imported one: nobody knows when that began, and any sign-out
    /// counts against it.
    pub fn created_at(&self) -> SystemTime {
        lifetime::to_system(self.meta.times.created)
    }
    /// What the absolute timeout, or the session's own lifetime, counts from.
    pub fn renewed_at(&self) -> SystemTime {
        lifetime::to_system(self.meta.times.renewed)
    }
    /// When this cookie was made.
    pub fn issued_at(&self) -> SystemTime {
        lifetime::to_system(self.meta.times.issued)
    }
    /// When the session ends if nothing happens: the earlier of both deadlines.
    pub fn expires_at(&self) -> SystemTime {
        let idle = self.idle_deadline.unwrap_or(self.absolute_deadline);
        lifetime::to_system(idle.min(self.absolute_deadline))
    }
    /// When the idle timeout strikes; `None` where the lifetime is the session's own.
    pub fn idle_deadline(&self) -> Option<SystemTime> {
        self.idle_deadline.map(lifetime::to_system)
    }
    /// When the absolute timeout strikes, or the session's own lifetime ends.
    pub fn absolute_deadline(&self) -> SystemTime {
        lifetime::to_system(self.absolute_deadline)
    }
}

/// The form of a payload: the developer's number and the type's fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) schema: u16,
    pub(crate) shape: Shape,
}

/// The fixed-width fields of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) form: Form,
    pub(crate) id: SessionId,
    pub(crate) times: Times,
    pub(crate) lifetime: Lifetime,
}

const FLAG_BROWSER: u8 = 0b0000_0001;

impl Meta {
    /// `flags[1] schema[2] shape[4] id[16] created[6] renewed[6] issued[6] own[4]`, numbers
    /// little-endian; no field's value changes the width.
    fn to_bytes(&self) -> [u8; META] {
        let (flags, own) = match self.lifetime {
            Lifetime::Timeouts => (0, 0),
            Lifetime::Browser => (FLAG_BROWSER, 0),
            Lifetime::Own(own) => (0, u32::try_from(own.as_secs()).unwrap_or(u32::MAX)),
        };
        let mut bytes = [0; META];
        let mut out = bytes.iter_mut();
        let mut put = |field: &[u8]| field.iter().zip(&mut out).for_each(|(byte, out)| *out = *byte);
        put(&[flags]);
        put(&self.form.schema.to_le_bytes());
        put(&self.form.shape.to_bytes());
        put(&self.id.0);
        for time in [self.times.created, self.times.renewed, self.times.issued] {
            let [a, b, c, d, e, f, _, _] = time.min(lifetime::LATEST).to_le_bytes();
            put(&[a, b, c, d, e, f]);
        }
        put(&own.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; META]) -> Option<Meta> {
        fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
            let (field, behind) = rest.split_first_chunk::<N>()?;
            *rest = behind;
            Some(*field)
        }
        let rest = &mut bytes.as_slice();
        let [flags] = take(rest)?;
        let schema = u16::from_le_bytes(take(rest)?);
        let shape = Shape::from_bytes(take(rest)?);
        let id = SessionId(take(rest)?);
        let mut time = || {
            let [a, b, c, d, e, f] = take(rest)?;
            Some(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
        };
        let times = Times { created: time()?, renewed: time()?, issued: time()? };
        let lifetime = match (flags, u32::from_le_bytes(take(rest)?)) {
            (0, 0) => Lifetime::Timeouts,
            (FLAG_BROWSER, 0) => Lifetime::Browser,
            (0, own) => Lifetime::Own(Duration::from_secs(own.into())),
            _ => return None,
        };
        Some(Meta { form: Form { schema, shape }, id, times, lifetime })
    }
}

/// An encoded value, with room before it for the rest of a frame.
#[derive(Clone)]
pub(crate) struct Payload {
    buffer: Vec<u8>,
    at: usize,
    /// Of what was encoded here; nothing of what came in.
    notes: Notes,
}

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// `hint`: how long the payload will be, so that its buffer, with room for the seal, grows once.
    fn encode<V: Serialize>(value: &V, known: &[Layout], hint: usize) -> Result<Payload, NotEncodable> {
        let mut buffer = Vec::with_capacity(ROOM + hint + Suite::HmacSha256.behind());
        buffer.resize(ROOM, 0);
        let (buffer, notes) = encode::encode(value, known, buffer)?;
        Ok(Payload { buffer, at: ROOM, notes })
    }
}

/// Whether a value of this type comes back as it was, if its `Serialize` takes it at all.
pub(crate) fn comes_back<V: Serialize + DeserializeOwned>(value: &V) -> bool {
    match Payload::encode(value, &[], 0) {
        Ok(payload) => again::<V>(&payload),
        Err(error) => error != NotEncodable::RoundTrip,
    }
}

/// How to see whether an encoding in one form comes back as it was.
pub(crate) struct Check {
    again: fn(&Payload) -> bool,
    plain: bool,
    known: Vec<Layout>,
}

impl Check {
    /// `plain`: what reads the type takes all that stands in it (`Outline::plain`), and what writes it made the same
    /// calls for each value that was tried, in which it met the structs that are `known`. Where a value was written
    /// plainly as well, it is not read again to see; but in debug builds, which are for finding out.
    pub(crate) fn of<V: Serialize + DeserializeOwned>(plain: bool, known: Vec<Layout>) -> Check {
        Check { again: again::<V>, plain: plain && !cfg!(debug_assertions), known }
    }

    fn is_plain(&self, encoded: &Payload) -> bool {
        self.plain && encoded.notes.plain
    }
}

/// Whether an encoding decodes, and encodes again to the same bytes in any order (a `HashMap` comes
/// back in another one), with as many fields in as many tuples.
fn again<V: Serialize + DeserializeOwned>(encoded: &Payload) -> bool {
    fn sorted(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    }
    let again =
        decode::<V>(encoded.bytes()).and_then(|value| Payload::encode(&value, &[], encoded.len()).ok());
    again.is_some_and(|again| {
        let same = || again.bytes() == encoded.bytes() || sorted(again.bytes()) == sorted(encoded.bytes());
        again.notes.tuples == encoded.notes.tuples && same()
    })
}

/// Decodes a payload that has been authenticated; all of it, to the last byte.
fn decode<V: DeserializeOwned>(payload: &[u8]) -> Option<V> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

pub(crate) type Migrate<T> = Box<dyn Fn(&[u8]) -> Option<T> + Send + Sync>;
pub(crate) type Encode<T> = Box<dyn Fn(&T, &[Layout], usize) -> Result<Payload, NotEncodable> + Send + Sync>;

/// How another form is written.
pub(crate) struct Writer<T> {
    pub(crate) form: Form,
    pub(crate) encode: Encode<T>,
    pub(crate) check: Check,
}
pub(crate) type AcceptIf<T> = Box<dyn Fn(&SessionMeta, &T) -> bool + Send + Sync>;

/// Which forms a codec reads and writes.
pub(crate) struct Schemas<T> {
    pub(crate) own: Form,
    pub(crate) check: Check,
    pub(crate) migrations: Vec<(Form, Migrate<T>)>,
    pub(crate) write_as: Option<Writer<T>>,
}

impl<T> Schemas<T> {
    pub(crate) fn migrate<Old: DeserializeOwned + 'static>(
        migrate: impl Fn(Old) -> T + Send + Sync + 'static,
    ) -> Migrate<T> {
        Box::new(move |payload| decode(payload).map(&migrate))
    }

    pub(crate) fn converted<Old: Serialize + 'static>(
        convert: impl Fn(&T) -> Old + Send + Sync + 'static,
    ) -> Encode<T> {
        Box::new(move |value, known, hint| Payload::encode(&convert(value), known, hint))
    }

    /// The form of new sessions, and of those that came in a form not newer than it.
    fn written(&self) -> Form {
        self.write_as.as_ref().map_or(self.own, |writer| writer.form)
    }
}

/// How many bytes there are for an encoded session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) max_set_cookie: usize,
    /// The digits of the longest `Max-Age` that can occur.
    pub(crate) digits: usize,
    pub(crate) suite: Suite,
}

impl Budget {
    fn overhead(&self) -> usize {
        self.suite.before() + META + self.suite.behind()
    }

    pub(crate) fn max_payload(&self, template: &Template) -> usize {
        let fixed = template.name_len() + template.attributes_len(self.digits);
        let text = self.max_set_cookie.saturating_sub(fixed).min(frame::MAX_VALUE);
        frame::decoded_len(text).saturating_sub(self.overhead())
    }

    pub(crate) fn needed(&self, template: &Template, payload: usize) -> usize {
        template.rendered_len(self.overhead() + payload, self.digits)
    }
}

/// Opens and seals sessions of type `T`: headers in, headers out, time as a parameter.
///
/// It knows no framework and reads no clock. It is what a [`SessionLayer`](crate::SessionLayer)
/// works with, and what makes a cookie for a test:
///
/// ```
/// # use cookie_session::{Key, KeyRing, SessionLayer};
/// # use http::{HeaderMap, header::COOKIE};
/// # use std::time::SystemTime;
/// let layer = SessionLayer::<u64>::builder(KeyRing::new(Key::generate()?, [])?).build()?;
/// let now = SystemTime::now();
///
/// let cookie = layer.codec().seal(&42, None, None, now)?;
/// let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
/// assert_eq!(layer.codec().open(&request, now).value(), Some(&42));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SessionCodec<T> {
    pub(crate) ring: KeyRingHandle,
    pub(crate) keys: Arc<LayerSlot>,
    pub(crate) writes: Suite,
    pub(crate) session: Template,
    pub(crate) marker: Template,
    /// The session's own name, then those of other identities, each once.
    pub(crate) names: Vec<Name>,
    pub(crate) formerly: Vec<Former>,
    pub(crate) imports: Vec<Import<T>>,
    /// The cookies of all these formats, each once.
    pub(crate) old_cookies: Vec<Template>,
    /// An import does not remove what it was made from.
    pub(crate) keep_old_cookies: bool,
    pub(crate) rules: Rules,
    pub(crate) budget: Budget,
    pub(crate) max_payload: usize,
    pub(crate) schemas: Schemas<T>,
    pub(crate) accept_if: Option<AcceptIf<T>>,
}

/// Another identity that is another cookie to a browser: what removals and markers go to.
pub(crate) struct Former {
    pub(crate) session: Template,
    pub(crate) marker: Template,
    /// Its place among the others of the layer's binding; `None`: the layer's own seals.
    pub(crate) identity: Option<usize>,
}

/// A name under which our cookies come in.
pub(crate) struct Name {
    name: String,
    session: Finder,
    marker: Finder,
    /// What the name's prefix promises: a name with one beats one without.
    rank: u8,
    /// How its cookies may be sealed: those that are accepted longest first, the layer's own before all.
    readers: Vec<Reader>,
}

/// A way in which the cookies of a name may be sealed.
struct Reader {
    /// The place of an identity among the others of the layer's binding; `None`: the layer's own.
    identity: Option<usize>,
    accepts: Vec<Suite>,
    /// Sessions are accepted before this, in milliseconds; markers for ever.
    until: u64,
}

impl Name {
    pub(crate) fn new(cookie: &Target) -> Name {
        let (session, marker) = (Finder::new(&cookie.name), Finder::new(&cookie.marker().name));
        let rank = cookie::rank(&cookie.name);
        Name { name: cookie.name.clone(), session, marker, rank, readers: Vec::new() }
    }

    pub(crate) fn is_of(&self, cookie: &Target) -> bool {
        self.name == cookie.name
    }

    pub(crate) fn accept(&mut self, identity: Option<usize>, bound: &Bound, until: u64) {
        match self.readers.iter_mut().find(|reader| reader.identity == identity) {
            Some(known) => known.until = known.until.max(until),
            None => self.readers.push(Reader { identity, accepts: bound.accepts.clone(), until }),
        }
    }
}

/// An older format that sessions are imported from.
pub(crate) struct Import<T> {
    pub(crate) format: Box<dyn OldFormat<T>>,
    /// In milliseconds.
    pub(crate) until: u64,
    /// Finds the cookie with the data.
    pub(crate) finder: Finder,
}

impl<T> fmt::Debug for SessionCodec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCodec").field("name", &self.session.name()).finish_non_exhaustive()
    }
}

/// What came in of our cookies: enough to remove them and to make a marker, without any decoding.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evidence {
    /// How many cookies with our name, sealed or not.
    pub(crate) ours: usize,
    /// How many with another identity's name that is not ours.
    pub(crate) former: usize,
    /// One of these has a name of which sessions are accepted.
    others: bool,
    /// One has the form of a sealed session, whether it opened here or not.
    sealed: bool,
    /// A cookie's name begins with ours and goes on, as the marker's does.
    may_have_marker: bool,
    /// The largest `created_at` of those that are authentic; 0 for an old cookie.
    created: Option<u64>,
    /// The latest sign-out marker.
    marker: Option<u64>,
}

/// The latest sign-out markers that came in, by the rank of their names.
#[derive(Default)]
struct Markers([Option<u64>; cookie::RANKS]);

impl Markers {
    /// The latest one whose name has this rank, or a better one.
    fn latest(&self, rank: u8) -> Option<u64> {
        self.0.iter().skip(rank.into()).copied().max().flatten()
    }
}

/// The cookies of a request, authenticated; nothing of `T` has run yet.
pub(crate) struct Arrival {
    pub(crate) keys: Arc<LayerKeys>,
    pub(crate) found: Found,
}

#[derive(Default)]
pub(crate) struct Found {
    pub(crate) evidence: Evidence,
    candidates: Candidates,
    rejected: Option<RejectedKind>,
    pub(crate) unknown_keys: u64,
}

/// Live sessions. A list for those beside the best: there is hardly ever one.
#[derive(Default)]
struct Candidates {
    best: Option<Candidate>,
    /// The next best last.
    others: Vec<Candidate>,
}

impl Candidates {
    /// In the order of the header: of the names with the best prefix the newest is the best, of equals the later.
    fn push(&mut self, candidate: Candidate) {
        let worth = |candidate: &Candidate| (candidate.rank, candidate.meta.times.issued);
        match &self.best {
            Some(best) if worth(&candidate) < worth(best) => {
                let at = self.others.partition_point(|other| worth(other) <= worth(&candidate));
                self.others.insert(at, candidate);
            }
            _ => self.others.extend(self.best.replace(candidate)),
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&Candidate) -> bool) {
        self.best.take_if(|best| !keep(best));
        self.others.retain(keep);
    }

    fn next(&mut self) -> Option<Candidate> {
        self.best.take().or_else(|| self.others.pop())
    }
}

struct Candidate {
    rank: u8,
    /// In another identity than the layer's own.
    elsewhere: Option<Elsewhere>,
    meta: Meta,
    suite: Suite,
    key_id: KeyId,
    fallback: Option<Arc<AtomicU64>>,
    payload: Payload,
}

/// Where an accepted session came from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) meta: Meta,
    pub(crate) suite: Suite,
    pub(crate) key_id: KeyId,
    /// Its cookie is not what would be written now: key, schema, mode or identity differ.
    pub(crate) moves: bool,
    /// It was not in the layer's own identity.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// What a session that did not come in the layer's own identity came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// Another identity of our cookie, of our name or another.
    Identity,
    /// The cookies of an older format.
    OldFormat,
}

/// A session ready for use: accepted, or fresh.
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    pub(crate) incoming: Incoming,
    pub(crate) origin: Option<Origin>,
    pub(crate) fallback: Option<Arc<AtomicU64>>,
    /// The value in `T`'s own form. `None`: a default that does not encode today.
    pub(crate) own: Option<Payload>,
    /// The value in the form of `write_as`, where that is what is written.
    pub(crate) out: Option<Payload>,
    /// What a re-issue sends, where that is neither of the two.
    pub(crate) resend: Option<(Form, Payload)>,
}

/// A value encoded for storing: in `T`'s own form, and in the written one where that differs.
pub(crate) struct Encoded {
    pub(crate) own: Payload,
    pub(crate) out: Option<Payload>,
}

impl<T> SessionCodec<T> {
    /// Authenticates the cookies of a request. Runs nothing of the user's.
    pub(crate) fn arrive(&self, cookies: &Cookies, now: u64) -> Arrival {
        let mut arrival = Arrival { keys: self.keys.keys(), found: Found::default() };
        let Arrival { keys, found } = &mut arrival;
        for (at, name) in self.names.iter().enumerate() {
            self.gather(keys, name, at == 0, cookies, now, found);
        }
        let Found { evidence, candidates, rejected, .. } = found;
        if evidence.created.is_some() && evidence.may_have_marker {
            let markers = self.markers(keys, cookies);
            evidence.marker = markers.latest(0);
            candidates.retain(|candidate| {
                // Whoever can set a cookie without a prefix must not sign one with a prefix out, and put another
                // in its place. Each sign-out sends the markers of all identities.
                let marker = markers.latest(candidate.rank);
                let holds = marker.is_none_or(|marker| candidate.meta.times.created > marker);
                if !holds {
                    *rejected = RejectedKind::SignedOut.further(*rejected);
                }
                holds
            });
        }
        arrival
    }

    /// Authenticates the cookies of one name, the layer's own or another.
    #[inline(always)] // Of one caller, for each request.
    fn gather(
        &self,
        keys: &LayerKeys,
        name: &Name,
        own: bool,
        cookies: &Cookies,
        now: u64,
        found: &mut Found,
    ) {
        let mut tried = 0;
        for value in name.session.hits(cookies) {
            let Some(value) = value else {
                found.evidence.may_have_marker = true;
                continue;
            };
            *(if own { &mut found.evidence.ours } else { &mut found.evidence.former }) += 1;
            if tried == MOST_CANDIDATES {
                continue;
            }
            let (mut rejected, mut named, mut asked) = (None::<RejectedKind>, false, false);
            // Of one key; which context or mode it was is not said by the cookie. Those that had no date are not read.
            for reader in name.readers.iter().filter(|reader| reader.until > 0) {
                let live = now < reader.until;
                asked |= live;
                let opened = self.locate(keys, value, Purpose::Session, reader).and_then(|located| {
                    named = true;
                    located.open()
                });
                match opened {
                    Err(kind) if live => rejected = kind.further(rejected),
                    Err(_) => {}
                    Ok(opened) => {
                        let elsewhere = reader.identity.map(|_| Elsewhere::Identity);
                        let candidate =
                            self.candidate(opened, name.rank, elsewhere, now, &mut found.evidence);
                        // After its date it is no session, but a sign-out has to know of it, which `candidate` has
                        // noted: it may have moved a moment before.
                        if live {
                            rejected = candidate.map(|candidate| found.candidates.push(candidate)).err();
                        }
                        break;
                    }
                }
            }
            tried += usize::from(named);
            if asked {
                found.evidence.others |= !own;
                found.evidence.sealed |=
                    !matches!(rejected, Some(RejectedKind::TooLong | RejectedKind::Malformed));
            }
            if let Some(kind) = rejected {
                found.unknown_keys += u64::from(kind == RejectedKind::UnknownKey);
                found.rejected = kind.further(found.rejected);
            }
        }
    }

    /// Parses one cookie's value and finds the one key that it names.
    fn locate<'k>(
        &self,
        keys: &'k LayerKeys,
        value: &[u8],
        purpose: Purpose,
        reader: &Reader,
    ) -> Result<Located<'k>, RejectedKind> {
        let start = ROOM - META - Suite::HmacSha256.before();
        let Frame { suite, key_id, buffer } = frame::parse(value, start).map_err(|error| match error {
            FrameError::TooLong => RejectedKind::TooLong,
            FrameError::Malformed => RejectedKind::Malformed,
        })?;
        let accepted = reader.accepts.iter().find(|accepted| accepted.byte() == suite);
        let suite = *accepted.ok_or(RejectedKind::SuiteNotAccepted)?;
        if buffer.len() < start + suite.before() + suite.behind() {
            return Err(RejectedKind::Malformed);
        }
        let found = keys.find(key_id, reader.identity, suite, purpose).ok_or(RejectedKind::UnknownKey)?;
        Ok(Located { suite, key_id, found, buffer, start })
    }

    fn candidate(
        &self,
        opened: Authentic<'_>,
        rank: u8,
        elsewhere: Option<Elsewhere>,
        now: u64,
        evidence: &mut Evidence,
    ) -> Result<Candidate, RejectedKind> {
        let Authentic { suite, key_id, fallback, buffer, at } = opened;
        let fields = buffer.get(at..).and_then(|plaintext| plaintext.first_chunk());
        let meta = fields.and_then(Meta::from_bytes).ok_or(RejectedKind::Payload)?;
        evidence.created = evidence.created.max(Some(meta.times.created));
        match self.rules.judge(meta.times, meta.lifetime, now) {
            Verdict::FromTheFuture => Err(RejectedKind::FromTheFuture),
            Verdict::Expired => Err(RejectedKind::Expired),
            Verdict::Live => {
                let payload = Payload { buffer, at: at + META, notes: Notes::default() };
                Ok(Candidate { rank, elsewhere, meta, suite, key_id, fallback: fallback.cloned(), payload })
            }
        }
    }

    /// The latest time in the sign-out markers that came in.
    pub(crate) fn marker_time(
        &self,
        keys: &LayerKeys,
        evidence: &Evidence,
        cookies: &Cookies,
    ) -> Option<u64> {
        if evidence.marker.is_some() || !evidence.may_have_marker {
            return evidence.marker;
        }
        self.markers(keys, cookies).latest(0)
    }

    fn markers(&self, keys: &LayerKeys, cookies: &Cookies) -> Markers {
        let mut markers = Markers::default();
        for name in &self.names {
            if let Some(latest) = markers.0.get_mut(usize::from(name.rank)) {
                *latest = self.marker_of(keys, name, cookies).max(*latest);
            }
        }
        markers
    }

    fn marker_of(&self, keys: &LayerKeys, name: &Name, cookies: &Cookies) -> Option<u64> {
        let (mut latest, mut tried) = (None, 0);
        for value in name.marker.find(cookies) {
            let mut named = false;
            // Whatever their date: a session that has moved meanwhile may have been signed out there.
            for reader in &name.readers {
                let Ok(located) = self.locate(keys, value, Purpose::SignOut, reader) else { continue };
                named = true;
                let Ok(Authentic { buffer, at, .. }) = located.open() else { continue };
                let time = buffer.get(at..).and_then(|time| <[u8; MARKER]>::try_from(time).ok());
                latest = latest.max(time.map(u64::from_le_bytes));
                break;
            }
            tried += usize::from(named);
            if tried == MOST_CANDIDATES {
                break;
            }
        }
        latest
    }

    /// What a session is called and how long it lives, for the user.
    pub(crate) fn describe(&self, meta: &Meta, suite: Suite, key_id: KeyId) -> SessionMeta {
        SessionMeta {
            key_id,
            mode: Mode::of(suite),
            meta: meta.clone(),
            idle_deadline: self.rules.idle_deadline(meta.times, meta.lifetime),
            absolute_deadline: self.rules.absolute_deadline(meta.times, meta.lifetime),
        }
    }

    /// The form in which a session is written that came in this form, or is new.
    pub(crate) fn writes_old_form(&self, came_in: Option<u16>) -> bool {
        let written = self.schemas.written();
        self.schemas.write_as.is_some() && came_in.is_none_or(|schema| schema <= written.schema)
    }

    pub(crate) fn form(&self, old_form: bool) -> Form {
        if old_form { self.schemas.written() } else { self.schemas.own }
    }

    pub(crate) fn too_large(&self, payload: usize) -> TooLarge {
        TooLarge {
            payload,
            max_payload: self.max_payload,
            needed: self.budget.needed(&self.session, payload),
            max_set_cookie: self.budget.max_set_cookie,
            name: self.session.name_len(),
            attributes: self.session.attributes_len(self.budget.digits),
            overhead: self.budget.overhead(),
        }
    }

    /// Seals a session's cookie, with what was drawn for it. `None`: the operating system gave no randomness.
    pub(crate) fn seal_session(
        &self,
        keys: &LayerKeys,
        meta: &Meta,
        half: &[u8; HALF],
        payload: Payload,
        now: u64,
    ) -> Option<SetCookie> {
        let key = keys.session()?;
        let suite = key.suite();
        let Payload { mut buffer, at, .. } = payload;
        buffer.get_mut(at.checked_sub(META)?..at)?.copy_from_slice(&meta.to_bytes());
        let start = at.checked_sub(META + suite.before())?;
        key.seal(keys.primary_id().0, half, &mut buffer, start)?;
        let sealed = buffer.get(start..).unwrap_or_default();
        Some(self.session.set(sealed, self.rules.max_age(meta.times, meta.lifetime, now)))
    }

    /// Removal cookies of all other identities and older formats and, where something authentic came in, markers.
    /// The removal of the session's own cookie is the caller's: the same response may set it.
    pub(crate) fn depart(&self, keys: &LayerKeys, evidence: &Evidence, now: u64) -> Departure<'_> {
        let mut departure = Departure::default();
        departure.cookies.extend(self.former_removals().chain(self.old_removals()));
        let Some(created) = evidence.created else { return departure };
        let time = now.max(created).max(evidence.marker.unwrap_or(0)).min(lifetime::LATEST);
        let formers = self.formerly.iter().map(|former| (&former.marker, former.identity));
        for (template, identity) in std::iter::once((&self.marker, None)).chain(formers) {
            match self.seal_marker(keys, template, identity, time) {
                Some(cookie) => {
                    departure.cookies.push((cookie, template));
                    departure.marker = Some(time);
                }
                None => departure.no_randomness = true,
            }
        }
        departure
    }

    /// Removal cookies for all other identities.
    fn former_removals(&self) -> impl Iterator<Item = (SetCookie, &Template)> {
        self.formerly.iter().map(|former| (former.session.removal(), &former.session))
    }

    /// Removal cookies for all older formats.
    fn old_removals(&self) -> impl Iterator<Item = (SetCookie, &Template)> {
        self.old_cookies.iter().map(|cookie| (cookie.removal(), cookie))
    }

    /// Removal cookies for what stands beside the session's cookie, which is set. `writes`: by a write.
    pub(crate) fn left_behind(
        &self,
        evidence: &Evidence,
        elsewhere: Option<Elsewhere>,
        writes: bool,
    ) -> Vec<(SetCookie, &Template)> {
        let beside = evidence.others || evidence.ours + evidence.former > 1;
        let former = elsewhere == Some(Elsewhere::Identity) || writes && beside;
        let old = elsewhere == Some(Elsewhere::OldFormat) && !self.keep_old_cookies;
        let mut cookies = Vec::new();
        if former {
            cookies.extend(self.former_removals());
        }
        if old {
            cookies.extend(self.old_removals());
        }
        cookies
    }

    /// Notes that a cookie of an older format came in, which a sign-out must count: nobody knows when its session
    /// began. Looked for only where no session of ours did.
    pub(crate) fn note_old_cookies(&self, evidence: &mut Evidence, cookies: &Cookies) {
        let came_in = |import: &Import<T>| import.finder.find(cookies).next().is_some();
        if evidence.created.is_none() && self.imports.iter().any(came_in) {
            evidence.created = Some(0);
        }
    }

    fn seal_marker(
        &self,
        keys: &LayerKeys,
        template: &Template,
        identity: Option<usize>,
        time: u64,
    ) -> Option<SetCookie> {
        let key = keys.marker(identity)?;
        let half = half_for(key.suite())?;
        let mut buffer = vec![0; key.suite().before()];
        buffer.extend_from_slice(&time.to_le_bytes());
        key.seal(keys.primary_id().0, &half, &mut buffer, 0)?;
        Some(template.set(&buffer, Some(lifetime::MARKER_MAX_AGE)))
    }

    /// The least `issued_at` of a cookie that takes the place of one with these times. Where a browser may have both, it
    /// is newer, also by a clock that is behind.
    pub(crate) fn issued_after(&self, times: Times) -> u64 {
        let later = u64::from(!self.formerly.is_empty());
        times.issued.saturating_add(later).min(lifetime::LATEST)
    }

    /// A new session's `created_at`: after every marker that the request carries or sends, and never that of
    /// imported ones.
    pub(crate) fn created_after(marker: Option<u64>, now: u64) -> u64 {
        let created = marker.map_or(now, |marker| now.max(marker.saturating_add(1)));
        created.clamp(IMPORTED + 1, lifetime::LATEST)
    }
}

/// A value that names a key of the ring; its frame begins at `start`.
struct Located<'k> {
    suite: Suite,
    key_id: KeyId,
    found: ring::Found<'k>,
    buffer: Vec<u8>,
    start: usize,
}

impl<'k> Located<'k> {
    fn open(mut self) -> Result<Authentic<'k>, RejectedKind> {
        let Located { suite, key_id, found, start, .. } = self;
        let frame = self.buffer.get_mut(start..).unwrap_or_default();
        found.seal_key.open(frame).map_err(|NotAuthentic| RejectedKind::NotAuthentic)?;
        self.buffer.truncate(self.buffer.len() - suite.behind());
        let at = start + suite.before();
        Ok(Authentic { suite, key_id, fallback: found.fallback, buffer: self.buffer, at })
    }
}

/// A value that its key opened; the plaintext begins at `at`.
struct Authentic<'k> {
    suite: Suite,
    key_id: KeyId,
    fallback: Option<&'k Arc<AtomicU64>>,
    buffer: Vec<u8>,
    at: usize,
}

/// What a seal draws: a half of a nonce, and an id for a session that has none. In one call, for each seal and not
/// before: what was drawn ahead would be used twice by a process that is forked in between, or restored from a snapshot.
pub(crate) fn draw(suite: Suite, id: Option<SessionId>) -> Option<(SessionId, [u8; HALF])> {
    match (id, suite) {
        (Some(id), suite) => Some((id, half_for(suite)?)),
        (None, _) => {
            let bytes: [u8; 16 + HALF] = random()?;
            let (id, half) = bytes.split_first_chunk()?;
            Some((SessionId(*id), *half.first_chunk()?))
        }
    }
}

fn half_for(suite: Suite) -> Option<[u8; HALF]> {
    match suite {
        Suite::Xaes256Gcm => random(),
        Suite::HmacSha256 => Some([0; HALF]),
    }
}

impl<T: Default + Serialize + DeserializeOwned> SessionCodec<T> {
    /// Decodes what arrived, and asks `accept_if`. Runs the user's code.
    pub(crate) fn load(&self, arrival: &mut Arrival, cookies: &Cookies, now: u64) -> Loaded<T> {
        while let Some(candidate) = arrival.found.candidates.next() {
            match self.decode_candidate(candidate, arrival.keys.primary_id()) {
                Err(kind) => arrival.found.rejected = kind.further(arrival.found.rejected),
                Ok(loaded) => {
                    if self.accepts(&loaded) {
                        return loaded;
                    }
                    // The winner alone is judged: an older cookie is no way around a refusal.
                    arrival.found.rejected = Some(RejectedKind::Refused);
                    break;
                }
            }
        }
        // What is sealed and does not open may be newer than what the old application left.
        let sealed = arrival.found.evidence.sealed;
        for import in self.imports.iter().filter(|import| !sealed && now < import.until) {
            match self.import(import, arrival, cookies, now) {
                Ok(Some(loaded)) => return loaded,
                Ok(None) => {}
                Err(kind) => {
                    arrival.found.rejected = kind.further(arrival.found.rejected);
                    // As above: another format is no way around a refusal.
                    if kind == RejectedKind::Refused {
                        break;
                    }
                }
            }
        }
        self.fresh(arrival.found.rejected.map_or(Incoming::Absent, Incoming::Rejected))
    }

    fn accepts(&self, loaded: &Loaded<T>) -> bool {
        self.accept_if.as_ref().zip(loaded.origin.as_ref()).is_none_or(
            |(accept_if, Origin { meta, suite, key_id, .. })| {
                accept_if(&self.describe(meta, *suite, *key_id), &loaded.value)
            },
        )
    }

    /// The session in the cookies of an older format, if any of its first name came in.
    fn import(
        &self,
        import: &Import<T>,
        arrival: &Arrival,
        cookies: &Cookies,
        now: u64,
    ) -> Result<Option<Loaded<T>>, RejectedKind> {
        let mut values = import.finder.find(cookies).map(|value| value.len() <= OldCookies::MAX_VALUE);
        let Some(first_fits) = values.next() else { return Ok(None) };
        if !first_fits && !values.any(|fits| fits) {
            return Err(RejectedKind::TooLong);
        }
        // Old cookies hold no time of ours, so a sign-out counts against all of them.
        if self.marker_time(&arrival.keys, &arrival.found.evidence, cookies).is_some() {
            return Err(RejectedKind::SignedOut);
        }
        let opened = import.format.open(&OldCookies::new(cookies, now));
        let Imported { value, id } = opened.map_err(|kind| match kind {
            // Of those that look at the first one alone, which they were not shown.
            RejectedKind::Malformed if !first_fits => RejectedKind::TooLong,
            kind => kind,
        })?;
        let old_form = self.writes_old_form(None);
        let encoded = self.encode(&value, old_form, 0).map_err(|_| RejectedKind::Payload)?;
        if !self.is_plain(&encoded) && !self.comes_back(&encoded) {
            return Err(RejectedKind::Payload);
        }
        let times = Times { created: IMPORTED, renewed: now, issued: now };
        let meta = Meta { form: self.form(old_form), id: SessionId(id), times, lifetime: Lifetime::Timeouts };
        let origin = Origin {
            meta,
            suite: self.writes,
            key_id: arrival.keys.primary_id(),
            moves: true,
            elsewhere: Some(Elsewhere::OldFormat),
        };
        let loaded = Loaded {
            value,
            incoming: Incoming::Imported,
            origin: Some(origin),
            fallback: None,
            own: Some(encoded.own),
            out: encoded.out,
            resend: None,
        };
        if self.accepts(&loaded) { Ok(Some(loaded)) } else { Err(RejectedKind::Refused) }
    }

    fn decode_candidate(&self, candidate: Candidate, primary: KeyId) -> Result<Loaded<T>, RejectedKind> {
        let Candidate { rank: _, elsewhere, meta, suite, key_id, fallback, payload } = candidate;
        let came_in = meta.form;
        let written = self.schemas.written();
        let older = came_in.schema < written.schema;
        let moves = key_id != primary || older || suite != self.writes || elsewhere.is_some();
        let origin = Some(Origin { meta, suite, key_id, moves, elsewhere });
        let incoming = Incoming::Accepted;
        if came_in.schema == self.schemas.own.schema {
            if came_in.shape != self.schemas.own.shape {
                return Err(RejectedKind::Payload);
            }
            let value = decode(payload.bytes()).ok_or(RejectedKind::Payload)?;
            return Ok(Loaded {
                value,
                incoming,
                origin,
                fallback,
                own: Some(payload),
                out: None,
                resend: None,
            });
        }
        let (form, migrate) = (self.schemas.migrations.iter())
            .find(|(form, _)| form.schema == came_in.schema)
            .ok_or(RejectedKind::Schema)?;
        if came_in.shape != form.shape {
            return Err(RejectedKind::Payload);
        }
        let value = migrate(payload.bytes()).ok_or(RejectedKind::Payload)?;
        let old_form = self.writes_old_form(Some(came_in.schema));
        let Encoded { own, out } = self.encode(&value, old_form, 0).map_err(|_| RejectedKind::Payload)?;
        let resend = (!older).then_some((came_in, payload));
        Ok(Loaded { value, incoming, origin, fallback, own: Some(own), out, resend })
    }

    /// A session from `T::default()`.
    pub(crate) fn fresh(&self, incoming: Incoming) -> Loaded<T> {
        let value = T::default();
        let encoded = self.encode(&value, self.writes_old_form(None), 0).ok();
        let (own, out) = encoded.map_or((None, None), |Encoded { own, out }| (Some(own), out));
        Loaded { value, incoming, origin: None, fallback: None, own, out, resend: None }
    }

    /// Encodes a value in `T`'s own form and, where that is what is written, in the older one.
    /// `hint`: how long it will be, more or less.
    pub(crate) fn encode(&self, value: &T, old_form: bool, hint: usize) -> Result<Encoded, NotEncodable> {
        let own = Payload::encode(value, &self.schemas.check.known, hint)?;
        let out = match &self.schemas.write_as {
            Some(writer) if old_form => Some((writer.encode)(value, &writer.check.known, hint)?),
            _ => None,
        };
        Ok(Encoded { own, out })
    }

    /// Whether an encoded value comes back as it was. Runs the user's code.
    pub(crate) fn comes_back(&self, encoded: &Encoded) -> bool {
        self.checks(encoded).all(|(check, payload)| (check.again)(payload))
    }

    /// Whether it does so in any case.
    pub(crate) fn is_plain(&self, encoded: &Encoded) -> bool {
        self.checks(encoded).all(|(check, payload)| check.is_plain(payload))
    }

    fn checks<'e>(&'e self, encoded: &'e Encoded) -> impl Iterator<Item = (&'e Check, &'e Payload)> {
        let out = encoded.out.as_ref().zip(self.schemas.write_as.as_ref());
        let out = out.map(|(payload, writer)| (&writer.check, payload));
        out.into_iter().chain([(&self.schemas.check, &encoded.own)])
    }

    /// A copy of the value from its stored encoding.
    pub(crate) fn decode_own(&self, payload: &[u8]) -> Option<T> {
        decode(payload)
    }

    /// Opens the session in the `Cookie` headers of a request that came in at `now`.
    ///
    /// A cookie that does not open is no error: see [`Opened::incoming`]. The hook `accept_if`
    /// is asked, as by the layer; counters and `tracing` events are the layer's.
    pub fn open(&self, headers: &HeaderMap, now: SystemTime) -> Opened<T> {
        let cookies = Cookies::of(headers);
        let now = lifetime::from_system(now);
        let mut arrival = self.arrive(&cookies, now);
        let mut evidence = arrival.found.evidence;
        evidence.marker = self.marker_time(&arrival.keys, &evidence, &cookies);
        self.note_old_cookies(&mut evidence, &cookies);
        let loaded = self.load(&mut arrival, &cookies, now);
        let elsewhere = loaded.origin.as_ref().and_then(|origin| origin.elsewhere);
        let session = loaded.origin.map(|Origin { meta, suite, key_id, .. }| {
            let meta = self.describe(&meta, suite, key_id);
            (loaded.value, meta)
        });
        Opened { session, incoming: loaded.incoming, evidence, elsewhere }
    }

    /// Seals a session into a cookie, under the primary key.
    ///
    /// `previous`: what is known of the session that is written again, which keeps its id, times
    /// and lifetime; without it the session is new, and begins after `marker`
    /// ([`Opened::marker`], or [`Removals::marker`] if the response signs out as well).
    ///
    /// # Errors
    ///
    /// [`UpdateError::TooLarge`], [`UpdateError::NotEncodable`], [`UpdateError::Random`], and
    /// [`UpdateError::Expired`] if the previous session's absolute timeout or own lifetime is over.
    pub fn seal(
        &self,
        value: &T,
        previous: Option<&SessionMeta>,
        marker: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<SetCookie, UpdateError> {
        let now = lifetime::from_system(now);
        let old_form = self.writes_old_form(previous.map(SessionMeta::schema));
        let encoded = self.encode(value, old_form, 0).map_err(UpdateError::NotEncodable)?;
        // Before the value is decoded again: one that is far too large costs no more than its encoding.
        let len = encoded.out.as_ref().unwrap_or(&encoded.own).len();
        if len > self.max_payload {
            return Err(UpdateError::TooLarge(self.too_large(len)));
        }
        if !self.is_plain(&encoded) && !self.comes_back(&encoded) {
            return Err(UpdateError::NotEncodable(NotEncodable::RoundTrip));
        }
        let payload = encoded.out.unwrap_or(encoded.own);
        let form = self.form(old_form);
        let (id, times, lifetime) = match previous {
            Some(previous) => {
                let Meta { id, times, lifetime, .. } = previous.meta;
                if now >= self.rules.absolute_deadline(times, lifetime) {
                    return Err(UpdateError::Expired);
                }
                (Some(id), Times { issued: now.max(self.issued_after(times)), ..times }, lifetime)
            }
            None => {
                let created = Self::created_after(marker.map(lifetime::from_system), now);
                (None, Times { created, renewed: now, issued: now }, Lifetime::Timeouts)
            }
        };
        let (id, half) = draw(self.writes, id).ok_or(UpdateError::Random)?;
        let meta = Meta { form, id, times, lifetime };
        self.seal_session(&self.keys.keys(), &meta, &half, payload, now).ok_or(UpdateError::Random)
    }

    /// The removal cookies that go with a sealed session: of what it came in, if that was another identity or an
    /// older format, and of what stood beside it.
    pub fn superseded(&self, opened: &Opened<T>) -> Vec<SetCookie> {
        let left_behind = self.left_behind(&opened.evidence, opened.elsewhere, true);
        left_behind.into_iter().map(|(cookie, _)| cookie).collect()
    }

    /// The cookies that sign out: removals for what came in, for each `formerly` and for each old cookie, and, if an
    /// authentic session or an old cookie came in, the sign-out marker with them.
    pub fn removals(&self, opened: &Opened<T>, now: SystemTime) -> Removals {
        let departure = self.depart(&self.keys.keys(), &opened.evidence, lifetime::from_system(now));
        let own = (opened.evidence.ours > 0).then(|| self.session.removal());
        Removals {
            cookies: own.into_iter().chain(departure.cookies.into_iter().map(|(cookie, _)| cookie)).collect(),
            marker: departure.marker.map(lifetime::to_system),
        }
    }
}

/// What [`SessionCodec::open`] found in a request.
pub struct Opened<T> {
    session: Option<(T, SessionMeta)>,
    incoming: Incoming,
    evidence: Evidence,
    elsewhere: Option<Elsewhere>,
}

impl<T> Opened<T> {
    /// The session, if one was accepted.
    pub fn value(&self) -> Option<&T> {
        self.session.as_ref().map(|(value, _)| value)
    }
    /// The session, taken out, to change it and seal it again.
    pub fn into_value(self) -> Option<T> {
        self.session.map(|(value, _)| value)
    }
    /// What is known of it beside its data.
    pub fn meta(&self) -> Option<&SessionMeta> {
        self.session.as_ref().map(|(_, meta)| meta)
    }
    /// What became of the cookie that came in.
    pub fn incoming(&self) -> Incoming {
        self.incoming
    }
    /// The time of the latest sign-out marker that came in.
    pub fn marker(&self) -> Option<SystemTime> {
        self.evidence.marker.map(lifetime::to_system)
    }
}

impl<T> fmt::Debug for Opened<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}

/// The cookies that sign out.
#[derive(Debug)]
#[must_use]
pub struct Removals {
    cookies: Vec<SetCookie>,
    marker: Option<SystemTime>,
}

impl Removals {
    /// All of them, the markers last.
    pub fn cookies(&self) -> &[SetCookie] {
        &self.cookies
    }
    /// The marker's time, for [`SessionCodec::seal`] in the same response. `None` where nothing
    /// authentic came in, or the operating system gave no randomness.
    pub fn marker(&self) -> Option<SystemTime> {
        self.marker
    }
}

/// The cookies that sign out, each with the template that it was rendered from.
#[derive(Default)]
pub(crate) struct Departure<'c> {
    pub(crate) cookies: Vec<(SetCookie, &'c Template)>,
    pub(crate) marker: Option<u64>,
    pub(crate) no_randomness: bool,
}
