//! What one client may take of what all share, and a disk that is full.

mod common;

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Request, header},
};
use browser_tests::wait_for;
use common::{Disk, PASSWORD, Site, USER};
use cookie_session::SessionId;
use secure_app::{
    App, Opened,
    client::Connection,
    config::Settings,
    denylist::Denylist,
    host::Hosts,
    passwords::{Passwords, User, Users},
    shares::Shares,
    store::{Change, Store},
};
use std::{
    io::{Read, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tower::ServiceExt as _;

fn client(number: u128) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from_bits(number << 64))
}

#[test]
fn no_client_gets_more_than_its_share_and_all_together_no_more_than_there_is() {
    let shares = Shares::new(5, 2);
    let one = (shares.take(client(1)).unwrap(), shares.take(client(1)).unwrap());
    assert!(shares.take(client(1)).is_none());
    let others = (shares.take(client(2)).unwrap(), shares.take(client(3)).unwrap());
    // Who speaks for many has no share of its own, but of all there are only so many.
    let proxy = shares.take(None).unwrap();
    assert!(shares.take(None).is_none() && shares.take(client(4)).is_none());
    drop(one.0);
    let again = shares.take(client(1)).unwrap();
    assert!(shares.take(client(1)).is_none());
    drop((one.1, others, proxy, again));
    let all: Vec<_> = (0..5).map(|number| shares.take(client(number)).unwrap()).collect();
    assert!(shares.take(client(9)).is_none());
    drop(all);
}

#[test]
fn a_client_that_fills_its_share_of_connections_gets_no_other_and_keeps_those() {
    let site = Site::start("");
    let connect = || {
        let stream = TcpStream::connect(site.http()).unwrap();
        stream.set_read_timeout(Some(browser_tests::PATIENCE)).unwrap();
        stream
    };
    let ask = |mut stream: &TcpStream| -> bool {
        let sent = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut start = [0; 12];
        sent.and_then(|()| stream.read_exact(&mut start)).is_ok_and(|()| &start == b"HTTP/1.1 200")
    };
    let all: Vec<_> = (0..100).map(|_| connect()).collect();
    assert!(ask(&all[99]));
    assert!(!ask(&connect()));
    assert!(ask(&all[0]));
    drop(all);
    wait_for("a place", || ask(&connect()).then_some(()));
}

#[test]
fn a_request_has_its_share_until_its_response_is_taken() {
    let site = Site::prepared("");
    let Opened { app, writer, .. } = App::open(Some(site.file()), Arc::new(SystemTime::now)).unwrap();
    let hosts = Arc::new(Hosts::new(Settings::load(Some(&site.file())).unwrap().hosts, 443));
    let router = app.router(hosts, Router::new());
    let ask = || {
        let connection = Connection { peer: (Ipv4Addr::LOCALHOST, 1).into(), tls: true, share: None };
        let request = Request::get("/").header("host", "localhost").extension(ConnectInfo(connection));
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap());
        site.runtime().block_on(response).unwrap()
    };
    let untaken: Vec<_> = (0..100).map(|_| ask()).collect();
    assert!(untaken.iter().all(|response| response.status() == 200));
    assert_eq!(ask().status(), 503);
    // What is taken is whole.
    let length: usize = untaken[0].headers()["content-length"].to_str().unwrap().parse().unwrap();
    for response in untaken {
        let body = site.runtime().block_on(axum::body::to_bytes(response.into_body(), usize::MAX)).unwrap();
        assert_eq!(body.len(), length);
        assert!(body.ends_with(b"</html>"));
    }
    assert_eq!(ask().status(), 200);
    drop(writer);
}

#[test]
fn a_response_that_nobody_takes_ends_its_connection() {
    const SETTINGS_WITHOUT_ROOM: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    const GET: [u8; 14] = [0x82, 0x84, 0x87, 0x41, 9, b'l', b'o', b'c', b'a', b'l', b'h', b'o', b's', b't'];
    let site = Site::start("");
    let mut stream = site.connect_offering(&["h2"]);
    stream.sock.set_read_timeout(Some(2 * browser_tests::PATIENCE)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    // HTTP/2 (RFC 9113): no room for any response; then one whole HEADERS frame, the first stream's end.
    stream.write_all(&SETTINGS_WITHOUT_ROOM).unwrap();
    stream.write_all(&[0, 0, GET.len() as u8, 1, 5, 0, 0, 0, 1]).unwrap();
    stream.write_all(&GET).unwrap();
    stream.flush().unwrap();
    let begin = Instant::now();
    let mut responses = 0;
    // To the connection's end; a client that is there all the while answers pings.
    while let Some((kind, payload)) = frame(&mut stream) {
        match kind {
            1 => responses += 1,
            6 => {
                let answer = [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &payload[..]].concat();
                stream.write_all(&answer).and_then(|()| stream.flush()).unwrap();
            }
            _ => {}
        }
        assert!(begin.elapsed() < 2 * browser_tests::PATIENCE, "it goes on");
    }
    assert_eq!(responses, 1);
}

/// The next frame's type and payload. `None`: the connection has ended.
fn frame(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    if let Err(error) = stream.read_exact(&mut head) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it goes on");
        return None;
    }
    let mut payload = vec![0; usize::from_be_bytes([0, 0, 0, 0, 0, head[0], head[1], head[2]])];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], payload))
}

#[test]
fn a_client_that_has_many_passwords_checked_leaves_turns_for_others() {
    let hash = common::password_hash().to_owned();
    let user = User { name: USER.to_owned(), password_hash: hash };
    let passwords = Arc::new(Passwords::new(Users::new(&[user]).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let check = |number: u128, password: &str| {
            let (passwords, password) = (Arc::clone(&passwords), password.to_owned());
            let client = client(number).unwrap();
            tokio::spawn(async move { passwords.check(client, USER.to_owned(), password).await })
        };
        let greedy: Vec<_> = (0..200).map(|_| check(1, "wrong")).collect();
        assert!(check(2, PASSWORD).await.unwrap().unwrap().is_some());
        let mut put_off = 0;
        for one in greedy {
            put_off += usize::from(one.await.unwrap().is_err());
        }
        assert!((100..=184).contains(&put_off), "{put_off}");
    });
}

#[test]
fn a_sign_out_while_the_disk_is_full_is_written_later_and_nobody_is_counted_as_wrong() {
    let mut site = Site::prepared("");
    site.start_program_that_meets_limits();
    let (cookie, other) = (site.signed_in(), site.signed_in());
    site.limit_files("1");
    assert_eq!(site.post("/logout", &cookie, "").status, 303);
    assert_eq!(site.user(&cookie), None);
    let health = site.get("/health", "");
    assert_eq!((health.status, health.body.as_str()), (503, "the database is not written\n"));
    for _ in 0..12 {
        let reply = site.log_in("", USER, PASSWORD);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
    }
    // Whoever is signed in goes on.
    assert_eq!(site.user(&other).as_deref(), Some(USER));

    site.limit_files("unlimited");
    wait_for("the disk to be written", || (site.get("/health", "").status == 200).then_some(()));
    assert_eq!(site.log_in("", USER, PASSWORD).status, 303);
    let program = site.take_program();
    program.signal("TERM");
    let (status, output) = program.ended();
    assert!(status.success(), "{output}");
    assert!(output.contains("the database is written again"), "{output}");
    site.start_program(&[]);
    assert_eq!(site.user(&cookie), None);
    assert_eq!(site.user(&other).as_deref(), Some(USER));
}

#[test]
fn a_file_that_was_emptied_is_no_configuration_and_takes_nothing_away() {
    let site = Site::program("", &[]);
    let cookie = site.signed_in();
    let text = std::fs::read_to_string(site.file()).unwrap();
    let (users, keys) = text.split_once("[session.keys]").unwrap();
    let (tls, _) = users.split_once("[[users]]").unwrap();
    let (general, _) = tls.split_once("[tls]").unwrap();
    for (text, refusal) in [
        (String::new(), "secure-app.toml is empty"),
        (users.to_owned(), "there is no key any more"),
        (format!("{tls}\n[session.keys]{keys}"), "users: there are none any more"),
        (
            format!("{general}\n[[users]]{}\n[session.keys]{keys}", users.split_once("[[users]]").unwrap().1),
            "tls: there is no certificate any more",
        ),
        (format!("{users}\n[session]\nidle_timeout = '100days'\n[session.keys]{keys}"), "idle_timeout"),
        (format!("{users}\n[session]\ndomain = 'a.example'\n[session.keys]{keys}"), "domain"),
    ] {
        site.write("secure-app.toml", &text);
        site.its_program().says(refusal);
        assert_eq!(site.user(&cookie).as_deref(), Some(USER), "{refusal}");
    }
}

#[test]
fn a_user_who_signs_out_ten_thousand_times_is_signed_out_everywhere() {
    let site = Site::start("");
    let cookie = site.signed_in();
    let cookies = HeaderMap::from_iter([(header::COOKIE, cookie.parse().unwrap())]);
    let opened = site.app().sessions.codec().open(&cookies, SystemTime::now());
    let meta = opened.meta().unwrap();
    let folder = browser_tests::TempDir::new();
    let (store, _writer, _) = Store::open(folder.path()).unwrap();
    let id = |number: u128| number.to_be_bytes();
    let session = |id| Change::Session { id, user: USER.to_owned(), epoch: 0, until: u64::MAX };
    let before = (0..9_999).map(|number| session(id(number))).collect();
    let denylist = Denylist::new(before, store, None, Arc::new(SystemTime::now));
    let other = SessionId::from_bytes(id(u128::MAX));
    site.runtime().block_on(async {
        denylist.sign_out(meta, USER, 0).await.unwrap();
        assert_eq!(denylist.sizes(), (10_000, 0));
        assert!(denylist.refuses(meta.id(), USER, 0) && !denylist.refuses(other, USER, 0));
        denylist.sign_out(meta, USER, 0).await.unwrap();
        assert_eq!(denylist.sizes(), (0, 1));
        assert!(denylist.refuses(meta.id(), USER, 0) && denylist.refuses(other, USER, 0));
        assert!(!denylist.refuses(other, USER, denylist.epoch(USER)) && !denylist.refuses(other, "bob", 0));
    });
}

#[test]
fn a_copy_of_a_signed_out_cookie_stays_worthless_when_timeouts_are_raised() {
    let settings =
        |timeout: &str| format!("[session]\nidle_timeout = '{timeout}'\nabsolute_timeout = '{timeout}'");
    let mut site = Site::start(&settings("1h"));
    let cookie = site.signed_in();
    assert_eq!(site.post("/logout", &cookie, "").status, 303);
    // Gone for longer than it lived, and forgotten by whoever forgets what has expired.
    site.advance(Duration::from_secs(3 * 60 * 60));
    let app = Arc::clone(site.app());
    site.runtime().block_on(app.denylist.sweep()).unwrap();
    drop(app);
    site.configure(&settings("14days"), &format!("primary = '{}'", site.key));
    site.restart();
    assert_eq!(site.user(&cookie), None);
}

#[test]
fn how_much_is_signed_out_is_known_whatever_came_in_which_order() {
    let site = Site::prepared("");
    let folder = browser_tests::TempDir::new();
    let (store, _writer, _) = Store::open(folder.path()).unwrap();
    let time = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&time);
    let clock = Arc::new(move || UNIX_EPOCH + Duration::from_millis(clock.load(SeqCst)));
    let denylist = Denylist::new(Vec::new(), store, None, clock);
    // Few of each, so that they meet; xorshift64.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % most
    };
    let mut greatest = (0, 0);
    for step in 0..2_000 {
        let (user, epoch) = (format!("user {}", below(4)), below(50) + step * 40);
        let until = epoch + below(5_000);
        match below(10) {
            0 => site.runtime().block_on(denylist.sign_out_everywhere(&user, epoch)).unwrap(),
            1 => {
                time.fetch_add(below(800), SeqCst);
                site.runtime().block_on(denylist.sweep()).unwrap();
            }
            2 => drop(denylist.merge(vec![Change::User { name: user, epoch, until }])),
            _ => {
                let id = [below(200) as u8; 16];
                drop(denylist.merge(vec![Change::Session { id, user, epoch, until }]));
            }
        }
        let mut counted = (0, 0);
        site.runtime().block_on(denylist.each(|entry| match entry {
            Change::Session { .. } => counted.0 += 1,
            _ => counted.1 += 1,
        }));
        assert_eq!(denylist.sizes(), counted, "step {step}");
        greatest = (greatest.0.max(counted.0), greatest.1.max(counted.1));
    }
    assert!(greatest.0 > 10 && greatest.1 == 4, "too little has met: {greatest:?}");
    time.fetch_add(u64::from(u32::MAX) * 60, SeqCst);
    site.runtime().block_on(denylist.sweep()).unwrap();
    assert_eq!(denylist.sizes(), (0, 0));
}

#[test]
fn while_the_disk_hangs_nobody_signs_in_and_whoever_signs_out_need_not_wait_for_it() {
    let mut site = Site::prepared("");
    let disk = Disk::of(&site);
    site.start_program(&disk.environment());
    let (one, two) = (site.signed_in(), site.signed_in());
    disk.hangs();
    let begin = Instant::now();
    for (path, cookies) in [("/logout", &one), ("/logout/everywhere", &two)] {
        let reply = site.post(path, cookies, "");
        assert_eq!(reply.status, 303, "{reply:?}");
        assert!(reply.all("set-cookie").iter().any(|cookie| cookie.contains("Max-Age=0")), "{reply:?}");
        assert_eq!(site.user(cookies), None);
    }
    assert_eq!(site.log_in("", USER, PASSWORD).status, 503);
    assert!(begin.elapsed() < Duration::from_secs(18), "{:?}", begin.elapsed());
    wait_for("it to be seen", || (site.get("/health", "").status == 503).then_some(()));
    let begin = Instant::now();
    assert_eq!(site.log_in("", USER, PASSWORD).status, 503);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    disk.goes_on();
    wait_for("the end of it", || (site.get("/health", "").status == 200).then_some(()));
    assert_eq!(site.log_in("", USER, PASSWORD).status, 303);
}
