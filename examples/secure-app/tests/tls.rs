//! TLS: certificates that change under the running app, what is spoken, and the way from http to https.

mod common;

use browser_tests::wait_for;
use common::{Site, head};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

const FILES: [&str; 2] = ["certificate.pem", "key.pem"];

/// Asks on a connection that stays open. Returns the status.
#[track_caller]
fn ask_again(stream: &mut BufReader<impl std::io::Read + Write>, port: u16) -> u16 {
    let head = head("GET", "/health", &[], port, "").replace("Connection: close\r\n", "");
    stream.get_mut().write_all(head.as_bytes()).expect("sent");
    let (mut status, mut length, mut line) = (0, 0, String::new());
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("an answer") > 0, "it was closed");
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().expect("a status");
        }
        if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = rest.trim().parse().expect("a length");
        }
    }
    stream.read_exact(&mut vec![0; length]).expect("a body");
    status
}

#[track_caller]
fn wait_for_certificate(site: &Site, certificate: &CertificateDer<'_>) {
    wait_for("the new certificate", || (site.certificate() == *certificate).then_some(()));
}

#[test]
fn a_new_certificate_is_for_new_connections_and_open_ones_go_on() {
    let site = Site::start("");
    let first = site.certificate();
    let port = site.https().port();
    let mut open = BufReader::new(site.connect());
    assert_eq!(ask_again(&mut open, port), 200);
    for _ in 0..2 {
        let second = site.write_certificate("localhost");
        assert_ne!(first, second);
        wait_for_certificate(&site, &second);
        assert_eq!(ask_again(&mut open, port), 200);
        assert_eq!(site.get("/", "").status, 200);
    }
    let chain = open.get_ref().conn.peer_certificates().expect("a certificate");
    assert_eq!(chain.first(), Some(&first));
}

#[test]
fn files_that_are_written_in_place_are_seen_too() {
    let site = Site::start("");
    let path = |name: &str| site.folder.path().join(name);
    let mut certificates = [site.certificate(), site.write_certificate_in("unwatched", "localhost")];
    let mut contents = [".", "unwatched"]
        .map(|folder| FILES.map(|name| fs::read(site.folder.path().join(folder).join(name)).unwrap()));
    // More than once: the first change may be seen by what is still on its way.
    for _ in 0..3 {
        certificates.swap(0, 1);
        contents.swap(0, 1);
        for (name, content) in FILES.iter().zip(&contents[0]) {
            fs::write(path(name), content).unwrap();
        }
        wait_for_certificate(&site, &certificates[0]);
    }
}

#[test]
fn files_that_are_moved_in_from_elsewhere_are_seen_too() {
    let site = Site::start("");
    for _ in 0..3 {
        let next = site.write_certificate_in("unwatched", "localhost");
        for name in FILES {
            fs::rename(site.folder.path().join("unwatched").join(name), site.folder.path().join(name))
                .unwrap();
        }
        wait_for_certificate(&site, &next);
    }
}

/// A new certificate as Kubernetes puts it into a mounted secret: the files are links through `..data`, itself a link to
/// a folder, which is replaced at once.
fn publish(site: &Site, secret: &Path, version: &str) -> CertificateDer<'static> {
    // Made where nobody looks.
    let certificate = site.write_certificate_in("unwatched/version", "localhost");
    fs::create_dir_all(secret).unwrap();
    fs::rename(site.folder.path().join("unwatched/version"), secret.join(version)).unwrap();
    symlink(version, secret.join("..data_tmp")).unwrap();
    fs::rename(secret.join("..data_tmp"), secret.join("..data")).unwrap();
    certificate
}

#[test]
fn links_that_are_swapped_as_in_a_secret_of_kubernetes_are_seen_too() {
    let site = Site::prepared("");
    let secret = site.folder.path().join("secret");
    let mut text = fs::read_to_string(site.file()).unwrap();
    let first = publish(&site, &secret, "..2026_01");
    for name in FILES {
        symlink(Path::new("..data").join(name), secret.join(name)).unwrap();
        let path = |folder: &Path| folder.join(name).display().to_string();
        text = text.replace(&path(site.folder.path()), &path(&secret));
    }
    site.write("secure-app.toml", &text);
    let site = site.started();
    assert_eq!(site.certificate(), first);
    for version in ["..2026_02", "..2026_03", "..2026_04"] {
        let next = publish(&site, &secret, version);
        wait_for_certificate(&site, &next);
    }
}

#[test]
fn a_certificate_and_a_key_that_do_not_go_together_are_refused_and_the_old_ones_stay() {
    let site = Site::program("", &[]);
    let first = site.certificate();
    let path = |name: &str| site.folder.path().join(name);
    let old = FILES.map(|name| fs::read_to_string(path(name)).unwrap());
    let secret = old[1].lines().nth(1).unwrap().to_owned();
    let refusals = |text: &str| {
        let output = site.its_program().output();
        let line =
            |line: &&str| line.contains("refused; what was in use before stays") && line.contains(text);
        output.lines().filter(line).count()
    };
    let another = {
        let other = Site::prepared("");
        FILES.map(|name| fs::read_to_string(other.folder.path().join(name)).unwrap())
    };
    let half = &old[0][..old[0].len() / 2];
    let cases: [(&str, &str, &str); 7] = [
        ("certificate.pem", &another[0], "do not go together"),
        ("key.pem", &another[1], "do not go together"),
        ("certificate.pem", half, "certificate"),
        ("certificate.pem", "", "certificate.pem is empty"),
        ("certificate.pem", "\n", "there is no certificate in tls.certificate"),
        ("key.pem", "", "key.pem is empty"),
        ("key.pem", &old[0], "cannot be read: there is none in it"),
    ];
    for (name, content, text) in cases {
        let before = refusals(text);
        site.write(name, content);
        wait_for(text, || (refusals(text) > before).then_some(()));
        assert_eq!(site.certificate(), first, "{name}: {text}");
        // Mended, it is taken again: as new, for nothing else tells that it was.
        let taken = || site.its_program().output().matches("are in use as configured now").count();
        let before = taken();
        site.write(name, &old[usize::from(name == "key.pem")]);
        wait_for("the mended file to be taken", || (taken() > before).then_some(()));
    }
    assert_eq!(site.certificate(), first);
    let output = site.its_program().output();
    assert!(!output.contains(&secret), "{output}");
}

#[test]
fn the_certificate_made_at_the_start_is_for_the_configured_names_and_a_month() {
    let site = Site::prepared("hosts = ['localhost', 'app.example', '127.0.0.1', '[::1]']");
    let text = fs::read_to_string(site.file()).unwrap();
    let (before, rest) = text.split_once("[tls]").unwrap();
    let (_, after) = rest.split_once("[[users]]").unwrap();
    site.write("secure-app.toml", &format!("{before}[[users]]{after}"));
    let mut site = site;
    site.start_program(&[]);
    site.its_program().says("browsers will not trust the certificate");
    let port = site.https().port();
    let client = |arguments: &[&str]| openssl(port, arguments);
    let certificate = site.folder.path().join("made.pem");
    let output = client(&["-showcerts"]);
    let begin = output.find("-----BEGIN CERTIFICATE-----").expect("a certificate");
    fs::write(&certificate, &output[begin..]).unwrap();
    assert_eq!(CertificateDer::pem_file_iter(&certificate).unwrap().count(), 1);
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-ext", "subjectAltName,basicConstraints", "-checkend"])
        .arg((31 * 24 * 60 * 60).to_string())
        .arg("-in")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let names = "DNS:localhost, DNS:app.example, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1";
    assert!(shown.contains(names), "{shown}");
    assert!(
        shown.contains("Certificate will expire") && shown.contains("secure-app, self-signed"),
        "{shown}"
    );
    assert!(!shown.contains("CA:TRUE"), "{shown}");
}

// ------------------------------------------------------------------------------------------------ What is spoken

/// What `openssl s_client` says of a handshake.
fn openssl(port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost"]);
    command.args(arguments).stdin(Stdio::null());
    let output = browser_tests::output(&mut command, "apt-get install openssl");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let site = Site::start("");
    let port = site.https().port();
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let output = openssl(port, &[version]);
        assert!(output.contains(&format!("New, {name}, Cipher is ")), "{output}");
    }
    for version in ["-tls1", "-tls1_1"] {
        // Offered by the client at the lowest security level, so that it is the server that refuses.
        let output = openssl(port, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(
            output.contains("SSL alert number") && output.contains("Cipher is (NONE)"),
            "{version}: {output}"
        );
    }
    // Without forward secrecy, or without authentication of what is encrypted.
    for cipher in ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384"] {
        let output = openssl(port, &["-tls1_2", "-cipher", &format!("{cipher}:@SECLEVEL=0")]);
        assert!(output.contains("alert handshake failure"), "{cipher}: {output}");
    }
}

#[test]
fn http_2_is_preferred_and_http_1_1_is_there() {
    let site = Site::start("");
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut stream = site.connect_offering(offered);
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        let spoken = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(spoken.as_deref(), chosen, "{offered:?}");
    }
    let mut stream = site.connect_offering(&["http/1.0"]);
    assert!(stream.conn.complete_io(&mut stream.sock).is_err());
}

#[test]
fn what_is_no_handshake_harms_nobody() {
    let site = Site::start("");
    let mut plain = TcpStream::connect(site.https()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(site.get("/", "").status, 200);
}

// ------------------------------------------------------------------------------------------------ From http to https

#[test]
fn http_leads_to_https_at_the_same_name_path_and_query_and_nowhere_else() {
    let site = Site::start("hosts = ['localhost', 'App.Example', '127.0.0.1', '[::1]']");
    let port = site.https().port();
    let to = |host: &str, rest: &str| Some(format!("https://{host}:{port}{rest}"));
    let cases: Vec<(&str, &str, Option<String>)> = vec![
        // `Host`, the request's target, and where it leads.
        ("localhost", "/", to("localhost", "/")),
        ("localhost:8080", "/cart?a=b&c=%2F", to("localhost", "/cart?a=b&c=%2F")),
        ("LOCALHOST:1", "/?", to("localhost", "/?")),
        (
            "app.example",
            "/login?next=https://evil.example/",
            to("app.example", "/login?next=https://evil.example/"),
        ),
        ("APP.EXAMPLE:80", "/a//b", to("app.example", "/a//b")),
        ("127.0.0.1:8080", "/", to("127.0.0.1", "/")),
        ("[::1]", "/x", to("[::1]", "/x")),
        ("[::1]:8080", "/x", to("[::1]", "/x")),
        ("localhost", "//evil.example/", to("localhost", "//evil.example/")),
        ("localhost", "/.evil.example", to("localhost", "/.evil.example")),
        ("localhost:", "/", to("localhost", "/")),
        // Not ours.
        ("evil.example", "/", None),
        ("localhost.evil.example", "/", None),
        ("evil.example:80", "/", None),
        ("localhost@evil.example", "/", None),
        ("evil.example@localhost", "/", None),
        ("localhost:80@evil.example", "/", None),
        ("localhost:80:80", "/", None),
        ("localhost:80x", "/", None),
        ("localhost.", "/", None),
        ("[::1", "/", None),
        ("::1", "/", None),
        ("[::2]", "/", None),
        ("127.0.0.2", "/", None),
        ("localhost evil.example", "/", None),
        ("localhost,evil.example", "/", None),
        ("localhost/evil", "/", None),
        // A target with a name of its own counts more than `Host` (RFC 9112, 3.2.2).
        ("localhost", "http://evil.example/", None),
        ("evil.example", "http://localhost/", to("localhost", "/")),
        ("localhost", "http://app.example/x?y", to("app.example", "/x?y")),
        ("localhost", "http://localhost@evil.example/", None),
        ("localhost", "http://evil.example@localhost/", None),
    ];
    for (host, target, expected) in cases {
        let what = format!("{host} {target}");
        let forged = [("X-Forwarded-Host", "evil.example"), ("Forwarded", "host=evil.example")];
        let mut headers = vec![("Host", host)];
        headers.extend(forged);
        let reply = site.send_plain("GET", target, &headers, "");
        assert_eq!(reply.header("location"), expected.as_deref(), "{what}: {reply:?}");
        match expected {
            Some(_) => assert_eq!(reply.status, 308, "{what}: {reply:?}"),
            None => assert!([400, 421].contains(&reply.status), "{what}: {reply:?}"),
        }
        assert!(!reply.body.contains("evil"), "{what}: {reply:?}");
        // Over TLS the same names are served and refused.
        if !target.starts_with("http") {
            let reply = site.send("GET", "/", &headers, "");
            assert_eq!(reply.status == 200, expected.is_some(), "{what}: {reply:?}");
        }
    }
}

#[test]
fn a_request_without_a_name_or_with_two_gets_nothing() {
    let site = Site::start("");
    for head in [
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n",
    ] {
        let reply = common::exchange(site.connect(), head, "");
        assert!([400, 421].contains(&reply.status), "{head:?}: {reply:?}");
        let reply = common::exchange(TcpStream::connect(site.http()).unwrap(), head, "");
        assert!([400, 421].contains(&reply.status), "{head:?}: {reply:?}");
        assert_eq!(reply.header("location"), None, "{head:?}: {reply:?}");
    }
    let two = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let reply = common::exchange(TcpStream::connect(site.http()).unwrap(), two, "");
    assert!(!reply.header("location").unwrap_or_default().contains("evil"), "{reply:?}");
}

#[test]
fn the_configured_port_is_the_one_that_is_redirected_to() {
    for (port, origin) in [(443, "https://localhost/x"), (4711, "https://localhost:4711/x")] {
        let site = Site::start(&format!("public_port = {port}"));
        let reply = site.send_plain("GET", "/x", &[], "");
        assert_eq!(reply.header("location"), Some(origin), "{reply:?}");
    }
}
