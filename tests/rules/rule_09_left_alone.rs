//! A cookie that does not open is left alone; only a write or `clear` replaces it.

use crate::{jar::Browser, kit::*};
use cookie_session::{Incoming, KeyRing, RejectedKind, Session};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct NewShop {
    user: Option<u64>,
    cart: Vec<u32>,
    vouchers: Vec<String>,
}

#[test]
fn a_cookie_that_does_not_open_is_neither_removed_nor_replaced() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let strangers = sealed(&crate::kit::layer::<Shop>(&clock), &user(1), clock.now());
    for cookies in [strangers, format!("{NAME}=garbage"), format!("{NAME}=")] {
        for passed in [MILLI, 13 * DAY, 400 * DAY] {
            clock.pass(passed);
            let ((), response) = visit(&layer, &cookies, |session| {
                session.read(|_| ());
                session.renew().unwrap();
                session.update(|_| ()).unwrap();
            });
            assert_eq!(names(&response), [""; 0], "{cookies}");
        }
    }
}

#[test]
fn a_write_replaces_a_cookie_that_does_not_open_by_a_new_session() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let stranger = crate::kit::layer::<Shop>(&clock);
    let theirs = stranger.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, theirs.header());
    let their_id = meta(&stranger, &browser.cookies(), clock.now()).id();
    browser.visit(&layer, |session| session.set(user(2)).unwrap());
    assert_eq!(browser.visit(&layer, Session::get), user(2));
    assert_ne!(meta(&layer, &browser.cookies(), clock.now()).id(), their_id);
    assert_eq!(browser.count(NAME), 1);
}

#[test]
fn a_clear_removes_a_cookie_that_does_not_open() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let theirs = crate::kit::layer::<Shop>(&clock).codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, theirs.header());
    browser.visit(&layer, |session| assert!(session.clear()));
    assert_eq!(browser.cookies(), "");
}

#[test]
fn an_old_instance_does_not_sign_out_whoever_has_met_the_new_key() {
    let (clock, old, new) = (Clock::new(), key(), key());
    let with = |ring| builder_over::<Shop>(ring, &clock).build().unwrap();
    let (before, after) =
        (with(KeyRing::new(old.clone(), []).unwrap()), with(KeyRing::new(new, [old]).unwrap()));
    let mut browser = Browser::new(&clock);
    browser.visit(&after, |session| session.set(user(1)).unwrap());
    let incoming = browser.visit(&before, Session::incoming);
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::UnknownKey));
    assert_eq!(browser.visit(&after, Session::get), user(1));
}

#[test]
fn an_old_instance_does_not_sign_out_whoever_has_met_the_newer_schema() {
    let (clock, keys) = (Clock::new(), ring());
    let before = builder_over::<Shop>(keys.clone(), &clock).build().unwrap();
    let after = builder_over::<NewShop>(keys, &clock)
        .schema(2)
        .migrate_from(1, |Shop { user, cart }| NewShop { user, cart, vouchers: Vec::new() })
        .build()
        .unwrap();
    let mut browser = Browser::new(&clock);
    browser.visit(&after, |session| session.update(|shop| shop.user = Some(1)).unwrap());
    let incoming = browser.visit(&before, Session::incoming);
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::Schema));
    assert_eq!(browser.visit(&after, Session::get).user, Some(1));
    // And what the old one wrote, the new one reads.
    let mut browser = Browser::new(&clock);
    browser.visit(&before, |session| session.set(user(3)).unwrap());
    assert_eq!(browser.visit(&after, Session::get).user, Some(3));
}

#[test]
fn a_session_that_was_refused_is_left_alone_and_comes_back_when_it_is_no_longer() {
    let (clock, keys) = (Clock::new(), ring());
    let open_to_all = builder_over::<Shop>(keys.clone(), &clock).build().unwrap();
    let closed = builder_over::<Shop>(keys, &clock).accept_if(|_, _| false).build().unwrap();
    let mut browser = Browser::new(&clock);
    browser.visit(&open_to_all, |session| session.set(user(1)).unwrap());
    clock.pass(12 * HOUR);
    let incoming = browser.visit(&closed, Session::incoming);
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::Refused));
    assert_eq!(browser.visit(&open_to_all, Session::get), user(1));
}
