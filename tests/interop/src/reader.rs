//! The crate's side: readers and writers of random settings, in the words of the programs.

use crate::{Rng, hex, unhex};
use cookie_session::{
    Incoming, Key, KeyRing, Lifetime, Mode, SessionBuilder, SessionLayer, SessionMeta, internal,
};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// 400 days, the longest that any lifetime can be.
const LONGEST: i64 = 400 * 24 * 60 * 60 * 1000;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shop {
    user: Option<u64>,
    cart: Vec<u32>,
}

/// An earlier form of [`Shop`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Cart {
    cart: Vec<u32>,
}

impl From<Cart> for Shop {
    fn from(Cart { cart }: Cart) -> Shop {
        Shop { user: None, cart }
    }
}

/// A type of sessions that the programs can judge payloads of.
trait Data: Default + Serialize + DeserializeOwned + PartialEq + Debug + Send + 'static {
    /// The type in the programs' words.
    fn described() -> Value;
    fn random(rng: &mut Rng) -> Self;
    /// Reads an earlier form under this number, if there is one.
    fn reads(builder: SessionBuilder<Self>, _: u16) -> SessionBuilder<Self> {
        builder
    }
    /// The earlier form's shape and type, and a random payload in it.
    fn earlier(_: &mut Rng) -> Option<([u8; 4], Value, Vec<u8>)> {
        None
    }
    /// A payload in the earlier form, converted.
    fn converted(payload: &[u8]) -> Self {
        panic!("nothing is earlier: {payload:?}")
    }
}

impl Data for () {
    fn described() -> Value {
        json!({ "tuple": [] })
    }
    fn random(_: &mut Rng) {}
}

impl Data for u64 {
    fn described() -> Value {
        json!("u64")
    }
    fn random(rng: &mut Rng) -> u64 {
        rng.number()
    }
}

impl Data for Shop {
    fn described() -> Value {
        json!({ "tuple": [{ "option": "u64" }, { "seq": "u32" }] })
    }
    fn random(rng: &mut Rng) -> Shop {
        let user = (!rng.once_in(3)).then(|| rng.number());
        Shop { user, cart: many(rng, |rng| rng.number() as u32) }
    }
    fn reads(builder: SessionBuilder<Shop>, schema: u16) -> SessionBuilder<Shop> {
        builder.migrate_from::<Cart>(schema, Shop::from)
    }
    fn earlier(rng: &mut Rng) -> Option<([u8; 4], Value, Vec<u8>)> {
        let cart = many(rng, |rng| rng.number() as u32);
        Some((shape::<Cart>(), json!({ "tuple": [{ "seq": "u32" }] }), encoded(&Cart { cart })))
    }
    fn converted(payload: &[u8]) -> Shop {
        decoded::<Cart>(payload).into()
    }
}

impl Data for (bool, u8, u16, String) {
    fn described() -> Value {
        json!({ "tuple": ["bool", "u8", "u16", "string"] })
    }
    fn random(rng: &mut Rng) -> Self {
        (rng.once_in(2), rng.word() as u8, rng.number() as u16, rng.text())
    }
}

impl Data for Vec<String> {
    fn described() -> Value {
        json!({ "seq": "string" })
    }
    fn random(rng: &mut Rng) -> Self {
        many(rng, Rng::text)
    }
}

type Nested = Option<Vec<(u32, Option<Option<String>>)>>;

impl Data for Nested {
    fn described() -> Value {
        json!({ "option": { "seq": { "tuple": ["u32", { "option": { "option": "string" } }] } } })
    }
    fn random(rng: &mut Rng) -> Self {
        let maybe = |rng: &mut Rng| (!rng.once_in(3)).then(|| (!rng.once_in(3)).then(|| rng.text()));
        (!rng.once_in(4)).then(|| many(rng, |rng| (rng.number() as u32, maybe(rng))))
    }
}

fn many<T>(rng: &mut Rng, mut of: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..rng.pick(&[0, 1, 2, 3, 5, 40])).map(|_| of(rng)).collect()
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("plain data")
}

fn decoded<T: DeserializeOwned>(payload: &[u8]) -> T {
    postcard::from_bytes(payload).expect("a payload that was accepted")
}

fn shape<T: DeserializeOwned>() -> [u8; 4] {
    internal::shape_encoding::<T>().expect("a shape").1.to_bytes()
}

/// What a value is sealed under.
#[derive(Clone, Debug)]
pub struct Under {
    pub key: [u8; 32],
    pub name: String,
    pub context: String,
    pub mode: Mode,
}

impl Under {
    /// A request to seal something.
    pub fn request(&self, what: &str, nonce: Option<[u8; 24]>) -> Value {
        json!({
            "do": what, "key": hex(&self.key), "name": self.name, "context": self.context,
            "mode": mode(self.mode), "nonce": nonce.map(|nonce| hex(&nonce)),
        })
    }

    pub fn marker_request(&self, nonce: Option<[u8; 24]>, time: u64) -> Value {
        let mut request = self.request("seal_marker", nonce);
        request["time"] = json!(time.to_string());
        request
    }

    fn layer(&self) -> SessionLayer<()> {
        let builder = SessionLayer::<()>::builder(ring(&[self.key]));
        let builder = builder.name(&*self.name).context(&*self.context).mode(self.mode);
        builder.build().expect("good settings")
    }

    /// What the crate makes of any plaintext.
    pub fn session(&self, nonce: [u8; 24], plaintext: &[u8]) -> String {
        internal::seal_session(self.layer().codec(), &nonce, plaintext).expect("sealed")
    }

    pub fn marker(&self, nonce: [u8; 24], plaintext: &[u8]) -> String {
        internal::seal_marker(self.layer().codec(), &nonce, plaintext).expect("sealed")
    }
}

fn ring(keys: &[[u8; 32]]) -> KeyRing {
    let mut keys = keys.iter().map(|key| hex(key).parse::<Key>().expect("a good key"));
    KeyRing::new(keys.next().expect("a primary"), keys).expect("different keys")
}

/// What the crate calls the key.
pub fn key_id(key: &[u8; 32]) -> String {
    hex(key).parse::<Key>().expect("a good key").id().to_string()
}

pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Encrypted => "encrypted",
        Mode::Signed => "signed",
        other => panic!("a new mode: {other:?}"),
    }
}

/// A form of payloads.
#[derive(Clone)]
pub struct Form {
    pub schema: u16,
    pub shape: [u8; 4],
    described: Value,
}

/// How a reader is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    kind: usize,
    pub keys: Vec<[u8; 32]>,
    pub name: String,
    pub context: String,
    /// The written one first.
    pub accepts: Vec<Mode>,
    pub schema: u16,
    /// The number of the earlier form, if the kind has one.
    pub earlier: u16,
    pub idle: u64,
    pub absolute: u64,
    pub max_own: u64,
}

/// Calls the function for the type of the settings' kind.
macro_rules! for_its_type {
    ($settings:expr, $function:ident($($argument:expr),*)) => {
        match $settings.kind {
            0 => $function::<()>($($argument),*),
            1 => $function::<u64>($($argument),*),
            2 => $function::<(bool, u8, u16, String)>($($argument),*),
            3 => $function::<Vec<String>>($($argument),*),
            4 => $function::<Nested>($($argument),*),
            _ => $function::<Shop>($($argument),*),
        }
    };
}

/// A name that a browser takes for a session's cookie, and RFC 9110 for a token.
pub fn name(rng: &mut Rng) -> String {
    const TOKEN: &[u8] = b"!#$%&'*+-.^_`|~09AZaz";
    match rng.below(3) {
        0 => "__Host-Http-session".to_owned(),
        1 => rng.pick(&["sid", "a", "session", "session-out", "SID"]).to_owned(),
        _ => (0..=rng.below(40)).map(|_| char::from(rng.pick(TOKEN))).collect(),
    }
}

pub fn context(rng: &mut Rng) -> String {
    match rng.below(4) {
        0 => String::new(),
        1 => "shop".to_owned(),
        2 => rng.text(),
        _ => rng.text().repeat(50),
    }
}

impl Settings {
    pub fn random(rng: &mut Rng) -> Settings {
        let kind = rng.below(8);
        let mut accepts = vec![Mode::Encrypted, Mode::Signed];
        accepts.rotate_left(rng.below(2));
        accepts.truncate(1 + rng.below(2));
        let mut lifetime = || match rng.below(4) {
            0 => rng.pick(&[1000, 1001, 60_000, LONGEST - 1, LONGEST]) as u64,
            1 => rng.within(1000..=LONGEST) as u64,
            _ => rng.within(1000..=30 * 24 * 60 * 60 * 1000) as u64,
        };
        let (a, b, max_own) = (lifetime(), lifetime(), lifetime());
        let schema = match rng.below(3) {
            0 => rng.pick(&[2, 255, 256, u16::MAX]),
            _ => rng.within(1..=65535) as u16,
        };
        Settings {
            kind,
            keys: (0..=rng.below(3)).map(|_| rng.array()).collect(),
            name: name(rng),
            context: context(rng),
            accepts,
            schema,
            earlier: rng.within(0..=i64::from(schema) - 1) as u16,
            idle: a.min(b),
            absolute: a.max(b),
            max_own,
        }
    }

    /// Under one of its keys, in one of its modes.
    pub fn under(&self, rng: &mut Rng) -> Under {
        let (name, context) = (self.name.clone(), self.context.clone());
        Under { key: rng.pick(&self.keys), name, context, mode: rng.pick(&self.accepts) }
    }

    /// Those that are read, the own one first.
    pub fn forms(&self) -> Vec<Form> {
        fn forms<T: Data>(schema: u16, number: u16) -> Vec<Form> {
            let own = Form { schema, shape: shape::<T>(), described: T::described() };
            let earlier = T::earlier(&mut Rng::new(0, 0));
            let earlier = earlier.map(|(shape, described, _)| Form { schema: number, shape, described });
            [Some(own), earlier].into_iter().flatten().collect()
        }
        for_its_type!(self, forms(self.schema, self.earlier))
    }

    /// A good payload in the form of this number.
    pub fn payload(&self, rng: &mut Rng, schema: u16) -> Vec<u8> {
        fn payload<T: Data>(rng: &mut Rng, own: bool) -> Vec<u8> {
            let earlier = if own { None } else { T::earlier(rng) };
            earlier.map_or_else(|| encoded(&T::random(rng)), |(_, _, payload)| payload)
        }
        for_its_type!(self, payload(rng, schema == self.schema))
    }

    pub fn open_request(&self, headers: &[Vec<u8>], now: i64) -> Value {
        let accepts: Vec<_> = self.accepts.iter().copied().map(mode).collect();
        let form =
            |form: &Form| json!({ "schema": form.schema, "shape": hex(&form.shape), "type": form.described });
        json!({
            "do": "open",
            "keys": self.keys.iter().map(|key| hex(key)).collect::<Vec<_>>(),
            "name": self.name,
            "context": self.context,
            "accepts": accepts,
            "forms": self.forms().iter().map(form).collect::<Vec<_>>(),
            "idle": self.idle,
            "absolute": self.absolute,
            "max_own": self.max_own,
            "now": now,
            "headers": headers.iter().map(|header| hex(header)).collect::<Vec<_>>(),
        })
    }

    pub fn reader(&self) -> Box<dyn Reader> {
        fn reader<T: Data>(settings: &Settings) -> Box<dyn Reader> {
            let millis = Duration::from_millis;
            let mut builder = SessionLayer::<T>::builder(ring(&settings.keys))
                .name(&*settings.name)
                .context(&*settings.context)
                .mode(settings.accepts[0])
                .schema(settings.schema)
                .idle_timeout(millis(settings.idle))
                .absolute_timeout(millis(settings.absolute))
                .max_own_lifetime(millis(settings.max_own));
            for &mode in &settings.accepts[1..] {
                builder = builder.accept_mode(mode);
            }
            let layer = T::reads(builder, settings.earlier).build().expect("good settings");
            Box::new(Typed { layer, settings: settings.clone() })
        }
        for_its_type!(self, reader(self))
    }
}

/// A reader of the crate, whatever its type.
pub trait Reader {
    /// What the crate makes of a request, in the programs' words; but see [`Reader::in_its_words`].
    fn open(&self, headers: &[Vec<u8>], now: i64) -> Value;

    /// A program's answer with the payload as the crate has it: decoded, converted and encoded again.
    fn in_its_words(&self, answer: &Value) -> Value;

    /// The time of the latest marker.
    fn marker(&self, headers: &[Vec<u8>]) -> Option<u64>;

    /// Seals a random value by the public way: a new session, or the one that these headers hold.
    /// The cookie's value, and the payload.
    fn seal(&self, rng: &mut Rng, previous: Option<&[Vec<u8>]>, now: i64) -> Option<(String, Vec<u8>)>;
}

struct Typed<T> {
    layer: SessionLayer<T>,
    settings: Settings,
}

fn headers(headers: &[Vec<u8>]) -> HeaderMap {
    let header = |header: &Vec<u8>| (COOKIE, HeaderValue::from_bytes(header).expect("a header"));
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().map(header) {
        map.append(name, value);
    }
    map
}

/// Before 1970, too.
fn system(millis: i64) -> SystemTime {
    let by = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH - by } else { UNIX_EPOCH + by }
}

fn millis(time: SystemTime) -> u64 {
    let millis = time.duration_since(UNIX_EPOCH).expect("from 1970 on").as_millis();
    millis.try_into().expect("64 bits")
}

impl<T: Data> Typed<T> {
    fn meta(&self, meta: &SessionMeta) -> Value {
        let (flags, own) = match meta.lifetime() {
            Lifetime::Timeouts => (0, 0),
            Lifetime::Browser => (1, 0),
            Lifetime::Own(own) => (0, own.as_secs()),
            other => panic!("a new lifetime: {other:?}"),
        };
        let forms = self.settings.forms();
        let form = forms.iter().find(|form| form.schema == meta.schema()).expect("one that is read");
        json!({
            "class": "accepted",
            "mode": mode(meta.mode()),
            "key_id": meta.key_id().to_string(),
            "flags": flags,
            "schema": meta.schema(),
            "shape": hex(&form.shape),
            "id": hex(&meta.id().to_bytes()),
            "created": millis(meta.created_at()),
            "renewed": millis(meta.renewed_at()),
            "issued": millis(meta.issued_at()),
            "own": own,
        })
    }
}

impl<T: Data> Reader for Typed<T> {
    fn open(&self, cookies: &[Vec<u8>], now: i64) -> Value {
        let opened = self.layer.codec().open(&headers(cookies), system(now));
        match (opened.incoming(), opened.value(), opened.meta()) {
            (Incoming::Accepted, Some(value), Some(meta)) => {
                let mut answer = self.meta(meta);
                answer["payload"] = json!(hex(&encoded(value)));
                answer
            }
            (class, None, None) => json!({ "class": class.to_string() }),
            (class, ..) => panic!("{class} with a session, or accepted without one"),
        }
    }

    fn in_its_words(&self, answer: &Value) -> Value {
        let mut answer = answer.clone();
        if let (Some(payload), Some(schema)) = (answer["payload"].as_str(), answer["schema"].as_u64()) {
            let payload = unhex(payload);
            let own = schema == u64::from(self.settings.schema);
            let value = if own { decoded::<T>(&payload) } else { T::converted(&payload) };
            answer["payload"] = json!(hex(&encoded(&value)));
        }
        answer
    }

    fn marker(&self, cookies: &[Vec<u8>]) -> Option<u64> {
        self.layer.codec().open(&headers(cookies), UNIX_EPOCH).marker().map(millis)
    }

    fn seal(&self, rng: &mut Rng, previous: Option<&[Vec<u8>]>, now: i64) -> Option<(String, Vec<u8>)> {
        let (codec, now) = (self.layer.codec(), system(now));
        let opened = previous.map(|previous| codec.open(&headers(previous), now));
        let meta = opened.as_ref().map(|opened| opened.meta());
        if meta == Some(None) {
            return None;
        }
        let value = T::random(rng);
        let cookie = codec.seal(&value, meta.flatten(), None, now).expect("small, and accepted just now");
        Some((cookie.value().to_owned(), encoded(&value)))
    }
}
