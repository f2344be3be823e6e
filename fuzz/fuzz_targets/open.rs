//! An arbitrary `Cookie` header: it never opens a session, and never panics.
//!
//! The input is tried as a whole header, and as the value of a cookie with our name, in both modes,
//! alone and in the place of the sign-out marker beside a good session.

#![no_main]

use cookie_session::{Incoming, Key, KeyRing, Mode, SessionLayer};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use libfuzzer_sys::fuzz_target;
use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Data {
    user: Option<u64>,
    roles: Vec<String>,
    nested: Vec<Option<(u8, i64)>>,
}

static LAYERS: LazyLock<[SessionLayer<Data>; 2]> = LazyLock::new(|| {
    [Mode::Encrypted, Mode::Signed].map(|mode| {
        let key: Key = "Lq1sEq5fYxvVwXb5Yq0oB2b8o0pJm9wq0W3Jc3mG1xk=".parse().expect("a good key");
        let keys = KeyRing::new(key, []).expect("one key");
        let both = SessionLayer::builder(keys).name("id").mode(mode);
        both.accept_mode(Mode::Encrypted).accept_mode(Mode::Signed).build().expect("good settings")
    })
});

fuzz_target!(|data: &[u8]| {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for layer in LAYERS.iter() {
        let codec = layer.codec();
        let request = |prefix: &[u8]| {
            let header = HeaderValue::from_bytes(&[prefix, data].concat()).ok()?;
            Some(HeaderMap::from_iter([(COOKIE, header)]))
        };
        for prefix in [&b""[..], b"id="] {
            if let Some(request) = request(prefix) {
                let opened = codec.open(&request, now);
                assert_ne!(opened.incoming(), Incoming::Accepted);
                assert!(opened.value().is_none() && opened.marker().is_none());
                // Signing out works whatever came in, and makes no marker of garbage.
                assert!(codec.removals(&opened, now).marker().is_none());
            }
        }
        let good = codec.seal(&Data::default(), None, None, now).expect("it fits");
        let beside = [good.request_header().as_bytes(), b"; id-out="].concat();
        if let Some(request) = request(&beside)
            && !data.contains(&b';')
        {
            assert_eq!(codec.open(&request, now).incoming(), Incoming::Accepted);
        }
    }
});
