//! The install and uninstall scripts on hosts that are hardened: nothing may be run in some folders, others cannot be
//! written, and the service manager cannot give what the unit asks for.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use super::sandbox::{Sandbox, said};

const TOKEN: [&str; 2] = ["--token", "plnx_enroll_x"];
const PLATFORMS: [&str; 2] = ["linux", "macos"];

/// Every file and link below a folder, but for the record of calls.
fn tree(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    fn add(found: &mut BTreeMap<String, Vec<u8>>, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, about) = (entry.path(), entry.metadata().unwrap());
            let content = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            found.insert(path.display().to_string(), content);
            if about.is_dir() {
                add(found, &path);
            }
        }
    }
    let mut found = BTreeMap::new();
    add(&mut found, sandbox.folder.path());
    found.remove(&sandbox.path("calls").display().to_string());
    found
}

/// Runs a script where a folder is mounted again with these options; none where this machine lets nobody mount.
fn run_mounted(sandbox: &Sandbox, script: &str, folder: &str, options: &str) -> Option<Output> {
    let user = if nix::unistd::geteuid().is_root() { "" } else { "r" };
    let unshare = |line: &str| {
        let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", sandbox.path("programs").display());
        let mut command = Command::new("unshare");
        command.args([&format!("-{user}m"), "/bin/sh", "-c", line]).env("PATH", path).output()
    };
    let target = sandbox.path(folder);
    let mount = format!(
        "PATH=/usr/bin:/bin:/usr/sbin:/sbin; mount --bind '{0}' '{0}' && mount -o remount,bind,{options} '{0}'",
        target.display()
    );
    if !unshare(&format!("({mount})")).is_ok_and(|ended| ended.status.success()) {
        return None;
    }
    let script = sandbox.path("bundle").join(script);
    let arguments = if script.ends_with("install.sh") { TOKEN.join(" ") } else { String::new() };
    Some(unshare(&format!("({mount}) && exec timeout 60 sh '{}' {arguments}", script.display())).unwrap())
}

#[test]
fn bundle_where_nothing_may_be_run_is_installed() {
    for platform in PLATFORMS {
        let sandbox = Sandbox::new(platform);
        // What `noexec` makes of it.
        let program = sandbox.path("bundle/bin/x86_64/planasonix-agent");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        let ended = sandbox.run("install.sh", &TOKEN);
        assert!(ended.status.success(), "{platform}: {}", said(&ended));
        let sandbox = Sandbox::new(platform);
        let Some(ended) = run_mounted(&sandbox, "install.sh", "bundle", "noexec") else { return };
        assert!(ended.status.success(), "{platform}: {}", said(&ended));
    }
}

#[test]
fn program_that_cannot_run_in_its_place_is_refused_before_anything_changes() {
    for (platform, folder) in [("linux", "opt"), ("macos", "Library")] {
        let sandbox = Sandbox::new(platform);
        fs::create_dir_all(sandbox.path(folder)).unwrap();
        let before = tree(&sandbox);
        let Some(ended) = run_mounted(&sandbox, "install.sh", folder, "noexec") else { return };
        let said = said(&ended);
        assert!(!ended.status.success() && said.contains("nothing may be run"), "{platform}: {said}");
        assert!(!said.contains("not for this host"), "{platform}: {said}");
        assert_eq!((sandbox.calls().as_str(), tree(&sandbox)), ("", before), "{platform}");
    }
}

#[test]
fn program_of_another_kind_of_machine_is_called_that() {
    let sandbox = Sandbox::new("linux");
    fs::create_dir_all(sandbox.path("opt")).unwrap();
    sandbox.program("bundle/bin/x86_64/planasonix-agent", "#!/nowhere/loader\n");
    let before = tree(&sandbox);
    let ended = sandbox.run("install.sh", &TOKEN);
    let said = said(&ended);
    assert!(!ended.status.success() && said.contains("it is not for this host (x86_64)"), "{said}");
    assert_eq!((sandbox.calls().as_str(), tree(&sandbox)), ("", before));
}

#[test]
fn link_that_cannot_be_made_is_a_warning() {
    for platform in PLATFORMS {
        let sandbox = Sandbox::new(platform);
        let Some(ended) = run_mounted(&sandbox, "install.sh", "usr/local", "ro") else { return };
        let told = said(&ended);
        assert!(ended.status.success() && told.contains("cannot make"), "{platform}: {told}");
        assert!(told.contains("The command is "), "{platform}: {told}");
        assert!(sandbox.calls().contains("enroll --token-file -"), "{platform}: {}", sandbox.calls());
        let foreign = Sandbox::new(platform);
        foreign.write("usr/local/bin/planasonix-agent", "theirs");
        let ended = foreign.run("install.sh", &TOKEN);
        assert!(ended.status.success() && said(&ended).contains("is not ours: it stays"), "{platform}");
        let kept = fs::read(foreign.path("usr/local/bin/planasonix-agent")).unwrap();
        assert_eq!(kept, b"theirs", "{platform}");
    }
}

#[test]
fn folder_that_cannot_be_written_is_refused_before_anything_changes() {
    for (platform, folder, lacks) in [
        ("linux", "opt", None),
        ("linux", "etc", Some("etc/planasonix-agent/agent.conf")),
        ("linux", "etc/init.d", None),
        ("linux", "var/lib", Some("var/lib/planasonix-agent")),
        ("macos", "Library", None),
        ("macos", "Library/LaunchDaemons", None),
    ] {
        let sandbox = Sandbox::new(platform);
        fs::create_dir_all(sandbox.path(folder)).unwrap();
        if let Some(lacks) = lacks.map(|lacks| sandbox.path(lacks)) {
            if lacks.is_dir() { fs::remove_dir(lacks) } else { fs::remove_file(lacks) }.unwrap();
        }
        if folder == "Library/LaunchDaemons" {
            sandbox.write("bundle/com.planasonix.agent.plist", "new");
        }
        let before = tree(&sandbox);
        let Some(ended) = run_mounted(&sandbox, "install.sh", folder, "ro") else { return };
        let said = said(&ended);
        assert!(!ended.status.success() && said.contains("cannot be changed"), "{folder}: {said}");
        assert_eq!((sandbox.calls().as_str(), tree(&sandbox)), ("", before), "{folder}");
    }
}

#[test]
fn uninstall_that_cannot_remove_stops_before_the_service_ends() {
    for (platform, folder) in [("linux", "etc"), ("macos", "Library")] {
        let sandbox = Sandbox::new(platform);
        let before = tree(&sandbox);
        let Some(ended) = run_mounted(&sandbox, "uninstall.sh", folder, "ro") else { return };
        let said = said(&ended);
        assert!(!ended.status.success() && said.contains("cannot be removed"), "{platform}: {said}");
        assert_eq!((sandbox.calls().as_str(), tree(&sandbox)), ("", before), "{platform}");
    }
}

#[test]
fn proxy_is_kept_as_curl_prefers_it() {
    for platform in PLATFORMS {
        let sandbox = Sandbox::new(platform);
        fs::remove_file(sandbox.conf()).unwrap();
        let environment = "HTTPS_PROXY=http://upper:1\nhttps_proxy=http://lower:1\nALL_PROXY=socks5h://upper:2\n\
                           all_proxy=\nNO_PROXY=a b\nno_proxy=c d\nhttp_proxy=http://lower:3\nOTHER_PROXY=x\n";
        sandbox.write("environment", environment);
        let file = sandbox.path("environment").display().to_string();
        let ended = sandbox.run("install.sh", &[TOKEN[0], TOKEN[1], "--environment-file", &file]);
        assert!(ended.status.success(), "{platform}: {}", said(&ended));
        let conf = fs::read_to_string(sandbox.conf()).unwrap();
        let kept: Vec<_> = conf.lines().filter(|line| line.contains("_PROXY=")).collect();
        let expected = [
            "HTTPS_PROXY=http://lower:1",
            "HTTP_PROXY=http://lower:3",
            "ALL_PROXY=socks5h://upper:2",
            "NO_PROXY=c d",
        ];
        assert_eq!(kept, expected, "{platform}");
    }
}

/// A service manager that cannot give `LACKING`, an extended regular expression. The unit is the one that it is asked
/// to start, with the file beside it; of a setting the last line counts.
const SYSTEMCTL: &str = "#!/bin/sh
echo \"systemctl $*\" >>'@/calls'
case $1 in
    is-active) exit 3 ;;
    status) echo 'Main PID: 7 (code=exited, status=217/USER)' && exit 3 ;;
    start | restart) ;;
    *) exit 0 ;;
esac
case $2 in
    *-trial.service) unit=$(cat @/run/systemd/system/planasonix-agent-trial.service) ;;
    *) unit=$(cat @/etc/systemd/system/planasonix-agent.service @/etc/systemd/system/planasonix-agent.service.d/* 2>/dev/null) ;;
esac
! printf '%s\\n' \"$unit\" | awk -F= 'NF > 1 { last[$1] = $2 } END { for (name in last) print name \"=\" last[name] }' |
    grep -xE 'LACKING'
";

fn systemd_host(lacking: &str) -> Sandbox {
    let sandbox = Sandbox::new("linux");
    fs::create_dir_all(sandbox.path("run/systemd/system")).unwrap();
    fs::create_dir_all(sandbox.path("etc/systemd/system")).unwrap();
    let unit =
        format!("{}/src/installer/templates/linux/planasonix-agent.service", env!("CARGO_MANIFEST_DIR"));
    fs::copy(unit, sandbox.path("bundle/planasonix-agent.service")).unwrap();
    sandbox.program("programs/systemctl", &SYSTEMCTL.replace("LACKING", lacking));
    sandbox
}

const DROP_IN: &str = "etc/systemd/system/planasonix-agent.service.d/50-host.conf";

#[test]
fn hardening_that_the_host_cannot_give_is_left_out_and_nothing_else() {
    for (lacking, left_out) in [
        ("PrivateUsers=yes", &["PrivateUsers=no"][..]),
        (
            "(Private(Users|Tmp)|ProtectHome)=yes|ProtectProc=invisible|SystemCallFilter=.+",
            &[
                "PrivateTmp=no",
                "PrivateUsers=no",
                "ProtectHome=no",
                "ProtectProc=default",
                "SystemCallFilter=",
            ],
        ),
    ] {
        let sandbox = systemd_host(lacking);
        let ended = sandbox.run("install.sh", &TOKEN);
        let told = said(&ended);
        assert!(ended.status.success() && told.contains("this host cannot give the service: "), "{told}");
        let written = fs::read_to_string(sandbox.path(DROP_IN)).unwrap();
        let lines: Vec<_> = written.lines().filter(|line| line.contains('=')).collect();
        assert_eq!(lines, left_out, "{told}");
        assert!(!sandbox.path("run/systemd/system/planasonix-agent-trial.service").exists());
        let calls = sandbox.calls();
        let at = |what: &str| calls.find(what).unwrap_or_else(|| panic!("no {what}: {calls}"));
        assert!(at("planasonix-agent-trial.service") < at("enroll --token-file -"), "{calls}");
    }
}

#[test]
fn host_that_gives_everything_gets_no_drop_in_and_loses_an_old_one() {
    let sandbox = systemd_host("nothing");
    sandbox.write(DROP_IN, "[Service]\nPrivateUsers=no\n");
    let ended = sandbox.run("install.sh", &TOKEN);
    assert!(ended.status.success(), "{}", said(&ended));
    assert!(!sandbox.path(DROP_IN).exists());
}

#[test]
fn service_manager_that_starts_nothing_is_found_before_the_token_is_spent() {
    let sandbox = systemd_host("User=.*");
    let ended = sandbox.run("install.sh", &TOKEN);
    let told = said(&ended);
    assert!(!ended.status.success() && told.contains("the token is unused"), "{told}");
    assert!(told.contains("status=217/USER"), "{told}");
    assert!(!sandbox.calls().contains("enroll"), "{}", sandbox.calls());
}

#[test]
fn start_that_fails_ends_with_status_and_what_to_do() {
    // The trial starts; the service, which is of another type, does not.
    let systemd = systemd_host("Type=notify");
    let plain = Sandbox::new("linux");
    plain.program("bundle/planasonix-agent.init", "#!/bin/sh\nfalse\n");
    for sandbox in [systemd, plain] {
        let agent = fs::read_to_string(sandbox.path("bundle/bin/x86_64/planasonix-agent")).unwrap();
        let down = agent.replace("status | uninstall) ;;", "status) echo 'status  not_running' && exit 1 ;;");
        sandbox.program("bundle/bin/x86_64/planasonix-agent", &down);
        let ended = sandbox.run("install.sh", &TOKEN);
        let told = said(&ended);
        assert!(!ended.status.success() && told.contains("not_running"), "{told}");
        assert!(told.contains("the service does not start") && told.contains("it needs no token"), "{told}");
    }
}
