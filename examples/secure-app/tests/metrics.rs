//! Metrics: what each of them counts, where they are shown and where not, and that alerts, dashboard and README are about these.

mod common;

use browser_tests::{TempDir, output, wait_for};
use common::{
    NAME, PASSWORD, Reply, Site, USER, at_once, exchange, head, new_key,
    redis::Redis,
    servers::{Server, own_address},
};
use cookie_session::Key;
use secure_app::{
    acme::AcmeStatus,
    metrics::{Format, Scrape, is_public, warn_if_public},
    shares::Shares,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const ON: &str = "metrics = '127.0.0.1:0'";
const HOUR: Duration = Duration::from_secs(60 * 60);
const WRONG: &str = "a guess of mine";
const PACKAGE: &str = "apt-get install prometheus";
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
     text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// What stands after the name with its labels, by that.
type Series = BTreeMap<String, f64>;

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(name)
}

#[track_caller]
fn address(site: &Site) -> SocketAddr {
    site.running().metrics.as_ref().expect("it is on").address
}

#[track_caller]
fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(browser_tests::PATIENCE)).expect("a timeout");
    exchange(stream, &head(method, path, headers, address.port(), ""), "")
}

#[track_caller]
fn text(address: SocketAddr) -> String {
    let reply = ask(address, "GET", "/metrics", &[]);
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

fn series(text: &str) -> Series {
    let line = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        (series.to_owned(), value.parse().expect("a number"))
    };
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(line).collect();
    let all: Series = lines.iter().cloned().collect();
    assert_eq!(all.len(), lines.len(), "a series stands there twice");
    all
}

#[track_caller]
fn scrape(site: &Site) -> Series {
    series(&text(address(site)))
}

#[track_caller]
fn value(site: &Site, series: &str) -> f64 {
    *scrape(site).get(series).unwrap_or_else(|| panic!("no {series}"))
}

/// What has changed, and by how much, of all whose names begin so.
#[track_caller]
fn risen(site: &Site, names: &[&str], by: impl FnOnce()) -> BTreeMap<String, f64> {
    let before = scrape(site);
    by();
    let after = scrape(site);
    let of_these = |series: &&String| names.iter().any(|name| series.starts_with(name));
    let change = |series: &String| after.get(series).unwrap_or(&0.0) - before.get(series).unwrap_or(&0.0);
    let all: BTreeSet<_> = before.keys().chain(after.keys()).filter(of_these).collect();
    all.into_iter().map(|series| (series.clone(), change(series))).filter(|(_, by)| *by != 0.0).collect()
}

fn once<const MANY: usize>(series: [&str; MANY]) -> BTreeMap<String, f64> {
    series.map(|series| (format!("secure_app_{series}"), 1.0)).into()
}

// ------------------------------------------------------------------------------------------------ What is counted

#[test]
fn what_became_of_a_session_is_counted_once_for_each_request() {
    let site = Site::start(ON);
    let asks = |cookies: &str| {
        risen(&site, &["secure_app_sessions"], || {
            assert_eq!(site.get("/", cookies).status, 200);
        })
    };
    let rejected = |kind: &str| {
        once([
            r#"sessions_total{outcome="rejected"}"#,
            &format!("sessions_rejected_total{{kind=\"{kind}\"}}"),
        ])
    };
    assert_eq!(asks(""), once([r#"sessions_total{outcome="fresh"}"#]));
    assert_eq!(asks("another=1"), once([r#"sessions_total{outcome="fresh"}"#]));
    let cookie = site.post("/cart", "", "tea=1").cookies();
    assert_eq!(asks(&cookie), once([r#"sessions_total{outcome="opened"}"#]));
    // Whatever the handler made of it: here it has not even seen it.
    let refuses = |reply: Reply| assert_eq!(reply.status, 422);
    assert_eq!(
        risen(&site, &["secure_app_sessions"], || refuses(site.post("/cart", &cookie, "tea=1&milk=1"))),
        once([r#"sessions_total{outcome="opened"}"#])
    );

    let mut tampered = cookie.clone().into_bytes();
    let middle = (NAME.len() + cookie.len()) / 2;
    tampered[middle] = if tampered[middle] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();
    assert_eq!(asks(&tampered), rejected("not_authentic"));
    assert_eq!(asks(&format!("{NAME}=not%20base64")), rejected("malformed"));
    assert_eq!(asks(&format!("{NAME}={}", "A".repeat(5000))), rejected("too_long"));

    let (user, copy) = (site.signed_in(), site.signed_in());
    let out = site.post("/logout", &user, "");
    assert_eq!(out.status, 303);
    assert_eq!(asks(&format!("{user}; {}", out.cookies())), rejected("signed_out"));
    // By the list, which no browser can leave out.
    assert_eq!(asks(&user), rejected("refused"));
    assert_eq!(value(&site, "secure_app_denylist_sessions"), 1.0);
    assert_eq!(value(&site, "secure_app_denylist_users"), 0.0);
    assert_eq!(site.post("/logout/everywhere", &copy, "").status, 303);
    assert_eq!(asks(&copy), rejected("refused"));
    assert_eq!(value(&site, "secure_app_denylist_users"), 1.0);

    site.advance(25 * HOUR);
    assert_eq!(asks(&cookie), rejected("expired"));
}

#[test]
fn a_session_of_an_old_key_is_counted_by_the_id_of_that_key_and_without_it_as_unknown() {
    let site = Site::start(ON);
    let by_fallback = |series: &Series| -> Vec<String> {
        let name = "secure_app_sessions_opened_by_fallback_total";
        series.keys().filter(|series| series.starts_with(name)).cloned().collect()
    };
    assert_eq!(by_fallback(&scrape(&site)), [""; 0]);
    let cookie = site.post("/cart", "", "tea=1").cookies();
    let reloads = |outcome: &str| value(&site, &format!("secure_app_reloads_total{{outcome=\"{outcome}\"}}"));
    let takes = |keys: &str| {
        let before = reloads("ok");
        site.configure(ON, keys);
        wait_for("the keys", || (reloads("ok") == before + 1.0).then_some(()));
    };
    let new = new_key();
    takes(&format!("primary = '{new}'\nfallbacks = ['{}']", site.key));
    let id = site.key.parse::<Key>().unwrap().id();
    let series = format!("sessions_opened_by_fallback_total{{key=\"{id}\"}}");
    // There before it counts.
    assert_eq!(value(&site, &format!("secure_app_{series}")), 0.0);
    let asks = || {
        risen(&site, &["secure_app_sessions"], || {
            assert_eq!(site.get("/", &cookie).status, 200);
        })
    };
    assert_eq!(asks(), once([r#"sessions_total{outcome="opened"}"#, &series]));
    takes(&format!("primary = '{new}'"));
    assert_eq!(by_fallback(&scrape(&site)), [""; 0]);
    assert_eq!(
        asks(),
        once([
            r#"sessions_total{outcome="rejected"}"#,
            r#"sessions_rejected_total{kind="unknown_key"}"#,
            "sessions_unknown_keys_total"
        ])
    );

    let is_good = "secure_app_last_reload_successful";
    assert_eq!((reloads("refused"), value(&site, is_good)), (0.0, 1.0));
    site.configure(ON, "primary = 'too short'");
    wait_for("the refusal", || (reloads("refused") == 1.0).then_some(()));
    assert_eq!(value(&site, is_good), 0.0);
    takes(&format!("primary = '{new}'"));
    assert_eq!((reloads("refused"), value(&site, is_good)), (1.0, 1.0));
}

#[test]
fn what_does_without_the_session_does_not_open_it() {
    let site = Site::start(ON);
    // Whoever opens it, counts it.
    let cookie = format!("{NAME}=not%20base64");
    let opened = risen(&site, &["secure_app_sessions"], || {
        for (method, path, status) in [
            ("GET", "/favicon.svg", 200),
            ("GET", "/health", 200),
            ("GET", "/nowhere", 404),
            ("DELETE", "/cart", 405),
            ("GET", "/logout", 405),
        ] {
            assert_eq!(site.send(method, path, &[("Cookie", &cookie)], "").status, status, "{path}");
        }
    });
    assert_eq!(opened, once([]));
    let opened = risen(&site, &["secure_app_sessions"], || drop(site.get("/login", &cookie)));
    assert_eq!(opened.len(), 2, "{opened:?}");
}

#[test]
fn requests_are_counted_by_method_and_status_and_timed_by_route() {
    let site = Site::start(ON);
    let names = ["secure_app_requests_total", "secure_app_request_duration_seconds_count"];
    for (method, path, status, route) in [
        ("GET", "/", 200, "/"),
        ("HEAD", "/", 200, "/"),
        ("POST", "/cart/empty", 303, "/cart/empty"),
        ("GET", "/cart/empty", 405, "/cart/empty"),
        ("GET", "/nowhere?/", 404, "none"),
        ("BREW", "/", 405, "/"),
    ] {
        let counted = risen(&site, &names, || {
            assert_eq!(site.send(method, path, &[], "").status, status, "{path}");
        });
        let shown = if method == "BREW" { "other" } else { method };
        let expected = once([
            &format!("requests_total{{method=\"{shown}\",status=\"{status}\"}}"),
            &format!("request_duration_seconds_count{{route=\"{route}\"}}"),
        ]);
        assert_eq!(counted, expected);
    }
    // Over plain HTTP, where the redirect is made before any route.
    let counted = risen(&site, &names[..1], || {
        assert_eq!(site.send_plain("GET", "/", &[], "").status, 308);
    });
    assert_eq!(counted, once([r#"requests_total{method="GET",status="308"}"#]));
}

#[test]
fn an_attempt_to_sign_in_is_counted_by_its_outcome() {
    let site = Site::start(ON);
    let names = ["secure_app_sign_in_attempts_total", "secure_app_password_checks_refused_total"];
    let attempts = |user: &str, password: &str, status| {
        risen(&site, &names, || assert_eq!(site.log_in("", user, password).status, status))
    };
    let outcome = |outcome: &str| once([&format!("sign_in_attempts_total{{outcome=\"{outcome}\"}}")]);
    assert_eq!(attempts(USER, PASSWORD, 303), outcome("right"));
    assert_eq!(value(&site, "secure_app_sign_in_records"), 0.0);
    assert_eq!(attempts(USER, WRONG, 403), outcome("wrong"));
    assert_eq!(attempts("nobody", WRONG, 403), outcome("wrong"));
    // Two pairs of user and address, and the address.
    assert_eq!(value(&site, "secure_app_sign_in_records"), 3.0);
    let here: IpAddr = "127.0.0.1".parse().unwrap();
    for _ in 0..9 {
        let _ = site.runtime().block_on(site.app().limits.begin(USER, here)).expect("it is counted");
    }
    assert_eq!(value(&site, "secure_app_sign_in_locked"), 1.0);
    assert_eq!(attempts(USER, PASSWORD, 429), outcome("locked"));
    site.advance(2 * HOUR);
    assert_eq!(value(&site, "secure_app_sign_in_locked"), 0.0);

    // Checks that nobody goes on with: the first ones are made, and hand their turns to others, which keep them.
    let _inside = site.runtime().enter();
    let mut checks = Vec::new();
    let mut begin = |address: &str| {
        let client = secure_app::client::network(address.parse().unwrap());
        let mut check = Box::pin(site.app().passwords.check(client, "nobody".to_owned(), WRONG.to_owned()));
        assert!(check.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        checks.push(check);
    };
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        (0..16).for_each(|_| begin(address));
    }
    let in_progress = || value(&site, "secure_app_password_checks_in_progress");
    let rest = 48_usize.saturating_sub(std::thread::available_parallelism().unwrap().get());
    wait_for("the first checks", || (in_progress() == rest as f64).then_some(()));
    (0..16).for_each(|_| begin("127.0.0.1"));
    assert!(in_progress() >= 16.0);
    let mut busy = outcome("busy");
    busy.extend(once([r#"password_checks_refused_total{limit="client"}"#]));
    assert_eq!(attempts(USER, PASSWORD, 503), busy);
    drop(checks);
    assert_eq!(in_progress(), 0.0);
}

#[test]
fn without_redis_nobody_signs_in_and_the_sign_outs_that_wait_are_counted() {
    let mut redis = Redis::start();
    let site = Site::start(&format!("{ON}\nredis_url = '{}'", redis.url()));
    let redis_is = |series: &Series| {
        ["up", "sign_outs_waiting", "connections_total", "resyncs_total"]
            .map(|name| series[&format!("secure_app_redis_{name}")] as u64)
    };
    wait_for("Redis to be reached", || (redis_is(&scrape(&site)) == [1, 0, 1, 1]).then_some(()));
    assert_eq!(value(&site, "secure_app_redis_errors_total"), 0.0);
    let cookie = site.signed_in();
    redis.kill();
    wait_for("Redis to be lost", || (redis_is(&scrape(&site))[0] == 0).then_some(()));
    assert!(value(&site, "secure_app_redis_errors_total") >= 1.0);
    assert_eq!(site.post("/logout", &cookie, "").status, 303);
    assert_eq!(redis_is(&scrape(&site)), [0, 1, 1, 1]);
    let counted = risen(&site, &["secure_app_sign_in_attempts_total"], || {
        assert_eq!(site.log_in("", USER, PASSWORD).status, 503);
    });
    assert_eq!(counted, once([r#"sign_in_attempts_total{outcome="unavailable"}"#]));
    redis.start_again();
    wait_for("Redis to have it", || (redis_is(&scrape(&site)) == [1, 0, 2, 2]).then_some(()));
}

#[test]
fn a_certificate_that_is_made_for_the_start_alone_has_no_times_to_warn_of() {
    let site = Site::prepared(ON);
    let configured = fs::read_to_string(site.file()).unwrap();
    let (before, rest) = configured.split_once("[tls]").unwrap();
    let (_, after) = rest.split_once("[[users]]").unwrap();
    site.write("secure-app.toml", &format!("{before}[[users]]{after}"));
    let page = text(address(&site.started()));
    assert!(page.contains("secure_app_store_failing") && !page.contains("secure_app_certificate"), "{page}");
}

#[test]
fn the_times_of_the_certificate_are_those_of_the_one_in_use() {
    let site = Site::start(ON);
    let shown = || {
        ["not_before", "not_after"]
            .map(|name| value(&site, &format!("secure_app_certificate_{name}_seconds")))
    };
    let its = || {
        let der = site.certificate();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let validity = certificate.validity();
        [validity.not_before, validity.not_after].map(|time| time.timestamp() as f64)
    };
    let first = its();
    assert_eq!(shown(), first);
    let now = SystemTime::now();
    let second = site.write_certificate_between(now - HOUR, now + 5 * HOUR);
    wait_for("the new certificate", || (site.certificate() == second).then_some(()));
    wait_for("its times", || (shown() == its()).then_some(()));
    assert_ne!(its(), first);
    let end = (now + 5 * HOUR).duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((shown()[1] - end).abs() <= 1.0);
}

#[test]
fn who_is_turned_away_is_counted_by_the_limit_that_did_it() {
    let shares = Shares::new(2, 1);
    let one = Some(Ipv6Addr::LOCALHOST);
    let held = shares.take(one).unwrap();
    assert!(shares.take(one).is_none());
    let proxy = shares.take(None).unwrap();
    assert!(shares.take(None).is_none() && shares.take(one).is_none());
    let in_use = shares.in_use();
    assert_eq!((in_use.taken, in_use.of_all), (2, 2));
    assert_eq!(in_use.refused, [("all", 2), ("client", 1)]);
    drop((held, proxy));
    assert_eq!(shares.in_use().taken, 0);

    let site = Site::start(ON);
    let open = |times: usize| -> Vec<_> {
        (0..times).map(|_| TcpStream::connect(site.http()).expect("it listens")).collect()
    };
    let is_open = |many: f64| (value(&site, "secure_app_connections_open") == many).then_some(());
    let streams = open(100);
    wait_for("all connections", || is_open(100.0));
    let refused = risen(&site, &["secure_app_connections_refused_total"], || {
        // Closed, or never answered.
        let _ = open(1)[0].read(&mut [0]);
    });
    assert_eq!(refused, once([r#"connections_refused_total{limit="client"}"#]));
    drop(streams);
    wait_for("their end", || is_open(0.0));
}

#[test]
fn a_disk_that_is_full_is_shown() {
    let mut site = Site::prepared(ON);
    site.start_program_that_meets_limits();
    let cookie = site.signed_in();
    let address = address_in(&site.its_program().output());
    let failing = || {
        let shown = series(&text(address));
        (shown["secure_app_store_failing"], shown["secure_app_store_errors_total"] >= 1.0)
    };
    assert_eq!(failing(), (0.0, false));
    site.limit_files("1");
    assert_eq!(site.post("/logout", &cookie, "").status, 303);
    assert_eq!(failing(), (1.0, true));
}

// ------------------------------------------------------------------------------------------------ What is not told

#[test]
fn nothing_that_a_client_sent_and_no_secret_is_shown() {
    let site = Site::start(ON);
    let cookie = site.signed_in();
    site.get("/secret-path?secret=query", &cookie);
    site.log_in(&cookie, "mallory", WRONG);
    site.send("SECRETMETHOD", "/", &[("X-Forwarded-For", "192.0.2.77")], "");
    for format in ["", OPEN_METRICS] {
        let text = ask(address(&site), "GET", "/metrics", &[("Accept", format)]).body;
        let value = cookie.split_once('=').unwrap().1;
        for secret in [
            USER,
            "mallory",
            PASSWORD,
            WRONG,
            &site.key,
            value,
            NAME,
            "127.0.0.1",
            "::1",
            "192.0.2.77",
            "secret",
            "SECRET",
        ] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn paths_and_methods_that_nobody_knows_do_not_make_the_answer_longer() {
    let site = Site::start(ON);
    let ask = |number: usize| {
        let (path, method) = (format!("/{}", new_key()), format!("M{}", &new_key()[..8]));
        let path = [path.as_str(), "/login"][number % 2];
        let method = ["GET", &method, "POST"][number % 3];
        let value = format!("{NAME}={}", new_key());
        let headers = [("Cookie", value.as_str()), ("Host", "localhost:1"), ("User-Agent", path)];
        site.send(method, path, &headers, "").status
    };
    // So that each kind was there once: a route's duration is shown from its first request on.
    let statuses: BTreeSet<_> = (0..6).map(ask).collect();
    assert!(statuses.contains(&404) && statuses.contains(&405) && statuses.contains(&200), "{statuses:?}");
    let names = |site: &Site| scrape(site).into_keys().collect::<Vec<_>>();
    let before = names(&site);
    at_once(2, |half| (0..100).map(|number| ask(2 * number + half)).max());
    assert_eq!(names(&site), before);
}

#[test]
fn counters_begin_at_zero_with_all_their_labels() {
    let site = Site::start(ON);
    let text = text(address(&site));
    let series = series(&text);
    for (name, labels) in [
        (
            "sessions_total",
            &["outcome=\"fresh\"", "outcome=\"opened\"", "outcome=\"imported\"", "outcome=\"rejected\""][..],
        ),
        ("sessions_rejected_total", &["kind=\"unknown_key\"", "kind=\"not_authentic\"", "kind=\"payload\""]),
        ("requests_total", &["method=\"GET\",status=\"500\"", "method=\"POST\",status=\"503\""]),
        ("requests_refused_total", &["limit=\"all\"", "limit=\"client\""]),
        ("connections_refused_total", &["limit=\"all\"", "limit=\"client\""]),
        ("password_checks_refused_total", &["limit=\"all\"", "limit=\"client\""]),
        ("reloads_total", &["outcome=\"ok\"", "outcome=\"refused\""]),
        (
            "sign_in_attempts_total",
            &[
                "outcome=\"right\"",
                "outcome=\"wrong\"",
                "outcome=\"locked\"",
                "outcome=\"busy\"",
                "outcome=\"unavailable\"",
            ],
        ),
    ] {
        for labels in labels {
            assert_eq!(series.get(&format!("secure_app_{name}{{{labels}}}")), Some(&0.0), "{name} {labels}");
        }
    }
    let counters = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    for name in counters.filter(|name| *name != "process_cpu_seconds_total") {
        let all = series.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        assert!(all.clone().all(|(_, value)| *value == 0.0), "{:?}", all.collect::<Vec<_>>());
    }
}

// ------------------------------------------------------------------------------------------------ The listener

#[test]
fn metrics_are_off_unless_they_are_configured() {
    let site = Site::start("");
    assert!(site.running().metrics.is_none());
    assert_eq!(site.get("/metrics", "").status, 404);
    let site = Site::program("", &[]);
    assert!(!site.its_program().output().contains("metrics"));
}

#[test]
fn the_public_listeners_do_not_answer_what_this_one_does_and_it_answers_nothing_else() {
    let site = Site::start(ON);
    assert_eq!(site.get("/metrics", "").status, 404);
    assert_eq!(site.send_plain("GET", "/metrics", &[("Host", "localhost")], "").status, 308);

    let address = address(&site);
    for path in ["/", "/health", "/login", "/favicon.svg", "/metrics/", "/metrics/x", "//metrics"] {
        let reply = ask(address, "GET", path, &[]);
        assert_eq!((reply.status, reply.body.as_str()), (404, ""), "{path}: {reply:?}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let reply = ask(address, method, "/metrics", &[]);
        assert_eq!((reply.status, reply.body.as_str()), (405, ""), "{method}: {reply:?}");
    }
    // By any name, and with nothing of the app's around it.
    let reply = ask(address, "GET", "/metrics", &[("Host", "prometheus.example"), ("Cookie", "a=b")]);
    assert_eq!(reply.status, 200);
    let names: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type", "content-length", "connection", "date"]);
}

#[test]
fn whoever_asks_for_openmetrics_gets_it_and_others_the_text_of_prometheus() {
    let site = Site::start(ON);
    let prometheus = "text/plain; version=0.0.4; charset=utf-8";
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, expected) in [
        ("", prometheus),
        ("*/*", prometheus),
        ("text/plain;version=0.0.4", prometheus),
        (OPEN_METRICS, open),
        (three, open),
    ] {
        let reply = ask(address(&site), "GET", "/metrics", &[("Accept", accept)]);
        assert_eq!(reply.header("content-type"), Some(expected), "{accept}");
        assert_eq!(reply.body.ends_with("\n# EOF\n"), expected == open, "{accept}");
        let counter = if expected == open {
            "# TYPE secure_app_sessions counter"
        } else {
            "# TYPE secure_app_sessions_total counter"
        };
        assert!(reply.body.lines().any(|line| line == counter), "{accept}");
    }
}

#[test]
fn connections_that_ask_nothing_are_few_and_give_way() {
    let site = Site::start(ON);
    let connect = |patience: Duration| {
        let stream = TcpStream::connect(address(&site)).expect("it listens");
        stream.set_read_timeout(Some(patience)).expect("a timeout");
        stream
    };
    let silent: Vec<_> = (0..20).map(|_| connect(browser_tests::PATIENCE)).collect();
    // Before the others' time is over.
    let read = connect(Duration::from_secs(5)).read(&mut [0]);
    assert!(matches!(&read, Ok(0)) || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    for mut one in silent {
        assert_eq!(one.read(&mut [0]).expect("its end"), 0);
    }
    assert_eq!(ask(address(&site), "GET", "/metrics", &[]).status, 200);
}

#[test]
fn the_end_can_be_watched() {
    let site = Site::program(ON, &[]);
    let program = site.its_program();
    let address = address_in(&program.output());
    let mut stream = site.connect();
    let body = "tea=1&quantity=1";
    let head = head("POST", "/cart", &[("Content-Type", "application/x-www-form-urlencoded")], 1, body);
    stream.write_all(head.as_bytes()).unwrap();
    let in_progress = || series(&text(address))["secure_app_requests_in_progress"];
    wait_for("the request", || (in_progress() == 1.0).then_some(()));
    program.signal("TERM");
    wait_for("the end of the other listeners", || TcpStream::connect(site.https()).is_err().then_some(()));
    assert_eq!(in_progress(), 1.0);
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let mut site = site;
    let (status, output) = site.take_program().ended();
    assert!(status.success(), "{output}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_address_that_others_may_reach_is_warned_of() {
    for address in ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "172.32.0.1"] {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
    for address in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ] {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
    let folder = TempDir::new();
    let log = folder.path().join("log");
    let subscriber =
        tracing_subscriber::fmt().with_writer(Arc::new(fs::File::create(&log).unwrap())).finish();
    tracing::subscriber::with_default(subscriber, || {
        for address in ["127.0.0.1:9464", "192.0.2.1:9464"] {
            warn_if_public(address.parse().unwrap());
        }
    });
    let log = fs::read_to_string(log).unwrap();
    let line = "metrics are for everybody who reaches this address";
    assert!(log.matches(line).count() == 1 && log.contains("192.0.2.1:9464"), "{log}");
}

/// Where the program listens for Prometheus, as it says.
#[track_caller]
fn address_in(output: &str) -> SocketAddr {
    let line = output.lines().find(|line| line.contains(" metrics ")).expect("a line");
    line.rsplit("address=").next().unwrap().trim().parse().expect("an address")
}

// ------------------------------------------------------------------------------------------------ Alerts, dashboard, README

/// All that there can be: with Redis, with certificates that are ordered, and after a rotation.
fn everything() -> String {
    let redis = Redis::start();
    let settings = format!("{ON}\nredis_url = '{}'", redis.url());
    let site = Site::prepared(&settings);
    site.configure(&settings, &format!("primary = '{}'\nfallbacks = ['{}']", site.key, new_key()));
    let site = site.started();
    let mut scrape = Scrape::of(Arc::clone(site.app()));
    scrape.acme = Some(AcmeStatus {
        failures_total: 3,
        failures_in_a_row: 2,
        renewed_total: 1,
        next_attempt: Some(SystemTime::now()),
    });
    scrape.write(Format::Prometheus).unwrap()
}

/// Names of metrics in an expression or elsewhere.
fn names(text: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| word.starts_with("secure_app_") || word.starts_with("process_");
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(is_name).map(str::to_owned).collect()
}

/// Its metrics: their types, and their labels.
fn described(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut described = BTreeMap::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("# TYPE ") {
            let (name, kind) = line.split_once(' ').unwrap();
            described.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, labels)) = line.split_once('{') {
            let name =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let labels = labels.split('"').step_by(2).map(|label| label.trim_matches(['=', ',', '}']));
            let labels =
                labels.filter(|label| !label.starts_with('}') && !label.is_empty() && *label != "le");
            let labels = labels.filter(|label| !label.contains(' ')).map(str::to_owned);
            described.get_mut(name).expect("its type").1.extend(labels);
        }
    }
    described
}

#[track_caller]
fn promtool(arguments: &[&str], input: &Path) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(fs::File::open(input).unwrap());
    let output = output(&mut command, PACKAGE);
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // Of metrics, advice is said and is no failure.
    let is_good = output.status.success()
        && (arguments[0] != "check" || arguments[1] != "metrics" || said[1].is_empty());
    assert!(is_good, "promtool {arguments:?}: {said:?}");
}

#[test]
fn prometheus_has_nothing_to_say_against_names_and_alerts() {
    let folder = TempDir::new();
    let metrics = folder.path().join("metrics.txt");
    fs::write(&metrics, everything()).unwrap();
    promtool(&["check", "metrics"], &metrics);
    let alerts = monitoring("alerts.yml");
    promtool(&["check", "rules", alerts.to_str().unwrap()], &alerts);
    for name in ["alerts.test.yml", "rotation.test.yml"] {
        let tests = monitoring(name);
        promtool(&["test", "rules", tests.to_str().unwrap()], &tests);
    }
}

#[test]
fn each_alert_is_tested_and_says_what_to_do() {
    let alerts = fs::read_to_string(monitoring("alerts.yml")).unwrap();
    let tests =
        ["alerts.test.yml", "rotation.test.yml"].map(|name| fs::read_to_string(monitoring(name)).unwrap());
    let known = names(&everything());
    let runbook = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("RUNBOOK.md")).unwrap();
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let sections: Vec<_> = sections.map(|title| title.to_ascii_lowercase().replace(' ', "-")).collect();
    assert!(names(&runbook).is_subset(&known), "{:?}", names(&runbook));
    let alerts: Vec<_> = alerts.split("- alert: ").skip(1).collect();
    assert_eq!(alerts.len(), 17);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for part in ["summary: ", "description: ", "severity: "] {
            assert_eq!(alert.matches(part).count(), 1, "{name}: {part}");
        }
        let runbook = alert.split("runbook: \"RUNBOOK.md#").nth(1).and_then(|rest| rest.split('"').next());
        assert!(
            runbook.is_some_and(|section| sections.iter().any(|its| its == section)),
            "{name}: {runbook:?}"
        );
        let used = names(alert);
        assert!(used.is_subset(&known), "{name}: {used:?}");
        assert!(!used.is_empty() || alert.contains("expr: up{"), "{name}");
        let fires = format!("alertname=\"{name}\", alertstate=\"firing\"");
        assert!(tests.iter().any(|tests| tests.contains(&fires)), "{name} is not tested");
    }
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let text = fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dashboard["schemaVersion"], 39);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["datasource", "instance"]);
    let everything = everything();
    let known = names(&everything);
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut places, mut rows) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        for x in place[0]..place[0] + place[2] {
            for y in place[1]..place[1] + place[3] {
                assert!(x < 24 && places.insert((x, y)), "over another one: {panel}");
            }
        }
        if panel["type"] == "row" {
            rows.push(panel["title"].as_str().unwrap());
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let used = names(expression);
            assert!(!used.is_empty() && used.is_subset(&known), "{expression}");
            let expression = expression.replace("$__rate_interval", "1m");
            rules.push_str(&format!("      - record: panel{}\n        expr: '{expression}'\n", rules.len()));
        }
    }
    assert_eq!(rows, ["Traffic", "Sessions", "Sign-in", "Certificate", "Redis"]);
    let shown = names(&text);
    let shown = |name: &str| shown.iter().any(|shown| shown.strip_suffix("_bucket").unwrap_or(shown) == name);
    let missing: Vec<_> = described(&everything).into_keys().filter(|name| !shown(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let folder = TempDir::new();
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], &file);
}

#[test]
fn the_readme_has_each_metric_with_its_type_and_labels_and_no_other() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("\n## Metrics\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let row = |line: &str| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let labels = cells[2].split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        assert!(!cells[3].is_empty(), "{line}");
        Some((cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels)))
    };
    let table: BTreeMap<String, (String, BTreeSet<String>)> = section.lines().filter_map(row).collect();
    assert_eq!(table, described(&everything()));
}

// ------------------------------------------------------------------------------------------------ A real Prometheus

struct Prometheus {
    _server: Server,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Asks that address each second, and looks at the alerts as often.
    fn start(target: SocketAddr) -> Prometheus {
        let folder = TempDir::new();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             scrape_configs:\n  - job_name: secure-app\n    static_configs: [{{ targets: ['{target}'] }}]\n",
            monitoring("alerts.yml").display()
        );
        fs::write(&config, text).unwrap();
        let address = SocketAddr::from((own_address(), 9090));
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        Prometheus { _server: Server::start(&mut command, PACKAGE), address, _folder: folder }
    }

    fn answer(&self, path: &str) -> Option<String> {
        let stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(browser_tests::PATIENCE)).ok()?;
        let reply = exchange(stream, &head("GET", path, &[], self.address.port(), ""), "");
        (reply.status == 200).then_some(reply.body)
    }
}

#[test]
fn a_real_prometheus_reads_the_real_program_and_warns_of_a_certificate_that_ends_in_an_hour() {
    let mut site = Site::prepared(ON);
    let now = SystemTime::now();
    site.write_certificate_between(now - 23 * HOUR, now + HOUR);
    site.start_program(&[]);
    let target = address_in(&site.its_program().output());
    assert_eq!(site.get("/", "").status, 200);
    let prometheus = Prometheus::start(target);
    let alerts = wait_for("the alerts", || {
        let alerts = prometheus.answer("/api/v1/alerts")?;
        (alerts.contains("CertificateEndsSoon") && alerts.contains("\"CertificateEnds\"")).then_some(alerts)
    });
    assert_eq!(alerts.matches("\"state\":\"firing\"").count(), 2, "{alerts}");
    assert!(alerts.contains("ends in 59m "), "{alerts}");
    let query = "/api/v1/query?query=secure_app_sessions_total%7Boutcome=%22fresh%22%7D";
    let answer = prometheus.answer(query).expect("an answer");
    assert!(answer.contains(r#","1"]"#), "{answer}");
}
