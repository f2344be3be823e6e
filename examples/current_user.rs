//! A typed `CurrentUser` for handlers, by a middleware over `Session<T>`: who is not signed in is
//! sent to `/login`. The part to paste ends at the line; below it is a small application.

use axum::{
    extract::{FromRequestParts, Request},
    http::{StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use cookie_session::{Session, UpdateError};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Account {
    user: Option<CurrentUser>,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct CurrentUser {
    id: u64,
    name: String,
}

async fn require_user(session: Session<Account>, mut request: Request, next: Next) -> Response {
    match session.read(|account| account.user.clone()) {
        Some(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        None => Redirect::to("/login").into_response(),
    }
}

impl<S: Sync> FromRequestParts<S> for CurrentUser {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Absent only where the route is not behind `require_user`.
        parts.extensions.get().cloned().ok_or(StatusCode::UNAUTHORIZED)
    }
}

/// Call it once the user has proved who they are.
fn sign_in(session: &Session<Account>, user: CurrentUser) -> Result<(), UpdateError> {
    session.renew()?;
    session.update(|account| account.user = Some(user))
}

// ---------------------------------------------------------------------------------------------

use axum::{
    Router,
    body::{Body, to_bytes},
    http::header::{COOKIE, SET_COOKIE},
    middleware::from_fn,
    routing::{get, post},
};
use cookie_session::{Key, KeyRing, SessionLayer};
use tower::ServiceExt;

async fn hello(user: CurrentUser) -> String {
    format!("hello {}, number {}", user.name, user.id)
}

async fn login(session: Session<Account>) -> Result<Redirect, UpdateError> {
    sign_in(&session, CurrentUser { id: 1, name: "Ada".to_owned() })?;
    Ok(Redirect::to("/hello"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = SessionLayer::<Account>::builder(KeyRing::new(Key::generate()?, [])?).build()?;
    let app = Router::new()
        .route("/hello", get(hello))
        .route_layer(from_fn(require_user))
        .route("/login", post(login))
        .layer(sessions);

    let stranger = app.clone().oneshot(Request::get("/hello").body(Body::empty())?).await?;
    assert_eq!(stranger.headers()["location"], "/login");

    let login = app.clone().oneshot(Request::post("/login").body(Body::empty())?).await?;
    let cookie = login.headers()[SET_COOKIE].to_str()?.split(';').next().unwrap_or_default();
    let request = Request::get("/hello").header(COOKIE, cookie).body(Body::empty())?;
    let hello = app.oneshot(request).await?;
    assert_eq!(hello.status(), StatusCode::OK);
    println!("{}", String::from_utf8_lossy(&to_bytes(hello.into_body(), 1024).await?));
    Ok(())
}
