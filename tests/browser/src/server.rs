//! A server whose application can be replaced between requests, as a deploy does, and whose
//! responses can be held back.

use crate::PATIENCE;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, header},
    response::Response,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, mpsc},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};
use tower::ServiceExt;

/// A request and its response, as they passed over the wire.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub path: String,
    pub status: u16,
    /// Name and value, in the order of the `Cookie` headers.
    pub cookies: Vec<(String, String)>,
    /// `Set-Cookie` values.
    pub set_cookies: Vec<String>,
}

impl Exchange {
    /// The values of the cookies of one name that came in.
    pub fn sent(&self, name: &str) -> Vec<&str> {
        self.cookies.iter().filter(|(its, _)| its == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The `Set-Cookie` values for one name.
    pub fn set(&self, name: &str) -> Vec<&str> {
        let named = |text: &&str| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        self.set_cookies.iter().map(String::as_str).filter(named).collect()
    }
}

pub struct Server {
    port: u16,
    shared: Arc<Shared>,
    /// Ends all connections on drop.
    _runtime: Runtime,
}

struct Shared {
    app: Mutex<Router>,
    log: Mutex<Vec<Exchange>>,
    gates: Gates,
}

impl Server {
    pub fn start(app: Router) -> Server {
        Server::with_gates(app, Gates::default())
    }

    /// With gates that the application knows, too.
    pub fn with_gates(app: Router, gates: Gates) -> Server {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { app: Mutex::new(app), log: Mutex::default(), gates });
        let router = Router::new().fallback(dispatch).with_state(Arc::clone(&shared));
        runtime.spawn(async { axum::serve(listener, router).await });
        Server { port, shared, _runtime: runtime }
    }

    /// `path` on http://localhost.
    pub fn url(&self, path: &str) -> String {
        self.url_on("localhost", path)
    }

    pub fn url_on(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    /// Requests from now on meet this application.
    pub fn deploy(&self, app: Router) {
        *self.shared.app.lock().expect("no panic") = app;
    }

    /// The latest request of a path that has got its response's headers.
    #[track_caller]
    pub fn last(&self, path: &str) -> Exchange {
        let log = self.shared.log.lock().expect("no panic");
        log.iter().rfind(|exchange| exchange.path == path).expect(path).clone()
    }

    /// Holds back a finished response: see [`Gates`].
    pub fn hold_response(&self, name: &str) -> Gate {
        self.shared.gates.set_up(name)
    }
}

async fn dispatch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let app = shared.app.lock().expect("no panic").clone();
    let gate = shared.gates.asked_for(request.headers(), Gates::RESPONSE);
    let path = request.uri().path().to_owned();
    let texts = |headers: &HeaderMap, name| -> Vec<String> {
        headers.get_all(name).iter().map(|value| value.to_str().expect("text").to_owned()).collect()
    };
    let cookies = texts(request.headers(), header::COOKIE)
        .iter()
        .flat_map(|line| line.split("; "))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let response = match app.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let set_cookies = texts(response.headers(), header::SET_COOKIE);
    let exchange = Exchange { path, status: response.status().as_u16(), cookies, set_cookies };
    shared.log.lock().expect("no panic").push(exchange);
    if let Some(gate) = gate {
        gate.wait().await;
    }
    response
}

/// Places where a request waits until the test lets it go on: a request names its gate in a header.
#[derive(Clone, Default)]
pub struct Gates(Arc<Mutex<HashMap<String, Waiting>>>);

impl Gates {
    /// The header for a gate in front of the finished response.
    pub const RESPONSE: &str = "x-hold-response";
    /// The header for a gate inside the application.
    pub const HANDLER: &str = "x-hold-handler";

    /// The next request that names this gate will wait there.
    pub fn set_up(&self, name: &str) -> Gate {
        let (arrive, arrived) = mpsc::channel();
        let (release, released) = oneshot::channel();
        self.0.lock().expect("no panic").insert(name.to_owned(), Waiting { arrive, released });
        Gate { arrived, release }
    }

    /// The gate that a request names in this header.
    pub fn asked_for(&self, headers: &HeaderMap, header: &str) -> Option<Waiting> {
        Some(self.named(headers.get(header)?.to_str().expect("text")))
    }

    /// A gate that was set up.
    pub fn named(&self, name: &str) -> Waiting {
        self.0.lock().expect("no panic").remove(name).expect("a gate of this name")
    }
}

/// The server's side of a gate.
pub struct Waiting {
    arrive: mpsc::Sender<()>,
    released: oneshot::Receiver<()>,
}

impl Waiting {
    /// Until the test opens the gate, or has gone.
    pub async fn wait(self) {
        let _ = self.arrive.send(());
        let _ = self.released.await;
    }
}

/// The test's side of a gate.
pub struct Gate {
    arrived: mpsc::Receiver<()>,
    release: oneshot::Sender<()>,
}

impl Gate {
    /// Waits until the request stands at the gate.
    #[track_caller]
    pub fn wait(&self) {
        self.arrived.recv_timeout(PATIENCE).expect("a request at the gate");
    }

    /// Lets it go on.
    pub fn open(self) {
        self.release.send(()).expect("a request at the gate");
    }
}
