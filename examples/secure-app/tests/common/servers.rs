//! Real servers, from the packages of the system: each on loopback alone, ended when dropped.

use browser_tests::{spawn, wait_for};
use std::{
    io::Read,
    net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs},
    process::{Child, Command, Stdio, id},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU16, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A port that nobody listens on. Below those that the system gives away, so that it stays free until it is used.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const MANY: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other test programs begin elsewhere, and not next to it.
    let begin = (id().wrapping_mul(97) % u32::from(MANY)) as u16;
    for _ in 0..MANY {
        let port = FIRST + (begin.wrapping_add(NEXT.fetch_add(1, SeqCst))) % MANY;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// An address of this machine that no other server has: all its ports are free (on Linux all of 127.0.0.0/8 is this machine).
pub fn own_address() -> Ipv4Addr {
    static NUMBER: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high & 63, low, NUMBER.fetch_add(1, SeqCst))
}

/// What a process says on both outputs, which are piped, and what reads them until they end.
pub fn output_of(child: &mut Child) -> (Arc<Mutex<String>>, [JoinHandle<()>; 2]) {
    let output = Arc::new(Mutex::new(String::new()));
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let streams: [Box<dyn Read + Send>; 2] = [Box::new(stdout), Box::new(stderr)];
    let readers = streams.map(|mut stream| {
        let output = Arc::clone(&output);
        // To the end, so that the pipe never fills.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                output.lock().expect("no panic").push_str(&text);
            }
        })
    });
    (output, readers)
}

/// `TERM`, `HUP`, `STOP` and so on.
#[track_caller]
pub fn signal(process: &Child, name: &str) {
    assert!(try_signal(process, name), "it has ended");
}

fn try_signal(process: &Child, name: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &process.id().to_string()]).stderr(Stdio::null());
    kill.status().is_ok_and(|status| status.success())
}

/// A process, and what it has said on both outputs.
pub struct Server {
    child: Child,
    output: Arc<Mutex<String>>,
    end: &'static str,
}

impl Server {
    /// `install`: what to do where the program is missing.
    #[track_caller]
    pub fn start(command: &mut Command, install: &str) -> Server {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(command, install);
        let (output, _) = output_of(&mut child);
        Server { child, output, end: "KILL" }
    }

    /// By this signal, for one that has processes of its own.
    pub fn ended_by(mut self, end: &'static str) -> Server {
        self.end = end;
        self
    }

    /// Waits until it takes connections there.
    #[track_caller]
    pub fn listening(mut self, address: impl ToSocketAddrs + Copy) -> Server {
        wait_for("the server to listen", || {
            // Where it cannot, somebody else may listen there.
            let stream = TcpStream::connect(address).ok();
            thread::sleep(Duration::from_millis(10));
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{status}: {}", self.output());
            }
            stream
        });
        self
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn output(&self) -> String {
        self.output.lock().expect("no panic").clone()
    }

    /// `STOP`, `CONT` and so on.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.end == "KILL" || !try_signal(&self.child, self.end) {
            // It may have ended before.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
