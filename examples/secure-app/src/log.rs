//! The log: one line for each request, as text or JSON; never a cookie, a password, a query, or a user name whose password
//! was not right.

use crate::{client::Client, config::Log};
use axum::{Extension, extract::Request, middleware::Next, response::Response};
use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};
use tracing::Instrument as _;
use tracing_subscriber::EnvFilter;

/// To standard error. `RUST_LOG` says what is worth a line; default: `info`.
pub fn start(form: Log) {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match form {
        Log::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        Log::Json => builder.json().flatten_event(true).init(),
    }
}

/// Around each request: what is logged on its way has its number.
pub async fn request(Extension(client): Extension<Client>, request: Request, next: Next) -> Response {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Relaxed);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begin = Instant::now();
    let span = tracing::info_span!("request", number);
    let response = next.run(request).instrument(span.clone()).await;
    let _inside = span.enter();
    let microseconds = begin.elapsed().as_micros() as u64;
    let (status, address, https) = (response.status().as_u16(), client.address, client.https);
    tracing::info!(%method, path, status, microseconds, %address, https, "answered");
    response
}
