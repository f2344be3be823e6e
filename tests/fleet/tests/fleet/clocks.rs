//! Clocks that are apart: by what is tolerated, and by more.

use crate::*;
use fleet_tests::{HOUR, Jar, MINUTE};

const FROM_THE_FUTURE: &str = "Rejected(FromTheFuture)";

#[test]
fn nothing_is_lost_while_clocks_are_a_minute_apart() {
    for apart in [59_900, MINUTE] {
        // Each is once ahead and once behind of each.
        for ahead in [[0, apart / 2, apart], [apart, 0, apart / 2], [apart / 2, apart, 0]] {
            let mut fleet = fleet(ahead);
            let mut jar = Jar::default();
            for round in 0..12 {
                // At once, which is the hardest, and later.
                fleet.now += u64::from(round % 3) * 500;
                let at = round as usize % 3;
                let first = fleet.post(at, &mut jar, "/count");
                assert_eq!(first.incoming, if round % 4 == 0 { ABSENT } else { ACCEPTED }, "{ahead:?}");
                for other in 0..3 {
                    let reply = fleet.ask(other, &mut jar, "GET", "/read");
                    assert_eq!(reply.report.incoming, ACCEPTED, "{ahead:?}, {at} to {other}");
                    assert_eq!(reply.report.data.count, round % 4 + 1);
                    assert_eq!(reply.set_cookies, 0);
                }
                if round % 4 == 3 {
                    fleet.post((at + 1) % 3, &mut jar, "/sign-out");
                    assert!((0..3).all(|at| fleet.read(at, &mut jar).incoming == ABSENT));
                }
            }
        }
    }
}

#[test]
fn a_cookie_from_further_in_the_future_is_refused_there_and_left_alone_and_opens_elsewhere() {
    for apart in [MINUTE + 1, 90_000, HOUR] {
        let mut fleet = fleet([0, apart, apart - MINUTE]);
        let mut jar = Jar::default();
        assert_eq!(fleet.post(1, &mut jar, "/sign-in/ada").incoming, ABSENT);
        let before = jar.clone();
        // Again and again: what was refused is no worse for it.
        for _ in 0..2 {
            let reply = fleet.ask(0, &mut jar, "GET", "/read");
            assert_eq!(reply.report.incoming, FROM_THE_FUTURE);
            assert_eq!((reply.report.data.user, reply.set_cookies), (None, 0));
            assert_eq!(jar, before);
            for at in [1, 2] {
                let report = fleet.read(at, &mut jar);
                assert_eq!((report.incoming.as_str(), report.data.user.as_deref()), (ACCEPTED, Some("ada")));
            }
        }
        // There too, to the millisecond at which the tolerance reaches it.
        fleet.now += apart - MINUTE - 1;
        assert_eq!(fleet.read(0, &mut jar).incoming, FROM_THE_FUTURE);
        fleet.now += 1;
        assert_eq!(fleet.read(0, &mut jar).incoming, ACCEPTED);
        assert_eq!(fleet.read(0, &mut jar).data.user.as_deref(), Some("ada"));
    }
}

#[test]
fn a_server_whose_clock_is_ahead_by_more_takes_what_the_others_made() {
    let fleet = fleet([0, HOUR, 0]);
    let mut jar = Jar::default();
    fleet.post(0, &mut jar, "/count");
    assert_eq!(fleet.post(1, &mut jar, "/count").data.count, 2);
}
