//! Whatever stands in a `Cookie` header: it never panics and never opens, unless it was sealed here;
//! and what was sealed here is judged as the wire format says, whatever its plaintext.
//!
//! The first byte of the input chooses mode and type: an even one is encrypted, and from `0` on each
//! pair stands for a type of session, in the order of `run`. The rest is tried as a header, as a
//! value, and as plaintexts that authenticate: a whole one, one with the type's own schema and shape
//! put in, the payload behind a good meta, and a sign-out marker's.

use cookie_session::{
    Incoming, Key, KeyRing, Mode, NotEncodable, RejectedKind, SessionCodec, SessionLayer, SessionMap,
    UpdateError,
    internal::{frame_emit, frame_parse, seal_marker, seal_session},
};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    hash::{BuildHasherDefault, DefaultHasher},
    net::IpAddr,
    num::NonZeroU16,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What is asked of a session's type: one that comes back equal.
trait Data: Default + Debug + PartialEq + Serialize + DeserializeOwned + Send + 'static {
    /// Its own methods on a value that was made of arbitrary bytes.
    fn use_it(&self) {}
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    user: Option<u64>,
    roles: Vec<String>,
    nested: Vec<Option<(u8, i64)>>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mixed {
    kinds: BTreeMap<String, Kind>,
    unordered: HashMap<u8, i128, BuildHasherDefault<DefaultHasher>>,
    ratio: Bits,
    letter: char,
    token: [u8; 4],
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    Unit,
    Newtype(Option<Box<Kind>>),
    Tuple(bool, f32),
    Struct {
        x: i16,
        y: Vec<u16>,
    },
}

/// A number that equals itself, NaN too.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Bits(f64);

impl PartialEq for Bits {
    fn eq(&self, other: &Bits) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// A type inside itself. How deep it goes is its owner's business: the stack of a test is 2 MiB.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tree {
    leaf: Option<u8>,
    children: Vec<Tree>,
}

/// Types that refuse some of what decodes.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Checked {
    port: Option<NonZeroU16>,
    from: Option<IpAddr>,
    within: Duration,
    flag: bool,
}

impl Data for Account {}
impl Data for Mixed {}
impl Data for Tree {}
impl Data for String {}
impl Data for Checked {}
impl Data for SessionMap {
    fn use_it(&self) {
        let mut copy = self.clone();
        for key in self.keys() {
            let _ = self.get::<u64>(key);
            let _ = self.get::<&str>(key);
            let _ = self.get::<Vec<()>>(key);
            let _ = self.get::<Account>(key);
            let _ = self.get::<BTreeMap<i32, Option<Kind>>>(key);
            if let Ok(Some(value)) = self.get::<serde_json::Value>(key) {
                copy.insert(key, &value).expect("what was read can be stored");
                assert_eq!(copy.get(key), Ok(Some(value)));
            }
        }
    }
}

type Layers<T> = LazyLock<[SessionLayer<T>; 2]>;

static ACCOUNT: Layers<Account> = LazyLock::new(layers);
static MIXED: Layers<Mixed> = LazyLock::new(layers);
static TREE: Layers<Tree> = LazyLock::new(layers);
static TEXT: Layers<String> = LazyLock::new(layers);
static MAP: Layers<SessionMap> = LazyLock::new(layers);
static CHECKED: Layers<Checked> = LazyLock::new(layers);

fn layers<T: Data>() -> [SessionLayer<T>; 2] {
    [Mode::Encrypted, Mode::Signed].map(|mode| {
        let key: Key = "Lq1sEq5fYxvVwXb5Yq0oB2b8o0pJm9wq0W3Jc3mG1xk=".parse().expect("a good key");
        let keys = KeyRing::new(key, []).expect("one key");
        let both = SessionLayer::builder(keys).name("id").mode(mode);
        let both = both.accept_mode(Mode::Encrypted).accept_mode(Mode::Signed);
        let millis = Duration::from_millis;
        let timed = both.idle_timeout(millis(IDLE)).absolute_timeout(millis(ABSOLUTE));
        timed.max_own_lifetime(millis(MAX_OWN)).build().expect("good settings")
    })
}

// In milliseconds, as all times here.
const NOW: u64 = 1_800_000_000_000;
const IDLE: u64 = 60 * 60 * 1000;
const ABSOLUTE: u64 = 24 * IDLE;
const MAX_OWN: u64 = 30 * ABSOLUTE;
const SKEW: u64 = 60 * 1000;
const LATEST: u64 = (1 << 48) - 1;

const NONCE: [u8; 24] = *b"any: it is not looked at";
const META: usize = 45;

pub fn run(data: &[u8]) {
    let Some((&selector, rest)) = data.split_first() else { return };
    let mode = usize::from(selector & 1);
    match selector >> 1 & 7 {
        1 => all(&MIXED[mode], rest),
        2 => all(&TREE[mode], &rest[..rest.len().min(META + 256)]),
        3 => all(&TEXT[mode], rest),
        4 => all(&MAP[mode], rest),
        5 => all(&CHECKED[mode], rest),
        _ => all(&ACCOUNT[mode], rest),
    }
}

fn all<T: Data>(layer: &SessionLayer<T>, data: &[u8]) {
    let codec = layer.codec();
    garbage(codec, data);
    marker(codec, data);

    let form = form_of(layer);
    authentic(codec, data, &form);
    if let Some((meta, payload)) = data.split_at_checked(META) {
        authentic(codec, &[&meta[..1], &form, &meta[7..], payload].concat(), &form);
    }
    let now = &NOW.to_le_bytes()[..6];
    authentic(codec, &[&[0], &form[..], &[7; 16], now, now, now, &[0; 4], data].concat(), &form);
}

/// Schema and shape, as they stand in the plaintext.
fn form_of<T>(layer: &SessionLayer<T>) -> [u8; 6] {
    let [a, b, c, d] = layer.shape().to_bytes();
    [1, 0, a, b, c, d]
}

/// What nobody sealed: it opens nothing, and hides no good session.
fn garbage<T: Data>(codec: &SessionCodec<T>, data: &[u8]) {
    for prefix in [&b""[..], b"id=", b"id-out="] {
        let Some(request) = request(&[prefix, data]) else { continue };
        let opened = codec.open(&request, now());
        assert_ne!(opened.incoming(), Incoming::Accepted);
        assert!(opened.value().is_none() && opened.meta().is_none() && opened.marker().is_none());
        // Signing out works whatever came in, and makes no marker of garbage.
        let removals = codec.removals(&opened, now());
        assert!(removals.marker().is_none() && removals.cookies().len() <= 1);
        let ours = opened.incoming() != Incoming::Absent;
        assert_eq!(removals.cookies().len(), usize::from(ours));
    }
    // What names the key of the ring gets as far as its tag or MAC, if it is long enough to have one.
    let good = codec.seal(&T::default(), None, None, now()).expect("it fits");
    let (_, key_id, _) = frame_parse(good.value().as_bytes()).expect("what was sealed parses");
    for (suite, least) in [(1, 24 + 16), (2, 32)] {
        let value = frame_emit(suite, key_id, data);
        let kind = match (value.len(), data.len()) {
            (4097.., _) => RejectedKind::TooLong,
            (_, len) if len < least => RejectedKind::Malformed,
            _ => RejectedKind::NotAuthentic,
        };
        let request = request(&[b"id=", &value]).expect("base64url");
        assert_eq!(codec.open(&request, now()).incoming(), Incoming::Rejected(kind));
    }
    let good = good.request_header();
    for name in ["id-out=", "else="] {
        let beside = [good.as_bytes(), b"; ", name.as_bytes(), data];
        if let Some(request) = request(&beside) {
            assert_eq!(codec.open(&request, now()).incoming(), Incoming::Accepted);
        }
    }
}

/// A plaintext that authenticates as a session.
fn authentic<T: Data>(codec: &SessionCodec<T>, plaintext: &[u8], form: &[u8; 6]) {
    let value = seal_session(codec, &NONCE, plaintext).expect("less than GCM's limit");
    let request_with = |marker: &str| request(&[b"id=", value.as_bytes(), b"; id-out=", marker.as_bytes()]);
    let opened = codec.open(&request_with("").expect("base64url"), now());
    let judged = judge(plaintext, form);
    let too_long = value.len() > 4096;
    match opened.incoming() {
        kind if too_long => assert_eq!(kind, Incoming::Rejected(RejectedKind::TooLong)),
        Incoming::Accepted => assert_eq!(judged, Ok(())),
        Incoming::Rejected(RejectedKind::Payload) if judged.is_ok() => {}
        kind => assert_eq!(Err(kind), judged.map_err(Incoming::Rejected)),
    }

    // Signing out holds against whatever has a time of creation, whether it decodes or not.
    let removals = codec.removals(&opened, now());
    let created = read_meta(plaintext).filter(|_| !too_long).map(|meta| meta.created);
    assert_eq!(removals.marker(), created.map(|created| time(created.max(NOW))));
    assert_eq!(removals.cookies().len(), 1 + usize::from(created.is_some()));
    if let Some(marker) = removals.cookies().get(1) {
        let again = codec.open(&request_with(marker.value()).expect("base64url"), now());
        assert_ne!(again.incoming(), Incoming::Accepted);
        assert_eq!(again.marker(), removals.marker());
    }

    let Some((value, meta)) = opened.value().zip(opened.meta()) else {
        assert_ne!(opened.incoming(), Incoming::Accepted);
        return;
    };
    value.use_it();
    // All of the payload was needed, and nothing else.
    for other in [&[plaintext, &[0]].concat()[..], &plaintext[..plaintext.len() - 1]] {
        let value = seal_session(codec, &NONCE, other).expect("less than GCM's limit");
        let request = request(&[b"id=", value.as_bytes()]).expect("base64url");
        let kind = if value.len() > 4096 { RejectedKind::TooLong } else { RejectedKind::Payload };
        assert_eq!(codec.open(&request, now()).incoming(), Incoming::Rejected(kind));
    }
    match codec.seal(value, Some(meta), None, now()) {
        Ok(cookie) => {
            let again = codec.open(&HeaderMap::from_iter([(COOKIE, cookie.request_header())]), now());
            assert_eq!(again.value(), Some(value));
            assert_eq!(
                again.meta().map(|meta| (meta.id(), meta.lifetime())),
                Some((meta.id(), meta.lifetime()))
            );
        }
        // What comes in may be longer than what goes out, and encodes anew to no more than it was.
        Err(UpdateError::TooLarge(error)) => {
            assert!(error.payload() > error.max_payload() && error.payload() <= plaintext.len() - META);
        }
        // Nor is it as deep as what goes out must be: only who has the key could have sealed it.
        Err(UpdateError::NotEncodable(NotEncodable::TooDeep)) => assert!(plaintext.len() - META > 128),
        Err(error) => panic!("{error}"),
    }
}

/// A plaintext that authenticates as a sign-out marker, beside a session that began now.
fn marker<T: Data>(codec: &SessionCodec<T>, plaintext: &[u8]) {
    let good = codec.seal(&T::default(), None, None, now()).expect("it fits").request_header();
    let marker = seal_marker(codec, &NONCE, plaintext).expect("less than GCM's limit");
    let beside = [good.as_bytes(), b"; id-out=", marker.as_bytes()];
    let opened = codec.open(&request(&beside).expect("base64url"), now());
    let signed_out = plaintext.try_into().ok().map(u64::from_le_bytes);
    assert_eq!(opened.marker(), signed_out.map(time));
    let over = signed_out.is_some_and(|signed_out| signed_out >= NOW);
    let rejected = Incoming::Rejected(RejectedKind::SignedOut);
    assert_eq!(opened.incoming(), if over { rejected } else { Incoming::Accepted });

    // A session that begins in the same response as another sign-out outlives both.
    let removals = codec.removals(&opened, now());
    let new = codec.seal(&T::default(), None, removals.marker(), now()).expect("it fits").request_header();
    let marker = removals.cookies().last().expect("a session came in").request_header();
    let jar = [new.as_bytes(), b"; ", marker.as_bytes()];
    let outlives = signed_out.is_none_or(|signed_out| signed_out < LATEST);
    let incoming = codec.open(&request(&jar).expect("base64url"), now()).incoming();
    assert_eq!(incoming, if outlives { Incoming::Accepted } else { rejected });
}

/// What the wire format has in a session's meta.
struct Meta<'p> {
    form: &'p [u8],
    created: u64,
    renewed: u64,
    issued: u64,
    own: u64,
}

fn read_meta(plaintext: &[u8]) -> Option<Meta<'_>> {
    let meta = plaintext.get(..META)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let own = number(&meta[41..]);
    (meta[0] == 0 || meta[0] == 1 && own == 0).then(|| Meta {
        form: &meta[1..7],
        created: number(&meta[23..29]),
        renewed: number(&meta[29..35]),
        issued: number(&meta[35..41]),
        own,
    })
}

/// Steps 8, 9 and 12 of opening; whether the payload decodes is left open.
fn judge(plaintext: &[u8], form: &[u8; 6]) -> Result<(), RejectedKind> {
    let meta = read_meta(plaintext).ok_or(RejectedKind::Payload)?;
    let timeouts = (meta.issued + IDLE).min(meta.renewed + ABSOLUTE);
    let ends = if meta.own == 0 { timeouts } else { meta.renewed + (meta.own * 1000).min(MAX_OWN) };
    if meta.issued > NOW + SKEW {
        Err(RejectedKind::FromTheFuture)
    } else if NOW >= ends {
        Err(RejectedKind::Expired)
    } else if meta.form[..2] != form[..2] {
        Err(RejectedKind::Schema)
    } else if meta.form != form {
        Err(RejectedKind::Payload)
    } else {
        Ok(())
    }
}

/// A request with this `Cookie` header, if a header can have it.
fn request(parts: &[&[u8]]) -> Option<HeaderMap> {
    Some(HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&parts.concat()).ok()?)]))
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

fn now() -> SystemTime {
    time(NOW)
}
