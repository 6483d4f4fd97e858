//! `diagnose`: each thing that goes wrong is named, with what to do about it, and no secret is told.

use std::process::Command;

use chrono::TimeDelta;
use planasonix_agent::{
    clock,
    diagnose::{Finding, Options, Report, Verdict, examine},
};
use serde_json::Value;

use crate::{
    host::Host,
    listeners::{Authority, Listener, nobody, plain, proxy, refusal, secure, socks, well},
};

async fn report(host: &Host) -> Report {
    examine(&host.config, Options { json: false, check_credential: true }).await
}

fn finding<'a>(report: &'a Report, probe: &str) -> &'a Finding {
    report.findings.iter().find(|finding| finding.probe == probe).unwrap()
}

fn problem(report: &Report, probe: &str) -> String {
    let finding = finding(report, probe);
    assert_eq!(finding.verdict, Verdict::Problem, "{finding}");
    finding.to_string()
}

/// A host that reaches `control plane` by the name localhost and trusts `authority`.
fn host(control_plane: &Listener, authority: &Authority, more: &str) -> Host {
    let port = control_plane.address.port();
    let mut host = Host::new(&format!("PLANASONIX_API_HOST=https://localhost:{port}\n{more}"));
    let file = host.folder.path().join("authority.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    host.config.ca_file = Some(file);
    host
}

fn in_days(days: i64) -> chrono::DateTime<chrono::Utc> {
    clock::now() + TimeDelta::days(days)
}

#[tokio::test]
async fn a_clear_way_is_described_step_by_step() {
    let authority = Authority::new("ours");
    let control_plane = secure(well, authority.issue("localhost", in_days(30))).await;
    let host = host(&control_plane, &authority, "");
    host.enrolled();
    let report = report(&host).await;
    for probe in [
        "configuration",
        "proxy",
        "dns",
        "tcp",
        "tls",
        "http",
        "clock",
        "credential",
        "credential at the control plane",
    ] {
        assert_eq!(finding(&report, probe).verdict, Verdict::Ok, "{}", finding(&report, probe));
    }
    let tls = finding(&report, "tls").to_string();
    assert!(tls.contains("TLSv1_3") && tls.contains("localhost") && tls.contains("29 days left"), "{tls}");
}

#[tokio::test]
async fn an_authority_that_is_not_known_leads_to_the_file_of_authorities() {
    for (theirs, told) in [("theirs", "issuer is not known"), ("ours", "has another key")] {
        let control_plane = secure(well, Authority::new(theirs).issue("localhost", in_days(30))).await;
        let report = report(&host(&control_plane, &Authority::new("ours"), "")).await;
        let found = problem(&report, "tls");
        assert!(found.contains(told) && found.contains("PLANASONIX_CA_FILE"), "{found}");
        assert_eq!(finding(&report, "http").verdict, Verdict::Skipped);
        assert_eq!(
            control_plane.asked(),
            Vec::<String>::new(),
            "nothing is sent to whom the agent would not believe"
        );
    }
}

#[tokio::test]
async fn an_expired_certificate_is_told_with_its_day() {
    let authority = Authority::new("ours");
    let control_plane = secure(well, authority.issue("localhost", in_days(-10))).await;
    let told = problem(&report(&host(&control_plane, &authority, "")).await, "tls");
    assert!(told.contains("has expired") && told.contains("10 days ago"), "{told}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_with_the_name_it_bears() {
    let authority = Authority::new("ours");
    let control_plane = secure(well, authority.issue("other.example", in_days(30))).await;
    let told = problem(&report(&host(&control_plane, &authority, "")).await, "tls");
    assert!(told.contains("for another name") && told.contains("other.example"), "{told}");
}

#[tokio::test]
async fn the_way_through_a_proxy_is_taken_with_its_password_which_is_not_told() {
    let authority = Authority::new("ours");
    let control_plane = secure(well, authority.issue("localhost", in_days(30))).await;
    let proxy = proxy(None).await;
    let settings = format!("HTTPS_PROXY=http://me:hunter2@{}", proxy.address);
    let report = report(&host(&control_plane, &authority, &settings)).await;
    for probe in ["proxy", "tcp", "tls", "http"] {
        assert_eq!(finding(&report, probe).verdict, Verdict::Ok, "{}", finding(&report, probe));
    }
    let asked = proxy.asked();
    assert!(asked.len() >= 2, "the probe and the agent's own client: {asked:?}");
    // me:hunter2
    let authorized =
        |head: &String| head.to_lowercase().contains("proxy-authorization: basic bwu6ahvudgvymg==");
    assert!(asked.iter().all(|head| head.starts_with("CONNECT localhost:") && authorized(head)), "{asked:?}");
    let all = serde_json::to_string(&report).unwrap();
    assert!(!all.contains("hunter2") && !all.contains("bWU6aHVudGVyMg"), "{all}");
}

#[tokio::test]
async fn socks_proxy_is_gone_through_with_its_password_which_is_not_told() {
    let authority = Authority::new("ours");
    let control_plane = secure(well, authority.issue("localhost", in_days(30))).await;
    let proxy = socks().await;
    let settings = format!("ALL_PROXY=socks5h://me:hunter2@{}", proxy.address);
    let report = report(&host(&control_plane, &authority, &settings)).await;
    for probe in ["proxy", "tcp", "tls", "http"] {
        assert_eq!(finding(&report, probe).verdict, Verdict::Ok, "{}", finding(&report, probe));
    }
    let asked = format!("me:hunter2 localhost:{}", control_plane.address.port());
    assert!(
        proxy.asked().len() >= 2 && proxy.asked().iter().all(|seen| *seen == asked),
        "{:?}",
        proxy.asked()
    );
    assert!(!serde_json::to_string(&report).unwrap().contains("hunter2"));
    let wrong = format!("ALL_PROXY=socks5h://{}", proxy.address);
    let refused = host(&control_plane, &authority, &wrong);
    let told = problem(&self::report(&refused).await, "tls");
    assert!(told.contains("SOCKS") && told.contains("ALL_PROXY"), "{told}");
}

#[tokio::test]
async fn a_proxy_that_wants_a_password_or_forbids_the_way_is_told_apart() {
    let authority = Authority::new("ours");
    let control_plane = secure(well, authority.issue("localhost", in_days(30))).await;
    for (status, told) in [
        ("407 Proxy Authentication Required", "user:password@"),
        ("403 Forbidden", "allow CONNECT to localhost:"),
    ] {
        let proxy = proxy(Some(status)).await;
        let settings = format!("HTTPS_PROXY=http://{}", proxy.address);
        let found = problem(&report(&host(&control_plane, &authority, &settings)).await, "tls");
        assert!(found.contains(told), "{found}");
    }
}

#[tokio::test]
async fn an_exception_is_reached_past_the_proxy() {
    let authority = Authority::new("ours");
    let control_plane = secure(well, authority.issue("localhost", in_days(30))).await;
    let proxy = proxy(Some("403 Forbidden")).await;
    let settings = format!("HTTPS_PROXY=http://{}\nNO_PROXY=localhost", proxy.address);
    let report = report(&host(&control_plane, &authority, &settings)).await;
    assert_eq!(finding(&report, "http").verdict, Verdict::Ok, "{}", finding(&report, "http"));
    assert!(finding(&report, "proxy").to_string().contains("NO_PROXY excepts"));
    assert_eq!(proxy.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_closed_port_ends_the_examination_of_the_way() {
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", nobody().await));
    host.enrolled();
    let report = report(&host).await;
    assert!(problem(&report, "tcp").contains("no address can be reached"));
    for probe in ["tls", "http", "clock", "credential at the control plane"] {
        assert_eq!(finding(&report, probe).verdict, Verdict::Skipped);
    }
    assert!(!report.ok);
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_with_its_direction() {
    let control_plane = plain(well, TimeDelta::hours(-1)).await;
    let report = report(&Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address))).await;
    let told = problem(&report, "clock");
    assert!(told.contains("s ahead of the control plane's") && told.contains("NTP"), "{told}");
}

#[tokio::test]
async fn a_page_of_somebody_else_is_not_taken_for_the_control_plane() {
    let page = |_: &str| ("200 OK", "<html>Sign in to the guest network</html>".to_owned());
    let control_plane = plain(page, TimeDelta::zero()).await;
    let report = report(&Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address))).await;
    assert!(problem(&report, "http").contains("not from the control plane"));
}

#[tokio::test]
async fn a_refused_credential_is_told_with_code_and_action() {
    let revoked = |head: &str| {
        if head.starts_with("GET /readyz") {
            well(head)
        } else {
            ("403 Forbidden", refusal("agent_revoked", "stop"))
        }
    };
    let control_plane = plain(revoked, TimeDelta::zero()).await;
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address));
    let credential = host.enrolled();
    let report = report(&host).await;
    let told = problem(&report, "credential at the control plane");
    assert!(told.contains("agent_revoked") && told.contains("stop") && told.contains("re-enable"), "{told}");
    let all = serde_json::to_string(&report).unwrap();
    assert!(!all.contains(credential.expose()), "no secret is told");
}

#[tokio::test]
async fn no_beat_is_sent_unless_it_was_asked_for() {
    let control_plane = plain(well, TimeDelta::zero()).await;
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", control_plane.address));
    host.enrolled();
    examine(&host.config, Options::default()).await;
    assert!(control_plane.asked().iter().all(|head| head.starts_with("GET /readyz")));
}

#[cfg(unix)]
#[tokio::test]
async fn a_credential_that_others_can_read_is_a_problem() {
    use std::os::unix::fs::PermissionsExt;

    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", nobody().await));
    host.enrolled();
    let file = host.store().path();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = problem(&report(&host).await, "credential");
    assert!(told.contains("others can read") && told.contains("chmod 600"), "{told}");
}

#[tokio::test]
async fn the_program_prints_one_object_and_fails_when_something_is_wrong() {
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", nobody().await));
    let output = Command::new(env!("CARGO_BIN_EXE_planasonix-agent"))
        .args(["diagnose", "--json", "--config"])
        .arg(host.folder.path().join("agent.conf"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["ok"], false);
    let credential =
        object["findings"].as_array().unwrap().iter().find(|found| found["probe"] == "credential");
    assert_eq!(credential.unwrap()["problem"], "this host is not enrolled");
}

/// Linux allows 64 bytes. A host that lets nobody make a namespace of host names cannot be given one for the test.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn host_name_of_the_greatest_length_is_whole() {
    let within = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--uts"]).args(arguments).output()
    };
    if !within(&["true"]).is_ok_and(|tried| tried.status.success()) {
        return;
    }
    let host = Host::new(&format!("PLANASONIX_API_HOST=http://{}", nobody().await));
    let settings = host.folder.path().join("agent.conf").display().to_string();
    let script = r#"hostname "$1" && exec "$2" diagnose --json --config "$3""#;
    let agent = env!("CARGO_BIN_EXE_planasonix-agent");
    for name in ["h".repeat(64), "h".repeat(63), "etl-01".to_owned()] {
        let output = within(&["sh", "-c", script, "sh", &name, agent, &settings]).unwrap();
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["findings"][0]["facts"]["hostname"], name.as_str(), "{output:?}");
    }
}
