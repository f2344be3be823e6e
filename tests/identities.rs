//! A cookie whose identity changes in a deploy: another name, Domain, Path, Partitioned, context or mode, or several
//! of them. Release 0 writes the old one and knows nothing of the new; release 1 writes the old and accepts the new;
//! release 2 writes the new and accepts the old.

// Shared with the tests by rule; not all of it is used here.
#[allow(dead_code)]
#[path = "rules/jar.rs"]
mod jar;
#[allow(dead_code)]
#[path = "rules/kit.rs"]
mod kit;

use cookie_session::{
    Counters, Identity, Incoming, KeyRing, KeyRingHandle, Lifetime, Mode, RejectedKind, Session,
    SessionBuilder, SessionLayer, SessionMeta,
};
use http::{HeaderValue, Response, header::CACHE_CONTROL};
use jar::Browser;
use kit::{
    Clock, DAY, Data, HOUR, MILLI, MINUTE, SECOND, Shop, builder_over, cookies_in, key, lines, max_age, meta,
    names, open, request, respond, ring, sent, status, user, visit,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, SystemTime},
};

/// An identity, as a layer's own or as another one's.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Form {
    name: &'static str,
    domain: Option<&'static str>,
    path: &'static str,
    partitioned: bool,
    context: &'static str,
    mode: Mode,
}

impl Form {
    /// A layer that writes it.
    fn written<T: Data>(&self, mut builder: SessionBuilder<T>) -> SessionBuilder<T> {
        builder = builder.name(self.name).path(self.path).context(self.context).mode(self.mode);
        if let Some(domain) = self.domain {
            builder = builder.domain(domain);
        }
        if self.partitioned { builder.partitioned() } else { builder }
    }

    fn identity(&self) -> Identity {
        let mut identity = Identity::named(self.name).path(self.path).context(self.context).mode(self.mode);
        if let Some(domain) = self.domain {
            identity = identity.domain(domain);
        }
        if self.partitioned { identity.partitioned() } else { identity }
    }

    /// What a browser knows it by.
    fn cookie(&self) -> Cookie {
        (self.name.to_owned(), self.domain.map(str::to_owned), self.path.to_owned(), self.partitioned)
    }

    fn marker(&self) -> Cookie {
        let (name, domain, path, partitioned) = self.cookie();
        (format!("{name}-out"), domain, path, partitioned)
    }
}

/// Name, Domain, Path, Partitioned.
type Cookie = (String, Option<String>, String, bool);

/// Signed, only because that is quicker.
const ID: Form =
    Form { name: "id", domain: None, path: "/", partitioned: false, context: "", mode: Mode::Signed };

/// An old identity and a new one.
#[derive(Clone, Copy, Debug)]
struct Change {
    old: Form,
    new: Form,
}

const NAME: Change = Change { old: Form { name: "sid", ..ID }, new: ID };
const PREFIX: Change =
    Change { old: Form { name: "session", ..ID }, new: Form { name: "__Host-Http-session", ..ID } };
const PREFIX_LOST: Change = Change {
    old: Form { name: "__Host-session", ..ID },
    new: Form { name: "session", domain: Some("example.com"), ..ID },
};
const DOMAIN: Change = Change { old: ID, new: Form { domain: Some("example.com"), ..ID } };
const PATH: Change = Change { old: Form { path: "/app", ..ID }, new: ID };
const PARTITIONED: Change = Change { old: ID, new: Form { partitioned: true, ..ID } };
const CONTEXT: Change = Change { old: ID, new: Form { context: "shop", ..ID } };
const MODE: Change = Change { old: ID, new: Form { mode: Mode::Encrypted, ..ID } };
const CONTEXT_AND_PATH: Change =
    Change { old: Form { path: "/app", ..ID }, new: Form { context: "shop", ..ID } };
const SEVERAL: Change = Change {
    old: Form { name: "session", domain: Some("example.com"), ..ID },
    new: Form {
        name: "__Host-Http-session",
        partitioned: true,
        context: "shop",
        mode: Mode::Encrypted,
        ..ID
    },
};

const CHANGES: [Change; 10] =
    [NAME, PREFIX, PREFIX_LOST, DOMAIN, PATH, PARTITIONED, CONTEXT, MODE, CONTEXT_AND_PATH, SEVERAL];

impl Change {
    /// The two are sealed alike: the server cannot tell which one came in.
    fn is_seen_by_browsers_alone(&self) -> bool {
        let Change { old, new } = self;
        (old.name, old.context, old.mode) == (new.name, new.context, new.mode)
    }

    /// To a browser the two are one cookie.
    fn is_one_cookie(&self) -> bool {
        self.old.cookie() == self.new.cookie()
    }

    fn back(&self) -> Change {
        Change { old: self.new, new: self.old }
    }
}

/// The changes in which the server can tell the two identities apart, forwards and back.
fn told_apart() -> Vec<Change> {
    let forwards = CHANGES.into_iter().filter(|change| !change.is_seen_by_browsers_alone());
    forwards.flat_map(|change| [change, change.back()]).collect()
}

const OLD_DAYS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A tenth of the default idle timeout.
const THRESHOLD: Duration = Duration::from_secs(24 * 60 * 60 / 10);

struct Deploy {
    clock: Clock,
    ring: KeyRing,
    change: Change,
    until: SystemTime,
    /// Release 0, 1, 2.
    releases: [SessionLayer<Shop>; 3],
}

impl Deploy {
    fn of(change: Change) -> Deploy {
        Deploy::with(change, |builder| builder)
    }

    /// With these settings at each release.
    fn with(change: Change, settings: impl Fn(SessionBuilder<Shop>) -> SessionBuilder<Shop>) -> Deploy {
        let (clock, ring) = (Clock::new(), ring());
        let until = clock.now() + OLD_DAYS;
        let writes = |form: Form| settings(form.written(builder_over(ring.clone(), &clock)));
        let Change { old, new } = change;
        let releases = [
            writes(old),
            writes(old).formerly(new.identity().until(until)),
            writes(new).formerly(old.identity().until(until)),
        ];
        let releases = releases.map(|builder| builder.build().unwrap());
        Deploy { clock, ring, change, until, releases }
    }

    /// A layer that writes the new identity and has these others.
    fn new_with(&self, others: impl IntoIterator<Item = Identity>) -> SessionLayer<Shop> {
        let builder = self.change.new.written(builder_over(self.ring.clone(), &self.clock));
        others.into_iter().fold(builder, SessionBuilder::formerly).build().unwrap()
    }

    /// The session of user 1, begun now at this release: `name=value`.
    fn session(&self, release: usize) -> String {
        self.session_of(release, 1)
    }

    fn session_of(&self, release: usize, id: u64) -> String {
        sent(&self.releases[release].codec().seal(&user(id), None, None, self.clock.now()).unwrap())
    }

    fn browser(&self, release: usize) -> Browser {
        let cookie = self.releases[release].codec().seal(&user(1), None, None, self.clock.now()).unwrap();
        Browser::with(&self.clock, cookie.header())
    }

    fn meta(&self, release: usize, cookies: &str) -> SessionMeta {
        meta(&self.releases[release], cookies, self.clock.now())
    }

    /// Whose session a release sees.
    fn who(&self, release: usize, cookies: &str) -> Option<u64> {
        who(&self.releases[release], cookies)
    }
}

fn who(layer: &SessionLayer<Shop>, cookies: &str) -> Option<u64> {
    visit(layer, cookies, |session| session.read(|shop| shop.user)).0
}

fn incoming(layer: &SessionLayer<Shop>, cookies: &str) -> Incoming {
    visit(layer, cookies, Session::incoming).0
}

fn read(session: &Session<Shop>) {
    session.read(|_| ());
}

fn add(session: &Session<Shop>) {
    session.update(|shop| shop.cart.push(1)).unwrap();
}

fn clear(session: &Session<Shop>) {
    assert!(session.clear());
}

fn identity_of(cookie: &cookie::Cookie<'_>) -> Cookie {
    (
        cookie.name().to_owned(),
        cookie.domain().map(str::to_owned),
        cookie.path().unwrap().to_owned(),
        cookie.partitioned() == Some(true),
    )
}

/// The cookies that a response sets.
fn set(response: &Response<()>) -> Vec<Cookie> {
    cookies_in(response).iter().filter(|cookie| !cookie.value().is_empty()).map(identity_of).collect()
}

/// Those that it removes.
fn removed(response: &Response<()>) -> Vec<Cookie> {
    let removals = cookies_in(response).into_iter().filter(|cookie| cookie.value().is_empty());
    removals
        .map(|cookie| {
            assert_eq!(max_age(&cookie), Some(0));
            assert_eq!((cookie.secure(), cookie.http_only()), (Some(true), Some(true)));
            identity_of(&cookie)
        })
        .collect()
}

/// The pair `name=value` of the one cookie of this identity that a response sets.
fn pair(response: &Response<()>, which: &Cookie) -> String {
    let found: Vec<_> = cookies_in(response)
        .into_iter()
        .filter(|cookie| !cookie.value().is_empty() && identity_of(cookie) == *which)
        .map(|cookie| format!("{}={}", cookie.name(), cookie.value()))
        .collect();
    let [pair] = found.as_slice() else { panic!("{which:?} in {:?}", lines(response)) };
    pair.clone()
}

/// Whether a marker of this name counts against a session of that one: no prefix can be signed out by what has none.
fn counts(marker: &str, session: &str) -> bool {
    let rank = |name: &str| if name.starts_with("__Host-") { 2 } else { u8::from(name.starts_with("__")) };
    rank(marker) >= rank(session)
}

fn rejected(counters: &Counters, kind: RejectedKind) -> u64 {
    counters.rejected.iter().find(|(its, _)| *its == kind).unwrap().1
}

/// Spoils the seal.
fn forged(pair: &str) -> String {
    let mut pair = pair.to_owned();
    // The last character may be padding in part; the one before it is not.
    let last = pair.pop().unwrap();
    let at = pair.pop().unwrap();
    pair.extend([if at == 'A' { 'B' } else { 'A' }, last]);
    pair
}

/// All orders of requests among instances of two neighbouring releases, by one browser.
mod model {
    use super::{
        jar::{Event, choices, orders},
        *,
    };
    use Event::{Receive, Send};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kind {
        Read,
        Write,
        Renew,
        Clear,
        ClearAndWrite,
    }

    const KINDS: [Kind; 5] = [Kind::Read, Kind::Write, Kind::Renew, Kind::Clear, Kind::ClearAndWrite];

    impl Kind {
        fn signs_out(self) -> bool {
            matches!(self, Kind::Clear | Kind::ClearAndWrite)
        }
    }

    fn place(order: &[Event], event: Event) -> usize {
        order.iter().position(|other| *other == event).unwrap()
    }

    /// All orders of the requests themselves in which one is before another if its response came before that was
    /// sent: those under way at one moment stand in any order.
    fn serial(order: &[Event]) -> Vec<Vec<usize>> {
        let requests = order.len() / 2;
        let before = |one, other| place(order, Receive(one)) < place(order, Send(other));
        let all: Vec<usize> = (0..requests).collect();
        let mut orders = choices(&all, requests);
        orders.retain(|order| all.iter().all(|one| order.contains(one)));
        orders.retain(|order| {
            order
                .iter()
                .enumerate()
                .all(|(at, later)| !order[..at].iter().any(|earlier| before(*later, *earlier)))
        });
        orders
    }

    /// When the server answers: both its times, the one at which the session was handed out and that of the head.
    #[derive(Clone, Copy, Debug)]
    enum Server {
        /// When the request was sent.
        Prompt,
        /// The head when the response arrives.
        Slow,
    }

    /// User and cart, and whether the session was renewed; `None`: nobody is signed in.
    type Outcome = Option<(u64, Vec<u32>, bool)>;

    struct Model<'d> {
        clock: Clock,
        /// What serves each request: one of these.
        layers: [&'d SessionLayer<Shop>; 2],
        /// The session that there is at the beginning, and when it was issued.
        start: &'d HeaderValue,
        server: Server,
    }

    struct Answer {
        response: Response<()>,
        signed_out: Option<u64>,
    }

    const PATH: &str = "/app";

    impl Model<'_> {
        fn serve(&self, layer: usize, kind: Kind, at: usize, cookies: &str, slow: Duration) -> Answer {
            let mut signed_out = None;
            let response = respond(self.layers[layer], request(cookies), |session: Session<Shop>| {
                let came_in = session.read(|shop| shop.user);
                let number = u32::try_from(at).unwrap();
                match kind {
                    Kind::Read => {}
                    Kind::Write => session.update(|shop| shop.cart.push(number)).unwrap(),
                    Kind::Renew => drop(session.renew().unwrap()),
                    Kind::Clear => clear(&session),
                    Kind::ClearAndWrite => {
                        clear(&session);
                        session.update(|shop| shop.user = Some(10 + at as u64)).unwrap();
                    }
                }
                signed_out = came_in.filter(|_| kind.signs_out());
                self.clock.pass(slow);
                Response::new(())
            });
            self.clock.back(slow);
            Answer { response, signed_out }
        }

        /// What each of the two releases sees.
        fn seen(&self, cookies: &str) -> [Outcome; 2] {
            self.layers.map(|layer| {
                let opened = open(layer, cookies, self.clock.now());
                let renewed = opened.meta()?.renewed_at() > opened.meta()?.created_at();
                let shop = opened.into_value()?;
                shop.user.map(|user| (user, shop.cart, renewed))
            })
        }

        /// The outcome, and the browser. Fails when somebody is signed out who has not asked for it, or signed in
        /// again.
        fn run(&self, kinds: &[Kind], at: &[usize], order: &[Event]) -> (Outcome, Browser) {
            let start = self.clock.now();
            let mut browser = Browser::with(&self.clock, self.start);
            let mut answers: Vec<Answer> = Vec::new();
            let mut out: BTreeSet<u64> = BTreeSet::new();
            let case = || format!("{kinds:?} at {at:?} in {order:?}, {:?}", self.server);
            let look = |browser: &Browser, out: &BTreeSet<u64>| {
                let [here, there] = self.seen(&browser.cookies_at(PATH));
                assert!(here == there || overtake(kinds, order), "{here:?}, {there:?}: {}", case());
                let again = here.as_ref().is_some_and(|(user, ..)| out.contains(user));
                assert!(!again, "brought back: {}", case());
                let stays = !kinds.iter().any(|kind| kind.signs_out());
                assert!(here.is_some() || !stays, "signed out: {}", case());
                here
            };
            let mut outcome = look(&browser, &out);
            for event in order {
                self.clock.pass(MILLI);
                match *event {
                    Send(nth) => answers.push(self.answer(kinds, at, order, nth, &browser)),
                    Receive(nth) => {
                        browser.receive(&answers[nth].response);
                        out.extend(answers[nth].signed_out);
                        outcome = look(&browser, &out);
                    }
                }
            }
            self.clock.set(start);
            (outcome, browser)
        }

        fn answer(
            &self,
            kinds: &[Kind],
            at: &[usize],
            order: &[Event],
            nth: usize,
            browser: &Browser,
        ) -> Answer {
            let distance = place(order, Receive(nth)) - place(order, Send(nth));
            let slow = match self.server {
                Server::Prompt => Duration::ZERO,
                Server::Slow => MILLI * u32::try_from(distance).unwrap(),
            };
            self.serve(at[nth], kinds[nth], nth, &browser.cookies_at(PATH), slow)
        }

        /// The outcome if the responses that have come at any moment had come in this order.
        fn run_as_if(&self, kinds: &[Kind], order: &[Event], serial: &[usize]) -> Outcome {
            let start = self.clock.now();
            let mut answers: Vec<Answer> = Vec::new();
            let browser = |answers: &[Answer], until: usize| {
                let mut browser = Browser::with(&self.clock, self.start);
                for nth in serial.iter().filter(|nth| order[..until].contains(&Receive(**nth))) {
                    browser.receive(&answers[*nth].response);
                }
                browser
            };
            for (now, event) in order.iter().enumerate() {
                self.clock.pass(MILLI);
                if let Send(nth) = *event {
                    answers.push(self.answer(kinds, &[0; 3], order, nth, &browser(&answers, now)));
                }
            }
            self.clock.pass(MILLI);
            let [outcome, _] = self.seen(&browser(&answers, order.len()).cookies());
            self.clock.set(start);
            outcome
        }
    }

    /// What a browser has in the beginning: in which identity, and how old.
    #[derive(Clone, Copy)]
    struct Start {
        release: usize,
        due: bool,
    }

    impl Start {
        fn cookie(self, deploy: &Deploy) -> HeaderValue {
            let codec = deploy.releases[self.release].codec();
            let cookie = codec.seal(&user(1), None, None, deploy.clock.now()).unwrap();
            deploy.clock.pass(if self.due { THRESHOLD } else { SECOND });
            cookie.header().clone()
        }
    }

    /// What may become of these requests, in this order, where nothing is deployed and of the responses under way at
    /// one moment any is the last.
    fn expected(due: bool, requests: usize, server: Server) -> Vec<Vec<BTreeSet<Outcome>>> {
        let deploy = Deploy::of(NAME);
        let start = Start { release: 0, due }.cookie(&deploy);
        let layers = [&deploy.releases[0]; 2];
        let model = Model { clock: deploy.clock.clone(), layers, start: &start, server };
        let outcomes = |kinds: &[Kind], order: &Vec<Event>| {
            serial(order).iter().map(|serial| model.run_as_if(kinds, order, serial)).collect()
        };
        let kinds = choices(&KINDS, requests);
        kinds
            .iter()
            .map(|kinds| orders(requests).iter().map(|order| outcomes(kinds, order)).collect())
            .collect()
    }

    /// Whether two of these are sign-outs whose responses overtake each other. Then the marker of one release may be
    /// the later one's, and that of the other one the earlier one's.
    fn overtake(kinds: &[Kind], order: &[Event]) -> bool {
        let received = order.iter().filter_map(|event| match event {
            Receive(nth) if kinds[*nth].signs_out() => Some(*nth),
            _ => None,
        });
        !received.is_sorted()
    }

    /// No more is lost than may be where the last response wins, nobody's session least of all. Somebody who signs in while a sign-out is under way
    /// may be signed out by that.
    fn is_good(outcome: &Outcome, expected: &BTreeSet<Outcome>, kinds: &[Kind], order: &[Event]) -> bool {
        let kept = |cart: &Vec<u32>, renewed: bool| cart.len() + usize::from(renewed);
        match outcome {
            Some((user, cart, renewed)) => expected.iter().any(|expected| {
                expected.as_ref().is_none_or(|(other, least, least_renewed)| {
                    user == other && kept(cart, *renewed) >= kept(least, *least_renewed)
                })
            }),
            None => {
                let before = |one, other| place(order, Receive(one)) < place(order, Send(other));
                let all = 0..kinds.len();
                let beside =
                    |one| all.clone().any(|other| one != other && !before(one, other) && !before(other, one));
                expected.contains(&None) || all.clone().any(|nth| kinds[nth].signs_out() && beside(nth))
            }
        }
    }

    fn check(change: Change, releases: [usize; 2], requests: usize, server: Server) {
        for due in [false, true] {
            if due && requests > 2 && change.is_seen_by_browsers_alone() {
                // Where the server cannot tell the two apart, a re-issue at one release can win over both of two
                // writes at the other one that were under way at its moment.
                continue;
            }
            let expected = expected(due, requests, server);
            // Release 0 does not know the new identity.
            let first = releases.map(|release| if releases.contains(&0) { 0 } else { release });
            for release in BTreeSet::from(first) {
                let deploy = Deploy::of(change);
                let start = Start { release, due }.cookie(&deploy);
                let layers = releases.map(|release| &deploy.releases[release]);
                let model = Model { clock: deploy.clock.clone(), layers, start: &start, server };
                for (kinds, expected) in choices(&KINDS, requests).iter().zip(&expected) {
                    // To all others it is one whether a cookie is due, and if it is not a read does nothing.
                    if kinds.contains(&Kind::Read) != due {
                        continue;
                    }
                    for (order, expected) in orders(requests).iter().zip(expected) {
                        for at in choices(&[0, 1], requests) {
                            let (outcome, browser) = model.run(kinds, &at, order);
                            let case =
                                || format!("{change:?}: {kinds:?} at {at:?} in {order:?}, {server:?}, {due}");
                            assert!(
                                is_good(&outcome, expected, kinds, order),
                                "{outcome:?}, {expected:?}: {}",
                                case()
                            );
                            let left = left(&deploy, releases[1], browser);
                            assert_eq!(left, [change.old, change.new][releases[1] / 2].name, "{}", case());
                        }
                    }
                }
            }
        }
    }

    /// Nothing stays for ever: whatever there is, the second write leaves one cookie.
    fn left(deploy: &Deploy, release: usize, mut browser: Browser) -> &'static str {
        let now = deploy.clock.now();
        for _ in 0..2 {
            deploy.clock.pass(SECOND);
            let cookies = browser.cookies_at(PATH);
            browser.receive(&visit(&deploy.releases[release], &cookies, add).1);
        }
        deploy.clock.set(now);
        let Change { old, new } = deploy.change;
        let names = BTreeSet::from([old.name, new.name]);
        let counts: Vec<_> = names.iter().map(|name| (*name, browser.count(name))).collect();
        let [name] = names.iter().filter(|name| browser.count(name) == 1).collect::<Vec<_>>()[..] else {
            panic!("{counts:?}: {:?}", deploy.change)
        };
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), 1, "{:?}", deploy.change);
        name
    }

    /// Each of these changes, by two threads.
    fn check_all(of: &[Change], requests: usize, server: Server, releases: [usize; 2]) {
        let (one, other) = of.split_at(of.len() / 2);
        thread::scope(|scope| {
            for changes in [one, other] {
                scope.spawn(|| changes.iter().for_each(|change| check(*change, releases, requests, server)));
            }
        });
    }

    #[test]
    fn there_are_fifteen_orders_of_three_requests() {
        assert_eq!([1, 2, 3].map(|requests| orders(requests).len()), [1, 3, 15]);
        assert_eq!(choices(&KINDS, 3).len(), 125);
        let serial: Vec<_> = orders(3).iter().map(|order| serial(order).len()).collect();
        assert_eq!(serial, [6, 6, 6, 6, 6, 6, 3, 3, 2, 3, 3, 2, 2, 2, 1]);
    }

    #[test]
    fn two_requests_at_releases_0_and_1() {
        for server in [Server::Prompt, Server::Slow] {
            check_all(&CHANGES, 2, server, [0, 1]);
        }
    }

    #[test]
    fn two_requests_at_releases_1_and_2() {
        for server in [Server::Prompt, Server::Slow] {
            check_all(&CHANGES, 2, server, [1, 2]);
            // The last to write is an instance of the first of these.
            check_all(&CHANGES, 2, server, [2, 1]);
        }
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "for release builds: cargo test --release --test identities")]
    fn three_requests_at_releases_1_and_2() {
        // The others take no other way, and as long.
        check_all(&[PREFIX, CONTEXT_AND_PATH], 3, Server::Prompt, [1, 2]);
    }
}

mod moving {
    use super::*;

    /// With the next write, by either neighbour; with a read not before the threshold, by neither.
    #[test]
    fn a_session_moves_with_the_next_write_and_keeps_what_it_is() {
        for change in told_apart() {
            for lifetime in [Lifetime::Timeouts, Lifetime::Browser, Lifetime::Own(HOUR)] {
                let deploy = Deploy::of(change);
                let begin = |session: &Session<Shop>| {
                    session.set(user(1)).unwrap();
                    session.set_lifetime(lifetime).unwrap();
                };
                let (_, response) = visit(&deploy.releases[1], "", begin);
                let old = pair(&response, &change.old.cookie());
                let before = deploy.meta(1, &old);
                deploy.clock.pass(MINUTE);
                let (_, response) = visit(&deploy.releases[2], &old, |session| {
                    assert_eq!(session.incoming(), Incoming::Accepted);
                    add(session);
                });
                assert_eq!(set(&response), [change.new.cookie()], "{change:?}");
                let gone = if change.is_one_cookie() { vec![] } else { vec![change.old.cookie()] };
                assert_eq!(removed(&response), gone, "{change:?}");
                let new = pair(&response, &change.new.cookie());
                let after = deploy.meta(2, &new);
                assert_eq!(
                    (after.id(), after.created_at(), after.renewed_at(), after.lifetime()),
                    (before.id(), before.created_at(), before.renewed_at(), lifetime),
                );
                assert_eq!(after.issued_at(), deploy.clock.now());
                assert_eq!(after.mode(), change.new.mode);
                assert_eq!(deploy.who(0, &new), None, "{change:?}");
                // And back again at a neighbour that has not been replaced yet.
                let (_, response) = visit(&deploy.releases[1], &new, add);
                assert_eq!(set(&response), [change.old.cookie()], "{change:?}");
                let gone = if change.is_one_cookie() { vec![] } else { vec![change.new.cookie()] };
                assert_eq!(removed(&response), gone, "{change:?}");
                let back = pair(&response, &change.old.cookie());
                for release in [0, 1, 2] {
                    let meta = deploy.meta(release, &back);
                    assert_eq!(
                        (meta.id(), meta.created_at(), meta.renewed_at(), meta.lifetime()),
                        (before.id(), before.created_at(), before.renewed_at(), lifetime),
                    );
                }
            }
        }
    }

    #[test]
    fn a_read_moves_it_at_the_threshold_and_not_at_once() {
        for change in told_apart() {
            for lifetime in [Lifetime::Timeouts, Lifetime::Browser, Lifetime::Own(3 * DAY)] {
                for [from, to] in [[1, 2], [2, 1]] {
                    let deploy = Deploy::of(change);
                    let (_, response) = visit(&deploy.releases[from], "", |session| {
                        session.set(user(1)).unwrap();
                        session.set_lifetime(lifetime).unwrap();
                    });
                    let [of, there] = [from, to].map(|release| [change.old, change.new][release - 1]);
                    let cookies = pair(&response, &of.cookie());
                    let before = deploy.meta(to, &cookies);
                    for at_once in [Duration::ZERO, SECOND, THRESHOLD - SECOND - MILLI] {
                        deploy.clock.pass(at_once);
                        for release in [from, to] {
                            assert_eq!(lines(&visit(&deploy.releases[release], &cookies, read).1), [""; 0]);
                        }
                    }
                    deploy.clock.pass(MILLI);
                    let (_, response) = visit(&deploy.releases[to], &cookies, read);
                    assert_eq!(set(&response), [there.cookie()], "{change:?}");
                    let gone = if change.is_one_cookie() { vec![] } else { vec![of.cookie()] };
                    assert_eq!(removed(&response), gone, "{change:?}");
                    let moved = pair(&response, &there.cookie());
                    let after = deploy.meta(from, &moved);
                    assert_eq!(
                        (after.id(), after.created_at(), after.renewed_at(), after.lifetime()),
                        (before.id(), before.created_at(), before.renewed_at(), lifetime),
                    );
                    assert_eq!(after.issued_at(), deploy.clock.now());
                    // Nor does it go back at once.
                    for release in [from, to, from] {
                        deploy.clock.pass(SECOND);
                        assert_eq!(lines(&visit(&deploy.releases[release], &moved, read).1), [""; 0]);
                    }
                }
            }
        }
    }

    /// One that was renewed elsewhere has another id, and is the same session.
    #[test]
    fn a_renewal_moves_it_too() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let old = deploy.session(1);
            let before = deploy.meta(1, &old);
            deploy.clock.pass(MINUTE);
            let (id, response) = visit(&deploy.releases[2], &old, |session| session.renew().unwrap());
            assert_eq!(id, Some(before.id()), "{change:?}");
            let after = deploy.meta(2, &pair(&response, &change.new.cookie()));
            assert_ne!(after.id(), before.id());
            assert_eq!((after.created_at(), after.renewed_at()), (before.created_at(), deploy.clock.now()));
        }
    }

    /// What could be a session there and is none goes with the next write, as a bad cookie of the layer's own is
    /// replaced by one; a read leaves it alone. After the date it is what it was without one: it goes with the first
    /// write that meets several.
    #[test]
    fn what_is_no_session_in_the_other_identity_is_removed_by_a_write_until_the_date() {
        for change in told_apart().into_iter().filter(|change| change.old.name != change.new.name) {
            let deploy = Deploy::of(change);
            let old = deploy.session(1);
            let (_, response) = visit(&deploy.releases[1], &old, clear);
            let marker = pair(&response, &change.new.marker());
            let junk = format!("{}=junk", change.old.name);
            for cookies in [junk.clone(), forged(&old), format!("{old}; {marker}")] {
                assert_eq!(lines(&visit(&deploy.releases[2], &cookies, read).1), [""; 0], "{change:?}");
                let (_, response) = visit(&deploy.releases[2], &cookies, add);
                assert_eq!(set(&response), [change.new.cookie()], "{change:?}");
                assert_eq!(removed(&response), [change.old.cookie()], "{change:?}");
            }
            deploy.clock.set(deploy.until);
            assert_eq!(removed(&visit(&deploy.releases[2], &junk, add).1), [], "{change:?}");
            let several = format!("{junk}; {junk}");
            assert_eq!(removed(&visit(&deploy.releases[2], &several, add).1), [change.old.cookie()]);
        }
    }

    /// Where only the browser can tell the two apart: as before, the newest wins, and whoever writes where both came
    /// in removes the other one.
    #[test]
    fn another_domain_path_or_partitioned_alone_is_removed_by_the_first_write_that_meets_both() {
        for change in CHANGES.into_iter().filter(Change::is_seen_by_browsers_alone) {
            for change in [change, change.back()] {
                let deploy = Deploy::of(change);
                let mut browser = deploy.browser(1);
                for (release, count, cookies) in [(2, 2, 1), (2, 1, 2), (1, 2, 1), (1, 1, 2)] {
                    deploy.clock.pass(SECOND);
                    let before = deploy.meta(release, &browser.cookies_at("/app"));
                    let at_app = browser.cookies_at("/app");
                    assert_eq!(at_app.split("; ").count(), cookies, "{change:?}");
                    let (_, response) = visit(&deploy.releases[release], &at_app, add);
                    browser.receive(&response);
                    assert_eq!(browser.count("id"), count, "{change:?}");
                    let after = deploy.meta(release, &browser.cookies_at("/app"));
                    assert_eq!((after.id(), after.created_at()), (before.id(), before.created_at()));
                    assert_eq!(after.issued_at(), deploy.clock.now());
                }
            }
        }
    }

    /// Deploys in all stages, one request after the other, forwards and back.
    #[test]
    fn nothing_is_lost_in_a_deploy_forwards_and_back() {
        for change in CHANGES.into_iter().flat_map(|change| [change, change.back()]) {
            let deploy = Deploy::of(change);
            let mut browser = deploy.browser(0);
            let before = deploy.meta(0, &browser.cookies_at("/app"));
            let mut written = 0;
            let stages: [&[usize]; 9] = [&[0], &[0, 1], &[1], &[1, 2], &[2], &[2, 1], &[1], &[1, 2], &[2]];
            for stage in stages {
                for turn in 0..6 {
                    for release in stage {
                        deploy.clock.pass(if turn % 3 == 2 { THRESHOLD } else { SECOND });
                        let cookies = browser.cookies_at("/app");
                        let (_, response) = visit(&deploy.releases[*release], &cookies, |session| {
                            assert_eq!(session.read(|shop| (shop.user, shop.cart.len())), (Some(1), written));
                            if turn % 2 == 0 {
                                add(session);
                                written += 1;
                            }
                        });
                        browser.receive(&response);
                    }
                }
            }
            let after = deploy.meta(2, &browser.cookies_at("/app"));
            assert_eq!((after.id(), after.created_at()), (before.id(), before.created_at()), "{change:?}");
            // Long after the date, too.
            deploy.clock.set(deploy.until);
            let last = deploy.new_with([change.old.identity()]);
            assert_eq!(who(&last, &browser.cookies_at("/app")), None, "its timeouts are over");
        }
    }
}

mod signing_out {
    use super::*;

    #[test]
    fn a_sign_out_removes_all_cookies_and_sets_the_marker_of_each() {
        for change in CHANGES.into_iter().flat_map(|change| [change, change.back()]) {
            for came_in in [1, 2] {
                for release in [1, 2] {
                    let deploy = Deploy::of(change);
                    let cookies = deploy.session(came_in);
                    let (_, response) = visit(&deploy.releases[release], &cookies, clear);
                    let one = change.is_one_cookie();
                    let other = [change.new, change.old][release - 1].cookie();
                    let own = [change.old, change.new][release - 1].cookie();
                    // Its own is removed where a cookie of its name came in.
                    let seen = cookies.starts_with(&format!("{}=", own.0));
                    let mut gone: Vec<_> = seen.then(|| own.clone()).into_iter().collect();
                    gone.extend((!one).then_some(other));
                    gone.sort();
                    let mut removals = removed(&response);
                    removals.sort();
                    assert_eq!(removals, gone, "{change:?}");
                    let mut markers = vec![change.old.marker(), change.new.marker()];
                    markers.sort();
                    markers.dedup();
                    let mut sent = set(&response);
                    sent.sort();
                    assert_eq!(sent, markers, "{change:?}");
                }
            }
        }
    }

    /// Each marker alone, from either release, against a session in each identity, at either release.
    #[test]
    fn a_marker_in_any_identity_counts_against_a_session_in_any() {
        for change in told_apart() {
            for by in [1, 2] {
                let deploy = Deploy::of(change);
                let sessions = [1, 2].map(|release| deploy.session(release));
                let (_, response) = visit(&deploy.releases[by], &sessions[by - 1], clear);
                deploy.clock.pass(SECOND);
                let late = [1, 2].map(|release| deploy.session(release));
                for which in set(&response) {
                    let marker = pair(&response, &which);
                    for release in [1, 2] {
                        for session in &sessions {
                            let cookies = format!("{session}; {marker}");
                            let expected = if counts(&marker, session) {
                                Incoming::Rejected(RejectedKind::SignedOut)
                            } else {
                                Incoming::Accepted
                            };
                            let seen = incoming(&deploy.releases[release], &cookies);
                            assert_eq!(seen, expected, "{change:?}: {which:?}");
                        }
                        for session in &late {
                            let cookies = format!("{marker}; {session}");
                            assert_eq!(deploy.who(release, &cookies), Some(1), "{change:?}: {which:?}");
                        }
                    }
                }
            }
        }
    }

    /// A session that begins where a marker came in begins after it, in whatever identity that is.
    #[test]
    fn a_session_that_begins_begins_after_the_markers_of_all_identities() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let cookies = deploy.session(1);
            let (_, response) = visit(&deploy.releases[1], &cookies, clear);
            for which in set(&response) {
                // The clock stands still.
                let marker = pair(&response, &which);
                let (_, response) =
                    visit(&deploy.releases[2], &marker, |session| session.set(user(2)).unwrap());
                let new = pair(&response, &change.new.cookie());
                assert_eq!(deploy.who(2, &format!("{marker}; {new}")), Some(2), "{change:?}: {which:?}");
                assert_eq!(deploy.meta(2, &new).created_at(), deploy.clock.now() + MILLI);
            }
        }
    }

    #[test]
    fn a_slow_response_of_the_other_release_brings_nobody_back_nor_does_it_after_the_date() {
        for change in CHANGES.into_iter().flat_map(|change| [change, change.back()]) {
            for [slow, out] in [[1, 2], [2, 1], [0, 1]] {
                let deploy = Deploy::of(change);
                let mut browser = deploy.browser(slow);
                deploy.clock.pass(SECOND);
                let cookies = browser.cookies_at("/app");
                let (_, late) = visit(&deploy.releases[slow], &cookies, add);
                let (_, response) = visit(&deploy.releases[out], &cookies, clear);
                browser.receive(&response);
                assert_eq!(browser.cookies_at("/app").matches("id=").count(), 0);
                browser.receive(&late);
                for _ in 0..3 {
                    for release in [slow, out] {
                        let cookies = browser.cookies_at("/app");
                        let (incoming, response) =
                            visit(&deploy.releases[release], &cookies, Session::incoming);
                        assert_eq!(incoming, Incoming::Rejected(RejectedKind::SignedOut), "{change:?}");
                        assert_eq!(lines(&response), [""; 0], "it is left alone");
                    }
                    deploy.clock.pass(HOUR);
                }
                // It comes back on the last day, and the date passes.
                deploy.clock.set(deploy.until - SECOND);
                let mut browser = deploy.browser(slow);
                let cookies = browser.cookies_at("/app");
                let (_, late) = visit(&deploy.releases[slow], &cookies, add);
                browser.receive(&visit(&deploy.releases[out], &cookies, clear).1);
                deploy.clock.set(deploy.until);
                browser.receive(&late);
                for release in [slow, out] {
                    assert_eq!(deploy.who(release, &browser.cookies_at("/app")), None, "{change:?}");
                }
            }
        }
    }
}

mod which_wins {
    use super::*;

    fn of_rank(rank: usize) -> [&'static str; 2] {
        [["a", "b"], ["__Secure-a", "__Http-b"], ["__Host-a", "__hOST-Http-b"]][rank]
    }

    struct Names {
        clock: Clock,
        /// Writes `id`, which has no prefix, and accepts all others.
        layer: SessionLayer<Shop>,
        writers: BTreeMap<&'static str, SessionLayer<Shop>>,
    }

    impl Names {
        fn new() -> Names {
            let (clock, ring) = (Clock::new(), ring());
            let names = || [0, 1, 2].into_iter().flat_map(of_rank);
            let mut builder = builder_over::<Shop>(ring.clone(), &clock).name("id");
            for name in names() {
                builder = builder.formerly(Identity::named(name).until(clock.now() + OLD_DAYS));
            }
            let writer = |name| {
                let writer = builder_over::<Shop>(ring.clone(), &clock).name(name).build().unwrap();
                (name, writer)
            };
            let writers = names().chain(["id"]).map(writer).collect();
            Names { layer: builder.build().unwrap(), clock, writers }
        }

        fn sealed(&self, name: &str, id: u64, age: Duration) -> String {
            let at = self.clock.now() - age;
            sent(&self.writers[name].codec().seal(&user(id), None, None, at).unwrap())
        }
    }

    fn both_orders(one: &str, other: &str) -> [String; 2] {
        [format!("{one}; {other}"), format!("{other}; {one}")]
    }

    #[test]
    fn a_better_prefix_beats_a_newer_cookie() {
        let names = Names::new();
        for (better, worse) in [(2, 1), (2, 0), (1, 0)] {
            for (better, worse) in of_rank(better).into_iter().zip(of_rank(worse)) {
                let old = names.sealed(better, 1, HOUR);
                let new = names.sealed(worse, 2, Duration::ZERO);
                for cookies in both_orders(&old, &new) {
                    assert_eq!(who(&names.layer, &cookies), Some(1), "{better} beside {worse}");
                }
            }
        }
        // The layer's own name is no better than its prefix.
        let own = names.sealed("id", 1, Duration::ZERO);
        for cookies in both_orders(&own, &names.sealed("__Secure-a", 2, HOUR)) {
            assert_eq!(who(&names.layer, &cookies), Some(2));
        }
    }

    #[test]
    fn of_one_prefix_the_newest_wins_whatever_its_name() {
        let names = Names::new();
        for [one, other] in [0, 1, 2].map(of_rank).into_iter().chain([["id", "a"]]) {
            for (one, other) in [(one, other), (other, one)] {
                let [old, new] = [names.sealed(one, 1, MILLI), names.sealed(other, 2, Duration::ZERO)];
                for cookies in both_orders(&old, &new) {
                    assert_eq!(who(&names.layer, &cookies), Some(2), "{one} beside {other}");
                }
            }
        }
    }

    #[test]
    fn a_live_one_beats_an_expired_one_of_a_better_prefix() {
        let names = Names::new();
        let good = names.sealed("a", 1, HOUR);
        for (age, wins) in [(DAY - MILLI, 2), (DAY, 1)] {
            for cookies in both_orders(&good, &names.sealed("__Host-a", 2, age)) {
                assert_eq!(who(&names.layer, &cookies), Some(wins));
            }
        }
    }

    #[test]
    fn one_of_a_better_prefix_that_is_not_good_hides_no_good_one() {
        let names = Names::new();
        let good = names.sealed("a", 1, HOUR);
        let better = names.sealed("__Host-a", 2, Duration::ZERO);
        let (_, response) = visit(&names.writers["__Host-a"], &better, clear);
        let marker = pair(&response, &("__Host-a-out".to_owned(), None, "/".to_owned(), false));
        names.clock.pass(SECOND);
        let good_and_later = names.sealed("a", 3, Duration::ZERO);
        for bad in [forged(&better), "__Host-a=".to_owned(), "__Host-a=AAAA".to_owned()] {
            // However many: those of another name have an eight of their own.
            let many = vec![bad.as_str(); 20].join("; ");
            for cookies in both_orders(&good, &many) {
                assert_eq!(who(&names.layer, &cookies), Some(1), "{bad}");
            }
        }
        for cookies in both_orders(&good_and_later, &format!("{better}; {marker}")) {
            assert_eq!(who(&names.layer, &cookies), Some(3));
        }
        // Sealed for another name it is no session of this one.
        let moved = good_and_later.replacen("a=", "__Host-a=", 1);
        for cookies in both_orders(&good, &moved) {
            assert_eq!(who(&names.layer, &cookies), Some(1));
        }
    }

    #[test]
    fn one_of_a_better_prefix_that_does_not_decode_hides_no_good_one() {
        let (clock, ring) = (Clock::new(), ring());
        let layer = builder_over::<Shop>(ring.clone(), &clock)
            .formerly(Identity::named("a").until(clock.now() + DAY))
            .build()
            .unwrap();
        let newer = builder_over::<Shop>(ring.clone(), &clock).schema(2).build().unwrap();
        let before = builder_over::<Shop>(ring, &clock).name("a").build().unwrap();
        let good = sent(&before.codec().seal(&user(1), None, None, clock.now() - HOUR).unwrap());
        let unknown = sent(&newer.codec().seal(&user(2), None, None, clock.now()).unwrap());
        for cookies in both_orders(&good, &unknown) {
            assert_eq!(who(&layer, &cookies), Some(1));
        }
    }

    #[test]
    fn accept_if_judges_the_one_of_the_best_prefix_alone() {
        let deploy = Deploy::with(PREFIX, |builder| builder.accept_if(|_, shop| shop.user != Some(2)));
        let [good, refused] = [deploy.session_of(1, 1), deploy.session_of(2, 2)];
        for cookies in both_orders(&good, &refused) {
            for release in [1, 2] {
                let refused = Incoming::Rejected(RejectedKind::Refused);
                assert_eq!(incoming(&deploy.releases[release], &cookies), refused);
            }
        }
        // One in the old identity is asked about, too.
        let old = deploy.session_of(1, 2);
        assert_eq!(incoming(&deploy.releases[2], &old), Incoming::Rejected(RejectedKind::Refused));
    }

    /// Whoever has several is left with one, in whichever they came.
    #[test]
    fn a_move_removes_all_others() {
        let names = Names::new();
        let all: Vec<_> = names.writers.keys().copied().filter(|name| *name != "id").collect();
        let cookies = names.sealed("a", 1, Duration::ZERO);
        let (_, response) = visit(&names.layer, &cookies, add);
        let mut gone: Vec<_> = removed(&response).into_iter().map(|(name, ..)| name).collect();
        gone.sort();
        assert_eq!(gone, all);
        assert_eq!(set(&response), [ID.cookie()]);
    }
}

mod the_date {
    use super::*;

    #[test]
    fn from_its_very_millisecond_on_nothing_in_that_identity_is_accepted() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            for (before, id) in [(MILLI, Some(1)), (Duration::ZERO, None)] {
                deploy.clock.set(deploy.until - before);
                for [release, other] in [[1, 2], [2, 1]] {
                    let cookies = deploy.session(other);
                    assert_eq!(deploy.who(release, &cookies), id, "{change:?} {before:?}");
                }
            }
            // What is the layer's own has no date.
            for release in [1, 2] {
                assert_eq!(deploy.who(release, &deploy.session(release)), Some(1));
            }
        }
    }

    #[test]
    fn what_has_moved_lives_on_and_what_has_not_is_as_if_it_were_not_there() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            deploy.clock.set(deploy.until - SECOND);
            let old = deploy.session(1);
            let (_, response) = visit(&deploy.releases[2], &old, add);
            let new = pair(&response, &change.new.cookie());
            deploy.clock.set(deploy.until);
            assert_eq!(deploy.who(2, &new), Some(1), "{change:?}");
            assert_eq!(deploy.who(2, &format!("{old}; {new}")), Some(1), "{change:?}");
            assert_eq!(deploy.who(2, &format!("{new}; {old}")), Some(1), "{change:?}");
            // One of another name is not even looked at.
            let expected = match change.old.name == change.new.name {
                false => Incoming::Absent,
                true if change.old.mode == change.new.mode => Incoming::Rejected(RejectedKind::NotAuthentic),
                true => Incoming::Rejected(RejectedKind::SuiteNotAccepted),
            };
            assert_eq!(incoming(&deploy.releases[2], &old), expected, "{change:?}");
        }
    }

    #[test]
    fn afterwards_it_is_still_removed_and_its_markers_still_count() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            deploy.clock.set(deploy.until - SECOND);
            let sessions = [1, 2].map(|release| deploy.session(release));
            let (_, response) = visit(&deploy.releases[1], &sessions[0], clear);
            let marker = pair(&response, &change.old.marker());
            deploy.clock.set(deploy.until + DAY - 2 * SECOND);
            let cookies = format!("{}; {marker}", sessions[1]);
            let expected = if counts(&marker, &sessions[1]) {
                Incoming::Rejected(RejectedKind::SignedOut)
            } else {
                Incoming::Accepted
            };
            assert_eq!(incoming(&deploy.releases[2], &cookies), expected, "{change:?}");

            let one = change.is_one_cookie();
            let both = format!("{}; {}", sessions[0], sessions[1]);
            let (_, response) = visit(&deploy.releases[2], &both, add);
            assert_eq!(removed(&response).contains(&change.old.cookie()), !one, "{change:?}");
            let (_, response) = visit(&deploy.releases[2], &both, clear);
            assert!(removed(&response).contains(&change.old.cookie()), "{change:?}");
            let (_, response) = visit(&deploy.releases[2], "", clear);
            assert_eq!(removed(&response).contains(&change.old.cookie()), !one, "{change:?}");
            let (_, response) = visit(&deploy.releases[2], &sessions[1], clear);
            assert!(set(&response).contains(&change.old.marker()), "{change:?}");
        }
    }

    /// Domain, Path and Partitioned are not in a seal: what no server can tell apart no date can end.
    #[test]
    fn it_cannot_tell_apart_what_only_browsers_can() {
        for change in CHANGES.into_iter().filter(Change::is_seen_by_browsers_alone) {
            let deploy = Deploy::of(change);
            deploy.clock.set(deploy.until);
            assert_eq!(deploy.who(2, &deploy.session(1)), Some(1), "{change:?}");
            // That is so without a date as well.
            let undated = deploy.new_with([change.old.identity()]);
            assert_eq!(who(&undated, &deploy.session(1)), Some(1), "{change:?}");
        }
    }

    #[test]
    fn two_that_only_browsers_tell_apart_have_the_later_date() {
        let deploy = Deploy::of(NAME);
        let dated = |domain: &str, until| deploy.change.old.identity().domain(domain).until(until);
        let (early, late) = (deploy.clock.now() + HOUR, deploy.clock.now() + DAY);
        for others in [
            [dated("a.example", early), dated("b.example", late)],
            [dated("b.example", late), dated("a.example", early)],
        ] {
            let layer = deploy.new_with(others);
            for (now, id) in [(late - MILLI, Some(1)), (late, None)] {
                deploy.clock.set(now);
                assert_eq!(who(&layer, &deploy.session(1)), id);
            }
        }
    }

    #[test]
    fn one_that_is_over_is_no_fault() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let layer = deploy.new_with([change.old.identity().until(SystemTime::UNIX_EPOCH)]);
            assert_eq!(who(&layer, &deploy.session(1)), None);
        }
    }
}

mod one_cookie {
    use super::*;

    fn changes() -> Vec<Change> {
        told_apart().into_iter().filter(Change::is_one_cookie).collect()
    }

    #[test]
    fn another_context_or_mode_is_accepted_and_moved_and_never_removed_by_its_own_removal() {
        assert_eq!(changes().len(), 4);
        for change in changes() {
            let deploy = Deploy::of(change);
            let mut browser = deploy.browser(1);
            for release in [2, 1, 2, 2, 1] {
                deploy.clock.pass(SECOND);
                let response = respond(&deploy.releases[release], request(&browser.cookies()), |session| {
                    assert_eq!(session.read(|shop| shop.user), Some(1), "{change:?}");
                    add(&session);
                    Response::new(())
                });
                assert_eq!((set(&response), removed(&response)), (vec![ID.cookie()], vec![]), "{change:?}");
                browser.receive(&response);
            }
            // Beside another one of its name, too.
            let both = format!("{}; {}", deploy.session(1), deploy.session(2));
            assert_eq!(removed(&visit(&deploy.releases[2], &both, add).1), [], "{change:?}");
            // And a sign-out removes it once.
            let (_, response) = visit(&deploy.releases[2], &deploy.session(1), clear);
            assert_eq!(removed(&response), [ID.cookie()], "{change:?}");
            assert_eq!(set(&response), [ID.marker()], "{change:?}");
        }
    }

    #[test]
    fn a_release_that_knows_the_other_seal_no_more_leaves_it_alone() {
        for change in changes() {
            let deploy = Deploy::of(change);
            let strange = deploy.session(2);
            let (incoming, response) = visit(&deploy.releases[0], &strange, Session::incoming);
            assert!(matches!(incoming, Incoming::Rejected(_)), "{incoming:?}");
            assert_eq!(lines(&response), [""; 0]);
        }
    }

    #[test]
    fn three_contexts_of_one_cookie_are_read_each_until_its_date() {
        let (clock, ring) = (Clock::new(), ring());
        let context = |context| builder_over::<Shop>(ring.clone(), &clock).name("id").context(context);
        let dates = [HOUR, 2 * HOUR].map(|left| clock.now() + left);
        let layer = context("c")
            .formerly(Identity::current().context("a").until(dates[0]))
            .formerly(Identity::current().context("b").until(dates[1]))
            .build()
            .unwrap();
        let writers = ["a", "b", "c", "d"].map(|name| context(name).build().unwrap());
        for (now, accepted) in [
            (dates[0] - MILLI, [true, true, true, false]),
            (dates[0], [false, true, true, false]),
            (dates[1], [false, false, true, false]),
        ] {
            clock.set(now);
            for (writer, accepted) in writers.iter().zip(accepted) {
                let cookie = sent(&writer.codec().seal(&user(1), None, None, now).unwrap());
                assert_eq!(who(&layer, &cookie), accepted.then_some(1));
            }
        }
    }
}

/// What a sibling host can do, which can set cookies for the parent domain, but none with the prefix `__Host-`.
mod tossed_in {
    use super::*;

    const ATTACKER: u64 = 666;

    #[test]
    fn an_old_cookie_never_beats_the_prefixed_one() {
        for change in [PREFIX, SEVERAL] {
            let deploy = Deploy::of(change);
            let victims = deploy.session(2);
            deploy.clock.pass(HOUR);
            // A good one, of her own account, and newer.
            let tossed = deploy.session_of(1, ATTACKER);
            for release in [1, 2] {
                for cookies in [format!("{tossed}; {victims}"), format!("{victims}; {tossed}")] {
                    assert_eq!(deploy.who(release, &cookies), Some(1), "{change:?}");
                }
                let many = vec![tossed.as_str(); 20].join("; ");
                assert_eq!(deploy.who(release, &format!("{many}; {victims}")), Some(1), "{change:?}");
            }
            // The next write removes it, if she set it where the old one was.
            let (_, response) = visit(&deploy.releases[2], &format!("{tossed}; {victims}"), add);
            assert_eq!(removed(&response), [change.old.cookie()]);
        }
    }

    /// What stays possible until the date, and is no longer afterwards.
    #[test]
    fn until_the_date_an_old_cookie_is_taken_where_there_is_no_prefixed_one() {
        for change in [PREFIX, SEVERAL] {
            let deploy = Deploy::of(change);
            deploy.clock.set(deploy.until - SECOND);
            let tossed = deploy.session_of(1, ATTACKER);
            assert_eq!(deploy.who(2, &tossed), Some(ATTACKER), "{change:?}");
            let (_, response) = visit(&deploy.releases[2], &tossed, add);
            let moved = pair(&response, &change.new.cookie());
            deploy.clock.set(deploy.until);
            assert_eq!(deploy.who(2, &tossed), None, "{change:?}");
            // What has moved before is a session like any other.
            assert_eq!(deploy.who(2, &moved), Some(ATTACKER), "{change:?}");
        }
    }

    /// Under the prefixed name nothing in the old seal is good.
    #[test]
    fn an_old_session_is_none_under_the_new_name() {
        for change in [PREFIX, SEVERAL] {
            let deploy = Deploy::of(change);
            for [from, to] in [[1, 2], [2, 1]] {
                let names = [change.old.name, change.new.name];
                let renamed = deploy.session(from).replacen(names[from - 1], names[to - 1], 1);
                for release in [1, 2] {
                    assert!(
                        matches!(incoming(&deploy.releases[release], &renamed), Incoming::Rejected(_)),
                        "{change:?}"
                    );
                }
            }
        }
    }
}

mod without_a_date {
    use super::*;

    #[test]
    fn an_identity_is_removed_and_marked_and_not_read() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let layer = deploy.new_with([change.old.identity()]);
            let old = deploy.session(1);
            let (incoming, response) = visit(&layer, &old, Session::incoming);
            assert_ne!(incoming, Incoming::Accepted, "{change:?}");
            assert_eq!(lines(&response), [""; 0], "{change:?}");
            // The first write meets one alone, the second both.
            assert_eq!(removed(&visit(&layer, &old, add).1), [], "{change:?}");
            let new = deploy.session(2);
            let one = change.is_one_cookie();
            let gone = if one { vec![] } else { vec![change.old.cookie()] };
            assert_eq!(removed(&visit(&layer, &format!("{old}; {new}"), add).1), gone, "{change:?}");
            // Nor is a re-issue a write.
            deploy.clock.pass(THRESHOLD);
            assert_eq!(removed(&visit(&layer, &format!("{old}; {new}"), read).1), [], "{change:?}");
            let (_, response) = visit(&layer, &new, clear);
            assert!(removed(&response).contains(&change.old.cookie()), "{change:?}");
            assert!(set(&response).contains(&change.old.marker()), "{change:?}");
            // That marker is one that a release reads which writes the old identity.
            let marker = pair(&response, &change.old.marker());
            let release = if one { 1 } else { 0 };
            assert_eq!(deploy.who(release, &format!("{old}; {marker}")), None, "{change:?}");
            assert_eq!(deploy.who(release, &old), Some(1), "{change:?}");
        }
    }

    #[test]
    fn a_cookie_in_it_that_no_key_opens_sends_no_marker() {
        for change in told_apart().into_iter().filter(|change| change.old.name != change.new.name) {
            let deploy = Deploy::of(change);
            let layer = deploy.new_with([change.old.identity()]);
            assert_eq!(set(&visit(&layer, &deploy.session(1), clear).1), [], "{change:?}");
        }
    }
}

mod counted {
    use super::*;

    #[test]
    fn an_unknown_key_counts_once_a_cookie_however_many_seals_it_could_have() {
        for change in [CONTEXT, MODE, NAME, PREFIX, SEVERAL] {
            let deploy = Deploy::of(change);
            let strange = Deploy::of(change);
            let [old, new] = [1, 2].map(|release| strange.session(release));
            for (cookies, count) in [
                (old.clone(), 1),
                (new.clone(), 1),
                (format!("{old}; {new}; {old}"), 3),
                (vec![new; 20].join("; "), 20),
            ] {
                let counters = || deploy.releases[2].keys().counters();
                let before = counters();
                let unknown = Incoming::Rejected(RejectedKind::UnknownKey);
                assert_eq!(incoming(&deploy.releases[2], &cookies), unknown, "{change:?}");
                let after = counters();
                assert_eq!(after.unknown_keys - before.unknown_keys, count, "{change:?}");
                // One request is one rejection.
                let kind = RejectedKind::UnknownKey;
                assert_eq!(rejected(&after, kind) - rejected(&before, kind), 1, "{change:?}");
            }
        }
    }

    #[test]
    fn what_is_accepted_in_another_identity_is_no_rejection() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let old = deploy.session(1);
            let before = deploy.releases[2].keys().counters();
            let opened = open(&deploy.releases[2], &old, deploy.clock.now());
            assert_eq!(opened.incoming(), Incoming::Accepted);
            assert_eq!(incoming(&deploy.releases[2], &old), Incoming::Accepted);
            let after = deploy.releases[2].keys().counters();
            assert_eq!(after, before, "{change:?}");
        }
    }

    #[test]
    fn the_reason_of_the_one_that_got_furthest_is_said() {
        let deploy = Deploy::of(NAME);
        let old = deploy.session(1);
        let expired = deploy.session(2);
        deploy.clock.pass(DAY);
        for (cookies, kind) in [
            (format!("{expired}; {}", forged(&old)), RejectedKind::Expired),
            (format!("{}; {old}", forged(&expired)), RejectedKind::Expired),
            (format!("{}; sid=AAAA", forged(&expired)), RejectedKind::NotAuthentic),
            ("sid=!".to_owned(), RejectedKind::Malformed),
            (format!("sid={}", "A".repeat(4097)), RejectedKind::TooLong),
        ] {
            assert_eq!(incoming(&deploy.releases[2], &cookies), Incoming::Rejected(kind), "{cookies}");
        }
    }

    /// The eight are of one name, and of each seal that it may have a cookie counts once.
    #[test]
    fn eight_of_each_name_are_looked_at() {
        for change in [NAME, CONTEXT] {
            let deploy = Deploy::of(change);
            let [old, new] = [1, 2].map(|release| deploy.session(release));
            let bad = [&old, &new].map(|cookie| forged(cookie));
            for (release, cookie, bad) in [(2, &old, &bad[0]), (1, &new, &bad[1])] {
                for (count, id) in [(7, Some(1)), (8, None)] {
                    let cookies = format!("{}; {cookie}", vec![bad.as_str(); count].join("; "));
                    assert_eq!(deploy.who(release, &cookies), id, "{change:?} {count}");
                }
            }
        }
        let deploy = Deploy::of(NAME);
        let [old, new] = [1, 2].map(|release| deploy.session(release));
        let many = vec![forged(&new); 20].join("; ");
        assert_eq!(deploy.who(2, &format!("{many}; {old}")), Some(1));
    }
}

mod at_the_same_time {
    use super::*;

    /// The keys rotate while the identity changes: a session moves to both at once.
    #[test]
    fn a_rotation_of_keys() {
        for change in told_apart() {
            let (clock, keys) = (Clock::new(), [key(), key()]);
            let rings = [[0, 1], [1, 0]]
                .map(|[primary, other]| KeyRing::new(keys[primary].clone(), [keys[other].clone()]).unwrap());
            let until = clock.now() + DAY;
            let layer = |form: Form, ring: &KeyRing, other: Form| {
                let builder = form.written(builder_over::<Shop>(ring.clone(), &clock));
                builder.formerly(other.identity().until(until)).build().unwrap()
            };
            let before = layer(change.old, &rings[0], change.new);
            let after = layer(change.new, &rings[1], change.old);
            let old = sent(&before.codec().seal(&user(1), None, None, clock.now()).unwrap());
            assert_eq!(meta(&after, &old, clock.now()).key_id(), keys[0].id());
            clock.pass(THRESHOLD - MILLI);
            assert_eq!(lines(&visit(&after, &old, read).1), [""; 0], "{change:?}");
            clock.pass(MILLI);
            let (_, response) = visit(&after, &old, read);
            let new = pair(&response, &change.new.cookie());
            assert_eq!(meta(&after, &new, clock.now()).key_id(), keys[1].id());
            assert_eq!(meta(&before, &new, clock.now()).key_id(), keys[1].id());
            // Those of a fallback are counted, in whatever identity: here the two reads.
            assert_eq!(after.keys().counters().opened_by_fallback, [(keys[0].id(), 2)], "{change:?}");
            // A sign-out by the new key holds at the neighbour.
            let (_, response) = visit(&after, &new, clear);
            for which in set(&response).into_iter().filter(|which| counts(&which.0, &old)) {
                assert_eq!(who(&before, &format!("{old}; {}", pair(&response, &which))), None, "{change:?}");
            }
        }
    }

    /// And in a running process.
    #[test]
    fn a_ring_that_is_replaced_holds_for_all_identities() {
        for change in told_apart() {
            let (clock, first, second) = (Clock::new(), key(), key());
            let handle = KeyRingHandle::new(KeyRing::new(first.clone(), []).unwrap());
            let until = clock.now() + DAY;
            let builder =
                change.new.written(SessionLayer::<Shop>::builder(handle.clone()).clock(clock.hook()));
            let layer = builder.formerly(change.old.identity().until(until)).build().unwrap();
            let writer = |key| {
                let ring = KeyRing::new(key, []).unwrap();
                change.old.written(builder_over::<Shop>(ring, &clock)).build().unwrap()
            };
            let cookie = |key| sent(&writer(key).codec().seal(&user(1), None, None, clock.now()).unwrap());
            let [one, two] = [&first, &second].map(|key| cookie(key.clone()));
            let seen = || [&one, &two].map(|cookie| who(&layer, cookie));
            assert_eq!(seen(), [Some(1), None], "{change:?}");
            handle.replace(KeyRing::new(second.clone(), [first.clone()]).unwrap());
            assert_eq!(seen(), [Some(1), Some(1)], "{change:?}");
            handle.replace(KeyRing::new(second, []).unwrap());
            assert_eq!(seen(), [None, Some(1)], "{change:?}");
        }
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Wide {
        user: Option<u64>,
        cart: Vec<u32>,
        note: String,
    }

    fn wide(old: Shop) -> Wide {
        Wide { user: old.user, cart: old.cart, note: String::new() }
    }

    /// The struct changes while the identity does: release 1 reads both forms and writes the old one, in the old
    /// identity, release 2 writes the new ones.
    #[test]
    fn a_new_form_of_the_struct() {
        for change in told_apart() {
            let (clock, ring) = (Clock::new(), ring());
            let until = clock.now() + DAY;
            let schema = |form: Form, other: Form| {
                let builder = form.written(builder_over::<Wide>(ring.clone(), &clock));
                builder.formerly(other.identity().until(until)).schema(2).migrate_from(1, wide)
            };
            let old = change.old.written(builder_over::<Shop>(ring.clone(), &clock)).build().unwrap();
            let narrow = |wide: &Wide| Shop { user: wide.user, cart: wide.cart.clone() };
            let first = schema(change.old, change.new).write_as(1, narrow).build().unwrap();
            let second = schema(change.new, change.old).build().unwrap();

            let cookie = sent(&old.codec().seal(&user(1), None, None, clock.now()).unwrap());
            clock.pass(SECOND);
            let (_, response) =
                visit(&first, &cookie, |session| session.update(|wide| wide.cart.push(1)).unwrap());
            let cookie = pair(&response, &change.old.cookie());
            assert_eq!(open(&old, &cookie, clock.now()).value().unwrap().cart, [1], "{change:?}");
            // Read, at the threshold: moved and migrated.
            clock.pass(THRESHOLD);
            let (_, response) = visit(&second, &cookie, |session| session.read(|_| ()));
            let moved = pair(&response, &change.new.cookie());
            let meta = meta(&second, &moved, clock.now());
            assert_eq!((meta.schema(), meta.issued_at()), (2, clock.now()), "{change:?}");
            // A write in the same millisecond would count as one a millisecond later.
            clock.pass(MILLI);
            let (_, response) =
                visit(&second, &moved, |session| session.update(|wide| wide.note.push('n')).unwrap());
            let moved = pair(&response, &change.new.cookie());
            // Back at the first of these: in the old identity, and the new field is kept.
            clock.pass(THRESHOLD);
            let (_, response) = visit(&first, &moved, |session| session.read(|_| ()));
            let back = pair(&response, &change.old.cookie());
            for layer in [&first, &second] {
                let opened = open(layer, &back, clock.now());
                assert_eq!(opened.meta().unwrap().schema(), 2, "{change:?}");
                let expected = Wide { user: Some(1), cart: vec![1], note: "n".to_owned() };
                assert_eq!(opened.value(), Some(&expected), "{change:?}");
            }
        }
    }
}

mod no_move {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Unfit {
        Passive,
        ServerError,
        Shared,
        Late,
    }

    #[test]
    fn where_nothing_is_re_issued_nothing_moves_but_by_a_write() {
        for change in told_apart() {
            for unfit in [Unfit::Passive, Unfit::ServerError, Unfit::Shared, Unfit::Late] {
                for writes in [false, true] {
                    let passive = matches!(unfit, Unfit::Passive);
                    let deploy = Deploy::with(change, |builder| builder.passive_if(move |_| passive));
                    let old = deploy.session(1);
                    deploy.clock.pass(THRESHOLD);
                    let response = respond(&deploy.releases[2], request(&old), |session| {
                        if writes {
                            add(&session)
                        } else {
                            read(&session)
                        }
                        let mut response = match unfit {
                            Unfit::ServerError => status(503),
                            _ => status(200),
                        };
                        match unfit {
                            Unfit::Shared => {
                                let public = HeaderValue::from_static("public, max-age=60");
                                response.headers_mut().insert(CACHE_CONTROL, public);
                            }
                            Unfit::Late => deploy.clock.pass(10 * SECOND + MILLI),
                            Unfit::Passive | Unfit::ServerError => {}
                        }
                        response
                    });
                    let case = format!("{change:?} {unfit:?}");
                    if writes && !matches!(unfit, Unfit::ServerError) {
                        assert_eq!(set(&response), [change.new.cookie()], "{case}");
                        assert_eq!(removed(&response).is_empty(), change.is_one_cookie(), "{case}");
                    } else {
                        assert_eq!(lines(&response), [""; 0], "{case}");
                    }
                }
            }
        }
    }

    /// At ten seconds it is not late yet, nor is one that is not due moved by being late.
    #[test]
    fn at_ten_seconds_a_head_is_not_late() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let old = deploy.session(1);
            deploy.clock.pass(THRESHOLD);
            let (_, response) = visit(&deploy.releases[2], &old, |session| {
                read(session);
                deploy.clock.pass(10 * SECOND);
            });
            assert_eq!(set(&response), [change.new.cookie()], "{change:?}");
        }
    }

    /// A session that fits under the old name and not under the new one stays, counted, until the date.
    #[test]
    fn what_does_not_fit_any_more_stays_until_the_date() {
        for change in [PREFIX, SEVERAL] {
            let deploy = Deploy::of(change);
            let mut large = user(1);
            while deploy.releases[1].codec().seal(&large, None, None, deploy.clock.now()).is_ok() {
                large.cart.push(u32::MAX);
            }
            large.cart.pop();
            let old = sent(&deploy.releases[1].codec().seal(&large, None, None, deploy.clock.now()).unwrap());
            deploy.clock.pass(THRESHOLD);
            let counted = || deploy.releases[2].keys().counters().reissues_too_large;
            let before = counted();
            let (id, response) = visit(&deploy.releases[2], &old, |session| session.read(|shop| shop.user));
            assert_eq!((id, lines(&response).len()), (Some(1), 0), "{change:?}");
            assert_eq!(counted(), before + 1);
            // A write that makes it smaller moves it.
            let (_, response) = visit(&deploy.releases[2], &old, |session| {
                session.update(|shop| shop.cart.clear()).unwrap();
            });
            assert_eq!(set(&response), [change.new.cookie()]);
        }
    }

    #[test]
    fn a_sign_out_goes_out_in_any_case() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let old = deploy.session(1);
            let response = respond(&deploy.releases[2], request(&old), |session| {
                clear(&session);
                status(503)
            });
            assert!(removed(&response).contains(&change.old.cookie()), "{change:?}");
            assert!(set(&response).contains(&change.new.marker()), "{change:?}");
        }
    }
}

mod without_a_server {
    use super::*;

    /// The codec says which cookies go with one that it seals.
    #[test]
    fn the_codec_moves_a_session_as_the_layer_does() {
        for change in told_apart() {
            let deploy = Deploy::of(change);
            let codec = deploy.releases[2].codec();
            let old = deploy.session(1);
            let opened = open(&deploy.releases[2], &old, deploy.clock.now());
            let superseded = codec.superseded(&opened);
            let response = response_of(&superseded);
            let gone = if change.is_one_cookie() { vec![] } else { vec![change.old.cookie()] };
            assert_eq!(removed(&response), gone, "{change:?}");
            let (_, by_layer) = visit(&deploy.releases[2], &old, clear);
            let removals = codec.removals(&opened, deploy.clock.now());
            assert_eq!(names(&response_of(removals.cookies())), names(&by_layer), "{change:?}");
            assert_eq!(removals.marker(), Some(deploy.clock.now()));
            // What came in the new identity alone supersedes nothing.
            let opened = open(&deploy.releases[2], &deploy.session(2), deploy.clock.now());
            assert!(codec.superseded(&opened).is_empty(), "{change:?}");
        }
    }

    fn response_of(cookies: &[cookie_session::SetCookie]) -> Response<()> {
        let mut response = Response::new(());
        for cookie in cookies {
            response.headers_mut().append(http::header::SET_COOKIE, cookie.header().clone());
        }
        response
    }
}
