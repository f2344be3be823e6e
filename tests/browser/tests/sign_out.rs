//! A sign-out holds in Chromium, also against responses that overtake it or come long after it.

use axum::{
    Router,
    extract::{Path, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use browser_tests::{Browser, Curl, Gate, Gates, Server};
use cookie_session::{
    Identity, Key, KeyRing, KeyRingHandle, Session, SessionBuilder, SessionLayer, UpdateError,
};
use std::time::SystemTime;

const NAME: &str = "__Host-Http-session";
const MARKER: &str = "__Host-Http-session-out";

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Account {
    user: Option<String>,
    clicks: u32,
}

async fn sign_in(session: Session<Account>, Path(user): Path<String>) -> Result<&'static str, UpdateError> {
    session.renew()?;
    session.update(|account| account.user = Some(user))?;
    Ok("signed in")
}

async fn sign_out(session: Session<Account>) -> &'static str {
    session.clear();
    "signed out"
}

async fn switch(session: Session<Account>, Path(user): Path<String>) -> Result<&'static str, UpdateError> {
    session.clear();
    session.update(|account| account.user = Some(user))?;
    Ok("switched")
}

async fn sign_out_and_fail(session: Session<Account>) -> (StatusCode, &'static str) {
    session.clear();
    (StatusCode::INTERNAL_SERVER_ERROR, "the rest went wrong")
}

async fn click(session: Session<Account>) -> Result<&'static str, UpdateError> {
    session.update(|account| account.clicks += 1)?;
    Ok("clicked")
}

async fn renew(session: Session<Account>) -> Result<&'static str, UpdateError> {
    session.renew()?;
    Ok("renewed")
}

/// Who is signed in, and what became of the cookie.
async fn who(session: Session<Account>) -> String {
    let user = session.read(|account| account.user.clone().unwrap_or_else(|| "nobody".to_owned()));
    format!("{user}, {:?}", session.incoming())
}

/// Holds a request back when its handler is through, but before the session is committed.
async fn hold(State(gates): State<Gates>, request: Request, next: Next) -> Response {
    let gate = gates.asked_for(request.headers(), Gates::HANDLER);
    let response = next.run(request).await;
    if let Some(gate) = gate {
        gate.wait().await;
    }
    response
}

/// Where a slow response is held back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    /// In the handler: its cookie is sealed after the sign-out's.
    BeforeTheHead,
    /// On the wire: its cookie was sealed before.
    BehindTheHead,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    Runs,
    /// Everything happens in one and the same millisecond.
    Stands,
}

/// The server, and one visitor's browser.
struct Site {
    server: Server,
    browser: Browser,
    gates: Gates,
    keys: KeyRingHandle,
}

impl Site {
    fn open() -> Site {
        let gates = Gates::default();
        let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
        Site {
            server: Server::with_gates(Router::new(), gates.clone()),
            browser: Browser::start(),
            gates,
            keys: keys.into(),
        }
    }

    /// Requests from now on meet a layer with these settings.
    fn deploy(
        &self,
        settings: impl FnOnce(SessionBuilder<Account>) -> SessionBuilder<Account>,
    ) -> SessionLayer<Account> {
        let layer = settings(SessionLayer::builder(self.keys.clone())).build().unwrap();
        let routes = Router::new()
            .route("/sign-in/{user}", post(sign_in))
            .route("/switch/{user}", post(switch))
            .route("/sign-out", post(sign_out))
            .route("/sign-out-and-fail", post(sign_out_and_fail))
            .route("/click", post(click))
            .route("/renew", post(renew))
            .route("/who", get(who));
        let app = Router::new()
            .nest("/app", routes.clone())
            .merge(routes)
            .layer(middleware::from_fn_with_state(self.gates.clone(), hold))
            .layer(layer.clone())
            .route("/page", get(|| async { "a page" }));
        self.server.deploy(app);
        layer
    }

    /// A browser without cookies at a server with the default settings.
    fn begin(&self, clock: Clock) -> SessionLayer<Account> {
        let started = SystemTime::now();
        let layer = self.deploy(|builder| match clock {
            Clock::Runs => builder,
            Clock::Stands => builder.clock(move || started),
        });
        assert_eq!(self.browser.go(&self.server.url("/page")), "a page");
        self.browser.forget();
        layer
    }

    #[track_caller]
    fn post(&self, path: &str) {
        self.browser.post(path).ok();
    }

    #[track_caller]
    fn who(&self) -> String {
        self.browser.get("/who").ok()
    }

    /// A request that is under way until `arrives`.
    #[track_caller]
    fn slow(&self, path: &'static str, held: Held) -> Slow<'_> {
        let (gate, header) = match held {
            Held::BeforeTheHead => (self.gates.set_up(path), Gates::HANDLER),
            Held::BehindTheHead => (self.gates.set_up(path), Gates::RESPONSE),
        };
        self.browser.begin("POST", path, &[(header, path)]);
        gate.wait();
        Slow { site: self, path, gate }
    }
}

struct Slow<'s> {
    site: &'s Site,
    path: &'static str,
    gate: Gate,
}

impl Slow<'_> {
    /// The response comes at last, and brings the session back into the browser.
    #[track_caller]
    fn arrives(self) {
        self.gate.open();
        self.site.browser.finish("POST", self.path).ok();
        let exchange = self.site.server.last(self.path);
        let [cookie] = exchange.set(NAME)[..] else { panic!("{exchange:?}") };
        let kept = self.site.browser.cookies_named(NAME);
        let [kept] = &kept[..] else { panic!("{kept:?}") };
        assert!(cookie.starts_with(&format!("{NAME}={};", kept.value)), "the browser took it");
    }
}

const CASES: [(Clock, Held); 4] = [
    (Clock::Runs, Held::BeforeTheHead),
    (Clock::Runs, Held::BehindTheHead),
    (Clock::Stands, Held::BeforeTheHead),
    (Clock::Stands, Held::BehindTheHead),
];

#[test]
fn a_slow_response_that_comes_after_the_sign_out_signs_nobody_in() {
    let site = Site::open();
    for (clock, held) in CASES {
        for slow_path in ["/click", "/renew"] {
            let case = format!("{clock:?} {held:?} {slow_path}");
            site.begin(clock);
            site.post("/sign-in/ada");
            assert_eq!(site.who(), "ada, Accepted", "{case}");

            let slow = site.slow(slow_path, held);
            site.post("/sign-out");
            assert_eq!(site.browser.cookies_named(NAME), [], "{case}");
            assert_eq!(site.browser.cookies_named(MARKER).len(), 1, "{case}");
            assert_eq!(site.who(), "nobody, Absent", "{case}");
            slow.arrives();
            assert_eq!(site.who(), "nobody, Rejected(SignedOut)", "{case}");

            // It is left alone: removing it again could undo a sign-in that is under way.
            assert_eq!(site.server.last("/who").set_cookies, [""; 0], "{case}");
            assert_eq!(site.browser.cookies_named(NAME).len(), 1, "{case}");
            // A write begins another session.
            site.post("/click");
            assert_eq!(site.who(), "nobody, Accepted", "{case}");
        }
    }
}

#[test]
fn a_write_sent_before_the_response_of_the_sign_out_came_signs_nobody_in() {
    let site = Site::open();
    for (clock, held) in CASES {
        site.begin(clock);
        site.post("/sign-in/ada");
        let gate = site.server.hold_response("out");
        site.browser.begin("POST", "/sign-out", &[(Gates::RESPONSE, "out")]);
        gate.wait();
        // The server has signed her out, but the browser does not know yet.
        let slow = site.slow("/renew", held);
        gate.open();
        site.browser.finish("POST", "/sign-out").ok();
        slow.arrives();
        assert_eq!(site.who(), "nobody, Rejected(SignedOut)", "{clock:?} {held:?}");
    }
}

#[test]
fn slow_responses_stay_signed_out_after_a_second_user_has_come_and_gone() {
    let site = Site::open();
    for (clock, held) in CASES {
        let case = format!("{clock:?} {held:?}");
        site.begin(clock);
        site.post("/sign-in/ada");
        let of_ada = site.slow("/click", held);
        site.post("/sign-out");
        site.post("/sign-in/bob");
        assert_eq!(site.who(), "bob, Accepted", "{case}");
        let of_bob = site.slow("/renew", held);
        site.post("/sign-out");
        assert_eq!(site.who(), "nobody, Absent", "{case}");
        of_ada.arrives();
        assert_eq!(site.who(), "nobody, Rejected(SignedOut)", "{case}");
        of_bob.arrives();
        assert_eq!(site.who(), "nobody, Rejected(SignedOut)", "{case}");
        site.post("/sign-in/eve");
        assert_eq!(site.who(), "eve, Accepted", "{case}");
    }
}

#[test]
fn a_slow_response_of_the_first_user_does_not_come_back_while_a_second_is_signed_in() {
    let site = Site::open();
    for (clock, held) in CASES {
        let case = format!("{clock:?} {held:?}");
        site.begin(clock);
        site.post("/sign-in/ada");
        let slow = site.slow("/click", held);
        site.post("/sign-out");
        site.post("/sign-in/bob");
        // It takes the cookie's place, so bob's sign-in is lost; but ada's is not back.
        slow.arrives();
        assert_eq!(site.who(), "nobody, Rejected(SignedOut)", "{case}");
        site.post("/sign-in/bob");
        assert_eq!(site.who(), "bob, Accepted", "{case}");
    }
}

#[test]
fn a_switch_of_users_holds_against_slow_responses_too() {
    let site = Site::open();
    for (clock, held) in CASES {
        let case = format!("{clock:?} {held:?}");
        site.begin(clock);
        site.post("/sign-in/ada");
        let slow = site.slow("/renew", held);
        site.post("/switch/bob");
        assert_eq!(site.who(), "bob, Accepted", "{case}");
        slow.arrives();
        assert_eq!(site.who(), "nobody, Rejected(SignedOut)", "{case}");
    }
}

#[test]
fn a_sign_in_after_a_sign_out_is_created_after_the_marker() {
    let site = Site::open();
    for clock in [Clock::Runs, Clock::Stands] {
        let layer = site.begin(clock);
        let mut marker = SystemTime::UNIX_EPOCH;
        for round in 0..3 {
            site.post("/sign-in/ada");
            assert_eq!(site.who(), "ada, Accepted", "{clock:?}");
            // What the browser sends, opened as the layer does.
            let sent = site.server.last("/who").cookies;
            let pairs: Vec<_> = sent.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let headers = axum::http::HeaderMap::from_iter([(
                axum::http::header::COOKIE,
                pairs.join("; ").parse().expect("a header"),
            )]);
            let opened = layer.codec().open(&headers, SystemTime::now());
            let created_at = opened.meta().expect("a session").created_at();
            if round > 0 {
                let its = opened.marker().expect("a marker");
                assert!(its > marker, "each marker is later than the one before");
                assert!(created_at > its, "{clock:?}");
                marker = its;
            }
            site.post("/sign-out");
            assert_eq!(site.who(), "nobody, Absent", "{clock:?}");
        }
        assert_eq!(site.browser.cookies_named(MARKER).len(), 1);
    }
}

#[test]
fn the_marker_is_kept_as_the_session_cookie_is_and_longer() {
    let site = Site::open();
    site.begin(Clock::Runs);
    site.post("/sign-in/ada");
    let [session] = &site.browser.cookies_named(NAME)[..] else { panic!("one session cookie") };
    site.post("/sign-out");
    let [marker] = &site.browser.cookies_named(MARKER)[..] else { panic!("one marker") };
    let attributes = |cookie: &browser_tests::StoredCookie| {
        (
            cookie.domain.clone(),
            cookie.path.clone(),
            cookie.http_only,
            cookie.secure,
            cookie.same_site.clone(),
            cookie.partitioned,
        )
    };
    assert_eq!(attributes(marker), attributes(session));
    assert_eq!(marker.same_site.as_deref(), Some("Lax"));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let left = marker.expires.expect("a lifetime") - now;
    let longest = 400 * 24 * 60 * 60;
    assert!((longest - 60..=longest + 1).contains(&left), "400 days, not {left} s");
    assert_eq!(site.browser.run("return document.cookie", serde_json::json!([])), "");
}

#[test]
fn a_sign_out_whose_response_is_an_error_holds() {
    let site = Site::open();
    for (clock, held) in CASES {
        let case = format!("{clock:?} {held:?}");
        site.begin(clock);
        site.post("/sign-in/ada");
        let slow = site.slow("/click", held);
        assert_eq!(site.browser.post("/sign-out-and-fail").status, 500, "{case}");
        assert_eq!(site.browser.cookies_named(NAME), [], "{case}");
        assert_eq!(site.who(), "nobody, Absent", "{case}");
        slow.arrives();
        assert_eq!(site.who(), "nobody, Rejected(SignedOut)", "{case}");
    }
}

#[test]
fn a_slow_response_of_the_release_before_brings_no_former_cookie_back() {
    const NAME: &str = "__Http-session";
    let site = Site::open();
    let before = |builder: SessionBuilder<Account>| builder.name(NAME).path("/app");
    let after =
        |builder: SessionBuilder<Account>| builder.name(NAME).formerly(Identity::current().path("/app"));
    site.deploy(before);
    assert_eq!(site.browser.go(&site.server.url("/page")), "a page");
    let who = || site.browser.get("/app/who").ok();
    site.post("/app/sign-in/ada");
    assert_eq!(who(), "ada, Accepted");
    let gate = site.server.hold_response("old");
    site.browser.begin("POST", "/app/click", &[(Gates::RESPONSE, "old")]);
    gate.wait();

    site.deploy(after);
    site.post("/app/click");
    assert_eq!(site.browser.cookies_named(NAME).len(), 2);
    site.post("/sign-out");
    assert_eq!(site.browser.cookies_named(NAME), []);
    gate.open();
    site.browser.finish("POST", "/app/click").ok();
    assert_eq!(site.browser.cookies_named(NAME).len(), 1, "the former cookie is back");
    assert_eq!(who(), "nobody, Rejected(SignedOut)");
    // An instance that has not been replaced yet does not take it either.
    site.deploy(before);
    assert_eq!(who(), "nobody, Rejected(SignedOut)");
}

#[test]
fn curl_forgets_the_cookie_at_the_sign_out() {
    let server = Server::start(Router::new());
    let keys = KeyRing::new(Key::generate().unwrap(), []).unwrap();
    let layer = SessionLayer::<Account>::builder(keys).build().unwrap();
    server.deploy(
        Router::new()
            .route("/sign-in/{user}", post(sign_in))
            .route("/sign-out", post(sign_out))
            .route("/who", get(who))
            .layer(layer),
    );
    let said = Curl::in_memory(&[
        ("POST", server.url("/sign-in/ada")),
        ("GET", server.url("/who")),
        ("POST", server.url("/sign-out")),
        ("GET", server.url("/who")),
    ]);
    assert_eq!(said, "signed inada, Acceptedsigned outnobody, Absent");
    let last = server.last("/who");
    assert_eq!((last.sent(NAME).len(), last.sent(MARKER).len()), (0, 1));
}
