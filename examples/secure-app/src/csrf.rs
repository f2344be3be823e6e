//! Cross-site request forgery: writes that another site made a browser send are refused, by `Sec-Fetch-Site` or, without it, by
//! `Origin`. What has neither is no browser's, and passes. The cookie's `SameSite=Lax` is the second wall.

use axum::{body::Body, http::StatusCode, response::IntoResponse as _, response::Response};
use tower_http::csrf::{CsrfLayer, ProtectionError, ResponseForProtectionError};

pub fn layer() -> CsrfLayer<impl ResponseForProtectionError<Body> + Send + Sync + 'static> {
    CsrfLayer::new().with_rejection_response(|error: ProtectionError| -> Response {
        tracing::warn!(%error, "a write from another site was refused");
        StatusCode::FORBIDDEN.into_response()
    })
}
