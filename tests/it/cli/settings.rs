//! Settings: a flag and a variable each; what is wrong with one is said in a line that names it.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use regex::Regex;

use super::{on, serve};
use crate::support::{database::Database, http, program::Program};

#[test]
fn help_lists_every_setting_with_its_variable() {
    let flag = Regex::new(r"(?m)^ +(?:-\w, )?--([a-z-]+)").unwrap();
    for command in ["serve", "dev"] {
        let help = Program::new(&[command, "--help"]).run().answer();
        let flags = flag.captures_iter(&help).map(|found| found[1].to_owned());
        let settings: Vec<_> = flags.filter(|name| name != "help").collect();
        assert!(settings.len() >= 8, "{settings:?}");
        for name in settings {
            let variable = match name.as_str() {
                "database-url" => "DATABASE_URL".to_owned(),
                _ => format!("PLANASONIX_{}", name.to_uppercase().replace('-', "_")),
            };
            let listed = ["=", "]"].map(|end| help.contains(&format!("[env: {variable}{end}")));
            assert!(listed.contains(&true), "{variable} is not in: {help}");
        }
    }
}

#[test]
fn help_never_shows_the_database_s_password() {
    let url = "postgres://user:s3cr3t@127.0.0.1:1/x";
    for command in ["serve", "dev", "migrate"] {
        let program = Program::new(&[command, "--help"]).variable("DATABASE_URL", url);
        let help = program.variable("PLANASONIX_DEV_DATABASE_URL", url).run().answer();
        assert!(!help.contains("s3cr3t"), "{help}");
    }
}

#[test]
fn help_shows_what_a_terminal_would_obey() {
    let program = Program::new(&["serve", "--help"]).variable("PLANASONIX_AGENTS_DIR", "/a\u{9b}2J\u{202e}b");
    let help = program.run().answer();
    assert!(help.contains(r"[env: PLANASONIX_AGENTS_DIR=/a\u{9b}2J\u{202e}b]"), "{help:?}");
}

#[tokio::test]
async fn a_bad_value_is_named_whether_flag_or_variable() {
    let database = Database::create().await;
    for (flag, bad) in [
        ("--connected-window", "3"),
        ("--heartbeat-interval", "0"),
        ("--enrollment-token-ttl", "soon"),
        ("--credential-ttl", "-1"),
        ("--shutdown-delay", "301"),
        ("--listen", "localhost"),
        ("--trusted-proxy", "10.0.0.0/33"),
        ("--trusted-proxy", "10.0.0.1,proxy"),
        ("--forwarded-header", "x-real-ip"),
        ("--rate-limit-key", "-1"),
        ("--rate-limit-workspace", "many"),
        ("--rate-limit-agent", "1.5"),
        ("--rate-limit-failed-auth", "4294967296"),
        ("--max-connections", "0"),
        ("--max-connections-per-address", "-1"),
        ("--cors-origin", "*"),
        ("--cors-origin", "https://dashboard.example.com/"),
        ("--public-url", "api.example.com"),
        ("--public-url", "https://api.example.com/path"),
        ("--public-url", "https://$(id)"),
        ("--log-format", "xml"),
        ("--log", "planasonix=loud"),
    ] {
        let told = on(&database, &["serve", &format!("{flag}={bad}")]).run().complaint();
        assert!(told.contains(flag), "{told}");
        let variable = format!("PLANASONIX_{}", flag[2..].to_uppercase().replace('-', "_"));
        let told = on(&database, &["serve"]).variable(&variable, bad).run().complaint();
        assert!(told.contains(flag) || told.contains(&variable), "{told}");
    }
    let told = on(&database, &["serve", "--no-such-flag"]).run().complaint();
    assert!(told.contains("--no-such-flag"), "{told}");
}

#[tokio::test]
async fn two_settings_that_cannot_hold_together_are_both_named() {
    let database = Database::create().await;
    let told = on(&database, &["serve", "--heartbeat-min-interval", "20"]).run().complaint();
    assert!(told.contains("--heartbeat-min-interval 20"), "{told}");
    assert!(told.contains("--heartbeat-interval 30") && told.contains("--connected-window 120"), "{told}");
}

#[tokio::test]
async fn settings_of_several_values_are_repeated_flags_or_one_variable() {
    let database = Database::create().await;
    let values = [
        ("trusted-proxy", ["10.0.0.0/8", "::1"]),
        ("cors-origin", ["https://a.example", "http://b.example:1"]),
    ];
    let flags: Vec<_> =
        values.iter().flat_map(|(flag, values)| values.map(|value| format!("--{flag}={value}"))).collect();
    let mut by_variable = serve(&database, &[]);
    for (flag, values) in values {
        let variable = format!("PLANASONIX_{}", flag.to_uppercase().replace('-', "_"));
        by_variable = by_variable.variable(&variable, &values.join(","));
    }
    let by_flag = serve(&database, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    for program in [by_flag, by_variable] {
        let server = program.start().until_serving();
        let request = http::client().get(format!("http://{}/livez", server.address()));
        let answer = request.header("origin", "http://b.example:1").send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "http://b.example:1");
    }
}

#[tokio::test]
async fn a_flag_wins_over_its_variable() {
    let database = Database::create().await;
    let program = serve(&database, &["--log", "info"]).variable("PLANASONIX_LOG", "nonsense=nonsense");
    program.variable("PLANASONIX_LISTEN", "nonsense").start().until_serving();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let database = Database::create().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let told = on(&database, &["serve", "--listen", &address]).run().complaint();
    assert!(told.contains(&address) && told.contains("--listen"), "{told}");
}

const COMMANDS: [&[&str]; 4] = [
    &["serve", "--listen", "127.0.0.1:0"],
    &["migrate"],
    &["workspace", "list"],
    &["api-key", "list", "--workspace", "acme"],
];

#[test]
fn without_a_good_database_url_nothing_starts() {
    for command in COMMANDS {
        let told = Program::new(command).run().complaint();
        assert!(told.contains("--database-url"), "{told}");
        let told = Program::new(command).variable("DATABASE_URL", "nonsense").run().complaint();
        assert!(told.contains("DATABASE_URL"), "{told}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_so_with_the_reason() {
    let database = Database::create().await;
    let absent = format!("{}-not", database.name());
    for command in COMMANDS {
        let away = Program::new(command).variable("DATABASE_URL", "postgres://user:s3cr3t@127.0.0.1:1/x");
        let ended = away.variable("PLANASONIX_LOG", "error").run();
        let told = ended.complaint();
        assert!(
            told.contains("the database does not answer") && told.contains("Connection refused"),
            "{told}"
        );
        assert!(!told.contains("s3cr3t"), "{told}");

        let url = database.url().replace(database.name(), &absent);
        let told = Program::new(command).variable("DATABASE_URL", &url).run().complaint();
        assert!(told.contains(&absent) && told.contains("does not exist"), "{told}");
    }
}

/// Waiting for a database that starts beside us is said once, not at every try.
#[test]
fn serve_says_once_that_it_waits_for_the_database() {
    let away = Program::new(COMMANDS[0]).variable("DATABASE_URL", "postgres://127.0.0.1:1/x");
    let ended = away.run();
    assert_eq!(ended.stderr.lines().count(), 2, "{}", ended.stderr);
}

#[tokio::test]
async fn logs_go_to_standard_error_in_the_wanted_form() {
    let database = Database::create().await;
    let server = serve(&database, &["--log-format", "json", "--shutdown-delay", "0"]).start().until_serving();
    let ended = server.stop();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout, "", "serve has nothing to answer");
    assert!(ended.stderr.lines().count() >= 2);
    for line in ended.stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn a_server_stops_on_either_signal() {
    let database = Database::create().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = serve(&database, &["--shutdown-delay", "0"]).start().until_serving();
        server.signal(signal);
        assert!(server.ended().status.success(), "{signal}");
    }
}

#[test]
fn nothing_to_do_shows_what_there_is_to_do() {
    let ended = Program::new(&[]).run();
    assert!(!ended.status.success() && ended.stdout.is_empty());
    for command in ["dev", "serve", "migrate", "workspace", "api-key", "openapi"] {
        assert!(ended.stderr.contains(command), "{}", ended.stderr);
    }
    let version = Program::new(&["--version"]).run().answer();
    assert_eq!(version.trim(), format!("planasonix {}", env!("CARGO_PKG_VERSION")));
}
