//! The program itself: what it tells systemd, how it ends, what it never shows.

use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixDatagram,
    },
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use planasonix_agent::identity::Store;
use planasonix_wire::token::Kind;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::{
    rig::{credential, token},
    rough::{Mood, Rough},
};

/// For what takes no longer than the start of the program.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, with nothing of this process's environment but the way to its tools.
pub fn program(folder: &Path, server: &Rough) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_planasonix-agent"));
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PLANASONIX_CONFIG", "")
        .env("PLANASONIX_API_HOST", format!("http://{}", server.address))
        .env("PLANASONIX_STATE_DIR", folder.join("state"))
        .env("PLANASONIX_RUNTIME_DIR", folder.join("runtime"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub async fn output(mut command: Command) -> Output {
    spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub async fn terminate(child: Child) -> Output {
    spawn_blocking(move || {
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(told.success());
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

/// Listens as systemd does.
struct Listener(UnixDatagram);

impl Listener {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// All that is told, through the message that is waited for.
    async fn until(&self, last: &'static str) -> Vec<String> {
        let socket = self.0.try_clone().unwrap();
        spawn_blocking(move || {
            let (mut told, began) = (Vec::new(), Instant::now());
            while began.elapsed() < PATIENCE {
                let mut message = [0; 1_024];
                let length = socket.recv(&mut message).unwrap_or_else(|_| panic!("{last} never; {told:?}"));
                told.push(String::from_utf8_lossy(&message[..length]).trim_end().to_owned());
                if told.last().is_some_and(|message| message == last) {
                    return told;
                }
            }
            panic!("{last} never; {told:?}");
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn systemd_is_told_that_it_runs_that_it_lives_and_that_it_goes() {
    let folder = TempDir::new().unwrap();
    let server = Rough::start(None, 2).await;
    Store::new(&folder.path().join("state")).update(|new| new.settle(credential(1), None)).unwrap();
    let listener = Listener::bind(&folder.path().join("notify"));
    let mut command = program(folder.path(), &server);
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "200000");
    let child = command.arg("run").spawn().unwrap();
    let told = listener.until("STATUS=active").await;
    assert!(told.iter().any(|message| message == "READY=1"), "{told:?}");
    for _ in 0..3 {
        listener.until("WATCHDOG=1").await;
    }
    let ended = terminate(child).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    listener.until("STOPPING=1").await;
    assert!(server.seen().last().unwrap().line.ends_with("/disconnect"));
}

#[tokio::test]
async fn a_step_that_hangs_does_not_feed_the_watchdog() {
    let folder = TempDir::new().unwrap();
    let server = Rough::start(None, 2).await;
    server.turn(Mood::Stall);
    Store::new(&folder.path().join("state")).update(|new| new.settle(credential(1), None)).unwrap();
    let listener = Listener::bind(&folder.path().join("notify"));
    let mut command = program(folder.path(), &server);
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "300000");
    let child = command.arg("run").spawn().unwrap();
    listener.until("READY=1").await;
    let during = listener.until("STATUS=unreachable").await;
    let fed = during.iter().filter(|message| *message == "WATCHDOG=1").count();
    assert!(fed <= 1, "10 s of silence, and {fed} messages");
    for _ in 0..2 {
        listener.until("WATCHDOG=1").await;
    }
    terminate(child).await;
}

/// The files in `/proc` of a process that is not dumpable belong to root, whoever runs it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_program_is_not_dumpable() {
    use std::os::unix::process::CommandExt;

    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_planasonix-agent"));
    if nix::unistd::geteuid().is_root() {
        // The build's folder may be closed to others.
        let copy = folder.path().join("agent");
        std::fs::copy(env!("CARGO_BIN_EXE_planasonix-agent"), &copy).unwrap();
        open_to_all(folder.path());
        command = Command::new(copy);
        command.uid(65_534).gid(65_534);
    }
    command.env_clear().args(["run", "--api-host=http://127.0.0.1:9", "--state-dir=/nowhere"]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let owner = || std::fs::metadata(format!("/proc/{}/environ", child.id())).unwrap().uid();
    let began = Instant::now();
    while owner() != 0 && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let owned_by_root = owner() == 0;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(owned_by_root);
}

fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
}

/// As root, a command becomes the owner of the state folder: what only root can open, it cannot open.
#[tokio::test]
async fn a_command_of_root_gives_root_s_rights_up() {
    let folder = TempDir::new().unwrap();
    open_to_all(folder.path());
    let server = Rough::start(None, 1).await;
    let (state, token_file) = (folder.path().join("state"), folder.path().join("token"));
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("identity.lock"), "").unwrap();
    std::fs::set_permissions(state.join("identity.lock"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&token_file, token(Kind::Enrollment, 3).expose()).unwrap();
    std::fs::set_permissions(&token_file, PermissionsExt::from_mode(0o600)).unwrap();
    let root = nix::unistd::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&state, Some(65_534), Some(65_534)).unwrap();
    }
    let enroll = || {
        let mut command = program(folder.path(), &server);
        command.args(["enroll", "--token-file"]).arg(&token_file);
        command
    };
    let first = output(enroll()).await;
    let said = String::from_utf8(first.stderr).unwrap();
    assert_eq!((first.status.success(), said.contains("identity.lock: Permission denied")), (!root, root));
    std::fs::remove_file(state.join("identity.lock")).unwrap();
    let second = output(enroll()).await;
    assert!(second.status.success(), "{second:?}");
    let owner = std::fs::metadata(state.join("identity.json")).unwrap().uid();
    assert_eq!(owner, if root { 65_534 } else { nix::unistd::geteuid().as_raw() });

    let mut identity = program(folder.path(), &server);
    identity.arg("identity");
    let told = output(identity).await;
    assert_eq!(String::from_utf8(told.stdout).unwrap(), format!("{}\n", credential(1).agent()));
}

#[tokio::test]
async fn a_state_folder_that_is_a_link_is_refused_to_root() {
    let folder = TempDir::new().unwrap();
    let server = Rough::start(None, 1).await;
    std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.path().join("state")).unwrap();
    let mut enroll = program(folder.path(), &server);
    enroll.arg("enroll").env("PLANASONIX_ENROLLMENT_TOKEN", token(Kind::Enrollment, 3).expose());
    let ended = output(enroll).await;
    let said = String::from_utf8(ended.stderr).unwrap();
    let written = std::fs::read_dir(folder.path().join("elsewhere")).unwrap().count();
    if nix::unistd::geteuid().is_root() {
        assert!(said.contains("state: not a folder but a link"), "{said}");
        assert_eq!((ended.status.code(), written), (Some(1), 0));
    } else {
        assert!(ended.status.success() && written > 0, "{said}");
    }
}

#[tokio::test]
async fn identity_of_a_host_that_is_not_enrolled_fails() {
    let folder = TempDir::new().unwrap();
    let server = Rough::start(None, 1).await;
    let mut identity = program(folder.path(), &server);
    let ended = output({
        identity.arg("identity");
        identity
    })
    .await;
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0));
}

#[tokio::test]
async fn enroll_may_be_given_twice_and_shows_no_secret() {
    let folder = TempDir::new().unwrap();
    let server = Rough::start(None, 1).await;
    let secret = token(Kind::Enrollment, 3);
    let enroll = || {
        let mut command = program(folder.path(), &server);
        command
            .arg("enroll")
            .env("PLANASONIX_ENROLLMENT_TOKEN", secret.expose())
            .env("PLANASONIX_LOG", "trace");
        command
    };
    // The last one comes too soon after a beat of the agent.
    for (mood, said) in [
        (Mood::Good, r"enrolled as agt_01jq8x5g2m4n6p8r0s2t4v6w8y (rough\u{1b}[2J\nagent\u{202e})"),
        (Mood::Good, "already enrolled as agt_"),
        (Mood::Limited(1), "already enrolled as agt_"),
    ] {
        server.turn(mood);
        let ended = output(enroll()).await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let (answer, log) =
            (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
        assert!(answer.starts_with(said) && answer.lines().count() == 1, "{answer:?}");
        let printed = |character: char| !character.is_control() || character == '\n';
        assert!(log.chars().all(printed) && !log.contains('\u{202e}'), "{log:?}");
        for secret in [&secret, &credential(1)] {
            assert!(!answer.contains(secret.expose()) && !log.contains(secret.expose()), "{answer}{log}");
        }
    }
    let enrolled = server.seen().iter().filter(|request| request.line.ends_with("/enroll")).count();
    assert_eq!(enrolled, 1);
}

#[tokio::test]
async fn help_names_the_settings_and_shows_no_secret() {
    let folder = TempDir::new().unwrap();
    let server = Rough::start(None, 1).await;
    let secret = token(Kind::Enrollment, 3);
    let mut command = program(folder.path(), &server);
    command.args(["enroll", "--help"]).env("PLANASONIX_ENROLLMENT_TOKEN", secret.expose());
    let ended = output(command).await;
    let text = String::from_utf8(ended.stdout).unwrap();
    for name in ["--token-file", "PLANASONIX_ENROLLMENT_TOKEN", "PLANASONIX_API_HOST", "PLANASONIX_CA_FILE"] {
        assert!(text.contains(name), "{name} is missing: {text}");
    }
    assert!(!text.contains(secret.expose()));
}

#[tokio::test]
async fn wrong_usage_is_one_line_and_exit_code_2() {
    let folder = TempDir::new().unwrap();
    let server = Rough::start(None, 1).await;
    for (arguments, named) in [
        (["run", "--api-host=ftp://x"].as_slice(), "PLANASONIX_API_HOST"),
        (&["run", "--ca-file=/nowhere/ca.pem"], "/nowhere/ca.pem"),
        (&["run", "--config=/nowhere/agent.conf"], "/nowhere/agent.conf"),
        (&["enroll", "--token=plnx_enroll_mistyped"], "the enrollment token"),
        (&["run", "--bogus"], "--bogus"),
        (&[], "--help"),
    ] {
        let mut command = program(folder.path(), &server);
        command.args(arguments);
        let ended = output(command).await;
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(named) && said.trim_end().lines().count() == 1, "{said}");
        assert!(!said.contains("plnx_enroll_mistyped"), "{said}");
    }
    assert_eq!(server.count(), 0);
}
