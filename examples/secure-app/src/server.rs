//! The listeners: what a connection may cost, and an end without losing a request.

use crate::limits::network;
use axum::{Router, extract::ConnectInfo};
use axum_server::{
    Control, Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use ipnet::IpNet;
use std::{
    collections::HashMap,
    io,
    net::{Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::task::JoinHandle;
use tower::{Layer as _, Service};

/// To send a request's head, the first of a connection or the next.
const HEAD: Duration = Duration::from_secs(10);
/// To shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Of the head of a request; two full cookies, and then some.
const HEAD_BYTES: usize = 16 * 1024;
/// At a time. Each may be idle for long, so that nobody may have them all.
const CONNECTIONS: usize = 2_000;
/// Of one address, or of one IPv6 network of 64 bits. Proxies that are trusted speak for many.
const CONNECTIONS_OF_ONE: usize = 100;
/// For requests under way when the server is asked to stop.
pub const GRACE: Duration = Duration::from_secs(15);

/// Both listeners, before anything is answered.
pub struct Bound {
    listeners: [TcpListener; 2],
    pub https: SocketAddr,
    pub http: SocketAddr,
}

/// Both listeners of a running server.
pub struct Listeners {
    control: Control,
    tasks: [JoinHandle<io::Result<()>>; 2],
    pub https: SocketAddr,
    pub http: SocketAddr,
}

/// Which listener a request came in by.
#[derive(Clone)]
pub struct Connection {
    pub peer: SocketAddr,
    pub tls: bool,
    /// Gives the connection's place back once it is over. `None`: it is not counted.
    _place: Option<Arc<Place>>,
}

impl Connection {
    pub fn uncounted(peer: SocketAddr, tls: bool) -> Connection {
        Connection { peer, tls, _place: None }
    }
}

impl Bound {
    /// Port 0: any that is free.
    pub fn new(https: SocketAddr, http: SocketAddr) -> Result<Bound, String> {
        let bind = |address: SocketAddr, setting: &str| {
            let fault =
                |error: io::Error| format!("cannot listen on {address} (setting `{setting}`): {error}");
            let listener = TcpListener::bind(address).map_err(fault)?;
            let address = listener.local_addr().map_err(fault)?;
            Ok::<_, String>((listener, address))
        };
        let ((secure, https), (plain, http)) = (bind(https, "https")?, bind(http, "http")?);
        Ok(Bound { listeners: [secure, plain], https, http })
    }

    pub fn serve(self, tls: RustlsConfig, trusted: &[IpNet], app: &Router) -> Result<Listeners, String> {
        let fault = |error: io::Error| error.to_string();
        let [secure, plain] = self.listeners;
        let control = Control::new();
        let acceptor = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE);
        let mut secure = axum_server::from_tcp(secure)
            .map_err(fault)?
            .acceptor(acceptor)
            .accept_error_handler(refused)
            .handle(Handle::with_control(control.clone()))
            .first_request_timeout(HEAD);
        bound(secure.http_builder());
        let mut plain = axum_server::from_tcp(plain)
            .map_err(fault)?
            .accept_error_handler(refused)
            .handle(Handle::with_control(control.clone()))
            .first_request_timeout(HEAD);
        bound(plain.http_builder());

        let places = Arc::new(Mutex::default());
        let connections = |tls| PerConnection {
            app: app.clone(),
            tls,
            control: control.clone(),
            trusted: trusted.into(),
            places: Arc::clone(&places),
        };
        let tasks =
            [tokio::spawn(secure.serve(connections(true))), tokio::spawn(plain.serve(connections(false)))];
        Ok(Listeners { control, tasks, https: self.https, http: self.http })
    }
}

impl Listeners {
    /// Takes no new connection, and waits for requests under way.
    pub async fn stop(self, grace: Duration) {
        self.control.graceful_shutdown(Some(grace));
        for task in self.tasks {
            if let Ok(Err(error)) = task.await {
                tracing::error!(%error, "a listener failed");
            }
        }
    }
}

/// Whoever scans the internet comes by: no more than a line for those who look for one.
fn refused(peer: Option<&SocketAddr>, error: &io::Error) {
    tracing::debug!(?peer, %error, "no connection");
}

fn bound(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder.http1().header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .max_header_list_size(HEAD_BYTES as u32)
        .max_concurrent_streams(100)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEAD);
}

/// Gives each connection its copy of the app, while there are not too many.
#[derive(Clone)]
struct PerConnection {
    app: Router,
    tls: bool,
    control: Control,
    trusted: Arc<[IpNet]>,
    places: Arc<Places>,
}

/// How many connections whose network has.
type Places = Mutex<HashMap<Ipv6Addr, usize>>;

struct Place {
    network: Ipv6Addr,
    places: Arc<Places>,
}

impl Place {
    fn take(places: &Arc<Places>, network: Ipv6Addr) -> Option<Place> {
        let mut counts = places.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        if *count >= CONNECTIONS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place { network, places: Arc::clone(places) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

impl Service<SocketAddr> for PerConnection {
    type Response = axum::middleware::AddExtension<Router, ConnectInfo<Connection>>;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, peer: SocketAddr) -> Self::Future {
        let refused = |why| std::future::ready(Err(io::Error::other(why)));
        if self.control.connection_count() >= CONNECTIONS {
            return refused("too many connections");
        }
        let address = peer.ip().to_canonical();
        let mut connection = Connection::uncounted(peer, self.tls);
        if !self.trusted.iter().any(|proxies| proxies.contains(&address)) {
            match Place::take(&self.places, network(address)) {
                Some(place) => connection._place = Some(Arc::new(place)),
                None => return refused("too many connections of one address"),
            }
        }
        let connection = ConnectInfo(connection);
        std::future::ready(Ok(axum::Extension(connection).layer(self.app.clone())))
    }
}
