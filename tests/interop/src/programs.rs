//! The two programs, as children that answer one request a line.

use crate::vectors;
use serde_json::Value;
use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

/// A program that says nothing for so long has stopped.
const PATIENCE: Duration = Duration::from_secs(60);

/// An interpreter and its program.
pub struct Language {
    pub interpreter: OsString,
    script: PathBuf,
    /// A program that ends well if the interpreter has what is needed.
    check: [&'static str; 2],
    install: &'static str,
}

pub fn node() -> Language {
    Language {
        interpreter: "node".into(),
        script: script("node/cookie_session.mjs"),
        check: ["-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)"],
        install: "install Node.js 18 or later, so that `node` runs it (Debian: nodejs)",
    }
}

pub fn python() -> Language {
    Language {
        interpreter: python_interpreter(),
        script: script("python/cookie_session.py"),
        check: ["-c", "import sys, cryptography; sys.exit(sys.version_info < (3, 11))"],
        install: INSTALL_PYTHON,
    }
}

/// Python with a Flask that sets and reads its own sessions.
pub fn flask() -> Language {
    Language {
        interpreter: python_interpreter(),
        script: script("python/flask_sessions.py"),
        check: ["-c", "import sys, flask; sys.exit(sys.version_info < (3, 11))"],
        install: INSTALL_PYTHON,
    }
}

const INSTALL_PYTHON: &str = "install Python 3.11 or later and the packages of tests/interop/python/requirements.txt \
                              (`python3 -m venv DIR; DIR/bin/pip install -r FILE`), and name the interpreter that has \
                              them in COOKIE_SESSION_PYTHON";

fn python_interpreter() -> OsString {
    env::var_os("COOKIE_SESSION_PYTHON").unwrap_or_else(|| "python3".into())
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Language {
    /// Whether it can run; if not, what to install.
    pub fn is_there(&self) -> Result<(), String> {
        let interpreter = self.interpreter.display();
        let asked = Command::new(&self.interpreter).args(self.check).output();
        let why = match asked {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                said.lines().last().unwrap_or("it is too old").to_owned()
            }
            Err(error) => error.to_string(),
        };
        Err(format!("`{interpreter}` cannot run the program ({why}): {}", self.install))
    }

    fn command(&self) -> Command {
        self.is_there().unwrap_or_else(|missing| panic!("{missing}"));
        let mut command = Command::new(&self.interpreter);
        command.arg(&self.script);
        command
    }

    /// What it says to all vectors.
    pub fn vectors(&self) -> Output {
        self.command().arg("vectors").arg(vectors()).output().expect("it runs")
    }

    pub fn serve(&self) -> Program {
        let mut command = self.command();
        command.arg("serve");
        Program::start(&self.script.display().to_string(), command)
    }
}

/// A program that runs.
pub struct Program {
    name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Program {
    /// Starts a program that reads lines and says lines.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(name: &str, mut command: Command) -> Program {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, answers) = mpsc::channel();
        // It ends with the program.
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok();
        });
        let requests = child.stdin.take();
        Program { name: name.to_owned(), child, requests, answers }
    }

    /// The next line that it says without a request.
    ///
    /// # Panics
    ///
    /// If it ends or is silent.
    pub fn says(&mut self) -> String {
        let line = self.answers.recv_timeout(PATIENCE);
        line.unwrap_or_else(|error| panic!("{}: {error}, at its first words", self.name))
    }

    /// The answers, in order. It does not wait for one before it sends the next request.
    pub fn ask(&mut self, lines: &[String]) -> Vec<Value> {
        let Program { name, requests, answers, .. } = self;
        let mut requests = BufWriter::new(requests.as_mut().expect("open until the end"));
        thread::scope(|scope| {
            scope.spawn(move || {
                // If it fails, the program has ended, which its answers tell.
                lines.iter().try_for_each(|line| writeln!(requests, "{line}")).ok();
                requests.flush().ok();
            });
            let answer = |line: &String| {
                let answer = answers.recv_timeout(PATIENCE);
                let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}, at the request {line}"));
                serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{name}: not JSON: {answer}"))
            };
            lines.iter().map(answer).collect()
        })
    }

    /// Closes its input, and says whether it then ended well, without another word.
    pub fn ends_well(mut self) -> bool {
        drop(self.requests.take());
        let silent = self.answers.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Disconnected);
        silent && self.child.wait().expect("a child").success()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.requests.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Both.
pub struct Programs {
    node: Program,
    python: Program,
}

impl Programs {
    pub fn start() -> Programs {
        Programs { node: node().serve(), python: python().serve() }
    }

    /// The answers of Node and of Python to each request.
    pub fn ask(&mut self, requests: &[Value]) -> Vec<(Value, Value)> {
        let lines: Vec<_> = requests.iter().map(Value::to_string).collect();
        let (node, python) = thread::scope(|scope| {
            let node = scope.spawn(|| self.node.ask(&lines));
            let python = self.python.ask(&lines);
            (node.join().expect("Node's answers"), python)
        });
        node.into_iter().zip(python).collect()
    }

    /// The one answer of both to each request.
    pub fn agree(&mut self, requests: &[Value]) -> Vec<Value> {
        let answers = self.ask(requests).into_iter().zip(requests);
        let agree = answers.map(|((node, python), request)| {
            assert_eq!(node, python, "Node and Python, at the request {request}");
            assert!(node.get("error").is_none(), "{node}, at the request {request}");
            node
        });
        agree.collect()
    }
}
