//! Sessions in older formats: what opens is authentic, by a second reading of these formats, and what is authentic opens;
//! the session goes on in a cookie of ours, and what does not open changes nothing.
//!
//! The first byte of the input is the settings: two bits for Keygrip's digest, one for its encoding, two for the number of
//! its keys (0 and 1 are one), three for what is imported, in the order of `Settings::imports`. The rest is tried
//! as headers, a line each, and as the value of each old cookie; and, signed by one of the keys, as an Express session's
//! JSON, as its payload, and as a jar's text.

#[path = "import/oracle.rs"]
mod oracle;

use cookie_session::{
    Digest, Encoding, Express, Identity, Incoming, Jar, JarKey, Key, KeyRing, RejectedKind, Session,
    SessionLayer, UpdateError,
    internal::{frame_emit, frame_parse, seal_marker},
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use oracle::{Hash, MOST};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    future::ready,
    pin::pin,
    sync::OnceLock,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Shop {
    user: Option<u64>,
    cart: Vec<u32>,
    text: String,
    nested: Vec<Option<(u8, i64)>>,
}

fn of_text(text: &str) -> Option<Shop> {
    // Not every text is a session.
    (!text.starts_with('-')).then(|| Shop { text: text.to_owned(), ..Shop::default() })
}

/// What `convert` makes of any JSON.
fn of_json(json: serde_json::Value) -> Option<Shop> {
    of_text(&json.to_string())
}

// Names that begin alike.
const OURS: &str = "id";
const EXPRESS: &str = "s";
const PRIVATE: &str = "s.";
const SIGNED: &str = "s.si";

const KEYGRIP: [&[u8]; 3] = [b"sixteen bytes, or", &[7; 64], &[0xff; 129]];
const JARS: [u8; 64] = [0x5a; 64];

const NOW: u64 = 1_800_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Settings(u8);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Old {
    /// JSON that is read as a `Shop`.
    Express,
    /// Any JSON, converted.
    Converted,
    Private,
    Signed,
}

impl Settings {
    fn hash(self) -> Hash {
        [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512][usize::from(self.0 & 3)]
    }

    fn hexadecimal(self) -> bool {
        self.0 & 4 != 0
    }

    fn keys(self) -> &'static [&'static [u8]] {
        &KEYGRIP[..usize::from(self.0 >> 3 & 3).max(1)]
    }

    fn imports(self) -> &'static [Old] {
        use Old::{Converted, Express, Private, Signed};
        const IMPORTS: [&[Old]; 8] = [
            &[Express],
            &[Converted],
            &[Private],
            &[Signed],
            &[Express, Private, Signed],
            &[Signed, Private, Converted],
            &[Private, Signed],
            &[Converted, Express],
        ];
        IMPORTS[usize::from(self.0 >> 5)]
    }

    fn layer(self) -> &'static SessionLayer<Shop> {
        static LAYERS: [OnceLock<SessionLayer<Shop>>; 256] = [const { OnceLock::new() }; 256];
        LAYERS[usize::from(self.0)].get_or_init(|| {
            let key: Key = "Lq1sEq5fYxvVwXb5Yq0oB2b8o0pJm9wq0W3Jc3mG1xk=".parse().expect("a good key");
            let keys = KeyRing::new(key, []).expect("one key");
            let builder = SessionLayer::builder(keys).name(OURS).clock(now);
            let until = now() + Duration::from_millis(1);
            let imports = self.imports().iter().fold(builder, |builder, old| match old {
                Old::Express => builder.import(self.express(), until),
                Old::Converted => builder.import(self.express().convert(of_json), until),
                Old::Private => {
                    let jar = Jar::private(Identity::named(PRIVATE), JarKey::new(&JARS), of_text);
                    builder.import(jar, until)
                }
                Old::Signed => {
                    let jar = Jar::signed(Identity::named(SIGNED), JarKey::new(&JARS), of_text);
                    builder.import(jar, until)
                }
            });
            imports.build().expect("good settings")
        })
    }

    fn express(self) -> Express<Shop> {
        let (primary, fallbacks) = self.keys().split_first().expect("a key");
        let digest = match self.hash() {
            Hash::Sha1 => Digest::Sha1,
            Hash::Sha256 => Digest::Sha256,
            Hash::Sha384 => Digest::Sha384,
            Hash::Sha512 => Digest::Sha512,
        };
        let encoding = if self.hexadecimal() { Encoding::Hex } else { Encoding::Base64 };
        Express::new(Identity::named(EXPRESS), primary, fallbacks).digest(digest).encoding(encoding)
    }

    fn keygrip(self, key: &[u8], payload: &[u8]) -> Vec<u8> {
        let data = [EXPRESS.as_bytes(), b"=", payload].concat();
        oracle::keygrip(self.hash(), self.hexadecimal(), key, &data)
    }

    /// How many cookies an import removes.
    fn removed(self) -> usize {
        let express = |old: &Old| matches!(old, Old::Express | Old::Converted);
        let jars = self.imports().iter().filter(|old| !express(old)).count();
        jars + if self.imports().iter().any(express) { 2 } else { 0 }
    }
}

/// A session, and its id.
type Expected = (Shop, [u8; 16]);

/// What a second reading finds in these cookies, in the first format that opens.
fn expected(settings: Settings, cookies: &[(&[u8], &[u8])]) -> Option<Expected> {
    let named = |name: &'static str| {
        cookies.iter().filter(move |(other, _)| *other == name.as_bytes()).map(|(_, value)| *value)
    };
    let first = |name: &'static str| named(name).next().filter(|value| value.len() <= MOST);
    settings.imports().iter().find_map(|old| {
        let express = |read: fn(&[u8], serde_json::Value) -> Option<Shop>| {
            let (payload, signature) = (first(EXPRESS)?, first("s.sig")?);
            let key = settings.keys().iter().find(|key| settings.keygrip(key, payload) == signature)?;
            let (json, value) = oracle::object(payload)?;
            Some((read(&json, value)?, oracle::id(key, &[EXPRESS.as_bytes(), b"=", payload].concat())))
        };
        let jar = |name: &'static str, key: [u8; 32], open: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
            let read = |value: &[u8]| {
                let (value, text) = [oracle::percent_decoded(value), value.to_vec()]
                    .into_iter()
                    .find_map(|value| open(&value).map(|text| (value, text)))?;
                let text = String::from_utf8(text).ok()?;
                Some((of_text(&text)?, oracle::id(&key, &value)))
            };
            named(name).take(8).filter(|value| value.len() <= MOST).filter_map(read).last()
        };
        let key = JARS.first_chunk::<32>().expect("64 bytes");
        match old {
            Old::Express => express(|json, _| serde_json::from_slice(json).ok()),
            Old::Converted => express(|_, value| of_json(value)),
            Old::Private => jar(PRIVATE, *key, &|value| oracle::decrypt(key, PRIVATE, value)),
            Old::Signed => jar(SIGNED, *key, &|value| oracle::verify(key, value)),
        }
    })
}

pub fn run(data: &[u8]) {
    let Some((&selector, rest)) = data.split_first() else { return };
    let settings = Settings(selector);
    judge(settings, &rest.split(|byte| *byte == b'\n').collect::<Vec<_>>());
    for name in [EXPRESS, "s.sig", PRIVATE, SIGNED] {
        judge(settings, &[&[name.as_bytes(), b"=", rest].concat()]);
    }
    for cookies in authentic(settings, rest) {
        judge(settings, &[&cookies]);
    }
}

/// Cookies that are made of the input by who has the key.
fn authentic(settings: Settings, data: &[u8]) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    let key = settings.keys()[data.len() % settings.keys().len()];
    for payload in [oracle::base64(data), data.to_vec()] {
        let signature = settings.keygrip(key, &payload);
        made.push([b"s=", &payload[..], b"; s.sig=", &signature].concat());
        // The first of a name counts.
        made.push([b"s.sig=", &signature[..], b"; s=", &payload, b"; s=e30=; s.sig=x"].concat());
        made.push([b"s=e30=; s=", &payload[..], b"; s.sig=", &signature].concat());
    }
    let key = JARS.first_chunk().expect("64 bytes");
    for (name, value) in [
        (PRIVATE, oracle::encrypt(key, PRIVATE, data)),
        (SIGNED, oracle::sign(key, data)),
        (PRIVATE, oracle::encrypt(key, SIGNED, data)),
    ] {
        made.push([name.as_bytes(), b"=", &value].concat());
        // The last that opens counts.
        let encoded = oracle::percent_encoded(&value);
        made.push(
            [name.as_bytes(), b"=x; ", name.as_bytes(), b"=", &encoded, b"; ", name.as_bytes(), b"=x"]
                .concat(),
        );
    }
    made
}

/// One request, if headers can have this.
fn judge(settings: Settings, headers: &[&[u8]]) {
    let values = headers.iter().map(|header| HeaderValue::from_bytes(header).ok());
    let Some(values) = values.collect::<Option<Vec<_>>>() else { return };
    let pairs = headers.iter().flat_map(|header| header.split(|byte| *byte == b';')).filter_map(|cookie| {
        let at = cookie.iter().position(|byte| *byte == b'=')?;
        Some((trim(&cookie[..at]), trim(&cookie[at + 1..])))
    });
    let pairs: Vec<_> = pairs.collect();
    let layer = settings.layer();
    let codec = layer.codec();
    let request: HeaderMap = values.into_iter().map(|value| (COOKIE, value)).collect();
    let opened = codec.open(&request, now());

    // What has the form of a session of ours may be newer, whether it opens here or not.
    let sealed = pairs.iter().any(|(name, value)| *name == OURS.as_bytes() && is_sealed(value));
    let expected = expected(settings, &pairs).filter(|_| !sealed);
    let found = opened.value().zip(opened.meta()).map(|(value, meta)| (value, meta.id().to_bytes()));
    assert_eq!(found, expected.as_ref().map(|(value, id)| (value, *id)));
    let sent = answered(layer, &request);
    // With a date that has come.
    assert_eq!(codec.open(&request, now() + Duration::from_millis(1)).value(), None);
    let Some((value, meta)) = opened.value().zip(opened.meta()) else {
        assert!(matches!(opened.incoming(), Incoming::Absent | Incoming::Rejected(_)));
        assert_eq!(sent, 0);
        return;
    };
    assert!(opened.incoming() == Incoming::Imported && meta.is_imported());
    assert_eq!((meta.created_at(), meta.renewed_at(), meta.issued_at()), (UNIX_EPOCH, now(), now()));

    let cookie = match codec.seal(value, Some(meta), None, now()) {
        Ok(cookie) => {
            assert_eq!((sent, codec.superseded(&opened).len()), (1 + settings.removed(), settings.removed()));
            cookie.request_header()
        }
        Err(UpdateError::TooLarge(error)) => {
            assert!(error.payload() > error.max_payload() && sent == 0);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut beside = request.clone();
    beside.append(COOKIE, cookie.clone());
    for request in [HeaderMap::from_iter([(COOKIE, cookie)]), beside] {
        let again = codec.open(&request, now());
        assert_eq!((again.incoming(), again.value()), (Incoming::Accepted, Some(value)));
        let again = again.meta().expect("accepted");
        assert!(again.id() == meta.id() && again.is_imported());
    }

    // A session of ours wins, whoever can open it, and so does a sign-out; but not what only has their names.
    let open = |cookie: String| {
        let mut request = request.clone();
        request.append(COOKIE, HeaderValue::from_str(&cookie).expect("ASCII"));
        codec.open(&request, now()).incoming()
    };
    let of_another_key = String::from_utf8(frame_emit(1, *b"none", &[0; 24 + 16])).expect("base64url");
    assert_eq!(open(format!("id={of_another_key}")), Incoming::Rejected(RejectedKind::UnknownKey));
    assert_eq!(open("id=x; id-out=x".to_owned()), Incoming::Imported);
    let marker =
        seal_marker(codec, b"any: it is not looked at", &0_u64.to_le_bytes()).expect("less than GCM's limit");
    assert_eq!(open(format!("id-out={marker}")), Incoming::Rejected(RejectedKind::SignedOut));
}

fn is_sealed(value: &[u8]) -> bool {
    let parsed = frame_parse(value);
    parsed.is_ok_and(|(suite, _, body)| suite != 1 || body.len() >= 24 + 16)
}

/// How many cookies the response to a handler that reads the session sets.
fn answered(layer: &SessionLayer<Shop>, headers: &HeaderMap) -> usize {
    let service = layer.layer(service_fn(|request: Request<()>| {
        let session = Session::<Shop>::from_parts(&request.into_parts().0).expect("the layer is around");
        session.read(|_| ());
        ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let mut request = Request::new(());
    request.headers_mut().clone_from(headers);
    match pin!(service.oneshot(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response.headers().get_all(SET_COOKIE).iter().count(),
        Poll::Pending => panic!("nothing waits"),
    }
}

/// The blanks of HTTP.
fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW)
}
