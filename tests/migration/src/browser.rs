//! A browser that keeps cookies, and what either server says of a session.

use crate::USER;
use fleet_tests::{Connection, Head, Jar};
use serde::Deserialize;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's time, in milliseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// The session as the handler left it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Report {
    pub session: Value,
    #[serde(rename = "isNew")]
    pub is_new: bool,
    /// Only our server says this: `Session::incoming`, in its `Debug` form.
    pub incoming: Option<String>,
    /// And this.
    pub id: Option<String>,
}

impl Report {
    pub fn is_ours(&self) -> bool {
        self.incoming.is_some()
    }

    #[track_caller]
    pub fn incoming(&self) -> &str {
        self.incoming.as_deref().expect("our server")
    }

    #[track_caller]
    pub fn id(&self) -> &str {
        self.id.as_deref().expect("a session at our server")
    }

    /// The counter of `/add`.
    pub fn views(&self) -> Option<u64> {
        self.session["views"].as_u64()
    }
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub set_cookies: Vec<String>,
    pub report: Report,
}

#[derive(Clone, Debug, Default)]
pub struct Browser {
    pub jar: Jar,
    /// Who sits before it; a switch asks for that.
    pub user: String,
}

/// A request that has been sent.
pub struct UnderWay {
    connection: Connection,
    path: String,
}

impl Browser {
    pub fn of(user: &str) -> Browser {
        Browser { jar: Jar::default(), user: user.to_owned() }
    }

    #[track_caller]
    pub fn send(&self, port: u16, method: &str, path: &str, content: &str) -> UnderWay {
        let (length, cookies) = (content.len().to_string(), self.jar.cookies_to(path, now()));
        let mut headers = vec![("content-length", &*length), ("content-type", "application/json")];
        // As the proxy does that ends TLS.
        headers.extend([(USER, &*self.user), ("x-forwarded-proto", "https")]);
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let connection = Connection::send_with(port, method, path, &headers, content).expect("a server");
        UnderWay { connection, path: path.to_owned() }
    }

    /// Receives a response, which must be good.
    #[track_caller]
    pub fn receive(&mut self, mut sent: UnderWay) -> Reply {
        let head = sent.connection.head().expect("a whole header block");
        self.keep(&sent.path, &head);
        let body = sent.connection.body(&head).expect("a whole body");
        assert_eq!(head.status, 200, "{body}");
        let set_cookies = head.set_cookies().into_iter().map(str::to_owned).collect();
        Reply { set_cookies, report: serde_json::from_str(&body).expect("a report") }
    }

    fn keep(&mut self, path: &str, head: &Head) {
        for set_cookie in head.set_cookies() {
            self.jar.set_from(path, set_cookie, now());
        }
    }

    #[track_caller]
    pub fn ask(&mut self, port: u16, method: &str, path: &str, content: &str) -> Reply {
        let sent = self.send(port, method, path, content);
        self.receive(sent)
    }

    #[track_caller]
    pub fn read(&mut self, port: u16) -> Report {
        self.ask(port, "GET", "/read", "").report
    }

    #[track_caller]
    pub fn post(&mut self, port: u16, path: &str) -> Report {
        self.ask(port, "POST", path, "").report
    }

    #[track_caller]
    pub fn set(&mut self, port: u16, session: &Value) -> Reply {
        self.ask(port, "POST", "/set", &session.to_string())
    }
}
