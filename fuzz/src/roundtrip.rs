//! What is accepted comes back equal, in a cookie that a browser keeps, and opens nowhere else.
//!
//! The input is a session, any settings or a preset, and what is then done to the cookie. A session with
//! most of what serde has meets presets alone, since to look at such a type takes `build()` long.

use arbitrary::{Arbitrary, Result, Unstructured};
use cookie_session::{
    Incoming, Key, KeyRing, Lifetime, MAX_SET_COOKIE, Mode, RejectedKind, SameSite, Session, SessionBuilder,
    SessionCodec, SessionLayer, SetCookie, TooLarge, UpdateError,
    internal::{frame_emit, frame_parse},
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt::Debug,
    future::ready,
    hash::{BuildHasherDefault, DefaultHasher},
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

#[derive(Debug, Arbitrary)]
struct Input {
    case: Case,
    lifetime: Option<Wish>,
    /// Where the cookie is changed.
    place: u16,
}

#[derive(Debug, Arbitrary)]
enum Case {
    Preset(u8, Box<Profile>),
    Settings(Settings, Note),
}

#[derive(Clone, Debug, Arbitrary)]
struct Settings {
    signed: bool,
    #[arbitrary(with = token)]
    name: String,
    prefix: Option<Prefix>,
    context: String,
    #[arbitrary(with = |u: &mut Unstructured| choose(u, &["", "", "example.com", "Sub.Example.com", "localhost"]))]
    domain: &'static str,
    #[arbitrary(with = |u: &mut Unstructured| choose(u, &["/", "/", "/shop", "/a b=c,d/\"e\""]))]
    path: &'static str,
    same_site: u8,
    partitioned: bool,
    insecure: bool,
    #[arbitrary(with = |u: &mut Unstructured| u.int_in_range(0..=MAX_SET_COOKIE))]
    below_the_most: usize,
    #[arbitrary(with = seconds)]
    idle: Option<Duration>,
    #[arbitrary(with = seconds)]
    absolute: Option<Duration>,
    #[arbitrary(with = seconds)]
    max_own: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Prefix {
    Host,
    Secure,
    Http,
    HostHttp,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Wish {
    Browser,
    Own(u32),
}

fn token(u: &mut Unstructured) -> Result<String> {
    const TOKEN: &[u8; 77] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    let len = u.int_in_range(1..=80)?;
    (0..len).map(|_| u.choose(TOKEN).map(|c| char::from(*c))).collect()
}

fn choose(u: &mut Unstructured, from: &[&'static str]) -> Result<&'static str> {
    u.choose(from).copied()
}

fn seconds(u: &mut Unstructured) -> Result<Option<Duration>> {
    let seconds: Option<u32> = u.arbitrary()?;
    Ok(seconds.map(|seconds| Duration::from_secs(u64::from(seconds) % (401 * 24 * 60 * 60))))
}

#[derive(Clone, Debug, Default, PartialEq, Arbitrary, Serialize, Deserialize)]
struct Profile {
    user: Option<u64>,
    name: String,
    cart: Vec<Item>,
    notes: BTreeMap<String, i64>,
    theme: Theme,
    place: (i16, bool, char),
    ratio: Bits,
    big: i128,
    token: [u8; 4],
    table: Vec<Vec<Vec<u16>>>,
    history: Vec<Option<Box<Item>>>,
    unordered: HashMap<u8, Theme, BuildHasherDefault<DefaultHasher>>,
    #[arbitrary(default)]
    filler: String,
}

#[derive(Clone, Debug, Default, PartialEq, Arbitrary, Serialize, Deserialize)]
struct Item {
    id: u32,
    options: Vec<(String, Option<i8>)>,
    unit: (),
    maybe: Option<Option<bool>>,
}

#[derive(Clone, Debug, Default, PartialEq, Arbitrary, Serialize, Deserialize)]
enum Theme {
    #[default]
    Light,
    Dark {
        contrast: u8,
        accents: Vec<u16>,
    },
    Named(String),
    Mixed(u128, usize),
}

#[derive(Clone, Debug, Default, PartialEq, Arbitrary, Serialize, Deserialize)]
struct Note {
    text: Option<String>,
    #[arbitrary(default)]
    filler: String,
}

/// A session with a field that takes as many bytes as are asked for.
trait Data: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + 'static {
    fn filler(&mut self) -> &mut String;
}

impl Data for Profile {
    fn filler(&mut self) -> &mut String {
        &mut self.filler
    }
}

impl Data for Note {
    fn filler(&mut self) -> &mut String {
        &mut self.filler
    }
}

/// Numbers that equal themselves, NaN too.
#[derive(Clone, Debug, Default, Arbitrary, Serialize, Deserialize)]
struct Bits(f64, f32);

impl PartialEq for Bits {
    fn eq(&self, other: &Bits) -> bool {
        (self.0.to_bits(), self.1.to_bits()) == (other.0.to_bits(), other.1.to_bits())
    }
}

static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| {
    [
        "Lq1sEq5fYxvVwXb5Yq0oB2b8o0pJm9wq0W3Jc3mG1xk=",
        "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3",
    ]
    .map(|key| key.parse().expect("a good key"))
});

static PRESETS: LazyLock<[(Settings, SessionLayer<Profile>); 4]> = LazyLock::new(|| {
    let usual = Settings {
        signed: false,
        name: "session".to_owned(),
        prefix: Some(Prefix::HostHttp),
        context: "shop".to_owned(),
        domain: "",
        path: "/",
        same_site: 0,
        partitioned: false,
        insecure: false,
        below_the_most: 0,
        idle: None,
        absolute: None,
        max_own: None,
    };
    let signed = Settings { signed: true, ..usual.clone() };
    let small = Settings { below_the_most: MAX_SET_COOKIE - 600, ..usual.clone() };
    let local =
        Settings { prefix: None, insecure: true, domain: "localhost", path: "/shop", ..signed.clone() };
    [usual, signed, small, local].map(|settings| {
        let layer = settings.builder(0).build().expect("good settings");
        (settings, layer)
    })
});

impl Settings {
    fn mode(&self) -> Mode {
        if self.signed { Mode::Signed } else { Mode::Encrypted }
    }

    fn name(&self) -> String {
        let prefix = match self.prefix {
            None => "",
            Some(Prefix::Host) => "__Host-",
            Some(Prefix::Secure) => "__Secure-",
            Some(Prefix::Http) => "__Http-",
            Some(Prefix::HostHttp) => "__Host-Http-",
        };
        format!("{prefix}{}", self.name)
    }

    fn max_set_cookie(&self) -> usize {
        MAX_SET_COOKIE - self.below_the_most
    }

    /// The digits of the longest `Max-Age` that a session can have.
    fn digits(&self) -> usize {
        let day = Duration::from_secs(24 * 60 * 60);
        let absolute = self.absolute.unwrap_or(14 * day);
        let idle = self.idle.unwrap_or(day).min(absolute);
        idle.max(self.max_own.unwrap_or(absolute)).as_secs().to_string().len()
    }

    fn builder<T>(&self, key: usize) -> SessionBuilder<T> {
        let mut builder = SessionLayer::builder(KeyRing::new(KEYS[key].clone(), []).expect("one key"))
            .name(self.name())
            .context(&self.context)
            .mode(self.mode())
            .path(self.path)
            .same_site([SameSite::Lax, SameSite::Strict, SameSite::None][usize::from(self.same_site % 3)])
            .max_set_cookie(self.max_set_cookie())
            .clock(noon);
        if !self.domain.is_empty() {
            builder = builder.domain(self.domain);
        }
        if self.partitioned {
            builder = builder.partitioned();
        }
        if self.insecure {
            builder = builder.insecure_for_local_http();
        }
        if let Some(idle) = self.idle {
            builder = builder.idle_timeout(idle);
        }
        if let Some(absolute) = self.absolute {
            builder = builder.absolute_timeout(absolute);
        }
        if let Some(max_own) = self.max_own {
            builder = builder.max_own_lifetime(max_own);
        }
        builder
    }
}

pub fn run(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    match &input.case {
        Case::Preset(preset, profile) => {
            let (settings, layer) = &PRESETS[usize::from(preset % 4)];
            all(settings, layer, &**profile, &input);
        }
        Case::Settings(settings, note) => match settings.builder(0).build() {
            Ok(layer) => all(settings, &layer, note, &input),
            Err(error) => assert!(!error.to_string().is_empty()),
        },
    }
}

fn all<T: Data>(settings: &Settings, layer: &SessionLayer<T>, value: &T, input: &Input) {
    let sealed = seal(layer.codec(), settings, value);
    through_the_layer(layer, value, input.lifetime, sealed.is_ok());
    if let Ok(cookie) = &sealed {
        changed(layer.codec(), cookie, usize::from(input.place));
        elsewhere(settings, cookie);
    }
    at_the_limit(layer.codec(), settings, value.clone());
}

/// Seals, opens and compares.
fn seal<T: Data>(
    codec: &SessionCodec<T>,
    settings: &Settings,
    value: &T,
) -> std::result::Result<SetCookie, TooLarge> {
    match codec.seal(value, None, None, noon()) {
        Ok(cookie) => {
            assert!(cookie.header().len() <= settings.max_set_cookie());
            assert!(cookie.value().len() <= 4096);
            let opened = codec.open(&request(cookie.request_header()), noon());
            assert_eq!(opened.incoming(), Incoming::Accepted);
            assert_eq!(opened.value(), Some(value));
            assert_eq!(opened.meta().map(|meta| meta.mode()), Some(settings.mode()));
            Ok(cookie)
        }
        Err(UpdateError::TooLarge(error)) => {
            let text = ((error.payload() + error.overhead()) * 4).div_ceil(3);
            assert_eq!(error.name(), settings.name().len() + 1);
            assert_eq!(error.needed(), error.name() + text + error.attributes());
            assert_eq!(error.max_set_cookie(), settings.max_set_cookie());
            assert!(error.needed() > settings.max_set_cookie());
            Err(error)
        }
        Err(error) => panic!("{error}"),
    }
}

/// A handler is told what `seal` says, and what it was told holds.
fn through_the_layer<T: Data>(layer: &SessionLayer<T>, value: &T, lifetime: Option<Wish>, fits: bool) {
    let lifetime = match lifetime {
        None => Lifetime::Timeouts,
        Some(Wish::Browser) => Lifetime::Browser,
        Some(Wish::Own(seconds)) => Lifetime::Own(Duration::from_secs(seconds.into())),
    };
    let (response, (lives, stored)) = serve(layer, HeaderMap::new(), |session| {
        let lives = session.set_lifetime(lifetime);
        let stored = session.set(value.clone());
        assert_eq!(session.get(), if stored.is_ok() { value.clone() } else { T::default() });
        (lives, stored)
    });
    match &stored {
        Ok(()) => assert!(fits),
        Err(error) => assert!(matches!(error, UpdateError::TooLarge(_)) && !fits, "{error}"),
    }
    if let Err(error) = &lives {
        let told =
            matches!(error, UpdateError::LifetimeTooLong { .. } | UpdateError::LifetimeTooShort { .. });
        assert!(told && matches!(lifetime, Lifetime::Own(_)), "{error}");
    }
    let sent: Vec<&HeaderValue> = response.headers().get_all(SET_COOKIE).iter().collect();
    let [sent] = sent[..] else {
        assert!(sent.is_empty() && (stored.is_err() || *value == T::default()));
        return;
    };
    let sent = sent.to_str().expect("ASCII");
    assert!(sent.len() <= MAX_SET_COOKIE);
    let pair = sent.split(';').next().expect("a first part");
    let opened = layer.codec().open(&request(HeaderValue::from_str(pair).expect("ASCII")), noon());
    let fresh = T::default();
    assert_eq!(opened.value(), Some(if stored.is_ok() { value } else { &fresh }));
    let meta = opened.meta().expect("accepted");
    assert_eq!(meta.lifetime(), if lives.is_ok() { lifetime } else { Lifetime::Timeouts });
    let left = meta.expires_at().duration_since(noon()).expect("it lives");
    let max_age = sent.split("; ").find_map(|attribute| attribute.strip_prefix("Max-Age="));
    let expected =
        (meta.lifetime() != Lifetime::Browser).then(|| left.as_millis().div_ceil(1000).to_string());
    assert_eq!(max_age, expected.as_deref());
}

/// No bit can be changed, nothing cut off or put behind.
fn changed<T: Data>(codec: &SessionCodec<T>, cookie: &SetCookie, place: usize) {
    let rejected = |value: &[u8]| {
        let text = [cookie.name().as_bytes(), b"=", value].concat();
        // What no header can hold comes from nowhere.
        let header = HeaderValue::from_bytes(&text).ok()?;
        let opened = codec.open(&request(header), noon());
        let Incoming::Rejected(kind) = opened.incoming() else {
            panic!("{:?} after a change", opened.incoming())
        };
        Some(kind)
    };
    let text = cookie.value().as_bytes();
    let (suite, id, body) = frame_parse(text).expect("what was sealed parses");
    let frame = [&[suite], &id[..], &body].concat();
    let emit = |frame: &[u8]| match frame {
        [suite, a, b, c, d, body @ ..] => frame_emit(*suite, [*a, *b, *c, *d], body),
        _ => unreachable!("a frame has five bytes"),
    };
    // Suite, key id, the body's first, the last of tag or MAC, and one that the input chooses.
    for at in [0, 1 + place % 4, 5, frame.len() - 1, place % frame.len()] {
        for bit in 0..8 {
            let mut frame = frame.clone();
            frame[at] ^= 1 << bit;
            let kind = match at {
                0 => RejectedKind::SuiteNotAccepted,
                1..5 => RejectedKind::UnknownKey,
                _ => RejectedKind::NotAuthentic,
            };
            assert_eq!(rejected(&emit(&frame)), Some(kind));
        }
    }
    for at in [text.len() - 1, place % text.len()] {
        for bit in 0..8 {
            let mut text = text.to_vec();
            text[at] ^= 1 << bit;
            rejected(&text);
        }
    }
    rejected(&text[..place % text.len()]);
    rejected(&[text, b"A"].concat());
    rejected(&emit(&[&frame[..], &[place as u8]].concat()));
}

/// Under another name, context, key or mode it does not open. (There the type is another one too,
/// which is not asked before authenticity.)
fn elsewhere(settings: &Settings, cookie: &SetCookie) {
    let other = |change: &dyn Fn(&mut Settings), key, kind| {
        let mut settings = settings.clone();
        change(&mut settings);
        // Not every change leaves settings that are good.
        let Ok(layer) = settings.builder::<u8>(key).build() else { return };
        let header = format!("{}={}", settings.name(), cookie.value());
        let header = HeaderValue::from_str(&header).expect("ASCII");
        let opened = layer.codec().open(&request(header), noon());
        assert_eq!(opened.incoming(), Incoming::Rejected(kind));
    };
    other(&|settings| settings.name.push('x'), 0, RejectedKind::NotAuthentic);
    other(&|settings| settings.context.push('x'), 0, RejectedKind::NotAuthentic);
    other(&|settings| settings.signed ^= true, 0, RejectedKind::SuiteNotAccepted);
    other(&|_| {}, 1, RejectedKind::UnknownKey);
    // Name and context do not run into each other.
    if let Some(first) = settings.context.chars().next() {
        let moved = |settings: &mut Settings| {
            settings.context.remove(0);
            settings.name.push(first);
        };
        other(&moved, 0, RejectedKind::NotAuthentic);
    }
    // The same settings but for the type: so it was none of them that failed.
    other(&|_| {}, 0, RejectedKind::Payload);
}

/// Around the largest session that fits, one byte decides.
fn at_the_limit<T: Data>(codec: &SessionCodec<T>, settings: &Settings, mut value: T) {
    *value.filler() = "x".repeat(5000);
    let too_large = seal(codec, settings, &value).expect_err("more than a cookie has");
    let largest = (5000 + too_large.max_payload()).checked_sub(too_large.payload());
    // Below, the filler's length would be a byte shorter too.
    let Some(largest) = largest.filter(|largest| *largest > 128) else { return };
    for (len, fits) in [(largest - 1, true), (largest, true), (largest + 1, false)] {
        *value.filler() = "x".repeat(len);
        let sealed = seal(codec, settings, &value);
        assert_eq!(sealed.is_ok(), fits, "{len} of {largest}");
        // With the longest `Max-Age` too, which a re-issue or another lifetime may bring.
        if let Ok(cookie) = sealed {
            let max_age = cookie.attributes().rsplit_once('=').expect("it has a Max-Age").1;
            let longest = cookie.header().len() - max_age.len() + settings.digits();
            assert!(longest <= settings.max_set_cookie());
            assert_eq!(longest - cookie.name().len() - 1 - cookie.value().len(), too_large.attributes());
        }
    }
}

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn request(header: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, header)])
}

/// One request through the layer. Nothing in it waits, so no runtime is needed.
fn serve<T: Data, R>(
    layer: &SessionLayer<T>,
    headers: HeaderMap,
    handler: impl FnOnce(Session<T>) -> R,
) -> (Response<()>, R) {
    let (mut handler, mut result) = (Some(handler), None);
    let service = service_fn(|request: Request<()>| {
        let session = Session::from_parts(&request.into_parts().0).expect("the layer is there");
        result = handler.take().map(|handler| handler(session));
        ready(Ok::<_, Infallible>(Response::new(())))
    });
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    let response = {
        let mut future = pin!(layer.layer(service).oneshot(request));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => response,
            Poll::Pending => panic!("nothing here waits"),
        }
    };
    (response, result.expect("the handler ran"))
}
