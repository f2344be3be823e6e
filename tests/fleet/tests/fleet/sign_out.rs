//! Slow responses around a sign-out: what was signed out does not come back in the same browser.

use crate::*;
use fleet_tests::{Connection, Head, Jar, MINUTE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    Renew,
    SignOut,
    Switch,
}

const KINDS: [Kind; 4] = [Kind::Write, Kind::Renew, Kind::SignOut, Kind::Switch];

impl Kind {
    fn signs_out(self) -> bool {
        matches!(self, Kind::SignOut | Kind::Switch)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Send(usize),
    Receive(usize),
}

/// All orders in which so many requests are sent, the first first, and their responses received.
fn orders(requests: usize) -> Vec<Vec<Event>> {
    let mut all = vec![Vec::new()];
    for _ in 0..2 * requests {
        all = all
            .into_iter()
            .flat_map(|order: Vec<Event>| {
                let sent = order.iter().filter(|event| matches!(event, Event::Send(_))).count();
                let received = |at: &usize| !order.contains(&Event::Receive(*at));
                let send = (sent < requests).then_some(Event::Send(sent));
                let next: Vec<_> = (0..sent).filter(received).map(Event::Receive).chain(send).collect();
                next.into_iter().map(move |event| [order.as_slice(), &[event]].concat())
            })
            .collect();
    }
    all
}

/// Where a slow response is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// In the handler: its cookies are sealed when it arrives.
    BeforeTheHead,
    /// On the wire: its cookies were sealed at once.
    BehindTheHead,
}

/// A request under way.
struct UnderWay {
    connection: Connection,
    head: Option<Head>,
    at: usize,
    gate: String,
}

/// What a run found: sessions that were signed out and are accepted again.
fn run(
    fleet: &mut Fleet,
    nth: usize,
    kinds: &[Kind],
    order: &[Event],
    held: Held,
    at: &[usize],
) -> Vec<String> {
    let mut jar = Jar::default();
    fleet.post(at[0], &mut jar, "/sign-in/first");
    let (mut under_way, mut out, mut again) = (Vec::new(), Vec::new(), Vec::new());
    // Requests whose session had been signed out before they were sent.
    let mut out_before: Vec<Vec<String>> = Vec::new();
    for event in order {
        fleet.now += 1;
        match *event {
            Event::Send(request) => {
                let path = match kinds[request] {
                    Kind::Write => "/count".to_owned(),
                    Kind::Renew => "/renew".to_owned(),
                    Kind::SignOut => "/sign-out".to_owned(),
                    Kind::Switch => format!("/switch/user-{request}"),
                };
                let at = at[request % at.len()];
                let gate = format!("{nth}-{request}");
                let hold = (held == Held::BeforeTheHead).then_some(gate.as_str());
                let mut connection = fleet.send(at, &jar, "POST", &path, hold);
                let head = match held {
                    Held::BeforeTheHead => {
                        fleet.servers[at].wait_held(&gate, 1);
                        None
                    }
                    Held::BehindTheHead => Some(connection.head().expect("a whole header block")),
                };
                under_way.push(UnderWay { connection, head, at, gate });
                out_before.push(out.clone());
            }
            Event::Receive(request) => {
                let UnderWay { connection, head, at, gate } = &mut under_way[request];
                let head = head.take().unwrap_or_else(|| {
                    fleet.servers[*at].open(gate, fleet.now);
                    connection.head().expect("a whole header block")
                });
                fleet.receive(&mut jar, &head);
                let came_in = fleet.finish(connection, &head).report.came_in;
                again.extend(came_in.clone().filter(|user| out_before[request].contains(user)));
                if kinds[request].signs_out() {
                    out.extend(came_in);
                }
            }
        }
    }
    // Whatever is sent next, and wherever.
    fleet.now += 1;
    again.extend(fleet.read(nth % 3, &mut jar).came_in.filter(|user| out.contains(user)));
    again
}

fn kinds(requests: u32) -> impl Iterator<Item = Vec<Kind>> {
    let numbers = 0..4_usize.pow(requests);
    numbers.map(move |number| (0..requests).map(|at| KINDS[number / 4_usize.pow(at) % 4]).collect())
}

/// Which server each of three requests meets; one of them is behind all others, and one ahead.
const SERVERS: [[usize; 3]; 6] = [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0], [2, 0, 1]];

fn no_session_comes_back(held: Held) {
    assert_eq!(orders(3).len(), 15);
    let mut fleet = fleet([0, MINUTE, MINUTE / 2]);
    let (mut nth, mut out) = (0, 0);
    for (of_kinds, kinds) in kinds(3).enumerate() {
        for (of_orders, order) in orders(3).iter().enumerate() {
            nth += 1;
            out += kinds.iter().filter(|kind| kind.signs_out()).count();
            let servers = &SERVERS[(of_kinds + of_orders) % 6];
            let again = run(&mut fleet, nth, &kinds, order, held, servers);
            assert_eq!(again, [""; 0], "{kinds:?} in {order:?}, {held:?}, at {servers:?}");
        }
    }
    assert_eq!((nth, out), (960, 1440));
}

#[test]
fn a_signed_out_session_never_comes_back_by_responses_that_are_slow_on_the_wire() {
    no_session_comes_back(Held::BehindTheHead);
}

#[test]
fn a_signed_out_session_never_comes_back_by_handlers_that_are_slow() {
    no_session_comes_back(Held::BeforeTheHead);
}

#[test]
fn a_slow_response_of_the_session_before_does_not_come_back_after_a_new_sign_in() {
    for servers in SERVERS {
        for slow in ["/count", "/renew"] {
            let [a, b, c] = servers;
            let fleet = fleet([0, MINUTE, MINUTE / 2]);
            let mut jar = Jar::default();
            fleet.post(a, &mut jar, "/sign-in/ada");
            let mut connection = fleet.send(a, &jar, "POST", slow, None);
            let head = connection.head().expect("a whole header block");
            fleet.post(b, &mut jar, "/sign-out");
            fleet.post(c, &mut jar, "/sign-in/bob");
            assert!((0..3).all(|at| fleet.read(at, &mut jar).came_in.as_deref() == Some("bob")));
            // It takes the cookie's place, so bob's is lost; but ada's is not back.
            fleet.receive(&mut jar, &head);
            for at in 0..3 {
                assert_eq!(fleet.read(at, &mut jar).incoming, SIGNED_OUT, "{servers:?} {slow}");
            }
            fleet.post(a, &mut jar, "/sign-in/bob");
            assert!((0..3).all(|at| fleet.read(at, &mut jar).came_in.as_deref() == Some("bob")));
        }
    }
}

#[test]
fn a_sign_in_sent_before_a_sign_outs_response_has_arrived_is_lost() {
    for [a, b, c] in SERVERS {
        for sign_in_arrives_last in [true, false] {
            let fleet = fleet([0, MINUTE, MINUTE / 2]);
            let mut jar = Jar::default();
            fleet.post(a, &mut jar, "/count");
            let mut sign_out = fleet.send(b, &jar, "POST", "/sign-out", None);
            let sign_out = sign_out.head().expect("a whole header block");
            let mut sign_in = fleet.send(c, &jar, "POST", "/sign-in/ada", None);
            let sign_in = sign_in.head().expect("a whole header block");
            let order = if sign_in_arrives_last { [&sign_out, &sign_in] } else { [&sign_in, &sign_out] };
            order.into_iter().for_each(|head| fleet.receive(&mut jar, head));
            // It renewed the session that was signed out.
            let incoming = if sign_in_arrives_last { SIGNED_OUT } else { ABSENT };
            assert!((0..3).all(|at| fleet.read(at, &mut jar).incoming == incoming), "{a} {b} {c}");
            fleet.post(a, &mut jar, "/sign-in/ada");
            assert!((0..3).all(|at| fleet.read(at, &mut jar).came_in.as_deref() == Some("ada")));
        }
    }
}

#[test]
fn a_slow_write_from_before_a_sign_in_undoes_it_as_any_last_response_does() {
    for [a, b, c] in SERVERS {
        let fleet = fleet([0, MINUTE, MINUTE / 2]);
        let mut jar = Jar::default();
        fleet.post(a, &mut jar, "/count");
        let mut slow = fleet.send(b, &jar, "POST", "/count", None);
        let slow = slow.head().expect("a whole header block");
        fleet.post(c, &mut jar, "/sign-in/ada");
        fleet.receive(&mut jar, &slow);
        for at in 0..3 {
            let report = fleet.read(at, &mut jar);
            let found = (report.incoming.as_str(), report.came_in, report.data.count);
            assert_eq!(found, (ACCEPTED, None, 2));
        }
    }
}

/// The documented exception: a session begun after one sign-out was answered, and signed out by another, whose
/// response the first one's overtakes or not.
fn two_sign_outs(first: Kind, overtake: bool, servers: [usize; 3]) -> Vec<String> {
    let [a, b, c] = servers;
    let mut fleet = fleet([0, MINUTE, MINUTE / 2]);
    // The first sign-out, a switch of users, a write of theirs, and their sign-out.
    let kinds = [first, Kind::Switch, Kind::Write, Kind::SignOut];
    let (send, receive) = (Event::Send, Event::Receive);
    let order = if overtake {
        [send(0), send(1), receive(1), send(2), send(3), receive(3), receive(0), receive(2)]
    } else {
        [send(0), send(1), receive(1), send(2), send(3), receive(0), receive(3), receive(2)]
    };
    run(&mut fleet, 1, &kinds, &order, Held::BehindTheHead, &[a, b, c, a])
}

#[test]
fn two_sign_outs_whose_responses_overtake_each_other_are_the_exception() {
    for first in [Kind::SignOut, Kind::Switch] {
        // Their markers are told apart by clocks, so the one that is lost is the later one here.
        for servers in [[0, 1, 2], [0, 2, 1], [0, 0, 0], [2, 1, 0], [1, 1, 1]] {
            let again = two_sign_outs(first, true, servers);
            assert_eq!(again, ["user-1"], "{first:?} {servers:?}");
            assert_eq!(two_sign_outs(first, false, servers), [""; 0], "{first:?} {servers:?}");
        }
    }
}
