//! A cookie whose Domain, Path, Partitioned or name has changed, in Chromium: to a browser it is
//! another cookie, so that it keeps both and sends both.

use axum::{
    Router,
    routing::{get, post},
};
use browser_tests::{Browser, Exchange, Gates, Server};
use cookie_session::{
    Identity, Key, KeyRing, KeyRingHandle, Session, SessionBuilder, SessionLayer, UpdateError,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Basket {
    items: u32,
}

async fn read(session: Session<Basket>) -> String {
    session.read(|basket| basket.items.to_string())
}

async fn add(session: Session<Basket>) -> Result<String, UpdateError> {
    session.update(|basket| {
        basket.items += 1;
        basket.items.to_string()
    })
}

async fn sign_out(session: Session<Basket>) -> &'static str {
    session.clear();
    "signed out"
}

/// A shop that is deployed in several versions, and one visitor's browser.
struct Shop {
    server: Server,
    browser: Browser,
    keys: KeyRingHandle,
    /// Moves with each request, so that no two cookies are of one age.
    milliseconds: Arc<AtomicU64>,
    name: &'static str,
}

impl Shop {
    fn open(name: &'static str) -> Shop {
        let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
        Shop {
            server: Server::start(Router::new()),
            browser: Browser::start(),
            keys: keys.into(),
            milliseconds: Arc::default(),
            name,
        }
    }

    /// Requests from now on meet a layer with these settings.
    fn deploy(&self, settings: impl FnOnce(SessionBuilder<Basket>) -> SessionBuilder<Basket>) {
        let (start, milliseconds) = (SystemTime::now(), Arc::clone(&self.milliseconds));
        let clock = move || start + Duration::from_millis(milliseconds.fetch_add(10, SeqCst));
        let builder = SessionLayer::builder(self.keys.clone()).name(self.name).clock(clock);
        let layer = settings(builder).build().unwrap();
        self.server.deploy(
            Router::new()
                .route("/read", get(read))
                .route("/add", post(add))
                .route("/sign-out", post(sign_out))
                .route("/app/read", get(read))
                .route("/app/add", post(add))
                .layer(layer)
                .route("/page", get(|| async { "a page" })),
        );
    }

    fn visit(&self, host: &str) {
        assert_eq!(self.browser.go(&self.server.url_on(host, "/page")), "a page");
    }

    #[track_caller]
    fn read(&self, path: &str) -> (String, Exchange) {
        (self.browser.get(path).ok(), self.server.last(path))
    }

    #[track_caller]
    fn add(&self, path: &str) -> (String, Exchange) {
        (self.browser.post(path).ok(), self.server.last(path))
    }

    /// The session cookies that the browser keeps.
    #[track_caller]
    fn kept(&self) -> usize {
        self.browser.cookies_named(self.name).len()
    }

    /// The sign-out markers that it keeps.
    #[track_caller]
    fn markers(&self) -> usize {
        self.browser.cookies_named(&format!("{}-out", self.name)).len()
    }

    /// How many session cookies came in.
    fn came_in(&self, exchange: &Exchange) -> usize {
        exchange.sent(self.name).len()
    }

    /// Signs out where both cookies are, and signs in again.
    #[track_caller]
    fn sign_out_and_begin_again(&self, path_of_both: &str) {
        assert_eq!(self.browser.post("/sign-out").ok(), "signed out");
        assert_eq!((self.kept(), self.markers()), (0, 2));
        let (items, exchange) = self.read(&format!("{path_of_both}/read"));
        assert_eq!((items.as_str(), self.came_in(&exchange)), ("0", 0));
        let add = format!("{path_of_both}/add");
        assert_eq!(self.add(&add).0, "1");
        assert_eq!(self.add(&add).0, "2", "a session after the sign-out is not signed out");
        assert_eq!(self.kept(), 1);
    }
}

#[test]
fn a_cookie_that_becomes_partitioned_is_replaced_and_signed_out_in_both_forms() {
    const NAME: &str = "__Host-Http-session";
    let plain = |builder: SessionBuilder<Basket>| builder;
    let partitioned = |builder: SessionBuilder<Basket>| builder.partitioned().formerly(Identity::named(NAME));
    let shop = Shop::open(NAME);
    shop.deploy(plain);
    shop.visit("localhost");
    assert_eq!(shop.add("/add").0, "1");

    // The old cookie is read, and the first write makes a second one.
    shop.deploy(partitioned);
    assert_eq!(shop.add("/add").0, "2");
    assert_eq!(shop.kept(), 2);
    assert!(shop.browser.cookies_named(NAME).iter().any(|cookie| cookie.partitioned));

    // Both come in, the old one first; the newest wins.
    let (items, exchange) = shop.read("/read");
    let [old, new] = exchange.sent(NAME)[..] else { panic!("{exchange:?}") };
    assert_eq!(items, "2");
    let kept = shop.browser.cookies_named(NAME);
    let partitioned_of =
        |value: &str| kept.iter().find(|cookie| cookie.value == value).expect("kept").partitioned;
    assert_eq!((partitioned_of(old), partitioned_of(new)), (false, true));

    // A step back in the deploy: now the old form is the newer cookie.
    shop.deploy(plain);
    assert_eq!(shop.add("/add").0, "3");
    shop.deploy(partitioned);
    let (items, exchange) = shop.read("/read");
    assert_eq!((items.as_str(), shop.came_in(&exchange)), ("3", 2));

    // A write that met both removes the former.
    assert_eq!(shop.add("/add").0, "4");
    let kept = shop.browser.cookies_named(NAME);
    assert!(matches!(&kept[..], [cookie] if cookie.partitioned), "{kept:?}");
    let (items, exchange) = shop.read("/read");
    assert_eq!((items.as_str(), shop.came_in(&exchange)), ("4", 1));

    // Both once more, for the sign-out.
    shop.deploy(plain);
    assert_eq!(shop.add("/add").0, "5");
    assert_eq!(shop.kept(), 2);
    shop.deploy(partitioned);
    shop.sign_out_and_begin_again("");
}

#[test]
fn a_cookie_that_moves_to_another_path_is_replaced_and_signed_out_at_both() {
    const NAME: &str = "__Http-session";
    let below = |builder: SessionBuilder<Basket>| builder.path("/app");
    let root = |builder: SessionBuilder<Basket>| builder.formerly(Identity::current().path("/app"));
    let shop = Shop::open(NAME);
    shop.deploy(below);
    shop.visit("localhost");
    assert_eq!(shop.add("/app/add").0, "1");
    let (items, exchange) = shop.read("/read");
    assert_eq!((items.as_str(), shop.came_in(&exchange)), ("0", 0), "it is not sent elsewhere");

    shop.deploy(root);
    assert_eq!(shop.add("/app/add").0, "2");
    assert_eq!(shop.kept(), 2);
    // The longer path stands first, for ever; the newest wins.
    let (items, exchange) = shop.read("/app/read");
    let [first, _] = exchange.sent(NAME)[..] else { panic!("{exchange:?}") };
    assert_eq!(items, "2");
    let kept = shop.browser.cookies_named(NAME);
    assert_eq!(kept.iter().find(|cookie| cookie.value == first).expect("kept").path, "/app");
    // Elsewhere the new one comes alone, and a write there removes nothing that it cannot know of.
    let (items, exchange) = shop.add("/add");
    assert_eq!((items.as_str(), shop.came_in(&exchange)), ("3", 1));
    assert_eq!(shop.kept(), 2);

    assert_eq!(shop.add("/app/add").0, "4");
    let kept = shop.browser.cookies_named(NAME);
    assert!(matches!(&kept[..], [cookie] if cookie.path == "/"), "{kept:?}");

    shop.deploy(below);
    assert_eq!(shop.add("/app/add").0, "5");
    assert_eq!(shop.kept(), 2);
    shop.deploy(root);
    // The longer path still stands first, and is the newest now: the place does not decide.
    let (items, exchange) = shop.read("/app/read");
    let [first, _] = exchange.sent(NAME)[..] else { panic!("{exchange:?}") };
    let kept = shop.browser.cookies_named(NAME);
    assert_eq!(kept.iter().find(|cookie| cookie.value == first).expect("kept").path, "/app");
    assert_eq!(items, "5");

    // Signed out at a place where the former one is not sent.
    shop.sign_out_and_begin_again("/app");
    assert_eq!(shop.came_in(&shop.server.last("/sign-out")), 1);
}

#[test]
fn a_sign_out_where_only_the_former_path_has_a_cookie_removes_it_unseen() {
    const NAME: &str = "__Http-session";
    let shop = Shop::open(NAME);
    shop.deploy(|builder| builder.path("/app"));
    shop.visit("localhost");
    assert_eq!(shop.add("/app/add").0, "1");
    shop.deploy(|builder| builder.formerly(Identity::current().path("/app")));
    assert_eq!(shop.browser.post("/sign-out").ok(), "signed out");
    assert_eq!(shop.came_in(&shop.server.last("/sign-out")), 0);
    assert_eq!(shop.kept(), 0);
    assert_eq!(shop.read("/app/read").0, "0");
}

#[test]
fn a_cookie_that_gets_a_domain_is_replaced_and_signed_out_in_both_forms() {
    const NAME: &str = "__Secure-session";
    const HOST: &str = "shop.example.localhost";
    let host_only = |builder: SessionBuilder<Basket>| builder;
    let domain =
        |builder: SessionBuilder<Basket>| builder.domain("example.localhost").formerly(Identity::named(NAME));
    let shop = Shop::open(NAME);
    shop.deploy(host_only);
    shop.visit(HOST);
    assert_eq!(shop.add("/add").0, "1");

    shop.deploy(domain);
    assert_eq!(shop.add("/add").0, "2");
    let mut domains: Vec<_> =
        shop.browser.cookies_named(NAME).into_iter().map(|cookie| cookie.domain).collect();
    domains.sort();
    assert_eq!(domains, [".example.localhost", HOST]);
    let (items, exchange) = shop.read("/read");
    assert_eq!((items.as_str(), shop.came_in(&exchange)), ("2", 2));

    assert_eq!(shop.add("/add").0, "3");
    let kept = shop.browser.cookies_named(NAME);
    assert!(matches!(&kept[..], [cookie] if cookie.domain == ".example.localhost"), "{kept:?}");

    shop.deploy(host_only);
    assert_eq!(shop.add("/add").0, "4");
    assert_eq!(shop.kept(), 2);
    shop.deploy(domain);
    shop.sign_out_and_begin_again("");

    // What a Domain is for: a sister site has the session too.
    shop.visit("help.example.localhost");
    assert_eq!(shop.read("/read").0, "2");
    // And what it costs: she can sign it out.
    assert_eq!(shop.browser.post("/sign-out").ok(), "signed out");
    shop.visit(HOST);
    assert_eq!(shop.read("/read").0, "0");
}

#[test]
fn a_cookie_of_a_former_name_is_removed_by_the_first_write_that_meets_both() {
    const NAME: &str = "__Host-Http-session";
    let shop = Shop::open(NAME);
    shop.deploy(|builder| builder.name("session").insecure_for_local_http());
    shop.visit("localhost");
    assert_eq!(shop.add("/add").0, "1");

    // The name is in the seal, so the session begins again; what came in under it stays a while.
    let now = |builder: SessionBuilder<Basket>| builder.formerly(Identity::named("session"));
    shop.deploy(now);
    assert_eq!(shop.add("/add").0, "1");
    assert_eq!((shop.kept(), shop.browser.cookies_named("session").len()), (1, 1));
    assert_eq!(shop.add("/add").0, "2");
    assert_eq!((shop.kept(), shop.browser.cookies_named("session").len()), (1, 0));
}

#[test]
fn a_cookie_tossed_in_by_a_sister_site_neither_wins_nor_ends_the_session() {
    const NAME: &str = "__Secure-session";
    let shop = Shop::open(NAME);
    shop.deploy(|builder| builder);
    shop.visit("evil.example.localhost");
    // Older and at a longer path, so that it stands first.
    shop.browser.run(
        "document.cookie = arguments[0] + '=tossed; Secure; Domain=example.localhost; Path=/app'",
        serde_json::json!([NAME]),
    );
    assert_eq!(shop.kept(), 1);
    shop.visit("shop.example.localhost");
    assert_eq!(shop.add("/app/add").0, "1");
    let (items, exchange) = shop.add("/app/add");
    assert_eq!(exchange.sent(NAME)[0], "tossed");
    assert_eq!((items.as_str(), shop.came_in(&exchange)), ("2", 2));
    assert_eq!(shop.read("/app/read").0, "2");

    // Under the prefix of the default name it would not even arrive.
    shop.visit("evil.example.localhost");
    shop.browser.run(
        "document.cookie = '__Host-Http-session=tossed; Secure; Domain=example.localhost; Path=/'; \
         document.cookie = '__Host-Http-session=tossed; Secure; Path=/'",
        serde_json::json!([]),
    );
    assert_eq!(shop.browser.cookies_named("__Host-Http-session"), []);
}

const HOST: &str = "shop.example.localhost";
const SIBLING: &str = "help.example.localhost";
const OLD: &str = "session";
const NEW: &str = "__Host-Http-session";

/// From a cookie of a parent domain to one of this host alone: release 0 knows the old one, release 1 writes it and
/// accepts the new one, release 2 writes the new one and accepts the old one, until a date.
struct Move {
    shop: Shop,
    until: SystemTime,
}

impl Move {
    fn begin() -> Move {
        Move { shop: Shop::open(NEW), until: SystemTime::now() + Duration::from_secs(30 * 24 * 60 * 60) }
    }

    fn deploy(&self, release: usize) {
        self.deploy_until(release, self.until);
    }

    fn deploy_until(&self, release: usize, until: SystemTime) {
        let parent = "example.localhost";
        self.shop.deploy(|builder| match release {
            0 => builder.name(OLD).domain(parent),
            1 => builder.name(OLD).domain(parent).formerly(Identity::named(NEW).until(until)),
            _ => builder.formerly(Identity::named(OLD).domain(parent).until(until)),
        });
    }

    /// What is left of the re-issue threshold passes.
    fn pass(&self) {
        self.shop.milliseconds.fetch_add(3 * 60 * 60 * 1000, SeqCst);
    }

    /// The cookies that the browser keeps: name and domain.
    #[track_caller]
    fn kept(&self) -> Vec<(String, String)> {
        let cookies = self.shop.browser.cookies();
        assert!(cookies.iter().all(|cookie| cookie.secure && cookie.path == "/"), "{cookies:?}");
        let mut kept: Vec<_> = cookies.into_iter().map(|cookie| (cookie.name, cookie.domain)).collect();
        kept.sort();
        kept
    }

    #[track_caller]
    fn keeps(&self, expected: &[(&str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(name, domain)| ((*name).to_owned(), (*domain).to_owned())).collect();
        assert_eq!(self.kept(), expected);
    }

    /// A request that reads: what it sees, and that its response sets no cookie.
    #[track_caller]
    fn sees(&self, items: &str) {
        let (seen, exchange) = self.shop.read("/read");
        assert_eq!(seen, items);
        assert_eq!(exchange.set_cookies, [""; 0]);
    }

    #[track_caller]
    fn add(&self, items: &str) {
        assert_eq!(self.shop.add("/add").0, items);
    }

    #[track_caller]
    fn sign_out(&self) {
        assert_eq!(self.shop.browser.post("/sign-out").ok(), "signed out");
    }
}

const PARENT: &str = ".example.localhost";
const OF_PARENT: (&str, &str) = (OLD, PARENT);
const OF_HOST: (&str, &str) = (NEW, HOST);
const MARKERS: [(&str, &str); 2] = [("__Host-Http-session-out", HOST), ("session-out", PARENT)];

#[test]
fn a_session_moves_from_a_parent_domain_to_the_prefixed_name_and_back() {
    let moved = Move::begin();
    moved.deploy(0);
    moved.shop.visit(HOST);
    moved.add("1");
    moved.deploy(1);
    moved.sees("1");
    moved.add("2");
    moved.keeps(&[OF_PARENT]);

    // Not at once, but with the next write.
    moved.deploy(2);
    moved.sees("2");
    moved.add("3");
    moved.keeps(&[OF_HOST]);
    let cookies = moved.shop.browser.cookies_named(NEW);
    assert!(matches!(&cookies[..], [cookie] if cookie.http_only), "{cookies:?}");
    moved.sees("3");

    // A neighbour that has not been replaced yet, and a step back in the deploy.
    moved.deploy(1);
    moved.sees("3");
    moved.add("4");
    moved.keeps(&[OF_PARENT]);
    moved.deploy(0);
    moved.sees("4");

    // A read moves it when it is old enough.
    moved.deploy(2);
    moved.pass();
    assert_eq!(moved.shop.read("/read").0, "4");
    moved.keeps(&[OF_HOST]);
    moved.deploy(1);
    moved.sees("4");
    moved.pass();
    assert_eq!(moved.shop.read("/read").0, "4");
    moved.keeps(&[OF_PARENT]);

    // After the date what has moved is there, and what has not is not.
    moved.deploy_until(2, SystemTime::UNIX_EPOCH);
    moved.sees("0");
    moved.deploy(2);
    moved.add("5");
    moved.deploy_until(2, SystemTime::UNIX_EPOCH);
    moved.sees("5");
    moved.add("6");
    moved.keeps(&[OF_HOST]);
}

#[test]
fn a_sign_out_at_either_release_leaves_no_session_in_either_cookie() {
    let moved = Move::begin();
    moved.deploy(0);
    moved.shop.visit(HOST);
    for (begun, out) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        moved.deploy(begun);
        moved.add("1");
        moved.deploy(out);
        moved.sees("1");
        moved.sign_out();
        moved.keeps(&MARKERS);
        for release in [0, 1, 2] {
            moved.deploy(release);
            moved.sees("0");
        }
        // A session that begins after it is not signed out, wherever that is.
        moved.deploy(3 - out);
        moved.add("1");
        moved.deploy(out);
        moved.add("2");
        moved.sign_out();
        moved.keeps(&MARKERS);
    }
}

#[test]
fn a_slow_response_of_the_other_release_brings_no_session_back() {
    let moved = Move::begin();
    moved.deploy(0);
    moved.shop.visit(HOST);
    for (slow, out, back) in [(1, 2, OF_PARENT), (0, 2, OF_PARENT), (2, 1, OF_HOST)] {
        moved.shop.browser.forget();
        moved.deploy(slow);
        moved.add("1");
        let gate = moved.shop.server.hold_response("slow");
        moved.shop.browser.begin("POST", "/add", &[(Gates::RESPONSE, "slow")]);
        gate.wait();
        moved.deploy(out);
        moved.sign_out();
        moved.keeps(&MARKERS);
        gate.open();
        assert_eq!(moved.shop.browser.finish("POST", "/add").ok(), "2");
        let kept = moved.kept();
        assert!(kept.contains(&(back.0.to_owned(), back.1.to_owned())), "the cookie is back: {kept:?}");
        for release in [slow, out] {
            moved.deploy(release);
            moved.sees("0");
        }
        // A session that begins takes its place.
        moved.deploy(2);
        moved.add("1");
        moved.sees("1");
        assert_eq!(moved.shop.browser.cookies_named(OLD), []);
    }
}

/// What the move costs: the cookie of a parent domain is that of all hosts below it.
#[test]
fn the_removal_of_a_parent_domains_cookie_signs_the_sibling_hosts_out() {
    let moved = Move::begin();
    moved.deploy(0);
    moved.shop.visit(HOST);
    moved.add("1");
    moved.shop.visit(SIBLING);
    moved.sees("1");
    moved.deploy(2);
    moved.sees("1");

    moved.shop.visit(HOST);
    moved.add("2");
    moved.shop.visit(SIBLING);
    moved.sees("0");
    // From now on each has its own.
    moved.add("1");
    moved.keeps(&[(NEW, SIBLING), OF_HOST]);
    moved.shop.visit(HOST);
    moved.sees("2");
    // The marker of the old identity is the parent domain's; it counts against no prefixed name, so not at the sibling.
    moved.sign_out();
    moved.sees("0");
    moved.shop.visit(SIBLING);
    moved.sees("1");
}

#[test]
fn an_old_cookie_that_a_sibling_host_tosses_in_counts_only_where_there_is_no_prefixed_one() {
    let moved = Move::begin();
    moved.deploy(2);
    moved.shop.visit(HOST);
    moved.add("1");
    let good = moved.shop.browser.cookies_named(NEW);
    moved.shop.browser.forget();
    // One of the attacker's own, which is newer.
    moved.deploy(0);
    moved.shop.visit(SIBLING);
    for items in ["1", "2", "3"] {
        moved.add(items);
    }
    let value = moved.shop.browser.cookies_named(OLD)[0].value.clone();
    let toss = || {
        moved.shop.visit(SIBLING);
        let script = "document.cookie = `session=${arguments[0]}; Secure; Domain=example.localhost; Path=/`";
        moved.shop.browser.run(script, serde_json::json!([value]));
        moved.shop.visit(HOST);
    };
    moved.shop.browser.forget();
    moved.shop.browser.keep(&good[0], &moved.shop.server.url_on(HOST, "/"));

    moved.deploy(2);
    toss();
    moved.keeps(&[OF_HOST, OF_PARENT]);
    for release in [1, 2] {
        moved.deploy(release);
        moved.sees("1");
    }
    assert_eq!(moved.shop.server.last("/read").sent(OLD), [value.as_str()]);
    moved.add("2");
    moved.keeps(&[OF_HOST]);

    // Where there is none it counts, until the date.
    moved.shop.browser.forget();
    toss();
    moved.sees("3");
    moved.deploy_until(2, SystemTime::UNIX_EPOCH);
    moved.sees("0");
    // The sibling host cannot set the prefixed one.
    moved.shop.visit(SIBLING);
    let script =
        "document.cookie = `__Host-Http-session=${arguments[0]}; Secure; Domain=example.localhost; Path=/`";
    moved.shop.browser.run(script, serde_json::json!([value]));
    assert_eq!(moved.shop.browser.cookies_named(NEW), []);
}
