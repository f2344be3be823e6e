//! axum-core: the extractor, and the crate's errors as responses.

use crate::{
    error::{MapError, MissingLayer, UpdateError},
    session::Session,
};
use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use serde::{Serialize, de::DeserializeOwned};
use std::convert::Infallible;

impl<T, S> FromRequestParts<S> for Session<T>
where
    T: Default + Serialize + DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Session::from_parts(parts)
    }
}

/// `None` where no layer of this type is.
impl<T, S> OptionalFromRequestParts<S> for Session<T>
where
    T: Default + Serialize + DeserializeOwned + Send + 'static,
    S: Sync,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(Session::from_parts(parts).ok())
    }
}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        crate::log::event!(
            ERROR,
            "session_missing_layer",
            "a handler asked for a session of a type that has no layer",
            error = self
        );
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

impl IntoResponse for UpdateError {
    /// An opaque 500; what is wrong is for the log.
    fn into_response(self) -> Response {
        crate::log::event!(
            ERROR,
            "session_update_failed",
            "a handler answered with a session error",
            error = self
        );
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl IntoResponse for MapError {
    /// An opaque 500; what is wrong is for the log.
    fn into_response(self) -> Response {
        crate::log::event!(
            ERROR,
            "session_map_failed",
            "a handler answered with a session error",
            error = self
        );
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
