//! A Redis of the test's own, or a Valkey: `COOKIE_SESSION_REDIS` names another program.

use super::servers::{Server, own_address};
use browser_tests::{TempDir, wait_for};
use redis::{Client, Connection, FromRedisValue, cmd};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

pub struct Redis {
    folder: TempDir,
    /// Of its own, so that no other program takes its place while it is stopped.
    address: String,
    arguments: Vec<String>,
    server: Option<Server>,
    scheme: &'static str,
    password: Option<&'static str>,
}

impl Redis {
    /// One that instances have used some time ago: they need not wait for each other's counts.
    pub fn start() -> Redis {
        let mut redis = Redis::prepared();
        redis.start_again();
        let info: String = redis.ask("INFO");
        let find = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        let generation = format!("{}-{} 0 0", find("run_id:"), find("master_replid:"));
        let mut connection = redis.try_connection().expect("it runs");
        cmd("SET").arg("secure-app:generation").arg(&generation).exec(&mut connection).expect("set");
        let mut first = cmd("XADD");
        first.arg("secure-app:sign-outs").arg("*").arg("generation").arg(&generation);
        first.exec(&mut connection).expect("added");
        redis
    }

    /// It does not run yet.
    pub fn prepared() -> Redis {
        let (folder, address) = (TempDir::new(), own_address().to_string());
        Redis { folder, address, arguments: Vec::new(), server: None, scheme: "redis", password: None }
    }

    /// Starts it with a password, and TLS by this certificate and key. It is for the app alone.
    pub fn started_with_tls(self, password: &'static str, certificate: &str, key: &str) -> Redis {
        let mut redis = self;
        let file = |name: &str, text: &str| {
            let path = redis.folder.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let (certificate, key) = (file("certificate.pem", certificate), file("key.pem", key));
        redis.arguments = [
            ["--port", "0"],
            ["--tls-port", "6379"],
            ["--tls-auth-clients", "no"],
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--requirepass", password],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        (redis.scheme, redis.password) = ("rediss", Some(password));
        redis.run();
        redis.server = redis.server.map(|server| server.listening((redis.address.as_str(), 6379)));
        redis
    }

    /// Where it is, for the app.
    pub fn url(&self) -> String {
        let password = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("{}://{password}{}:6379", self.scheme, self.address)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Starts it, with nothing in it but what was saved.
    pub fn start_again(&mut self) {
        self.run();
        // Another one may listen at all addresses: what is done here is not for that.
        let own = format!("process_id:{}", self.running().id());
        wait_for("Redis", || {
            let mut connection = self.try_connection()?;
            let info: String = cmd("INFO").arg("server").query(&mut connection).ok()?;
            info.lines().any(|line| line == own).then_some(())
        });
    }

    fn run(&mut self) {
        let program = std::env::var_os("COOKIE_SESSION_REDIS").map_or("redis-server".into(), PathBuf::from);
        let mut command = Command::new(program);
        command.args(["--bind", &self.address, "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.folder.path()).args(&self.arguments);
        self.server = Some(Server::start(&mut command, "apt-get install redis-server"));
    }

    /// It dies at once, and what is in it.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Its connections stay, and it answers nothing, until it is [resumed](Redis::resume).
    pub fn pause(&self) {
        self.running().signal("STOP");
    }

    pub fn resume(&self) {
        self.running().signal("CONT");
    }

    fn running(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    fn try_connection(&self) -> Option<Connection> {
        let mut connection = Client::open(self.url()).expect("an address").get_connection().ok()?;
        cmd("PING").query::<String>(&mut connection).ok()?;
        Some(connection)
    }

    /// `HGET key field`, and so on.
    #[track_caller]
    pub fn ask<R: FromRedisValue>(&self, command: &str) -> R {
        let mut words = command.split(' ');
        let mut connection = self.try_connection().expect("it runs");
        cmd(words.next().expect("a command"))
            .arg(words.collect::<Vec<_>>())
            .query(&mut connection)
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// What its process has used of the processor.
    pub fn cpu(&self) -> Duration {
        let id = self.running().id();
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("on Linux");
        let mut fields = stat.rsplit_once(") ").expect("its name").1.split(' ').skip(11);
        let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<u64>().ok()).expect("a number");
        Duration::from_millis((ticks() + ticks()) * 10)
    }

    /// How often it was asked to do that since it started.
    pub fn calls(&self, command: &str) -> u64 {
        let info: String = self.ask("INFO commandstats");
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
    }
}

/// The way of one instance to its Redis, which can be cut.
pub struct Wire {
    address: SocketAddr,
    scheme: &'static str,
    is_cut: Arc<AtomicBool>,
    is_deaf: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    pub fn to(redis: &Redis) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let wire = Wire {
            address,
            scheme: redis.scheme,
            is_cut: Arc::default(),
            is_deaf: Arc::default(),
            streams: Arc::default(),
        };
        let (is_cut, streams) = (Arc::clone(&wire.is_cut), Arc::clone(&wire.streams));
        let is_deaf = Arc::clone(&wire.is_deaf);
        let to = format!("{}:6379", redis.address);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&to) else { continue };
                let mut streams = streams.lock().expect("no panic");
                if is_cut.load(SeqCst) {
                    continue;
                }
                // Whoever has begun to wait for what is next in the log.
                let waits = Arc::new(AtomicBool::new(false));
                for (from, to, asks) in [(&near, &far, true), (&far, &near, false)] {
                    let (mut from, mut to) = (from.try_clone().expect("one"), to.try_clone().expect("one"));
                    let (waits, is_deaf) = (Arc::clone(&waits), Arc::clone(&is_deaf));
                    thread::spawn(move || {
                        let mut bytes = [0; 65536];
                        while let Ok(length @ 1..) = from.read(&mut bytes) {
                            let bytes = &bytes[..length];
                            if asks && bytes.windows(5).any(|some| some == b"BLOCK") {
                                waits.store(true, SeqCst);
                            }
                            if !asks && waits.load(SeqCst) && is_deaf.load(SeqCst) {
                                continue;
                            }
                            if to.write_all(bytes).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.extend([near, far]);
            }
        });
        wire
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub fn cut(&self) {
        let mut streams = self.streams.lock().expect("no panic");
        self.is_cut.store(true, SeqCst);
        for stream in streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What is new in the log does not come through, all else does.
    pub fn deafen(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, SeqCst);
    }

    pub fn mend(&self) {
        self.is_cut.store(false, SeqCst);
    }
}
