//! Headless Chromium through ChromeDriver, in as much of WebDriver as the tests need.

use crate::{PATIENCE, Reply, TempDir, spawn, wait_for};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const INSTALL: &str =
    "apt-get install chromium chromium-driver (or Chrome and the ChromeDriver of its version)";

/// Starting a browser on a busy machine takes its time.
const START: Duration = Duration::from_secs(60);

/// A browser with a profile of its own. It ends with this value, also when a test panics.
pub struct Browser {
    driver: Child,
    port: u16,
    session: Option<String>,
    /// The profile, and whatever else they leave behind. Removed after `drop` has ended the browser.
    _folder: TempDir,
}

/// A cookie as the browser keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCookie {
    pub name: String,
    pub value: String,
    /// With a leading dot if it goes to subdomains too.
    pub domain: String,
    pub path: String,
    pub http_only: bool,
    pub secure: bool,
    pub same_site: Option<String>,
    pub partitioned: bool,
    /// In seconds since 1970; `None`: until the browser ends.
    pub expires: Option<u64>,
}

impl Browser {
    #[track_caller]
    pub fn start() -> Browser {
        Browser::with(false)
    }

    /// One that takes any certificate.
    #[track_caller]
    pub fn trusting() -> Browser {
        Browser::with(true)
    }

    #[track_caller]
    fn with(any_certificate: bool) -> Browser {
        let folder = TempDir::new();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("TMPDIR", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = spawn(&mut command, INSTALL);
        let stdout = BufReader::new(driver.stdout.take().expect("piped"));
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        let mut browser = Browser { driver, port: 0, session: None, _folder: folder };

        let (sender, receiver) = mpsc::channel();
        // The thread reads on to the end, so that the pipe never fills.
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    let _ = sender.send(port.trim_end_matches('.').parse());
                }
            }
        });
        let port = receiver.recv_timeout(START).expect("chromedriver says which port it listens on");
        browser.port = port.expect("a port");

        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            &profile,
        ];
        let patience = PATIENCE.as_millis() as u64;
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": any_certificate,
            "timeouts": { "script": patience, "pageLoad": patience },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let session = request(browser.port, "POST", "/session", &capabilities)
            .unwrap_or_else(|error| panic!("no browser: {error}; these tests need one: {INSTALL}"));
        browser.session = Some(session["sessionId"].as_str().expect("a session id").to_owned());
        browser
    }

    #[track_caller]
    fn command(&self, command: &str, body: Value) -> Value {
        self.ask("POST", command, &body).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn ask(&self, method: &str, command: &str, body: &Value) -> Result<Value, String> {
        let session = self.session.as_deref().expect("a session");
        request(self.port, method, &format!("/session/{session}/{command}"), body)
    }

    /// Goes to a page and returns its text.
    #[track_caller]
    pub fn go(&self, url: &str) -> String {
        self.command("url", json!({ "url": url }));
        self.text("body")
    }

    /// The address of the page that is shown.
    #[track_caller]
    pub fn address(&self) -> String {
        let address = self.ask("GET", "url", &Value::Null).unwrap_or_else(|error| panic!("url: {error}"));
        address.as_str().expect("text").to_owned()
    }

    /// The text that the first such element shows, by a CSS selector as below.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let text = self.run("return document.querySelector(arguments[0])?.innerText", json!([selector]));
        text.as_str().unwrap_or_else(|| panic!("no {selector} at {}", self.address())).to_owned()
    }

    /// How many there are.
    #[track_caller]
    pub fn count(&self, selector: &str) -> usize {
        let count = self.run("return document.querySelectorAll(arguments[0]).length", json!([selector]));
        count.as_u64().expect("a number") as usize
    }

    /// Types, key by key.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        self.command(&format!("element/{}/value", self.find(selector)), json!({ "text": text }));
    }

    /// Clicks on what leads to another page, and returns the text of that one.
    #[track_caller]
    pub fn follow(&self, selector: &str) -> String {
        self.run("window.isLeft = true", json!([]));
        self.command(&format!("element/{}/click", self.find(selector)), json!({}));
        let arrived = json!({
            "script": "return !window.isLeft && document.readyState === 'complete'",
            "args": [],
        });
        // Between two pages there is none to ask.
        wait_for("the next page", || {
            self.ask("POST", "execute/sync", &arrived).is_ok_and(|arrived| arrived == true).then_some(())
        });
        self.text("body")
    }

    #[track_caller]
    fn find(&self, selector: &str) -> String {
        let found = self.command("element", json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|object| object.values().next()?.as_str());
        id.expect("an element's id").to_owned()
    }

    /// The room for the page, in pixels.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// What is in sight, as PNG.
    #[track_caller]
    pub fn screenshot(&self) -> Vec<u8> {
        let image = self.devtools("Page.captureScreenshot", json!({ "format": "png" }));
        STANDARD.decode(image["data"].as_str().expect("text")).expect("base64")
    }

    /// Runs a function's body in the page; a promise that it returns is awaited.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: Value) -> Value {
        self.command("execute/sync", json!({ "script": script, "args": arguments }))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.begin("GET", path, &[]);
        self.finish("GET", path)
    }

    #[track_caller]
    pub fn post(&self, path: &str) -> Reply {
        self.begin("POST", path, &[]);
        self.finish("POST", path)
    }

    /// The page begins to fetch, and the test goes on.
    #[track_caller]
    pub fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let headers: serde_json::Map<String, Value> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let script = "const [method, path, headers] = arguments; \
            window.fetches ??= new Map(); \
            const reply = fetch(path, { method, headers, cache: 'no-store' }) \
                .then(async response => [response.status, await response.text()]); \
            reply.catch(() => {}); \
            window.fetches.set(method + path, reply);";
        self.run(script, json!([method, path, headers]));
    }

    /// What came of the page's latest fetch of that path.
    #[track_caller]
    pub fn finish(&self, method: &str, path: &str) -> Reply {
        let reply = self.run("return window.fetches.get(arguments[0])", json!([format!("{method}{path}")]));
        Reply {
            status: reply[0].as_u64().and_then(|status| status.try_into().ok()).expect("a status"),
            body: reply[1].as_str().expect("text").to_owned(),
        }
    }

    /// A command of the DevTools protocol, for this page.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// All cookies that the browser keeps, whatever their site and path.
    #[track_caller]
    pub fn cookies(&self) -> Vec<StoredCookie> {
        let cookies = self.devtools("Storage.getCookies", json!({}));
        let stored = |cookie: &Value| {
            let text = |field: &str| cookie[field].as_str().expect(field).to_owned();
            let flag = |field: &str| cookie[field].as_bool().expect(field);
            StoredCookie {
                name: text("name"),
                value: text("value"),
                domain: text("domain"),
                path: text("path"),
                http_only: flag("httpOnly"),
                secure: flag("secure"),
                same_site: cookie["sameSite"].as_str().map(str::to_owned),
                partitioned: !cookie["partitionKey"].is_null(),
                expires: (!flag("session")).then(|| cookie["expires"].as_f64().expect("a time") as u64),
            }
        };
        cookies["cookies"].as_array().expect("a list").iter().map(stored).collect()
    }

    /// Those of one name.
    #[track_caller]
    pub fn cookies_named(&self, name: &str) -> Vec<StoredCookie> {
        self.cookies().into_iter().filter(|cookie| cookie.name == name).collect()
    }

    /// Forgets all cookies.
    #[track_caller]
    pub fn forget(&self) {
        self.devtools("Storage.clearCookies", json!({}));
        assert_eq!(self.cookies(), []);
    }

    /// Keeps this cookie too, as if the host of `url` had set it.
    #[track_caller]
    pub fn keep(&self, cookie: &StoredCookie, url: &str) {
        assert!(!cookie.domain.starts_with('.') && !cookie.partitioned, "not of one host: {cookie:?}");
        let mut same = json!({
            "url": url,
            "name": cookie.name,
            "value": cookie.value,
            "path": cookie.path,
            "httpOnly": cookie.http_only,
            "secure": cookie.secure,
        });
        if let Some(same_site) = &cookie.same_site {
            same["sameSite"] = json!(same_site);
        }
        if let Some(expires) = cookie.expires {
            same["expires"] = json!(expires);
        }
        self.devtools("Storage.setCookies", json!({ "cookies": [same] }));
        assert!(self.cookies().contains(cookie), "{:?}", self.cookies());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser first: it would outlive a driver that is killed.
        if let Some(session) = &self.session {
            let _ = request(self.port, "DELETE", &format!("/session/{session}"), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// One WebDriver command.
fn request(port: u16, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let exchange = || -> std::io::Result<(bool, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(START))?;
        let length = body.len();
        stream.write_all(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .as_bytes(),
        )?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let good = line.split(' ').nth(1) == Some("200");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut reply = vec![0; length];
        reader.read_exact(&mut reply)?;
        Ok((good, reply))
    };
    let (good, reply) = exchange().map_err(|error| format!("chromedriver does not answer: {error}"))?;
    let mut reply: Value = serde_json::from_slice(&reply).map_err(|error| error.to_string())?;
    let value = reply["value"].take();
    if good { Ok(value) } else { Err(format!("{}: {}", value["error"], value["message"])) }
}
