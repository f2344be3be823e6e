//! Servers as processes, and what a browser does with three of them that stand for one host.

use crate::{CLOCK, Connection, HOLD, Head, Jar, Keys, PATIENCE, Report, Schema, Settings, says, told};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// A server's process; it ends with this value.
pub struct Server {
    pub port: u16,
    child: Child,
    stdin: ChildStdin,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    /// Lines, and whether the last has been said.
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Server {
    #[track_caller]
    pub fn start(program: &str, settings: &Settings) -> Server {
        let settings = serde_json::to_string(settings).expect("JSON");
        let mut child = Command::new(program)
            .arg(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{program}`: {error}"));
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let said = Arc::new(Said::default());
        let hears = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                hears.lines.lock().expect("no panic").0.push(line);
                hears.more.notify_all();
            }
            hears.lines.lock().expect("no panic").1 = true;
            hears.more.notify_all();
        });
        let mut server = Server { port: 0, child, stdin, said };
        server.port = server.hear(says::LISTENING, 1).parse().expect("a port");
        server
    }

    /// Waits until it has said so many lines that begin so; returns the rest of the last.
    #[track_caller]
    fn hear(&self, begin: &str, times: usize) -> String {
        let heard = |lines: &[String]| {
            let mut rests = lines.iter().filter_map(|line| line.strip_prefix(begin));
            rests.nth(times - 1).map(str::to_owned)
        };
        let lines = self.said.lines.lock().expect("no panic");
        let waits = |(lines, ended): &mut (Vec<String>, bool)| heard(lines).is_none() && !*ended;
        let (lines, _) = self.said.more.wait_timeout_while(lines, PATIENCE, waits).expect("no panic");
        heard(&lines.0)
            .unwrap_or_else(|| panic!("waited for {begin:?} of a server, and it said {:?}", lines.0))
    }

    /// Waits until so many requests stand at this gate.
    #[track_caller]
    pub fn wait_held(&self, gate: &str, requests: usize) {
        self.hear(&format!("{}{gate}", says::HELD), requests);
    }

    /// Waits until it accepts no more connections.
    #[track_caller]
    pub fn wait_draining(&self) {
        self.hear(says::DRAINING, 1);
    }

    /// Opens a gate for good. The server's clock has this time then; 0 is the machine's.
    pub fn open(&mut self, gate: &str, now: u64) {
        writeln!(self.stdin, "{}{gate} {now}", told::OPEN).expect("a server");
    }

    /// Asks it to finish what is under way and to end.
    pub fn drain(&mut self) {
        writeln!(self.stdin, "{}", told::DRAIN).expect("a server");
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        self.hear_the_end();
        self.child.wait().expect("a process")
    }

    fn hear_the_end(&self) {
        let lines = self.said.lines.lock().expect("no panic");
        let (lines, _) =
            self.said.more.wait_timeout_while(lines, PATIENCE, |(_, ended)| !*ended).expect("no panic");
        assert!(lines.1, "the server did not end");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process");
        self.child.wait().expect("a process");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A response that a browser has received.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub set_cookies: usize,
    pub report: Report,
}

/// Three servers behind one name, and the time.
pub struct Fleet {
    program: &'static str,
    pub servers: Vec<Server>,
    pub settings: [Settings; 3],
    /// In milliseconds since 1970; moved by the test alone.
    pub now: u64,
}

impl Fleet {
    /// How far the clocks are ahead, in milliseconds; otherwise all are at the first stage.
    #[track_caller]
    pub fn start(program: &'static str, ahead: [u64; 3]) -> Fleet {
        Fleet::with(program, ahead.map(|ahead| Settings { keys: Keys::OldAlone, schema: Schema::V1, ahead }))
    }

    #[track_caller]
    pub fn with(program: &'static str, settings: [Settings; 3]) -> Fleet {
        let servers = settings.iter().map(|settings| Server::start(program, settings)).collect();
        Fleet { program, servers, settings, now: 1_800_000_000_000 }
    }

    /// Puts a server with other settings in the place of one.
    #[track_caller]
    pub fn replace(&mut self, at: usize, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings[at]);
        self.servers[at] = Server::start(self.program, &self.settings[at]);
    }

    /// Kills a server, and puts one like it in its place.
    pub fn restart(&mut self, at: usize) {
        self.servers[at].kill();
        self.replace(at, |_| ());
    }

    /// Sends a request to one of the servers; it waits at the gate if one is named.
    #[track_caller]
    pub fn send(&self, at: usize, jar: &Jar, method: &str, path: &str, gate: Option<&str>) -> Connection {
        self.send_to(self.servers[at].port, jar, method, path, gate)
    }

    #[track_caller]
    pub fn send_to(&self, port: u16, jar: &Jar, method: &str, path: &str, gate: Option<&str>) -> Connection {
        let (now, cookies) = (self.now.to_string(), jar.cookies(self.now));
        let mut headers = vec![(CLOCK, now.as_str()), ("content-length", "0")];
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        headers.extend(gate.map(|gate| (HOLD, gate)));
        Connection::send(port, method, path, &headers).expect("a server")
    }

    /// The browser receives a response's headers.
    pub fn receive(&self, jar: &mut Jar, head: &Head) {
        for set_cookie in head.set_cookies() {
            jar.set(set_cookie, self.now);
        }
    }

    /// The rest of a response, which must be good.
    #[track_caller]
    pub fn finish(&self, connection: &mut Connection, head: &Head) -> Reply {
        let body = connection.body(head).expect("a whole body");
        assert_eq!(head.status, 200, "{body}");
        let report = serde_json::from_str(&body).expect("a report");
        Reply { status: head.status, set_cookies: head.set_cookies().len(), report }
    }

    /// A request and its response.
    #[track_caller]
    pub fn ask(&self, at: usize, jar: &mut Jar, method: &str, path: &str) -> Reply {
        let mut connection = self.send(at, jar, method, path, None);
        let head = connection.head().expect("a whole header block");
        self.receive(jar, &head);
        self.finish(&mut connection, &head)
    }

    #[track_caller]
    pub fn post(&self, at: usize, jar: &mut Jar, path: &str) -> Report {
        self.ask(at, jar, "POST", path).report
    }

    /// Reads the session.
    #[track_caller]
    pub fn read(&self, at: usize, jar: &mut Jar) -> Report {
        self.ask(at, jar, "GET", "/read").report
    }
}
