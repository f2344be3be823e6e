//! Seals, forks, and seals on in all processes: `forking ROUNDS CHILDREN`. What was sealed goes to the pipe on
//! standard output, from all of them.
//!
//! It has one thread: a child of a process with more may do next to nothing (POSIX, `fork`).

use cookie_session::SessionLayer;
use fork::{Fork, fork, waitpid};
use processes_tests::Round;
use std::{error::Error, fs::File, io::Write as _, os::fd::AsFd as _};

/// No more than a pipe takes without letting others in between (POSIX: `PIPE_BUF` is 512 at least, 4096 on Linux).
const AT_ONCE: usize = 4096 / Round::BYTES;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    let [rounds, children] = numbers[..] else { return Err("forking ROUNDS CHILDREN".into()) };
    let layer = processes_tests::layer()?;
    let share = rounds / (children + 1);
    // Whatever generator a process keeps has been seeded before there are children, and is further on for each.
    let before = (share / 10).max(1);
    let mut forked = Vec::new();
    for _ in 0..children {
        seal(&layer, before)?;
        match fork()? {
            Fork::Child => return seal(&layer, share),
            Fork::Parent(child) => forked.push(child),
        }
    }
    seal(&layer, (rounds - children * share).saturating_sub(children * before))?;
    for child in forked {
        if waitpid(child)? != 0 {
            return Err("a child failed".into());
        }
    }
    Ok(())
}

fn seal(layer: &SessionLayer<u64>, rounds: usize) -> Result<(), Box<dyn Error>> {
    // Standard output of `std` has a buffer, which a fork would copy.
    let mut pipe = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut left = rounds;
    while left > 0 {
        let now = left.min(AT_ONCE);
        let bytes: Vec<u8> = (0..now).flat_map(|_| Round::new(layer).to_bytes()).collect();
        if pipe.write(&bytes)? != bytes.len() {
            return Err("the pipe took a part".into());
        }
        left -= now;
    }
    Ok(())
}
