//! One cell's request so many times: `one PEER CASE NOTES TIMES`, to run under valgrind or a profiler.

use peers::peers::{Case, Cell, Peer};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [peer, case, notes, times] = &args[..] else { panic!("one PEER CASE NOTES TIMES") };
    let peer = Peer::ALL.into_iter().find(|it| it.name() == peer).expect("a peer");
    let case = Case::ALL.into_iter().find(|it| it.name() == case).expect("a case");
    let cell = Cell::new(peer, case, notes.parse().expect("a number"));
    for _ in 0..times.parse().expect("a number") {
        drop(cell.call());
    }
}
