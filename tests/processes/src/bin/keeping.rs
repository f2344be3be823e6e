//! Keeps keys for a while, in a process whose memory `tests/memory.rs` reads:
//! `keeping SOURCE UNTIL FILE...`, where UNTIL is the last step before all is dropped.
//!
//! At each step it writes a line and waits for one. It never has a key that was not given to the crate, and the
//! texts that it reads are cleared before the next step.

use cookie_session::{Key, KeyRing, KeyRingHandle, Mode, SessionConfig, SessionLayer};
use processes_tests::{nonce, respond};
use std::{
    error::Error,
    fs::File,
    hint::black_box,
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
};
use zeroize::Zeroizing;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["text", until, file] => live(below(|| parse(file))?, until)?,
        ["generated", until] => live(below(|| Ok(Key::generate()?))?, until)?,
        ["environment", until] => {
            let ring = below(|| Ok(KeyRing::from_env("KEEPING")?))?;
            live_on(ring, until)?;
        }
        ["config", until, file] => {
            let layer = below(|| {
                let config: SessionConfig = serde_json::from_str(&text(file)?)?;
                Ok(SessionLayer::<u64>::from_config(config).build()?)
            })?;
            step("built")?;
            let layers = Arc::from([layer]);
            if until != "built" {
                use_all(&layers)?;
            }
            end(layers)?;
        }
        ["replaced", until, old, new] => {
            let ring = |file| below(|| Ok(KeyRing::new(parse(file)?, [])?));
            let keys = KeyRingHandle::new(ring(old)?);
            let layers = below(|| layers(&keys))?;
            step("built")?;
            if until != "built" {
                use_all(&layers)?;
            }
            let new = ring(new)?;
            below(|| {
                keys.replace(new);
                Ok(())
            })?;
            step("replaced")?;
            end((keys, layers))?;
        }
        _ => return Err("keeping SOURCE UNTIL FILE...".into()),
    }
    step("dropped")?;
    Ok(())
}

fn live(key: Key, until: &str) -> Outcome {
    step(&format!("made {}", key.id()))?;
    if until == "made" {
        return end(key);
    }
    if until == "cloned" {
        // Dropped up here, so that nothing is written over what the clone left below.
        drop((below(|| Ok(key.clone()))?, key));
        return Ok(());
    }
    live_on(below(|| Ok(KeyRing::new(key, [])?))?, until)
}

fn live_on(ring: KeyRing, until: &str) -> Outcome {
    let layers = below(|| layers(&ring.into()))?;
    step("built")?;
    if until != "built" {
        use_all(&layers)?;
    }
    end(layers)
}

fn end<T>(it: T) -> Outcome {
    below(|| {
        drop(it);
        Ok(())
    })
}

fn parse(file: &str) -> Outcome<Key> {
    Ok(text(file)?.trim().parse()?)
}

/// One layer for each mode; both read both.
fn layers(keys: &KeyRingHandle) -> Outcome<Arc<[SessionLayer<u64>]>> {
    let layer = |mode, other| -> Outcome<_> {
        Ok(SessionLayer::<u64>::builder(keys.clone()).mode(mode).accept_mode(other).build()?)
    };
    Ok(Arc::from([layer(Mode::Encrypted, Mode::Signed)?, layer(Mode::Signed, Mode::Encrypted)?]))
}

/// Seals and opens, on this thread and on others that stay, and with them their stacks. Says the last nonces.
fn use_all(layers: &Arc<[SessionLayer<u64>]>) -> Outcome {
    let mut nonces = below(|| Ok(requests(layers)))?;
    let (done, all_done) = mpsc::channel();
    // With one layer and with the other alone, since a request writes over what the one before it left.
    for mine in [0..1, layers.len() - 1..layers.len(), 0..layers.len()] {
        let (layers, done) = (Arc::clone(layers), done.clone());
        thread::spawn(move || {
            let nonces = below(|| Ok(requests(&layers[mine]))).expect("no error is made there");
            drop(layers);
            done.send(nonces).expect("the main thread waits");
            loop {
                thread::park();
            }
        });
    }
    drop(done);
    // A thread that panicked sends nothing.
    let of_threads: Vec<_> = all_done.iter().take(3).collect();
    assert_eq!(of_threads.len(), 3);
    nonces.extend(of_threads.into_iter().flatten());
    step(&format!("used {}", nonces.iter().map(|nonce| hex(nonce)).collect::<Vec<_>>().join(" ")))
}

fn requests(layers: &[SessionLayer<u64>]) -> Vec<[u8; 24]> {
    let request = |layer| {
        let new = respond(layer, None, |session| session.set(7).expect("it fits"));
        let cleared = respond(layer, new.first(), |session| assert!(session.clear()));
        let written = respond(layer, new.first(), |session| session.set(8).expect("it fits"));
        assert_eq!((new.len(), cleared.len(), written.len()), (1, 1, 1));
        nonce(&written[0])
    };
    layers.iter().filter_map(request).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file's text, in memory that is cleared afterwards and was never moved.
fn text(file: &str) -> Outcome<Zeroizing<String>> {
    const MOST: usize = 32 * 1024;
    let mut text = Zeroizing::new(String::with_capacity(MOST));
    let read = File::open(file)?.read_to_string(&mut text)?;
    assert!(read < MOST - 32, "it fits without growing");
    Ok(text)
}

/// Runs it so far below on the stack that what it leaves there is not written over by [`step`].
#[inline(never)]
fn below<R>(f: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
    #[inline(never)]
    fn apart<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    let room = black_box([0_u8; 16 * 1024]);
    let result = apart(f);
    black_box(&room);
    result
}

/// Says where it is, and waits for a line. Nothing here is buffered, and little stack is used.
fn step(name: &str) -> Outcome {
    File::from(std::io::stdout().as_fd().try_clone_to_owned()?).write_all(format!("{name}\n").as_bytes())?;
    let mut line = [0];
    File::from(std::io::stdin().as_fd().try_clone_to_owned()?).read_exact(&mut line)?;
    Ok(())
}
