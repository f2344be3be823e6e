//! HTTP/1.1 over a socket, one request a connection; each step is the test's.

use crate::{HOST, PATIENCE};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// A request that has been sent.
pub struct Connection(BufReader<TcpStream>);

/// A response's header block.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    /// In bytes.
    pub length: usize,
    headers: Vec<(String, String)>,
}

/// A response that ended too soon, and what had come of the part that broke off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub Vec<u8>);

impl Connection {
    /// # Errors
    ///
    /// If nobody listens, or the connection is reset.
    pub fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Connection> {
        Connection::send_with(port, method, path, headers, "")
    }

    /// The same with content, of which the headers must say how long it is.
    ///
    /// # Errors
    ///
    /// As of `send`.
    pub fn send_with(
        port: u16,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content: &str,
    ) -> io::Result<Connection> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text += content;
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.write_all(text.as_bytes())?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// The header block, once it is here to its last byte.
    ///
    /// # Errors
    ///
    /// If the connection ends before.
    pub fn head(&mut self) -> Result<Head, Broken> {
        let mut block = Vec::new();
        while !block.ends_with(b"\r\n\r\n") {
            if more(self.0.read_until(b'\n', &mut block)) == 0 {
                return Err(Broken(block));
            }
        }
        Ok(Head::parse(&block))
    }

    /// The body that belongs to this head.
    ///
    /// # Errors
    ///
    /// If the connection ends before.
    pub fn body(&mut self, head: &Head) -> Result<String, Broken> {
        let mut body = Vec::new();
        if let Some(length) = head.get("content-length").next() {
            self.exactly(length.parse().expect("a length"), &mut body)?;
        } else {
            assert_eq!(head.get("transfer-encoding").collect::<Vec<_>>(), ["chunked"]);
            while self.chunk(&mut body)? > 0 {}
        }
        Ok(String::from_utf8(body).expect("text"))
    }

    /// A chunk (RFC 9112 section 7.1), and how long it is; the last has nothing in it.
    ///
    /// # Errors
    ///
    /// If the connection ends before.
    pub fn chunk(&mut self, body: &mut Vec<u8>) -> Result<u64, Broken> {
        let mut line = Vec::new();
        more(self.0.read_until(b'\n', &mut line));
        let Some(digits) = line.strip_suffix(b"\r\n") else { return Err(Broken(body.clone())) };
        let digits = std::str::from_utf8(digits).expect("text");
        let length = u64::from_str_radix(digits, 16).expect("a length");
        self.exactly(length, body)?;
        let mut end = Vec::new();
        self.exactly(2, &mut end)?;
        assert_eq!(end, b"\r\n");
        Ok(length)
    }

    fn exactly(&mut self, length: u64, into: &mut Vec<u8>) -> Result<(), Broken> {
        let read = more(self.0.by_ref().take(length).read_to_end(into));
        if read as u64 == length { Ok(()) } else { Err(Broken(into.clone())) }
    }
}

/// How many bytes came. A reset, as of a killed process, is an end like another; silence is a fault.
fn more(read: io::Result<usize>) -> usize {
    match read {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("no end and no answer: {error}"),
    }
}

impl Head {
    /// Status line and header lines. The last may be cut short: what a client does that makes the best of it.
    pub fn parse(block: &[u8]) -> Head {
        let text = std::str::from_utf8(block).expect("text");
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let pair =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Head { status: status.unwrap_or(0), length: block.len(), headers: lines.filter_map(pair).collect() }
    }

    pub fn get<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h str> {
        self.headers
            .iter()
            .filter(move |(its, _)| its.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn set_cookies(&self) -> Vec<&str> {
        self.get("set-cookie").collect()
    }
}
