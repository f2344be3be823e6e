//! `trust proxy`: who sent the request, and whether over TLS. A proxy's word is taken only if the connection comes from one
//! of the configured networks; anybody else's `X-Forwarded-For` and `X-Forwarded-Proto` change nothing.

use crate::shares::Share;
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName},
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Once},
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where load balancers ask, on their own behalf: by any name and without TLS.
pub const HEALTH: &str = "/health";

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
        if let Some(scheme) = listed(headers, &FORWARDED_PROTO).next_back() {
            client.https = scheme.eq_ignore_ascii_case("https");
        }
        // Each proxy appends whom it got the request from, so that the list is true from its end as far as proxies are
        // trusted; what stands before, anybody may have made up.
        for hop in listed(headers, &FORWARDED_FOR).rev() {
            let Some(address) = address(hop) else { break };
            client.address = address;
            if !is_trusted(&address) {
                break;
            }
        }
        client
    }
}

/// Whose word is taken, and what the log has been told of it.
pub struct Proxies {
    trusted: Vec<IpNet>,
    said: [Once; 3],
}

impl Proxies {
    pub fn new(trusted: &[IpNet]) -> Proxies {
        Proxies { trusted: trusted.to_owned(), said: [const { Once::new() }; 3] }
    }

    /// What is amiss shows far from its cause, as a redirect for ever or a lock of everybody: each is said, once.
    fn look_at(&self, peer: SocketAddr, request: &Request) {
        if request.uri().path() == HEALTH {
            return;
        }
        let peer = peer.ip().to_canonical();
        let is_trusted = self.trusted.iter().any(|network| network.contains(&peer));
        let has = |name| request.headers().contains_key(name);
        let [scheme, address, stranger] = &self.said;
        if is_trusted && !has(FORWARDED_PROTO) {
            scheme.call_once(|| {
                tracing::warn!(
                    %peer,
                    "a trusted proxy sends no X-Forwarded-Proto: plain HTTP is redirected for ever (nginx: \
                     proxy_set_header X-Forwarded-Proto $scheme)"
                );
            });
        }
        if is_trusted && !has(FORWARDED_FOR) {
            address.call_once(|| {
                tracing::warn!(
                    %peer,
                    "a trusted proxy sends no X-Forwarded-For: all its clients count as one (nginx: \
                     proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for)"
                );
            });
        }
        // Anybody may send it: no warning.
        if !is_trusted && has(FORWARDED_PROTO) {
            stranger.call_once(|| {
                tracing::info!(
                    %peer,
                    "X-Forwarded-Proto is not believed from there; if that is a proxy of yours, its address belongs \
                     into `trusted_proxies`"
                );
            });
        }
    }
}

/// Says who it is to whoever asks further in.
pub async fn identify(
    State(proxies): State<Arc<Proxies>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    mut request: Request,
) -> Request {
    proxies.look_at(connection.peer, &request);
    let client = Client::of(connection.peer, connection.tls, request.headers(), &proxies.trusted);
    request.extensions_mut().insert(client);
    request
}

/// The elements of all headers of a name, in their order.
fn listed<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'h str> {
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
