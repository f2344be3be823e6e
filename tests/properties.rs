//! What holds for every value, every setting and every header.

mod common;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::serve;
use cookie_session::{
    Incoming, Key, KeyRing, Lifetime, MAX_SET_COOKIE, MapError, Mode, SameSite, Session, SessionLayer,
    SessionMap, UpdateError,
};
use http::{
    HeaderMap, HeaderValue, Response,
    header::{COOKIE, SET_COOKIE},
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::{Index, select},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

// Values.

/// A session type with most of what a struct can have in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Profile {
    user: Option<u64>,
    name: String,
    cart: Vec<Item>,
    notes: BTreeMap<String, i64>,
    theme: Theme,
    place: (i16, bool, char),
    ratio: f64,
    token: [u8; 4],
    history: Vec<Option<Box<Item>>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Item {
    id: u32,
    options: Vec<(String, Option<i8>)>,
    unit: (),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Theme {
    #[default]
    Light,
    Dark {
        contrast: u8,
        accents: Vec<u16>,
    },
    Named(String),
    Mixed(u8, i128),
}

fn item() -> impl Strategy<Value = Item> {
    let options = vec((".{0,8}", any::<Option<i8>>()), 0..4);
    (any::<u32>(), options).prop_map(|(id, options)| Item { id, options, unit: () })
}

fn theme() -> impl Strategy<Value = Theme> {
    prop_oneof![
        Just(Theme::Light),
        (any::<u8>(), vec(any::<u16>(), 0..9))
            .prop_map(|(contrast, accents)| Theme::Dark { contrast, accents }),
        ".{0,20}".prop_map(Theme::Named),
        any::<(u8, i128)>().prop_map(|(a, b)| Theme::Mixed(a, b)),
    ]
}

/// One in some is larger than a cookie.
fn profile() -> impl Strategy<Value = Profile> {
    let name = prop_oneof![3 => ".{0,40}", 1 => ".{300,1800}"];
    let cart = vec(item(), 0..8);
    let notes = btree_map(".{0,10}", any::<i64>(), 0..6);
    let place = any::<(i16, bool, char)>();
    let ratio = prop::num::f64::NORMAL;
    let history = vec(option::of(item().prop_map(Box::new)), 0..4);
    (any::<Option<u64>>(), name, cart, notes, theme(), place, ratio, any::<[u8; 4]>(), history).prop_map(
        |(user, name, cart, notes, theme, place, ratio, token, history)| Profile {
            user,
            name,
            cart,
            notes,
            theme,
            place,
            ratio,
            token,
            history,
        },
    )
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Encrypted, Mode::Signed])
}

/// A layer of this type for each mode, built once.
struct Layers<T>([SessionLayer<T>; 2]);

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Layers<T> {
    fn new() -> Self {
        Layers([Mode::Encrypted, Mode::Signed].map(|mode| {
            SessionLayer::builder(ring(KEY)).mode(mode).accept_mode(other(mode)).clock(noon).build().unwrap()
        }))
    }

    fn of(&self, mode: Mode) -> &SessionLayer<T> {
        &self.0[usize::from(mode == Mode::Signed)]
    }
}

static PROFILES: LazyLock<Layers<Profile>> = LazyLock::new(Layers::new);
static TEXTS: LazyLock<Layers<String>> = LazyLock::new(Layers::new);
static MAPS: LazyLock<Layers<SessionMap>> = LazyLock::new(Layers::new);

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_sealed_opens_to_the_same_or_is_too_large(mode in mode(), profile in profile()) {
        let codec = PROFILES.of(mode).codec();
        match codec.seal(&profile, None, None, noon()) {
            Ok(cookie) => {
                prop_assert!(cookie.header().len() <= MAX_SET_COOKIE);
                let opened = codec.open(&request(cookie.request_header()), noon());
                prop_assert_eq!(opened.incoming(), Incoming::Accepted);
                prop_assert_eq!(opened.value(), Some(&profile));
                prop_assert_eq!(opened.meta().unwrap().mode(), mode);
            }
            Err(UpdateError::TooLarge(error)) => prop_assert!(error.needed() > MAX_SET_COOKIE),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn what_is_stored_comes_back_with_the_next_request(mode in mode(), profile in profile()) {
        let layer = PROFILES.of(mode);
        let (response, result) = serve(layer, &HeaderMap::new(), |session| {
            let result = session.set(profile.clone());
            (result.is_ok() == (session.get() == profile)).then_some(result)
        });
        let stored = result.expect("stored if and only if it was accepted").is_ok();
        let sent = set_cookies(&response);
        prop_assert_eq!(sent.len(), usize::from(stored && profile != Profile::default()));
        if let Some(sent) = sent.first() {
            prop_assert!(sent.len() <= MAX_SET_COOKIE);
            let (response, (value, incoming)) =
                serve(layer, &jar(sent), |session| (session.get(), session.incoming()));
            prop_assert_eq!(incoming, Incoming::Accepted);
            prop_assert_eq!(value, profile);
            prop_assert!(set_cookies(&response).is_empty());
        }
    }

    #[test]
    fn a_value_with_any_bit_flipped_does_not_open(mode in mode(), profile in profile(), bit: Index, bit_of_text: Index) {
        let codec = PROFILES.of(mode).codec();
        let Ok(cookie) = codec.seal(&profile, None, None, noon()) else { return Ok(()) };
        let opens = |value: &[u8]| {
            let text = [cookie.name().as_bytes(), b"=", value].concat();
            // What no header can hold opens nowhere.
            HeaderValue::from_bytes(&text)
                .is_ok_and(|header| codec.open(&request(header), noon()).incoming() == Incoming::Accepted)
        };
        let flip = |bytes: &mut [u8], bit: Index| {
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        };
        prop_assert!(opens(cookie.value().as_bytes()));
        let mut text = cookie.value().as_bytes().to_vec();
        flip(&mut text, bit_of_text);
        prop_assert!(!opens(&text));
        let mut frame = URL_SAFE_NO_PAD.decode(cookie.value()).unwrap();
        flip(&mut frame, bit);
        prop_assert!(!opens(URL_SAFE_NO_PAD.encode(frame).as_bytes()));
    }

    #[test]
    fn random_bytes_do_not_open(bytes in vec(any::<u8>(), 0..4200)) {
        for mode in [Mode::Encrypted, Mode::Signed] {
            let header = [NAME.as_bytes(), b"=", &bytes].concat();
            if let Ok(header) = HeaderValue::from_bytes(&header) {
                let opened = TEXTS.of(mode).codec().open(&request(header), noon());
                prop_assert_ne!(opened.incoming(), Incoming::Accepted);
            }
        }
    }

    #[test]
    fn random_bytes_behind_a_suite_and_our_key_do_not_open(suite in 1..=2_u8, body in vec(any::<u8>(), 0..3100)) {
        let sealed = TEXTS.of(Mode::Encrypted).codec().seal(&"x".to_owned(), None, None, noon()).unwrap();
        let id = &URL_SAFE_NO_PAD.decode(sealed.value()).unwrap()[1..5];
        let frame = [&[suite], id, &body].concat();
        let header = format!("{NAME}={}", URL_SAFE_NO_PAD.encode(frame)).parse().unwrap();
        let opened = TEXTS.of(Mode::Encrypted).codec().open(&request(header), noon());
        prop_assert!(matches!(opened.incoming(), Incoming::Rejected(_)));
    }
}

// Binding.

/// What a seal is bound to, from few enough values that two are often equal in parts.
#[derive(Clone, Debug, PartialEq)]
struct Binding {
    name: String,
    context: String,
    /// In hexadecimal.
    key: String,
    mode: Mode,
}

fn binding() -> impl Strategy<Value = Binding> {
    let name = prop_oneof!["[ab]{1,2}", "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}"];
    let context = prop_oneof!["[ab]{0,2}", ".{0,20}"];
    let key = prop_oneof![Just(KEY.to_owned()), Just(OTHER_KEY.to_owned()), "[0-9a-f]{64}"];
    (name, context, key, mode()).prop_map(|(name, context, key, mode)| Binding { name, context, key, mode })
}

impl Binding {
    fn layer(&self) -> SessionLayer<String> {
        let builder =
            SessionLayer::builder(ring(&self.key)).context(&self.context).mode(self.mode).clock(noon);
        builder.name(&self.name).build().unwrap()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_value_opens_where_name_context_key_and_suite_are_the_same_and_nowhere_else(
        sealed_by in binding(),
        mut opened_by in binding(),
        same in [(); 4].map(|()| prop::bool::weighted(0.8)),
    ) {
        let [name, context, key, mode] = same;
        if name { opened_by.name.clone_from(&sealed_by.name); }
        if context { opened_by.context.clone_from(&sealed_by.context); }
        if key { opened_by.key.clone_from(&sealed_by.key); }
        if mode { opened_by.mode = sealed_by.mode; }
        let (sealer, opener) = (sealed_by.layer(), opened_by.layer());
        let cookie = sealer.codec().seal(&"text".to_owned(), None, None, noon()).unwrap();
        let header = format!("{}={}", opened_by.name, cookie.value()).parse().unwrap();
        let opened = opener.codec().open(&request(header), noon());
        prop_assert_eq!(opened.value().is_some(), sealed_by == opened_by);
    }
}

// Settings.

#[derive(Clone, Debug)]
struct Settings {
    mode: Mode,
    name: String,
    domain: Option<String>,
    path: String,
    same_site: SameSite,
    partitioned: bool,
    insecure: bool,
    /// In seconds: idle, absolute and the longest own.
    lifetimes: (u64, u64, u64),
    max: usize,
}

fn settings() -> impl Strategy<Value = Settings> {
    let prefix = select(vec!["", "", "", "__Host-", "__Secure-", "__Http-", "__Host-Http-"]);
    let name =
        (prefix, "[!#$%&'*+.^|~0-9A-Za-z-]{1,30}").prop_map(|(prefix, name)| format!("{prefix}{name}"));
    let domain = option::of("[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?(\\.[a-z0-9]{1,9}){0,4}");
    let path = prop_oneof![Just("/".to_owned()), "/[!-:<-~]{0,60}"];
    let same_site = select(vec![SameSite::Strict, SameSite::Lax, SameSite::None]);
    const MOST: u64 = 400 * 24 * 60 * 60;
    // As many of each number of digits.
    let lifetime = || {
        (0..8_u32, 0.0..1.0).prop_map(|(digits, part)| {
            ((10_f64.powi(digits as i32) * (1.0 + 9.0 * part)) as u64).clamp(1, MOST)
        })
    };
    let max = prop_oneof![Just(MAX_SET_COOKIE), 150..=MAX_SET_COOKIE];
    let lifetimes = (lifetime(), lifetime(), lifetime());
    (mode(), name, domain, path, same_site, any::<[bool; 2]>(), lifetimes, max).prop_map(
        |(mode, name, domain, path, same_site, [partitioned, insecure], (a, b, own), max)| {
            Settings {
                mode,
                name,
                domain,
                path,
                same_site,
                partitioned,
                insecure,
                lifetimes: (a.min(b), a.max(b), own),
                max,
            }
            .coherent()
        },
    )
}

impl Settings {
    /// Without what a browser would drop.
    fn coherent(mut self) -> Self {
        self.insecure &= !self.name.starts_with("__");
        if self.name.starts_with("__Host-") {
            (self.domain, self.path) = (None, "/".to_owned());
        }
        if self.insecure {
            self.partitioned = false;
            if self.same_site == SameSite::None {
                self.same_site = SameSite::Lax;
            }
        }
        self
    }

    /// `None` where there is no room.
    fn layer(&self) -> Option<SessionLayer<String>> {
        let (idle, absolute, own) = self.lifetimes;
        let mut builder = SessionLayer::builder(ring(KEY))
            .mode(self.mode)
            .name(&self.name)
            .path(&self.path)
            .same_site(self.same_site)
            .idle_timeout(Duration::from_secs(idle))
            .absolute_timeout(Duration::from_secs(absolute))
            .max_own_lifetime(Duration::from_secs(own))
            .max_set_cookie(self.max)
            .clock(noon);
        if let Some(domain) = &self.domain {
            builder = builder.domain(domain);
        }
        if self.partitioned {
            builder = builder.partitioned();
        }
        if self.insecure {
            builder = builder.insecure_for_local_http();
        }
        builder.build().ok()
    }
}

/// What a handler does with a session.
#[derive(Clone, Debug)]
enum Act {
    Set(usize),
    Push(usize),
    /// As much as is left, and so many bytes more or less.
    Fill(isize),
    Own(u64),
    Browser,
    Renew,
    Clear,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..4000_usize).prop_map(Act::Set),
        (0..300_usize).prop_map(Act::Push),
        (-3..4_isize).prop_map(Act::Fill),
        (0..40_000_000_u64).prop_map(Act::Own),
        Just(Act::Browser),
        Just(Act::Renew),
        Just(Act::Clear),
    ]
}

/// Does it, and keeps the text as it should be by what the session answered.
fn perform(session: &Session<String>, text: &mut String, act: &Act) {
    let mut next = text.clone();
    match act {
        Act::Set(len) => next = "s".repeat(*len),
        Act::Push(len) => next.push_str(&"p".repeat(*len)),
        Act::Fill(by) => next.push_str(&"f".repeat(session.remaining().saturating_add_signed(*by))),
        Act::Own(seconds) => {
            let _ = session.set_lifetime(Lifetime::Own(Duration::from_secs(*seconds)));
        }
        Act::Browser => session.set_lifetime(Lifetime::Browser).unwrap(),
        Act::Renew => {
            session.renew().unwrap();
        }
        Act::Clear => {
            assert!(session.clear());
            next = String::new();
        }
    }
    if matches!(act, Act::Clear) || session.set(next.clone()).is_ok() {
        *text = next;
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_update_accepted_is_sent_and_fits(
        settings in settings(),
        came_in in option::of(0..3000_usize),
        acts in vec(act(), 1..8),
    ) {
        let Some(layer) = settings.layer() else { return Ok(()) };
        let came_in = came_in.and_then(|len| layer.codec().seal(&"c".repeat(len), None, None, noon()).ok());
        let cookies = came_in.as_ref().map(|cookie| request(cookie.request_header())).unwrap_or_default();
        let (response, (text, changed)) = serve(&layer, &cookies, |session| {
            let mut text = session.get();
            for act in &acts {
                perform(&session, &mut text, act);
                assert_eq!(session.get(), text);
            }
            (text, session.is_changed())
        });
        let cleared = acts.iter().any(|act| matches!(act, Act::Clear));
        let mut sessions = 0;
        for sent in set_cookies(&response) {
            prop_assert!(sent.len() <= settings.max, "{} of {}: {}", sent.len(), settings.max, sent);
            let (name, value) = sent.split(';').next().unwrap().split_once('=').unwrap();
            if name == settings.name && !value.is_empty() {
                sessions += 1;
                let opened = layer.codec().open(&jar(sent), noon());
                prop_assert_eq!(opened.value(), Some(&text));
            } else {
                prop_assert!(cleared, "{}", sent);
            }
        }
        prop_assert_eq!(sessions, usize::from(changed));
    }

    #[test]
    fn a_removal_is_the_cookie_but_for_value_and_lifetime(settings in settings()) {
        let Some(layer) = settings.layer() else { return Ok(()) };
        let cookie = layer.codec().seal(&String::new(), None, None, noon()).unwrap();
        let opened = layer.codec().open(&request(cookie.request_header()), noon());
        let removals = layer.codec().removals(&opened, noon());
        let [removal, marker] = removals.cookies() else { panic!("{removals:?}") };
        let fixed = |attributes: &str| attributes.rsplit_once("; Max-Age=").unwrap().0.to_owned();
        prop_assert_eq!(fixed(removal.attributes()), fixed(cookie.attributes()));
        prop_assert_eq!(fixed(marker.attributes()), fixed(cookie.attributes()));
        prop_assert_eq!(removal.name(), cookie.name());
        prop_assert_eq!(removal.value(), "");
        prop_assert!(removal.attributes().ends_with("; Max-Age=0"));
        // As another crate reads them.
        let read = |cookie: &cookie_session::SetCookie| {
            cookie::Cookie::parse(cookie.header().to_str().unwrap().to_owned()).unwrap()
        };
        for cookie in [read(&cookie), read(removal), read(marker)] {
            prop_assert_eq!(cookie.path(), Some(&*settings.path));
            prop_assert_eq!(cookie.domain(), settings.domain.as_deref());
            prop_assert_eq!(cookie.secure().unwrap_or(false), !settings.insecure);
            prop_assert_eq!(cookie.http_only(), Some(true));
            prop_assert_eq!(cookie.partitioned().unwrap_or(false), settings.partitioned);
            prop_assert_eq!(cookie.same_site().map(|it| it.to_string()), Some(format!("{:?}", settings.same_site)));
        }
    }
}

// Headers.

/// Bytes that a `Cookie` header might have in it, with the parts that matter often enough.
fn header_bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => select(vec![NAME, "=", ";", " ", "\t", "; ", "__Host-Http-session="]).prop_map(|part| part.as_bytes().to_vec()),
        2 => select(vec!["\u{a0}", "\u{85}", "\u{2003}", "\u{3000}", "\u{feff}", "\"", ",", "session", "__Host-"])
            .prop_map(|part| part.as_bytes().to_vec()),
        2 => (0x20..=0xff_u8).prop_filter("not in a header", |byte| *byte != 0x7f).prop_map(|byte| vec![byte]),
        1 => Just(VALUE.clone().into_bytes()),
    ];
    vec(part, 0..24).prop_map(|parts| parts.concat())
}

static VALUE: LazyLock<String> = LazyLock::new(|| {
    TEXTS.of(Mode::Encrypted).codec().seal(&"text".to_owned(), None, None, noon()).unwrap().value().to_owned()
});

/// Whether a cookie of our name is in a header, as the `cookie` crate reads it. It is given Latin-1,
/// in which all bytes are characters, and takes more characters for blanks than HTTP does: these are
/// replaced.
fn cookie_crate_finds_ours(header: &[u8]) -> bool {
    let character = |byte: &u8| match char::from(*byte) {
        ' ' => ' ',
        '\t' => '\t',
        blank if blank.is_whitespace() => 'x',
        other => other,
    };
    let text: String = header.iter().map(character).collect();
    cookie::Cookie::split_parse(text).flatten().any(|cookie| cookie.name() == NAME)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * config().cases, ..config() })]

    #[test]
    fn our_name_is_found_where_another_parser_finds_it(headers in vec(header_bytes(), 1..3)) {
        let found = headers.iter().any(|header| cookie_crate_finds_ours(header));
        let headers: HeaderMap =
            headers.iter().map(|header| (COOKIE, HeaderValue::from_bytes(header).unwrap())).collect();
        let layer = TEXTS.of(Mode::Encrypted);
        let opened = layer.codec().open(&headers, noon());
        prop_assert_eq!(opened.incoming() != Incoming::Absent, found);
        let (response, incoming) = serve(layer, &headers, |session| session.incoming());
        prop_assert_eq!(incoming, opened.incoming());
        prop_assert!(set_cookies(&response).is_empty());
        let (response, ()) = serve(layer, &headers, |session| assert!(session.clear()));
        let removed = set_cookies(&response).iter().any(|sent| sent.starts_with(&format!("{NAME}=;")));
        prop_assert_eq!(removed, found);
    }

    #[test]
    fn our_cookie_opens_wherever_it_stands_among_others(before in header_bytes(), after in header_bytes(), mode in mode()) {
        if cookie_crate_finds_ours(&before) || cookie_crate_finds_ours(&after) {
            return Ok(());
        }
        let pair = format!("{NAME}={}", *VALUE);
        let header = [&before, &b"; "[..], pair.as_bytes(), b";", &after].concat();
        let header = HeaderValue::from_bytes(&header).unwrap();
        let opened = TEXTS.of(mode).codec().open(&request(header), noon());
        prop_assert_eq!(opened.value().map(String::as_str), Some("text"));
    }
}

// The untyped map.

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Real(f64),
    Text(String),
    List(Vec<Option<i32>>),
    Table(BTreeMap<String, Vec<String>>),
    Item(Item),
    Theme(Theme),
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::Unsigned),
        any::<i64>().prop_map(Value::Signed),
        (prop::num::f64::NORMAL | prop::num::f64::ZERO).prop_map(Value::Real),
        ".{0,20}".prop_map(Value::Text),
        vec(any::<Option<i32>>(), 0..6).prop_map(Value::List),
        btree_map(".{0,6}", vec(".{0,6}", 0..3), 0..4).prop_map(Value::Table),
        item().prop_map(Value::Item),
        theme().prop_map(Value::Theme),
    ]
}

impl Value {
    fn insert(&self, map: &mut SessionMap, key: &str) -> Result<(), MapError> {
        match self {
            Value::Unsigned(value) => map.insert(key, value),
            Value::Signed(value) => map.insert(key, value),
            Value::Real(value) => map.insert(key, value),
            Value::Text(value) => map.insert(key, value),
            Value::List(value) => map.insert(key, value),
            Value::Table(value) => map.insert(key, value),
            Value::Item(value) => map.insert(key, value),
            Value::Theme(value) => map.insert(key, value),
        }
    }

    fn is_in(&self, map: &SessionMap, key: &str) -> bool {
        match self {
            Value::Unsigned(value) => map.get(key) == Ok(Some(*value)),
            Value::Signed(value) => map.get(key) == Ok(Some(*value)),
            Value::Real(value) => map.get(key) == Ok(Some(*value)),
            Value::Text(value) => map.get(key) == Ok(Some(value.as_str())),
            Value::List(value) => map.get(key).as_ref() == Ok(&Some(value.clone())),
            Value::Table(value) => map.get(key).as_ref() == Ok(&Some(value.clone())),
            Value::Item(value) => map.get(key).as_ref() == Ok(&Some(value.clone())),
            Value::Theme(value) => map.get(key).as_ref() == Ok(&Some(value.clone())),
        }
    }
}

fn assert_holds(map: &SessionMap, model: &BTreeMap<String, Value>) -> Result<(), TestCaseError> {
    prop_assert_eq!(map.len(), model.len());
    prop_assert_eq!(map.is_empty(), model.is_empty());
    prop_assert!(map.keys().eq(model.keys()));
    for (key, value) in model {
        prop_assert!(map.contains_key(key));
        prop_assert!(value.is_in(map, key), "{key:?}: {value:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_map_holds_what_was_inserted_and_not_removed(
        steps in vec((select(vec!["", "a", "b", "c", "__proto__"]), option::of(value())), 0..20),
    ) {
        let (mut map, mut model) = (SessionMap::new(), BTreeMap::new());
        for (key, step) in steps {
            match step {
                Some(value) => {
                    value.insert(&mut map, key).unwrap();
                    model.insert(key.to_owned(), value);
                }
                None => prop_assert_eq!(map.remove(key), model.remove(key).is_some()),
            }
            assert_holds(&map, &model)?;
            prop_assert_eq!(map.get::<u64>("absent"), Ok(None));
        }
    }

    #[test]
    fn a_map_comes_back_with_the_next_request(
        mode in mode(),
        model in btree_map(".{0,8}", value(), 0..6),
    ) {
        let layer = MAPS.of(mode);
        let (response, stored) = serve(layer, &HeaderMap::new(), |session| {
            session.try_update(|map| model.iter().try_for_each(|(key, value)| value.insert(map, key)))
        });
        stored.unwrap().unwrap();
        let sent = set_cookies(&response);
        prop_assert_eq!(sent.len(), usize::from(!model.is_empty()));
        let cookies = sent.first().map(|sent| jar(sent)).unwrap_or_default();
        let (response, (map, changed)) = serve(layer, &cookies, |session| {
            // To write the same once more, in another order, is no change.
            let again = model.iter().rev();
            let rewritten = session.update(|map| {
                map.clear();
                again.into_iter().try_for_each(|(key, value)| value.insert(map, key))
            });
            rewritten.unwrap().unwrap();
            (session.get(), session.is_changed())
        });
        assert_holds(&map, &model)?;
        prop_assert!(!changed);
        prop_assert!(set_cookies(&response).is_empty());
    }
}

const NAME: &str = "__Host-Http-session";
const KEY: &str = "8922806a67c02fa54c01743020797dd1f54351302234d4a41c0ce17bce4d550c";
const OTHER_KEY: &str = "f668d1d18bc909a3f4976d3382406208601be47cf5bef48829090c00873251ee";

fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn ring(key: &str) -> KeyRing {
    KeyRing::new(key.parse::<Key>().unwrap(), []).unwrap()
}

fn other(mode: Mode) -> Mode {
    if mode == Mode::Encrypted { Mode::Signed } else { Mode::Encrypted }
}

fn request(header: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, header)])
}

/// What a browser sends back.
fn jar(set_cookie: &str) -> HeaderMap {
    request(set_cookie.split(';').next().unwrap().parse().unwrap())
}

fn set_cookies(response: &Response<()>) -> Vec<&str> {
    response.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap()).collect()
}
