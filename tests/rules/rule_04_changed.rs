//! *Changed* is decided on plaintext: on the encoded bytes, against what came in.

use crate::kit::*;
use cookie_session::{KeyRing, Lifetime, Mode, Session, SessionLayer};
use http::Response;
use serde::{Deserialize, Serialize};
use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
};

fn came_in() -> (Clock, SessionLayer<Shop>, String) {
    let clock = Clock::new();
    let layer = layer(&clock);
    let cookie = sealed(&layer, &Shop { user: Some(1), cart: vec![1, 2] }, clock.now());
    (clock, layer, cookie)
}

type Change = fn(&Session<Shop>);

const NO_CHANGES: [(&str, Change); 9] = [
    ("a read", |session| session.read(|_| ())),
    ("an update that changes nothing", |session| session.update(|_| ()).unwrap()),
    ("what was there, written again", |session| session.update(|shop| shop.user = Some(1)).unwrap()),
    ("the same value set", |session| session.set(Shop { user: Some(1), cart: vec![1, 2] }).unwrap()),
    ("changed, and changed back", |session| {
        session.update(|shop| shop.cart.push(3)).unwrap();
        assert!(session.is_changed());
        session.update(|shop| shop.cart.pop()).unwrap();
    }),
    ("changed twice, and changed back", |session| {
        session.update(|shop| shop.user = None).unwrap();
        session.update(|shop| shop.user = Some(2)).unwrap();
        session.set(Shop { user: Some(1), cart: vec![1, 2] }).unwrap();
    }),
    ("a change that was rolled back", |session| {
        session
            .try_update(|shop| {
                shop.cart.clear();
                Err::<(), _>(())
            })
            .unwrap()
            .unwrap_err();
    }),
    ("a change that did not fit", |session| {
        session.update(|shop| shop.cart = vec![u32::MAX; 4000]).unwrap_err();
    }),
    ("the lifetime that it has", |session| session.set_lifetime(Lifetime::Timeouts).unwrap()),
];

const CHANGES: [(&str, Change); 6] = [
    ("other data", |session| session.update(|shop| shop.cart.push(3)).unwrap()),
    ("another value", |session| session.set(Shop::default()).unwrap()),
    ("a good change, then one that failed", |session| {
        session.update(|shop| shop.user = Some(2)).unwrap();
        session.update(|shop| shop.cart = vec![u32::MAX; 4000]).unwrap_err();
    }),
    ("a renewal alone", |session| _ = session.renew().unwrap()),
    ("a lifetime alone", |session| session.set_lifetime(Lifetime::Browser).unwrap()),
    ("a renewal, and data that were changed back", |session| {
        session.renew().unwrap();
        session.update(|shop| shop.cart.push(3)).unwrap();
        session.update(|shop| shop.cart.pop()).unwrap();
    }),
];

#[test]
fn what_leaves_the_encoding_as_it_came_in_sends_nothing() {
    for (what, change) in NO_CHANGES {
        let (_, layer, cookie) = came_in();
        let ((), response) = visit(&layer, &cookie, |session| {
            change(session);
            assert!(!session.is_changed(), "{what}");
        });
        assert_eq!(names(&response), [""; 0], "{what}");
    }
}

#[test]
fn what_changes_the_encoding_or_renews_or_sets_a_lifetime_sends_the_session() {
    for (what, change) in CHANGES {
        let (clock, layer, cookie) = came_in();
        let (after, response) = visit(&layer, &cookie, |session| {
            change(session);
            assert!(session.is_changed(), "{what}");
            session.get()
        });
        let written = session_in(&response).expect(what);
        assert_eq!(open(&layer, &written, clock.now()).value(), Some(&after), "{what}");
    }
}

#[test]
fn a_lifetime_that_was_set_and_set_back_is_no_change() {
    let (_, layer, cookie) = came_in();
    let ((), response) = visit(&layer, &cookie, |session| {
        session.set_lifetime(Lifetime::Browser).unwrap();
        assert!(session.is_changed());
        session.set_lifetime(Lifetime::Timeouts).unwrap();
        assert!(!session.is_changed());
    });
    assert_eq!(names(&response), [""; 0]);
}

#[test]
fn a_fresh_session_that_nobody_wrote_sends_nothing() {
    let fresh: [(&str, Change); 6] = [
        ("a read", |session| session.read(|_| ())),
        ("an update that changes nothing", |session| session.update(|_| ()).unwrap()),
        ("the default, written", |session| session.set(Shop::default()).unwrap()),
        ("changed, and changed back", |session| {
            session.update(|shop| shop.user = Some(1)).unwrap();
            session.update(|shop| shop.user = None).unwrap();
        }),
        ("a renewal alone", |session| assert_eq!(session.renew(), Ok(None))),
        ("a lifetime alone", |session| session.set_lifetime(Lifetime::Own(HOUR)).unwrap()),
    ];
    let clock = Clock::new();
    let layer = layer(&clock);
    for (what, change) in fresh {
        for cookies in ["", "__Host-Http-session=no-session"] {
            let ((), response) = visit(&layer, cookies, |session| {
                change(session);
                assert!(!session.is_changed(), "{what}");
                assert_eq!(session.meta(), None, "{what}");
            });
            assert_eq!(names(&response), [""; 0], "{what}");
        }
    }
}

#[test]
fn a_fresh_session_that_is_written_is_sent() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let ((), response) = visit(&layer, "", |session| {
        session.update(|shop| shop.user = Some(1)).unwrap();
        assert!(session.is_changed());
    });
    assert_eq!(open(&layer, &session_in(&response).unwrap(), clock.now()).value(), Some(&user(1)));
}

#[test]
fn a_lifetime_that_waited_goes_out_with_the_first_write() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let ((), response) = visit(&layer, "", |session| {
        session.set_lifetime(Lifetime::Own(HOUR)).unwrap();
        session.update(|shop| shop.user = Some(1)).unwrap();
    });
    let written = meta(&layer, &session_in(&response).unwrap(), clock.now());
    assert_eq!(written.lifetime(), Lifetime::Own(HOUR));
    assert_eq!(max_age(&cookie_in(&response, NAME).unwrap()), Some(3600));
}

#[test]
fn a_session_that_was_cleared_and_not_written_again_is_unchanged() {
    let (_, layer, cookie) = came_in();
    let ((), response) = visit(&layer, &cookie, |session| {
        session.update(|shop| shop.cart.push(3)).unwrap();
        session.clear();
        session.set(Shop::default()).unwrap();
        assert!(!session.is_changed());
    });
    assert!(removes_session(&response));
}

#[test]
fn a_fresh_session_is_compared_with_the_default_of_its_own_request() {
    thread_local!(static DRAWN: Cell<u64> = const { Cell::new(0) });
    /// As a random token would, it differs each time.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    struct Token(u64);
    impl Default for Token {
        fn default() -> Self {
            DRAWN.set(DRAWN.get() + 1);
            Token(DRAWN.get())
        }
    }
    let clock = Clock::new();
    let layer = layer::<Token>(&clock);
    let (first, response) = visit(&layer, "", |session| {
        let first = session.get();
        session.update(|_| ()).unwrap();
        session.set(first.clone()).unwrap();
        // A rollback does not draw another one.
        session
            .try_update(|token| {
                token.0 = 0;
                Err::<(), _>(())
            })
            .unwrap()
            .unwrap_err();
        assert_eq!(session.get(), first);
        first
    });
    assert_eq!(names(&response), [""; 0]);
    let (second, response) = visit(&layer, "", |session| {
        session.update(|token| token.0 += 1_000).unwrap();
        session.get()
    });
    assert_ne!(first, second);
    assert_eq!(open(&layer, &session_in(&response).unwrap(), clock.now()).value(), Some(&second));
}

#[test]
fn a_tree_map_written_again_is_no_change_and_a_hash_map_is_one() {
    let clock = Clock::new();
    let pairs = (0..64_u32).map(|key| (key, key));
    let (trees, hashes) = (layer::<BTreeMap<u32, u32>>(&clock), layer::<HashMap<u32, u32>>(&clock));

    let cookie = sealed(&trees, &pairs.clone().collect(), clock.now());
    let ((), response) = visit(&trees, &cookie, |session| session.set(pairs.clone().collect()).unwrap());
    assert_eq!(names(&response), [""; 0]);

    // The caveat, in 64! orders: equal content, other bytes.
    let cookie = sealed(&hashes, &pairs.clone().collect(), clock.now());
    let ((), response) = visit(&hashes, &cookie, |session| session.set(pairs.clone().collect()).unwrap());
    assert_eq!(names(&response), [NAME]);
    // Without a write nothing is encoded, and nothing goes out.
    let ((), response) = visit(&hashes, &cookie, |session| session.read(|map| assert_eq!(map.len(), 64)));
    assert_eq!(names(&response), [""; 0]);
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Old {
    cart: Vec<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct New {
    cart: Vec<u64>,
    note: String,
}

fn from_old(old: Old) -> New {
    New { cart: old.cart.into_iter().map(u64::from).collect(), note: "migrated".to_owned() }
}

fn to_old(new: &New) -> Old {
    Old { cart: new.cart.iter().map(|&item| u32::try_from(item).unwrap()).collect() }
}

fn migrating(clock: &Clock, keys: &KeyRing) -> (SessionLayer<New>, String) {
    let before = builder_over::<Old>(keys.clone(), clock).build().unwrap();
    let cookie = sealed(&before, &Old { cart: vec![1, 2] }, clock.now());
    let layer = builder_over::<New>(keys.clone(), clock).schema(2).migrate_from(1, from_old).build().unwrap();
    (layer, cookie)
}

#[test]
fn a_migrated_session_is_compared_with_the_value_as_decoded() {
    let clock = Clock::new();
    let (layer, cookie) = migrating(&clock, &ring());
    let as_decoded = from_old(Old { cart: vec![1, 2] });

    let ((), response) = visit(&layer, &cookie, |session| {
        assert_eq!(session.get(), as_decoded);
        session.update(|_| ()).unwrap();
        session.set(as_decoded.clone()).unwrap();
        session.update(|new| new.note.clear()).unwrap();
        assert!(session.is_changed());
        session.set(as_decoded.clone()).unwrap();
        assert!(!session.is_changed());
    });
    assert_eq!(names(&response), [""; 0]);

    let ((), response) = visit(&layer, &cookie, |session| session.update(|new| new.cart.push(3)).unwrap());
    let written = session_in(&response).unwrap();
    let opened = open(&layer, &written, clock.now());
    assert_eq!(opened.value(), Some(&New { cart: vec![1, 2, 3], ..as_decoded }));
    assert_eq!(opened.meta().unwrap().schema(), 2);
}

#[test]
fn a_session_that_is_written_in_the_old_form_is_compared_in_that_form() {
    let clock = Clock::new();
    let keys = ring();
    let (_, cookie) = migrating(&clock, &keys);
    let layer = builder_over::<New>(keys, &clock)
        .schema(2)
        .migrate_from(1, from_old)
        .write_as(1, to_old)
        .build()
        .unwrap();
    // The old form has no place for this.
    let ((), response) = visit(&layer, &cookie, |session| {
        session.update(|new| new.note = "lost".to_owned()).unwrap();
        assert!(!session.is_changed());
        // Within the request it is there all the same.
        assert_eq!(session.read(|new| new.note.clone()), "lost");
    });
    assert_eq!(names(&response), [""; 0]);

    let ((), response) = visit(&layer, &cookie, |session| session.update(|new| new.cart.push(3)).unwrap());
    let written = session_in(&response).unwrap();
    let opened = open(&layer, &written, clock.now());
    assert_eq!(opened.meta().unwrap().schema(), 1);
    assert_eq!(opened.value(), Some(&from_old(Old { cart: vec![1, 2, 3] })));
}

#[test]
fn a_fresh_session_in_the_old_form_is_compared_in_that_form() {
    let clock = Clock::new();
    let layer =
        builder::<New>(&clock).schema(2).migrate_from(1, from_old).write_as(1, to_old).build().unwrap();
    let ((), response) =
        visit(&layer, "", |session| session.update(|new| new.note = "lost".to_owned()).unwrap());
    assert_eq!(names(&response), [""; 0]);
    let ((), response) = visit(&layer, "", |session| session.update(|new| new.cart.push(1)).unwrap());
    assert_eq!(meta(&layer, &session_in(&response).unwrap(), clock.now()).schema(), 1);
}

#[test]
fn the_bytes_that_are_compared_are_those_that_are_sent() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).mode(Mode::Signed).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    let response = respond(&layer, request(&cookie), |session| {
        session.update(|shop| shop.cart.push(7)).unwrap();
        Response::new(())
    });
    // postcard: Some, 1; one item, 7.
    assert_eq!(signed_payload(&cookie), [1, 1, 0]);
    assert_eq!(signed_payload(&session_in(&response).unwrap()), [1, 1, 1, 7]);
}
