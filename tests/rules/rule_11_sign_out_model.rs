//! The claim of rule 11, checked: one browser, up to three requests out of a write, a renewal, a
//! sign-out, and a sign-out with a sign-in, in all orders of sending and receiving. Once the response
//! of a sign-out has arrived, no request carries the session that was signed out as an accepted one.
//! With four requests, two sign-outs whose responses overtake each other can let one through.

use crate::{
    jar::{Browser, Event, choices, orders},
    kit::*,
};
use cookie_session::{Mode, Session, SessionLayer};
use http::Response;
use std::{collections::BTreeSet, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    Renew,
    Clear,
    ClearAndSignIn,
}

const KINDS: [Kind; 4] = [Kind::Write, Kind::Renew, Kind::Clear, Kind::ClearAndSignIn];

/// When the server answers: at once, or when the response is about to arrive. Both its times, the
/// one at which the session was handed out and the one of the head, lie between.
#[derive(Clone, Copy, Debug)]
enum Server {
    Prompt,
    /// Begins at once, and its head is at the end.
    Slow,
    /// Begins at the end.
    Late,
}

struct Model {
    clock: Clock,
    layer: SessionLayer<Shop>,
    /// How much the clock moves at each event.
    tick: Duration,
    server: Server,
    /// How far each request's instance is ahead.
    ahead: [Duration; 4],
}

/// The number of a session: that which signed it in.
type Tag = u64;

/// A response, and the session that its request signed out.
struct Answer {
    response: Response<()>,
    signed_out: Option<Tag>,
}

impl Model {
    fn serve(&self, kind: Kind, at: usize, cookies: &str, slow: Duration) -> Answer {
        self.clock.pass(self.ahead[at]);
        let mut signed_out = None;
        let response = respond(&self.layer, request(cookies), |session: Session<Shop>| {
            let accepted = session.read(|shop| shop.user);
            match kind {
                Kind::Write => session.update(|shop| shop.cart.push(1)).unwrap(),
                Kind::Renew => drop(session.renew().unwrap()),
                Kind::Clear => assert!(session.clear()),
                Kind::ClearAndSignIn => {
                    assert!(session.clear());
                    session.update(|shop| shop.user = Some(1 + at as u64)).unwrap();
                }
            }
            if matches!(kind, Kind::Clear | Kind::ClearAndSignIn) {
                signed_out = accepted;
            }
            self.clock.pass(slow);
            Response::new(())
        });
        self.clock.back(slow + self.ahead[at]);
        Answer { response, signed_out }
    }

    fn accepted(&self, cookies: &str) -> Option<Tag> {
        open(&self.layer, cookies, self.clock.now()).value().and_then(|shop| shop.user)
    }

    /// The session that was signed out and accepted again, if there is one.
    fn run(&self, kinds: &[Kind], order: &[Event]) -> Option<Tag> {
        let start = self.clock.now();
        let first = self.layer.codec().seal(&user(0), None, None, start).unwrap();
        let mut browser = Browser::with(&self.clock, first.header());
        let mut sent: Vec<(String, Duration)> = Vec::new();
        let mut answers: Vec<Option<Answer>> = Vec::new();
        let mut out: BTreeSet<Tag> = BTreeSet::new();
        let mut again = None;
        let passed = || self.clock.now().duration_since(start).unwrap();
        for event in order {
            self.clock.pass(self.tick);
            match *event {
                Event::Send(at) => {
                    let cookies = browser.cookies();
                    again = again.or(self.accepted(&cookies).filter(|tag| out.contains(tag)));
                    let received = order.iter().position(|event| *event == Event::Receive(at)).unwrap();
                    let sent_at = order.iter().position(|other| other == event).unwrap();
                    let slow = self.tick * u32::try_from(received - sent_at).unwrap();
                    answers.push(match self.server {
                        Server::Prompt => Some(self.serve(kinds[at], at, &cookies, Duration::ZERO)),
                        Server::Slow => Some(self.serve(kinds[at], at, &cookies, slow)),
                        Server::Late => None,
                    });
                    sent.push((cookies, passed()));
                }
                Event::Receive(at) => {
                    let answer = answers[at]
                        .take()
                        .unwrap_or_else(|| self.serve(kinds[at], at, &sent[at].0, Duration::ZERO));
                    browser.receive(&answer.response);
                    out.extend(answer.signed_out);
                }
            }
        }
        // Whatever is sent next.
        self.clock.pass(self.tick);
        again = again.or(self.accepted(&browser.cookies()).filter(|tag| out.contains(tag)));
        self.clock.set(start);
        again
    }
}

fn model(tick: Duration, server: Server, ahead: [Duration; 4]) -> Model {
    let clock = Clock::new();
    // Signed, only because that is quicker.
    let layer = builder::<Shop>(&clock).mode(Mode::Signed).build().unwrap();
    Model { clock, layer, tick, server, ahead }
}

const NOT_AHEAD: [Duration; 4] = [Duration::ZERO; 4];

#[test]
fn there_are_fifteen_orders_of_three_requests() {
    assert_eq!([1, 2, 3, 4].map(|requests| orders(requests).len()), [1, 3, 15, 105]);
    assert_eq!(choices(&KINDS, 3).len(), 64);
}

#[test]
fn a_signed_out_session_is_never_accepted_again() {
    for tick in [Duration::ZERO, MILLI, SECOND] {
        for server in [Server::Prompt, Server::Slow, Server::Late] {
            let model = model(tick, server, NOT_AHEAD);
            for requests in 1..=3 {
                for kinds in choices(&KINDS, requests) {
                    for order in orders(requests) {
                        let again = model.run(&kinds, &order);
                        assert_eq!(again, None, "{kinds:?} in {order:?}, {server:?}, {tick:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn nor_where_the_instances_clocks_are_a_minute_apart() {
    for who in 1..7_u32 {
        let ahead = [0, 1, 2, 3].map(|at| if who & (1 << at) == 0 { Duration::ZERO } else { MINUTE });
        let model = model(MILLI, Server::Prompt, ahead);
        for kinds in choices(&KINDS, 3) {
            for order in orders(3) {
                let again = model.run(&kinds, &order);
                assert_eq!(again, None, "{kinds:?} in {order:?}, {ahead:?}");
            }
        }
    }
}

/// Whether two of these are sign-outs whose responses overtake each other.
fn sign_outs_overtake(kinds: &[Kind], order: &[Event]) -> bool {
    let is_sign_out = |at: &usize| matches!(kinds[*at], Kind::Clear | Kind::ClearAndSignIn);
    let received = order.iter().filter_map(|event| match event {
        Event::Receive(at) => Some(*at),
        Event::Send(_) => None,
    });
    // They are numbered in the order in which they were sent.
    !received.filter(is_sign_out).is_sorted()
}

#[test]
fn with_four_requests_only_sign_outs_whose_responses_overtake_each_other_let_one_through() {
    let model = model(MILLI, Server::Prompt, NOT_AHEAD);
    for kinds in choices(&KINDS, 4) {
        for order in orders(4) {
            if !sign_outs_overtake(&kinds, &order) {
                let again = model.run(&kinds, &order);
                assert_eq!(again, None, "{kinds:?} in {order:?}");
            }
        }
    }
}

#[test]
fn without_the_marker_the_model_finds_a_session_that_comes_back() {
    // The model itself can fail: a browser that loses its markers is what there was before.
    let model = model(MILLI, Server::Prompt, NOT_AHEAD);
    let mut browser = Browser::with(
        &model.clock,
        model.layer.codec().seal(&user(0), None, None, model.clock.now()).unwrap().header(),
    );
    let cookies = browser.cookies();
    let write = model.serve(Kind::Write, 0, &cookies, Duration::ZERO);
    let clear = model.serve(Kind::Clear, 1, &cookies, Duration::ZERO);
    browser.receive(&clear.response);
    browser.receive(&write.response);
    let all = browser.cookies();
    assert_eq!(model.accepted(&all), None);
    let without: Vec<_> = all.split("; ").filter(|pair| !pair.starts_with(OUT)).collect();
    assert_eq!(model.accepted(&without.join("; ")), Some(0));
}
