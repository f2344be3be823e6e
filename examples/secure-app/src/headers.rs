//! Helmet: the security headers of every response, whatever made it. The README has a table of them, with what was left out and why.

use crate::{client::Client, host::Hosts};
use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// The one style sheet and the one script, which stand in the pages themselves.
pub const STYLE: &str = include_str!("../assets/style.css");
pub const SCRIPT: &str = include_str!("../assets/page.js");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A year, as Helmet: so long a browser that was here once asks for https alone.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

/// What pages of this app do not need, and what an injected script would like to have.
const PERMISSIONS: &str = "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), display-capture=(), \
    encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), hid=(), idle-detection=(), \
    local-fonts=(), magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), \
    publickey-credentials-create=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), \
    storage-access=(), usb=(), web-share=(), window-management=(), xr-spatial-tracking=()";

/// The headers, made once.
pub struct Headers {
    fixed: Vec<(HeaderName, HeaderValue)>,
    hosts: Arc<Hosts>,
}

impl Headers {
    pub fn new(hosts: Arc<Hosts>) -> Headers {
        let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        // No 'self' for scripts and styles: what runs is what has these hashes, wherever it stands.
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {}; img-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'; upgrade-insecure-requests",
            hash(STYLE),
            hash(SCRIPT),
        );
        let policy = HeaderValue::try_from(policy).expect("letters, digits and signs");
        let text = HeaderValue::from_static;
        let fixed = vec![
            (header::CONTENT_SECURITY_POLICY, policy),
            (HeaderName::from_static("cross-origin-embedder-policy"), text("require-corp")),
            (HeaderName::from_static("cross-origin-opener-policy"), text("same-origin")),
            (HeaderName::from_static("cross-origin-resource-policy"), text("same-origin")),
            (HeaderName::from_static("origin-agent-cluster"), text("?1")),
            (HeaderName::from_static("permissions-policy"), text(PERMISSIONS)),
            (header::REFERRER_POLICY, text("no-referrer")),
            (header::X_CONTENT_TYPE_OPTIONS, text("nosniff")),
            (header::X_DNS_PREFETCH_CONTROL, text("off")),
            (header::X_FRAME_OPTIONS, text("DENY")),
            (HeaderName::from_static("x-permitted-cross-domain-policies"), text("none")),
        ];
        Headers { fixed, hosts }
    }

    fn set(&self, headers: &mut HeaderMap, hsts: bool) {
        headers.reserve(self.fixed.len() + 2);
        for (name, value) in &self.fixed {
            headers.insert(name, value.clone());
        }
        if hsts {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    }
}

/// Pages show whose they are: no cache keeps one, also not the browser's, for whoever sits there next. What a handler says
/// itself stands. Inside the session layer, whose own `private` would do for shared caches only.
pub async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
    response
}

pub async fn set(
    State(these): State<Arc<Headers>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    // Over plain HTTP browsers ignore it (RFC 6797, 8.1), and for localhost it would reach every port of the machine.
    let hsts = client.https && these.hosts.of(&request).is_some_and(|host| !host.is_local());
    let mut response = next.run(request).await;
    these.set(response.headers_mut(), hsts);
    response
}
