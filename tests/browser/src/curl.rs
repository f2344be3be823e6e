//! curl with its cookie jar.

use crate::{Reply, TempDir, output};
use std::{fs, path::PathBuf, process::Command};

/// In seconds, for one request.
const MAX_TIME: &str = "30";

pub struct Curl {
    folder: TempDir,
}

/// A line of the jar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JarCookie {
    pub name: String,
    pub value: String,
    pub domain: String,
    pub subdomains: bool,
    pub path: String,
    pub secure: bool,
    pub http_only: bool,
}

impl Curl {
    /// With an empty jar.
    pub fn new() -> Curl {
        Curl { folder: TempDir::new() }
    }

    fn jar(&self) -> PathBuf {
        self.folder.path().join("jar")
    }

    #[track_caller]
    pub fn get(&self, url: &str) -> Reply {
        self.request("GET", url)
    }

    #[track_caller]
    pub fn post(&self, url: &str) -> Reply {
        self.request("POST", url)
    }

    #[track_caller]
    fn request(&self, method: &str, url: &str) -> Reply {
        let mut curl = curl();
        curl.args(["-w", "\n%{http_code}", "-X", method, url]);
        curl.arg("-b").arg(self.jar()).arg("-c").arg(self.jar());
        let text = run(curl);
        let (body, status) = text.rsplit_once('\n').expect("a status");
        Reply { status: status.parse().expect("a status"), body: body.to_owned() }
    }

    /// Several requests of one process, which keeps the cookies in memory; all bodies in a row.
    #[track_caller]
    pub fn in_memory(requests: &[(&str, String)]) -> String {
        let mut curl = curl();
        for (number, (method, url)) in requests.iter().enumerate() {
            if number > 0 {
                curl.arg("--next").args(OPTIONS);
            }
            curl.args(["-b", "", "-X", method, url]);
        }
        run(curl)
    }

    /// What the jar holds.
    pub fn cookies(&self) -> Vec<JarCookie> {
        let text = fs::read_to_string(self.jar()).unwrap_or_default();
        let cookie = |line: &str| {
            let (line, http_only) = match line.strip_prefix("#HttpOnly_") {
                Some(line) => (line, true),
                None if line.starts_with('#') => return None,
                None => (line, false),
            };
            let fields: Vec<&str> = line.split('\t').collect();
            let [domain, subdomains, path, secure, _expires, name, value] = fields[..] else { return None };
            Some(JarCookie {
                name: name.to_owned(),
                value: value.to_owned(),
                domain: domain.to_owned(),
                subdomains: subdomains == "TRUE",
                path: path.to_owned(),
                secure: secure == "TRUE",
                http_only,
            })
        };
        text.lines().filter_map(cookie).collect()
    }
}

const OPTIONS: [&str; 5] = ["-sS", "--noproxy", "*", "--max-time", MAX_TIME];

fn curl() -> Command {
    let mut curl = Command::new("curl");
    // `-q`: nobody's ~/.curlrc.
    curl.arg("-q").args(OPTIONS);
    curl
}

#[track_caller]
fn run(mut curl: Command) -> String {
    let output = output(&mut curl, "apt-get install curl");
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

impl Default for Curl {
    fn default() -> Self {
        Curl::new()
    }
}
