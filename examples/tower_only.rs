//! Sessions over any tower service that speaks the `http` crate's types: no axum, no server.
//!
//! `cargo run --example tower_only --no-default-features`

use cookie_session::{Key, KeyRing, Session, SessionLayer};
use http::{
    HeaderMap, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use std::error::Error;
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visits {
    count: u64,
}

async fn count(request: Request<String>) -> Result<Response<String>, Box<dyn Error>> {
    let (parts, _) = request.into_parts();
    let session = Session::<Visits>::from_parts(&parts)?;
    let count = session.update(|visits| {
        visits.count += 1;
        visits.count
    })?;
    Ok(Response::new(count.to_string()))
}

/// The cookies that a response sets, each as `name=value`.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.filter_map(|line| line.split(';').next()).map(str::to_owned).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let sessions = SessionLayer::<Visits>::builder(KeyRing::new(Key::generate()?, [])?).build()?;
    let service = ServiceBuilder::new().layer(sessions).service(service_fn(count));

    let first = service.clone().oneshot(Request::new(String::new())).await?;
    let sent = cookies(first.headers());
    let mut request = Request::new(String::new());
    request.headers_mut().insert(COOKIE, sent.join("; ").parse()?);
    let second = service.oneshot(request).await?;

    for response in [&first, &second] {
        let sent = cookies(response.headers());
        let names: Vec<_> = sent.iter().filter_map(|cookie| cookie.split('=').next()).collect();
        println!("count {}, cookies {names:?}", response.body());
        assert_eq!(names, ["__Host-Http-session"]);
    }
    assert_eq!((first.body().as_str(), second.body().as_str()), ("1", "2"));
    Ok(())
}
