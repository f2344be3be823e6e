//! The shop: its pages, forms and JSON. What stands here is an application's own; the other files are the checklist's.

use crate::{
    App,
    client::{Client, HEALTH, network},
    errors::Page,
    limits::Refused,
    metrics::{self, SignIn},
    passwords::{Busy, Stamp},
    picture::{Picture, in_words},
    session::{self, Line, Visit},
};
use askama::Template;
use axum::{
    Extension, Form, Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use cookie_session::{MAX_SET_COOKIE, Session, TooLarge, UpdateError};
use std::sync::Arc;
use tracing::Instrument as _;

pub struct Tea {
    pub name: &'static str,
    pub from: &'static str,
    pub price: u32,
}

pub const TEAS: [Tea; 4] = [
    Tea { name: "Darjeeling, first flush", from: "India", price: 1450 },
    Tea { name: "Gyokuro", from: "Japan", price: 2600 },
    Tea { name: "Tieguanyin", from: "China", price: 1800 },
    Tea { name: "Rooibos", from: "South Africa", price: 700 },
];

pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/", get(home))
        .route("/cart", post(add))
        .route("/cart/fill", post(fill))
        .route("/cart/empty", post(empty))
        .route("/login", get(login_form).post(login))
        .route("/logout", post(logout))
        .route("/logout/everywhere", post(logout_everywhere))
        .route("/api/session", get(api_session))
        .route("/api/cart", post(api_add))
        // Before what does without the session.
        .route_layer(from_fn_with_state(Arc::clone(app), metrics::count_session))
        .route("/favicon.svg", get(favicon))
        .route(HEALTH, get(health))
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'p> {
    user: Option<&'p str>,
    degraded: bool,
    notice: Option<&'p str>,
    picture: Picture,
    teas: &'static [Tea],
    cart: Vec<Shown<'p>>,
    total: String,
}

/// A line of the cart as it is shown.
struct Shown<'p> {
    quantity: u16,
    tea: &'static str,
    card: &'p str,
    price: String,
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn show_home(
    app: &App,
    session: &Session<Visit>,
    headers: &HeaderMap,
    status: StatusCode,
    notice: Option<&str>,
) -> Response {
    let visit = session.get();
    let price =
        |line: &Line| u64::from(TEAS[usize::from(line.tea) % TEAS.len()].price) * u64::from(line.quantity);
    let cart = visit.cart.iter().map(|line| Shown {
        quantity: line.quantity,
        tea: TEAS[usize::from(line.tea) % TEAS.len()].name,
        card: &line.card,
        price: money(price(line)),
    });
    let page = Home {
        user: visit.user.as_ref().map(|user| user.name.as_str()),
        degraded: app.is_degraded(),
        notice,
        picture: Picture::of(&app.sessions, session, &visit, headers, (app.clock)()),
        teas: &TEAS,
        cart: cart.collect(),
        total: money(visit.cart.iter().map(price).sum()),
    };
    show(status, &page)
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'p> {
    user: Option<String>,
    degraded: bool,
    name: &'p str,
    notice: Option<String>,
    demo: bool,
}

fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(body) => (
            status,
            Extension(Page),
            [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))],
            body,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn home(State(app): State<Arc<App>>, session: Session<Visit>, headers: HeaderMap) -> Response {
    show_home(&app, &session, &headers, StatusCode::OK, None)
}

async fn favicon() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=86400")];
    (headers, include_str!("../assets/favicon.svg"))
}

async fn health(State(app): State<Arc<App>>) -> (StatusCode, Extension<Page>, &'static str) {
    // As it stands, since an operator reads it.
    let answer = |status, text| (status, Extension(Page), text);
    if app.store.is_failing() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "the database is not written\n");
    }
    answer(StatusCode::OK, "ok\n")
}

// ------------------------------------------------------------------------------------------------ The cart

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    tea: u8,
    #[serde(default = "one")]
    quantity: u16,
    #[serde(default)]
    card: String,
}

fn one() -> u16 {
    1
}

/// Adds a line, or adds to the one that is alike. What does not fit changes nothing.
fn add_line(session: &Session<Visit>, add: Add) -> Result<(), UpdateError> {
    let line = Line { tea: add.tea, quantity: add.quantity, card: add.card };
    session.update(|visit| {
        match visit.cart.iter_mut().find(|other| other.tea == line.tea && other.card == line.card) {
            Some(other) => other.quantity = other.quantity.saturating_add(line.quantity),
            None => visit.cart.push(line),
        }
    })
}

fn is_good(add: &Add) -> bool {
    usize::from(add.tea) < TEAS.len() && (1..=99).contains(&add.quantity)
}

fn full(too_large: &TooLarge) -> String {
    format!(
        "Your cart is full: it lives in one cookie, which may have {} bytes and would now have {}. \
         This was not added, and nothing was lost.",
        too_large.max_set_cookie(),
        too_large.needed()
    )
}

async fn add(
    State(app): State<Arc<App>>,
    session: Session<Visit>,
    headers: HeaderMap,
    Form(add): Form<Add>,
) -> Result<Response, UpdateError> {
    if !is_good(&add) {
        return Ok(StatusCode::UNPROCESSABLE_ENTITY.into_response());
    }
    match add_line(&session, add) {
        Ok(()) => Ok(Redirect::to("/").into_response()),
        Err(UpdateError::TooLarge(error)) => {
            let notice = full(&error);
            Ok(show_home(&app, &session, &headers, StatusCode::UNPROCESSABLE_ENTITY, Some(&notice)))
        }
        Err(error) => Err(error),
    }
}

/// Fills the cart to its last byte, to see what happens then.
async fn fill(
    State(app): State<Arc<App>>,
    session: Session<Visit>,
    headers: HeaderMap,
) -> Result<Response, UpdateError> {
    let first = session.read(|visit| visit.cart.len());
    for number in first..first + MAX_SET_COOKIE {
        let room = session.remaining();
        let mut card = format!("Gift {number}: with the best wishes of the house, and a cup of tea.");
        if room < 2 * card.len() {
            // The last one takes what is left: a line has three bytes beside its card, or four beside a long one.
            let length = room.saturating_sub(if room > 130 { 4 } else { 3 });
            card = number.to_string();
            card.push_str(&"!".repeat(length.saturating_sub(card.len())));
        }
        match add_line(&session, Add { tea: (number % 4) as u8, quantity: 1, card }) {
            Ok(()) => {}
            Err(UpdateError::TooLarge(error)) => {
                let notice = full(&error);
                return Ok(show_home(&app, &session, &headers, StatusCode::OK, Some(&notice)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Redirect::to("/").into_response())
}

async fn empty(session: Session<Visit>) -> Result<Redirect, UpdateError> {
    session.update(|visit| visit.cart.clear())?;
    Ok(Redirect::to("/"))
}

// ------------------------------------------------------------------------------------------------ Signing in and out

#[derive(serde::Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

async fn login_form(State(app): State<Arc<App>>, session: Session<Visit>) -> Response {
    show_login(&app, &session, StatusCode::OK, "", None)
}

fn show_login(
    app: &App,
    session: &Session<Visit>,
    status: StatusCode,
    name: &str,
    notice: Option<String>,
) -> Response {
    let user = session.read(|visit| visit.user.as_ref().map(|user| user.name.clone()));
    show(status, &Login { user, degraded: app.is_degraded(), name, notice, demo: app.is_demo() })
}

async fn login(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    session: Session<Visit>,
    Form(Credentials { username, password }): Form<Credentials>,
) -> Result<Response, UpdateError> {
    // In a task of its own: a client that goes away neither stops the check nor keeps what it would get back.
    let check = check(Arc::clone(&app), client, username.clone(), password).in_current_span();
    let check = tokio::spawn(check);
    let failure = match check.await {
        Ok(Ok((stamp, epoch))) => {
            match session::sign_in(&session, &app.denylist, &username, stamp, epoch).await {
                Ok(()) => {
                    tracing::info!(user = username, address = %client.address, "signed in");
                    return Ok(Redirect::to("/").into_response());
                }
                Err(UpdateError::TooLarge(_)) => Failure::NoRoom,
                Err(error) => return Err(error),
            }
        }
        Ok(Err(failure)) => failure,
        Err(error) => {
            app.metrics.sign_in(SignIn::Unavailable);
            tracing::error!(%error, "an attempt to sign in broke");
            Failure::Unavailable
        }
    };
    let (status, notice, retry_after) = match failure {
        // The one status for both: which of the two is wrong is nobody's business.
        Failure::Wrong => (StatusCode::FORBIDDEN, "User name or password is wrong.".to_owned(), None),
        Failure::Locked(seconds) => (
            StatusCode::TOO_MANY_REQUESTS,
            format!("Too many wrong passwords. Try again in {}.", in_words(seconds)),
            Some(seconds),
        ),
        Failure::NoRoom => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "Your cart is so full that your name does not fit beside it: take something out first."
                .to_owned(),
            None,
        ),
        Failure::Unavailable => {
            let notice = "Signing in does not work right now. Please try again in a moment.".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, notice, Some(1))
        }
    };
    let mut response = show_login(&app, &session, status, &username, Some(notice));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

enum Failure {
    Wrong,
    NoRoom,
    Locked(u64),
    Unavailable,
}

/// Counts, checks, and gives back. Returns the stamp of the password and the user's epoch.
async fn check(
    app: Arc<App>,
    client: Client,
    name: String,
    password: String,
) -> Result<(Stamp, u64), Failure> {
    let attempt = match app.limits.begin(&name, client.address).await {
        Ok(attempt) => attempt,
        Err(Refused::RetryAfter(seconds)) => {
            app.metrics.sign_in(SignIn::Locked);
            tracing::warn!(address = %client.address, seconds, "signing in is locked");
            return Err(Failure::Locked(seconds));
        }
        Err(Refused::Failed(error)) => {
            app.metrics.sign_in(SignIn::Unavailable);
            tracing::error!(%error, "nobody can sign in");
            return Err(Failure::Unavailable);
        }
    };
    match app.passwords.check(network(client.address), name.clone(), password).await {
        Ok(Some(stamp)) => {
            app.metrics.sign_in(SignIn::Right);
            // Why it may have failed is logged already: then the count stays, and is one too many.
            let epoch = app.limits.succeeded(attempt, &name).await.unwrap_or_default();
            Ok((stamp, epoch))
        }
        Ok(None) => {
            app.metrics.sign_in(SignIn::Wrong);
            // Not the name: people type passwords there.
            tracing::warn!(address = %client.address, "a wrong user name or password");
            Err(Failure::Wrong)
        }
        Err(Busy) => {
            app.metrics.sign_in(SignIn::Busy);
            let _ = app.limits.give_back(attempt).await;
            Err(Failure::Unavailable)
        }
    }
}

async fn logout(State(app): State<Arc<App>>, session: Session<Visit>) -> Redirect {
    session::sign_out(&session, &app.denylist).await;
    Redirect::to("/")
}

async fn logout_everywhere(State(app): State<Arc<App>>, session: Session<Visit>) -> Redirect {
    session::sign_out_everywhere(&session, &app.denylist).await;
    Redirect::to("/")
}

// ------------------------------------------------------------------------------------------------ JSON

#[derive(serde::Serialize)]
struct ApiSession {
    user: Option<String>,
    cart: Vec<Line>,
    bytes_left: usize,
    bytes: usize,
}

fn api(session: &Session<Visit>) -> Json<ApiSession> {
    let Visit { user, cart } = session.get();
    let user = user.map(|user| user.name);
    Json(ApiSession { user, cart, bytes_left: session.remaining(), bytes: MAX_SET_COOKIE })
}

async fn api_session(session: Session<Visit>) -> Json<ApiSession> {
    api(&session)
}

async fn api_add(session: Session<Visit>, Json(add): Json<Add>) -> Result<Response, UpdateError> {
    if !is_good(&add) {
        return Ok(StatusCode::UNPROCESSABLE_ENTITY.into_response());
    }
    match add_line(&session, add) {
        Ok(()) => Ok((StatusCode::CREATED, api(&session)).into_response()),
        Err(UpdateError::TooLarge(error)) => {
            let problem =
                serde_json::json!({ "status": 422, "title": "The cart is full", "detail": full(&error) });
            let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
            let body = problem.to_string();
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Extension(Page), content_type, body).into_response())
        }
        Err(error) => Err(error),
    }
}
