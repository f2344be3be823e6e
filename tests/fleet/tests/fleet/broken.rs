//! Servers killed, and connections cut, in the middle of a response.

use crate::*;
use fleet_tests::{Broken, Connection, Head, Jar, MINUTE, Proxy};

fn three() -> Fleet {
    fleet([0, MINUTE, MINUTE / 2])
}

#[test]
fn a_server_killed_before_the_headers_leaves_the_old_cookie_and_the_session_goes_on_elsewhere() {
    let mut fleet = three();
    for at in 0..3 {
        let mut jar = Jar::default();
        fleet.post(at, &mut jar, "/count");
        let before = jar.clone();
        let mut connection = fleet.send(at, &jar, "POST", "/count", Some("never"));
        fleet.servers[at].wait_held("never", 1);
        fleet.servers[at].kill();
        assert_eq!(connection.head().unwrap_err(), Broken(Vec::new()));
        assert_eq!(jar, before);
        let report = fleet.post((at + 1) % 3, &mut jar, "/count");
        assert_eq!((report.incoming.as_str(), report.data.count), (ACCEPTED, 2));
        fleet.restart(at);
        assert_eq!(fleet.read(at, &mut jar).data.count, 2);
    }
}

#[test]
fn a_server_killed_behind_the_headers_leaves_the_new_cookie_and_the_session_goes_on_elsewhere() {
    let mut fleet = three();
    for at in 0..3 {
        let mut jar = Jar::default();
        fleet.post(at, &mut jar, "/count");
        let mut connection = fleet.send(at, &jar, "POST", "/count-and-never-end", None);
        let head = connection.head().expect("a whole header block");
        fleet.receive(&mut jar, &head);
        let mut body = Vec::new();
        assert!(connection.chunk(&mut body).expect("a chunk") > 0);
        fleet.servers[at].kill();
        assert_eq!(connection.chunk(&mut Vec::new()), Err(Broken(Vec::new())));
        let report = fleet.post((at + 1) % 3, &mut jar, "/count");
        assert_eq!((report.incoming.as_str(), report.data.count), (ACCEPTED, 3));
        fleet.restart(at);
        assert_eq!(fleet.read(at, &mut jar).data.count, 3);
    }
}

#[test]
fn a_server_killed_in_a_sign_out_leaves_the_browser_signed_in_or_out_and_nothing_between() {
    let mut fleet = three();
    let mut jar = Jar::default();
    fleet.post(0, &mut jar, "/sign-in/ada");
    let mut connection = fleet.send(0, &jar, "POST", "/sign-out", Some("never"));
    fleet.servers[0].wait_held("never", 1);
    fleet.servers[0].kill();
    assert_eq!(connection.head().unwrap_err(), Broken(Vec::new()));
    assert_eq!(fleet.read(1, &mut jar).came_in.as_deref(), Some("ada"));
    assert_eq!(fleet.post(2, &mut jar, "/sign-out").came_in.as_deref(), Some("ada"));
    assert_eq!(fleet.read(1, &mut jar).incoming, ABSENT);
}

/// The response of a request through the proxy, cut after so many bytes.
fn cut(fleet: &Fleet, proxy: &Proxy, jar: &Jar, path: &str, after: usize) -> Result<Head, Broken> {
    proxy.cut_after(after);
    let mut connection: Connection = fleet.send_to(proxy.port, jar, "POST", path, None);
    connection.head()
}

#[test]
fn a_response_cut_at_any_byte_of_its_headers_leaves_the_old_cookie_or_the_new_one() {
    let fleet = three();
    let proxy = Proxy::before(fleet.servers[0].port);
    for (path, new_count) in [("/count", 2), ("/sign-out", 0)] {
        let mut jar = Jar::default();
        fleet.post(1, &mut jar, "/count");
        let length = cut(&fleet, &proxy, &jar, path, usize::MAX).expect("a whole header block").length;
        let mut before_the_end = 0;
        for after in 0..=length {
            // A client that takes header blocks whole, as browsers do over https.
            let mut whole = jar.clone();
            // One that takes what has come, as some do over plain http.
            let mut lenient = jar.clone();
            match cut(&fleet, &proxy, &jar, path, after) {
                Err(Broken(came)) => {
                    assert_eq!(came.len(), after);
                    assert!(after < length);
                    fleet.receive(&mut lenient, &Head::parse(&came));
                    before_the_end += 1;
                }
                Ok(head) => {
                    assert_eq!(after, length);
                    for jar in [&mut whole, &mut lenient] {
                        fleet.receive(jar, &head);
                    }
                    assert_eq!(fleet.read(2, &mut whole).data.count, new_count, "{path}");
                }
            }
            if after < length {
                assert_eq!(whole, jar, "{path} {after}");
            }
            // The prefix of the name asks for Secure, HttpOnly and Path in the line itself, and they stand
            // behind the value: a value cut short is not taken even there. A removal without its `Max-Age`
            // leaves an empty value, which is no session either.
            let report = fleet.read(2, &mut lenient);
            let found = (report.incoming == ACCEPTED, report.data.count);
            let new = (new_count > 0, new_count);
            assert!(found == (true, 1) || found == new, "{path}, cut after {after}: {report:?}");
        }
        assert_eq!(before_the_end, length);
    }
}

#[test]
fn no_beginning_of_a_cookies_value_opens_and_each_is_left_alone() {
    let fleet = three();
    let mut jar = Jar::default();
    fleet.post(0, &mut jar, "/count");
    let value = jar.get(NAME).expect("a session").to_owned();
    for length in 0..=value.len() {
        let mut jar = Jar::default();
        jar.set(&format!("{NAME}={}; Secure; HttpOnly; Path=/", &value[..length]), fleet.now);
        let reply = fleet.ask(length % 3, &mut jar, "GET", "/read");
        let incoming = reply.report.incoming.as_str();
        match length {
            _ if length == value.len() => assert_eq!(incoming, ACCEPTED),
            _ => assert!(
                ["Rejected(Malformed)", "Rejected(NotAuthentic)"].contains(&incoming),
                "{length}: {incoming}"
            ),
        }
        assert_eq!(reply.set_cookies, 0);
    }
    assert!(value.len() > 100);
}
