//! A proxy that cuts a response off after so many bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

pub struct Proxy {
    pub port: u16,
    cuts: mpsc::Sender<usize>,
}

impl Proxy {
    /// In front of a server; each connection takes the next cut.
    pub fn before(server: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (cuts, next) = mpsc::channel();
        // Ends with the test's process; a fault in here ends the connection, which the client sees.
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(cut) = next.recv() else { return };
                pass(client.expect("a client"), server, cut);
            }
        });
        Proxy { port, cuts }
    }

    /// The next response ends after so many bytes.
    pub fn cut_after(&self, bytes: usize) {
        self.cuts.send(bytes).expect("a proxy");
    }
}

/// A request without a body goes on whole, its response to the cut.
fn pass(mut client: TcpStream, server: u16, cut: usize) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.ends_with(b"\r\n\r\n") {
        let read = client.read(&mut buffer).expect("a request");
        assert!(read > 0, "half a request");
        request.extend_from_slice(&buffer[..read]);
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).expect("a server");
    upstream.write_all(&request).expect("a server");
    let mut response = Vec::new();
    upstream.read_to_end(&mut response).expect("a response");
    client.write_all(&response[..cut.min(response.len())]).expect("a client");
    client.shutdown(Shutdown::Both).expect("a client");
}
