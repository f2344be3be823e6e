//! How long a session lives: idle and absolute timeout, clock skew, a lifetime of its own, browser
//! sessions, renewal, and what `meta()` says of it all.

use cookie_session::{
    CLOCK_SKEW, Incoming, Key, KeyRing, Lifetime, Mode, Opened, RejectedKind, Session, SessionBuilder,
    SessionLayer, SessionMeta, UpdateError,
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    convert::Infallible,
    future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer, Service, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MILLI: Duration = Duration::from_millis(1);

const EXPIRED: Incoming = Incoming::Rejected(RejectedKind::Expired);
const FROM_THE_FUTURE: Incoming = Incoming::Rejected(RejectedKind::FromTheFuture);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    user: Option<u64>,
    visits: u32,
}

trait Data: Default + Serialize + DeserializeOwned + Send + 'static {}
impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// A clock that only the test moves.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Clock {
        Clock(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(SeqCst))
    }

    fn pass(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), SeqCst);
    }

    fn set(&self, to: SystemTime) {
        let millis = to.duration_since(UNIX_EPOCH).unwrap().as_millis();
        self.0.store(u64::try_from(millis).unwrap(), SeqCst);
    }
}

fn ring() -> KeyRing {
    KeyRing::new(Key::generate().unwrap(), []).unwrap()
}

fn builder_over<T: Data>(ring: KeyRing, clock: &Clock) -> SessionBuilder<T> {
    let clock = clock.clone();
    SessionLayer::builder(ring).clock(move || clock.now())
}

fn builder(clock: &Clock) -> SessionBuilder<Account> {
    builder_over(ring(), clock)
}

/// One request that answers 200: what the handler returned, and the response's session cookie.
fn visit<T: Data, R>(
    layer: &SessionLayer<T>,
    cookie: &str,
    handler: impl FnOnce(&Session<T>) -> R,
) -> (R, Option<Sent>) {
    let mut handler = Some(handler);
    let mut result = None;
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = Session::from_parts(&parts).unwrap();
        result = Some(handler.take().expect("one request")(&session));
        future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let mut request = Request::new(());
    if !cookie.is_empty() {
        request.headers_mut().insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
    }
    let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("nothing here has to wait")
    };
    drop(service);
    let mut lines = response.headers().get_all(SET_COOKIE).iter();
    let sent = lines.next().map(Sent::new);
    assert!(lines.next().is_none(), "one cookie at most");
    (result.expect("the handler ran"), sent)
}

/// A session cookie in a response.
#[derive(Clone, Debug)]
struct Sent {
    /// `name=value`, as a client sends it back.
    pair: String,
    max_age: Option<u64>,
}

impl Sent {
    fn new(line: &HeaderValue) -> Sent {
        let cookie = cookie::Cookie::parse(line.to_str().unwrap()).unwrap();
        let max_age = cookie.max_age().map(|max_age| max_age.whole_seconds().try_into().unwrap());
        Sent { pair: cookie.stripped().to_string(), max_age }
    }
}

fn open<T: Data>(layer: &SessionLayer<T>, cookie: &str, now: SystemTime) -> Opened<T> {
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookie).unwrap())]);
    layer.codec().open(&headers, now)
}

fn meta<T: Data>(layer: &SessionLayer<T>, cookie: &str, now: SystemTime) -> SessionMeta {
    open(layer, cookie, now).meta().expect("it is accepted").clone()
}

fn incoming<T: Data>(layer: &SessionLayer<T>, cookie: &str) -> Incoming {
    visit(layer, cookie, Session::incoming).0
}

fn sealed<T: Data>(layer: &SessionLayer<T>, value: &T, now: SystemTime) -> String {
    let cookie = layer.codec().seal(value, None, None, now).unwrap();
    cookie.request_header().to_str().unwrap().to_owned()
}

fn read(session: &Session<Account>) {
    session.read(|_| ());
}

fn sign_in(session: &Session<Account>) {
    session.update(|account| account.user = Some(1)).unwrap();
}

fn count(session: &Session<Account>) {
    session.update(|account| account.visits += 1).unwrap();
}

/// A session that was signed in now, and given this lifetime.
fn signed_in(layer: &SessionLayer<Account>, lifetime: Lifetime) -> Sent {
    let ((), sent) = visit(layer, "", |session| {
        sign_in(session);
        session.set_lifetime(lifetime).unwrap();
    });
    sent.expect("a session")
}

// Idle and absolute timeout.

#[test]
fn the_idle_timeout_strikes_at_its_millisecond() {
    for idle in [SECOND, 5 * SECOND, MINUTE, 30 * MINUTE, DAY] {
        let clock = Clock::new();
        let layer = builder(&clock).idle_timeout(idle).build().unwrap();
        let cookie = sealed(&layer, &Account::default(), clock.now());
        clock.pass(idle - MILLI);
        assert_eq!(incoming(&layer, &cookie), Incoming::Accepted, "{idle:?}");
        clock.pass(MILLI);
        assert_eq!(incoming(&layer, &cookie), EXPIRED, "{idle:?}");
        clock.pass(400 * DAY);
        assert_eq!(incoming(&layer, &cookie), EXPIRED, "{idle:?}");
    }
}

#[test]
fn the_absolute_timeout_strikes_at_its_millisecond_however_active_the_user() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(HOUR).absolute_timeout(DAY).build().unwrap();
    let start = clock.now();
    let mut cookie = sealed(&layer, &Account::default(), start);
    while clock.now() < start + DAY - 10 * MINUTE {
        clock.pass(10 * MINUTE);
        let ((), sent) = visit(&layer, &cookie, count);
        cookie = sent.expect("a write").pair;
    }
    clock.set(start + DAY - MILLI);
    assert_eq!(incoming(&layer, &cookie), Incoming::Accepted);
    clock.set(start + DAY);
    assert_eq!(incoming(&layer, &cookie), EXPIRED);
}

#[test]
fn the_defaults_are_24_hours_idle_and_14_days() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let now = clock.now();
    let meta = meta(&layer, &sealed(&layer, &Account::default(), now), now);
    assert_eq!(meta.idle_deadline(), Some(now + DAY));
    assert_eq!(meta.absolute_deadline(), now + 14 * DAY);
    // An absolute timeout under a day takes the idle one with it.
    let layer = builder(&clock).absolute_timeout(HOUR).build().unwrap();
    let meta = self::meta(&layer, &sealed(&layer, &Account::default(), now), now);
    assert_eq!(meta.idle_deadline(), Some(now + HOUR));
}

#[test]
fn an_active_user_stays_in_until_the_absolute_timeout() {
    // Requests come in at steady intervals well within the idle timeout, and only read.
    for (idle, every) in [
        (5 * SECOND, SECOND),
        (5 * SECOND, Duration::from_millis(2_499)),
        (MINUTE, 10 * SECOND),
        (MINUTE, 29 * SECOND),
        (30 * MINUTE, MINUTE),
    ] {
        let clock = Clock::new();
        let layer = builder(&clock).idle_timeout(idle).absolute_timeout(HOUR).build().unwrap();
        let (start, mut cookie) = (clock.now(), sealed(&layer, &Account::default(), clock.now()));
        let id = meta(&layer, &cookie, start).id();
        clock.pass(every);
        while clock.now() < start + HOUR {
            let (incoming, sent) = visit(&layer, &cookie, Session::incoming);
            assert_eq!(incoming, Incoming::Accepted, "{idle:?}, {every:?}");
            cookie = sent.map_or(cookie, |sent| sent.pair);
            clock.pass(every);
        }
        assert_eq!(incoming(&layer, &cookie), EXPIRED, "{idle:?}, {every:?}");
        // The same session all the way.
        assert_eq!(meta(&layer, &cookie, start + HOUR - MILLI).id(), id);
    }
}

#[test]
fn idle_can_strike_early_by_the_threshold_and_no_more() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(10 * MINUTE).reissue_after(2 * MINUTE).build().unwrap();
    let cookie = sealed(&layer, &Account::default(), clock.now());
    // The last request before the threshold leaves no trace …
    clock.pass(2 * MINUTE - MILLI);
    assert!(visit(&layer, &cookie, read).1.is_none());
    clock.pass(8 * MINUTE);
    assert_eq!(incoming(&layer, &cookie), Incoming::Accepted);
    // … so a user who was away for the idle timeout less the threshold may be out.
    clock.pass(MILLI);
    assert_eq!(incoming(&layer, &cookie), EXPIRED);
}

#[test]
fn passive_requests_do_not_keep_a_session_alive() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(10 * MINUTE).passive_if(|_| true).build().unwrap();
    let mut cookie = sealed(&layer, &Account::default(), clock.now());
    for _ in 1..10 {
        clock.pass(MINUTE);
        let (incoming, sent) = visit(&layer, &cookie, Session::incoming);
        assert_eq!(incoming, Incoming::Accepted);
        cookie = sent.map_or(cookie, |sent| sent.pair);
    }
    clock.pass(MINUTE);
    assert_eq!(incoming(&layer, &cookie), EXPIRED);
}

#[test]
fn a_write_moves_the_idle_timeout_and_not_the_absolute_one() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(HOUR).absolute_timeout(DAY).build().unwrap();
    let start = clock.now();
    let cookie = sealed(&layer, &Account::default(), start);
    clock.pass(MINUTE);
    let ((), sent) = visit(&layer, &cookie, count);
    let meta = meta(&layer, &sent.unwrap().pair, clock.now());
    assert_eq!(meta.idle_deadline(), Some(start + MINUTE + HOUR));
    assert_eq!(meta.absolute_deadline(), start + DAY);
}

#[test]
fn a_timeout_that_was_lowered_holds_for_sessions_that_are_there() {
    let (clock, keys) = (Clock::new(), ring());
    let before = builder_over::<Account>(keys.clone(), &clock).build().unwrap();
    let cookie = sealed(&before, &Account::default(), clock.now());
    let after = builder_over::<Account>(keys, &clock).idle_timeout(HOUR).build().unwrap();
    clock.pass(HOUR);
    assert_eq!(incoming(&before, &cookie), Incoming::Accepted);
    assert_eq!(incoming(&after, &cookie), EXPIRED);
}

#[test]
fn an_expired_session_is_left_alone_and_a_write_begins_a_new_one() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(HOUR).build().unwrap();
    let cookie = sealed(&layer, &Account { user: Some(1), visits: 3 }, clock.now());
    clock.pass(HOUR);
    let before = meta(&layer, &cookie, clock.now() - MILLI);
    let (value, sent) = visit(&layer, &cookie, Session::get);
    assert_eq!(value, Account::default());
    assert!(sent.is_none());
    let ((), sent) = visit(&layer, &cookie, count);
    let opened = open(&layer, &sent.unwrap().pair, clock.now());
    assert_eq!(opened.value(), Some(&Account { user: None, visits: 1 }));
    assert_ne!(opened.meta().unwrap().id(), before.id());
    assert_eq!(opened.meta().unwrap().created_at(), clock.now());
}

// Clocks apart.

#[test]
fn a_cookie_from_a_clock_that_is_60_s_ahead_is_accepted_and_a_millisecond_more_is_not() {
    assert_eq!(CLOCK_SKEW, MINUTE);
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let value = Account { user: Some(1), visits: 0 };
    let at = |ahead| sealed(&layer, &value, clock.now() + ahead);
    assert_eq!(incoming(&layer, &at(MINUTE)), Incoming::Accepted);
    let future = at(MINUTE + MILLI);
    let ((), sent) = visit(&layer, &future, |session| {
        assert_eq!(session.incoming(), FROM_THE_FUTURE);
        assert_eq!(session.get(), Account::default());
    });
    // It is left alone, counted by its own kind, and good again a little later.
    assert!(sent.is_none());
    let counted = |kind| layer.keys().counters().rejected.iter().find(|(its, _)| *its == kind).unwrap().1;
    assert_eq!(counted(RejectedKind::FromTheFuture), 1);
    assert_eq!(counted(RejectedKind::Expired), 0);
    clock.pass(MILLI);
    assert_eq!(incoming(&layer, &future), Incoming::Accepted);
}

#[test]
fn the_tolerance_never_extends_an_expiry() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(5 * SECOND).absolute_timeout(10 * SECOND).build().unwrap();
    let cookie = sealed(&layer, &Account::default(), clock.now());
    clock.pass(5 * SECOND);
    assert_eq!(incoming(&layer, &cookie), EXPIRED);

    let own = signed_in(&layer, Lifetime::Own(7 * SECOND));
    clock.pass(7 * SECOND);
    assert_eq!(incoming(&layer, &own.pair), EXPIRED);

    // Kept alive to the end of its absolute timeout.
    let start = clock.now();
    let mut cookie = sealed(&layer, &Account::default(), start);
    for _ in 0..3 {
        clock.pass(3 * SECOND);
        cookie = visit(&layer, &cookie, count).1.unwrap().pair;
    }
    clock.set(start + 10 * SECOND - MILLI);
    assert_eq!(incoming(&layer, &cookie), Incoming::Accepted);
    clock.pass(MILLI);
    assert_eq!(incoming(&layer, &cookie), EXPIRED);
}

#[test]
fn the_beginning_of_a_session_may_lie_in_the_future() {
    // A sign-out marker sets it ahead; only `issued_at` is judged.
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let marker = Some(clock.now() + HOUR);
    let cookie = layer.codec().seal(&Account::default(), None, marker, clock.now()).unwrap();
    let opened = open(&layer, cookie.request_header().to_str().unwrap(), clock.now());
    assert_eq!(opened.incoming(), Incoming::Accepted);
    let meta = opened.meta().unwrap();
    assert_eq!(meta.created_at(), clock.now() + HOUR + MILLI);
    assert_eq!(meta.absolute_deadline(), clock.now() + 14 * DAY);
}

// A lifetime of its own.

#[test]
fn an_own_lifetime_replaces_both_timeouts() {
    let clock = Clock::new();
    let layer =
        builder(&clock).idle_timeout(HOUR).absolute_timeout(DAY).max_own_lifetime(30 * DAY).build().unwrap();
    let start = clock.now();
    // Longer than both,
    let long = signed_in(&layer, Lifetime::Own(30 * DAY));
    assert_eq!(long.max_age, Some(30 * 24 * 3600));
    // and shorter than both.
    let short = signed_in(&layer, Lifetime::Own(10 * MINUTE));
    assert_eq!(short.max_age, Some(600));
    for (cookie, lifetime) in [(short, 10 * MINUTE), (long, 30 * DAY)] {
        let meta = meta(&layer, &cookie.pair, start);
        assert_eq!(meta.lifetime(), Lifetime::Own(lifetime));
        assert_eq!(meta.idle_deadline(), None);
        assert_eq!(meta.absolute_deadline(), start + lifetime);
        assert_eq!(meta.expires_at(), start + lifetime);
        clock.set(start + lifetime - MILLI);
        assert_eq!(incoming(&layer, &cookie.pair), Incoming::Accepted);
        clock.set(start + lifetime);
        assert_eq!(incoming(&layer, &cookie.pair), EXPIRED);
    }
}

#[test]
fn writing_does_not_extend_an_own_lifetime() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let start = clock.now();
    let cookie = signed_in(&layer, Lifetime::Own(HOUR));
    clock.pass(30 * MINUTE);
    let ((), sent) = visit(&layer, &cookie.pair, count);
    let sent = sent.unwrap();
    assert_eq!(sent.max_age, Some(30 * 60));
    assert_eq!(meta(&layer, &sent.pair, clock.now()).expires_at(), start + HOUR);
    clock.set(start + HOUR);
    assert_eq!(incoming(&layer, &sent.pair), EXPIRED);
}

#[test]
fn more_than_the_maximum_is_an_error_of_the_call_and_changes_nothing() {
    let clock = Clock::new();
    let layer = builder(&clock).absolute_timeout(7 * DAY).build().unwrap();
    let cookie = sealed(&layer, &Account::default(), clock.now());
    let ((), sent) = visit(&layer, &cookie, |session| {
        // The maximum is the absolute timeout where none is set.
        let asked = 7 * DAY + MILLI;
        let error = session.set_lifetime(Lifetime::Own(asked)).unwrap_err();
        assert_eq!(error, UpdateError::LifetimeTooLong { asked, max: 7 * DAY });
        assert!(!session.is_changed());
        assert_eq!(session.meta().unwrap().lifetime(), Lifetime::Timeouts);
    });
    assert!(sent.is_none());
    let ((), sent) = visit(&layer, &cookie, |session| session.set_lifetime(Lifetime::Own(7 * DAY)).unwrap());
    assert_eq!(sent.unwrap().max_age, Some(7 * 24 * 3600));
}

#[test]
fn less_than_a_second_or_one_that_is_over_already_is_an_error() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let cookie = sealed(&layer, &Account::default(), clock.now());
    clock.pass(HOUR);
    let ((), sent) = visit(&layer, &cookie, |session| {
        for asked in [Duration::ZERO, MILLI, SECOND - MILLI, SECOND, HOUR - SECOND, HOUR] {
            let error = session.set_lifetime(Lifetime::Own(asked)).unwrap_err();
            assert_eq!(error, UpdateError::LifetimeTooShort { asked });
        }
        assert!(!session.is_changed());
        session.set_lifetime(Lifetime::Own(HOUR + SECOND)).unwrap();
        // After a renewal it counts from now.
        session.renew().unwrap();
        session.set_lifetime(Lifetime::Own(SECOND)).unwrap();
    });
    assert_eq!(sent.unwrap().max_age, Some(1));
}

#[test]
fn an_own_lifetime_is_in_whole_seconds_rounded_down() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let sent = signed_in(&layer, Lifetime::Own(Duration::from_millis(2_999)));
    assert_eq!(sent.max_age, Some(2));
    assert_eq!(meta(&layer, &sent.pair, clock.now()).lifetime(), Lifetime::Own(2 * SECOND));
}

#[test]
fn a_maximum_that_was_lowered_later_caps() {
    let (clock, keys) = (Clock::new(), ring());
    let with = |max| builder_over::<Account>(keys.clone(), &clock).max_own_lifetime(max).build().unwrap();
    let (before, after) = (with(30 * DAY), with(DAY));
    let start = clock.now();
    let cookie = signed_in(&before, Lifetime::Own(30 * DAY)).pair;
    let meta = meta(&after, &cookie, start);
    assert_eq!((meta.expires_at(), meta.absolute_deadline()), (start + DAY, start + DAY));
    let ((), sent) = visit(&after, &cookie, count);
    assert_eq!(sent.unwrap().max_age, Some(24 * 3600));
    clock.set(start + DAY - MILLI);
    assert_eq!(incoming(&after, &cookie), Incoming::Accepted);
    clock.set(start + DAY);
    assert_eq!(incoming(&after, &cookie), EXPIRED);
    assert_eq!(incoming(&before, &cookie), Incoming::Accepted);
}

#[test]
fn an_own_lifetime_is_not_reissued_for_its_age() {
    let clock = Clock::new();
    let layer = builder(&clock).reissue_after(MINUTE).build().unwrap();
    let start = clock.now();
    let cookie = signed_in(&layer, Lifetime::Own(10 * DAY)).pair;
    for passed in [MINUTE, HOUR, DAY, 10 * DAY - MILLI] {
        clock.set(start + passed);
        let ((), sent) = visit(&layer, &cookie, read);
        assert!(sent.is_none(), "{passed:?}");
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct AccountV2 {
    user: Option<u64>,
    visits: u32,
    name: String,
}

#[test]
fn an_own_lifetime_is_reissued_to_move_key_mode_or_schema_and_kept() {
    let clock = Clock::new();
    let (old, new) = (Key::generate().unwrap(), Key::generate().unwrap());
    let with = |ring| builder_over::<Account>(ring, &clock).reissue_after(MINUTE);
    let both = || KeyRing::new(new.clone(), [old.clone()]).unwrap();
    let moved = |layer: &SessionLayer<Account>, cookie: &Sent| {
        let start = clock.now();
        clock.pass(MINUTE - MILLI);
        assert!(visit(layer, &cookie.pair, read).1.is_none());
        clock.pass(MILLI);
        let again = visit(layer, &cookie.pair, read).1.expect("it moves");
        // The lifetime that is left, not a new one.
        assert_eq!(again.max_age, Some(3600 - 60));
        let meta = meta(layer, &again.pair, clock.now());
        assert_eq!(meta.lifetime(), Lifetime::Own(HOUR));
        assert_eq!(meta.expires_at(), start + HOUR);
        // Once.
        clock.pass(MINUTE);
        assert!(visit(layer, &again.pair, read).1.is_none());
        meta
    };

    let before = with(KeyRing::new(old.clone(), []).unwrap()).build().unwrap();
    let after = with(both()).build().unwrap();
    let cookie = signed_in(&before, Lifetime::Own(HOUR));
    let old_id = meta(&after, &cookie.pair, clock.now()).key_id();
    assert_ne!(moved(&after, &cookie).key_id(), old_id);

    let signs = with(both()).mode(Mode::Signed).build().unwrap();
    let encrypts = with(both()).accept_mode(Mode::Signed).build().unwrap();
    let cookie = signed_in(&signs, Lifetime::Own(HOUR));
    assert_eq!(moved(&encrypts, &cookie).mode(), Mode::Encrypted);

    let cookie = signed_in(&after, Lifetime::Own(HOUR));
    let migrates = builder_over::<AccountV2>(both(), &clock)
        .reissue_after(MINUTE)
        .schema(2)
        .migrate_from(1, |Account { user, visits }| AccountV2 { user, visits, name: String::new() })
        .build()
        .unwrap();
    clock.pass(MINUTE);
    let ((), again) = visit(&migrates, &cookie.pair, |session| session.read(|_| ()));
    let again = again.expect("it moves");
    let meta = meta(&migrates, &again.pair, clock.now());
    assert_eq!((meta.schema(), meta.lifetime()), (2, Lifetime::Own(HOUR)));
    clock.pass(MINUTE);
    assert!(visit(&migrates, &again.pair, |session| session.read(|_| ())).1.is_none());
}

#[test]
fn an_own_lifetime_can_be_given_up_for_the_timeouts() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(HOUR).build().unwrap();
    let cookie = signed_in(&layer, Lifetime::Own(10 * DAY));
    clock.pass(MINUTE);
    let ((), sent) = visit(&layer, &cookie.pair, |session| session.set_lifetime(Lifetime::Timeouts).unwrap());
    let sent = sent.unwrap();
    assert_eq!(sent.max_age, Some(3600));
    let meta = meta(&layer, &sent.pair, clock.now());
    assert_eq!(meta.idle_deadline(), Some(clock.now() + HOUR));
}

// Browser sessions.

#[test]
fn a_browser_session_has_no_max_age_and_both_timeouts_hold() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(HOUR).absolute_timeout(DAY).build().unwrap();
    let start = clock.now();
    let cookie = signed_in(&layer, Lifetime::Browser);
    assert_eq!(cookie.max_age, None);
    let seen = meta(&layer, &cookie.pair, start);
    assert_eq!(seen.lifetime(), Lifetime::Browser);
    assert_eq!((seen.idle_deadline(), seen.absolute_deadline()), (Some(start + HOUR), start + DAY));
    clock.set(start + HOUR - MILLI);
    assert_eq!(incoming(&layer, &cookie.pair), Incoming::Accepted);
    clock.set(start + HOUR);
    assert_eq!(incoming(&layer, &cookie.pair), EXPIRED);

    clock.set(start);
    let mut cookie = cookie;
    while clock.now() < start + DAY - 30 * MINUTE {
        clock.pass(30 * MINUTE);
        cookie = visit(&layer, &cookie.pair, read).1.expect("a re-issue");
        assert_eq!(cookie.max_age, None);
    }
    clock.set(start + DAY - MILLI);
    assert_eq!(incoming(&layer, &cookie.pair), Incoming::Accepted);
    clock.set(start + DAY);
    assert_eq!(incoming(&layer, &cookie.pair), EXPIRED);
}

#[test]
fn reissues_writes_and_renewals_keep_both_kinds_of_lifetime() {
    let clock = Clock::new();
    let layer = builder(&clock).reissue_after(MINUTE).build().unwrap();
    for lifetime in [Lifetime::Browser, Lifetime::Own(HOUR), Lifetime::Timeouts] {
        let cookie = signed_in(&layer, lifetime);
        clock.pass(MINUTE);
        let handlers: [fn(&Session<Account>); 3] = [read, count, |session| _ = session.renew().unwrap()];
        for handler in handlers {
            let Some(sent) = visit(&layer, &cookie.pair, handler).1 else {
                assert!(matches!(lifetime, Lifetime::Own(_)), "only these are not re-issued");
                continue;
            };
            assert_eq!(meta(&layer, &sent.pair, clock.now()).lifetime(), lifetime);
            assert_eq!(sent.max_age.is_none(), lifetime == Lifetime::Browser);
        }
    }
}

// Renewal.

#[test]
fn a_renewal_draws_a_new_id_at_once_and_returns_the_old_one() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let cookie = sealed(&layer, &Account { user: Some(1), visits: 1 }, clock.now());
    let first = meta(&layer, &cookie, clock.now()).id();
    clock.pass(HOUR);
    let (ids, sent) = visit(&layer, &cookie, |session| {
        assert_eq!(session.meta().unwrap().id(), first);
        assert_eq!(session.renew(), Ok(Some(first)));
        let second = session.meta().unwrap().id();
        assert_ne!(second, first);
        // Again, and the id in between is the old one.
        assert_eq!(session.renew(), Ok(Some(second)));
        let third = session.meta().unwrap().id();
        assert!(third != first && third != second);
        third
    });
    assert_eq!(meta(&layer, &sent.unwrap().pair, clock.now()).id(), ids);
}

#[test]
fn a_renewal_restarts_the_absolute_timeout_and_keeps_data_and_created_at() {
    let clock = Clock::new();
    let layer = builder(&clock).absolute_timeout(DAY).build().unwrap();
    let start = clock.now();
    let value = Account { user: Some(1), visits: 7 };
    let cookie = sealed(&layer, &value, start);
    clock.pass(23 * HOUR);
    let ((), sent) = visit(&layer, &cookie, |session| {
        session.renew().unwrap();
        let meta = session.meta().unwrap();
        assert_eq!(meta.created_at(), start);
        assert_eq!(meta.renewed_at(), clock.now());
        assert_eq!(meta.absolute_deadline(), clock.now() + DAY);
    });
    let sent = sent.unwrap();
    let opened = open(&layer, &sent.pair, clock.now());
    let meta = opened.meta().unwrap();
    assert_eq!(opened.value(), Some(&value));
    assert_eq!(meta.created_at(), start);
    assert_eq!(meta.renewed_at(), clock.now());
    assert_eq!(meta.issued_at(), clock.now());
    assert_eq!(meta.absolute_deadline(), clock.now() + DAY);
    assert_eq!(sent.max_age, Some(24 * 3600));
}

#[test]
fn a_renewal_restarts_an_own_lifetime() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let cookie = signed_in(&layer, Lifetime::Own(HOUR));
    clock.pass(50 * MINUTE);
    let ((), sent) = visit(&layer, &cookie.pair, |session| _ = session.renew().unwrap());
    let sent = sent.unwrap();
    assert_eq!(sent.max_age, Some(3600));
    clock.pass(HOUR - MILLI);
    assert_eq!(incoming(&layer, &sent.pair), Incoming::Accepted);
}

#[test]
fn a_renewal_counts_from_the_call() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let cookie = sealed(&layer, &Account::default(), clock.now());
    let (called, sent) = visit(&layer, &cookie, |session| {
        clock.pass(SECOND);
        session.renew().unwrap();
        let called = clock.now();
        clock.pass(SECOND);
        called
    });
    assert_eq!(meta(&layer, &sent.unwrap().pair, clock.now()).renewed_at(), called);
}

#[test]
fn there_is_no_old_id_where_the_session_is_fresh() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let good = sealed(&layer, &Account::default(), clock.now());
    for cookie in ["", "__Host-Http-session=garbage"] {
        let ((), sent) = visit(&layer, cookie, |session| assert_eq!(session.renew(), Ok(None)));
        assert!(sent.is_none());
    }
    // Nor if it was written in this request: nobody has seen its id.
    let ((), sent) = visit(&layer, "", |session| {
        sign_in(session);
        assert_eq!(session.renew(), Ok(None));
    });
    assert!(sent.is_some());
    // Nor after `clear`.
    let mut service = layer.layer(service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = Session::<Account>::from_parts(&parts).unwrap();
        session.clear();
        assert_eq!(session.renew(), Ok(None));
        future::ready(Ok::<_, Infallible>(Response::new(())))
    }));
    let mut request = Request::new(());
    request.headers_mut().insert(COOKIE, HeaderValue::from_str(&good).unwrap());
    assert!(pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

#[test]
fn a_renewal_or_a_lifetime_of_a_session_that_no_longer_fits_is_an_error() {
    let (clock, keys) = (Clock::new(), ring());
    let with = || builder_over::<String>(keys.clone(), &clock);
    let (roomy, tight) = (with().build().unwrap(), with().max_set_cookie(400).build().unwrap());
    let cookie = sealed(&roomy, &"x".repeat(1_000), clock.now());
    let ((), sent) = visit(&tight, &cookie, |session| {
        let id = session.meta().unwrap().id();
        assert!(matches!(session.renew(), Err(UpdateError::TooLarge(_))));
        assert!(matches!(session.set_lifetime(Lifetime::Browser), Err(UpdateError::TooLarge(_))));
        assert!(!session.is_changed());
        assert_eq!(session.meta().unwrap().id(), id);
        // A write that makes it smaller helps.
        session.update(|text| text.truncate(10)).unwrap();
        session.renew().unwrap();
    });
    assert!(sent.is_some());
}

// meta().

#[test]
fn meta_says_what_came_in() {
    let clock = Clock::new();
    let (primary, fallback) = (Key::generate().unwrap(), Key::generate().unwrap());
    let before = builder_over::<Account>(KeyRing::new(fallback.clone(), []).unwrap(), &clock)
        .mode(Mode::Signed)
        .build()
        .unwrap();
    let cookie = sealed(&before, &Account { user: Some(1), visits: 0 }, clock.now());
    let layer = builder_over::<AccountV2>(KeyRing::new(primary, [fallback.clone()]).unwrap(), &clock)
        .accept_mode(Mode::Signed)
        .idle_timeout(HOUR)
        .absolute_timeout(DAY)
        .schema(2)
        .migrate_from(1, |Account { user, visits }| AccountV2 { user, visits, name: String::new() })
        .build()
        .unwrap();
    let start = clock.now();
    clock.pass(SECOND);
    let ((), _) = visit(&layer, &cookie, |session| {
        let meta = session.meta().unwrap();
        assert_eq!(meta.key_id(), fallback.id());
        assert_eq!(meta.mode(), Mode::Signed);
        assert_eq!(meta.schema(), 1);
        assert_eq!(meta.lifetime(), Lifetime::Timeouts);
        assert_eq!((meta.created_at(), meta.renewed_at(), meta.issued_at()), (start, start, start));
        assert_eq!(meta.idle_deadline(), Some(start + HOUR));
        assert_eq!(meta.absolute_deadline(), start + DAY);
        assert_eq!(meta.expires_at(), start + HOUR);
        assert_eq!(self::meta(&layer, &cookie, clock.now()), meta);
    });
}

#[test]
fn meta_is_none_until_a_fresh_session_is_written_and_then_says_what_goes_out() {
    let clock = Clock::new();
    let primary = Key::generate().unwrap();
    let layer = builder_over::<Account>(KeyRing::new(primary.clone(), []).unwrap(), &clock).build().unwrap();
    let (said, sent) = visit(&layer, "", |session| {
        assert_eq!(session.meta(), None);
        session.set_lifetime(Lifetime::Own(HOUR)).unwrap();
        assert_eq!(session.meta(), None);
        sign_in(session);
        let meta = session.meta().unwrap();
        assert_eq!((meta.key_id(), meta.mode(), meta.schema()), (primary.id(), Mode::Encrypted, 1));
        assert_eq!(meta.created_at(), clock.now());
        // Changed back, it has never been written.
        session.set(Account::default()).unwrap();
        assert_eq!(session.meta(), None);
        sign_in(session);
        assert_eq!(session.meta().unwrap().id(), meta.id());
        meta
    });
    assert_eq!(meta(&layer, &sent.unwrap().pair, clock.now()), said);
}

#[test]
fn meta_follows_what_is_changed_within_the_request() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    let cookie = sealed(&layer, &Account::default(), clock.now());
    let ((), _) = visit(&layer, &cookie, |session| {
        session.set_lifetime(Lifetime::Own(HOUR)).unwrap();
        let meta = session.meta().unwrap();
        assert_eq!(meta.lifetime(), Lifetime::Own(HOUR));
        assert_eq!(meta.expires_at(), clock.now() + HOUR);
        assert_eq!(meta.idle_deadline(), None);
    });
}

#[test]
fn expires_at_is_the_earlier_of_both_deadlines() {
    let clock = Clock::new();
    let layer = builder(&clock).idle_timeout(HOUR).absolute_timeout(2 * HOUR).build().unwrap();
    let start = clock.now();
    let cookie = sealed(&layer, &Account::default(), start);
    assert_eq!(meta(&layer, &cookie, start).expires_at(), start + HOUR);
    clock.pass(50 * MINUTE);
    let later = visit(&layer, &cookie, count).1.unwrap().pair;
    clock.pass(50 * MINUTE);
    let last = visit(&layer, &later, count).1.unwrap().pair;
    let meta = meta(&layer, &last, clock.now());
    assert_eq!(meta.idle_deadline(), Some(start + 100 * MINUTE + HOUR));
    assert_eq!(meta.expires_at(), start + 2 * HOUR);
}

#[test]
fn a_clear_resets_the_lifetime() {
    let clock = Clock::new();
    let layer = builder(&clock).build().unwrap();
    for lifetime in [Lifetime::Browser, Lifetime::Own(HOUR)] {
        // Without a cookie that came in there is no marker beside the session.
        let (said, sent) = visit(&layer, "", |session| {
            sign_in(session);
            session.set_lifetime(lifetime).unwrap();
            session.clear();
            sign_in(session);
            session.meta().unwrap().lifetime()
        });
        assert_eq!(said, Lifetime::Timeouts);
        assert_eq!(meta(&layer, &sent.unwrap().pair, clock.now()).lifetime(), Lifetime::Timeouts);
    }
}

/// Times have 48 bits: a clock further ahead reads as the last of them, and never as one of the first.
#[test]
fn a_clock_past_48_bits_reads_as_the_last_that_they_hold() {
    let last = UNIX_EPOCH + Duration::from_millis((1 << 48) - 1);
    let layer = SessionLayer::<Account>::builder(KeyRing::new(Key::generate().unwrap(), []).unwrap());
    let layer = layer.build().unwrap();
    for now in [last, last + MILLI, last + 2 * MILLI, last + DAY] {
        let cookie = layer.codec().seal(&Account::default(), None, None, now).unwrap();
        let request = HeaderMap::from_iter([(COOKIE, cookie.request_header())]);
        let opened = layer.codec().open(&request, now);
        let meta = opened.meta().expect("it opens");
        assert_eq!([meta.created_at(), meta.renewed_at(), meta.issued_at()], [last; 3]);
    }
}
