//! Requests in parallel on one session.

use crate::*;
use fleet_tests::{Jar, MINUTE};
use std::thread;

const AT_ONCE: usize = 51;

#[test]
fn fifty_writes_at_once_end_in_the_session_of_the_response_that_arrives_last() {
    // The last to arrive is the first, the last, and one in between that were sent, by servers whose clocks
    // are ahead by least, most, and in between.
    for last in [0, AT_ONCE - 1, 25] {
        let mut fleet = fleet([0, MINUTE, MINUTE / 2]);
        let mut jar = Jar::default();
        fleet.post(0, &mut jar, "/sign-in/ada");
        fleet.post(1, &mut jar, "/mark/1000");
        let mut sent: Vec<_> = (0..AT_ONCE)
            .map(|nth| fleet.send(nth % 3, &jar, "POST", &format!("/mark/{nth}"), Some("all")))
            .collect();
        // All have read the same session, and none is committed.
        fleet.servers.iter().for_each(|server| server.wait_held("all", AT_ONCE / 3));
        let now = fleet.now;
        fleet.servers.iter_mut().for_each(|server| server.open("all", now));

        let order = (0..AT_ONCE).rev().filter(|nth| *nth != last).chain([last]);
        for nth in order {
            let connection = &mut sent[nth];
            let head = connection.head().expect("a whole header block");
            let reply = fleet.finish(connection, &head);
            assert_eq!((reply.report.incoming.as_str(), reply.set_cookies), (ACCEPTED, 1));
            fleet.receive(&mut jar, &head);
            // Whichever has arrived, the session is there.
            let report = fleet.read((nth + 1) % 3, &mut jar);
            assert_eq!((report.incoming.as_str(), report.came_in.as_deref()), (ACCEPTED, Some("ada")));
            assert_eq!(report.data.marks, [1000, nth as u32]);
        }
        let marks = fleet.read(0, &mut jar).data.marks;
        assert_eq!(marks, [1000, last as u32], "the other fifty are lost");
    }
}

#[test]
fn of_two_parallel_writes_the_response_that_arrives_last_wins_whichever_was_made_first() {
    for (first, second) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        for in_order in [true, false] {
            let mut fleet = fleet([0, MINUTE, MINUTE / 2]);
            let mut jar = Jar::default();
            fleet.post(2, &mut jar, "/sign-in/ada");
            let mut sent =
                [first, second].map(|at| fleet.send(at, &jar, "POST", &format!("/mark/{at}"), None));
            let mut heads = Vec::new();
            for connection in &mut sent {
                // Made one after the other.
                heads.push(connection.head().expect("a whole header block"));
                fleet.now += 1;
            }
            if !in_order {
                heads.reverse();
            }
            for head in &heads {
                fleet.receive(&mut jar, head);
            }
            let report = fleet.read(0, &mut jar);
            let winner = if in_order { second } else { first };
            assert_eq!((report.incoming.as_str(), report.data.marks), (ACCEPTED, vec![winner as u32]));
        }
    }
}

#[test]
fn a_read_that_is_not_due_for_a_new_cookie_undoes_no_write() {
    let fleet = fleet([0, MINUTE, MINUTE / 2]);
    let mut jar = Jar::default();
    fleet.post(0, &mut jar, "/count");
    let mut slow = fleet.send(1, &jar, "GET", "/read", None);
    let head = slow.head().expect("a whole header block");
    fleet.post(2, &mut jar, "/count");
    fleet.receive(&mut jar, &head);
    assert_eq!(fleet.read(1, &mut jar).data.count, 2);
}

#[test]
fn fifty_threads_that_share_a_session_never_lose_it() {
    let fleet = fleet([0, MINUTE, MINUTE / 2]);
    let jar = std::sync::Mutex::new(Jar::default());
    let copy = || jar.lock().expect("no panic").clone();
    let mut first = copy();
    fleet.post(0, &mut first, "/sign-in/ada");
    *jar.lock().expect("no panic") = first;
    // As a browser does: what is sent is taken from the jar, what comes goes into it, and nobody waits.
    thread::scope(|scope| {
        for nth in 0..AT_ONCE {
            let (fleet, jar, copy) = (&fleet, &jar, &copy);
            scope.spawn(move || {
                for round in 0..6 {
                    let path = ["/count", "/renew", "/sign-in/ada"][(nth + round) % 3];
                    let mut connection = fleet.send((nth / 3 + round) % 3, &copy(), "POST", path, None);
                    let head = connection.head().expect("a whole header block");
                    fleet.receive(&mut jar.lock().expect("no panic"), &head);
                    let report = fleet.finish(&mut connection, &head).report;
                    assert_eq!(
                        (report.incoming.as_str(), report.came_in.as_deref()),
                        (ACCEPTED, Some("ada"))
                    );
                }
            });
        }
    });
    let report = fleet.read(0, &mut copy());
    assert_eq!((report.incoming.as_str(), report.came_in.as_deref()), (ACCEPTED, Some("ada")));
    assert!(report.data.count <= AT_ONCE as u32 * 2, "{}", report.data.count);
}
