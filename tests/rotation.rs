//! Rotation of keys: over a fleet that is half-way, in a running process, and after a leak.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie_session::{
    Counters, Incoming, Key, KeyId, KeyRing, KeyRingHandle, Lifetime, Mode, RejectedKind, SameSite, Session,
    SessionBuilder, SessionLayer,
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A tenth of the default idle timeout.
const THRESHOLD: u64 = DAY / 10;

/// A clock that tests move, in milliseconds.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Clock {
        Clock(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.load(SeqCst))
    }

    fn pass(&self, millis: u64) {
        self.0.fetch_add(millis, SeqCst);
    }

    fn set_back(&self, millis: u64) {
        self.0.fetch_sub(millis, SeqCst);
    }

    fn builder(&self, keys: impl Into<KeyRingHandle>) -> SessionBuilder<u64> {
        let clock = self.clone();
        SessionLayer::builder(keys).clock(move || clock.now())
    }

    fn layer(&self, keys: impl Into<KeyRingHandle>) -> SessionLayer<u64> {
        self.builder(keys).build().unwrap()
    }
}

/// A browser, as far as it has cookies: name, value, and when it forgets them.
struct Browser {
    clock: Clock,
    cookies: Vec<(String, String, Option<SystemTime>)>,
}

impl Browser {
    fn new(clock: &Clock) -> Browser {
        Browser { clock: clock.clone(), cookies: Vec::new() }
    }

    fn cookie_header(&self) -> Option<HeaderValue> {
        let now = self.clock.now();
        let live = self.cookies.iter().filter(|(_, _, end)| end.is_none_or(|end| end > now));
        let pairs: Vec<_> = live.map(|(name, value, _)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; ").parse().unwrap())
    }

    fn take(&mut self, response: &HeaderMap) -> usize {
        let set = response.get_all(SET_COOKIE).iter().map(|header| {
            let cookie = cookie::Cookie::parse(header.to_str().unwrap()).unwrap();
            let age = cookie.max_age().map(|age| Duration::try_from(age).unwrap());
            let end = age.map(|age| self.clock.now() + age);
            (cookie.name().to_owned(), cookie.value().to_owned(), end)
        });
        let set: Vec<_> = set.collect();
        let count = set.len();
        for (name, value, end) in set {
            self.cookies.retain(|(old, _, _)| *old != name);
            self.cookies.push((name, value, end));
        }
        count
    }

    /// Sends a request; returns what the handler does, and how many cookies the response set.
    fn send<T, R>(&mut self, layer: &SessionLayer<T>, handler: impl FnOnce(&Session<T>) -> R) -> (R, usize)
    where
        T: Default + Serialize + for<'de> Deserialize<'de> + Send + 'static,
    {
        let (result, headers) = send(layer, self.cookie_header(), handler);
        let set = self.take(&headers);
        (result, set)
    }

    /// Reads the session; returns the value and how many cookies the response set.
    fn read(&mut self, layer: &SessionLayer<u64>) -> (u64, usize) {
        self.send(layer, |session| session.read(|value| *value))
    }

    /// Adds one to the session; returns the value that it had.
    fn count(&mut self, layer: &SessionLayer<u64>) -> u64 {
        self.send(layer, |session| session.update(|value| std::mem::replace(value, *value + 1)).unwrap()).0
    }

    /// The key that sealed the session's cookie, as the wire format names it.
    fn key(&self) -> String {
        let (_, value, _) = self.cookies.iter().find(|(name, _, _)| name == "__Host-Http-session").unwrap();
        id_of(value)
    }
}

fn id_of(value: &str) -> String {
    let frame = URL_SAFE_NO_PAD.decode(value).unwrap();
    frame[1..5].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn send<T, R>(
    layer: &SessionLayer<T>,
    cookies: Option<HeaderValue>,
    handler: impl FnOnce(&Session<T>) -> R,
) -> (R, HeaderMap)
where
    T: Default + Serialize + for<'de> Deserialize<'de> + Send + 'static,
{
    let mut request = Request::new(());
    request.headers_mut().extend(cookies.map(|cookies| (COOKIE, cookies)));
    let (mut handler, mut result) = (Some(handler), None);
    let service = service_fn(|request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let session = Session::<T>::from_parts(&parts).unwrap();
        let handler = handler.take().expect("one request");
        result = Some(handler(&session));
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    });
    let response = now(layer.layer(service).oneshot(request));
    (result.unwrap(), response.into_parts().0.headers)
}

/// Nothing here waits.
fn now<T>(future: impl Future<Output = Result<T, Infallible>>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(output)) => output,
        Poll::Pending => panic!("the response is ready at once"),
    }
}

fn key() -> Key {
    Key::generate().unwrap()
}

fn ring<const N: usize>(primary: &Key, fallbacks: [&Key; N]) -> KeyRing {
    KeyRing::new(primary.clone(), fallbacks.map(Key::clone)).unwrap()
}

fn openings(counters: &Counters, key: &Key) -> Option<u64> {
    counters.opened_by_fallback.iter().find(|(id, _)| *id == key.id()).map(|(_, count)| *count)
}

fn rejections(counters: &Counters) -> Vec<(RejectedKind, u64)> {
    counters.rejected.iter().copied().filter(|(_, count)| *count > 0).collect()
}

mod steps {
    use super::*;

    /// The rings of the four steps; "wait" is no change.
    fn stages(old: &Key, new: &Key) -> [KeyRing; 4] {
        [ring(old, []), ring(old, [new]), ring(new, [old]), ring(new, [])]
    }

    #[test]
    fn neighbouring_stages_open_what_the_other_seals_and_no_others_do() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let layers = stages(&old, &new).map(|ring| clock.layer(ring));
        for (a, from) in layers.iter().enumerate() {
            for (b, to) in layers.iter().enumerate() {
                let cookie = from.codec().seal(&7, None, None, clock.now()).unwrap();
                let (incoming, _) = send(to, Some(cookie.request_header()), |session| session.incoming());
                // Between the second and the last stage lies the wait.
                let lost = matches!((a, b), (0 | 1, 3) | (2 | 3, 0));
                let expected =
                    if lost { Incoming::Rejected(RejectedKind::UnknownKey) } else { Incoming::Accepted };
                assert_eq!(incoming, expected, "sealed at stage {a}, opened at stage {b}");
            }
        }
    }

    /// A deploy that goes from instance to instance, with a visitor at every instance in every
    /// order after each of them; at the end of it all instances are at the next stage.
    fn rotate(mode: Mode, steps: &[usize], visits: impl Fn(&mut Browser, &SessionLayer<u64>, &mut u64)) {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let stages = stages(&old, &new);
        let fleet: [KeyRingHandle; 3] = std::array::from_fn(|_| stages[0].clone().into());
        let layers = fleet.each_ref().map(|keys| clock.builder(keys.clone()).mode(mode).build().unwrap());
        let (mut browser, mut written) = (Browser::new(&clock), 0);
        const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for &stage in steps {
            for upgraded in &fleet {
                upgraded.replace(stages[stage].clone());
                for order in ORDERS {
                    for instance in order {
                        visits(&mut browser, &layers[instance], &mut written);
                    }
                }
            }
        }
        assert!(written == 0 || browser.key() == new.id().to_string());
    }

    #[test]
    fn no_write_is_lost_while_each_step_goes_from_instance_to_instance() {
        for mode in [Mode::Encrypted, Mode::Signed] {
            rotate(mode, &[1, 2], |browser, layer, written| {
                assert_eq!(browser.count(layer), *written);
                *written += 1;
            });
        }
    }

    #[test]
    fn no_read_is_lost_while_each_step_goes_from_instance_to_instance() {
        rotate(Mode::Encrypted, &[1, 2], |browser, layer, written| {
            if *written == 0 {
                browser.count(layer);
                *written = 1;
            }
            // Now and then the threshold is passed: the cookie goes to and fro between the keys.
            browser.clock.pass(THRESHOLD / 2);
            assert_eq!(browser.read(layer).0, 1);
        });
    }

    #[test]
    fn writes_and_reads_by_turns_lose_nothing_at_any_pace() {
        for pace in [1, MINUTE, THRESHOLD / 3, THRESHOLD] {
            let turn = AtomicU64::new(0);
            rotate(Mode::Encrypted, &[1, 2], |browser, layer, written| {
                browser.clock.pass(pace);
                if turn.fetch_add(1, SeqCst).is_multiple_of(5) {
                    assert_eq!(browser.count(layer), *written);
                    *written += 1;
                } else {
                    assert_eq!(browser.read(layer).0, *written);
                }
            });
        }
    }

    #[test]
    fn going_back_from_each_step_loses_nothing() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let stages = stages(&old, &new);
        for (from, to) in [(1, 0), (2, 1)] {
            let keys = KeyRingHandle::new(stages[from].clone());
            let layer = clock.layer(keys.clone());
            let mut browser = Browser::new(&clock);
            browser.count(&layer);
            keys.replace(stages[to].clone());
            assert_eq!(browser.count(&layer), 1, "from step {from} back to {to}");
        }
    }

    #[test]
    fn promoting_a_key_that_not_all_instances_know_loses_sessions_there_but_leaves_their_cookies_alone() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let (behind, ahead) = (clock.layer(ring(&old, [])), clock.layer(ring(&new, [&old])));
        let mut browser = Browser::new(&clock);
        browser.count(&ahead);
        let (incoming, set) = browser.send(&behind, |session| session.incoming());
        assert_eq!((incoming, set), (Incoming::Rejected(RejectedKind::UnknownKey), 0));
        assert_eq!(browser.read(&ahead).0, 1);
    }

    #[test]
    fn after_the_longest_lifetime_the_old_key_can_go_and_nobody_notices() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock
            .builder(keys.clone())
            .absolute_timeout(Duration::from_millis(14 * DAY))
            .max_own_lifetime(Duration::from_millis(30 * DAY))
            .build()
            .unwrap();
        let (mut active, mut remembered, mut gone) =
            (Browser::new(&clock), Browser::new(&clock), Browser::new(&clock));
        active.count(&layer);
        gone.count(&layer);
        remembered.send(&layer, |session| {
            session.update(|value| *value = 1).unwrap();
            session.set_lifetime(Lifetime::Own(Duration::from_millis(30 * DAY))).unwrap();
        });
        // The longest-lived session of the old key begins just before the promotion.
        keys.replace(ring(&old, [&new]));
        keys.replace(ring(&new, [&old]));
        for _ in 0..13 {
            clock.pass(DAY - 1);
            assert_eq!(active.read(&layer).0, 1);
        }
        assert_eq!(active.key(), new.id().to_string());
        clock.pass(17 * DAY - MINUTE);
        // Still within its own lifetime of thirty days: it is too early for the last step.
        let early = clock.layer(ring(&new, []));
        let (incoming, _) = remembered.send(&early, |session| session.incoming());
        assert_eq!(incoming, Incoming::Rejected(RejectedKind::UnknownKey));
        assert_eq!(remembered.read(&layer), (1, 1));
        assert_eq!(remembered.key(), new.id().to_string());

        clock.pass(MINUTE);
        keys.replace(ring(&new, []));
        let before = keys.counters();
        for browser in [&mut active, &mut remembered, &mut gone] {
            let (incoming, set) = browser.send(&layer, |session| session.incoming());
            // What has ended has ended by its own time; no browser holds a cookie of the old key.
            assert!(incoming != Incoming::Rejected(RejectedKind::UnknownKey), "{incoming:?}");
            assert_eq!(set, 0);
        }
        assert_eq!(keys.counters().unknown_keys, before.unknown_keys);
    }
}

mod moving {
    use super::*;

    #[test]
    fn a_read_moves_a_session_to_the_primary_at_the_threshold_and_not_before() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        keys.replace(ring(&new, [&old]));

        assert_eq!(browser.read(&layer), (1, 0));
        clock.pass(THRESHOLD - 1);
        assert_eq!(browser.read(&layer), (1, 0));
        assert_eq!(browser.key(), old.id().to_string());
        clock.pass(1);
        assert_eq!(browser.read(&layer), (1, 1));
        assert_eq!(browser.key(), new.id().to_string());
        assert_eq!(browser.read(&layer), (1, 0));
    }

    #[test]
    fn a_write_moves_a_session_to_the_primary_at_once_and_keeps_what_it_is() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        let (before, _) = browser.send(&layer, |session| session.meta().unwrap());
        assert_eq!(before.key_id(), old.id());
        keys.replace(ring(&new, [&old]));
        clock.pass(1);
        let (fallback, _) = browser.send(&layer, |session| session.meta().unwrap());
        assert_eq!(fallback.key_id(), old.id(), "opened by the fallback");
        assert_eq!(browser.count(&layer), 1);
        let (after, _) = browser.send(&layer, |session| session.meta().unwrap());
        assert_eq!(after.key_id(), new.id());
        assert_eq!((after.id(), after.created_at()), (before.id(), before.created_at()));
        assert_eq!(after.renewed_at(), before.renewed_at());
    }

    #[test]
    fn a_write_that_changes_nothing_moves_nothing() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        keys.replace(ring(&new, [&old]));
        let ((), set) = browser.send(&layer, |session| session.update(|value| *value = 1).unwrap());
        assert_eq!((set, browser.key()), (0, old.id().to_string()));
    }

    #[test]
    fn two_instances_with_their_keys_the_other_way_round_set_one_cookie_a_threshold() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let fleet = [clock.layer(ring(&old, [&new])), clock.layer(ring(&new, [&old]))];
        let mut browser = Browser::new(&clock);
        browser.count(&fleet[0]);
        let (mut set, minutes) = (0, 3 * THRESHOLD / MINUTE);
        for minute in 0..minutes {
            clock.pass(MINUTE);
            // Several requests a minute, to both by turns.
            for request in 0..4 {
                let (value, count) = browser.read(&fleet[(minute as usize + request) % 2]);
                assert_eq!(value, 1);
                set += count;
            }
        }
        assert_eq!(set, 3, "in three thresholds");
    }

    #[test]
    fn a_lifetime_of_its_own_is_re_issued_only_to_move_and_stays() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let own = Lifetime::Own(Duration::from_millis(10 * DAY));
        let mut browser = Browser::new(&clock);
        browser.send(&layer, |session| {
            session.update(|value| *value = 1).unwrap();
            session.set_lifetime(own).unwrap();
        });
        let (before, _) = browser.send(&layer, |session| session.meta().unwrap());
        clock.pass(THRESHOLD);
        assert_eq!(browser.read(&layer), (1, 0));
        keys.replace(ring(&new, [&old]));
        assert_eq!(browser.read(&layer), (1, 1));
        let (after, _) = browser.send(&layer, |session| session.meta().unwrap());
        assert_eq!((after.key_id(), after.lifetime()), (new.id(), own));
        assert_eq!(after.expires_at(), before.expires_at());
        clock.pass(THRESHOLD);
        assert_eq!(browser.read(&layer), (1, 0));
    }
}

mod running {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Basket(Vec<u8>);

    #[test]
    fn one_handle_replaces_the_ring_of_all_its_layers() {
        let (old, new, third) = (key(), key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let counts = clock.layer(keys.clone());
        let time = clock.clone();
        let baskets = SessionLayer::<Basket>::builder(keys.clone())
            .name("__Host-basket")
            .mode(Mode::Signed)
            .clock(move || time.now())
            .build()
            .unwrap();
        let mut browser = Browser::new(&clock);
        let fill = |browser: &mut Browser| {
            let id = browser.send(&baskets, |session| {
                session.update(|basket| basket.0.push(1)).unwrap();
                session.read(|basket| basket.0.len())
            });
            let (_, value, _) = browser.cookies.iter().find(|(name, _, _)| name == "__Host-basket").unwrap();
            (id.0, id_of(value))
        };
        assert_eq!(browser.count(&counts), 0);
        assert_eq!(fill(&mut browser), (1, old.id().to_string()));
        // Through any of the handles; a clone of a layer is the same layer.
        keys.replace(ring(&new, [&old]));
        assert_eq!(browser.count(&counts.clone()), 1);
        assert_eq!(browser.key(), new.id().to_string());
        assert_eq!(fill(&mut browser), (2, new.id().to_string()));
        counts.keys().replace(ring(&third, [&new]));
        assert_eq!(fill(&mut browser), (3, third.id().to_string()));
        assert_eq!(browser.count(&counts), 2);
        assert_eq!(browser.key(), third.id().to_string());
        assert_eq!(openings(&keys.counters(), &new), Some(2), "one by each layer");
    }

    #[test]
    fn a_layer_built_after_the_replacement_has_the_new_ring() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        keys.replace(ring(&new, []));
        let mut browser = Browser::new(&clock);
        browser.count(&clock.layer(keys));
        assert_eq!(browser.key(), new.id().to_string());
    }

    #[test]
    fn a_request_under_way_seals_with_the_ring_that_it_opened_with() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, [&new]));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        let (opened, _) = browser.send(&layer, |session| {
            let opened = session.read(|value| *value);
            keys.replace(ring(&new, []));
            session.update(|value| *value += 1).unwrap();
            assert_eq!(session.meta().unwrap().key_id(), old.id());
            opened
        });
        assert_eq!((opened, browser.key()), (1, old.id().to_string()));
        // The next request meets the new ring.
        let (incoming, _) = browser.send(&layer, |session| session.incoming());
        assert_eq!(incoming, Incoming::Rejected(RejectedKind::UnknownKey));
    }

    #[test]
    fn a_new_session_under_way_seals_with_the_ring_it_began_with() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.send(&layer, |session| {
            session.update(|value| *value = 5).unwrap();
            keys.replace(ring(&new, [&old]));
        });
        assert_eq!(browser.key(), old.id().to_string());
        assert_eq!(browser.read(&layer).0, 5);
    }

    #[test]
    fn a_re_issue_under_way_seals_with_the_ring_that_it_opened_with() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        clock.pass(THRESHOLD);
        let ((), set) = browser.send(&layer, |session| {
            session.read(|_| ());
            keys.replace(ring(&new, [&old]));
        });
        assert_eq!((set, browser.key()), (1, old.id().to_string()));
    }

    #[test]
    fn a_request_that_has_not_opened_its_session_yet_meets_the_new_ring() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        browser.send(&layer, |session| {
            keys.replace(ring(&new, [&old]));
            session.update(|value| *value += 1).unwrap();
        });
        assert_eq!(browser.key(), new.id().to_string());
    }

    #[test]
    fn a_sign_out_under_way_makes_its_marker_with_the_ring_that_it_opened_with() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        browser.send(&layer, |session| {
            session.read(|_| ());
            keys.replace(ring(&new, [&old]));
            assert!(session.clear());
        });
        let (_, marker, _) = browser.cookies.iter().find(|(name, _, _)| name.ends_with("-out")).unwrap();
        assert_eq!(id_of(marker), old.id().to_string());
    }

    #[test]
    fn a_sign_out_holds_through_a_rotation() {
        let (old, new) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&old, []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        let session = browser.cookies[0].clone();
        clock.pass(1000);
        browser.send(&layer, |session| session.clear());
        // A slow response brings the session back, after the promotion.
        keys.replace(ring(&new, [&old]));
        browser.cookies.retain(|(name, _, _)| *name != session.0);
        browser.cookies.push(session);
        let (incoming, _) = browser.send(&layer, |session| session.incoming());
        assert_eq!(incoming, Incoming::Rejected(RejectedKind::SignedOut));
    }

    #[test]
    fn no_request_is_lost_while_the_ring_is_replaced_again_and_again() {
        let (one, two) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&one, [&two]));
        let layer = clock.layer(keys.clone());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let visitors: [_; 2] = std::array::from_fn(|_| {
                scope.spawn(|| {
                    let mut browser = Browser::new(&clock);
                    for expected in 0..200 {
                        assert_eq!(browser.count(&layer), expected);
                    }
                })
            });
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    keys.replace(ring(&two, [&one]));
                    keys.replace(ring(&one, [&two]));
                }
            });
            let results = visitors.map(|visitor| visitor.join());
            done.store(true, SeqCst);
            assert!(results.iter().all(Result::is_ok));
        });
        assert_eq!(rejections(&keys.counters()), []);
    }
}

mod leaks {
    use super::*;

    /// What whoever has the key can do: a session of their choice.
    fn forge(clock: &Clock, leaked: &Key) -> Browser {
        let forger = clock.layer(ring(leaked, []));
        let cookie = forger.codec().seal(&u64::MAX, None, None, clock.now()).unwrap();
        let mut browser = Browser::new(clock);
        browser.take(&HeaderMap::from_iter([(SET_COOKIE, cookie.header().clone())]));
        browser
    }

    #[test]
    fn while_a_leaked_key_is_a_fallback_forged_sessions_move_to_the_new_key() {
        let (leaked, new) = (key(), key());
        let clock = Clock::new();
        let layer = clock.layer(ring(&new, [&leaked]));
        let mut forger = forge(&clock, &leaked);
        clock.pass(THRESHOLD);
        assert_eq!(forger.read(&layer), (u64::MAX, 1));
        assert_eq!(forger.key(), new.id().to_string());
    }

    #[test]
    fn one_fresh_key_alone_ends_all_sessions_the_forged_ones_among_them() {
        let (leaked, fresh) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&leaked, []));
        let layer = clock.layer(keys.clone());
        let (mut user, mut forger) = (Browser::new(&clock), forge(&clock, &leaked));
        user.count(&layer);
        assert_eq!(forger.read(&layer).0, u64::MAX);
        keys.replace(ring(&fresh, []));
        for browser in [&mut user, &mut forger] {
            let (incoming, set) = browser.send(&layer, |session| session.incoming());
            assert_eq!((incoming, set), (Incoming::Rejected(RejectedKind::UnknownKey), 0));
        }
        // The user signs in again; the forger's cookie stays worthless.
        assert_eq!(user.count(&layer), 0);
        assert_eq!(user.count(&layer), 1);
        assert_eq!(forger.read(&layer), (0, 0));
    }

    #[test]
    fn a_key_that_was_in_use_beside_the_leaked_one_must_go_too() {
        let (leaked, beside, fresh) = (key(), key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&beside, [&leaked]));
        let layer = clock.layer(keys.clone());
        let mut forger = forge(&clock, &leaked);
        clock.pass(THRESHOLD);
        forger.read(&layer);
        keys.replace(ring(&fresh, [&beside]));
        assert_eq!(forger.read(&layer).0, u64::MAX, "it was re-issued under the other key");
        keys.replace(ring(&fresh, []));
        assert_eq!(forger.read(&layer).0, 0);
    }
}

mod counting {
    use super::*;

    #[test]
    fn each_fallbacks_openings_are_counted_and_the_primarys_are_not() {
        let (primary, one, two, idle) = (key(), key(), key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&primary, [&one, &two, &idle]));
        let layer = clock.layer(keys.clone());
        let visit = |sealed_by: &Key, times: usize| {
            let cookie = clock.layer(ring(sealed_by, [])).codec().seal(&7, None, None, clock.now()).unwrap();
            for _ in 0..times {
                let (value, _) = send(&layer, Some(cookie.request_header()), |session| {
                    session.read(|_| ());
                    session.read(|value| *value)
                });
                assert_eq!(value, 7);
            }
        };
        visit(&primary, 5);
        visit(&one, 2);
        visit(&two, 3);
        let counters = keys.counters();
        assert_eq!(openings(&counters, &one), Some(2), "once for each request");
        assert_eq!(openings(&counters, &two), Some(3));
        assert_eq!(openings(&counters, &idle), Some(0));
        assert_eq!(openings(&counters, &primary), None);
        assert_eq!(rejections(&counters), []);
    }

    #[test]
    fn a_count_is_kept_as_long_as_its_key_stays_a_fallback() {
        let (old, one, two) = (key(), key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&one, [&old]));
        let layer = clock.layer(keys.clone());
        let cookie = clock.layer(ring(&old, [])).codec().seal(&7, None, None, clock.now()).unwrap();
        let visit = || send(&layer, Some(cookie.request_header()), |session| session.read(|value| *value)).0;
        visit();
        keys.replace(ring(&two, [&one, &old]));
        assert_eq!(openings(&keys.counters(), &old), Some(1));
        assert_eq!(openings(&keys.counters(), &one), Some(0));
        visit();
        assert_eq!(openings(&keys.counters(), &old), Some(2));
        keys.replace(ring(&two, []));
        assert_eq!(keys.counters().opened_by_fallback, []);
    }

    #[test]
    fn a_request_under_way_still_counts_for_a_key_that_stays_a_fallback() {
        let (old, one, two) = (key(), key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&one, [&old]));
        let layer = clock.layer(keys.clone());
        // A second layer counts in the same place.
        let other = clock.builder(keys.clone()).context("other").build().unwrap();
        let seal = |context| {
            let layer = clock.builder(ring(&old, [])).context(context).build().unwrap();
            layer.codec().seal(&7, None, None, clock.now()).unwrap().request_header()
        };
        send(&layer, Some(seal("")), |session| session.read(|_| ()));
        keys.replace(ring(&two, [&one, &old]));
        send(&other, Some(seal("other")), |session| session.read(|_| ()));
        assert_eq!(openings(&keys.counters(), &old), Some(2));
    }

    #[test]
    fn what_only_names_a_fallback_without_being_sealed_by_it_is_not_counted_as_opened() {
        let (primary, fallback) = (key(), key());
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&primary, [&fallback]));
        let layer = clock.layer(keys.clone());
        let cookie = clock.layer(ring(&fallback, [])).codec().seal(&7, None, None, clock.now()).unwrap();
        let mut frame = URL_SAFE_NO_PAD.decode(cookie.value()).unwrap();
        *frame.last_mut().unwrap() ^= 1;
        let header = format!("{}={}", cookie.name(), URL_SAFE_NO_PAD.encode(frame)).parse().unwrap();
        send(&layer, Some(header), |session| session.read(|_| ()));
        assert_eq!(openings(&keys.counters(), &fallback), Some(0));
        assert_eq!(rejections(&keys.counters()), [(RejectedKind::NotAuthentic, 1)]);
    }

    #[test]
    fn unknown_key_ids_are_counted_in_one_total() {
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&key(), []));
        let layer = clock.layer(keys.clone());
        let strange = |value: u64| {
            let cookie = clock.layer(ring(&key(), [])).codec().seal(&value, None, None, clock.now()).unwrap();
            send(&layer, Some(cookie.request_header()), |session| session.read(|_| ()));
        };
        (0..3).for_each(strange);
        let counters = keys.counters();
        assert_eq!(counters.unknown_keys, 3);
        assert_eq!(counters.opened_by_fallback, []);
        assert_eq!(rejections(&counters), [(RejectedKind::UnknownKey, 3)]);
    }

    #[test]
    fn an_unknown_key_id_beside_a_good_session_is_counted_and_the_session_is_not_rejected() {
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&key(), []));
        let layer = clock.layer(keys.clone());
        let strange = clock.layer(ring(&key(), [])).codec().seal(&1, None, None, clock.now()).unwrap();
        let good = layer.codec().seal(&7, None, None, clock.now()).unwrap();
        let both = format!(
            "{}; {}",
            strange.request_header().to_str().unwrap(),
            good.request_header().to_str().unwrap()
        );
        let (value, _) = send(&layer, Some(both.parse().unwrap()), |session| session.read(|value| *value));
        assert_eq!(value, 7);
        assert_eq!(keys.counters().unknown_keys, 1);
        assert_eq!(rejections(&keys.counters()), []);
    }

    #[test]
    fn each_kind_of_rejection_has_its_counter() {
        let (primary, stranger) = (key(), key());
        let clock = Clock::new();
        let time = clock.now();
        let keys = KeyRingHandle::new(ring(&primary, []));
        let layer = clock.builder(keys.clone()).accept_if(|_, value| *value != 13).build().unwrap();
        let header = |value: &str| format!("__Host-Http-session={value}").parse::<HeaderValue>().unwrap();
        let seal = |builder: SessionBuilder<u64>, value: u64, time| {
            let layer = builder.build().unwrap();
            layer.codec().seal(&value, None, None, time).unwrap().request_header()
        };
        let good = || clock.builder(ring(&primary, []));
        let later = |millis| time + Duration::from_millis(millis);
        let earlier = |millis| time - Duration::from_millis(millis);
        let other_type = SessionLayer::<String>::builder(ring(&primary, [])).build().unwrap();
        let signed_out = {
            let session = seal(good(), 7, time);
            let opened = layer.codec().open(&HeaderMap::from_iter([(COOKIE, session.clone())]), time);
            let removals = layer.codec().removals(&opened, time);
            let marker = removals.cookies().last().unwrap().request_header();
            format!("{}; {}", session.to_str().unwrap(), marker.to_str().unwrap()).parse().unwrap()
        };
        let cookies: [(RejectedKind, HeaderValue); 11] = [
            (RejectedKind::Malformed, header("=")),
            (RejectedKind::TooLong, header(&"A".repeat(4097))),
            (RejectedKind::SuiteNotAccepted, seal(good().mode(Mode::Signed), 7, time)),
            (RejectedKind::UnknownKey, seal(clock.builder(ring(&stranger, [])), 7, time)),
            (RejectedKind::NotAuthentic, seal(good().context("another"), 7, time)),
            (RejectedKind::FromTheFuture, seal(good(), 7, later(60_001))),
            (RejectedKind::Expired, seal(good(), 7, earlier(DAY))),
            (RejectedKind::Schema, seal(good().schema(2), 7, time)),
            (
                RejectedKind::Payload,
                other_type.codec().seal(&"seven".to_owned(), None, None, time).unwrap().request_header(),
            ),
            (RejectedKind::SignedOut, signed_out),
            (RejectedKind::Refused, seal(good(), 13, time)),
        ];
        for (nth, (kind, cookie)) in cookies.into_iter().enumerate() {
            let before = keys.counters();
            for _ in 0..=nth {
                let ((incoming, value), set) = {
                    let (seen, headers) = send(&layer, Some(cookie.clone()), |session| {
                        (session.incoming(), session.read(|value| *value))
                    });
                    (seen, headers.contains_key(SET_COOKIE))
                };
                assert_eq!((incoming, value, set), (Incoming::Rejected(kind), 0, false));
            }
            let after = keys.counters();
            for ((_, before), (counted, after)) in before.rejected.iter().zip(&after.rejected) {
                let more = if *counted == kind { nth as u64 + 1 } else { 0 };
                assert_eq!(after - before, more, "{counted:?} after {kind:?}");
            }
        }
        let kinds: Vec<_> = rejections(&keys.counters()).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds.len(), 11);
    }

    #[test]
    fn no_cookie_an_unused_session_and_the_codec_count_nothing() {
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&key(), []));
        let layer = clock.layer(keys.clone());
        let before = keys.counters();
        send(&layer, None, |session| session.read(|_| ()));
        let strange = clock.layer(ring(&key(), [])).codec().seal(&1, None, None, clock.now()).unwrap();
        // Handed out, and never looked at.
        send(&layer, Some(strange.request_header()), |_| ());
        let opened =
            layer.codec().open(&HeaderMap::from_iter([(COOKIE, strange.request_header())]), clock.now());
        assert_eq!(opened.incoming(), Incoming::Rejected(RejectedKind::UnknownKey));
        assert_eq!(keys.counters(), before);
    }

    #[test]
    fn a_re_issue_that_does_not_fit_is_left_out_and_counted() {
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&key(), []));
        let time = clock.clone();
        let narrow = SessionLayer::<String>::builder(keys.clone())
            .max_set_cookie(300)
            .clock(move || time.now())
            .build()
            .unwrap();
        let wide = SessionLayer::<String>::builder(keys.clone()).build().unwrap();
        let cookie = wide.codec().seal(&"x".repeat(300), None, None, clock.now()).unwrap();
        clock.pass(THRESHOLD - 1);
        let visit = || send(&narrow, Some(cookie.request_header()), |session| session.read(String::len));
        let (len, headers) = visit();
        assert_eq!((len, headers.get(SET_COOKIE), keys.counters().reissues_too_large), (300, None, 0));
        clock.pass(1);
        let (len, headers) = visit();
        assert_eq!((len, headers.get(SET_COOKIE), keys.counters().reissues_too_large), (300, None, 1));
    }

    #[test]
    fn a_write_whose_head_comes_after_the_sessions_end_is_left_out_and_counted() {
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&key(), []));
        let layer = clock
            .builder(keys.clone())
            .absolute_timeout(Duration::from_secs(60))
            .idle_timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        clock.pass(MINUTE - 2);
        let ((), set) = browser.send(&layer, |session| {
            session.update(|value| *value += 1).unwrap();
            clock.pass(1);
        });
        assert_eq!((set, keys.counters().writes_too_late), (1, 0));
        let ((), set) = browser.send(&layer, |session| {
            session.update(|value| *value += 1).unwrap();
            clock.pass(1);
        });
        assert_eq!((set, keys.counters().writes_too_late), (0, 1));
    }

    #[test]
    fn a_clock_that_is_set_back_counts_as_from_the_future_beyond_the_tolerance() {
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring(&key(), []));
        let layer = clock.layer(keys.clone());
        let mut browser = Browser::new(&clock);
        browser.count(&layer);
        clock.set_back(MINUTE);
        assert_eq!(browser.read(&layer).0, 1);
        clock.set_back(1);
        assert_eq!(browser.read(&layer).0, 0);
        assert_eq!(rejections(&keys.counters()), [(RejectedKind::FromTheFuture, 1)]);
    }
}

mod lookup {
    use super::*;

    fn hundred() -> Vec<Key> {
        (0..100).map(|_| key()).collect()
    }

    fn handle(keys: &[Key]) -> KeyRingHandle {
        KeyRing::new(keys[0].clone(), keys[1..].iter().cloned()).unwrap().into()
    }

    fn frame_of(clock: &Clock, key: &Key, mode: Mode) -> Vec<u8> {
        let layer = clock.builder(ring(key, [])).mode(mode).build().unwrap();
        URL_SAFE_NO_PAD.decode(layer.codec().seal(&7, None, None, clock.now()).unwrap().value()).unwrap()
    }

    fn header(frame: &[u8]) -> HeaderValue {
        format!("__Host-Http-session={}", URL_SAFE_NO_PAD.encode(frame)).parse().unwrap()
    }

    #[test]
    fn each_of_a_hundred_keys_opens_its_own() {
        let keys = hundred();
        let clock = Clock::new();
        let handle = handle(&keys);
        let layer = clock.layer(handle.clone());
        for key in &keys {
            let header = header(&frame_of(&clock, key, Mode::Encrypted));
            let (id, _) = send(&layer, Some(header), |session| session.meta().map(|meta| meta.key_id()));
            assert_eq!(id, Some(key.id()));
        }
        let counters = handle.counters();
        assert_eq!(counters.opened_by_fallback.len(), 99);
        assert!(counters.opened_by_fallback.iter().all(|(_, count)| *count == 1));
        let ids: Vec<KeyId> = keys[1..].iter().map(Key::id).collect();
        assert_eq!(counters.opened_by_fallback.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn a_key_that_the_id_does_not_name_is_never_tried() {
        let keys = &hundred()[..20];
        let clock = Clock::new();
        for mode in [Mode::Encrypted, Mode::Signed] {
            let layer = clock.builder(handle(keys)).mode(mode).build().unwrap();
            for sealed_by in keys {
                let frame = frame_of(&clock, sealed_by, mode);
                for named in keys {
                    let mut frame = frame.clone();
                    let id = u32::from_str_radix(&named.id().to_string(), 16).unwrap().to_be_bytes();
                    frame[1..5].copy_from_slice(&id);
                    let (incoming, _) = send(&layer, Some(header(&frame)), |session| session.incoming());
                    let expected = if named == sealed_by {
                        Incoming::Accepted
                    } else {
                        Incoming::Rejected(RejectedKind::NotAuthentic)
                    };
                    assert_eq!(incoming, expected);
                }
                let mut frame = frame.clone();
                frame[1] ^= 0xff;
                let (incoming, _) = send(&layer, Some(header(&frame)), |session| session.incoming());
                assert_eq!(incoming, Incoming::Rejected(RejectedKind::UnknownKey));
            }
        }
    }

    #[test]
    fn a_fallback_opens_only_in_the_modes_that_are_accepted() {
        let (primary, fallback) = (key(), key());
        let clock = Clock::new();
        let both = clock.builder(ring(&primary, [&fallback])).accept_mode(Mode::Signed).build().unwrap();
        let one = clock.builder(ring(&primary, [&fallback])).same_site(SameSite::Strict).build().unwrap();
        let header = header(&frame_of(&clock, &fallback, Mode::Signed));
        assert_eq!(send(&both, Some(header.clone()), |session| session.read(|value| *value)).0, 7);
        let (incoming, _) = send(&one, Some(header), |session| session.incoming());
        assert_eq!(incoming, Incoming::Rejected(RejectedKind::SuiteNotAccepted));
    }
}
