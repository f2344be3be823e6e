//! A process that forks between a new session's first write and the head: both go on, with different data, and print
//! the nonces of their cookies.

use cookie_session::SessionLayer;
use fork::{Fork, fork, waitpid};
use processes_tests::{layer, nonce, respond};
use std::cell::Cell;

fn main() {
    let layer: SessionLayer<u64> = layer().expect("randomness");
    let child = Cell::new(None);
    let cookies = respond(&layer, None, |session| {
        session.set(7).expect("it fits");
        match fork().expect("a child") {
            Fork::Child => session.set(8).expect("it fits"),
            Fork::Parent(id) => {
                child.set(Some(id));
                session.set(9).expect("it fits");
            }
        }
    });
    let nonce = nonce(&cookies[0]).expect("encrypted");
    println!("{nonce:02x?}");
    if let Some(id) = child.get() {
        waitpid(id).expect("the child's end");
    }
}
