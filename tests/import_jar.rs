//! Sessions in private and signed jars of the `cookie` crate, recorded with its version 0.18.1: with `Display`, and as
//! axum-extra sends them, percent-encoded. Beside the crate itself: the package `tests/jars`.
#![cfg(feature = "jar")]

use cookie_session::{
    ConfigError, Identity, Incoming, Jar, JarKey, Key, KeyRing, Opened, RejectedKind, SessionLayer,
};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The bytes from 0 to 63, as `cookie::Key::from` was given them.
fn from() -> JarKey {
    JarKey::new(&(0..64).collect::<Vec<u8>>())
}

/// The bytes from 100 to 131, as `cookie::Key::derive_from` was.
fn derived() -> JarKey {
    JarKey::derive_from(&(100..132).collect::<Vec<u8>>())
}

const SHOP: &str = r#"{"user":42,"cart":[3,5]}"#;
const ODD: &str = "a%20b; \u{fc}\"x\"";

/// The key, the text, and the value of its cookie.
type Recorded = (fn() -> JarKey, &'static str, &'static str);

const PRIVATE: [Recorded; 6] = [
    (from, SHOP, "tX7bcg+jWOt+vHviXk9vxWH3HCSqClxwWZ3urg6CAqfY3lWJm7qN7sL4HxFtF4K6Nvjcew=="),
    (from, "", "nm8g7pSvK6srlGsHd/OFsssfJlEbHBDyhvzsqw=="),
    (from, ODD, "Zm+nwmzMb8TQJ3gQK5BgU9B5hAsU9ppXMRzTBUPA+IVQkPnbwt0gkQ%3D%3D"),
    (derived, SHOP, "2VsVMnWMQv+lMLofLp3QYPnvzQMI%2F+RXnjpEnA%2FZ09789ObeUBfCpjWAYVpk2kcIAq8O3A%3D%3D"),
    (derived, "", "ajfzJd9oy%2f4UeUaWbJFZjytVL%2fQV5pIYThsqaQ%3d%3d"),
    (derived, ODD, "K0cUdq7fBEJGOgdc1wZrsB9YTSC2mqPWX32fkFjkHctTFrmsul/UWA=="),
];

const SIGNED: [Recorded; 7] = [
    (from, SHOP, r#"swVkAGPS/jRSo6eOvOVPMMueQXyTSYyYMWQ2sSAzyPw={"user":42,"cart":[3,5]}"#),
    (
        from,
        SHOP,
        "swVkAGPS%2FjRSo6eOvOVPMMueQXyTSYyYMWQ2sSAzyPw%3D%7B%22user%22%3A42%2C%22cart%22%3A%5B3%2C5%5D%7D",
    ),
    (from, "", "04tCCW2A9F+Ca0Sp1WB95ySWpBXT9KGoyI47udqNwcs="),
    (from, ODD, "24jzBshigXrQvKxrJ7Zmi4KMLPZgDIp8SJp3rL%2Fudrs%3Da%2520b%3B%20%C3%BC%22x%22"),
    (derived, SHOP, "oT/GiskmI3oIWGjDS/YY2nSDWmnUlxskkLB7obOxppY={\"user\":42,\"cart\":[3,5]}"),
    (derived, "", "ngFfLcyrjlneXctmg3lYk40939qLtDvwsKmX48bissU%3D"),
    (derived, ODD, "ZbrFm75cUB9TjYExpg6KjHC9vrFnTqleEUvdM08vB28%3Da%2520b%3B%20%C3%BC%22x%22"),
];

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A layer whose session is the jar's text.
fn layer(jar: Jar<String>) -> SessionLayer<String> {
    let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
    SessionLayer::builder(keys).import(jar, now() + Duration::from_secs(60)).build().unwrap()
}

fn text(text: &str) -> Option<String> {
    (text != "refused").then(|| text.to_owned())
}

fn private(name: &str, key: JarKey) -> SessionLayer<String> {
    layer(Jar::private(Identity::named(name), key, text))
}

fn signed(name: &str, key: JarKey) -> SessionLayer<String> {
    layer(Jar::signed(Identity::named(name), key, text))
}

fn open(layer: &SessionLayer<String>, cookies: &str) -> Opened<String> {
    let value = HeaderValue::from_bytes(cookies.as_bytes()).unwrap();
    layer.codec().open(&HeaderMap::from_iter([(COOKIE, value)]), now())
}

fn kind(opened: &Opened<String>) -> RejectedKind {
    match opened.incoming() {
        Incoming::Rejected(kind) => kind,
        other => panic!("{other}"),
    }
}

#[test]
fn what_a_private_jar_holds_opens() {
    for (key, text, value) in PRIVATE {
        let opened = open(&private("shop", key()), &format!("shop={value}"));
        assert_eq!((opened.value().map(String::as_str), opened.incoming()), (Some(text), Incoming::Imported));
    }
}

#[test]
fn what_a_signed_jar_holds_opens() {
    for (key, text, value) in SIGNED {
        let opened = open(&signed("plain", key()), &format!("plain={value}"));
        assert_eq!((opened.value().map(String::as_str), opened.incoming()), (Some(text), Incoming::Imported));
    }
}

#[test]
fn a_signed_text_with_a_percent_sign_that_was_not_encoded_opens_as_it_is() {
    // What `Display` writes: the text holds `%20`, and must not be read as a blank. (`;` would end the value.)
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let key: Vec<u8> = (0..64).collect();
    let mac = Hmac::<sha2::Sha256>::new_from_slice(&key[..32]).unwrap().chain_update("a%20b").finalize();
    let mac = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, mac.into_bytes());
    let layer = signed("plain", from());
    let opened = open(&layer, &format!("plain={mac}a%20b"));
    assert_eq!(opened.value().map(String::as_str), Some("a%20b"));
    // Encoded or not, one text is one session; what is no encoding stays, and is not what was signed.
    let encoded = open(&layer, &format!("plain={}a%2520b", mac.replace('/', "%2F").replace('=', "%3D")));
    assert_eq!(encoded.meta().map(|meta| meta.id()), opened.meta().map(|meta| meta.id()));
    assert_eq!(kind(&open(&layer, &format!("plain={mac}a%2xb%"))), RejectedKind::NotAuthentic);
}

#[test]
fn a_changed_value_does_not_open() {
    for (layer, name, value) in
        [(private("shop", from()), "shop", PRIVATE[0].2), (signed("plain", from()), "plain", SIGNED[0].2)]
    {
        for at in 0..value.len() {
            for with in ["A", "B"].into_iter().filter(|with| value[at..at + 1] != **with) {
                let changed = format!("{name}={}{with}{}", &value[..at], &value[at + 1..]);
                let opened = open(&layer, &changed);
                assert!(
                    matches!(kind(&opened), RejectedKind::NotAuthentic | RejectedKind::Malformed),
                    "{changed}"
                );
            }
            assert!(open(&layer, &format!("{name}={}", &value[..at])).value().is_none(), "{at}");
        }
        assert_eq!(kind(&open(&layer, &format!("{name}="))), RejectedKind::Malformed);
    }
}

#[test]
fn another_key_another_half_of_it_or_the_other_jar_does_not_open() {
    let (shop, plain) = (format!("shop={}", PRIVATE[0].2), format!("plain={}", SIGNED[0].2));
    assert_eq!(kind(&open(&private("shop", derived()), &shop)), RejectedKind::NotAuthentic);
    assert_eq!(kind(&open(&signed("plain", derived()), &plain)), RejectedKind::NotAuthentic);
    let mut other_half: Vec<u8> = (0..64).collect();
    other_half[40] = 0;
    assert_eq!(kind(&open(&private("shop", JarKey::new(&other_half)), &shop)), RejectedKind::NotAuthentic);
    assert!(open(&signed("plain", JarKey::new(&other_half)), &plain).value().is_some());
    other_half[..40].reverse();
    assert_eq!(kind(&open(&signed("plain", JarKey::new(&other_half)), &plain)), RejectedKind::NotAuthentic);
    // What follows the first 64 bytes is not looked at, as there.
    let longer: Vec<u8> = (0..70).collect();
    assert!(open(&private("shop", JarKey::new(&longer)), &shop).value().is_some());
    assert!(open(&signed("shop", from()), &shop).value().is_none());
    assert!(open(&private("plain", from()), &plain).value().is_none());
}

#[test]
fn a_private_value_is_bound_to_its_name_and_a_signed_one_is_not() {
    let moved = format!("other={}", PRIVATE[0].2);
    assert_eq!(kind(&open(&private("other", from()), &moved)), RejectedKind::NotAuthentic);
    let moved = format!("other={}", SIGNED[0].2);
    assert_eq!(open(&signed("other", from()), &moved).value().map(String::as_str), Some(SHOP));
}

#[test]
fn of_several_cookies_the_last_that_opens_counts() {
    let layer = signed("plain", from());
    let [first, _, second, ..] = SIGNED;
    let both =
        |a: &str, b: &str| open(&layer, &format!("plain={a}; plain={b}")).value().map(String::to_owned);
    assert_eq!(both(first.2, second.2).as_deref(), Some(second.1));
    assert_eq!(both(second.2, first.2).as_deref(), Some(first.1));
    assert_eq!(both(first.2, "garbage").as_deref(), Some(first.1));
    assert_eq!(both("garbage", "garbage"), None);
}

#[test]
fn a_text_that_is_no_session_is_refused() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let key: Vec<u8> = (0..64).collect();
    let layer = signed("plain", from());
    for text in [&b"refused"[..], &b"\xff\xfe"[..]] {
        let mac = Hmac::<sha2::Sha256>::new_from_slice(&key[..32]).unwrap().chain_update(text).finalize();
        let mac = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, mac.into_bytes());
        let value = HeaderValue::from_bytes(&[b"plain=", mac.as_bytes(), text].concat()).unwrap();
        let opened = layer.codec().open(&HeaderMap::from_iter([(COOKIE, value)]), now());
        assert_eq!(kind(&opened), RejectedKind::Payload, "{text:?}");
    }
}

#[test]
fn an_id_hangs_on_what_was_authenticated_and_on_the_key_alone() {
    let id = |layer: &SessionLayer<String>, cookies: &str| open(layer, cookies).meta().unwrap().id();
    let raw = format!("shop={}", PRIVATE[0].2);
    let encoded = raw.replace("==", "%3D%3D").replace('+', "%2B");
    let first = id(&private("shop", from()), &raw);
    assert_eq!(id(&private("shop", from()), &encoded), first);
    assert_ne!(id(&private("shop", from()), &format!("shop={}", PRIVATE[1].2)), first);
    let signed_id = id(&signed("plain", from()), &format!("plain={}", SIGNED[0].2));
    assert_ne!(signed_id, first);
    // As the page on the wire format has it, under the half of the key that the jar uses.
    let part = |part: &[u8]| [&u32::try_from(part.len()).unwrap().to_le_bytes(), part].concat();
    for (key, value, seen) in [(32..64, PRIVATE[0].2, first), (0..32, SIGNED[0].2, signed_id)] {
        let info = [part(b"cookie-session/v1"), part(b"import"), part(value.as_bytes())].concat();
        let mut id = [0; 16];
        let key: Vec<u8> = key.collect();
        hkdf::Hkdf::<sha2::Sha256>::new(None, &key).expand(&info, &mut id).unwrap();
        assert_eq!(seen.to_bytes(), id);
    }
}

#[test]
fn short_keys_stop_the_start() {
    let built = |key: JarKey| {
        let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
        let jar = Jar::private(Identity::named("shop"), key, text);
        SessionLayer::<String>::builder(keys).import(jar, now()).build().map(drop)
    };
    for (key, bytes, least) in
        [(JarKey::new(&[7; 63]), 63, 64), (JarKey::new(&[]), 0, 64), (JarKey::derive_from(&[7; 31]), 31, 32)]
    {
        assert_eq!(built(key), Err(ConfigError::OldKeyShort { bytes, least }));
    }
    assert_eq!(built(JarKey::new(&[7; 64])), Ok(()));
    assert_eq!(built(JarKey::derive_from(&[7; 32])), Ok(()));
}
