//! Sessions in axum: the extractor, the errors as responses, middleware beside handlers, and layers
//! around routers of every form.
#![cfg(feature = "axum")]

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    middleware::{Next, from_fn},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use cookie_session::{
    Key, KeyRing, MapError, MissingLayer, Session, SessionBuilder, SessionLayer, SessionMap, UpdateError,
};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, COOKIE, LOCATION, SET_COOKIE, VARY},
};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shop {
    user: Option<u64>,
    cart: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Admin {
    clearance: u8,
}

const NAME: &str = "__Host-Http-session";

fn builder<T>() -> SessionBuilder<T> {
    SessionLayer::builder(KeyRing::new(Key::generate().unwrap(), []).unwrap())
}

fn shops() -> SessionLayer<Shop> {
    builder().build().unwrap()
}

async fn send(app: &Router, method: &str, path: &str, cookies: &str) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    if !cookies.is_empty() {
        request = request.header(COOKIE, cookies);
    }
    app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn fetch(app: &Router, path: &str, cookies: &str) -> Response {
    send(app, "GET", path, cookies).await
}

/// What a client sends back: all cookies that the response sets and does not remove.
fn cookies(response: &Response) -> String {
    let all = response.headers().get_all(SET_COOKIE).iter();
    let pairs = all.filter_map(|line| {
        let cookie = cookie::Cookie::parse(line.to_str().unwrap()).unwrap();
        (!cookie.value().is_empty()).then(|| cookie.stripped().to_string())
    });
    pairs.collect::<Vec<_>>().join("; ")
}

fn names(response: &Response) -> Vec<String> {
    let all = response.headers().get_all(SET_COOKIE).iter();
    let mut names: Vec<_> =
        all.map(|line| line.to_str().unwrap().split('=').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

async fn buy(session: Session<Shop>, Path(id): Path<u32>) -> Result<Redirect, UpdateError> {
    session.update(|shop| shop.cart.push(id))?;
    Ok(Redirect::to("/cart"))
}

async fn cart(session: Session<Shop>) -> String {
    session.read(|shop| format!("{:?}", shop.cart))
}

async fn logout(session: Session<Shop>) -> Redirect {
    session.clear();
    Redirect::to("/")
}

fn shop_routes() -> Router {
    Router::new().route("/buy/{id}", post(buy)).route("/cart", get(cart)).route("/logout", post(logout))
}

#[tokio::test]
async fn a_session_goes_from_one_request_to_the_next_through_redirects() {
    let app = shop_routes().layer(shops());
    let first = send(&app, "POST", "/buy/7", "").await;
    assert_eq!(first.status(), StatusCode::SEE_OTHER);
    assert_eq!(first.headers()[LOCATION], "/cart");
    assert_eq!(names(&first), [NAME]);

    let second = send(&app, "POST", "/buy/8", &cookies(&first)).await;
    let cart = fetch(&app, "/cart", &cookies(&second)).await;
    assert_eq!(cart.headers()[VARY], "Cookie");
    assert_eq!(cart.headers()[CACHE_CONTROL], "private");
    assert_eq!(names(&cart), [""; 0]);
    assert_eq!(text(cart).await, "[7, 8]");

    let out = send(&app, "POST", "/logout", &cookies(&second)).await;
    assert_eq!(out.status(), StatusCode::SEE_OTHER);
    assert_eq!(names(&out), [NAME, "__Host-Http-session-out"]);
    // The browser has the marker left, and a slow response may bring the session back.
    let both = format!("{}; {}", cookies(&second), cookies(&out));
    assert_eq!(text(fetch(&app, "/cart", &both).await).await, "[]");
}

#[tokio::test]
async fn a_route_that_does_not_extract_the_session_is_left_as_it_is() {
    let app = Router::new().route("/plain", get(async || "plain")).layer(shops());
    let response = fetch(&app, "/plain", "").await;
    assert!(!response.headers().contains_key(VARY));
    assert!(!response.headers().contains_key(CACHE_CONTROL));
    assert_eq!(text(response).await, "plain");
}

#[tokio::test]
async fn a_session_stands_among_other_extractors_and_state() {
    async fn handler(
        State(prefix): State<&'static str>,
        first: Session<Shop>,
        Path(id): Path<u64>,
        second: Session<Shop>,
        body: String,
    ) -> Result<String, UpdateError> {
        first.update(|shop| shop.user = Some(id))?;
        // Both are one session.
        Ok(second.read(|shop| format!("{prefix} {:?} {body}", shop.user)))
    }
    let app = Router::new().route("/{id}", post(handler)).with_state("user").layer(shops());
    let request = Request::builder().method("POST").uri("/5").body(Body::from("text")).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(names(&response), [NAME]);
    assert_eq!(text(response).await, "user Some(5) text");
}

#[tokio::test]
async fn a_session_may_be_kept_across_await_and_moved_to_a_task() {
    async fn handler(session: Session<Shop>) -> Result<String, UpdateError> {
        session.update(|shop| shop.user = Some(1))?;
        let other = session.clone();
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            other.update(|shop| shop.cart.push(2))
        })
        .await
        .unwrap()?;
        Ok(session.read(|shop| format!("{shop:?}")))
    }
    let app = Router::new().route("/", get(handler)).layer(shops());
    let response = fetch(&app, "/", "").await;
    assert_eq!(names(&response), [NAME]);
    assert_eq!(text(response).await, "Shop { user: Some(1), cart: [2] }");
}

// Missing layers.

#[tokio::test]
async fn a_missing_layer_answers_500_and_names_what_to_add() {
    let app = shop_routes();
    let response = fetch(&app, "/cart", "").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let sentence = text(response).await;
    assert!(sentence.contains("SessionLayer<") && sentence.contains("Shop>"), "{sentence}");
    assert!(sentence.contains(".layer("), "{sentence}");
}

#[tokio::test]
async fn a_layer_of_another_type_is_a_missing_one() {
    let app = shop_routes().layer(builder::<Admin>().build().unwrap());
    let response = fetch(&app, "/cart", "").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let sentence = text(response).await;
    assert!(sentence.contains("Shop") && !sentence.contains("Admin"), "{sentence}");
}

#[tokio::test]
async fn a_route_that_was_added_after_the_layer_has_none() {
    let app = Router::new().route("/in", get(cart)).layer(shops()).route("/out", get(cart));
    assert_eq!(fetch(&app, "/in", "").await.status(), StatusCode::OK);
    assert_eq!(fetch(&app, "/out", "").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn an_optional_session_is_none_without_a_layer_and_some_with_one() {
    async fn handler(session: Option<Session<Shop>>) -> String {
        session.map_or("none".to_owned(), |session| session.read(|shop| format!("{:?}", shop.user)))
    }
    let routes = || Router::new().route("/", get(handler));
    assert_eq!(text(fetch(&routes(), "/", "").await).await, "none");
    let app = routes().layer(shops());
    assert_eq!(text(fetch(&app, "/", "").await).await, "None");
    // A cookie that does not open is no missing session.
    assert_eq!(text(fetch(&app, "/", "__Host-Http-session=garbage").await).await, "None");
}

#[tokio::test]
async fn a_handler_may_handle_the_rejection_itself() {
    async fn handler(session: Result<Session<Shop>, MissingLayer>) -> &'static str {
        if session.is_err() { "no layer" } else { "a layer" }
    }
    let routes = || Router::new().route("/", get(handler));
    assert_eq!(text(fetch(&routes(), "/", "").await).await, "no layer");
    assert_eq!(text(fetch(&routes().layer(shops()), "/", "").await).await, "a layer");
}

// Errors as responses.

#[tokio::test]
async fn an_update_error_is_an_opaque_500_with_an_empty_body() {
    async fn too_large(session: Session<Shop>) -> Result<(), UpdateError> {
        session.update(|shop| shop.user = Some(1))?;
        session.update(|shop| shop.cart = vec![u32::MAX; 4000])
    }
    async fn nested(session: Session<Shop>) -> Result<(), UpdateError> {
        session.update(|_| session.set(Shop::default()))?
    }
    let app = Router::new().route("/too-large", get(too_large)).route("/nested", get(nested)).layer(shops());
    for path in ["/too-large", "/nested"] {
        let response = fetch(&app, path, "").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        // The good update before it is not sent with a 500.
        assert_eq!(names(&response), [""; 0], "{path}");
        let told = response.headers().iter().map(|(name, value)| format!("{name:?}{value:?}"));
        assert!(told.into_iter().all(|line| !line.to_lowercase().contains("session")), "{path}");
        assert_eq!(text(response).await, "", "{path}");
    }
}

#[tokio::test]
async fn each_update_error_and_map_error_is_the_same_response() {
    for error in [UpdateError::Nested, UpdateError::Cleared, UpdateError::Committed, UpdateError::Random] {
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(text(response).await, "");
    }
    async fn handler(session: Session<SessionMap>) -> Result<String, MapError> {
        session.read(|map| map.get::<String>("number")).map(Option::unwrap_or_default)
    }
    async fn put(session: Session<SessionMap>) -> Result<(), UpdateError> {
        session.update(|map| map.insert("number", &7).unwrap()).map(|_| ())
    }
    let app =
        Router::new().route("/", get(handler).post(put)).layer(builder::<SessionMap>().build().unwrap());
    let put = send(&app, "POST", "/", "").await;
    assert_eq!(put.status(), StatusCode::OK);
    let response = fetch(&app, "/", &cookies(&put)).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_handler_decides_itself_what_too_large_means() {
    async fn handler(session: Session<Shop>) -> Response {
        match session.update(|shop| shop.cart = vec![u32::MAX; 4000]) {
            Err(UpdateError::TooLarge(error)) => {
                (StatusCode::CONFLICT, format!("{} of {}", error.payload(), error.max_payload()))
                    .into_response()
            }
            other => other.into_response(),
        }
    }
    let app = Router::new().route("/", get(handler)).layer(shops());
    let response = fetch(&app, "/", "").await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert!(text(response).await.starts_with("20003 of "));
}

#[tokio::test]
async fn an_error_of_the_handlers_own_goes_along_with_question_marks() {
    enum Error {
        SoldOut,
        Session,
    }
    impl From<UpdateError> for Error {
        fn from(_: UpdateError) -> Self {
            Error::Session
        }
    }
    impl IntoResponse for Error {
        fn into_response(self) -> Response {
            match self {
                Error::SoldOut => StatusCode::GONE.into_response(),
                Error::Session => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    }
    async fn handler(session: Session<Shop>, Path(id): Path<u32>) -> Result<String, Error> {
        let items = session.try_update(|shop| {
            shop.cart.push(id);
            if id == 13 { Err(Error::SoldOut) } else { Ok(shop.cart.len()) }
        })??;
        Ok(items.to_string())
    }
    let app = Router::new().route("/{id}", get(handler)).layer(shops());
    let good = fetch(&app, "/7", "").await;
    assert_eq!((good.status(), names(&good)), (StatusCode::OK, vec![NAME.to_owned()]));
    let bad = fetch(&app, "/13", &cookies(&good)).await;
    assert_eq!((bad.status(), names(&bad)), (StatusCode::GONE, vec![]));
}

// Middleware.

#[tokio::test]
async fn a_middleware_and_the_handler_see_the_same_session() {
    async fn before_and_after(
        session: Session<Shop>,
        request: Request,
        next: Next,
    ) -> Result<Response, UpdateError> {
        session.update(|shop| shop.cart.push(1))?;
        let response = next.run(request).await;
        // The head is further out, so this is written as well.
        assert_eq!(session.read(|shop| shop.cart.clone()), [1, 2]);
        session.update(|shop| shop.cart.push(3))?;
        Ok(response)
    }
    async fn handler(session: Session<Shop>) -> Result<String, UpdateError> {
        session.update(|shop| {
            shop.cart.push(2);
            format!("{:?}", shop.cart)
        })
    }
    let app = Router::new()
        .route("/", get(handler))
        .route_layer(from_fn(before_and_after))
        .route("/cart", get(cart))
        .layer(shops());
    let response = fetch(&app, "/", "").await;
    assert_eq!(names(&response), [NAME]);
    let cookie = cookies(&response);
    assert_eq!(text(response).await, "[1, 2]");
    assert_eq!(text(fetch(&app, "/cart", &cookie).await).await, "[1, 2, 3]");
}

#[tokio::test]
async fn a_guard_turns_requests_away_before_the_handler() {
    async fn signed_in(session: Session<Shop>, request: Request, next: Next) -> Response {
        if session.read(|shop| shop.user.is_some()) {
            next.run(request).await
        } else {
            Redirect::to("/login").into_response()
        }
    }
    async fn login(session: Session<Shop>) -> Result<&'static str, UpdateError> {
        session.renew()?;
        session.update(|shop| shop.user = Some(1))?;
        Ok("in")
    }
    let app = Router::new()
        .route("/account", get(async || "account"))
        .route_layer(from_fn(signed_in))
        .route("/login", post(login))
        .layer(shops());
    let away = fetch(&app, "/account", "").await;
    assert_eq!(
        (away.status(), &away.headers()[LOCATION]),
        (StatusCode::SEE_OTHER, &HeaderValue::from_static("/login"))
    );
    // What it answered depends on the cookie.
    assert_eq!(away.headers()[VARY], "Cookie");
    let login = send(&app, "POST", "/login", "").await;
    assert_eq!(text(fetch(&app, "/account", &cookies(&login)).await).await, "account");
}

#[tokio::test]
async fn a_handler_that_hands_its_session_to_the_response_is_committed_by_then() {
    async fn handler(session: Session<Shop>) -> Extension<Session<Shop>> {
        session.update(|shop| shop.user = Some(1)).unwrap();
        Extension(session)
    }
    let app = Router::new().route("/", get(handler)).layer(shops());
    let response = fetch(&app, "/", "").await;
    let session = response.extensions().get::<Session<Shop>>().unwrap();
    assert_eq!(session.read(|shop| shop.user), Some(1));
    assert_eq!(session.update(|shop| shop.user = Some(2)), Err(UpdateError::Committed));
    assert_eq!(names(&response), [NAME]);
}

// Routers.

#[tokio::test]
async fn two_layers_with_two_types_each_have_their_cookie() {
    async fn promote(shop: Session<Shop>, admin: Session<Admin>) -> Result<(), UpdateError> {
        shop.update(|shop| shop.user = Some(1))?;
        admin.update(|admin| admin.clearance = 3)
    }
    async fn show(shop: Session<Shop>, admin: Session<Admin>) -> String {
        format!("{:?} {}", shop.read(|shop| shop.user), admin.read(|admin| admin.clearance))
    }
    async fn demote(admin: Session<Admin>) {
        admin.clear();
    }
    let app = Router::new()
        .route("/promote", post(promote))
        .route("/show", get(show))
        .route("/demote", post(demote))
        .layer(shops())
        .layer(builder::<Admin>().name("__Host-Http-admin").build().unwrap());
    let promoted = send(&app, "POST", "/promote", "").await;
    assert_eq!(names(&promoted), ["__Host-Http-admin", NAME]);
    assert_eq!(promoted.headers()[VARY], "Cookie");
    assert_eq!(text(fetch(&app, "/show", &cookies(&promoted)).await).await, "Some(1) 3");
    let demoted = send(&app, "POST", "/demote", &cookies(&promoted)).await;
    assert_eq!(names(&demoted), ["__Host-Http-admin", "__Host-Http-admin-out"]);
}

#[tokio::test]
async fn nested_and_merged_routers_share_one_session() {
    let layer = shops();
    let app = Router::new()
        .nest("/shop", shop_routes())
        .merge(Router::new().route("/merged", get(cart)))
        .route("/top", get(cart))
        .layer(layer);
    let bought = send(&app, "POST", "/shop/buy/7", "").await;
    for path in ["/shop/cart", "/merged", "/top"] {
        assert_eq!(text(fetch(&app, path, &cookies(&bought)).await).await, "[7]", "{path}");
    }
}

#[tokio::test]
async fn a_layer_on_a_nested_router_is_there_for_its_routes_alone() {
    let app = Router::new().nest("/shop", shop_routes().layer(shops())).route("/top", get(cart));
    let bought = send(&app, "POST", "/shop/buy/7", "").await;
    assert_eq!(text(fetch(&app, "/shop/cart", &cookies(&bought)).await).await, "[7]");
    let top = fetch(&app, "/top", &cookies(&bought)).await;
    assert_eq!(top.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn the_same_layer_on_a_nested_router_and_around_it_is_one() {
    let layer = shops();
    let app =
        Router::new().nest("/shop", shop_routes().layer(layer.clone())).route("/top", get(cart)).layer(layer);
    let bought = send(&app, "POST", "/shop/buy/7", "").await;
    assert_eq!(names(&bought), [NAME]);
    for path in ["/shop/cart", "/top"] {
        assert_eq!(text(fetch(&app, path, &cookies(&bought)).await).await, "[7]", "{path}");
    }
}

#[tokio::test]
async fn two_routers_of_two_services_with_one_type_keep_their_own_cookies() {
    let shop = |name: &str| builder::<Shop>().name(name).build().unwrap();
    let app =
        Router::new().nest("/a", shop_routes().layer(shop("a"))).nest("/b", shop_routes().layer(shop("b")));
    let (a, b) = (send(&app, "POST", "/a/buy/1", "").await, send(&app, "POST", "/b/buy/2", "").await);
    assert_eq!((names(&a), names(&b)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    let both = format!("{}; {}", cookies(&a), cookies(&b));
    assert_eq!(text(fetch(&app, "/a/cart", &both).await).await, "[1]");
    assert_eq!(text(fetch(&app, "/b/cart", &both).await).await, "[2]");
}

#[tokio::test]
async fn a_fallback_has_the_session_and_its_404_is_written() {
    async fn lost(session: Session<Shop>) -> Result<(StatusCode, String), UpdateError> {
        let misses = session.update(|shop| {
            shop.cart.push(404);
            shop.cart.len()
        })?;
        Ok((StatusCode::NOT_FOUND, format!("{misses}")))
    }
    let app = shop_routes().fallback(lost).layer(shops());
    let first = fetch(&app, "/nowhere", "").await;
    assert_eq!(first.status(), StatusCode::NOT_FOUND);
    assert_eq!(names(&first), [NAME]);
    let second = fetch(&app, "/elsewhere", &cookies(&first)).await;
    assert_eq!(text(second).await, "2");
}

#[tokio::test]
async fn a_layer_may_stand_on_one_method_router() {
    let app = Router::new().route("/", any(cart).layer(shops()));
    for method in ["GET", "POST", "DELETE"] {
        assert_eq!(send(&app, method, "/", "").await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_head_request_carries_the_cookie_too() {
    async fn count(session: Session<Shop>) -> Result<String, UpdateError> {
        session.update(|shop| shop.cart.push(1))?;
        Ok("counted".to_owned())
    }
    let app = Router::new().route("/", get(count)).layer(shops());
    let response = send(&app, "HEAD", "/", "").await;
    assert_eq!(names(&response), [NAME]);
    assert_eq!(response.headers()[CONTENT_LENGTH], "7");
    assert_eq!(text(response).await, "");
}
