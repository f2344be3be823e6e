//! Cookies that npm's `cookie-session` (2.1.1, on Express 5.3.0) issued or was shown, with what it made of them, in
//! `tests/data/express_cookies.jsonl`: they open here as there, or stand in the table of differences.

#![cfg(feature = "express")]

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use cookie_session::{
    ConfigError, Digest, Encoding, Express, Identity, Incoming, Key, KeyRing, RejectedKind, SessionId,
    SessionLayer,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const RECORDED: &str = include_str!("data/express_cookies.jsonl");

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A line of the file; only what is used.
#[derive(Deserialize)]
struct Recorded {
    id: String,
    note: String,
    /// None without signatures, nor digest and encoding.
    keys: Vec<String>,
    /// In their place, if they are no texts.
    keys_hex: Option<Vec<String>>,
    algorithm: Option<String>,
    encoding: Option<String>,
    name: String,
    cookie: Option<String>,
    /// In its place, if there were several.
    cookie_headers: Option<Vec<String>>,
    /// What Express made of it.
    express: Made,
}

#[derive(Deserialize)]
struct Made {
    status: u16,
    session: Value,
    is_new: Option<bool>,
}

/// A session as it comes, as a text.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Json(String);

impl Recorded {
    fn all() -> Vec<Recorded> {
        RECORDED.lines().map(|line| serde_json::from_str(line).expect("a recorded cookie")).collect()
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        match &self.keys_hex {
            Some(keys) => keys.iter().map(|key| key.as_bytes().chunks(2).map(byte).collect()).collect(),
            None => self.keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        }
    }

    fn express(&self) -> Express<Json> {
        let keys = self.keys();
        let none = (&b"any".to_vec(), &[][..]);
        let (primary, fallbacks) = keys.split_first().unwrap_or(none);
        let fallbacks: Vec<_> = fallbacks.iter().map(Vec::as_slice).collect();
        let digest = match self.algorithm.as_deref().unwrap_or("sha1") {
            "sha1" => Digest::Sha1,
            "sha256" => Digest::Sha256,
            "sha384" => Digest::Sha384,
            "sha512" => Digest::Sha512,
            other => panic!("{other}"),
        };
        let encoding = match self.encoding.as_deref().unwrap_or("base64") {
            "base64" | "base64url" => Encoding::Base64,
            "hex" => Encoding::Hex,
            other => panic!("{other}"),
        };
        Express::new(Identity::named(&*self.name), primary, &fallbacks)
            .digest(digest)
            .encoding(encoding)
            .allow_short_keys()
            .convert(|json: Value| Some(Json(json.to_string())))
    }

    fn headers(&self) -> HeaderMap {
        let one = || vec![self.cookie.clone().unwrap()];
        let values = self.cookie_headers.clone().unwrap_or_else(one).into_iter();
        values.map(|value| (COOKIE, HeaderValue::try_from(value).unwrap())).collect()
    }

    /// What it is here, and the session's id.
    fn opened(&self) -> (Incoming, Option<Value>, Option<SessionId>) {
        let layer = layer(self.express()).unwrap();
        let opened = layer.codec().open(&self.headers(), now());
        let session = opened.value().map(|Json(text)| serde_json::from_str(text).unwrap());
        (opened.incoming(), session, opened.meta().map(|meta| meta.id()))
    }

    /// What Express made of it: a session that came in, or none.
    fn there(&self) -> Option<&Value> {
        let Made { status, session, is_new } = &self.express;
        (*status == 200 && *is_new == Some(false)).then_some(session)
    }
}

fn layer<T>(express: Express<T>) -> Result<SessionLayer<T>, ConfigError>
where
    T: Default + Serialize + DeserializeOwned + Send + 'static,
{
    let key: Key = "a7kla1zNMA84RMZzZhWHCrnJCh+SnouQSgEs6JOJf3M=".parse().unwrap();
    let until = now() + Duration::from_secs(1);
    SessionLayer::builder(KeyRing::new(key, []).unwrap()).import(express, until).build()
}

/// What is here of the recorded cookies that Express takes, where that is something else.
fn differences() -> Vec<(&'static str, &'static str, Result<Value, RejectedKind>)> {
    use RejectedKind::{NotAuthentic, Payload, TooLong};
    let reserved = json!({ "constructor": 1, "isNew": true, "toString": 2, "a": 1 });
    vec![
        ("gen-22", "a value over 4096 bytes, which no browser keeps", Err(TooLong)),
        ("quirk-02", "quotes are a part of the value", Err(NotAuthentic)),
        ("quirk-04", "an array is no session", Err(Payload)),
        ("quirk-06", "a number is no session", Err(Payload)),
        ("quirk-08", "base64 has its padding", Err(Payload)),
        ("quirk-10", "a key twice has no one value", Err(Payload)),
        ("quirk-12", "every name is an ordinary key", Ok(reserved)),
        ("quirk-18", "nothing is taken without its signature", Err(NotAuthentic)),
    ]
}

#[test]
fn recorded_cookies_are_here_what_they_are_there() {
    let (mut taken, mut refused, mut differ) = (0, 0, Vec::new());
    let differences = differences();
    for recorded in Recorded::all() {
        let Recorded { id, note, .. } = &recorded;
        let (incoming, session, _) = recorded.opened();
        let here = session.as_ref();
        if let Some((id, why, expected)) = differences.iter().find(|(its, ..)| its == id) {
            let of_rejected = expected.as_ref().err().map(|kind| Incoming::Rejected(*kind));
            assert_eq!(incoming, of_rejected.unwrap_or(Incoming::Imported), "{id}: {why}");
            assert_eq!(here, expected.as_ref().ok(), "{id}: {why}");
            assert_ne!(here, recorded.there(), "{id} is no difference");
            differ.push(*id);
        } else if let Some(there) = recorded.there() {
            assert_eq!((incoming, here), (Incoming::Imported, Some(there)), "{id}: {note}");
            taken += 1;
        } else {
            assert!(here.is_none() && incoming != Incoming::Imported, "{id}, {incoming:?}: {note}");
            refused += 1;
        }
    }
    let listed: Vec<_> = differences.iter().map(|(id, ..)| *id).collect();
    assert_eq!(differ, listed, "each is in the file, in its order");
    assert_eq!((taken, refused), (25, 16));
}

#[test]
fn no_bit_of_a_recorded_cookie_can_be_changed() {
    for recorded in Recorded::all().into_iter().filter(|its| its.there().is_some()).take(8) {
        let layer = layer(recorded.express()).unwrap();
        let cookie = recorded.cookie.as_deref().unwrap();
        for (at, bit) in (0..cookie.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = cookie.as_bytes().to_vec();
            changed[at] ^= 1 << bit;
            // What is no header does not come through.
            let Ok(value) = HeaderValue::from_bytes(&changed) else { continue };
            let opened = layer.codec().open(&HeaderMap::from_iter([(COOKIE, value)]), now());
            assert!(opened.value().is_none(), "{}: {:?}", recorded.id, changed.escape_ascii().to_string());
        }
    }
}

#[test]
fn the_id_is_made_of_the_old_value_and_its_key_alone() {
    let all = Recorded::all();
    let id = |id: &str| {
        let recorded = all.iter().find(|recorded| recorded.id == id).unwrap();
        recorded.opened().2.unwrap()
    };
    // One cookie, before and after a rotation that moved its key to the second place.
    assert_eq!(id("example-1"), id("rot-01"));
    // One value under two keys, and two values under one.
    assert_ne!(id("example-1"), id("gen-01"));
    assert_ne!(id("example-1"), id("gen-03"));
    // Other signatures of one value under one key.
    assert_eq!(id("gen-03"), id("gen-04"));
}

#[test]
fn a_number_is_the_double_that_javascript_wrote() {
    #[derive(Default, Serialize, Deserialize)]
    struct Price {
        price: f64,
    }
    // As `JSON.stringify` writes them: the fewest digits that name the double.
    for text in ["19.99", "0.30000000000000004", "0.9073038322028689", "-3.8807624703029e+208", "5e-324"] {
        let value = BASE64_STANDARD.encode(format!(r#"{{"price":{text}}}"#));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a key of some length").unwrap();
        mac.update(format!("session={value}").as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        let cookies = format!("session={value}; session.sig={signature}");
        let express = Express::new(Identity::named("session"), b"a key of some length", &[]);
        let layer = layer::<Price>(express.digest(Digest::Sha256)).unwrap();
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(cookies).unwrap())]);
        let opened = layer.codec().open(&headers, now());
        assert_eq!(opened.value().map(|its| its.price), Some(text.parse().unwrap()), "{text}");
    }
}

#[test]
fn a_name_that_is_no_token_is_refused() {
    for name in ["a b", "a,b", "a/b(c)", "a\"b", "\u{e4}", ""] {
        let express = Express::<Json>::new(Identity::named(name), &[1; 16], &[]);
        assert!(layer(express).is_err(), "{name:?}");
    }
}

#[test]
fn short_keys_are_refused_until_they_are_allowed_and_empty_ones_in_any_case() {
    let express = |primary: &[u8], fallbacks: &[&[u8]]| {
        Express::<Json>::new(Identity::named("session"), primary, fallbacks)
    };
    assert!(layer(express(&[1; 16], &[&[2; 16]])).is_ok());
    for (primary, fallbacks) in [(&[1; 15][..], &[&[2; 16][..]][..]), (&[1; 16], &[&[2; 15]])] {
        let error = layer(express(primary, fallbacks)).unwrap_err().to_string();
        assert!(error.contains("15") && error.contains("16"), "{error}");
        assert!(layer(express(primary, fallbacks).allow_short_keys()).is_ok());
    }
    assert!(layer(express(b"a", &[]).allow_short_keys()).is_ok());
    assert!(layer(express(b"", &[]).allow_short_keys()).is_err());
    assert!(layer(express(b"a", &[b""]).allow_short_keys()).is_err());
}
