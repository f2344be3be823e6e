//! Attacks on moving between identities, and what a hostile or an old browser can do with it.

// Shared with the tests by rule; not all of it is used here.
#[allow(dead_code)]
#[path = "rules/jar.rs"]
mod jar;
#[allow(dead_code)]
#[path = "rules/kit.rs"]
mod kit;

use cookie_session::{
    ConfigError, Identity, Incoming, KeyRing, Session, SessionBuilder, SessionConfig, SessionLayer,
};
use http::{HeaderValue, Response, header::SET_COOKIE};
use jar::Browser;
use kit::{Clock, DAY, HOUR, NAME, SECOND, Shop, builder_over, cookies_in, lines, ring, sent, user, visit};

fn who(layer: &SessionLayer<Shop>, cookies: &str) -> Option<u64> {
    visit(layer, cookies, |session| session.read(|shop| shop.user)).0
}

fn pair(response: &Response<()>, name: &str) -> String {
    let cookie =
        cookies_in(response).into_iter().find(|cookie| cookie.name() == name && !cookie.value().is_empty());
    format!("{name}={}", cookie.expect(name).value())
}

/// From `session` on a parent domain to the prefixed name: the release that writes the old, and the one that writes
/// the new.
struct Prefix {
    clock: Clock,
    before: SessionLayer<Shop>,
    after: SessionLayer<Shop>,
}

const ATTACKER: u64 = 666;

impl Prefix {
    fn new() -> Prefix {
        let (clock, ring) = (Clock::new(), ring());
        let until = clock.now() + 30 * DAY;
        let builder = || builder_over::<Shop>(ring.clone(), &clock);
        let old = Identity::named("session").domain("example.com").until(until);
        let new = Identity::named(NAME).until(until);
        let before = builder().name("session").domain("example.com").formerly(new).build().unwrap();
        let after = builder().formerly(old).build().unwrap();
        Prefix { clock, before, after }
    }

    /// The victim's session, in the prefixed cookie.
    fn victim(&self) -> String {
        sent(&self.after.codec().seal(&user(1), None, None, self.clock.now()).unwrap())
    }

    /// What she gets who signs in with her own account, out, and in again, where the old cookie is still written: a
    /// marker and a session that is good beside it.
    fn attacker(&self) -> [String; 2] {
        let session =
            || sent(&self.before.codec().seal(&user(ATTACKER), None, None, self.clock.now()).unwrap());
        let (_, response) = visit(&self.before, &session(), |session| assert!(session.clear()));
        self.clock.pass(SECOND);
        [pair(&response, "session-out"), session()]
    }
}

/// A sibling host sets `session` and `session-out` for the parent domain, both her own. The victim's prefixed session,
/// which she cannot touch, counts as signed out, and hers is what is left.
#[test]
fn a_marker_tossed_in_beside_a_session_does_not_put_that_in_a_prefixed_ones_place() {
    let prefix = Prefix::new();
    let victim = prefix.victim();
    prefix.clock.pass(HOUR);
    let [marker, session] = prefix.attacker();
    assert_eq!(who(&prefix.after, &format!("{session}; {victim}")), Some(1));
    assert_eq!(who(&prefix.after, &format!("{marker}; {session}; {victim}")), Some(1));
}

/// The marker alone signs out, also long after the date: as long as the old identity is named.
#[test]
fn a_marker_tossed_in_under_a_name_without_prefix_does_not_sign_a_prefixed_session_out() {
    let prefix = Prefix::new();
    prefix.clock.pass(100 * DAY);
    let victim = prefix.victim();
    prefix.clock.pass(HOUR);
    let [marker, _] = prefix.attacker();
    assert_eq!(who(&prefix.after, &victim), Some(1));
    assert_eq!(who(&prefix.after, &format!("{marker}; {victim}")), Some(1));
}

/// Of two cookies that only a browser tells apart the newest wins, of equals the later in the header. An instance
/// whose clock is behind gives its write the time of what came in: then the shorter path wins, whatever is newer.
#[test]
fn a_write_of_an_instance_whose_clock_is_behind_is_not_lost_after_a_change_of_path() {
    let (clock, ring) = (Clock::new(), ring());
    let builder = || builder_over::<Shop>(ring.clone(), &clock).name("id");
    let before = builder().path("/app").formerly(Identity::named("id")).build().unwrap();
    let after = builder().formerly(Identity::named("id").path("/app")).build().unwrap();
    let first = after.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, first.header());
    let mut add = |layer: &SessionLayer<Shop>, item| {
        let (cart, response) = visit(layer, &browser.cookies_at("/app"), |session| {
            session.update(|shop| shop.cart.push(item)).unwrap();
            session.read(|shop| shop.cart.clone())
        });
        browser.receive(&response);
        cart
    };
    clock.pass(HOUR);
    assert_eq!(add(&after, 1), [1]);
    // One request after the other: nothing is under way at one moment.
    clock.back(SECOND);
    assert_eq!(add(&before, 2), [1, 2]);
    clock.pass(HOUR);
    assert_eq!(add(&before, 3), [1, 2, 3]);
}

/// A browser that does not know Partitioned (Firefox before 141, Safari before 18.4) takes the removal of the former
/// cookie, which comes last, for one of the cookie that was just set.
#[test]
fn a_browser_that_does_not_know_partitioned_keeps_the_session_that_moves() {
    let (clock, ring) = (Clock::new(), ring());
    let until = clock.now() + DAY;
    let builder = |context| builder_over::<Shop>(ring.clone(), &clock).context(context);
    let old = Identity::named(NAME).context("").until(until);
    let before = builder("").build().unwrap();
    let after = builder("shop").partitioned().formerly(old).build().unwrap();
    let first = before.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, first.header());
    let response = browser.send(&after, |session| {
        session.update(|shop| shop.cart.push(1)).unwrap();
        Response::new(())
    });
    browser.receive(&without_partitioned(&response));
    assert_eq!(who(&after, &browser.cookies()), Some(1));
}

/// The same where somebody signs out and in at once, which was so before there was an `until`.
#[test]
fn a_browser_that_does_not_know_partitioned_keeps_who_signs_out_and_in_at_once() {
    let (clock, ring) = (Clock::new(), ring());
    let layer =
        builder_over::<Shop>(ring, &clock).partitioned().formerly(Identity::named(NAME)).build().unwrap();
    let mut browser = Browser::new(&clock);
    let response = browser.send(&layer, |session| {
        session.clear();
        session.set(user(1)).unwrap();
        Response::new(())
    });
    browser.receive(&without_partitioned(&response));
    assert_eq!(who(&layer, &browser.cookies()), Some(1));
}

fn without_partitioned(response: &Response<()>) -> Response<()> {
    let mut known = Response::new(());
    for line in response.headers().get_all(SET_COOKIE) {
        let line = line.to_str().unwrap().replace("; Partitioned", "");
        known.headers_mut().append(SET_COOKIE, HeaderValue::try_from(line).unwrap());
    }
    known
}

/// Of two contexts of one cookie there is one marker, sealed in that of the release that signed out. Once the date is
/// taken out nobody reads it any more, and what it was for is good again: here a day after the deploy, while the
/// session would live for ten.
#[test]
fn a_sign_out_in_the_other_context_holds_when_the_date_has_been_taken_out() {
    let (clock, ring) = (Clock::new(), ring());
    let until = clock.now() + DAY;
    let of = |context: &str| {
        builder_over::<Shop>(ring.clone(), &clock).name("id").context(context).idle_timeout(10 * DAY)
    };
    let other = |context: &str| Identity::current().context(context);
    let before = of("a").formerly(other("b").until(until)).build().unwrap();
    let after = of("b").formerly(other("a").until(until)).build().unwrap();
    let last = of("b").formerly(other("a")).build().unwrap();
    let first = after.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, first.header());
    clock.pass(SECOND);
    let slow = browser.send(&after, |session| {
        session.update(|shop| shop.cart.push(1)).unwrap();
        Response::new(())
    });
    browser.visit(&before, |session| assert!(session.clear()));
    browser.receive(&slow);
    for layer in [&before, &after] {
        assert_eq!(who(layer, &browser.cookies()), None);
    }
    clock.set(until);
    assert_eq!(who(&after, &browser.cookies()), None);
    assert_eq!(who(&last, &browser.cookies()), None);
}

/// The slow answer was accepted before the date, the sign-out comes after it.
#[test]
fn a_sign_out_after_the_date_holds_against_a_move_that_is_under_way() {
    let clock = Clock::new();
    let ring = ring();
    let until = clock.now() + DAY;
    let one = builder_over::<Shop>(ring.clone(), &clock).name("sid").build().unwrap();
    let two = builder_over::<Shop>(ring, &clock)
        .name("id")
        .formerly(Identity::named("sid").until(until))
        .build()
        .unwrap();
    clock.set(until - HOUR * 3);
    let cookie = one.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, cookie.header());
    clock.set(until - SECOND);
    let slow = browser.send(&two, |session| {
        session.read(|_| ());
        Response::new(())
    });
    assert!(lines(&slow).iter().any(|line| line.starts_with("id=")), "it moves");
    clock.set(until + SECOND);
    browser.visit(&two, |session| assert!(session.clear()));
    browser.receive(&slow);
    assert_eq!(who(&two, &browser.cookies()), None, "signed in again after a sign-out");
}

/// The same between instances whose clocks are half a minute apart.
#[test]
fn so_it_does_where_the_clocks_are_apart() {
    let (clock, behind) = (Clock::new(), Clock::new());
    let ring = ring();
    let until = clock.now() + HOUR * 4;
    let one = builder_over::<Shop>(ring.clone(), &clock).name("sid").build().unwrap();
    let two = |clock: &Clock| {
        builder_over::<Shop>(ring.clone(), clock)
            .name("id")
            .formerly(Identity::named("sid").until(until))
            .build()
            .unwrap()
    };
    let (ahead, late) = (two(&clock), two(&behind));
    let cookie = one.codec().seal(&user(1), None, None, clock.now()).unwrap();
    let mut browser = Browser::with(&clock, cookie.header());
    clock.set(until + SECOND);
    behind.set(until - SECOND * 30);
    let slow = browser.send(&late, |session| {
        session.read(|_| ());
        Response::new(())
    });
    browser.visit(&ahead, |session| assert!(session.clear()));
    browser.receive(&slow);
    assert_eq!(who(&ahead, &browser.cookies()), None);
}

/// Two contexts of one former cookie: it has one marker, which the release that writes it must be able to open.
#[test]
fn the_marker_of_a_former_cookie_is_sealed_as_the_accepted_one() {
    for turned in [false, true] {
        let clock = Clock::new();
        let ring = ring();
        let until = clock.now() + DAY * 30;
        let y = || Identity::named("__Host-a").context("y").until(until);
        // x is long over.
        let x = || Identity::named("__Host-a").context("x");
        let new = Identity::named("b");
        let one = builder_over::<Shop>(ring.clone(), &clock)
            .name("__Host-a")
            .context("y")
            .formerly(new.clone().context("y").until(until))
            .build()
            .unwrap();
        let two = builder_over::<Shop>(ring.clone(), &clock).name("b").context("y");
        let two = if turned { two.formerly(y()).formerly(x()) } else { two.formerly(x()).formerly(y()) };
        let two = two.build().unwrap();
        let cookie = one.codec().seal(&user(1), None, None, clock.now()).unwrap();
        let mut browser = Browser::with(&clock, cookie.header());
        clock.pass(SECOND);
        let slow = browser.send(&one, |s| {
            s.update(|s| s.cart.push(1)).unwrap();
            Response::new(())
        });
        browser.visit(&two, |s| assert!(s.clear()));
        browser.receive(&slow);
        assert_eq!(who(&one, &browser.cookies()), None, "turned: {turned}");
    }
}

/// Whatever its Domain: a request does not show it.
#[test]
fn a_markers_name_is_no_cookies_name() {
    let clock = Clock::new();
    let until = clock.now() + DAY;
    let other = Identity::named("session-out").domain("example.com").until(until);
    let built = kit::builder::<Shop>(&clock).name("session").formerly(other).build();
    assert!(matches!(built, Err(ConfigError::FormerlyTwice { .. })));
}

/// A table with one text in it is no date.
#[test]
fn a_table_is_no_date() {
    let key = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let text =
        format!("keys.primary = '{key}'\n[[formerly]]\nname = 'old'\nuntil = {{ after = '2027-03-01' }}");
    let config: SessionConfig = toml::from_str(&text).unwrap();
    let error = SessionLayer::<Shop>::from_config(config).build().expect_err("a fault");
    assert!(matches!(error, ConfigError::WrongValue { .. }), "{error:?}");
}

/// What names the layer's own seal in other words is its own identity all the same.
#[test]
fn an_identity_that_is_the_layers_own_in_other_words_is_refused() {
    let (clock, ring): (Clock, KeyRing) = (Clock::new(), ring());
    let until = clock.now() + DAY;
    let builder = || -> SessionBuilder<Shop> { builder_over(ring.clone(), &clock).context("shop") };
    for own in [
        Identity::current().context("shop"),
        Identity::current().mode(cookie_session::Mode::Encrypted),
        Identity::named(NAME).context("shop").mode(cookie_session::Mode::Encrypted),
    ] {
        let error = builder().formerly(own.until(until)).build().expect_err("a fault");
        assert!(matches!(error, ConfigError::FormerlyTwice { .. }), "{error:?}");
    }
}

mod import {
    use super::*;
    use cookie_session::{Imported, OldCookies, OldFormat, RejectedKind};

    struct Legacy;

    impl OldFormat<Shop> for Legacy {
        fn cookies(&self) -> Vec<Identity> {
            vec![Identity::named("legacy")]
        }

        fn open(&self, old: &OldCookies<'_>) -> Result<Imported<Shop>, RejectedKind> {
            let value = old.first("legacy").ok_or(RejectedKind::Malformed)?;
            Ok(Imported::new(user(1), value, b"a key of the old format"))
        }
    }

    /// Junk under the former name, which a sibling host can set, keeps the session from being imported; and the first
    /// write that follows puts another one in its place for good.
    #[test]
    fn junk_under_a_former_name_does_not_keep_a_session_from_being_imported() {
        let (clock, ring) = (Clock::new(), ring());
        let until = clock.now() + DAY;
        let layer = builder_over::<Shop>(ring, &clock)
            .formerly(Identity::named("session").domain("example.com").until(until))
            .import(Legacy, until)
            .build()
            .unwrap();
        assert_eq!(who(&layer, "legacy=1"), Some(1));
        let (incoming, _) = visit(&layer, "session=junk; legacy=1", Session::incoming);
        assert_eq!(incoming, Incoming::Imported);
    }
}

/// What the first of these tests stands on: hers is good beside her marker.
#[test]
fn the_attackers_session_is_good_beside_her_marker() {
    let prefix = Prefix::new();
    let [marker, session] = prefix.attacker();
    assert_eq!(who(&prefix.after, &format!("{marker}; {session}")), Some(ATTACKER));
}
