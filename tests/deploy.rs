//! Deploys: a struct that changes, in two steps over a fleet, forwards and back; what is decoded and
//! what is refused; instances of one release whose settings differ.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cookie_session::{
    ConfigError, Incoming, Key, KeyRing, KeyRingHandle, Lifetime, Mode, NotEncodable, RejectedKind, SameSite,
    Session, SessionBuilder, SessionLayer, UpdateError,
};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use sha2::Sha256;
use std::{
    collections::HashMap,
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

const KEY: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
const START: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A tenth of the default idle timeout.
const THRESHOLD: u64 = DAY / 10;

/// What may be a session's type.
trait Stored: Default + Serialize + DeserializeOwned + Send + 'static {}
impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Stored for T {}

fn ring() -> KeyRing {
    KeyRing::new(KEY.parse().unwrap(), []).unwrap()
}

/// A clock that tests move, in milliseconds.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Clock {
        Clock(Arc::new(AtomicU64::new(START)))
    }

    fn millis(&self) -> u64 {
        self.0.load(SeqCst)
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.millis())
    }

    fn pass(&self, millis: u64) {
        self.0.fetch_add(millis, SeqCst);
    }

    fn builder<T>(&self) -> SessionBuilder<T> {
        let clock = self.clone();
        SessionLayer::builder(ring()).clock(move || clock.now())
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

    /// With the session of a layer that knows this type.
    fn with<T: Stored>(clock: &Clock, layer: &SessionLayer<T>, value: &T) -> Browser {
        let mut browser = Browser::new(clock);
        let cookie = layer.codec().seal(value, None, None, clock.now()).unwrap();
        browser.take(&HeaderMap::from_iter([(SET_COOKIE, cookie.header().clone())]));
        browser
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
    fn send<T: Stored, R>(
        &mut self,
        layer: &SessionLayer<T>,
        handler: impl FnOnce(&Session<T>) -> R,
    ) -> (R, usize) {
        let mut request = Request::new(());
        request.headers_mut().extend(self.cookie_header().map(|cookies| (COOKIE, cookies)));
        let (mut handler, mut result) = (Some(handler), None);
        let service = service_fn(|request: Request<()>| {
            let (parts, ()) = request.into_parts();
            let session = Session::<T>::from_parts(&parts).unwrap();
            let handler = handler.take().expect("one request");
            result = Some(handler(&session));
            std::future::ready(Ok::<_, Infallible>(Response::new(())))
        });
        let response =
            match pin!(layer.layer(service).oneshot(request)).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(response)) => response,
                Poll::Pending => panic!("nothing here waits"),
            };
        let set = self.take(response.headers());
        (result.unwrap(), set)
    }

    fn frame(&self) -> Vec<u8> {
        let session = self.cookies.iter().find(|(name, _, _)| name == "__Host-Http-session");
        URL_SAFE_NO_PAD.decode(&session.unwrap().1).unwrap()
    }

    /// What a signed cookie holds behind the session's fixed fields.
    fn signed_payload(&self) -> Vec<u8> {
        let frame = self.frame();
        assert_eq!(frame[0], 2, "a signed cookie");
        frame[5 + META..frame.len() - 32].to_vec()
    }

    /// The schema number in a signed cookie.
    fn signed_schema(&self) -> u16 {
        let frame = self.frame();
        assert_eq!(frame[0], 2, "a signed cookie");
        u16::from_le_bytes([frame[6], frame[7]])
    }
}

/// flags[1] schema[2] shape[4] id[16] created[6] renewed[6] issued[6] own[4]
const META: usize = 45;

/// A signed cookie, made by the description of the wire format alone.
fn forge(schema: u16, shape: [u8; 4], payload: &[u8]) -> HeaderValue {
    let key: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&KEY[at..at + 2], 16).unwrap()).collect();
    let parts: [&[u8]; 5] = [b"cookie-session/v1", &[2], b"session", b"__Host-Http-session", b""];
    let info: Vec<u8> =
        parts.iter().flat_map(|part| [&(part.len() as u32).to_le_bytes()[..], part].concat()).collect();
    let mut derived = [0; 32];
    Hkdf::<Sha256>::new(None, &key).expand(&info, &mut derived).unwrap();

    let mut plaintext = vec![0];
    plaintext.extend_from_slice(&schema.to_le_bytes());
    plaintext.extend_from_slice(&shape);
    plaintext.extend_from_slice(&[9; 16]);
    for _ in 0..3 {
        plaintext.extend_from_slice(&START.to_le_bytes()[..6]);
    }
    plaintext.extend_from_slice(&[0; 4]);
    assert_eq!(plaintext.len(), META);
    plaintext.extend_from_slice(payload);
    let mut mac = Hmac::<Sha256>::new_from_slice(&derived).unwrap();
    mac.update(&plaintext);

    let mut frame = vec![2];
    let id = KEY.parse::<Key>().unwrap().id().to_string();
    frame.extend_from_slice(&u32::from_str_radix(&id, 16).unwrap().to_be_bytes());
    frame.extend_from_slice(&plaintext);
    frame.extend_from_slice(&mac.finalize().into_bytes());
    format!("__Host-Http-session={}", URL_SAFE_NO_PAD.encode(frame)).parse().unwrap()
}

/// The struct of the old release.
mod before {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Debug, PartialEq)]
    pub struct Shop {
        pub cart: Vec<u32>,
    }
}

/// The struct of the new release: a field more, and wider numbers.
mod after {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Debug, PartialEq)]
    pub struct Shop {
        pub user: Option<String>,
        pub cart: Vec<u64>,
    }

    /// The old form, as the new release knows it: under another name, with the old shape.
    #[derive(Serialize, Deserialize)]
    pub struct ShopV1 {
        cart: Vec<u32>,
    }

    impl From<ShopV1> for Shop {
        fn from(old: ShopV1) -> Shop {
            Shop { user: None, cart: old.cart.into_iter().map(u64::from).collect() }
        }
    }

    impl From<&Shop> for ShopV1 {
        fn from(new: &Shop) -> ShopV1 {
            ShopV1 { cart: new.cart.iter().map(|item| u32::try_from(*item).unwrap()).collect() }
        }
    }
}

/// A server of one of the three releases of a deploy.
enum Instance {
    /// The struct of before.
    Old(SessionLayer<before::Shop>),
    /// Reads both forms and still writes the old one.
    Between(SessionLayer<after::Shop>),
    /// Reads both forms and writes the new one.
    New(SessionLayer<after::Shop>),
}

impl Instance {
    fn release(clock: &Clock, release: usize) -> Instance {
        let new =
            || clock.builder::<after::Shop>().schema(2).migrate_from(1, |old: after::ShopV1| old.into());
        match release {
            0 => Instance::Old(clock.builder().build().unwrap()),
            1 => Instance::Between(new().write_as(1, |new| after::ShopV1::from(new)).build().unwrap()),
            _ => Instance::New(new().build().unwrap()),
        }
    }

    /// What the session holds, as far as this release knows it, and how many cookies were set.
    fn read(&self, browser: &mut Browser) -> (Seen, usize) {
        match self {
            Instance::Old(layer) => browser.send(layer, |session| Seen {
                incoming: session.incoming(),
                schema: session.meta().map(|meta| meta.schema()),
                cart: session.read(|shop| shop.cart.iter().copied().map(u64::from).collect()),
                user: None,
            }),
            Instance::Between(layer) | Instance::New(layer) => browser.send(layer, |session| Seen {
                incoming: session.incoming(),
                schema: session.meta().map(|meta| meta.schema()),
                cart: session.read(|shop| shop.cart.clone()),
                user: Some(session.read(|shop| shop.user.clone())),
            }),
        }
    }

    /// Puts an item into the cart, and a user where the session's form has one.
    fn write(&self, browser: &mut Browser, item: u32) -> usize {
        let put = |shop: &mut after::Shop, has_user: bool| {
            shop.cart.push(item.into());
            if has_user {
                shop.user = Some(format!("user {item}"));
            }
        };
        let (result, set) = match self {
            Instance::Old(layer) => {
                browser.send(layer, |session| session.update(|shop| shop.cart.push(item)))
            }
            Instance::Between(layer) => browser.send(layer, |session| {
                let has_user = session.meta().is_some_and(|meta| meta.schema() == 2);
                session.update(|shop| put(shop, has_user))
            }),
            Instance::New(layer) => browser.send(layer, |session| session.update(|shop| put(shop, true))),
        };
        result.unwrap();
        set
    }

    fn clear(&self, browser: &mut Browser) {
        let (cleared, _) = match self {
            Instance::Old(layer) => browser.send(layer, Session::clear),
            Instance::Between(layer) | Instance::New(layer) => browser.send(layer, Session::clear),
        };
        assert!(cleared);
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    incoming: Incoming,
    schema: Option<u16>,
    cart: Vec<u64>,
    /// `None`: this release has no users.
    user: Option<Option<String>>,
}

/// What the session should be.
#[derive(Clone, Default)]
struct Model {
    /// `None`: there is no session.
    form: Option<u16>,
    cart: Vec<u64>,
    user: Option<String>,
    issued: u64,
    items: u32,
}

impl Model {
    fn read(&mut self, instance: &Instance, browser: &mut Browser) {
        let (seen, set) = instance.read(browser);
        assert_eq!(seen.cart, self.cart);
        if self.form.is_some() {
            assert_eq!((seen.incoming, seen.schema), (Incoming::Accepted, self.form));
        }
        if let Some(user) = seen.user {
            assert_eq!(user, self.user);
        }
        let now = browser.clock.millis();
        let due = self.form.is_some() && now - self.issued >= THRESHOLD;
        assert_eq!(set, usize::from(due), "a read sets a cookie at the threshold and at no other time");
        if due {
            self.issued = now;
            if matches!(instance, Instance::New(_)) {
                self.form = Some(2);
            }
        }
    }

    fn write(&mut self, instance: &Instance, browser: &mut Browser) {
        self.items += 1;
        assert_eq!(instance.write(browser, self.items), 1);
        self.issued = browser.clock.millis();
        self.cart.push(self.items.into());
        self.form = match instance {
            Instance::Old(_) => Some(1),
            Instance::Between(_) => Some(self.form.unwrap_or(1)),
            Instance::New(_) => Some(2),
        };
        if self.form == Some(2) {
            self.user = Some(format!("user {}", self.items));
        }
    }

    fn clear(&mut self, instance: &Instance, browser: &mut Browser) {
        instance.clear(browser);
        *self = Model { items: self.items, ..Model::default() };
        // A session that begins in the same millisecond is after the sign-out all the same; real
        // clicks are further apart.
        browser.clock.pass(1);
    }
}

mod two_steps {
    use super::*;

    /// Reads and writes at two instances, in every order of five requests.
    fn in_every_order(releases: [usize; 2], begin: impl Fn(&Clock, &mut Browser, &mut Model)) {
        let clock = Clock::new();
        let fleet = releases.map(|release| Instance::release(&clock, release));
        const LENGTH: u32 = 5;
        for order in 0..4_u32.pow(LENGTH) {
            let (mut browser, mut model) = (Browser::new(&clock), Model::default());
            begin(&clock, &mut browser, &mut model);
            for at in 0..LENGTH {
                let step = order / 4_u32.pow(at) % 4;
                let instance = &fleet[(step % 2) as usize];
                if step < 2 {
                    model.read(instance, &mut browser);
                } else {
                    model.write(instance, &mut browser);
                }
            }
            // All of it arrived, and both see it.
            for instance in &fleet {
                model.read(instance, &mut browser);
            }
        }
    }

    fn from_nothing(_: &Clock, _: &mut Browser, _: &mut Model) {}

    fn from_release(release: usize) -> impl Fn(&Clock, &mut Browser, &mut Model) {
        move |clock, browser, model| model.write(&Instance::release(clock, release), browser)
    }

    #[test]
    fn the_first_step_loses_nothing_in_any_order() {
        in_every_order([0, 1], from_nothing);
        in_every_order([0, 1], from_release(0));
    }

    #[test]
    fn the_second_step_loses_nothing_in_any_order() {
        in_every_order([1, 2], from_nothing);
        in_every_order([1, 2], from_release(1));
        in_every_order([1, 2], from_release(2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Upgrade(usize),
        Downgrade(usize),
        Read(usize),
        Write(usize),
        Clear(usize),
        /// Time passes, and somebody looks.
        Wait(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let instance = 0..3_usize;
        prop_oneof![
            3 => instance.clone().prop_map(Step::Upgrade),
            2 => instance.clone().prop_map(Step::Downgrade),
            4 => instance.clone().prop_map(Step::Read),
            4 => instance.clone().prop_map(Step::Write),
            1 => instance.clone().prop_map(Step::Clear),
            2 => (instance, 0..THRESHOLD * 3 / 2).prop_map(|(instance, millis)| Step::Wait(instance, millis)),
        ]
    }

    /// Of three instances, no two are more than a release apart; and the old release does not come
    /// back while the session has the new form.
    fn allowed(releases: [usize; 3], form: Option<u16>) -> bool {
        let (lowest, highest) = (releases.into_iter().min().unwrap(), releases.into_iter().max().unwrap());
        highest <= 2 && highest - lowest <= 1 && (lowest > 0 || form != Some(2))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_deploy_over_three_instances_forwards_and_back_loses_nothing(
            steps in proptest::collection::vec(step(), 1..60),
        ) {
            let clock = Clock::new();
            let mut releases = [0; 3];
            let mut fleet = releases.map(|release| Instance::release(&clock, release));
            let (mut browser, mut model) = (Browser::new(&clock), Model::default());
            for step in steps {
                let mut next = releases;
                match step {
                    Step::Upgrade(at) => next[at] += 1,
                    Step::Downgrade(at) => next[at] = next[at].saturating_sub(1),
                    Step::Read(at) => model.read(&fleet[at], &mut browser),
                    Step::Write(at) => model.write(&fleet[at], &mut browser),
                    Step::Clear(at) => model.clear(&fleet[at], &mut browser),
                    Step::Wait(at, millis) => {
                        clock.pass(millis);
                        model.read(&fleet[at], &mut browser);
                    }
                }
                if next != releases && allowed(next, model.form) {
                    releases = next;
                    fleet = releases.map(|release| Instance::release(&clock, release));
                }
            }
        }
    }

    #[test]
    fn an_old_instance_leaves_the_new_form_alone_and_the_new_one_still_reads_it() {
        let clock = Clock::new();
        let (old, new) = (Instance::release(&clock, 0), Instance::release(&clock, 2));
        let (mut browser, mut model) = (Browser::new(&clock), Model::default());
        model.write(&new, &mut browser);
        for wait in [0, THRESHOLD] {
            clock.pass(wait);
            let (seen, set) = old.read(&mut browser);
            assert_eq!((seen.incoming, set), (Incoming::Rejected(RejectedKind::Schema), 0));
        }
        model.read(&new, &mut browser);
    }

    #[test]
    fn without_the_first_step_a_write_at_an_old_instance_replaces_the_session() {
        // Why a deploy goes in two steps.
        let clock = Clock::new();
        let (old, new) = (Instance::release(&clock, 0), Instance::release(&clock, 2));
        let mut browser = Browser::new(&clock);
        new.write(&mut browser, 1);
        old.write(&mut browser, 2);
        assert_eq!(new.read(&mut browser).0.cart, [2]);
    }

    #[test]
    fn a_lifetime_of_its_own_moves_to_the_new_form_once_and_never_back() {
        let clock = Clock::new();
        let fleet = [Instance::release(&clock, 1), Instance::release(&clock, 2)];
        let mut browser = Browser::new(&clock);
        let Instance::Between(between) = &fleet[0] else { panic!() };
        let own = Lifetime::Own(Duration::from_millis(14 * DAY));
        browser.send(between, |session| {
            session.update(|shop| shop.cart.push(7)).unwrap();
            session.set_lifetime(own).unwrap();
        });
        let mut moves = Vec::new();
        for _ in 0..5 {
            clock.pass(THRESHOLD);
            for instance in &fleet {
                let (seen, set) = instance.read(&mut browser);
                assert_eq!(seen.cart, [7]);
                moves.push(set);
            }
        }
        assert_eq!(moves, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(fleet[0].read(&mut browser).0.schema, Some(2));
        let (lifetime, _) = browser.send(between, |session| session.meta().unwrap().lifetime());
        assert_eq!(lifetime, own);
    }

    #[test]
    fn by_turns_the_two_releases_of_a_step_set_one_cookie_a_threshold() {
        for (releases, written_at) in [([0, 1], 0), ([0, 1], 1), ([1, 2], 0), ([1, 2], 1)] {
            let clock = Clock::new();
            let fleet = releases.map(|release| Instance::release(&clock, release));
            let mut browser = Browser::new(&clock);
            fleet[written_at].write(&mut browser, 7);
            let mut set = 0;
            for minute in 0..3 * THRESHOLD / MINUTE {
                clock.pass(MINUTE);
                for request in 0..2 {
                    set += fleet[(minute as usize + request) % 2].read(&mut browser).1;
                }
            }
            assert_eq!(set, 3, "{releases:?}");
        }
    }
}

mod write_as {
    use super::*;

    fn between(clock: &Clock) -> SessionLayer<after::Shop> {
        clock
            .builder()
            .mode(Mode::Signed)
            .schema(2)
            .migrate_from(1, |old: after::ShopV1| old.into())
            .write_as(1, |new| after::ShopV1::from(new))
            .build()
            .unwrap()
    }

    fn new(clock: &Clock) -> SessionLayer<after::Shop> {
        clock
            .builder()
            .mode(Mode::Signed)
            .schema(2)
            .migrate_from(1, |old: after::ShopV1| old.into())
            .build()
            .unwrap()
    }

    fn old(clock: &Clock) -> SessionLayer<before::Shop> {
        clock.builder().mode(Mode::Signed).build().unwrap()
    }

    #[test]
    fn new_sessions_and_those_of_the_old_form_are_written_in_the_old_form() {
        let clock = Clock::new();
        let mut browser = Browser::new(&clock);
        browser.send(&between(&clock), |session| session.update(|shop| shop.cart.push(1)).unwrap());
        assert_eq!(browser.signed_schema(), 1);
        browser.send(&between(&clock), |session| session.update(|shop| shop.cart.push(2)).unwrap());
        assert_eq!(browser.signed_schema(), 1);
        // The very bytes that the old release writes.
        let same = Browser::with(&clock, &old(&clock), &before::Shop { cart: vec![1, 2] });
        assert_eq!(browser.signed_payload(), same.signed_payload());
        assert_eq!(browser.frame()[5..12], same.frame()[5..12], "flags, schema and shape");
    }

    #[test]
    fn what_came_in_the_new_form_is_written_in_it_with_its_new_fields() {
        let clock = Clock::new();
        let value = after::Shop { user: Some("ada".to_owned()), cart: vec![1] };
        let mut browser = Browser::with(&clock, &new(&clock), &value);
        assert_eq!(browser.signed_schema(), 2);
        browser.send(&between(&clock), |session| session.update(|shop| shop.cart.push(2)).unwrap());
        assert_eq!(browser.signed_schema(), 2);
        let (shop, _) = browser.send(&new(&clock), |session| session.read(|shop| format!("{shop:?}")));
        let expected = after::Shop { user: Some("ada".to_owned()), cart: vec![1, 2] };
        assert_eq!(shop, format!("{expected:?}"));
    }

    #[test]
    fn after_clear_a_session_begins_in_the_old_form() {
        let clock = Clock::new();
        let mut browser = Browser::with(&clock, &new(&clock), &after::Shop::default());
        clock.pass(1);
        browser.send(&between(&clock), |session| {
            session.clear();
            session.update(|shop| shop.cart.push(3)).unwrap();
        });
        assert_eq!(browser.signed_schema(), 1);
    }

    #[test]
    fn the_codec_writes_the_forms_that_the_layer_writes() {
        let clock = Clock::new();
        let layer = between(&clock);
        let mut browser = Browser::with(&clock, &layer, &after::Shop::default());
        assert_eq!(browser.signed_schema(), 1);
        browser = Browser::with(&clock, &new(&clock), &after::Shop::default());
        let request = HeaderMap::from_iter([(COOKIE, browser.cookie_header().unwrap())]);
        let opened = layer.codec().open(&request, clock.now());
        let cookie = layer.codec().seal(opened.value().unwrap(), opened.meta(), None, clock.now()).unwrap();
        browser.take(&HeaderMap::from_iter([(SET_COOKIE, cookie.header().clone())]));
        assert_eq!(browser.signed_schema(), 2);
    }

    #[test]
    fn a_change_that_the_written_form_does_not_hold_is_no_change() {
        let clock = Clock::new();
        let mut browser = Browser::with(&clock, &old(&clock), &before::Shop { cart: vec![1] });
        let (changed, set) = browser.send(&between(&clock), |session| {
            session.update(|shop| shop.user = Some("ada".to_owned())).unwrap();
            // Within the request the value is whole.
            assert_eq!(session.read(|shop| shop.user.clone()).as_deref(), Some("ada"));
            session.is_changed()
        });
        assert_eq!((changed, set), (false, 0));
    }

    #[test]
    fn migrating_alone_is_no_change_and_writing_what_is_there_is_none() {
        let clock = Clock::new();
        let mut browser = Browser::with(&clock, &old(&clock), &before::Shop { cart: vec![1] });
        for layer in [between(&clock), new(&clock)] {
            let (changed, set) = browser.send(&layer, |session| {
                session.update(|shop| shop.cart = vec![1]).unwrap();
                session.is_changed()
            });
            assert_eq!((changed, set), (false, 0));
        }
        let ((), set) = browser
            .send(&new(&clock), |session| session.update(|shop| shop.user = Some("ada".to_owned())).unwrap());
        assert_eq!((set, browser.signed_schema()), (1, 2));
    }

    #[test]
    fn the_budget_measures_the_form_that_is_written() {
        /// Longer than what it stands for.
        #[derive(Serialize, Deserialize)]
        struct Wide(Vec<u8>);
        /// Shorter.
        #[derive(Serialize, Deserialize)]
        struct Narrow(u8);

        let clock = Clock::new();
        let wide = clock
            .builder::<Vec<u8>>()
            .schema(2)
            .migrate_from(1, |Wide(bytes)| bytes)
            .write_as(1, |bytes| Wide(bytes.repeat(100)))
            .build()
            .unwrap();
        let narrow = clock
            .builder::<Vec<u8>>()
            .schema(2)
            .migrate_from(1, |Narrow(len)| vec![0; len.into()])
            .write_as(1, |bytes| Narrow(bytes.len() as u8))
            .build()
            .unwrap();
        let mut browser = Browser::new(&clock);
        let (error, set) = browser.send(&wide, |session| {
            session.update(|bytes| *bytes = vec![1; 20]).unwrap();
            let error = session.update(|bytes| *bytes = vec![1; 50]).unwrap_err();
            assert_eq!(session.read(Vec::len), 20);
            error
        });
        let UpdateError::TooLarge(error) = error else { panic!("{error:?}") };
        assert_eq!((error.payload(), set), (5002, 1));
        // In its own form this would not fit.
        let mut browser = Browser::new(&clock);
        let ((), set) =
            browser.send(&narrow, |session| session.update(|bytes| *bytes = vec![0; 200]).unwrap());
        assert_eq!(set, 1);
        browser.send(&narrow, |session| {
            session.update(|bytes| *bytes = vec![0; 255]).unwrap();
            assert_eq!(session.read(Vec::len), 255);
        });
        assert_eq!(browser.send(&narrow, |session| session.read(Vec::len)).0, 255);
        let mut browser = Browser::new(&clock);
        let (result, set) = browser.send(&narrow, |session| session.update(|bytes| *bytes = vec![0; 5000]));
        assert_eq!((result, set), (Ok(()), 1));
    }
}

mod three_schemas {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Debug, PartialEq, Clone)]
    struct First {
        a: u8,
    }
    #[derive(Default, Serialize, Deserialize, Debug, PartialEq, Clone)]
    struct Second {
        a: u8,
        b: Vec<u16>,
    }
    #[derive(Default, Serialize, Deserialize, Debug, PartialEq, Clone)]
    struct Third {
        a: u32,
        b: Vec<u32>,
        c: bool,
    }

    fn up_from_first(old: First) -> Third {
        Third { a: old.a.into(), ..Third::default() }
    }

    fn up_from_second(old: Second) -> Third {
        Third { a: old.a.into(), b: old.b.into_iter().map(u32::from).collect(), c: false }
    }

    fn down_to_second(new: &Third) -> Second {
        Second { a: new.a as u8, b: new.b.iter().map(|b| *b as u16).collect() }
    }

    fn first(clock: &Clock) -> SessionLayer<First> {
        clock.builder().mode(Mode::Signed).build().unwrap()
    }

    fn second(clock: &Clock) -> SessionLayer<Second> {
        let up = |old: First| Second { a: old.a, b: Vec::new() };
        clock.builder().mode(Mode::Signed).schema(2).migrate_from(1, up).build().unwrap()
    }

    fn third(clock: &Clock) -> SessionBuilder<Third> {
        clock
            .builder()
            .mode(Mode::Signed)
            .schema(3)
            .migrate_from(1, up_from_first)
            .migrate_from(2, up_from_second)
    }

    /// A browser with a session of each schema, and what the third form makes of it.
    fn visitors(clock: &Clock) -> [(Browser, u16, Third); 3] {
        let (one, two) = (First { a: 1 }, Second { a: 2, b: vec![20, 21] });
        let three = Third { a: 3, b: vec![30], c: true };
        [
            (Browser::with(clock, &first(clock), &one), 1, up_from_first(one)),
            (Browser::with(clock, &second(clock), &two), 2, up_from_second(two)),
            (Browser::with(clock, &third(clock).build().unwrap(), &three), 3, three),
        ]
    }

    #[test]
    fn all_three_are_read_and_say_their_number() {
        let clock = Clock::new();
        for layer in
            [third(&clock).build().unwrap(), third(&clock).write_as(2, down_to_second).build().unwrap()]
        {
            for (mut browser, schema, expected) in visitors(&clock) {
                let ((value, number), set) =
                    browser.send(&layer, |session| (session.get(), session.meta().unwrap().schema()));
                assert_eq!((value, number, set), (expected, schema, 0));
            }
        }
    }

    #[test]
    fn the_middle_one_is_written_unless_a_session_came_in_the_newest() {
        let clock = Clock::new();
        let layer = third(&clock).write_as(2, down_to_second).build().unwrap();
        for (mut browser, schema, mut expected) in visitors(&clock) {
            browser.send(&layer, |session| session.update(|value| value.b.push(99)).unwrap());
            assert_eq!(browser.signed_schema(), schema.max(2));
            expected.b.push(99);
            assert_eq!(browser.send(&layer, Session::get).0, expected);
            if schema < 3 {
                // The release before reads it.
                assert_eq!(browser.send(&second(&clock), Session::get).0, down_to_second(&expected));
            }
        }
        let mut browser = Browser::new(&clock);
        browser.send(&layer, |session| session.update(|value| value.a = 9).unwrap());
        assert_eq!(browser.signed_schema(), 2);
    }

    #[test]
    fn a_re_issue_converts_the_oldest_and_keeps_the_others_byte_for_byte() {
        let clock = Clock::new();
        let layer = third(&clock).write_as(2, down_to_second).build().unwrap();
        for (mut browser, schema, expected) in visitors(&clock) {
            let before = browser.signed_payload();
            clock.pass(THRESHOLD);
            assert_eq!(browser.send(&layer, Session::get), (expected.clone(), 1));
            assert_eq!(browser.signed_schema(), schema.max(2));
            if schema > 1 {
                assert_eq!(browser.signed_payload(), before);
            }
            assert_eq!(browser.send(&layer, Session::get), (expected, 0));
        }
    }

    #[test]
    fn a_schema_between_the_written_and_the_own_one_is_re_issued_byte_for_byte() {
        let clock = Clock::new();
        let down = |new: &Third| First { a: new.a as u8 };
        let layer = third(&clock).write_as(1, down).build().unwrap();
        for (mut browser, schema, expected) in visitors(&clock) {
            let before = browser.signed_payload();
            let form = browser.frame()[5..12].to_vec();
            clock.pass(THRESHOLD);
            assert_eq!(browser.send(&layer, Session::get), (expected, 1));
            assert_eq!(browser.signed_schema(), schema);
            assert_eq!(browser.signed_payload(), before);
            assert_eq!(browser.frame()[5..12], form, "flags, schema and shape");
        }
    }

    #[test]
    fn a_renewal_alone_keeps_the_form_or_converts_the_older() {
        let clock = Clock::new();
        let layer = third(&clock).write_as(2, down_to_second).build().unwrap();
        for (mut browser, schema, expected) in visitors(&clock) {
            let (_, set) = browser.send(&layer, |session| session.renew().unwrap());
            assert_eq!((set, browser.signed_schema()), (1, schema.max(2)));
            assert_eq!(browser.send(&layer, Session::get).0, expected);
        }
    }

    #[test]
    fn a_re_issue_sends_the_bytes_that_came_in_even_where_encoding_again_gives_others() {
        let clock = Clock::new();
        let layer = clock.builder::<HashMap<u32, u32>>().mode(Mode::Signed).build().unwrap();
        let value: HashMap<u32, u32> = (0..50).map(|n| (n, n)).collect();
        let mut browser = Browser::with(&clock, &layer, &value);
        let before = browser.signed_payload();
        clock.pass(THRESHOLD);
        let (again, set) =
            browser.send(&layer, |session| session.read(|map| postcard::to_allocvec(map).unwrap()));
        assert_ne!(again, before, "another map, in another order");
        assert_eq!((set, browser.signed_payload()), (1, before));
    }
}

mod decoding {
    use super::*;

    #[derive(Default, Serialize, Deserialize, Debug, PartialEq)]
    struct Pair {
        a: u64,
        b: String,
    }

    fn layer(clock: &Clock) -> SessionLayer<Pair> {
        clock.builder().mode(Mode::Signed).build().unwrap()
    }

    fn incoming<T: Stored>(layer: &SessionLayer<T>, cookie: HeaderValue) -> Incoming {
        let now = UNIX_EPOCH + Duration::from_millis(START);
        layer.codec().open(&HeaderMap::from_iter([(COOKIE, cookie)]), now).incoming()
    }

    #[test]
    fn all_of_a_payload_is_decoded_to_the_last_byte() {
        let clock = Clock::new();
        let layer = layer(&clock);
        let shape = layer.shape().to_bytes();
        let payload = postcard::to_allocvec(&Pair { a: 300, b: "seven".to_owned() }).unwrap();
        assert_eq!(incoming(&layer, forge(1, shape, &payload)), Incoming::Accepted);
        let refused = Incoming::Rejected(RejectedKind::Payload);
        for more in [&[0][..], &[1], &[0xff; 100]] {
            let longer = [&payload[..], more].concat();
            assert_eq!(incoming(&layer, forge(1, shape, &longer)), refused, "{more:?} too many");
        }
        for len in 0..payload.len() {
            assert_eq!(incoming(&layer, forge(1, shape, &payload[..len])), refused, "{len} bytes");
        }
    }

    #[test]
    fn what_is_migrated_is_decoded_to_the_last_byte_too() {
        let clock = Clock::new();
        let layer = clock
            .builder::<u64>()
            .mode(Mode::Signed)
            .schema(2)
            .migrate_from(1, |old: Pair| old.a)
            .build()
            .unwrap();
        let shape = self::layer(&clock).shape().to_bytes();
        let payload = postcard::to_allocvec(&Pair { a: 300, b: "seven".to_owned() }).unwrap();
        assert_eq!(incoming(&layer, forge(1, shape, &payload)), Incoming::Accepted);
        let refused = Incoming::Rejected(RejectedKind::Payload);
        assert_eq!(incoming(&layer, forge(1, shape, &[&payload[..], &[0]].concat())), refused);
        assert_eq!(incoming(&layer, forge(1, shape, &payload[..payload.len() - 1])), refused);
    }

    #[test]
    fn another_schema_number_is_refused_as_such() {
        let clock = Clock::new();
        let layer = layer(&clock);
        let payload = postcard::to_allocvec(&Pair::default()).unwrap();
        for schema in [0, 2, 256, u16::MAX] {
            let cookie = forge(schema, layer.shape().to_bytes(), &payload);
            assert_eq!(incoming(&layer, cookie), Incoming::Rejected(RejectedKind::Schema), "{schema}");
        }
    }

    #[test]
    fn another_shape_under_the_same_number_is_refused_even_if_it_would_decode() {
        let clock = Clock::new();
        let layer = layer(&clock);
        let payload = postcard::to_allocvec(&Pair::default()).unwrap();
        for at in 0..4 {
            let mut shape = layer.shape().to_bytes();
            shape[at] ^= 1;
            let cookie = forge(1, shape, &payload);
            assert_eq!(incoming(&layer, cookie), Incoming::Rejected(RejectedKind::Payload));
        }
    }

    #[test]
    fn schema_numbers_go_from_0_to_65535_and_begin_with_1() {
        let clock = Clock::new();
        let numbered = |schema| clock.builder::<u8>().mode(Mode::Signed).schema(schema).build().unwrap();
        for schema in [0, 1, 2, 255, 256, u16::MAX] {
            let mut browser = Browser::with(&clock, &numbered(schema), &7);
            assert_eq!(browser.signed_schema(), schema);
            assert_eq!(browser.send(&numbered(schema), |session| session.read(|n| *n)).0, 7);
        }
        let mut browser =
            Browser::with(&clock, &clock.builder::<u8>().mode(Mode::Signed).build().unwrap(), &7);
        assert_eq!(browser.signed_schema(), 1);
        let highest = clock
            .builder::<u8>()
            .mode(Mode::Signed)
            .schema(u16::MAX)
            .migrate_from(1, |old: u8| old + 1)
            .build();
        assert_eq!(browser.send(&highest.unwrap(), |session| session.read(|n| *n)).0, 8);
    }

    #[test]
    fn a_migration_reads_its_own_number_alone() {
        let clock = Clock::new();
        let third = clock
            .builder::<u8>()
            .schema(3)
            .migrate_from(1, |old: u8| old + 10)
            .migrate_from(2, |old: u8| old + 20)
            .build()
            .unwrap();
        for (schema, expected) in [(1, 17), (2, 27), (3, 7)] {
            let layer = clock.builder::<u8>().schema(schema).build().unwrap();
            let mut browser = Browser::with(&clock, &layer, &7);
            assert_eq!(browser.send(&third, |session| session.read(|n| *n)).0, expected);
        }
    }
}

mod round_trips {
    use super::*;

    /// What `build()` tries comes back; one number does not, since it is left out.
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Skips {
        #[serde(skip_serializing_if = "is_left_out")]
        a: u32,
        b: u32,
    }

    const LEFT_OUT: u32 = 77_777;

    fn is_left_out(number: &u32) -> bool {
        *number == LEFT_OUT
    }

    impl Default for Skips {
        fn default() -> Skips {
            Skips { a: 5, b: 5 }
        }
    }

    /// Large numbers are written as something else than what is read.
    #[derive(Default, Serialize, Deserialize)]
    struct Mismatched(#[serde(serialize_with = "as_text")] u64);

    fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        match number {
            ..1000 => serializer.serialize_u64(*number),
            number => serializer.serialize_str(&number.to_string()),
        }
    }

    /// Large numbers decode, but to something that is longer each time.
    #[derive(Default, Serialize, Deserialize)]
    struct Grows(#[serde(serialize_with = "doubled")] u64);

    fn doubled<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(if *number < 1000 { *number } else { number * 2 })
    }

    /// The value is refused, and the session is as it was.
    fn refused<T: Stored>(value: T) {
        let clock = Clock::new();
        let layer = clock.builder::<T>().build().unwrap();
        let sealed = layer.codec().seal(&value, None, None, clock.now());
        let mut browser = Browser::new(&clock);
        let (updated, set) = browser.send(&layer, |session| session.set(value));
        let expected = UpdateError::NotEncodable(NotEncodable::RoundTrip);
        assert_eq!(sealed.unwrap_err(), expected);
        assert_eq!((updated, set), (Err(expected), 0));
    }

    fn accepted<T: Stored>(value: T) {
        let clock = Clock::new();
        let layer = clock.builder::<T>().build().unwrap();
        assert!(layer.codec().seal(&value, None, None, clock.now()).is_ok());
        let mut browser = Browser::new(&clock);
        let (updated, set) = browser.send(&layer, |session| session.set(value));
        assert_eq!((updated, set), (Ok(()), 1));
        let (incoming, _) = browser.send(&layer, |session| session.incoming());
        assert_eq!(incoming, Incoming::Accepted);
    }

    #[test]
    fn what_does_not_come_back_is_refused() {
        refused(Skips { a: LEFT_OUT, b: 7 });
        refused(Mismatched(u64::MAX));
        refused(Grows(8191));
    }

    #[test]
    fn what_comes_back_does_not() {
        accepted(Skips { a: 1, b: 0 });
        accepted(Grows(7));
        accepted((0..100).map(|n| (n, n.to_string())).collect::<HashMap<u32, String>>());
        accepted(vec![f64::NAN, -0.0, f64::INFINITY]);
        accepted((Some(Some(7_u8)), None::<u8>, [1_u16, 2, 300], 'ß'));
    }

    #[test]
    fn a_refused_value_leaves_the_one_before() {
        let clock = Clock::new();
        let layer = clock.builder::<Skips>().build().unwrap();
        let mut browser = Browser::new(&clock);
        let (value, _) = browser.send(&layer, |session| {
            session.set(Skips { a: 1, b: 2 }).unwrap();
            if cfg!(debug_assertions) {
                session.update(|value| value.a = LEFT_OUT).unwrap_err();
            }
            session.read(|value| (value.a, value.b))
        });
        assert_eq!(value, (1, 2));
        let (value, _) = browser.send(&layer, |session| session.read(|value| (value.a, value.b)));
        assert_eq!(value, (1, 2));
    }

    #[test]
    fn what_write_as_makes_must_come_back_too() {
        let clock = Clock::new();
        let layer = clock
            .builder::<u32>()
            .schema(2)
            .migrate_from(1, |old: Skips| old.b)
            .write_as(1, |new| Skips { a: if *new == 9 { LEFT_OUT } else { 1 }, b: *new })
            .build()
            .unwrap();
        let mut browser = Browser::new(&clock);
        let (results, _) = browser.send(&layer, |session| (session.set(8), session.set(9)));
        assert_eq!(results.0, Ok(()));
        if cfg!(debug_assertions) {
            assert_eq!(results.1, Err(UpdateError::NotEncodable(NotEncodable::RoundTrip)));
        }
    }

    #[test]
    fn an_empty_list_that_does_not_come_back_is_refused_by_build_in_every_build() {
        #[derive(Default, Serialize, Deserialize)]
        struct Empty {
            #[serde(skip_serializing_if = "Vec::is_empty")]
            items: Vec<u8>,
        }
        let refused = |error: ConfigError| match error {
            ConfigError::DoesNotComeBack { type_name } => {
                assert!(type_name.ends_with("Empty"), "{type_name}")
            }
            other => panic!("{other:?}"),
        };
        refused(Clock::new().builder::<Empty>().build().unwrap_err());

        // The same of the form that is written.
        let build = Clock::new()
            .builder::<u8>()
            .schema(2)
            .migrate_from(1, |old: Empty| old.items.len() as u8)
            .write_as(1, |new| Empty { items: vec![0; (*new).into()] })
            .build();
        refused(build.unwrap_err());
    }

    #[test]
    fn a_variant_that_would_come_back_as_another_is_refused_by_build_in_every_build() {
        #[derive(Default, Serialize, Deserialize, Clone, PartialEq, Debug)]
        enum Role {
            #[default]
            Guest,
            #[serde(skip)]
            _Hidden,
            User,
            Admin,
        }
        // The trap: skipped variants are counted when writing, and not when reading.
        let user = postcard::to_allocvec(&Role::User).unwrap();
        assert_eq!(postcard::from_bytes(&user), Ok(Role::Admin));
        let refused = |error: ConfigError| match error {
            ConfigError::DoesNotComeBack { type_name } => assert!(type_name.contains("Role"), "{type_name}"),
            other => panic!("{other:?}"),
        };
        let clock = Clock::new();
        refused(clock.builder::<Role>().build().unwrap_err());
        refused(clock.builder::<(u8, Option<Vec<Role>>)>().build().unwrap_err());
        let writes =
            clock.builder::<u8>().schema(2).migrate_from(1, |_: Role| 0).write_as(1, |_| Role::Guest);
        refused(writes.build().unwrap_err());
    }

    #[test]
    fn a_field_that_is_skipped_on_both_sides_is_no_trap() {
        #[derive(Default, Serialize, Deserialize, PartialEq, Debug)]
        struct Cached {
            id: u64,
            #[serde(skip)]
            cache: Vec<u8>,
        }
        accepted(Cached { id: 7, cache: vec![1, 2, 3] });
    }
}

mod settings_apart {
    use super::*;

    type Setter = fn(SessionBuilder<u64>) -> SessionBuilder<u64>;

    fn fleet(clock: &Clock, setters: [Setter; 2]) -> [SessionLayer<u64>; 2] {
        setters.map(|set| set(clock.builder()).build().unwrap())
    }

    /// Instances that read each other's cookies.
    const PAIRS: [[Setter; 2]; 7] = [
        [|b| b, |b| b],
        [|b| b.accept_mode(Mode::Signed), |b| b.mode(Mode::Signed).accept_mode(Mode::Encrypted)],
        [|b| b, |b| b.same_site(SameSite::Strict)],
        [|b| b, |b| b.absolute_timeout(Duration::from_millis(10 * DAY))],
        [|b| b, |b| b.max_own_lifetime(Duration::from_millis(100 * DAY))],
        [|b| b, |b| b.max_set_cookie(1000)],
        [|b| b.schema(2).migrate_from(1, |old: u8| old.into()), |b| b.schema(2)],
    ];

    #[test]
    fn in_every_order_of_reads_and_writes_nothing_is_lost_and_reads_set_nothing() {
        for pair in PAIRS {
            let clock = Clock::new();
            let fleet = fleet(&clock, pair);
            for order in 0..4_u32.pow(4) {
                let (mut browser, mut expected) = (Browser::new(&clock), 0);
                for at in 0..4 {
                    let step = order / 4_u32.pow(at) % 4;
                    let layer = &fleet[(step % 2) as usize];
                    if step < 2 {
                        assert_eq!(browser.send(layer, |session| session.read(|n| *n)), (expected, 0));
                    } else {
                        expected += 1;
                        let (seen, set) = browser
                            .send(layer, |session| session.update(|n| std::mem::replace(n, *n + 1)).unwrap());
                        assert_eq!((seen + 1, set), (expected, 1));
                    }
                }
            }
        }
    }

    #[test]
    fn by_turns_they_set_one_cookie_a_threshold() {
        for (nth, pair) in PAIRS.into_iter().enumerate() {
            let clock = Clock::new();
            let fleet = fleet(&clock, pair);
            let mut browser = Browser::with(&clock, &fleet[1], &7);
            let mut set = 0;
            for minute in 0..3 * THRESHOLD / MINUTE {
                clock.pass(MINUTE);
                for request in 0..2 {
                    let layer = &fleet[(minute as usize + request) % 2];
                    let (value, count) = browser.send(layer, |session| session.read(|n| *n));
                    assert_eq!(value, 7);
                    set += count;
                }
            }
            assert_eq!(set, 3, "the pair at {nth}");
        }
    }

    #[test]
    fn a_shorter_threshold_at_one_of_them_counts_for_both() {
        let clock = Clock::new();
        let fleet = fleet(&clock, [|b| b, |b| b.reissue_after(Duration::from_millis(HOUR))]);
        let mut browser = Browser::with(&clock, &fleet[0], &7);
        let mut set = 0;
        for _ in 0..300 {
            clock.pass(MINUTE);
            for layer in &fleet {
                set += browser.send(layer, |session| session.read(|_| ())).1;
            }
        }
        assert_eq!(set, 5, "in five hours");
    }

    #[test]
    fn what_one_of_them_cannot_open_it_leaves_alone() {
        let apart: [(Setter, RejectedKind); 5] = [
            (|b| b.mode(Mode::Signed), RejectedKind::SuiteNotAccepted),
            (|b| b.context("other"), RejectedKind::NotAuthentic),
            (|b| b.schema(2), RejectedKind::Schema),
            (|b| b.absolute_timeout(Duration::from_millis(HOUR)), RejectedKind::Expired),
            (|b| b.accept_if(|_, _| false), RejectedKind::Refused),
        ];
        for (set, kind) in apart {
            let clock = Clock::new();
            let fleet = fleet(&clock, [|b| b, set]);
            let mut browser = Browser::with(&clock, &fleet[0], &7);
            clock.pass(HOUR);
            let (incoming, cookies) = browser.send(&fleet[1], |session| session.incoming());
            assert_eq!((incoming, cookies), (Incoming::Rejected(kind), 0));
            assert_eq!(browser.send(&fleet[0], |session| session.read(|n| *n)).0, 7, "{kind:?}");
        }
    }

    #[test]
    fn two_names_are_two_sessions() {
        let clock = Clock::new();
        let fleet = fleet(&clock, [|b| b, |b| b.name("__Host-other")]);
        let mut browser = Browser::new(&clock);
        for (layer, value) in fleet.iter().zip([1, 2]) {
            browser.send(layer, |session| session.set(value).unwrap());
        }
        for (layer, value) in fleet.iter().zip([1, 2]) {
            assert_eq!(browser.send(layer, |session| session.read(|n| *n)), (value, 0));
        }
    }

    #[test]
    fn a_session_that_outgrows_one_of_them_is_read_there_and_kept() {
        let clock = Clock::new();
        let keys = KeyRingHandle::new(ring());
        let time = clock.clone();
        let narrow = SessionLayer::<String>::builder(keys.clone())
            .max_set_cookie(400)
            .clock(move || time.now())
            .build()
            .unwrap();
        let wide = clock.builder::<String>().build().unwrap();
        let mut browser = Browser::with(&clock, &wide, &"x".repeat(500));
        let (error, set) = browser.send(&narrow, |session| {
            assert_eq!(session.read(String::len), 500);
            session.update(|text| text.push('y')).unwrap_err()
        });
        assert!(matches!(error, UpdateError::TooLarge(_)), "{error:?}");
        assert_eq!(set, 0);
        clock.pass(THRESHOLD);
        assert_eq!(browser.send(&narrow, |session| session.read(String::len)), (500, 0));
        assert_eq!(keys.counters().reissues_too_large, 1);
        assert_eq!(browser.send(&wide, |session| session.read(String::len)), (500, 1));
        // It can still be made to fit.
        let ((), set) = browser.send(&narrow, |session| session.update(|text| text.truncate(5)).unwrap());
        assert_eq!(set, 1);
        assert_eq!(browser.send(&wide, |session| session.read(String::len)).0, 5);
    }
}
