//! `run` where nobody is let out but through a proxy, and with settings that change while it runs.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use chrono::TimeDelta;
use planasonix_agent::clock;
use tokio::time::{Instant, sleep};

use crate::{
    host::{Host, credential},
    listeners::{Authority, Listener, proxy, secure, socks, well},
};

/// The program at work. Killed with its test.
struct Running(Child);

impl Running {
    /// Starts it on a host that trusts `authority`, with these variables.
    fn start(host: &Host, authority: &Authority, variables: &[(&str, &str)]) -> Self {
        let ca_file = host.folder.path().join("authority.pem");
        std::fs::write(&ca_file, &authority.pem).unwrap();
        let ca_file = ("PLANASONIX_CA_FILE", ca_file.to_str().unwrap());
        Self::with(host, &[variables, &[ca_file]].concat())
    }

    fn with(host: &Host, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_planasonix-agent"));
        command
            .arg("run")
            .env_clear()
            .env("PLANASONIX_CONFIG", &host.config.file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Waits until the listener was asked this, with the agent's credential.
async fn beats(control_plane: &Listener) {
    beats_within(control_plane, Duration::from_secs(30)).await;
}

async fn beats_within(control_plane: &Listener, limit: Duration) {
    let credential = credential(1);
    let line = format!("POST /api/agents/{}/heartbeat ", credential.agent());
    let began = Instant::now();
    while began.elapsed() < limit {
        let asked = control_plane.asked();
        if asked.iter().any(|head| head.starts_with(&line) && head.contains(credential.expose())) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no beat: {:?}", control_plane.asked());
}

/// An enrolled host whose control plane has TLS, and the authority behind it.
async fn enrolled() -> (Host, Listener, Authority) {
    let authority = Authority::new("ours");
    let certificate = authority.issue("localhost", clock::now() + TimeDelta::days(30));
    let control_plane = secure(well, certificate).await;
    let host = Host::new(&format!("PLANASONIX_API_HOST=https://localhost:{}", control_plane.address.port()));
    host.enrolled();
    (host, control_plane, authority)
}

#[tokio::test]
async fn beats_go_through_the_proxy_which_cannot_read_them() {
    let (host, control_plane, authority) = enrolled().await;
    let proxy = proxy(None).await;
    let address = format!("http://me:hunter2@{}", proxy.address);
    let _running = Running::start(&host, &authority, &[("HTTPS_PROXY", &address)]);
    beats(&control_plane).await;
    let asked = proxy.asked();
    let way = format!("CONNECT localhost:{} ", control_plane.address.port());
    assert!(!asked.is_empty() && asked.iter().all(|head| head.starts_with(&way)), "{asked:?}");
    assert!(asked.iter().all(|head| !head.contains(credential(1).expose())), "{asked:?}");
}

#[tokio::test]
async fn beats_go_through_a_socks_proxy_that_all_proxy_names() {
    let (host, control_plane, authority) = enrolled().await;
    let proxy = socks().await;
    let address = format!("socks5h://me:hunter2@{}", proxy.address);
    let _running = Running::start(&host, &authority, &[("ALL_PROXY", &address)]);
    beats(&control_plane).await;
    assert_eq!(proxy.asked()[0], format!("me:hunter2 localhost:{}", control_plane.address.port()));
}

/// A password of a user of a Windows domain is shown to the proxy that is meant.
#[tokio::test]
async fn beats_go_through_the_proxy_behind_a_user_with_a_domain() {
    let (host, control_plane, authority) = enrolled().await;
    let proxy = proxy(None).await;
    let address = format!(r"http://CORP\me:hunter2@{}", proxy.address);
    let _running = Running::start(&host, &authority, &[("https_proxy", &address)]);
    beats(&control_plane).await;
    // CORP\me:hunter2
    let shown = "basic q09sufxtztpodw50zxiy";
    assert!(proxy.asked()[0].to_lowercase().contains(shown), "{:?}", proxy.asked());
}

#[tokio::test]
async fn beats_go_past_the_proxy_where_the_settings_except_the_control_plane() {
    let (host, control_plane, authority) = enrolled().await;
    let proxy = proxy(Some("403 Forbidden")).await;
    let address = format!("http://{}", proxy.address);
    let variables = [("HTTPS_PROXY", address.as_str()), ("NO_PROXY", "example.com,localhost")];
    let _running = Running::start(&host, &authority, &variables);
    beats(&control_plane).await;
    assert_eq!(proxy.asked(), Vec::<String>::new());
}

/// A control plane that wants a heartbeat every second.
#[cfg(unix)]
fn quick(head: &str) -> (&'static str, String) {
    let (status, body) = well(head);
    (status, body.replace(r#""heartbeat_interval_seconds":30"#, r#""heartbeat_interval_seconds":1"#))
}

#[cfg(unix)]
#[tokio::test]
async fn a_proxy_that_is_written_into_the_settings_holds_from_a_hangup_on() {
    let authority = Authority::new("ours");
    let certificate = authority.issue("localhost", clock::now() + TimeDelta::days(30));
    let control_plane = secure(quick, certificate).await;
    let port = control_plane.address.port();
    let host = Host::new(&format!("PLANASONIX_API_HOST=https://localhost:{port}"));
    host.enrolled();
    let running = Running::start(&host, &authority, &[]);
    beats(&control_plane).await;
    let hang_up = || {
        let process = running.0.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &process]).status().unwrap().success());
    };
    let settings = std::fs::read_to_string(&host.config.file).unwrap();
    // Settings that cannot be used change nothing.
    std::fs::write(&host.config.file, format!("{settings}HTTPS_PROXY=http://[\n")).unwrap();
    hang_up();
    let known = control_plane.asked().len();
    while control_plane.asked().len() < known + 3 {
        sleep(Duration::from_millis(20)).await;
    }
    let proxy = proxy(None).await;
    std::fs::write(&host.config.file, format!("{settings}HTTPS_PROXY=http://{}\n", proxy.address)).unwrap();
    hang_up();
    let began = Instant::now();
    while proxy.asked().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(30), "never by the proxy");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(proxy.asked().iter().all(|head| head.starts_with(&format!("CONNECT localhost:{port} "))));
}

/// Other systems do not keep their authorities in a file.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_authority_that_the_system_gets_later_is_trusted_without_a_restart() {
    let (host, control_plane, authority) = enrolled().await;
    let store = host.folder.path().join("system.pem");
    std::fs::write(&store, Authority::new("theirs").pem).unwrap();
    let mut running = Running::with(&host, &[("SSL_CERT_FILE", store.to_str().unwrap())]);
    // By now it has read them.
    sleep(Duration::from_secs(3)).await;
    std::fs::write(&store, authority.pem).unwrap();
    // Two retries at most, each within an interval of 30 s.
    beats_within(&control_plane, Duration::from_secs(100)).await;
    assert!(running.0.try_wait().unwrap().is_none());
}
