//! A configuration, whatever it says: a loader's syntax error, a `ConfigError` without any secret in it,
//! or a layer whose cookie a browser keeps as it was configured.
//!
//! The first byte of the input chooses: `t` TOML, `j` JSON, anything else settings made of the rest,
//! in either format. In a text `$0`, `$1` and so on stand for a key in one of its spellings, so that
//! no piece of a key is in the input itself.
//!
//! No file is read and no environment: a path under a name that ends in `_file` gets a NUL in front,
//! which no file system is asked for.

#[path = "../../tests/common/fields.rs"]
mod fields;

use arbitrary::{Result, Unstructured};
use cookie_session::{Incoming, Key, KeyRing, SessionConfig, SessionLayer, SetCookie};
use fields::{FIELDS, IDENTITY_FIELDS, KEY_FIELDS};
use http::{HeaderMap, header::COOKIE};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeSet, HashSet},
    error::Error,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// One key as people write it, and one whose digits are all decimal.
const SPELLINGS: [&str; 7] = [
    "j+84Zx/6pRk0mD7uVbQ3sTyHc1NwLf9GaXi5EeO2KqY=",
    "j-84Zx_6pRk0mD7uVbQ3sTyHc1NwLf9GaXi5EeO2KqY",
    "8fef38671ffaa51934983eee55b437b13c877353702dff466978b911e3b62aa6",
    "8FEF38671FFAA51934983EEE55B437B13C877353702DFF466978B911E3B62AA6",
    "8f:ef:38:67:1f:fa:a5:19:34:98:3e:ee:55:b4:37:b1:3c:87:73:53:70:2d:ff:46:69:78:b9:11:e3:b6:2a:a6",
    "j+84Zx/6pRk0mD7uVbQ3sT yHc1NwLf9GaXi5EeO2KqY=",
    "1029384756473829108264519037281946507382916455463728190192837465",
];

static OTHER: LazyLock<KeyRing> = LazyLock::new(|| {
    let key: Key = "Lq1sEq5fYxvVwXb5Yq0oB2b8o0pJm9wq0W3Jc3mG1xk=".parse().expect("a good key");
    KeyRing::new(key, []).expect("one key")
});

pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((b't', text)) => text_of(text).map_or((), |text| toml(&text)),
        Some((b'j', text)) => text_of(text).map_or((), |text| json(&text)),
        Some((choice, rest)) => {
            let Ok(settings) = settings(&mut Unstructured::new(rest)) else { return };
            if has_a_piece_by_chance(&settings) {
                return;
            }
            // TOML has no null.
            match toml::to_string(&settings) {
                Ok(text) if choice & 1 == 0 => toml(&text),
                _ => json(&settings.to_string()),
            }
        }
        None => {}
    }
}

/// The text with the keys put in.
fn text_of(text: &[u8]) -> Option<String> {
    let mut text = str::from_utf8(text).ok().filter(|text| !has_a_piece(text))?.to_owned();
    for (number, spelling) in SPELLINGS.iter().enumerate() {
        text = text.replace(&format!("${number}"), spelling);
    }
    Some(text)
}

fn toml(text: &str) {
    let table = toml::from_str::<toml::Table>(text);
    let config = toml::from_str::<SessionConfig>(text);
    // A table takes no integer beyond 64 bits, which the loader hands over: a fault to `build`.
    assert!(config.is_ok() || table.is_err(), "no other error than the loader's, about {text}");
    if let (Ok(table), Ok(config)) = (table, config) {
        check(&serde_json::to_value(table).expect("a table with names"), config);
    }
}

fn json(text: &str) {
    let value = serde_json::from_str::<Value>(text);
    let config = serde_json::from_str::<SessionConfig>(text);
    assert!(config.is_ok() || value.is_err(), "no other error than the loader's, about {text}");
    if let (Ok(value), Ok(config)) = (value, config) {
        check(&value, config);
    }
}

fn check(value: &Value, config: SessionConfig) {
    let mut harmless = value.clone();
    let config = if defuse(&mut harmless) {
        serde_json::from_value(harmless).expect("it never fails to deserialise")
    } else {
        config
    };
    keeps_the_secret(&format!("{config:?} {:?}", SessionLayer::<u64>::from_config(config.clone())));
    let with_keys = SessionLayer::<u64>::from_config(config.clone()).keys(OTHER.clone());
    for builder in [SessionLayer::from_config(config), with_keys] {
        match builder.build() {
            Ok(layer) => as_configured(&layer, value),
            Err(error) => {
                let mut next: Option<&dyn Error> = Some(&error);
                while let Some(error) = next {
                    keeps_the_secret(&format!("{error}\n{error:?}\n{error:#?}"));
                    next = error.source();
                }
            }
        }
    }
}

/// Puts a NUL before what would be a file's path; whether there was any.
fn defuse(value: &mut Value) -> bool {
    let mut found = false;
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Value::String(path) = value
                    && name.ends_with("_file")
                {
                    path.insert(0, '\0');
                    found = true;
                }
                found |= defuse(value);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| found |= defuse(value)),
        _ => {}
    }
    found
}

/// As long as a piece of a key must be to count.
const PIECE: usize = 8;

fn pieces(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let joined = text.to_lowercase().replace("\\n", "");
    let joined: Vec<u8> = joined.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b':').collect();
    (PIECE..=joined.len()).map(move |end| joined[end - PIECE..end].to_vec())
}

fn has_a_piece(text: &str) -> bool {
    static PIECES: LazyLock<HashSet<Vec<u8>>> =
        LazyLock::new(|| SPELLINGS.iter().flat_map(|spelling| pieces(spelling)).collect());
    pieces(text).any(|piece| PIECES.contains(&piece))
}

/// A number or a text that shares octets with the key, and is no planted one: it may be shown.
fn has_a_piece_by_chance(value: &Value) -> bool {
    let by_chance =
        |text: &str| has_a_piece(text) && !SPELLINGS.iter().any(|spelling| text.contains(spelling.trim()));
    match value {
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| by_chance(name) || has_a_piece_by_chance(value))
        }
        Value::Array(list) => list.iter().any(has_a_piece_by_chance),
        Value::String(text) => by_chance(text),
        Value::Number(number) => by_chance(&number.to_string()),
        Value::Null | Value::Bool(_) => false,
    }
}

fn keeps_the_secret(text: &str) {
    assert!(!text.trim().is_empty());
    assert!(!has_a_piece(text), "a piece of the key in {text}");
}

/// The layer's cookies, as a browser reads them, are what the settings say.
fn as_configured(layer: &SessionLayer<u64>, settings: &Value) {
    let codec = layer.codec();
    let cookie = codec.seal(&7, None, None, now()).expect("an empty session fits");
    let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
    let opened = codec.open(&request, now());
    assert_eq!((opened.incoming(), opened.value()), (Incoming::Accepted, Some(&7)));
    let meta = opened.meta().expect("it opened");
    let lives = meta.expires_at().duration_since(now()).expect("it lives");

    let field = |name: &str| settings.get(name).filter(|value| !value.is_null());
    let text = |name: &str| field(name).and_then(Value::as_str);
    let flag = |name: &str| field(name).is_some_and(|value| value == true || is(value, "true"));
    let secure = !flag("insecure_for_local_http");
    let default_name = if secure { "__Host-Http-session" } else { "session" };
    let expected = Stored {
        name: text("name").unwrap_or(default_name).to_owned(),
        value: cookie.value().to_owned(),
        domain: text("domain").map(str::to_ascii_lowercase),
        path: Some(text("path").unwrap_or("/").to_owned()),
        secure,
        http_only: true,
        same_site: Some(match field("same_site") {
            Some(value) if is(value, "none") => "None",
            Some(value) if is(value, "strict") => "Strict",
            _ => "Lax",
        }),
        partitioned: flag("partitioned"),
        max_age: Some(lives.as_millis().div_ceil(1000) as i64),
    };
    assert_eq!(stored(&cookie), expected);
    let signed = field("mode").is_some_and(|mode| is(mode, "signed"));
    assert_eq!(meta.mode() == cookie_session::Mode::Signed, signed);
    let most = field("max_set_cookie").map_or(4093, |most| match most {
        Value::String(most) => most.trim().parse().expect("a number"),
        most => most.as_u64().expect("a number"),
    });
    assert!(cookie.header().len() as u64 <= most && most <= 4093);

    // The shorter of both timeouts, where they are written simply enough to be read here.
    let [idle, absolute] = ["idle_timeout", "absolute_timeout"].map(|name| match text(name) {
        Some(written) => simple_duration(written),
        None => Some(if name == "idle_timeout" { 24 * 60 * 60 } else { 14 * 24 * 60 * 60 }),
    });
    if let (Some(idle), Some(absolute)) = (idle, absolute) {
        assert_eq!(lives, Duration::from_secs(idle.min(absolute)));
    }

    // What removes it, and the marker, are the same to a browser but for what they have to say. Those of
    // earlier identities stand behind each of the two.
    let removals = codec.removals(&opened, now());
    let each: Vec<Stored> = removals.cookies().iter().map(stored).collect();
    let (removed, markers) = each.split_at(each.len() / 2);
    let removal = Stored { value: String::new(), max_age: Some(0), ..stored(&cookie) };
    assert_eq!(removed.first(), Some(&removal));
    let marker = markers.first().expect("a session came in");
    let outlives = marker.max_age.is_some_and(|max_age| max_age as u128 * 1000 >= lives.as_millis());
    assert!(outlives && !marker.value.is_empty());
    let (value, max_age) = (marker.value.clone(), marker.max_age);
    assert_eq!(*marker, Stored { name: format!("{}-out", expected.name), value, max_age, ..expected });
}

fn is(value: &Value, text: &str) -> bool {
    value.as_str().is_some_and(|value| value.trim() == text)
}

/// Digits and one short unit, in seconds.
fn simple_duration(text: &str) -> Option<u64> {
    let text = text.trim();
    let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60), ("days", 24 * 60 * 60)];
    units.iter().find_map(|(unit, seconds)| {
        let digits = text.strip_suffix(unit)?;
        let number: u64 = digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok())??;
        number.checked_mul(*seconds)
    })
}

/// What a browser has of a cookie.
#[derive(Debug, PartialEq)]
struct Stored {
    name: String,
    value: String,
    domain: Option<String>,
    path: Option<String>,
    secure: bool,
    http_only: bool,
    same_site: Option<&'static str>,
    partitioned: bool,
    max_age: Option<i64>,
}

/// RFC 6265bis-22 sections 5.6 and 5.7 for a response from the host in question, over TLS where the
/// cookie is Secure: the cookie as it is stored. Whatever makes a browser ignore it, or an attribute
/// of it, is a failure.
fn stored(cookie: &SetCookie) -> Stored {
    let bytes = cookie.header().as_bytes();
    let text = str::from_utf8(bytes).expect("ASCII");
    assert!(!bytes.iter().any(|c| matches!(c, 0x00..=0x08 | 0x0a..=0x1f | 0x7f) || !c.is_ascii()));
    let trim = |text: &str| text.trim_matches([' ', '\t']).to_owned();
    let (pair, attributes) = text.split_once(';').expect("attributes");
    let (name, value) = pair.split_once('=').expect("a pair");
    let (name, value) = (trim(name), trim(value));
    assert!(!name.is_empty() && name.len() + value.len() <= 4096);
    let mut stored = Stored {
        name,
        value,
        domain: None,
        path: None,
        secure: false,
        http_only: false,
        same_site: None,
        partitioned: false,
        max_age: None,
    };
    let mut seen = BTreeSet::new();
    for attribute in attributes.split(';') {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let (name, value) = (trim(name).to_ascii_lowercase(), trim(value));
        assert!(value.len() <= 1024);
        match name.as_str() {
            "max-age" => {
                let digits = !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit());
                stored.max_age = digits.then(|| value.parse().expect("not over 400 days"));
            }
            "domain" => {
                let host = value.strip_prefix('.').unwrap_or(&value).to_ascii_lowercase();
                assert!(!host.is_empty());
                stored.domain = Some(host);
            }
            "path" => stored.path = Some(value).filter(|path| path.starts_with('/')),
            "secure" => stored.secure = true,
            "httponly" => stored.http_only = true,
            "partitioned" => stored.partitioned = true,
            "samesite" => {
                let known = ["Strict", "Lax", "None"];
                stored.same_site = known.into_iter().find(|known| known.eq_ignore_ascii_case(&value));
            }
            other => panic!("an attribute {other:?}"),
        }
        assert!(seen.insert(name), "one attribute twice");
    }
    assert!(stored.max_age.is_none_or(|max_age| max_age <= 400 * 24 * 60 * 60));
    assert!(stored.same_site != Some("None") || stored.secure);
    assert!(!stored.partitioned || stored.secure);
    let name = stored.name.to_ascii_lowercase();
    let host_only = stored.domain.is_none() && stored.path.as_deref() == Some("/");
    assert!(!name.starts_with("__secure-") || stored.secure);
    assert!(!name.starts_with("__host-") || stored.secure && host_only);
    assert!(!name.starts_with("__http-") || stored.secure && stored.http_only);
    assert!(!name.starts_with("__host-http-") || stored.secure && stored.http_only && host_only);
    stored
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Settings with known names, most of them good, and a key at any place.
fn settings(u: &mut Unstructured) -> Result<Value> {
    let mut fields = Map::new();
    for field in FIELDS {
        if u.ratio(1, 3)? {
            fields.insert(field.to_owned(), value_of(u, field)?);
        }
    }
    if u.ratio(1, 8)? {
        fields.insert(some_name(u)?, anything(u, 3)?);
    }
    Ok(Value::Object(fields))
}

fn value_of(u: &mut Unstructured, field: &str) -> Result<Value> {
    if u.ratio(1, 6)? {
        return anything(u, 3);
    }
    Ok(match field {
        "name" => {
            json!(u.choose(&["id", "__Host-id", "__Secure-id", "__http-id", "__HOST-HTTP-id", "a b", ""])?)
        }
        "context" => json!(u.arbitrary::<&str>()?),
        "domain" => {
            json!(u.choose(&["example.com", "Shop.Example.COM", "1.2.3.4", ".a", "a;b", "localhost"])?)
        }
        "path" => json!(u.choose(&["/", "/shop", "shop", "/;", "/a b", "/é", "/\"=,"])?),
        "same_site" => json!(u.choose(&["lax", "strict", "none", " lax\n", "Lax"])?),
        "partitioned" | "insecure_for_local_http" => {
            u.choose(&[json!(true), json!(false), json!("true"), json!(" false "), json!("yes")])?.clone()
        }
        "max_set_cookie" => {
            let number = u.int_in_range(0..=5000)?;
            if u.arbitrary()? { json!(number) } else { json!(number.to_string()) }
        }
        "mode" | "accept_mode" => json!(u.choose(&["encrypted", "signed", "signed ", "none"])?),
        "keys" => {
            let mut fields = Map::new();
            for field in KEY_FIELDS {
                if u.ratio(1, 2)? {
                    let texts = [json!(spelling(u)?), json!([spelling(u)?]), json!(""), anything(u, 1)?];
                    fields.insert(field.to_owned(), u.choose(&texts)?.clone());
                }
            }
            Value::Object(fields)
        }
        "formerly" => {
            let mut list = Vec::new();
            for _ in 0..u.int_in_range(0..=2)? {
                let mut fields = Map::new();
                for field in IDENTITY_FIELDS {
                    if u.ratio(1, 3)? {
                        fields.insert(field.to_owned(), value_of(u, field)?);
                    }
                }
                list.push(Value::Object(fields));
            }
            Value::Array(list)
        }
        _ => {
            let number = u.int_in_range(0..=500)?;
            let units = ["s", "m", "h", "d", "days", "ms", "weeks", "h 1m", ""];
            json!(format!("{number}{}", u.choose(&units)?))
        }
    })
}

/// A key as somebody may have pasted it.
fn spelling(u: &mut Unstructured) -> Result<String> {
    let before = u.choose(&["", "", "", "__Host-", "/", "KEY=", "é "])?;
    let behind = u.choose(&["", "", "", "\n", ";", ".com", ",x"])?;
    Ok(format!("{before}{}{behind}", u.choose(&SPELLINGS)?))
}

fn some_name(u: &mut Unstructured) -> Result<String> {
    if u.arbitrary()? { spelling(u) } else { Ok(u.choose(&["key", "Name", "keys ", ""])?.to_string()) }
}

/// A value of any kind, with a key in it now and then.
fn anything(u: &mut Unstructured, depth: u8) -> Result<Value> {
    Ok(match u.int_in_range(0..=if depth == 0 { 5 } else { 7 })? {
        0 | 1 => json!(spelling(u)?),
        2 => Value::Null,
        3 => json!(u.arbitrary::<bool>()?),
        4 => json!(u.arbitrary::<i64>()?),
        5 => json!(u.arbitrary::<f64>()?),
        6 => json!([anything(u, depth - 1)?, anything(u, depth - 1)?]),
        _ => json!({ some_name(u)?: anything(u, depth - 1)? }),
    })
}
