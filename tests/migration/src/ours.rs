//! Our server: axum, the session layer, and the routes of `node/server.mjs`.

use axum::{
    Router,
    extract::Json as Content,
    routing::{get, post},
};
use cookie_session::{Key, KeyRing, Session, SessionBuilder, SessionLayer, UpdateError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

/// What a session can hold here.
pub trait Data: Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    fn to_json(&self) -> Value;

    /// # Panics
    ///
    /// If it cannot be one.
    fn of(json: Value) -> Self;
}

/// Any JSON, as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Json(pub String);

impl Default for Json {
    fn default() -> Json {
        Json("{}".to_owned())
    }
}

impl Data for Json {
    fn to_json(&self) -> Value {
        serde_json::from_str(&self.0).expect("JSON")
    }

    fn of(json: Value) -> Json {
        Json(json.to_string())
    }
}

/// What a shop had in Express, and has here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shop {
    pub user: Option<String>,
    pub views: u32,
    pub cart: Vec<u32>,
}

impl Data for Shop {
    fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("JSON")
    }

    fn of(json: Value) -> Shop {
        serde_json::from_value(json).expect("a shop's session")
    }
}

/// Our key.
pub fn key() -> Key {
    // It opens no session but those of these tests.
    "1f6d0c72a94be5830c9d57e2b8f146ad735e9012cdb86f4a0e83d1957ca26b4f".parse().expect("a key")
}

pub fn builder<T>() -> SessionBuilder<T> {
    SessionLayer::builder(KeyRing::new(key(), []).expect("a ring"))
}

/// A server; it ends with this value.
pub struct Ours {
    pub port: u16,
    _runtime: Runtime,
}

impl Ours {
    /// # Panics
    ///
    /// If the builder's settings are no good.
    #[track_caller]
    pub fn start<T: Data>(sessions: SessionBuilder<T>) -> Ours {
        let layer = sessions.build().expect("good settings");
        let routes = Router::new()
            .route("/read", get(read::<T>))
            .route("/set", post(set::<T>))
            .route("/add", post(add::<T>))
            .route("/logout", post(logout::<T>));
        let app = Router::new().nest("/app", routes.clone()).merge(routes).layer(layer);
        let runtime = Runtime::new().expect("threads");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        runtime.spawn(async { axum::serve(listener, app).await.expect("a server") });
        Ours { port, _runtime: runtime }
    }
}

fn report<T: Data>(session: &Session<T>) -> Content<Value> {
    let incoming = format!("{:?}", session.incoming());
    let id = session.meta().map(|meta| meta.id().to_string());
    let (data, is_new) = (session.read(T::to_json), session.is_new());
    Content(json!({ "session": data, "isNew": is_new, "incoming": incoming, "id": id }))
}

async fn read<T: Data>(session: Session<T>) -> Content<Value> {
    report(&session)
}

async fn set<T: Data>(session: Session<T>, content: Content<Value>) -> Result<Content<Value>, UpdateError> {
    session.set(T::of(content.0))?;
    Ok(report(&session))
}

async fn add<T: Data>(session: Session<T>) -> Result<Content<Value>, UpdateError> {
    session.update(|data| {
        let mut json = data.to_json();
        json["views"] = (json["views"].as_u64().unwrap_or(0) + 1).into();
        *data = T::of(json);
    })?;
    Ok(report(&session))
}

async fn logout<T: Data>(session: Session<T>) -> Content<Value> {
    session.clear();
    report(&session)
}
