//! What a response that used the session tells caches: `Vary: Cookie` always; `private` unless the
//! handler asked for shared caching, which only a write or a removal overrules.

use crate::kit::*;
use cookie_session::{Incoming, Session, SessionLayer, UpdateError};
use http::{HeaderName, HeaderValue, Request, Response, header::SET_COOKIE};
use std::{convert::Infallible, future};
use tower::{Layer, Service, service_fn};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Used {
    Never,
    Extracted,
    Read,
    Reissued,
    Written,
    Removed,
}

use Used::{Extracted, Never, Read, Reissued, Removed, Written};

/// Lines of a header, each as it stands.
type Lines = &'static [(&'static str, &'static str)];

struct After {
    headers: Vec<(String, String)>,
    cookies: usize,
}

/// A response with these headers, after the layer.
fn after(used: Used, before: &[(&'static str, &'static str)]) -> After {
    after_status(used, before, 200)
}

fn after_status(used: Used, before: &[(&'static str, &'static str)], code: u16) -> After {
    let clock = Clock::new();
    let layer: SessionLayer<Shop> = builder(&clock).reissue_after(MINUTE).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    if used == Reissued {
        clock.pass(MINUTE);
    }
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = || Session::<Shop>::from_parts(&parts).unwrap();
        match used {
            Never => {}
            Extracted => drop(session()),
            Read | Reissued => assert_eq!(session().get(), user(1)),
            Written => session().update(|shop| shop.cart.push(1)).unwrap(),
            Removed => assert!(session().clear()),
        }
        let mut response = status(code);
        for (name, value) in before {
            let name = HeaderName::from_static(name);
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        future::ready(Ok::<_, Infallible>(response))
    }));
    let Ok(response) = ready(service.call(request(&cookie)));
    let headers = response.headers().iter().filter(|(name, _)| *name != SET_COOKIE);
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    After { headers, cookies: response.headers().get_all(SET_COOKIE).iter().count() }
}

fn expect(used: Used, before: Lines, expected: Lines) {
    let After { headers, cookies } = after(used, before);
    let mut expected: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    expected.sort();
    assert_eq!(headers, expected, "{used:?} of {before:?}");
    match used {
        Never | Extracted | Read => assert_eq!(cookies, 0, "{used:?} of {before:?}"),
        // The session, or its removal and the marker.
        Written => assert_eq!(cookies, 1, "{used:?} of {before:?}"),
        Removed => assert_eq!(cookies, 2, "{used:?} of {before:?}"),
        Reissued => {}
    }
}

const VARY: (&str, &str) = ("vary", "Cookie");
const CC: &str = "cache-control";
const CDN: &str = "cdn-cache-control";
const SURROGATE: &str = "surrogate-control";

#[test]
fn a_response_whose_request_never_asked_for_the_session_is_left_as_it_is() {
    let all: [Lines; 5] = [
        &[],
        &[(CC, "max-age=60")],
        &[(CC, "public, s-maxage=60")],
        &[("vary", "Accept"), (CDN, "max-age=60")],
        &[(SURROGATE, "max-age=60")],
    ];
    for lines in all {
        expect(Never, lines, lines);
    }
}

/// Where the handler did not ask for shared caching, before and after.
const PRIVATE: [(Lines, Lines); 19] = [
    (&[], &[VARY, (CC, "private")]),
    (&[(CC, "max-age=60")], &[VARY, (CC, "max-age=60, private")]),
    (&[(CC, "no-cache")], &[VARY, (CC, "no-cache, private")]),
    (&[(CC, "private")], &[VARY, (CC, "private")]),
    (&[(CC, "max-age=60, Private")], &[VARY, (CC, "max-age=60, Private")]),
    (&[(CC, "no-store")], &[VARY, (CC, "no-store")]),
    (&[(CC, "No-Store, max-age=0")], &[VARY, (CC, "No-Store, max-age=0")]),
    // Private for some headers only is no bare `private`.
    (&[(CC, "private=\"x-a, x-b\"")], &[VARY, (CC, "private=\"x-a, x-b\", private")]),
    // Neither is a longer word, nor a quoted one.
    (&[(CC, "x-private, publicity=1")], &[VARY, (CC, "x-private, publicity=1, private")]),
    (&[(CC, "ext=\"a, no-store, public\"")], &[VARY, (CC, "ext=\"a, no-store, public\", private")]),
    (
        &[(CC, "max-age=60"), (CC, "must-revalidate")],
        &[VARY, (CC, "max-age=60"), (CC, "must-revalidate, private")],
    ),
    (&[(CC, "no-store"), (CC, "max-age=60")], &[VARY, (CC, "no-store"), (CC, "max-age=60")]),
    // Behind a quote that is never closed nobody would see it.
    (&[(CC, "max-age=60, ext=\"a")], &[VARY, (CC, "private")]),
    // These say that such caches must not store it.
    (&[(CDN, "no-store")], &[VARY, (CDN, "no-store"), (CC, "private")]),
    (
        &[(SURROGATE, "max-age=60, no-store"), (CDN, "private, max-age=60")],
        &[VARY, (SURROGATE, "max-age=60, no-store"), (CDN, "private, max-age=60"), (CC, "private")],
    ),
    (&[("vary", "Accept-Encoding")], &[("vary", "Accept-Encoding, Cookie"), (CC, "private")]),
    (&[("vary", "Accept, cookie")], &[("vary", "Accept, cookie"), (CC, "private")]),
    (&[("vary", "*")], &[("vary", "*"), (CC, "private")]),
    // There are no quotes in a list of names.
    (
        &[("vary", "Accept"), ("vary", "X-A\"")],
        &[("vary", "Accept"), ("vary", "X-A\", Cookie"), (CC, "private")],
    ),
];

#[test]
fn whatever_use_was_made_of_the_session_its_response_varies_by_cookie_and_is_private() {
    for (before, expected) in PRIVATE {
        for used in [Extracted, Read, Reissued, Written, Removed] {
            expect(used, before, expected);
            if used == Reissued {
                assert_eq!(after(used, before).cookies, 1, "{before:?}");
            }
        }
    }
}

#[test]
fn a_vary_that_names_other_headers_only_is_added_to() {
    for before in ["X-Cookie", "Cookies", "Accept, X-Cookie"] {
        let merged: &'static str = format!("{before}, Cookie").leak();
        let before: Lines = vec![("vary", before)].leak();
        expect(Read, before, vec![("vary", merged), (CC, "private")].leak());
    }
    expect(
        Read,
        &[("vary", "Accept"), ("vary", "Accept-Encoding")],
        &[("vary", "Accept"), ("vary", "Accept-Encoding, Cookie"), (CC, "private")],
    );
    expect(
        Read,
        &[("vary", "Cookie"), ("vary", "Accept")],
        &[("vary", "Cookie"), ("vary", "Accept"), (CC, "private")],
    );
}

/// Where the handler asked for shared caching: before, and after a write or a removal.
const SHARED: [(Lines, Lines); 15] = [
    (&[(CC, "public")], &[VARY, (CC, "private")]),
    (&[(CC, "public, max-age=60")], &[VARY, (CC, "max-age=60, private")]),
    (&[(CC, "max-age=60, PUBLIC")], &[VARY, (CC, "max-age=60, private")]),
    (&[(CC, "s-maxage=60")], &[VARY, (CC, "private")]),
    (
        &[(CC, "S-MaxAge=60, must-revalidate, max-age=5")],
        &[VARY, (CC, "must-revalidate, max-age=5, private")],
    ),
    (&[(CC, "s-maxage=60, private")], &[VARY, (CC, "private")]),
    (&[(CC, "public, no-store")], &[VARY, (CC, "no-store")]),
    (
        &[(CC, "public, ext=\"a, public\""), (CC, "max-age=60")],
        &[VARY, (CC, "ext=\"a, public\", max-age=60, private")],
    ),
    (&[(CDN, "max-age=60")], &[VARY, (CC, "private")]),
    (&[("cloudflare-cdn-cache-control", "public")], &[VARY, (CC, "private")]),
    (&[("vercel-cdn-cache-control", "s-maxage=1"), (CC, "private")], &[VARY, (CC, "private")]),
    // One that forbids it stays.
    (&[(CDN, "max-age=60"), (SURROGATE, "no-store")], &[VARY, (CC, "private"), (SURROGATE, "no-store")]),
    (&[(SURROGATE, "max-age=60"), (CC, "max-age=5")], &[VARY, (CC, "max-age=5, private")]),
    (
        &[(CDN, "max-age=60"), (CDN, "stale-if-error=1"), (SURROGATE, "max-age=1"), (CC, "no-store")],
        &[VARY, (CC, "no-store")],
    ),
    (
        &[(CC, "public"), ("vary", "Accept"), (CDN, "max-age=60")],
        &[("vary", "Accept, Cookie"), (CC, "private")],
    ),
];

#[test]
fn where_the_handler_asked_for_shared_caching_a_read_changes_nothing_but_vary() {
    for (before, _) in SHARED {
        let mut expected: Vec<_> = before.iter().copied().filter(|(name, _)| *name != "vary").collect();
        let vary = before.iter().any(|(name, _)| *name == "vary");
        expected.push(if vary { ("vary", "Accept, Cookie") } else { VARY });
        for used in [Extracted, Read] {
            expect(used, before, expected.clone().leak());
        }
    }
}

#[test]
fn where_the_handler_asked_for_shared_caching_a_reissue_is_skipped() {
    for (before, _) in SHARED {
        let (read, reissued) = (after(Read, before), after(Reissued, before));
        assert_eq!(reissued.cookies, 0, "{before:?}");
        assert_eq!(reissued.headers, read.headers, "{before:?}");
    }
    // The same request is due for one where nothing was asked.
    assert_eq!(after(Reissued, &[(CC, "max-age=60")]).cookies, 1);
}

#[test]
fn where_the_handler_asked_for_shared_caching_a_write_or_removal_overrules_it() {
    for (before, expected) in SHARED {
        for used in [Written, Removed] {
            expect(used, before, expected);
        }
    }
}

#[test]
fn a_write_that_a_5xx_does_not_send_overrules_nothing_and_a_removal_does() {
    let shared: Lines = &[(CC, "public, max-age=60"), (CDN, "max-age=60")];
    let written = after_status(Written, shared, 503);
    assert_eq!(written.cookies, 0);
    assert_eq!(written.headers, after(Read, shared).headers);
    let removed = after_status(Removed, shared, 503);
    assert_eq!(removed.cookies, 2);
    assert_eq!(removed.headers, after(Removed, shared).headers);
}

#[test]
fn a_write_that_changed_nothing_is_a_read() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    let response = respond(&layer, request(&cookie), |session| {
        session.update(|shop| shop.user = Some(1)).unwrap();
        let mut response = Response::new(());
        response.headers_mut().insert(CC, HeaderValue::from_static("public"));
        response
    });
    assert_eq!(response.headers()[CC], "public");
    assert_eq!(response.headers()["vary"], "Cookie");
}

/// The request's parts outlive the headers in a streamed body. A session that is first asked for there has nothing
/// of the visitor's: the response was not marked as one for them.
#[test]
fn a_session_that_is_first_asked_for_after_the_headers_is_empty() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    for asked_before in [false, true] {
        let kept = std::cell::RefCell::new(None);
        let mut service = layer.layer(service_fn(|request: Request<()>| {
            let (parts, ()) = request.into_parts();
            if asked_before {
                drop(Session::<Shop>::from_parts(&parts).unwrap());
            }
            kept.replace(Some(parts));
            future::ready(Ok::<_, Infallible>(Response::new(())))
        }));
        let Ok(response) = ready(service.call(request(&cookie)));
        assert_eq!(response.headers().contains_key("vary"), asked_before);
        let session = Session::<Shop>::from_parts(&kept.take().unwrap()).unwrap();
        let expected =
            if asked_before { (Incoming::Accepted, user(1)) } else { (Incoming::Absent, Shop::default()) };
        assert_eq!((session.incoming(), session.get()), expected);
        assert_eq!(session.update(|shop| shop.cart.push(1)), Err(UpdateError::Committed));
        assert!(!session.clear());
    }
}
