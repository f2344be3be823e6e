//! Error pages of the app's own, which tell nothing of what runs here: 404, 405, 413, 500 and all others, as a page or,
//! under `/api`, as a problem document (RFC 9457).

use askama::Template;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use std::any::Any;

/// Marks a response that is an error and has a page of its own.
#[derive(Clone, Copy)]
pub struct Page;

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    code: u16,
    title: &'static str,
    what_to_do: &'static str,
}

/// Puts a body of ours in the place of every other response's that is an error. Its headers stay.
pub async fn show(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let mut response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.extensions().get::<Page>().is_some() {
        return response;
    }
    let (title, what_to_do) = words(status);
    let (content_type, body) = if is_api {
        let problem = serde_json::json!({ "status": status.as_u16(), "title": title, "detail": what_to_do });
        ("application/problem+json", problem.to_string())
    } else {
        let page = ErrorPage { code: status.as_u16(), title, what_to_do };
        ("text/html; charset=utf-8", page.render().unwrap_or_else(|_| title.to_owned()))
    };
    let headers: &mut HeaderMap = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    *response.body_mut() = Body::from(body);
    response
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::FORBIDDEN => {
            ("Not allowed", "If a form led here: open its page anew, and send it from there.")
        }
        StatusCode::NOT_FOUND => ("Nothing here", "The address may be misspelt, or the page may be gone."),
        StatusCode::METHOD_NOT_ALLOWED => ("Not in this way", "This address takes another kind of request."),
        StatusCode::REQUEST_TIMEOUT => ("That took too long", "Please try again."),
        StatusCode::PAYLOAD_TOO_LARGE => ("Too much at once", "A request may have 16 KiB here."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("Not in this form", "Forms go as forms, JSON as application/json.")
        }
        StatusCode::MISDIRECTED_REQUEST => ("Not a name of ours", "Open the app by its own address."),
        StatusCode::TOO_MANY_REQUESTS => ("Too many tries", "Please wait, and try again later."),
        StatusCode::SERVICE_UNAVAILABLE => ("Busy", "Please try again in a moment."),
        StatusCode::BAD_REQUEST => ("That cannot be read", "It is no form and no JSON that is whole."),
        StatusCode::UNPROCESSABLE_ENTITY => {
            ("That cannot be done", "A field is missing, is not known, or is out of its range.")
        }
        status if status.is_client_error() => {
            ("That did not work", "Please go back, and try it in another way.")
        }
        _ => ("Something broke here", "It is not your fault, and it is in our log. Please try again later."),
    }
}

/// A panic ends a request, not the server. Whatever it says goes to the log.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
    tracing::error!(panic = text, "a request panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

pub async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}
