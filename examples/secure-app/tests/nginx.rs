//! Behind a real nginx, with the configuration that the example recommends.

mod common;

use axum::{Extension, Router, extract::ConnectInfo, routing::get};
use common::{
    NAME, PASSWORD, Site, USER, at_once,
    nginx::{Nginx, Place, SHOP, Visitor, Way, shop},
};
use secure_app::{
    App,
    client::{Client, Connection},
};
use std::{
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};
use tokio::sync::Barrier;

const ONE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 2);
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// Says for whom the app takes the client.
fn who() -> Router<Arc<App>> {
    let who = async |Extension(client): Extension<Client>| format!("{} {}", client.address, client.https);
    Router::new().route("/who", get(who))
}

/// The app and an nginx before it.
fn behind_nginx(way: Way) -> (Site, Nginx) {
    let place = Place::free();
    let site = shop(&place.settings(), who()).started();
    let nginx = Nginx::start(&site, place, way);
    (site, nginx)
}

fn visitor(site: &Site, place: Place, address: Ipv4Addr) -> Visitor<'_> {
    Visitor { site, place, address }
}

/// A file that a client of ACME has put there.
#[test]
fn nginx_answers_the_challenge_of_its_own_certificate_and_the_app_that_of_its() {
    const PATH: &str = "/.well-known/acme-challenge/token";
    let place = Place::free();
    let site = shop(&place.settings(), who()).started();
    let root = site.folder.path().join("acme");
    std::fs::create_dir_all(root.join(".well-known/acme-challenge")).unwrap();
    std::fs::write(root.join(&PATH[1..]), "an answer").unwrap();
    let (line, root) = ("# location ^~ /.well-known/acme-challenge/ { root /var/www/acme; }", root.display());
    let own = format!("location ^~ /.well-known/acme-challenge/ {{ root {root}; }}");
    for (changes, answer) in [(vec![(line, &*own)], Some("an answer")), (vec![], None)] {
        let nginx = Nginx::with(&site, Place::free(), Place::of(&site), Way::Plain, &changes);
        let reply = visitor(&site, nginx.place, ONE).send_plain("GET", PATH, &[("Host", SHOP)], "");
        assert_eq!((reply.status == 200).then_some(&*reply.body), answer, "{reply:?}");
    }
}

// ------------------------------------------------------------------------------------------------ The whole way

#[track_caller]
fn a_visit(way: Way) {
    let (site, nginx) = behind_nginx(way);
    let visitor = visitor(&site, nginx.place, ONE);
    let origin = format!("https://{SHOP}:{}", nginx.place.https.port());

    // Plain HTTP gets as far as the redirect, by which nothing is set.
    for headers in [[FORM, ("Host", SHOP)], [FORM, ("X-Forwarded-Proto", "https")]] {
        let reply = visitor.send_plain("POST", "/cart?x", &headers, "tea=1");
        assert_eq!(reply.status, 308, "{reply:?}");
        assert_eq!(reply.header("location"), Some(&*format!("{origin}/cart?x")));
        assert_eq!((reply.header("set-cookie"), reply.header("strict-transport-security")), (None, None));
    }
    let home = visitor.get("/", "");
    assert_eq!((home.status, home.header("server")), (200, Some("nginx")), "{home:?}");
    let year = home.header("strict-transport-security").expect("the name is no local one");
    assert!(year.contains("max-age=31536000"), "{year}");
    for host in ["evil.example", "10.0.0.1"] {
        assert_eq!(visitor.send("GET", "/", &[("Host", host)], "").status, 421, "{host}");
    }

    // What stands in `Origin` is what nginx passes on as `Host`.
    let add = |origin: &str| visitor.send("POST", "/cart", &[FORM, ("Origin", origin)], "tea=1&quantity=3");
    assert_eq!(add("https://evil.example").status, 403);
    let added = add(&origin);
    assert_eq!((added.status, added.header("location")), (303, Some("/")), "{added:?}");
    let signed_in = visitor.log_in(&added.cookies(), PASSWORD);
    assert_eq!((signed_in.status, signed_in.header("location")), (303, Some("/")), "{signed_in:?}");
    for reply in [&added, &signed_in] {
        let cookie = reply.header("set-cookie").expect("a session");
        assert!(cookie.starts_with(NAME) && cookie.contains("; Secure"), "{cookie}");
    }
    let cookie = signed_in.cookies();
    let session = visitor.session(&cookie);
    assert_eq!((&session["user"], &session["cart"][0]["quantity"]), (&USER.into(), &3.into()), "{session}");

    let signed_out = visitor.post("/logout", &cookie, "");
    assert_eq!(signed_out.status, 303, "{signed_out:?}");
    assert!(signed_out.all("set-cookie").iter().any(|cookie| cookie.contains("Max-Age=0")), "{signed_out:?}");
    for cookies in [&signed_out.cookies(), &cookie] {
        assert_eq!(visitor.session(cookies)["user"], serde_json::Value::Null);
    }
    assert!(!nginx.errors().contains("[error]"), "{}", nginx.errors());
}

#[test]
fn a_visit_goes_the_whole_way_where_tls_ends_at_nginx() {
    a_visit(Way::Plain);
}

#[test]
fn a_visit_goes_the_whole_way_where_nginx_speaks_tls_to_the_app_too() {
    a_visit(Way::Tls);
}

#[test]
fn nginx_asks_no_app_whose_certificate_is_not_the_issuers_and_for_the_name() {
    let place = Place::free();
    let site = shop(&place.settings(), who());
    site.write_certificate("other.example.com");
    let site = site.started();
    let nginx = Nginx::start(&site, place, Way::Tls);
    assert_eq!(visitor(&site, place, ONE).get("/", "").status, 502);
    assert!(nginx.errors().contains("upstream SSL certificate does not match"), "{}", nginx.errors());
    drop(nginx);
    // One that was made at the app's start is nobody's.
    let place = Place::free();
    let stranger = Site::start("");
    let nginx = Nginx::with(&site, place, Place::of(&stranger), Way::Tls, &[]);
    assert_eq!(visitor(&site, place, ONE).get("/", "").status, 502);
    assert!(nginx.errors().contains("upstream SSL certificate verify error"), "{}", nginx.errors());
}

#[test]
fn wrong_passwords_count_by_the_clients_address_and_not_by_that_of_nginx() {
    for way in [Way::Plain, Way::Tls] {
        let (site, nginx) = behind_nginx(way);
        let (one, other) = (visitor(&site, nginx.place, ONE), visitor(&site, nginx.place, OTHER));
        for _ in 0..10 {
            assert_eq!(one.log_in("", "wrong").status, 403, "{way:?}");
        }
        assert_eq!(one.log_in("", PASSWORD).status, 429, "{way:?}");
        assert_eq!(other.log_in("", PASSWORD).status, 303, "{way:?}");
        // It stays so whatever is forged.
        let form = format!("username={USER}&password={}", PASSWORD.replace(' ', "+"));
        for address in [OTHER, nginx.place.address, Ipv4Addr::LOCALHOST] {
            let forged = [FORM, ("X-Forwarded-For", &*address.to_string())];
            assert_eq!(one.send("POST", "/login", &forged, &form).status, 429, "{way:?} {address}");
        }
    }
}

// ------------------------------------------------------------------------------------------------ Whose word is taken

/// What clients may put in to be taken for somebody else.
fn forged(proxy: Ipv4Addr) -> Vec<Vec<(&'static str, String)>> {
    let list = |value: &str| vec![("X-Forwarded-For", value.to_owned())];
    vec![
        vec![],
        list("203.0.113.1"),
        list(&format!("203.0.113.1, {proxy}")),
        list(&format!("{proxy}, {proxy}")),
        list("garbage"),
        [list("203.0.113.1"), list("127.0.0.1")].concat(),
        vec![("X-Forwarded-Proto", "http".to_owned())],
        vec![("X-Forwarded-Proto", "https, http".to_owned()), ("X-Real-IP", "203.0.113.1".to_owned())],
        vec![("Forwarded", "for=203.0.113.1;proto=http".to_owned())],
    ]
}

#[track_caller]
fn is_taken_for(visitor: Visitor<'_>, expected: &str, proxy: Ipv4Addr) {
    for forged in forged(proxy) {
        let headers: Vec<(&str, &str)> = forged.iter().map(|(name, value)| (*name, &**value)).collect();
        let reply = visitor.send("GET", "/who", &headers, "");
        assert_eq!((reply.status, &*reply.body), (200, expected), "{headers:?}: {reply:?}");
    }
}

#[test]
fn what_clients_forge_changes_nothing_through_nginx_and_past_it() {
    for way in [Way::Plain, Way::Tls] {
        let (site, nginx) = behind_nginx(way);
        is_taken_for(visitor(&site, nginx.place, ONE), "127.9.0.1 true", nginx.place.address);
    }
    // Straight to the app, from an address that is nobody's proxy.
    let (site, nginx) = behind_nginx(Way::Plain);
    let past = visitor(&site, Place::of(&site), ONE);
    is_taken_for(past, "127.9.0.1 true", nginx.place.address);
    let headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "203.0.113.1")];
    assert_eq!(past.send_plain("GET", "/who", &headers, "").status, 308);
    // From the proxy's own address it would be believed.
    let proxy = visitor(&site, Place::of(&site), nginx.place.address);
    assert_eq!(proxy.send_plain("GET", "/who", &headers, "").body, "203.0.113.1 true");
}

#[test]
fn of_several_proxies_in_a_row_the_client_of_the_last_trusted_one_counts() {
    let (outer, inner) = (Place::free(), Place::free());
    let a = outer.address.to_string();
    for (trusted, expected) in [
        (vec![&outer, &inner], "127.9.0.1 true"),
        (vec![&inner], &*format!("{a} true")),
        (vec![&outer], &*format!("{} true", inner.address)),
    ] {
        let site = shop(&outer.settings_trusting(&trusted), who()).started();
        let _inner = Nginx::start(&site, inner, Way::Tls);
        let _outer = Nginx::with(&site, outer, inner, Way::Tls, &[]);
        is_taken_for(visitor(&site, outer, ONE), expected, inner.address);
    }
}

// ------------------------------------------------------------------------------------------------ Sizes

/// Of a response as the app sends it to nginx: the bytes of its head, and its cookies.
#[track_caller]
fn head_of(site: &Site, proxy: Place, path: &str, cookies: &str, form: &str) -> (usize, String) {
    let nginx = visitor(site, Place::of(site), proxy.address);
    let from = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "127.9.0.1")];
    let head = nginx.head("POST", path, &[from[0], from[1], FORM, ("Cookie", cookies)], form);
    let mut stream = nginx.connect(nginx.place.http);
    // As nginx does with `keepalive`.
    stream.write_all(head.replace("Connection: close\r\n", "").as_bytes()).unwrap();
    stream.write_all(form.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).unwrap();
    let set = text.lines().filter_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
    let set: Vec<_> = set.filter(|cookie| !cookie.ends_with('=')).collect();
    (text.len(), set.join("; "))
}

#[test]
fn the_head_of_the_largest_response_has_more_than_4_kib_and_less_than_8() {
    let place = Place::free();
    let site = shop(&place.settings(), Router::new()).started();
    let measure = |path: &str, cookies: &str, form: &str| head_of(&site, place, path, cookies, form);
    let (_, ada) = measure("/login", "", &format!("username={USER}&password={}", PASSWORD.replace(' ', "+")));
    let (full, cookie) = measure("/cart/fill", &ada, "");
    let (signed_out, marker) = measure("/logout", &cookie, "");
    let (full_again, again) = measure("/cart/fill", &marker, "");
    assert!(marker.starts_with("__Host-Http-id-out=") && again.starts_with("__Host-Http-id="));
    for size in [full, full_again] {
        assert!((5_300..5_500).contains(&size), "{size}");
    }
    assert!((1_400..1_600).contains(&signed_out), "{signed_out}");
}

#[test]
fn the_largest_session_comes_through_with_the_examples_buffer_and_not_with_nginxs_default() {
    let setting = "proxy_buffer_size 8k;";
    for (size, goes_through) in [("4k", false), ("8k", true)] {
        let place = Place::free();
        let site = shop(&place.settings(), Router::new()).started();
        // 4k: one page of memory, which is the default on most machines.
        let changes = [(setting, &*format!("proxy_buffer_size {size};"))];
        let nginx = Nginx::with(&site, place, Place::of(&site), Way::Plain, &changes);
        let visitor = visitor(&site, place, ONE);
        let reply = visitor.post("/cart/fill", "", "");
        let errors = nginx.errors();
        if goes_through {
            assert_eq!(reply.status, 200, "{reply:?}");
            let session = visitor.session(&reply.cookies());
            assert!(session["bytes_left"].as_u64().unwrap() < 4, "{session}");
            assert!(!errors.contains("[error]"), "{errors}");
        } else {
            assert_eq!(reply.status, 502, "{reply:?}");
            assert!(errors.contains("upstream sent too big header"), "{errors}");
        }
    }
}

#[test]
fn the_cookies_of_a_request_come_through_with_the_examples_buffers_and_not_with_nginxs_default() {
    let setting = "large_client_header_buffers 4 16k;";
    // By HTTP/2 each cookie may stand on its own.
    for (buffers, status, version) in [("4 8k", 400, "1.1"), ("4 16k", 200, "1.1"), ("4 16k", 200, "2")] {
        let place = Place::free();
        let site = shop(&place.settings(), Router::new()).started();
        let changes = [(setting, &*format!("large_client_header_buffers {buffers};"))];
        let nginx = Nginx::with(&site, place, Place::of(&site), Way::Plain, &changes);
        let visitor = visitor(&site, place, ONE);
        let before = visitor.log_in("", PASSWORD).cookies();
        let marker = visitor.post("/logout", &before, "").cookies();
        let ada = visitor.log_in(&marker, PASSWORD).cookies();
        let full = visitor.post("/cart/fill", &format!("{marker}; {ada}"), "").cookies();
        // The largest that browsers keep, by somebody else at the same name.
        let other = format!("other={}", "x".repeat(4096 - "other".len()));
        let cookies = [&*marker, &full, &other].join("; ");
        assert!((8_200..8_300).contains(&cookies.len()), "{}", cookies.len());
        let reply = match version {
            "1.1" => visitor.get("/api/session", &cookies),
            _ => {
                let header = format!("Cookie: {cookies}");
                let (spoken, reply) =
                    nginx.curl(&["--interface", "127.9.0.1", "-H", &header], "/api/session");
                assert_eq!(spoken, version);
                reply
            }
        };
        assert_eq!(reply.status, status, "{buffers}, HTTP/{version}: {reply:?}");
        if status == 200 {
            let session: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!(session["user"], USER, "{buffers}, HTTP/{version}");
        }
    }
}

#[test]
fn a_visit_by_http_2_is_as_any_other() {
    let (site, nginx) = behind_nginx(Way::Tls);
    let jar = site.folder.path().join("jar").display().to_string();
    let client = ["--interface", "127.9.0.1", "-b", &jar, "-c", &jar];
    let ask = |arguments: &[&str], path: &str| {
        let (version, reply) = nginx.curl(&[&client[..], arguments].concat(), path);
        assert_eq!(version, "2", "{reply:?}");
        reply
    };
    let origin = format!("Origin: https://{SHOP}:{}", nginx.place.https.port());
    let form = format!("username={USER}&password={}", PASSWORD.replace(' ', "+"));
    assert_eq!(ask(&["-H", "Origin: https://evil.example", "-d", &form], "/login").status, 403);
    assert_eq!(ask(&["-H", &origin, "-d", &form], "/login").status, 303);
    assert_eq!(ask(&["-H", &origin, "-d", ""], "/cart/fill").status, 200);
    let reply = ask(&["-H", "X-Forwarded-For: 203.0.113.1"], "/who");
    assert_eq!((reply.status, &*reply.body), (200, "127.9.0.1 true"), "{reply:?}");
    let reply = ask(&[], "/api/session");
    let session: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(session["user"], USER);
    assert!(session["bytes_left"].as_u64().unwrap() < 4, "{session}");
}

#[test]
fn a_body_that_is_too_large_is_413_and_never_502() {
    let (site, nginx) = behind_nginx(Way::Plain);
    let visitor = visitor(&site, nginx.place, ONE);
    for size in [16 * 1024 + 1, 1_000_000] {
        for _ in 0..20 {
            assert_eq!(visitor.post("/cart", "", &"x".repeat(size)).status, 413, "{size}");
        }
    }
    // As large as may be, it gets as far as the form's own fault.
    assert_eq!(visitor.post("/cart", "", &"x".repeat(16 * 1024)).status, 422);
}

// ------------------------------------------------------------------------------------------------ Connections

/// Says from which port it was asked; and, at `/together`, once so many have asked.
fn connections(together: usize) -> Router<Arc<App>> {
    let barrier = Arc::new(Barrier::new(together));
    let port = async |ConnectInfo(connection): ConnectInfo<Connection>| connection.peer.port().to_string();
    let meet = async move || {
        barrier.wait().await;
        "all are here"
    };
    Router::new().route("/port", get(port)).route("/together", get(meet))
}

#[test]
fn a_hundred_and_fifty_clients_at_once_are_answered_through_one_nginx() {
    // More than the app grants any one address, of connections and of requests.
    const CLIENTS: usize = 150;
    for way in [Way::Plain, Way::Tls] {
        let place = Place::free();
        let site = shop(&place.settings(), connections(CLIENTS)).started();
        let _nginx = Nginx::start(&site, place, way);
        let replies = at_once(CLIENTS, |number| {
            let address = Ipv4Addr::new(127, 9, 1, number as u8);
            let reply = visitor(&site, place, address).get("/together", "");
            (reply.status, reply.body)
        });
        assert!(
            replies.iter().all(|reply| *reply == (200, "all are here".to_owned())),
            "{way:?}: {replies:?}"
        );
    }
}

#[test]
fn the_health_check_answers_load_balancers_before_nginx_and_nginx_itself() {
    let (site, nginx) = behind_nginx(Way::Plain);
    let visitor = visitor(&site, nginx.place, ONE);
    for host in [SHOP, "10.0.0.7"] {
        for reply in [
            visitor.send("GET", "/health", &[("Host", host)], ""),
            visitor.send_plain("GET", "/health", &[("Host", host)], ""),
        ] {
            assert_eq!((reply.status, &*reply.body), (200, "ok\n"), "{host}: {reply:?}");
        }
    }
}

#[test]
fn nginx_keeps_its_connections_to_the_app_for_the_next_clients() {
    for (way, keeps) in [(Way::Plain, true), (Way::Tls, true), (Way::Plain, false)] {
        let place = Place::free();
        let site = shop(&place.settings(), connections(1)).started();
        let lines = ["keepalive 16;", "keepalive_timeout 5s;"];
        let changes = if keeps { vec![] } else { lines.map(|line| (line, "")).into() };
        let _nginx = Nginx::with(&site, place, Place::of(&site), way, &changes);
        let mut ports: Vec<String> = (0..30)
            .map(|number| visitor(&site, place, Ipv4Addr::new(127, 9, 2, number)).get("/port", "").body)
            .collect();
        ports.sort();
        ports.dedup();
        // One of each worker; else one for each request, but that the kernel may give a port twice.
        let is_kept = (1..=2).contains(&ports.len());
        assert!(is_kept == keeps && (is_kept || ports.len() > 20), "{way:?}: {ports:?}");
    }
}

#[test]
fn whatever_is_asked_while_nginx_reads_its_configuration_anew_is_answered() {
    let (site, nginx) = behind_nginx(Way::Tls);
    let (ends, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let load: Vec<_> = [ONE, OTHER]
            .map(|address| {
                let (visitor, ends, asked) = (visitor(&site, nginx.place, address), &ends, &asked);
                scope.spawn(move || {
                    while !ends.load(SeqCst) {
                        let reply = visitor.get("/who", "");
                        assert_eq!((reply.status, &*reply.body), (200, &*format!("{address} true")));
                        asked.fetch_add(1, SeqCst);
                    }
                })
            })
            .into();
        let more = || {
            let enough = asked.load(SeqCst) + 10;
            browser_tests::wait_for("some answers", || {
                let is_over = asked.load(SeqCst) >= enough || load.iter().any(|one| one.is_finished());
                is_over.then_some(())
            });
        };
        for _ in 0..5 {
            more();
            nginx.reload();
        }
        more();
        ends.store(true, SeqCst);
    });
}

// ------------------------------------------------------------------------------------------------ Set up wrong

#[test]
fn the_log_says_once_what_a_proxy_is_missing() {
    let scheme = "proxy_set_header X-Forwarded-Proto $scheme;";
    let address = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
    let said = ["sends no X-Forwarded-Proto", "sends no X-Forwarded-For", "belongs into `trusted_proxies`"];
    for (left_out, is_trusted, expected, status) in [
        (vec![], true, [0, 0, 0], 200),
        (vec![scheme], true, [1, 0, 0], 308),
        (vec![address], true, [0, 1, 0], 200),
        (vec![scheme, address], true, [1, 1, 0], 308),
        (vec![], false, [0, 0, 1], 308),
    ] {
        let place = Place::free();
        let settings = if is_trusted { place.settings() } else { place.settings_trusting(&[]) };
        let mut site = shop(&settings, Router::new());
        site.start_program(&[]);
        let changes: Vec<_> = left_out.iter().map(|line| (*line, "")).collect();
        let nginx = Nginx::with(&site, place, Place::of(&site), Way::Plain, &changes);
        // Not by what load balancers ask on their own behalf.
        let balancer = visitor(&site, Place::of(&site), place.address);
        assert_eq!(balancer.send_plain("GET", "/health", &[], "").status, 200);
        let begun = site.its_program().output();
        assert_eq!(said.map(|text| begun.matches(text).count()), [0; 3], "{begun}");
        for _ in 0..3 {
            let reply = visitor(&site, place, ONE).get("/login", "");
            assert_eq!(reply.status, status, "{left_out:?}: {reply:?}");
            if status == 308 {
                let here = format!("https://{SHOP}:{}/login", place.https.port());
                assert_eq!(reply.header("location"), Some(&*here));
            }
        }
        drop(nginx);
        let program = site.take_program();
        program.signal("TERM");
        let (_, output) = program.ended();
        assert_eq!(said.map(|text| output.matches(text).count()), expected, "{left_out:?}: {output}");
    }
}
