//! A rolling restart under load.

use crate::*;
use fleet_tests::{Broken, Connection, HOLD, Jar, Keys, PATIENCE, Report, Schema, Server, Settings};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

const CLIENTS: usize = 6;

/// These run by the machine's clock.
fn start(at: usize) -> Server {
    let ahead = [0, 59_000, 30_000][at];
    Server::start(SERVER, &Settings { keys: Keys::OldAlone, schema: Schema::V1, ahead })
}

/// A client that counts at one server after the other.
#[derive(Default)]
struct Client {
    jar: Jar,
    /// How many times its browser has received a session.
    counted: u32,
    /// How many responses ended before their end.
    broken: u32,
}

impl Client {
    /// Goes on from server to server until one answers.
    fn count(&mut self, ports: &RwLock<[u16; 3]>, from: usize) {
        // Only one server at a time is away.
        for at in (from..).take(1000) {
            let port = ports.read().expect("no panic")[at % 3];
            let cookies = self.jar.cookies(0);
            let mut headers = vec![("content-length", "0")];
            if !cookies.is_empty() {
                headers.push(("cookie", &cookies));
            }
            // A connection that the server had not accepted when it went is refused or reset.
            let Ok(mut connection) = Connection::send(port, "POST", "/count", &headers) else { continue };
            let head = match connection.head() {
                Ok(head) => head,
                Err(Broken(came)) => {
                    self.broken += u32::from(!came.is_empty());
                    continue;
                }
            };
            head.set_cookies().iter().for_each(|set_cookie| self.jar.set(set_cookie, 0));
            self.counted += 1;
            let Ok(body) = connection.body(&head) else {
                self.broken += 1;
                return;
            };
            assert_eq!(head.status, 200, "{body}");
            let report: Report = serde_json::from_str(&body).expect("a report");
            let incoming = if self.counted == 1 { ABSENT } else { ACCEPTED };
            assert_eq!((report.incoming.as_str(), report.data.count), (incoming, self.counted));
            return;
        }
        panic!("no server answers");
    }
}

/// Has clients count while `deploy` puts other servers in place, and for a while after. Returns how many of
/// their responses broke off.
fn under_load(deploy: impl FnOnce(&mut [Server], &RwLock<[u16; 3]>, &dyn Fn())) -> u32 {
    let mut servers: Vec<_> = (0..3).map(start).collect();
    let ports = RwLock::new([0, 1, 2].map(|at: usize| servers[at].port));
    let done = AtomicBool::new(false);
    let (answer, answers) = mpsc::channel();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|nth| {
                let (ports, done, answer) = (&ports, &done, answer.clone());
                scope.spawn(move || {
                    let (mut client, mut left) = (Client::default(), 20);
                    for from in nth.. {
                        client.count(ports, from);
                        answer.send(()).expect("the test");
                        left -= u32::from(done.load(Ordering::SeqCst));
                        if left == 0 {
                            break;
                        }
                    }
                    client
                })
            })
            .collect();
        // Between two steps the clients are answered so many times.
        let some_load = || {
            while answers.try_recv().is_ok() {}
            for _ in 0..10 * CLIENTS {
                answers.recv_timeout(PATIENCE).expect("an answer");
            }
        };
        some_load();
        // A fault in the deploy must end the clients too.
        let deployed = catch_unwind(AssertUnwindSafe(|| deploy(&mut servers, &ports, &some_load)));
        done.store(true, Ordering::SeqCst);
        deployed.unwrap_or_else(|fault| resume_unwind(fault));
        let ended = clients.into_iter().map(|client| client.join().expect("no session was lost"));
        ended.map(|client| client.broken).sum()
    })
}

#[test]
fn a_rolling_restart_under_load_loses_no_session_and_breaks_no_response() {
    let broken = under_load(|servers, ports, some_load| {
        for at in [1, 0, 2] {
            // Sent to the server that goes, and still under way when it does.
            let headers = [("content-length", "0"), (HOLD, "slow")];
            let mut slow = Connection::send(servers[at].port, "POST", "/count", &headers).expect("a server");
            servers[at].wait_held("slow", 1);
            servers[at].drain();
            servers[at].wait_draining();
            servers[at].open("slow", 0);
            let head = slow.head().expect("a whole header block");
            assert_eq!((head.status, head.set_cookies().len()), (200, 1));
            slow.body(&head).expect("a whole body");
            assert!(servers[at].ended().success());
            some_load();
            servers[at] = start(at);
            ports.write().expect("no panic")[at] = servers[at].port;
            some_load();
        }
    });
    assert_eq!(broken, 0);
}

#[test]
fn servers_killed_under_load_lose_no_session() {
    under_load(|servers, ports, some_load| {
        for at in [2, 0, 1, 2, 1, 0] {
            servers[at].kill();
            some_load();
            servers[at] = start(at);
            ports.write().expect("no panic")[at] = servers[at].port;
            some_load();
        }
    });
}
