//! Certificates that curl takes and the agent does not: `diagnose` names each, and the line that it gives mends it.
//!
//! Server, certificates and the line are OpenSSL's, and curl is asked as well, where this machine has them.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use planasonix_agent::{
    client::{Client, Outcome},
    diagnose::{Finding, Options, Verdict, examine},
    timing::Timing,
};
use tempfile::TempDir;

use crate::host::Host;

/// `openssl s_server`, killed with its test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.crt", "-key", "server.key", "-www"])
            .args(more)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned));
        // It goes on printing.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.unwrap().parse().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn sh(folder: &Path, line: &str) {
    let ended = Command::new("/bin/sh").args(["-ec", line]).current_dir(folder).output().unwrap();
    assert!(ended.status.success(), "{line}: {}", String::from_utf8_lossy(&ended.stderr));
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A host whose control plane is `https://NAME`, and which trusts `ca.crt`.
fn host(server: &Server, folder: &Path, name: &str) -> Host {
    let url = format!("https://{name}:{}", server.address.port());
    let ca = folder.join("ca.crt");
    Host::new(&format!("PLANASONIX_API_HOST={url}\nPLANASONIX_CA_FILE={}", ca.display()))
}

/// What `diagnose` finds.
async fn tls(host: &Host) -> Finding {
    let report = examine(&host.config, Options::default()).await;
    report.findings.into_iter().find(|finding| finding.probe == "tls").unwrap()
}

/// What the agent says in its log, and `enroll` to who runs it.
async fn why(host: &Host) -> String {
    match Client::new(&host.config, &Timing::default()).unwrap().ready().await.outcome {
        Outcome::Retry(retry) => retry.why,
        other => panic!("{other:?}"),
    }
}

/// With the security level that OpenSSL itself has; some distributions raise it.
fn curl_takes(server: &Server, folder: &Path, host: &str) -> bool {
    let url = format!("https://{host}:{}/", server.address.port());
    let curl =
        ["-sS", "-m", "10", "--noproxy", "*", "--ciphers", "DEFAULT@SECLEVEL=1", "--cacert", "ca.crt", &url];
    let ended = Command::new("curl").args(curl).current_dir(folder).output().unwrap();
    ended.status.success()
}

const SELF_SIGNED: &str = "openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.crt -days 30 \
                           -subj /CN=localhost";
const REQUEST: &str =
    "openssl req -new -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost";
const AUTHORITY: &str =
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=ca";
const ISSUE: &str =
    "openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out server.crt";

const ODD_KEY: &str = "of a kind or length that is not accepted";

/// How it is made, the host it is asked for, what is said, and whether the line mends it.
fn cases() -> Vec<(String, &'static str, &'static str)> {
    let issued = |extensions: &str| {
        format!("{AUTHORITY}; {REQUEST}; printf '{extensions}' >ext; {ISSUE} -extfile ext")
    };
    let own = |more: &str| format!("{SELF_SIGNED} {more}; cp server.crt ca.crt");
    vec![
        (own("-addext subjectAltName=DNS:localhost"), "localhost", "one of an authority (CA:TRUE"),
        (own(""), "localhost", "one of an authority (CA:TRUE"),
        (own("-extensions usr_cert"), "localhost", "no subject alternative name"),
        (
            format!(
                "{REQUEST}; openssl x509 -req -in server.csr -key server.key -days 30 -out server.crt; cp server.crt ca.crt"
            ),
            "localhost",
            "X.509 version 1",
        ),
        (format!("{AUTHORITY}; {REQUEST}; {ISSUE}"), "localhost", "X.509 version 1"),
        (issued("basicConstraints=CA:FALSE"), "localhost", "no subject alternative name"),
        (
            own("-addext subjectAltName=DNS:localhost -extensions usr_cert").replace("rsa:2048", "rsa:1024"),
            "localhost",
            ODD_KEY,
        ),
    ]
}

/// The advised line without the words around it.
fn line(advice: &str) -> &str {
    let line = advice.split("made by: ").nth(1).or_else(|| advice.split("certificate: ").nth(1)).unwrap();
    line.split("; put").next().unwrap()
}

#[tokio::test]
async fn certificates_that_curl_takes_are_named_and_mended_by_the_line() {
    if !has("openssl") || !has("curl") {
        return;
    }
    for (make, name, told) in cases() {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        sh(path, &make);
        let server = Server::start(path, &["-cipher", "DEFAULT@SECLEVEL=1"]);
        assert!(curl_takes(&server, path, name), "curl refuses as well: {make}");
        let finding = tls(&host(&server, path, name)).await;
        assert_eq!(finding.verdict, Verdict::Problem, "{make}: {finding}");
        assert!(finding.to_string().contains(told), "{make}: {finding}");
        let why = why(&host(&server, path, name)).await;
        assert!(why.contains(told) || told == ODD_KEY && why.contains("BadSignature"), "{make}: {why}");
        drop(server);
        let self_signed =
            fs::read(path.join("ca.crt")).unwrap() == fs::read(path.join("server.crt")).unwrap();
        sh(path, line(finding.advice.as_deref().unwrap()));
        if self_signed {
            sh(path, "cp server.crt ca.crt");
        }
        let server = Server::start(path, &[]);
        let mended = tls(&host(&server, path, name)).await;
        assert_eq!(mended.verdict, Verdict::Ok, "{make}: {mended}");
        assert!(curl_takes(&server, path, name), "{make}");
    }
}

/// How it is made, more arguments for the server, the host it is asked for, what is said.
type Refused = (String, &'static [&'static str], &'static str, &'static str);

fn refused_cases() -> [Refused; 8] {
    let issued = |extensions: &str| {
        format!("{AUTHORITY}; {REQUEST}; printf '{extensions}' >ext; {ISSUE} -extfile ext")
    };
    let good = issued("subjectAltName=DNS:localhost");
    let other = AUTHORITY.replace("CN=ca", "CN=other");
    let p521 = good.replace("rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-521");
    let critical = issued("subjectAltName=DNS:localhost\\n1.2.3.4=critical,ASN1:NULL");
    let client = issued("subjectAltName=DNS:localhost\\nextendedKeyUsage=clientAuth");
    [
        (format!("{good}; cp server.crt ca.crt"), &[], "localhost", "the server's own certificate"),
        (format!("{good}; {other}"), &[], "localhost", "nor is it in PLANASONIX_CA_FILE"),
        (issued("subjectAltName=DNS:127.0.0.1"), &[], "127.0.0.1", "where an address has to stand as IP:"),
        (client, &[], "localhost", "lacks serverAuth"),
        (critical, &[], "localhost", "critical extension"),
        (p521, &[], "localhost", "no cipher or key in common"),
        (good.clone(), &["-tls1_2", "-cipher", "AES128-SHA"], "localhost", "no cipher or key in common"),
        (good, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "localhost", "older versions of TLS"),
    ]
}

/// What no line mends, or curl does not take either: it has advice of its own.
#[tokio::test]
async fn other_reasons_against_a_server_are_told_apart() {
    if !has("openssl") {
        return;
    }
    for (make, more, name, told) in refused_cases() {
        let folder = TempDir::new().unwrap();
        sh(folder.path(), &make);
        let server = Server::start(folder.path(), more);
        let finding = tls(&host(&server, folder.path(), name)).await;
        assert_eq!(finding.verdict, Verdict::Problem, "{make}: {finding}");
        assert!(finding.to_string().contains(told) && finding.advice.is_some(), "{make}: {finding}");
    }
}
