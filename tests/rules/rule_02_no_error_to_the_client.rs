//! A cookie that does not open is no error to the client: the session starts from `T::default()`,
//! and the reason is there for logs and metrics, never in a response.

use crate::kit::*;
use cookie_session::{Identity, Incoming, KeyRing, Mode, RejectedKind, Session, SessionLayer};
use http::Response;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Other {
    cart: Vec<u32>,
    user: Option<String>,
}

const REFUSED: u64 = 666;

struct Case {
    kind: RejectedKind,
    cookies: String,
}

fn cases(clock: &Clock) -> (SessionLayer<Shop>, Vec<Case>) {
    let keys = ring();
    let with = |keys: &KeyRing| builder_over::<Shop>(keys.clone(), clock).idle_timeout(HOUR);
    let layer = with(&keys).accept_if(|_, shop| shop.user != Some(REFUSED)).build().unwrap();
    let now = clock.now();
    let good = sealed(&layer, &user(1), now);
    let mut changed = good.clone();
    let last = changed.pop().unwrap();
    // The last character's low bits may be padding, so another character changes.
    let at = changed.pop().unwrap();
    changed.push(if at == 'A' { 'B' } else { 'A' });
    changed.push(last);

    let elsewhere = with(&keys).context("elsewhere").build().unwrap();
    let signed = with(&keys).mode(Mode::Signed).build().unwrap();
    let newer = with(&keys).schema(2).build().unwrap();
    let other = builder_over::<Other>(keys.clone(), clock).build().unwrap();
    let stranger = with(&ring()).build().unwrap();
    let (_, response) = visit(&layer, &good, Session::clear);
    let marker = marker_in(&response).expect("a marker");

    let case = |kind, cookies: String| Case { kind, cookies };
    let cases = vec![
        case(RejectedKind::Malformed, format!("{NAME}=not base64url")),
        case(RejectedKind::TooLong, format!("{NAME}={}", "A".repeat(4097))),
        case(RejectedKind::SuiteNotAccepted, sealed(&signed, &user(1), now)),
        case(RejectedKind::UnknownKey, sealed(&stranger, &user(1), now)),
        case(RejectedKind::NotAuthentic, changed),
        case(RejectedKind::NotAuthentic, sealed(&elsewhere, &user(1), now)),
        case(RejectedKind::FromTheFuture, sealed(&layer, &user(1), now + 2 * MINUTE)),
        case(RejectedKind::Expired, sealed(&layer, &user(1), now - HOUR)),
        case(RejectedKind::Schema, sealed(&newer, &user(1), now)),
        case(RejectedKind::Payload, sealed(&other, &Other::default(), now)),
        case(RejectedKind::SignedOut, format!("{good}; {marker}")),
        case(RejectedKind::Refused, sealed(&layer, &user(REFUSED), now)),
    ];
    (layer, cases)
}

fn count(layer: &SessionLayer<Shop>, kind: RejectedKind) -> u64 {
    let counters = layer.keys().counters();
    let found = counters.rejected.iter().find(|(its, _)| *its == kind);
    found.map(|(_, count)| *count).expect("every kind is counted")
}

#[test]
fn each_kind_of_bad_cookie_starts_fresh_and_is_known_and_counted() {
    let clock = Clock::new();
    let (layer, cases) = cases(&clock);
    for Case { kind, cookies } in cases {
        let before = count(&layer, kind);
        let ((), response) = visit(&layer, &cookies, |session| {
            assert_eq!(session.get(), Shop::default(), "{kind:?}");
            assert_eq!(session.incoming(), Incoming::Rejected(kind));
            assert!(session.is_new());
            assert_eq!(session.meta(), None);
        });
        assert_eq!(count(&layer, kind), before + 1, "{kind:?}");
        assert_eq!(response.status(), 200);
    }
}

#[test]
fn a_response_does_not_tell_a_bad_cookie_from_none() {
    let clock = Clock::new();
    let (layer, cases) = cases(&clock);
    let use_it = |session: Session<Shop>| {
        session.read(|_| ());
        Response::new(())
    };
    let nothing = respond(&layer, request(""), use_it);
    for Case { kind, cookies } in cases {
        let response = respond(&layer, request(&cookies), use_it);
        assert_eq!(response.headers(), nothing.headers(), "{kind:?}");
        assert_eq!(response.status(), nothing.status());
    }
}

#[test]
fn no_cookie_is_absent_and_counted_nowhere() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    for cookies in ["", "theme=dark", "session=1; __Host-Http-session2=2; __host-http-session=3"] {
        let ((), _) = visit(&layer, cookies, |session| {
            assert_eq!(session.get(), Shop::default());
            assert_eq!(session.incoming(), Incoming::Absent);
        });
    }
    let counters = layer.keys().counters();
    assert!(counters.rejected.iter().all(|(_, count)| *count == 0));
    assert_eq!(counters.unknown_keys, 0);
}

#[test]
fn a_bad_cookie_is_counted_once_for_a_request_however_often_it_is_used() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let ((), _) = visit(&layer, &format!("{NAME}=!"), |session| {
        session.read(|_| ());
        session.update(|shop| shop.user = Some(1)).unwrap();
        session.clear();
        session.read(|_| ());
    });
    assert_eq!(count(&layer, RejectedKind::Malformed), 1);
}

#[test]
fn unknown_keys_are_counted_in_one_total() {
    let clock = Clock::new();
    let mine = layer::<Shop>(&clock);
    for _ in 0..3 {
        let stranger = layer::<Shop>(&clock);
        let _ = visit(&mine, &sealed(&stranger, &user(1), clock.now()), |session| session.get());
    }
    assert_eq!(mine.keys().counters().unknown_keys, 3);
}

#[test]
fn of_several_bad_cookies_the_one_that_got_furthest_gives_the_reason() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).idle_timeout(HOUR).formerly(Identity::named("old")).build().unwrap();
    let expired = sealed(&layer, &user(1), clock.now() - HOUR);
    for cookies in [format!("{NAME}=!; {expired}"), format!("{expired}; {NAME}=!")] {
        let (incoming, _) = visit(&layer, &cookies, Session::incoming);
        assert_eq!(incoming, Incoming::Rejected(RejectedKind::Expired));
    }
}
