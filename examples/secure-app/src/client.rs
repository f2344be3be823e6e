//! `trust proxy`: who sent the request, and whether over TLS. A proxy's word is taken only if the connection comes from one
//! of the configured networks; anybody else's `X-Forwarded-For` and `X-Forwarded-Proto` change nothing.

use crate::shares::Share;
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName},
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How a request came in: the other end of the connection, and whether it is encrypted.
#[derive(Clone)]
pub struct Connection {
    pub peer: SocketAddr,
    pub tls: bool,
    /// Of the connections that there may be; given back when this one is over.
    pub share: Option<Arc<Share>>,
}

/// Stands in each request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    pub https: bool,
}

impl Client {
    /// `peer`: the other end of the connection; `tls`: whether that is encrypted.
    pub fn of(peer: SocketAddr, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Client {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut client = Client { address: peer.ip().to_canonical(), https: tls };
        if !is_trusted(&client.address) {
            return client;
        }
        if let Some(scheme) = listed(headers, &FORWARDED_PROTO).last() {
            client.https = scheme.eq_ignore_ascii_case("https");
        }
        // Each proxy appends whom it got the request from, so that the list is true from its end as far as proxies are
        // trusted; what stands before, anybody may have made up.
        for hop in listed(headers, &FORWARDED_FOR).collect::<Vec<_>>().into_iter().rev() {
            let Some(address) = address(hop) else { break };
            client.address = address;
            if !is_trusted(&address) {
                break;
            }
        }
        client
    }
}

/// Says who it is to whoever asks further in.
pub async fn identify(
    State(trusted): State<Arc<[IpNet]>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = Client::of(connection.peer, connection.tls, request.headers(), &trusted);
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// The elements of all headers of a name, in their order.
fn listed<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).iter();
    // One that is no text is one that says nothing.
    values.flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim)
}

/// Some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Whom an address stands for. Of IPv6 the first 64 bits: who has one address there has them all (RFC 6177).
pub fn network(address: IpAddr) -> Ipv6Addr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64),
    }
}
