//! Re-issue: the same session in a new cookie, without a write, once its cookie is old enough.

use crate::{jar::Browser, kit::*};
use cookie_session::{
    Incoming, Key, KeyRing, Lifetime, Mode, RejectedKind, Session, SessionBuilder, SessionLayer,
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, time::Duration};

/// Reads, so that nothing but a re-issue can send a cookie.
fn reissued<T: Data>(layer: &SessionLayer<T>, cookies: &str) -> Option<String> {
    let (accepted, response) = visit(layer, cookies, |session| {
        session.read(|_| ());
        assert!(!session.is_changed());
        session.incoming()
    });
    assert_eq!(accepted, Incoming::Accepted);
    session_in(&response)
}

#[test]
fn the_threshold_is_a_tenth_of_the_idle_timeout_at_least_a_minute_at_most_a_half() {
    let table = [
        (2 * SECOND, SECOND),
        (5 * SECOND, Duration::from_millis(2_500)),
        (MINUTE, 30 * SECOND),
        (2 * MINUTE, MINUTE),
        (10 * MINUTE, MINUTE),
        (11 * MINUTE, 66 * SECOND),
        (HOUR, 6 * MINUTE),
        (24 * HOUR, Duration::from_secs(8_640)),
        (30 * DAY, 3 * DAY),
    ];
    for (idle, threshold) in table {
        let clock = Clock::new();
        let layer = builder::<Shop>(&clock).idle_timeout(idle).absolute_timeout(60 * DAY).build().unwrap();
        let cookie = sealed(&layer, &user(1), clock.now());
        clock.pass(threshold - MILLI);
        assert_eq!(reissued(&layer, &cookie), None, "{idle:?}");
        clock.pass(MILLI);
        assert!(reissued(&layer, &cookie).is_some(), "{idle:?}");
    }
}

#[test]
fn the_threshold_is_a_setting() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(3 * SECOND).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(3 * SECOND - MILLI);
    assert_eq!(reissued(&layer, &cookie), None);
    clock.pass(MILLI);
    assert!(reissued(&layer, &cookie).is_some());
}

#[test]
fn the_threshold_counts_from_the_cookie_that_came_in() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
    let first = sealed(&layer, &user(1), clock.now());
    clock.pass(MINUTE);
    let second = reissued(&layer, &first).unwrap();
    clock.pass(MINUTE - MILLI);
    assert_eq!(reissued(&layer, &second), None);
    clock.pass(MILLI);
    assert!(reissued(&layer, &second).is_some());
}

#[test]
fn a_reissue_moves_nothing_but_issued_at() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    let before = meta(&layer, &cookie, clock.now());
    clock.pass(2 * MINUTE);
    let again = reissued(&layer, &cookie).unwrap();
    assert_ne!(again, cookie);
    let opened = open(&layer, &again, clock.now());
    let after = opened.meta().unwrap();
    assert_eq!(opened.value(), Some(&user(1)));
    assert_eq!(after.id(), before.id());
    assert_eq!(after.created_at(), before.created_at());
    assert_eq!(after.renewed_at(), before.renewed_at());
    assert_eq!(after.lifetime(), before.lifetime());
    assert_eq!((after.schema(), after.mode()), (before.schema(), before.mode()));
    assert_eq!(after.issued_at(), clock.now());
}

type Many = HashMap<u32, u32>;

#[test]
fn the_payload_that_came_in_goes_out_byte_for_byte() {
    let clock = Clock::new();
    let layer = builder::<Many>(&clock).mode(Mode::Signed).reissue_after(MINUTE).build().unwrap();
    // Encoded again, 64 entries would come in another order.
    let cookie = sealed(&layer, &(0..64).map(|key| (key, key)).collect(), clock.now());
    clock.pass(MINUTE);
    let again = reissued(&layer, &cookie).unwrap();
    assert_eq!(signed_payload(&again), signed_payload(&cookie));

    // Also if an update was rolled back.
    let ((), response) = visit(&layer, &cookie, |session| {
        session
            .try_update(|map| {
                map.clear();
                Err::<(), _>(())
            })
            .unwrap()
            .unwrap_err();
    });
    assert_eq!(signed_payload(&session_in(&response).unwrap()), signed_payload(&cookie));
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Form1 {
    many: Many,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Form2 {
    many: Many,
    second: Option<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Form3 {
    many: Many,
    second: Option<u8>,
    third: Option<u8>,
}

/// Layers of all three forms over the same keys; all sign.
struct Forms {
    clock: Clock,
    keys: KeyRing,
}

impl Forms {
    fn new() -> Forms {
        Forms { clock: Clock::new(), keys: ring() }
    }

    fn builder<T: Data>(&self) -> SessionBuilder<T> {
        builder_over(self.keys.clone(), &self.clock).mode(Mode::Signed).reissue_after(MINUTE)
    }

    fn first(&self) -> SessionLayer<Form1> {
        self.builder().build().unwrap()
    }

    fn reads_both(&self) -> SessionBuilder<Form2> {
        self.builder::<Form2>().schema(2).migrate_from(1, |Form1 { many }| Form2 { many, second: None })
    }

    fn second(&self) -> SessionLayer<Form2> {
        self.reads_both().build().unwrap()
    }

    /// The first step of a deploy: it reads both, and writes the old one.
    fn second_writes_first(&self) -> SessionLayer<Form2> {
        self.reads_both().write_as(1, |new| Form1 { many: new.many.clone() }).build().unwrap()
    }

    fn third_writes_first(&self) -> SessionLayer<Form3> {
        self.builder::<Form3>()
            .schema(3)
            .migrate_from(2, |Form2 { many, second }| Form3 { many, second, third: None })
            .migrate_from(1, |Form1 { many }| Form3 { many, second: None, third: None })
            .write_as(1, |new| Form1 { many: new.many.clone() })
            .build()
            .unwrap()
    }

    fn cookie1(&self) -> String {
        let value = Form1 { many: (0..64).map(|key| (key, key)).collect() };
        sealed(&self.first(), &value, self.clock.now())
    }

    fn cookie2(&self) -> String {
        let value = Form2 { many: (0..64).map(|key| (key, key)).collect(), second: Some(2) };
        sealed(&self.second(), &value, self.clock.now())
    }
}

#[test]
fn a_payload_of_a_newer_schema_than_the_one_written_goes_out_byte_for_byte() {
    let forms = Forms::new();
    let cookie = forms.cookie2();
    forms.clock.pass(MINUTE);

    let layer = forms.second_writes_first();
    let again = reissued(&layer, &cookie).unwrap();
    assert_eq!(signed_payload(&again), signed_payload(&cookie));
    assert_eq!(meta(&layer, &again, forms.clock.now()).schema(), 2);

    // Neither today's form nor the one that is written.
    let layer = forms.third_writes_first();
    let again = reissued(&layer, &cookie).unwrap();
    assert_eq!(signed_payload(&again), signed_payload(&cookie));
    assert_eq!(meta(&layer, &again, forms.clock.now()).schema(), 2);
}

#[test]
fn a_payload_of_the_written_older_schema_goes_out_byte_for_byte() {
    let forms = Forms::new();
    let cookie = forms.cookie1();
    forms.clock.pass(MINUTE);
    let layer = forms.second_writes_first();
    let again = reissued(&layer, &cookie).unwrap();
    assert_eq!(meta(&layer, &again, forms.clock.now()).schema(), 1);
    assert_eq!(signed_payload(&again), signed_payload(&cookie));
}

#[test]
fn a_payload_of_an_older_schema_than_the_one_written_is_converted() {
    let forms = Forms::new();
    let cookie = forms.cookie1();
    forms.clock.pass(MINUTE);
    let layer = forms.second();
    let again = reissued(&layer, &cookie).unwrap();
    let opened = open(&layer, &again, forms.clock.now());
    assert_eq!(opened.meta().unwrap().schema(), 2);
    assert_eq!(opened.value().unwrap().many.len(), 64);
    assert_eq!(opened.meta().unwrap().id(), meta(&layer, &cookie, forms.clock.now()).id());
}

/// How the cookie of one instance moves to what the other one writes.
struct Move {
    what: &'static str,
    cookie: String,
    layer: SessionLayer<Form2>,
    moved: fn(&SessionLayer<Form2>, &str, &Clock) -> bool,
}

fn moves(clock: &Clock) -> Vec<Move> {
    let (old, new) = (key(), key());
    let of = |primary: &Key, fallbacks: &[&Key]| {
        KeyRing::new(primary.clone(), fallbacks.iter().map(|&key| key.clone())).unwrap()
    };
    let with = |ring| builder_over::<Form2>(ring, clock).idle_timeout(HOUR);
    let keys = of(&new, &[&old]);

    let old_key = with(of(&old, &[])).build().unwrap();
    let signed = with(keys.clone()).mode(Mode::Signed).build().unwrap();
    let form1 = builder_over::<Form1>(keys.clone(), clock).idle_timeout(HOUR).build().unwrap();

    let migrating =
        with(keys.clone()).schema(2).migrate_from(1, |Form1 { many }| Form2 { many, second: Some(9) });
    vec![
        Move {
            what: "a fallback key",
            cookie: sealed(&old_key, &Form2::default(), clock.now()),
            layer: with(keys.clone()).build().unwrap(),
            moved: |layer, cookie, clock| {
                let fresh = sealed(layer, &Form2::default(), clock.now());
                let at = clock.now();
                meta(layer, cookie, at).key_id() == meta(layer, &fresh, at).key_id()
            },
        },
        Move {
            what: "another accepted mode",
            cookie: sealed(&signed, &Form2::default(), clock.now()),
            layer: with(keys).accept_mode(Mode::Signed).build().unwrap(),
            moved: |layer, cookie, clock| meta(layer, cookie, clock.now()).mode() == Mode::Encrypted,
        },
        Move {
            what: "an older schema",
            cookie: sealed(&form1, &Form1::default(), clock.now()),
            layer: migrating.build().unwrap(),
            moved: |layer, cookie, clock| meta(layer, cookie, clock.now()).schema() == 2,
        },
    ]
}

#[test]
fn key_mode_and_schema_move_at_the_threshold_and_not_at_once() {
    let clock = Clock::new();
    for Move { what, cookie, layer, moved } in moves(&clock) {
        let start = clock.now();
        assert!(!moved(&layer, &cookie, &clock), "{what}");
        assert_eq!(reissued(&layer, &cookie), None, "{what}");
        clock.pass(6 * MINUTE - MILLI);
        assert_eq!(reissued(&layer, &cookie), None, "{what}");
        clock.pass(MILLI);
        let again = reissued(&layer, &cookie).expect(what);
        assert!(moved(&layer, &again, &clock), "{what}");
        clock.set(start);
    }
}

#[test]
fn key_mode_and_schema_move_with_the_next_write() {
    let clock = Clock::new();
    for Move { what, cookie, layer, moved } in moves(&clock) {
        let ((), response) =
            visit(&layer, &cookie, |session| session.update(|form| form.second = Some(7)).unwrap());
        let written = session_in(&response).expect(what);
        assert!(moved(&layer, &written, &clock), "{what}");
        let ids = [&cookie, &written].map(|cookie| meta(&layer, cookie, clock.now()).id());
        assert_eq!(ids[0], ids[1], "{what}");
    }
}

/// A browser goes from one instance to the other and back, every second for an hour.
fn cookies_in_an_hour<A: Data, B: Data>(a: &SessionLayer<A>, b: &SessionLayer<B>, clock: &Clock) -> u32 {
    let first = a.codec().seal(&A::default(), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(clock, first.header());
    let mut cookies = 0;
    for second in 0..3600 {
        let before = browser.cookies();
        let incoming = if second % 2 == 0 {
            browser.visit(a, Session::incoming)
        } else {
            browser.visit(b, Session::incoming)
        };
        assert_eq!(incoming, Incoming::Accepted);
        cookies += u32::from(browser.cookies() != before);
        clock.pass(SECOND);
    }
    cookies
}

#[test]
fn two_instances_in_different_stages_of_a_deploy_do_not_flip_a_cookie() {
    let (old, new) = (key(), key());
    let clock = Clock::new();
    // Every ten minutes, and no sooner: five times after the first one.
    let with = |ring| builder_over::<Shop>(ring, &clock).reissue_after(10 * MINUTE);
    let shipped = with(KeyRing::new(old.clone(), [new.clone()]).unwrap()).build().unwrap();
    let promoted = with(KeyRing::new(new, [old]).unwrap()).build().unwrap();
    assert_eq!(cookies_in_an_hour(&shipped, &promoted, &clock), 5);

    let keys = ring();
    let with = || builder_over::<Shop>(keys.clone(), &clock).reissue_after(10 * MINUTE);
    let signs = with().mode(Mode::Signed).accept_mode(Mode::Encrypted).build().unwrap();
    let encrypts = with().mode(Mode::Encrypted).accept_mode(Mode::Signed).build().unwrap();
    assert_eq!(cookies_in_an_hour(&signs, &encrypts, &clock), 5);

    let forms = Forms { clock: clock.clone(), keys: ring() };
    let both = || forms.reads_both().reissue_after(10 * MINUTE);
    let writes_old = both().write_as(1, |new| Form1 { many: new.many.clone() }).build().unwrap();
    let writes_new = both().build().unwrap();
    assert_eq!(cookies_in_an_hour(&writes_old, &writes_new, &clock), 5);
}

#[test]
fn parallel_requests_rarely_overwrite_a_newer_cookie() {
    // One request of a page load writes; the others began with the old cookie and end later. Below
    // the threshold they send nothing, so the write stands.
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).idle_timeout(HOUR).build().unwrap();
    let cookie = layer.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, cookie.header());
    clock.pass(5 * MINUTE);
    let reads: Vec<_> = (0..6)
        .map(|_| {
            browser.send(&layer, |session| {
                session.read(|_| ());
                status(200)
            })
        })
        .collect();
    browser.visit(&layer, |session| session.update(|shop| shop.cart.push(1)).unwrap());
    reads.iter().for_each(|response| browser.receive(response));
    assert_eq!(browser.visit(&layer, Session::get).cart, [1]);
}

#[test]
fn a_passive_request_is_not_reissued_but_may_write() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock)
        .reissue_after(MINUTE)
        .passive_if(|parts| parts.headers.contains_key("x-poll"))
        .build()
        .unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(HOUR);
    let poll = || {
        let mut poll = request(&cookie);
        poll.headers_mut().insert("x-poll", "1".parse().unwrap());
        poll
    };
    let response = respond(&layer, poll(), |session| {
        assert_eq!(session.get(), user(1));
        status(200)
    });
    assert_eq!(names(&response), [""; 0]);
    assert!(reissued(&layer, &cookie).is_some());
    let response = respond(&layer, poll(), |session| {
        session.update(|shop| shop.cart.push(1)).unwrap();
        status(200)
    });
    assert_eq!(names(&response), [NAME]);
}

#[test]
fn the_passive_predicate_may_look_at_the_session() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock)
        .reissue_after(MINUTE)
        .passive_if(|parts| Session::<Shop>::from_parts(parts).unwrap().read(|shop| shop.user == Some(1)))
        .build()
        .unwrap();
    let (passive, active) = (sealed(&layer, &user(1), clock.now()), sealed(&layer, &user(2), clock.now()));
    clock.pass(MINUTE);
    assert_eq!(reissued(&layer, &passive), None);
    assert!(reissued(&layer, &active).is_some());
}

#[test]
fn a_head_more_than_ten_seconds_after_the_handle_was_handed_out_does_not_reissue() {
    for (late, reissues) in [(10 * SECOND, true), (10 * SECOND + MILLI, false), (HOUR, false)] {
        let clock = Clock::new();
        let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
        let cookie = sealed(&layer, &user(1), clock.now());
        clock.pass(2 * MINUTE);
        let ((), response) = visit(&layer, &cookie, |session| {
            session.read(|_| ());
            clock.pass(late);
        });
        assert_eq!(session_in(&response).is_some(), reissues, "{late:?}");
        // A write is sent however late it is.
        let ((), response) = visit(&layer, &cookie, |session| {
            session.update(|shop| shop.cart.push(1)).unwrap();
            clock.pass(late);
        });
        assert!(session_in(&response).is_some(), "{late:?}");
    }
}

#[test]
fn lateness_counts_from_the_extraction_and_not_from_the_first_use() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(2 * MINUTE);
    let ((), response) = visit(&layer, &cookie, |session| {
        clock.pass(11 * SECOND);
        session.read(|_| ());
    });
    assert_eq!(names(&response), [""; 0]);
}

#[test]
fn the_threshold_is_judged_at_the_head() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(MINUTE - 5 * SECOND);
    let ((), response) = visit(&layer, &cookie, |session| {
        session.read(|_| ());
        clock.pass(5 * SECOND);
    });
    let again = session_in(&response).unwrap();
    assert_eq!(meta(&layer, &again, clock.now()).issued_at(), clock.now());
}

#[test]
fn a_session_that_ended_before_its_head_is_not_reissued() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).absolute_timeout(HOUR).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(HOUR - SECOND);
    let ((), response) = visit(&layer, &cookie, |session| {
        session.read(|_| ());
        clock.pass(SECOND);
    });
    assert_eq!(names(&response), [""; 0]);
    // It was no write that could come too late.
    assert_eq!(layer.keys().counters().writes_too_late, 0);
}

#[test]
fn a_reissue_that_would_exceed_the_budget_keeps_the_old_cookie_and_is_counted() {
    // A lower maximum.
    let (clock, keys) = (Clock::new(), ring());
    let with = || builder_over::<Shop>(keys.clone(), &clock).reissue_after(MINUTE);
    let roomy = with().build().unwrap();
    let full = Shop { user: Some(1), cart: vec![u32::MAX; 100] };
    let cookie = sealed(&roomy, &full, clock.now());
    clock.pass(HOUR);
    let tight = with().max_set_cookie(500).build().unwrap();
    assert_eq!(reissued(&tight, &cookie), None);
    assert_eq!(tight.keys().counters().reissues_too_large, 1);
    assert!(reissued(&roomy, &cookie).is_some());
    assert_eq!(roomy.keys().counters().reissues_too_large, 0);

    // A longer Domain, to the byte: what fits without one is too much with one.
    let name = "__Secure-id";
    let with = || builder_over::<Shop>(keys.clone(), &clock).name(name).reissue_after(MINUTE);
    let (short, long) = (with().build().unwrap(), with().domain("very-long.example.com").build().unwrap());
    let mut full = Shop::default();
    while short.codec().seal(&full, None, None, clock.now()).is_ok() {
        full.cart.push(1);
    }
    full.cart.pop();
    let cookie = sealed(&short, &full, clock.now());
    clock.pass(HOUR);
    let ((), response) = visit(&long, &cookie, |session| assert_eq!(session.get(), full));
    assert_eq!(names(&response), [""; 0]);
    assert_eq!(long.keys().counters().reissues_too_large, 1);

    // A migration that makes the session larger.
    #[derive(Default, Serialize, Deserialize)]
    struct Wide {
        cart: Vec<u64>,
        copies: Vec<u64>,
    }
    let widened = builder_over::<Wide>(keys.clone(), &clock)
        .schema(2)
        .migrate_from(1, |old: Shop| {
            let cart: Vec<u64> = old.cart.into_iter().map(u64::from).collect();
            Wide { copies: cart.clone(), cart }
        })
        .reissue_after(MINUTE)
        .build()
        .unwrap();
    let cookie = sealed(&roomy, &Shop { user: None, cart: vec![u32::MAX; 400] }, clock.now());
    clock.pass(HOUR);
    let ((), response) =
        visit(&widened, &cookie, |session| session.read(|wide| assert_eq!(wide.copies.len(), 400)));
    assert_eq!(names(&response), [""; 0]);
    assert_eq!(widened.keys().counters().reissues_too_large, 1);
}

// Time.

#[test]
fn time_is_read_again_at_the_head() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let ((), response) = visit(&layer, "", |session| {
        session.set(user(1)).unwrap();
        clock.pass(7 * SECOND);
    });
    let written = meta(&layer, &session_in(&response).unwrap(), clock.now());
    assert_eq!(written.issued_at(), clock.now());
    assert_eq!(written.created_at(), clock.now() - 7 * SECOND);
}

#[test]
fn a_clock_that_runs_backwards_within_a_request_does_not_move_times_backwards() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let handed_out = clock.now();
    let ((), response) = visit(&layer, "", |session| {
        session.set(user(1)).unwrap();
        clock.back(HOUR);
    });
    let written = meta(&layer, &session_in(&response).unwrap(), handed_out);
    assert_eq!(written.issued_at(), handed_out);
    assert_eq!(written.renewed_at(), handed_out);
}

#[test]
fn a_clock_that_runs_backwards_after_a_renewal_does_not_issue_before_it() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let cookie = sealed(&layer, &user(1), clock.now());
    let ((), response) = visit(&layer, &cookie, |session| {
        clock.pass(MINUTE);
        session.renew().unwrap();
        clock.back(30 * SECOND);
    });
    let written = meta(&layer, &session_in(&response).unwrap(), clock.now());
    assert!(written.issued_at() >= written.renewed_at());
}

#[test]
fn a_clock_that_is_behind_the_cookie_reissues_nothing() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).reissue_after(MINUTE).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.back(50 * SECOND);
    assert_eq!(reissued(&layer, &cookie), None);
}

#[test]
fn a_writes_issued_at_is_never_below_the_one_that_came_in() {
    let clock = Clock::new();
    let layer = layer::<Shop>(&clock);
    let ahead = clock.now() + 40 * SECOND;
    let cookie = sealed(&layer, &user(1), ahead);
    let ((), response) = visit(&layer, &cookie, |session| session.update(|shop| shop.cart.push(1)).unwrap());
    let written = session_in(&response).unwrap();
    assert_eq!(meta(&layer, &written, clock.now()).issued_at(), ahead);
    // So it beats the one that came in, wherever both are sent.
    let both = format!("{written}; {cookie}");
    assert_eq!(open(&layer, &both, clock.now()).meta().unwrap().issued_at(), ahead);

    let ((), response) = visit(&layer, &cookie, |session| _ = session.renew().unwrap());
    assert_eq!(meta(&layer, &session_in(&response).unwrap(), clock.now()).issued_at(), ahead);
}

fn age_of(response: &http::Response<()>) -> Option<i64> {
    max_age(&cookie_in(response, NAME).expect("a session"))
}

#[test]
fn max_age_is_the_lifetime_that_is_left() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock)
        .idle_timeout(HOUR)
        .absolute_timeout(2 * HOUR)
        .max_own_lifetime(30 * DAY)
        .build()
        .unwrap();
    let write =
        |cookies: &str| visit(&layer, cookies, |session| session.update(|shop| shop.cart.push(1)).unwrap()).1;
    let first = write("");
    assert_eq!(age_of(&first), Some(3600));
    let cookie = session_in(&first).unwrap();

    clock.pass(30 * MINUTE);
    let again = visit(&layer, &cookie, |session| session.read(|_| ())).1;
    assert_eq!(age_of(&again), Some(3600));
    let cookie = session_in(&again).unwrap();

    // 70 minutes in: of the two hours 50 minutes are left, less than the idle timeout.
    clock.pass(40 * MINUTE);
    let again = visit(&layer, &cookie, |session| session.read(|_| ())).1;
    assert_eq!(age_of(&again), Some(50 * 60));
    assert_eq!(age_of(&write(&cookie)), Some(50 * 60));
    let cookie = session_in(&again).unwrap();

    // A second that has begun is a second: 0 would remove the cookie.
    clock.pass(50 * MINUTE - MILLI);
    assert_eq!(age_of(&write(&cookie)), Some(1));

    let own = visit(&layer, &cookie, |session| {
        session.set_lifetime(Lifetime::Own(10 * DAY)).unwrap();
    });
    assert_eq!(age_of(&own.1), Some(10 * 24 * 3600 - 2 * 3600 + 1));
    let browser = visit(&layer, &cookie, |session| session.set_lifetime(Lifetime::Browser).unwrap());
    assert_eq!(age_of(&browser.1), None);
}

#[test]
fn a_clock_that_is_behind_does_not_make_a_cookie_longer_than_the_budget() {
    // Where 9,990 s are the longest lifetime, `Max-Age` has four digits; 10,050 s would have five.
    let lifetime = 9_990 * SECOND;
    for max_set_cookie in 1_000..1_004 {
        let clock = Clock::new();
        let layer = builder::<String>(&clock)
            .absolute_timeout(lifetime)
            .max_set_cookie(max_set_cookie)
            .build()
            .unwrap();
        let cookie = sealed(&layer, &String::new(), clock.now() + MINUTE);
        let ((), response) = visit(&layer, &cookie, |session| {
            let room = session.remaining();
            // The length itself takes a second byte.
            session.set("x".repeat(room - 1)).unwrap();
            assert_eq!(session.remaining(), 0);
        });
        let [line] = &lines(&response)[..] else { panic!("one cookie") };
        assert!(line.len() <= max_set_cookie, "{} of {max_set_cookie}", line.len());
    }
}

#[test]
fn an_expired_session_is_not_brought_back_by_a_reissue() {
    let clock = Clock::new();
    let layer = builder::<Shop>(&clock).idle_timeout(HOUR).build().unwrap();
    let cookie = sealed(&layer, &user(1), clock.now());
    clock.pass(HOUR);
    let (incoming, response) = visit(&layer, &cookie, Session::incoming);
    assert_eq!(incoming, Incoming::Rejected(RejectedKind::Expired));
    assert_eq!(names(&response), [""; 0]);
}

/// A limit that the docs name: a re-issue carries the whole session, as a write does, so the one that arrives last
/// stays. Within the ten seconds in which a slow response still re-issues.
#[test]
fn a_slow_read_that_is_due_undoes_what_was_written_meanwhile_and_one_that_is_not_due_or_late_does_not() {
    for (aged, slow, stays) in
        [(3 * HOUR, SECOND, false), (MINUTE, SECOND, true), (3 * HOUR, 11 * SECOND, true)]
    {
        let clock = Clock::new();
        let layer = layer::<Shop>(&clock);
        let mut browser = Browser::new(&clock);
        browser.visit(&layer, |session| session.set(user(1)).unwrap());
        clock.pass(aged);
        let cookies = browser.cookies();
        let late = respond(&layer, request(&cookies), |session| {
            session.read(|_| ());
            // Meanwhile the browser's other request writes, and is answered.
            browser.visit(&layer, |session| session.update(|shop| shop.cart.push(7)).unwrap());
            clock.pass(slow);
            status(200)
        });
        browser.receive(&late);
        let kept = browser.visit(&layer, |session| !session.get().cart.is_empty());
        assert_eq!(kept, stays, "{aged:?}, {slow:?}");
    }
}
