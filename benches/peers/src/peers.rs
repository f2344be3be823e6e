//! Each peer as its users would use it: an application of one route.

use crate::{
    floor::{self, Floor},
    shop::Shop,
};
use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, header::COOKIE, header::SET_COOKIE},
    response::Response,
    routing::{MethodRouter, get},
};
use axum_extra::extract::cookie::{Cookie, PrivateCookieJar, SameSite, SignedCookieJar};
use std::{
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower::ServiceExt as _;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Bare,
    NoOp,
    Encrypted,
    Signed,
    PrivateJar,
    SignedJar,
    TowerSessions,
    Seshcookie,
    Floor,
    FloorLayer,
}

impl Peer {
    pub const ALL: [Peer; 10] = [
        Peer::Bare,
        Peer::NoOp,
        Peer::Encrypted,
        Peer::Signed,
        Peer::PrivateJar,
        Peer::SignedJar,
        Peer::TowerSessions,
        Peer::Seshcookie,
        Peer::Floor,
        Peer::FloorLayer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Bare => "bare",
            Peer::NoOp => "no-op",
            Peer::Encrypted => "ours-encrypted",
            Peer::Signed => "ours-signed",
            Peer::PrivateJar => "private-jar",
            Peer::SignedJar => "signed-jar",
            Peer::TowerSessions => "tower-sessions",
            Peer::Seshcookie => "seshcookie",
            Peer::Floor => "floor",
            Peer::FloorLayer => "floor-layer",
        }
    }

    /// Has no session: measured for what is there without one.
    pub fn is_empty(self) -> bool {
        matches!(self, Peer::Bare | Peer::NoOp)
    }
}

/// What a handler does about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Nothing; its cookie came in.
    Untouched,
    Read,
    /// Reads and changes a number.
    ReadWrite,
    /// Writes a session where none came in.
    FirstWrite,
}

impl Case {
    pub const ALL: [Case; 4] = [Case::Untouched, Case::Read, Case::ReadWrite, Case::FirstWrite];

    pub fn name(self) -> &'static str {
        match self {
            Case::Untouched => "untouched",
            Case::Read => "read",
            Case::ReadWrite => "read+write",
            Case::FirstWrite => "first-write",
        }
    }

    fn writes(self) -> bool {
        matches!(self, Case::ReadWrite | Case::FirstWrite)
    }
}

/// One application, and the request that it gets again and again.
pub struct Cell {
    pub peer: Peer,
    pub case: Case,
    pub notes: usize,
    app: Router,
    cookie: Option<HeaderValue>,
}

impl Cell {
    pub fn new(peer: Peer, case: Case, notes: usize) -> Cell {
        // Bare and no-op get the cookie that we would get.
        let from = if peer.is_empty() { Peer::Encrypted } else { peer };
        let cookie = match case {
            Case::FirstWrite => None,
            _ => Some(pair(&set_cookie(&first_write(from, notes).call()).expect("it fits"))),
        };
        let cell = Cell { peer, case, notes, app: app(peer, case, notes), cookie };
        let sent = set_cookie(&cell.call());
        assert_eq!(sent.is_some(), case.writes() && !peer.is_empty(), "{} {}", peer.name(), case.name());
        cell
    }

    /// One request, and its response.
    pub fn call(&self) -> Response {
        let mut request = Request::new(Body::empty());
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(COOKIE, cookie.clone());
        }
        let mut response = pin!(self.app.clone().oneshot(request));
        // Nothing here waits for anything.
        match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => {
                assert!(response.status().is_success());
                response
            }
            _ => unreachable!("ready at once"),
        }
    }

    /// The bytes of its `Set-Cookie`; 0 without one.
    pub fn set_cookie(&self) -> usize {
        set_cookie(&self.call()).map_or(0, |value| value.len())
    }
}

/// How many notes fit into 4093 bytes of `Set-Cookie`.
pub fn most_notes(peer: Peer) -> usize {
    let fits = |notes: usize| {
        let response = first_write(peer, notes).try_call();
        response.and_then(|response| set_cookie(&response)).is_some_and(|value| value.len() <= 4093)
    };
    (1..500).find(|&notes| !fits(notes)).unwrap_or(500) - 1
}

fn first_write(peer: Peer, notes: usize) -> Cell {
    Cell { peer, case: Case::FirstWrite, notes, app: app(peer, Case::FirstWrite, notes), cookie: None }
}

impl Cell {
    fn try_call(&self) -> Option<Response> {
        let mut response = pin!(self.app.clone().oneshot(Request::new(Body::empty())));
        match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(response)) => response.status().is_success().then_some(response),
            _ => unreachable!("ready at once"),
        }
    }
}

fn set_cookie(response: &Response) -> Option<HeaderValue> {
    response.headers().get(SET_COOKIE).cloned()
}

fn pair(set_cookie: &HeaderValue) -> HeaderValue {
    let end = set_cookie.as_bytes().iter().position(|&byte| byte == b';').expect("attributes");
    HeaderValue::from_bytes(&set_cookie.as_bytes()[..end]).expect("a part of a header")
}

const NAME: &str = "session";
const DAY: u64 = 24 * 60 * 60;

fn jar_cookie(shop: &Shop) -> Cookie<'static> {
    Cookie::build((NAME, serde_json::to_string(shop).expect("it encodes")))
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(true)
        .path("/")
        .max_age(time::Duration::seconds(DAY as i64))
        .build()
}

static JAR_KEY: LazyLock<axum_extra::extract::cookie::Key> =
    LazyLock::new(axum_extra::extract::cookie::Key::generate);
static OURS: LazyLock<cookie_session::KeyRing> = LazyLock::new(|| {
    let key = cookie_session::Key::generate().expect("randomness");
    cookie_session::KeyRing::new(key, []).expect("one key")
});
static FLOORS: LazyLock<floor_layer::KeyRing> = LazyLock::new(|| {
    let key = floor_layer::Key::generate().expect("randomness");
    floor_layer::KeyRing::new(key, []).expect("one key")
});
static TOWER_SESSIONS_KEY: LazyLock<tower_sessions_cookie_store::Key> =
    LazyLock::new(tower_sessions_cookie_store::Key::generate);
static SESHCOOKIE_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("randomness");
    key
});

/// `with_state(())`, or axum clones the layer for each request.
fn route(handlers: MethodRouter) -> Router {
    Router::new().route("/", handlers)
}

fn untouched() -> MethodRouter {
    get(|| async {})
}

/// The handlers of a session that is read and updated in closures, as ours and the floor's in our layer are.
macro_rules! ours {
    ($crate_name:ident, $case:expr, $notes:expr, $sample:expr) => {{
        type Session = $crate_name::Session<Shop>;
        let (notes, sample): (usize, Arc<Shop>) = ($notes, $sample);
        match $case {
            Case::Untouched => untouched(),
            Case::Read => get(move |session: Session| async move { session.read(|shop| shop.look(notes)) }),
            Case::ReadWrite => get(move |session: Session| async move {
                session.update(|shop| {
                    shop.look(notes);
                    shop.touch();
                })
            }),
            Case::FirstWrite => get(move |session: Session| async move { session.set(Shop::clone(&sample)) }),
        }
    }};
}

/// The handlers of a jar, which is returned with what was added to it.
macro_rules! jar {
    ($jar:ident, $case:expr, $notes:expr, $sample:expr) => {{
        let (notes, sample): (usize, Arc<Shop>) = ($notes, $sample);
        let read = move |jar: &$jar| {
            let shop: Shop =
                serde_json::from_str(jar.get(NAME).expect("a cookie").value()).expect("a session");
            shop.look(notes);
            shop
        };
        let handlers: MethodRouter<axum_extra::extract::cookie::Key> = match $case {
            Case::Untouched => get(|| async {}),
            Case::Read => get(move |jar: $jar| async move { drop(read(&jar)) }),
            Case::ReadWrite => get(move |jar: $jar| async move {
                let mut shop = read(&jar);
                shop.touch();
                jar.add(jar_cookie(&shop))
            }),
            Case::FirstWrite => {
                get(move |jar: $jar| async move { jar.add(jar_cookie(&Shop::clone(&sample))) })
            }
        };
        Router::new().route("/", handlers).with_state(JAR_KEY.clone())
    }};
}

fn app(peer: Peer, case: Case, notes: usize) -> Router {
    let sample = Arc::new(Shop::with_notes(notes));
    let idle = Duration::from_secs(DAY);
    match peer {
        // The value of a first write is made for these too.
        Peer::Bare | Peer::NoOp => {
            let handlers = match case {
                Case::FirstWrite => get(move || async move { drop(Shop::clone(&sample)) }),
                _ => untouched(),
            };
            let app = route(handlers);
            if peer == Peer::NoOp { app.layer(tower::layer::util::Identity::new()) } else { app }
                .with_state(())
        }
        Peer::Encrypted | Peer::Signed => {
            use cookie_session::{Mode, SessionLayer};
            let mode = if peer == Peer::Signed { Mode::Signed } else { Mode::Encrypted };
            let layer = SessionLayer::<Shop>::builder(OURS.clone()).name(NAME).idle_timeout(idle).mode(mode);
            route(ours!(cookie_session, case, notes, sample))
                .layer(layer.build().expect("good settings"))
                .with_state(())
        }
        Peer::FloorLayer => {
            let layer =
                floor_layer::SessionLayer::<Shop>::builder(FLOORS.clone()).name(NAME).idle_timeout(idle);
            route(ours!(floor_layer, case, notes, sample))
                .layer(layer.build().expect("good settings"))
                .with_state(())
        }
        Peer::PrivateJar => jar!(PrivateCookieJar, case, notes, sample),
        Peer::SignedJar => jar!(SignedCookieJar, case, notes, sample),
        Peer::TowerSessions => {
            use tower_sessions_cookie_store::{
                CookieSessionConfig, CookieSessionManagerLayer, Expiry, SameSite, Session,
            };
            const KEY: &str = "shop";
            let handlers = match case {
                Case::Untouched => untouched(),
                Case::Read => get(move |session: Session| async move {
                    let shop: Shop = session.get(KEY).await.expect("it opens").expect("a session");
                    shop.look(notes);
                }),
                Case::ReadWrite => get(move |session: Session| async move {
                    let mut shop: Shop = session.get(KEY).await.expect("it opens").expect("a session");
                    shop.look(notes);
                    shop.touch();
                    session.insert(KEY, shop).await.expect("it encodes");
                }),
                Case::FirstWrite => get(move |session: Session| async move {
                    session.insert(KEY, Shop::clone(&sample)).await.expect("it encodes");
                }),
            };
            let config = CookieSessionConfig::default()
                .with_name(NAME)
                .with_same_site(SameSite::Lax)
                .with_expiry(Expiry::OnInactivity(time::Duration::seconds(DAY as i64)));
            let layer = CookieSessionManagerLayer::private(TOWER_SESSIONS_KEY.clone()).with_config(config);
            route(handlers).layer(layer).with_state(())
        }
        Peer::Seshcookie => {
            use seshcookie::{Session, SessionConfig, SessionKeys, SessionLayer};
            let handlers =
                match case {
                    Case::Untouched => untouched(),
                    Case::Read => get(move |session: Session<Shop>| async move {
                        session.get().await.expect("a session").look(notes);
                    }),
                    Case::ReadWrite => get(move |session: Session<Shop>| async move {
                        session
                            .modify(|shop| {
                                let shop = shop.as_mut().expect("a session");
                                shop.look(notes);
                                shop.touch();
                            })
                            .await;
                    }),
                    Case::FirstWrite => get(move |session: Session<Shop>| async move {
                        session.insert(Shop::clone(&sample)).await
                    }),
                };
            let keys = SessionKeys::new(&*SESHCOOKIE_KEY).expect("32 bytes");
            let layer = SessionLayer::<Shop>::new(keys, SessionConfig::default().cookie_name(NAME))
                .expect("good settings");
            route(handlers).layer(layer).with_state(())
        }
        Peer::Floor => {
            // `hint`: as long as it is.
            let hint = postcard::to_allocvec(&*sample).expect("it encodes").len() + 8;
            route(match case {
                Case::Untouched => untouched(),
                Case::Read => get(move |Floor(shop): Floor| async move { shop.look(notes) }),
                Case::ReadWrite => get(move |Floor(mut shop): Floor| async move {
                    shop.look(notes);
                    shop.touch();
                    floor::seal(&shop, hint)
                }),
                Case::FirstWrite => get(move || async move { floor::seal(&Shop::clone(&sample), hint) }),
            })
            .with_state(())
        }
    }
}
