//! Host names and the way to https: plain HTTP is answered with a redirect, and only to names that are configured, so that
//! a forged `Host` leads nowhere.

use crate::client::{Client, HEALTH};
use axum::{
    Extension,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use std::{net::Ipv6Addr, str::FromStr, sync::Arc};

/// The names that users open the app by, in their order.
pub struct Hosts {
    names: Vec<Host>,
    port: u16,
}

/// A host name in small letters, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl FromStr for Host {
    type Err = ();

    fn from_str(text: &str) -> Result<Host, ()> {
        let is_ipv6 = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            bare.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        };
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_good = is_ipv6(text) || (text.len() <= 253 && text.split('.').all(is_label));
        is_good.then(|| Host(text.to_ascii_lowercase())).ok_or(())
    }
}

impl Host {
    /// As certificates have it.
    pub fn without_brackets(&self) -> &str {
        self.0.trim_start_matches('[').trim_end_matches(']')
    }

    /// No domain name that HSTS could be for: RFC 6797, 8.1.1 and 11.
    pub fn is_local(&self) -> bool {
        let name = self.0.as_str();
        name == "localhost"
            || name.ends_with(".localhost")
            || name.starts_with('[')
            || name.parse::<std::net::Ipv4Addr>().is_ok()
    }
}

impl Hosts {
    /// `port`: of https, as users open it.
    pub fn new(names: Vec<Host>, port: u16) -> Hosts {
        Hosts { names, port }
    }

    /// The configured name that a request came to. HTTP/2 says it in the request's target.
    pub fn of<B>(&self, request: &axum::http::Request<B>) -> Option<&Host> {
        let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
        let authority = request.uri().authority().map(|authority| authority.as_str()).or(header)?;
        let name = without_port(authority)?;
        self.names.iter().find(|host| host.0.eq_ignore_ascii_case(name))
    }

    /// The app's own address, by the first of its names.
    pub fn url(&self) -> String {
        self.names.first().map(|host| self.origin(host)).unwrap_or_default()
    }

    fn origin(&self, host: &Host) -> String {
        match self.port {
            443 => format!("https://{}", host.0),
            port => format!("https://{}:{port}", host.0),
        }
    }

    fn redirect(&self, host: &Host, uri: &Uri) -> Response {
        // `OPTIONS *` has no path.
        let path = uri.path_and_query().map(|path| path.as_str()).filter(|path| path.starts_with('/'));
        let Some(path) = path else { return StatusCode::BAD_REQUEST.into_response() };
        match HeaderValue::try_from(format!("{}{path}", self.origin(host))) {
            // 308: a form that is posted over plain HTTP has been read by others already, but at least arrives.
            Ok(location) => (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response(),
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        }
    }
}

fn without_port(authority: &str) -> Option<&str> {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(name),
        // The colons of an IPv6 address.
        Some(_) if !authority.ends_with(']') => None,
        _ => Some(authority),
    }
}

/// Lets through what came over TLS to one of our names.
pub async fn check(
    State(hosts): State<Arc<Hosts>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<Request, Response> {
    match hosts.of(&request) {
        _ if request.uri().path() == HEALTH => Ok(request),
        None => Err(StatusCode::MISDIRECTED_REQUEST.into_response()),
        Some(host) if !client.https => Err(hosts.redirect(host, request.uri())),
        Some(_) => Ok(request),
    }
}
