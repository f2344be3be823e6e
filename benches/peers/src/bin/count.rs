//! Allocations of one request, for each cell: `count` prints peer, case, notes, allocations and bytes. A program of its
//! own, since the allocator that counts takes time.

use peers::{
    peers::{Case, Cell, Peer},
    shop::SIZES,
};

fn main() {
    for peer in Peer::ALL {
        for case in Case::ALL {
            for (notes, _) in SIZES {
                let cell = Cell::new(peer, case, notes);
                // What is made once is made.
                drop(cell.call());
                let info = allocation_counter::measure(|| drop(cell.call()));
                println!("{} {} {notes} {} {}", peer.name(), case.name(), info.count_total, info.bytes_total);
            }
        }
    }
}
