//! The install and uninstall scripts, run for real below a folder of the test.
//!
//! Their absolute paths are moved below that folder, and what changes a host (users, owners, services) is replaced by
//! programs that write down how they were called. `.ci/fresh-host` runs them as root on a host of its own.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use regex::{Captures, Regex};
use tempfile::TempDir;

const NAMED: &str = "agt_01jq8x5g2m4n6p8r0s2t4v6w8y";
const OTHER: &str = "agt_01jq8x5g2m4n6p8r0s2t4v6w8z";

/// A program that says that it was called, and then does nothing.
const RECORDER: &str = r#"echo "${0##*/} $*" >>"@/calls""#;

/// Stand-ins by name, `@` is the test's folder.
const PROGRAMS: [(&str, &str); 10] = [
    ("id", "case \"$*\" in -u) echo 0 ;; *) echo 3999999 ;; esac"),
    ("uname", "case ${1-} in -s) cat '@/system' ;; *) echo x86_64 ;; esac"),
    // Options first, as both are called; then the program.
    (
        "setpriv",
        "while case $1 in --*) ;; *) false ;; esac; do shift; done\necho \"as user: $*\" >>'@/calls'\nexec \"$@\"",
    ),
    ("sudo", "while [ \"$1\" != -- ]; do shift; done\nshift\necho \"as user: $*\" >>'@/calls'\nexec \"$@\""),
    (
        "install",
        "echo \"install $*\" >>'@/calls'\nfor folder in \"$@\"; do :; done\nmkdir -p \"$folder\" && chmod \"$3\" \"$folder\"",
    ),
    ("stat", "if [ \"$1\" = -f ]; then echo other; else exec /usr/bin/stat \"$@\"; fi"),
    ("launchctl", "echo \"launchctl $*\" >>'@/calls'\n[ \"$1\" != print ]"),
    ("sysctl", "echo 0"),
    ("dscl", "[ \"$2\" != -read ]"),
    ("xattr", ":"),
];

const RECORDED: [&str; 7] = ["chown", "chgrp", "userdel", "groupdel", "update-rc.d", "systemctl", "pkill"];

/// The agent's program. `remove-folders` is one that it does not know, so the script has to do without.
const AGENT: &str = "#!/bin/sh
case $1 in
    --version) echo 'planasonix-agent 9.9.9' ;;
    identity) cat '@/printed' ;;
    enroll) cat >/dev/null ;;
    status | uninstall) ;;
    *) exit 2 ;;
esac
";

struct Sandbox {
    folder: TempDir,
    platform: &'static str,
}

impl Sandbox {
    /// A host that is enrolled already, and the bundle that upgrades it.
    fn new(platform: &'static str) -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap(), platform };
        sandbox.write("system", if platform == "linux" { "Linux" } else { "Darwin" });
        sandbox.write("calls", "");
        sandbox.write("printed", NAMED);
        for (name, body) in PROGRAMS {
            sandbox.program(&format!("programs/{name}"), &format!("#!/bin/sh\n{body}\n"));
        }
        for name in RECORDED {
            sandbox.program(&format!("programs/{name}"), &format!("#!/bin/sh\n{RECORDER}\n"));
        }
        for script in ["install.sh", "uninstall.sh"] {
            let template =
                format!("{}/src/installer/templates/{platform}/{script}", env!("CARGO_MANIFEST_DIR"));
            let text = fs::read_to_string(template).unwrap();
            sandbox.program(&format!("bundle/{script}"), &sandbox.relocated(&text));
        }
        sandbox.program("bundle/bin/x86_64/planasonix-agent", AGENT);
        sandbox.program("bundle/planasonix-agent.init", "#!/bin/sh\n");
        sandbox.write("bundle/com.planasonix.agent.plist", "");
        sandbox.write("bundle/agent.conf", &format!("PLANASONIX_AGENT_ID={NAMED}\n"));
        for folder in [sandbox.state(), sandbox.runtime(), sandbox.conf().parent().unwrap().to_owned()] {
            fs::create_dir_all(folder).unwrap();
        }
        for folder in ["etc/init.d", "usr/local/bin", "var/log", "Library/Logs", "Library/LaunchDaemons"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
        }
        fs::write(sandbox.conf(), format!("# mine\nPLANASONIX_AGENT_ID={NAMED}\nPLANASONIX_LOG=debug\n"))
            .unwrap();
        sandbox
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn state(&self) -> PathBuf {
        self.path(if self.platform == "linux" {
            "var/lib/planasonix-agent"
        } else {
            "Library/Application Support/Planasonix Agent/state"
        })
    }

    fn runtime(&self) -> PathBuf {
        if self.platform == "linux" {
            self.path("run/planasonix-agent")
        } else {
            self.state().with_file_name("runtime")
        }
    }

    fn conf(&self) -> PathBuf {
        if self.platform == "linux" {
            self.path("etc/planasonix-agent/agent.conf")
        } else {
            self.state().with_file_name("agent.conf")
        }
    }

    fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace('@', self.folder.path().to_str().unwrap())).unwrap();
    }

    /// Writes a program; only `@/` is the folder there, since `$@` is the shell's.
    fn program(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace("@/", &format!("{}/", self.folder.path().display()))).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A script whose absolute places are below this folder, and whose programs are the stand-ins.
    fn relocated(&self, script: &str) -> String {
        let root = self.folder.path().display();
        let places = Regex::new(r#"(?m)(^|[\s"'=!(])(/(?:opt|var|run|etc|usr/local/bin|Library)/)"#).unwrap();
        let script =
            places.replace_all(script, |found: &Captures| format!("{}{root}{}", &found[1], &found[2]));
        script.replace("readonly path=", &format!("readonly path={root}/programs:"))
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        Command::new("timeout")
            .args(["60", "/bin/sh"])
            .arg(self.path("bundle").join(script))
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.path("programs").display()))
            .output()
            .unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn crafted_identity_is_neither_run_nor_written() {
    for platform in ["linux", "macos"] {
        for crafted in [
            "x/;w @/pwned\n#",
            "x/e\ntouch @/pwned\n#",
            "agt_$(touch @/pwned)",
            "agt_`touch @/pwned`56789012345",
            &format!("{OTHER}\nPLANASONIX_API_HOST=http://forged.example"),
            &format!("{OTHER}0"),
            &OTHER.to_uppercase(),
            &OTHER.replace('z', "u"),
            "",
        ] {
            let sandbox = Sandbox::new(platform);
            sandbox.write("printed", crafted);
            let before = fs::read(sandbox.conf()).unwrap();
            let crafted = crafted.replace('@', sandbox.folder.path().to_str().unwrap());
            let identity = format!("{{\"agent_id\": \"{crafted}\",\n\"credential\": \"x\"}}");
            fs::write(sandbox.state().join("identity.json"), identity).unwrap();
            let ended = sandbox.run("install.sh", &["--token", "plnx_enroll_x"]);
            let said = said(&ended);
            assert!(ended.status.success(), "{platform}, {crafted:?}: {said}");
            assert!(said.contains("cannot read which agent this host is"), "{platform}, {crafted:?}: {said}");
            assert!(!sandbox.path("pwned").exists(), "{platform}, {crafted:?}: {said}");
            assert_eq!(fs::read(sandbox.conf()).unwrap(), before, "{platform}, {crafted:?}: {said}");
        }
    }
}

#[test]
fn id_is_printed_by_the_service_user_and_put_in_whole() {
    for platform in ["linux", "macos"] {
        let sandbox = Sandbox::new(platform);
        sandbox.write("printed", &format!("{OTHER}\n"));
        // Reading it would never end.
        nix::unistd::mkfifo(&sandbox.state().join("identity.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let ended = sandbox.run("install.sh", &["--token", "plnx_enroll_x"]);
        assert!(ended.status.success(), "{platform}: {}", said(&ended));
        let conf = fs::read_to_string(sandbox.conf()).unwrap();
        assert_eq!(conf, format!("# mine\nPLANASONIX_AGENT_ID={OTHER}\nPLANASONIX_LOG=debug\n"));
        let calls = sandbox.calls();
        for command in ["identity", "enroll --token-file -", "status"] {
            let program = format!("planasonix-agent {command}");
            assert!(
                calls.lines().any(|call| call.starts_with("as user: ") && call.ends_with(&program)),
                "{calls}"
            );
        }
    }
}

#[test]
fn link_in_place_of_a_service_folder_is_refused() {
    for platform in ["linux", "macos"] {
        for folder in [Sandbox::state, Sandbox::runtime] {
            let sandbox = Sandbox::new(platform);
            let (place, elsewhere) = (folder(&sandbox), sandbox.path("elsewhere"));
            fs::create_dir(&elsewhere).unwrap();
            fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o751)).unwrap();
            fs::remove_dir(&place).unwrap();
            symlink(&elsewhere, &place).unwrap();
            let ended = sandbox.run("install.sh", &["--token", "plnx_enroll_x"]);
            let said = said(&ended);
            let expected = format!("{} is a link, which this does not follow", place.display());
            assert!(!ended.status.success() && said.contains(&expected), "{platform}: {said}");
            assert_eq!(sandbox.calls(), "", "{platform}: nothing was changed");
            assert_eq!(fs::metadata(&elsewhere).unwrap().mode() & 0o7777, 0o751);
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        }
    }
}

#[test]
fn host_that_is_not_enrolled_is_told_before_anything_changes() {
    for platform in ["linux", "macos"] {
        let sandbox = Sandbox::new(platform);
        let ended = sandbox.run("install.sh", &[]);
        assert!(!ended.status.success() && said(&ended).contains("is not enrolled"), "{}", said(&ended));
        assert_eq!(sandbox.calls(), "");
    }
}

/// Text of others reaches the terminal of whoever installs as root.
#[test]
fn control_and_directing_characters_are_not_printed() {
    let (hostile, shown) = ("é\u{1b}[2J\u{7f}\u{9b}\u{61c}\u{200f}\u{202e}\u{2066}\t€", "é?[2J???????€");
    for platform in ["linux", "macos"] {
        for script in ["install.sh", "uninstall.sh"] {
            let ended = Sandbox::new(platform).run(script, &[&format!("--{hostile}")]);
            let said = said(&ended);
            assert_eq!(ended.status.code(), Some(2), "{said}");
            let expected = format!("{script}: unknown argument: --{shown}\n");
            assert!(said.contains(&expected), "{platform}: {said:?}");
        }
        let sandbox = Sandbox::new(platform);
        fs::write(sandbox.conf(), format!("PLANASONIX_AGENT_ID={hostile}\n")).unwrap();
        let said = said(&sandbox.run("install.sh", &["--token", "plnx_enroll_x"]));
        assert!(said.contains(&format!("kept PLANASONIX_AGENT_ID={shown} in ")), "{platform}: {said:?}");
        assert!(!said.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{platform}: {said:?}");
    }
}

#[test]
fn uninstall_follows_no_link() {
    for platform in ["linux", "macos"] {
        let sandbox = Sandbox::new(platform);
        let precious = sandbox.path("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "kept").unwrap();
        fs::create_dir(sandbox.state().join("deep")).unwrap();
        symlink(&precious, sandbox.state().join("deep/link")).unwrap();
        fs::remove_dir(sandbox.runtime()).unwrap();
        symlink(&precious, sandbox.runtime()).unwrap();
        let ended = sandbox.run("uninstall.sh", &[]);
        assert!(ended.status.success(), "{platform}: {}", said(&ended));
        for gone in [sandbox.state(), sandbox.runtime(), sandbox.conf()] {
            assert!(fs::symlink_metadata(&gone).is_err(), "{platform}: {} is left", gone.display());
        }
        assert_eq!(fs::read(precious.join("file")).unwrap(), b"kept", "{platform}");
        let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!((left(&sandbox.path("var/log")), left(&precious)), (0, 1), "{platform}");
    }
}
