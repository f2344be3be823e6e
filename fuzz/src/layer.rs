//! Three instances, one browser, and a run of events that the input spells: requests whose responses overtake
//! each other, clocks, key rotations, deploys. `layer/model.rs` says what each must do, `layer/driver.rs` has
//! the layer do it, and compares.
//!
//! The input is text of four bytes an event: a letter, two arguments, and one that is not looked at, so that
//! a seed has one event a line. Every byte means something, so that any input is a run.
//!
//! ```text
//! first line   s.. signed, anything else encrypted
//! gIW          a whole request to instance I (0 to 2) that does W, answers, and arrives at once
//!              W: r reads, u updates, n renews, c clears, i clears and updates, l updates with a lifetime of
//!              its own, b with the browser's, m adds the new release's field, p is passive and reads,
//!              t fills the cookie to the brim, 5 updates and answers 500, 4 updates and answers 404,
//!              s reads and asks for shared caching, w updates and does, z does not ask for the session
//! sIS, qIS     a request is sent to instance I, as number S (0 to 3) of those under way; q: a passive one
//! rS.          request S reads
//! uSU          request S updates. U: a puts another text, m sets the new release's field, = writes what is
//!              there, b what came in, f fills the cookie to the brim, o goes one byte over, x reads, updates
//!              and renews inside, c clears inside, e ends in an error, p in a panic
//! nS. cS.      request S renews, clears
//! lSL          request S asks for a lifetime. L: t the timeouts, b the browser's, s 10 s, h an hour,
//!              m the longest, o a second more, 0 none
//! hSA, HSA     request S answers. A: 2, 3, 4, 5 the status (200, 303 with an
//!              earlier cookie of our name, 404, 500), s 200 with shared caching; H: nobody has its
//!              session any more
//! dS. aS.      the response of request S arrives; request S is given up
//! +UN          time passes: N (0 to 9) times U: m a millisecond, s a second, t ten seconds, i a minute,
//!              h an hour
//! @DN          the clock of instance N / 3 comes to a time of the browser's session, N % 3 - 1 milliseconds off
//!              (N: 0 to 8). D: i idle deadline, a absolute one, r due for a re-issue, f not from the future
//! ~IK          the clock of instance I is off. K: 0 not, b half a minute behind, B a minute, f half a minute
//!              ahead, F a minute, x a minute and a millisecond, y two hours, Y two hours behind
//! oIR          instance I has the key ring R (0 to 6, see `RINGS`)
//! vIV          release V (0 to 2, see `Release`) is deployed to instance I
//! ```

#[path = "layer/driver.rs"]
mod driver;
#[path = "layer/model.rs"]
mod model;

pub fn run(data: &[u8]) {
    driver::run(data);
}
