//! The private Postgres, under every kill.
//!
//! Each test has a cluster of its own, so that it may do to it what it likes.
#![cfg(unix)]

pub mod sandbox;
mod search;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::geteuid;
use planasonix::dev::postgres::{Cluster, Durability, Error, Settings};

use sandbox::{PROGRAM, Sandbox, is_alive, kill_now, psql, query, try_query, wait_until};

#[test]
fn a_cluster_is_made_once_and_keeps_its_data() {
    let sandbox = Sandbox::new();
    let cluster = sandbox.start();
    query(&cluster, "CREATE TABLE kept AS SELECT 'é' AS word");
    drop(cluster);
    sandbox.wait_until_stopped();

    let cluster = sandbox.start();
    assert_eq!(query(&cluster, "SELECT word FROM kept"), "é");
}

#[test]
fn tests_trade_only_durability_for_speed() {
    let sandbox = Sandbox::new();
    let cluster = sandbox.start();
    let shown = ["fsync", "full_page_writes", "synchronous_commit", "listen_addresses"]
        .map(|name| query(&cluster, &format!("SHOW {name}")));
    assert_eq!(shown, ["off", "off", "on", ""]);
    assert_eq!(query(&cluster, "SHOW max_connections"), "50");
    assert_eq!(query(&cluster, "SHOW server_encoding"), "UTF8");
}

#[test]
fn dev_syncs_to_disk() {
    let sandbox = Sandbox::new();
    let settings = Settings { durability: Durability::Durable, ..sandbox.settings() };
    let cluster = Cluster::start(&settings).unwrap();
    assert_eq!(query(&cluster, "SHOW fsync"), "on");
}

#[test]
fn a_second_process_joins_and_the_last_one_ends_it() {
    let sandbox = Sandbox::new();
    let cluster = sandbox.start();
    let server = sandbox.server();
    let mut holder = sandbox.holder();
    assert_eq!(sandbox.server(), server);

    drop(cluster);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(sandbox.server(), server, "the other process still uses it");

    holder.kill();
    sandbox.wait_until_stopped();
    wait_until("the server ends", || !is_alive(server));
}

#[test]
fn two_that_start_at_once_share_one_server() {
    let sandbox = Sandbox::new();
    let clusters: Vec<Cluster> = thread::scope(|scope| {
        let starts = [0; 2].map(|_| scope.spawn(|| sandbox.start()));
        starts.map(|start| start.join().unwrap()).into()
    });
    let started_at = "SELECT pg_postmaster_start_time()";
    assert_eq!(query(&clusters[0], started_at), query(&clusters[1], started_at));
}

#[test]
fn it_starts_again_after_a_kill_of_everything() {
    let sandbox = Sandbox::new();
    let mut holder = sandbox.holder();
    let (guard, server) = (sandbox.guard(), sandbox.server());
    kill_now(guard);
    kill_now(server);
    holder.kill();

    let cluster = sandbox.start();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    assert_ne!(sandbox.server(), server);
}

#[test]
fn a_server_that_lost_its_guard_is_replaced() {
    let sandbox = Sandbox::new();
    let _first = sandbox.start();
    let (guard, server) = (sandbox.guard(), sandbox.server());
    kill_now(guard);

    let cluster = sandbox.start();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    assert_ne!(sandbox.guard(), guard);
    assert!(!is_alive(server));
}

/// Stopped, so that it stays: its status says ready, and the kernel takes connections for it.
#[test]
fn a_server_without_a_guard_is_not_handed_out() {
    let sandbox = Sandbox::new();
    drop(sandbox.start());
    sandbox.wait_until_stopped();
    let _unguarded = sandbox.unguarded_server();
    let server = sandbox.server();
    kill(server, Signal::SIGSTOP).unwrap();
    thread::scope(|scope| {
        let start = scope.spawn(|| sandbox.start());
        thread::sleep(Duration::from_millis(500));
        let too_early = start.is_finished();
        kill(server, Signal::SIGCONT).unwrap();
        let cluster = start.join().unwrap();
        assert!(!too_early);
        assert!(!is_alive(server));
        assert_eq!(query(&cluster, "SELECT 1"), "1");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_ends_with_its_guard() {
    let sandbox = Sandbox::new();
    let _cluster = sandbox.start();
    let server = sandbox.server();
    kill_now(sandbox.guard());
    wait_until("the server ends", || !is_alive(server));
}

#[test]
fn a_killed_server_is_started_again_for_its_users() {
    let sandbox = Sandbox::new();
    let cluster = sandbox.start();
    let (guard, server) = (sandbox.guard(), sandbox.server());
    kill_now(server);

    wait_until("the server is back", || try_query(&cluster, "SELECT 1").is_ok());
    assert_eq!(sandbox.guard(), guard);
    assert_ne!(sandbox.server(), server);
}

#[test]
fn a_start_waits_for_a_killed_server_to_be_back() {
    let sandbox = Sandbox::new();
    let _first = sandbox.start();
    kill_now(sandbox.server());
    let cluster = sandbox.start();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
}

#[test]
fn a_server_that_cannot_run_is_given_up_with_its_last_words() {
    let sandbox = Sandbox::new();
    drop(sandbox.start());
    sandbox.wait_until_stopped();
    fs::write(sandbox.cluster().join("data/PG_VERSION"), "9.6\n").unwrap();

    let error = Cluster::start(&sandbox.settings()).unwrap_err();
    assert!(matches!(error, Error::NotStarted { .. }), "{error}");
    assert!(error.to_string().contains("database files are incompatible"), "{error}");
}

#[test]
fn an_interrupted_initdb_is_redone() {
    let sandbox = Sandbox::new();
    let mut holder = sandbox.spawn_holder();
    wait_until("initdb is at work", || sandbox.unfinished().is_some_and(|dir| dir.join("pg_wal").exists()));
    kill_now(sandbox.guard());
    holder.kill();
    let cluster = sandbox.start();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    assert_eq!(sandbox.unfinished(), None);
}

#[test]
fn half_a_data_folder_is_swept_away() {
    let sandbox = Sandbox::new();
    let half = sandbox.cluster().join("new.1/base");
    fs::DirBuilder::new().recursive(true).mode(0o711).create(half).unwrap();
    let cluster = sandbox.start();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    assert_eq!(sandbox.unfinished(), None);
}

#[test]
fn a_pid_file_that_names_another_process_is_no_obstacle() {
    let sandbox = Sandbox::new();
    drop(sandbox.start());
    sandbox.wait_until_stopped();
    let data = sandbox.cluster().join("data");
    let pid_file = format!("{}\n{}\n", std::process::id(), data.display());
    fs::write(data.join("postmaster.pid"), pid_file).unwrap();
    assert_eq!(query(&sandbox.start(), "SELECT 1"), "1");

    sandbox.wait_until_stopped();
    fs::write(data.join("postmaster.pid"), "").unwrap();
    assert_eq!(query(&sandbox.start(), "SELECT 1"), "1");
}

#[test]
fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let sandbox = Sandbox::in_folder(&"long, ".repeat(30));
    let mut holder = sandbox.holder();
    let cluster = sandbox.start();
    assert_eq!(query(&cluster, "SELECT 1"), "1");
    let url = cluster.url("postgres");
    let socket_dir = PathBuf::from(url.split_once("?host=").unwrap().1.replace("%2F", "/"));
    let mode = fs::metadata(&socket_dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    drop(cluster);
    holder.kill();
    sandbox.wait_until_stopped();
    assert!(!socket_dir.exists());
}

#[test]
fn a_url_escapes_what_it_is_given() {
    let sandbox = Sandbox::in_folder("a folder");
    let cluster = sandbox.start();
    query(&cluster, "CREATE DATABASE \"a/b?\"");
    let url = cluster.url("a/b?");
    assert!(url.starts_with("postgres://postgres@localhost/a%2Fb%3F?host=%2F"), "{url}");
    assert!(url.contains("a%20folder"), "{url}");
    assert_eq!(psql(&cluster, &url, "SELECT current_database()").unwrap(), "a/b?");
}

#[test]
fn a_cluster_of_somebody_else_is_refused() {
    if !geteuid().is_root() {
        return; // Only root can give a folder away.
    }
    let sandbox = Sandbox::new();
    drop(sandbox.start());
    sandbox.wait_until_stopped();
    chown(sandbox.cluster(), Some(12_345), None).unwrap();
    let error = Cluster::start(&sandbox.settings()).unwrap_err();
    assert!(matches!(&error, Error::NotOurs { owner, .. } if owner == "12345"), "{error}");
}

#[test]
fn a_guard_started_by_hand_does_nothing() {
    let sandbox = Sandbox::new();
    let _cluster = sandbox.start();
    let server = sandbox.server();
    let mut guard = Command::new(PROGRAM);
    guard.arg("postgres-guard").arg("--dir").arg(sandbox.cluster());
    guard.args(["--programs", "/", "--max-connections", "50", "--fast"]);
    let output = guard.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("started by planasonix itself"));
    assert_eq!(sandbox.server(), server);
}
