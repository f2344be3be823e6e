//! One name for two servers: who is moved goes to the second, all others to the first.

use fleet_tests::PATIENCE;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

/// The request's header that says whose browser it is.
pub const USER: &str = "x-user";

pub struct Switch {
    pub port: u16,
    moved: Arc<AtomicU32>,
}

/// A user's place, of a hundred: FNV-1a, so that it is the same in each run.
pub fn place(user: &str) -> u32 {
    let hash =
        user.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // Its low bits mix best.
    (hash ^ hash >> 16) % 100
}

impl Switch {
    /// In front of two servers. It ends with the test's process.
    pub fn before(first: u16, second: u16) -> Switch {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let moved = Arc::new(AtomicU32::new(0));
        let share = Arc::clone(&moved);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, share) = (client.expect("a client"), Arc::clone(&share));
                // A fault in here ends the connection, which the client sees.
                thread::spawn(move || {
                    pass(
                        client,
                        |user| if place(user) < share.load(Ordering::SeqCst) { second } else { first },
                    )
                });
            }
        });
        Switch { port, moved }
    }

    pub fn is_moved(&self, user: &str) -> bool {
        place(user) < self.moved.load(Ordering::SeqCst)
    }

    /// From now on so many of a hundred are moved.
    pub fn move_over(&self, percent: u32) {
        self.moved.store(percent, Ordering::SeqCst);
    }
}

/// A request and its response, each whole.
fn pass(client: TcpStream, server: impl FnOnce(&str) -> u16) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut client = BufReader::new(client);
    let (mut request, mut user, mut length) = (String::new(), String::new(), 0);
    while !request.ends_with("\r\n\r\n") {
        let begin = request.len();
        if client.read_line(&mut request)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((name, value)) = request[begin..].trim_end().split_once(": ") {
            match name {
                USER => user = value.to_owned(),
                "content-length" => length = value.parse().expect("a length"),
                _ => {}
            }
        }
    }
    let mut content = vec![0; length];
    client.read_exact(&mut content)?;
    let mut server = TcpStream::connect(("127.0.0.1", server(&user)))?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(request.as_bytes())?;
    server.write_all(&content)?;
    let mut response = Vec::new();
    server.read_to_end(&mut response)?;
    let mut client = client.into_inner();
    client.write_all(&response)?;
    client.shutdown(Shutdown::Write)
}
