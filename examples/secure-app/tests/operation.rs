//! What whoever runs it relies on: the health check, an end without losing a request, a log without secrets, and bounds on
//! what a client may cost.

mod common;

use axum::{Router, routing::get};
use browser_tests::wait_for;
use common::{PASSWORD, Reply, Site, USER, head};
use secure_app::App;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[test]
fn the_health_check_answers_by_any_name_on_both_listeners_and_sets_no_cookie() {
    let site = Site::start("");
    let cookie = site.signed_in();
    for (host, cookie) in [("10.0.0.7", ""), ("evil.example", ""), ("localhost", &*cookie)] {
        let headers = [("Host", host), ("Cookie", cookie)];
        for reply in
            [site.send("GET", "/health", &headers, ""), site.send_plain("GET", "/health", &headers, "")]
        {
            assert_eq!((reply.status, &*reply.body), (200, "ok\n"), "{host}: {reply:?}");
            assert_eq!(reply.header("set-cookie"), None, "{host}: {reply:?}");
        }
    }
    // Nothing else is to be had there in this way.
    for path in ["/health/", "/health/x", "/HEALTH", "//health"] {
        assert_eq!(site.send("GET", path, &[("Host", "evil.example")], "").status, 421, "{path}");
        assert_eq!(site.send_plain("GET", path, &[], "").status, 308, "{path}");
    }
}

// ------------------------------------------------------------------------------------------------ Its end

/// A route that answers when it is told to, and tells when it is asked.
fn slow() -> (Router<Arc<App>>, mpsc::Receiver<()>, Arc<Notify>) {
    let (sender, asked) = mpsc::channel();
    let go = Arc::new(Notify::new());
    let answer = {
        let go = Arc::clone(&go);
        async move || {
            sender.send(()).expect("the test listens");
            go.notified().await;
            "at last"
        }
    };
    (Router::new().route("/slow", get(answer)), asked, go)
}

#[test]
fn a_request_under_way_is_answered_before_the_end_and_no_new_one_is_taken() {
    let (route, asked, go) = slow();
    let mut site = Site::with("", route);
    let (https, http, port) = (site.https(), site.http(), site.https().port());
    // A connection that has asked nothing yet is not waited for.
    let idle = TcpStream::connect(http).unwrap();
    let stream = site.connect();
    let slow = thread::spawn(move || common::exchange(stream, &head("GET", "/slow", &[], port, ""), ""));
    asked.recv().unwrap();
    thread::scope(|scope| {
        let stopping = scope.spawn(|| site.stop());
        for address in [https, http] {
            wait_for("the listener to be gone", || TcpStream::connect(address).is_err().then_some(()));
        }
        assert!(!stopping.is_finished() && !slow.is_finished());
        go.notify_one();
        let reply = slow.join().unwrap();
        assert_eq!((reply.status, &*reply.body), (200, "at last"), "{reply:?}");
        stopping.join().unwrap();
    });
    drop(idle);
}

#[test]
fn told_to_terminate_or_to_stop_the_process_answers_what_is_under_way_and_ends_well() {
    for signal in ["TERM", "INT"] {
        let mut site = Site::program("", &[]);
        let (address, port) = (site.https(), site.https().port());
        // A request whose body is still on its way when the signal comes.
        let form = format!("username={USER}&password={}", PASSWORD.replace(' ', "+"));
        let head = head("POST", "/login", &[FORM, ("Expect", "100-continue")], port, &form);
        let mut stream = site.connect();
        stream.write_all((head + &form[..5]).as_bytes()).unwrap();
        stream.flush().unwrap();
        let goes_on = "HTTP/1.1 100 Continue\r\n\r\n";
        let mut answer = vec![0; goes_on.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), goes_on);
        site.its_program().signal(signal);
        wait_for("the listener to be gone", || TcpStream::connect(address).is_err().then_some(()));
        let reply = common::exchange(stream, &form[5..], "");
        assert_eq!(reply.status, 303, "{reply:?}");
        let (status, output) = site.take_program().ended();
        assert_eq!(status.code(), Some(0), "{output}");
        assert!(output.contains("stopping"), "{output}");
    }
}

#[test]
fn the_next_process_can_start_as_soon_as_the_one_before_has_ended() {
    let mut site = Site::program("", &[]);
    for _ in 0..2 {
        let cookie = site.signed_in();
        assert_eq!(site.post("/logout", &cookie, "").status, 303);
        let program = site.take_program();
        program.signal("TERM");
        assert!(program.ended().0.success());
        site.start_program(&[]);
        assert_eq!(site.user(&cookie), None);
    }
}

// ------------------------------------------------------------------------------------------------ The log

/// Requests of all kinds, full of secrets. Returns these.
fn make_requests(site: &Site) -> Vec<String> {
    let secrets =
        ["password-that-is-wrong", "name-like-a-password", "query-secret", "card-secret", "forged-cookie"];
    let [wrong, name, query, card, forged] = secrets;
    let signed_in = site.signed_in();
    let cart = site.post("/cart", &signed_in, &format!("tea=1&card={card}"));
    assert_eq!(cart.status, 303);
    assert_eq!(site.log_in("", USER, wrong).status, 403);
    assert_eq!(site.log_in("", name, wrong).status, 403);
    assert_eq!(site.log_in(&cart.cookies(), name, PASSWORD).status, 403);
    assert_eq!(site.get(&format!("/?{query}"), &cart.cookies()).status, 200);
    assert_eq!(site.get(&format!("/nothing?token={query}"), "").status, 404);
    assert_eq!(site.get("/", &format!("{}={forged}", common::NAME)).status, 200);
    let headers = [FORM, ("Authorization", query), ("X-Secret", query), ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(site.send("POST", "/cart", &headers, &format!("tea=1&card={card}")).status, 403);
    assert_eq!(site.send("POST", "/api/cart", &[], &format!("{{\"card\":\"{card}\"")).status, 415);
    let json = [("Content-Type", "application/json")];
    assert_eq!(site.send("POST", "/api/cart", &json, &format!("{{\"card\":\"{card}\"")).status, 400);
    assert_eq!(site.post("/logout", &signed_in, "").status, 303);
    let value = |cookies: &str| cookies.split_once('=').expect("a cookie").1.to_owned();
    let mut all: Vec<_> = secrets.map(str::to_owned).to_vec();
    all.extend([PASSWORD.to_owned(), PASSWORD.replace(' ', "+"), site.key.clone()]);
    all.extend([value(&signed_in), value(&cart.cookies()), common::password_hash().to_owned()]);
    let pem = fs::read_to_string(site.folder.path().join("key.pem")).unwrap();
    all.push(pem.lines().nth(1).unwrap().to_owned());
    all
}

#[test]
fn the_log_has_a_line_for_each_request_and_no_secret() {
    for level in ["info", "debug", "trace"] {
        let mut site = Site::program("", &[("RUST_LOG", level)]);
        let secrets = make_requests(&site);
        site.its_program().says("path=\"/logout\" status=303");
        let program = site.take_program();
        program.signal("TERM");
        let (_, output) = program.ended();
        for line in [
            "method=POST path=\"/login\" status=303",
            "method=POST path=\"/login\" status=403",
            "method=GET path=\"/nothing\" status=404",
            "address=127.0.0.1 https=true",
        ] {
            assert!(output.contains(line), "{level}: {line}: {output}");
        }
        // What happens on a request's way has its number.
        for event in ["a wrong user name or password", "a write from another site was refused", "signed in"] {
            let line = output
                .lines()
                .find(|line| line.contains(event))
                .unwrap_or_else(|| panic!("{event}: {output}"));
            assert!(line.contains("request{number="), "{line}");
        }
        for secret in secrets {
            let begin = &secret[..secret.len().min(40)];
            assert!(!output.contains(begin), "{level}: {begin}: {output}");
        }
    }
}

#[test]
fn as_json_each_line_of_the_log_is_an_object() {
    let mut site = Site::program("log = 'json'", &[]);
    make_requests(&site);
    site.its_program().says("/logout");
    let program = site.take_program();
    program.signal("TERM");
    let (_, output) = program.ended();
    let (address, log): (Vec<_>, Vec<_>) = output.lines().partition(|line| line.starts_with("https://"));
    assert_eq!(address.len(), 1);
    assert!(log.len() > 10, "{output}");
    let mut paths = Vec::new();
    for line in log {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(entry[field].is_string(), "{field}: {line}");
        }
        if entry["message"] == "answered" {
            assert!(entry["status"].is_u64() && entry["span"]["number"].is_u64(), "{line}");
            paths.push(entry["path"].as_str().expect("a path").to_owned());
        }
    }
    assert!(paths.iter().any(|path| path == "/nothing"), "{paths:?}");
}

#[test]
fn a_line_cannot_be_forged_by_what_a_client_sends() {
    let mut site = Site::program("", &[]);
    for path in ["/%0aERROR%20forged", "/a%1b[31mforged"] {
        assert_eq!(site.get(path, "").status, 404);
    }
    site.its_program().says("%1b");
    let program = site.take_program();
    program.signal("TERM");
    let (_, output) = program.ended();
    assert!(!output.contains("\nERROR") && !output.contains('\u{1b}'), "{output}");
}

// ------------------------------------------------------------------------------------------------ Bounds

#[test]
fn who_is_slow_to_send_a_requests_head_is_cut_off() {
    let site = Site::start("");
    let start = Instant::now();
    let begin = "GET / HTTP/1.1\r\nHost: localhost\r\n";
    // In each place where a client may dawdle: all of them at once.
    let plain = |text: &str| {
        let mut stream = TcpStream::connect(site.http()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut encrypted = site.connect();
    encrypted.write_all(begin.as_bytes()).unwrap();
    encrypted.flush().unwrap();
    let mut again = site.connect();
    let first = head("GET", "/health", &[], 1, "").replace("Connection: close\r\n", "");
    again.write_all((first + begin).as_bytes()).unwrap();
    again.flush().unwrap();
    let handshake = TcpStream::connect(site.https()).unwrap();
    let mut streams = [plain(""), plain(begin), handshake];
    for stream in &mut streams {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = String::new();
        match stream.read_to_string(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    }
    for (stream, answers) in [(&mut encrypted, false), (&mut again, true)] {
        let mut rest = Vec::new();
        let result = stream.read_to_end(&mut rest);
        let cut = |error: &std::io::Error| {
            use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
            [ConnectionReset, UnexpectedEof].contains(&error.kind())
        };
        assert!(result.as_ref().err().is_none_or(cut), "{result:?}");
        assert_eq!(rest.starts_with(b"HTTP/1.1 200"), answers, "{}", String::from_utf8_lossy(&rest));
    }
    let took = start.elapsed().as_secs();
    assert!((9..20).contains(&took), "{took} s");
    assert_eq!(site.get("/", "").status, 200);
}

#[test]
fn a_body_has_sixteen_kibibytes_whether_its_length_is_said_or_not() {
    let site = Site::start("");
    let form = |length: usize| {
        let start = "tea=9&card=";
        format!("{start}{}", "x".repeat(length - start.len()))
    };
    // As long as it may be it is read, and then no good for another reason.
    assert_eq!(site.post("/cart", "", &form(16 * 1024)).status, 422);
    let reply = site.post("/cart", "", &form(16 * 1024 + 1));
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.body.contains("16 KiB"), "{reply:?}");
    for (length, status) in [(16 * 1024, 422), (16 * 1024 + 1, 413)] {
        let headers = [FORM, ("Transfer-Encoding", "chunked"), ("Content-Length", "")];
        let body = format!("{length:x}\r\n{}\r\n0\r\n\r\n", form(length));
        let reply = site.send("POST", "/cart", &headers, &body);
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

// ------------------------------------------------------------------------------------------------ Other sites

#[test]
fn a_write_that_another_site_made_the_browser_send_is_refused_and_changes_nothing() {
    let site = Site::start("hosts = ['localhost', 'app.example']");
    let cookie = site.signed_in();
    let own = format!("https://localhost:{}", site.https().port());
    let send = |path: &str, headers: &[(&str, &str)]| -> Reply {
        let mut all = vec![("Cookie", &*cookie), FORM];
        all.extend(headers);
        site.send("POST", path, &all, "tea=1")
    };
    let refused: [&[(&str, &str)]; 9] = [
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "nonsense")],
        &[("Sec-Fetch-Site", "cross-site"), ("Origin", &own)],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
        // Its own name on another port is another origin, and so is another name of its own.
        &[("Origin", "https://localhost:1")],
        &[("Origin", "https://app.example")],
        &[("Origin", "https://localhost.evil.example")],
    ];
    for headers in refused {
        for path in
            ["/cart", "/cart/fill", "/cart/empty", "/logout", "/logout/everywhere", "/login", "/nothing"]
        {
            let reply = send(path, headers);
            assert_eq!(reply.status, 403, "{path} {headers:?}: {reply:?}");
            assert_eq!(reply.header("set-cookie"), None, "{path} {headers:?}: {reply:?}");
        }
        let json = [("Content-Type", "application/json"), ("Cookie", &*cookie)];
        let all: Vec<_> = json.iter().chain(headers).copied().collect();
        assert_eq!(site.send("POST", "/api/cart", &all, r#"{"tea":1}"#).status, 403, "{headers:?}");
    }
    assert_eq!(site.user(&cookie).as_deref(), Some(USER));
    // Its own pages, those whom the user asked to, and clients that are no browsers.
    let allowed: [&[(&str, &str)]; 5] = [
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "none")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", &own)],
        &[("Origin", &own)],
        &[],
    ];
    for headers in allowed {
        let reply = send("/cart", headers);
        assert_eq!(reply.status, 303, "{headers:?}: {reply:?}");
        assert!(!reply.cookies().is_empty(), "{headers:?}: {reply:?}");
    }
    // To read is no write.
    let reply = site.send("GET", "/", &[("Cookie", &*cookie), ("Sec-Fetch-Site", "cross-site")], "");
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn the_unit_for_systemd_gives_it_the_time_and_the_files_that_it_takes() {
    let unit = include_str!("../secure-app.example.service");
    let number = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name)).expect("it stands there");
        line.parse::<u64>().expect("a number")
    };
    // After requests under way, sign-outs are delivered.
    assert!(number("TimeoutStopSec=") >= secure_app::server::GRACE.as_secs() + 5);
    let site = Site::prepared("metrics = '127.0.0.1:0'").started();
    let address = site.running().metrics.as_ref().expect("it is on").address;
    let stream = std::net::TcpStream::connect(address).expect("it listens");
    let metrics =
        common::exchange(stream, &common::head("GET", "/metrics", &[], address.port(), ""), "").body;
    let limit = metrics.lines().find_map(|line| line.strip_prefix("secure_app_connections_limit "));
    let connections: f64 = limit.expect("it is there").parse().expect("a number");
    assert!(number("LimitNOFILE=") as f64 >= 2.0 * connections);
}
