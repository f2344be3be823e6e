use axum::{
    Router,
    routing::{get, post},
};
use cookie_session::{Key, KeyError, KeyRing, Session, SessionLayer, UpdateError};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visits {
    count: u64,
}

async fn count(session: Session<Visits>) -> Result<String, UpdateError> {
    session.update(|visits| {
        visits.count += 1;
        format!("{}\n", visits.count)
    })
}

async fn clear(session: Session<Visits>) -> &'static str {
    session.clear();
    "cleared\n"
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = match KeyRing::from_env("SESSION_KEY") {
        Err(KeyError::Missing { .. }) => {
            eprintln!("warning: sessions end with this process; for a lasting key:");
            eprintln!("  export SESSION_KEY=\"$(openssl rand -base64 32)\"");
            KeyRing::new(Key::generate()?, [])?
        }
        keys => keys?,
    };
    let sessions = SessionLayer::<Visits>::builder(keys).build()?;
    let app = Router::new().route("/", get(count)).route("/clear", post(clear)).layer(sessions);

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned()).parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://localhost:{port}/");
    axum::serve(listener, app).await?;
    Ok(())
}
