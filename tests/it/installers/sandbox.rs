//! A host below a folder of the test, for the install and uninstall scripts.
//!
//! Their absolute paths are moved below that folder, and what changes a host (users, owners, services) is replaced by
//! programs that write down how they were called. `.ci/fresh-host` runs them as root on a host of its own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use regex::{Captures, Regex};
use tempfile::TempDir;

const NAMED: &str = "agt_01jq8x5g2m4n6p8r0s2t4v6w8y";
pub(super) const OTHER: &str = "agt_01jq8x5g2m4n6p8r0s2t4v6w8z";

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

pub(super) struct Sandbox {
    pub(super) folder: TempDir,
    platform: &'static str,
}

impl Sandbox {
    /// A host that is enrolled already, and the bundle that upgrades it.
    pub(super) fn new(platform: &'static str) -> Self {
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

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path(if self.platform == "linux" {
            "var/lib/planasonix-agent"
        } else {
            "Library/Application Support/Planasonix Agent/state"
        })
    }

    pub(super) fn runtime(&self) -> PathBuf {
        if self.platform == "linux" {
            self.path("run/planasonix-agent")
        } else {
            self.state().with_file_name("runtime")
        }
    }

    pub(super) fn conf(&self) -> PathBuf {
        if self.platform == "linux" {
            self.path("etc/planasonix-agent/agent.conf")
        } else {
            self.state().with_file_name("agent.conf")
        }
    }

    pub(super) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace('@', self.folder.path().to_str().unwrap())).unwrap();
    }

    /// Writes a program; only `@/` is the folder there, since `$@` is the shell's.
    pub(super) fn program(&self, below: &str, text: &str) {
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
        let script = script.replace("readonly path=", &format!("readonly path={root}/programs:"));
        script.replace("seconds_to_connect=15", "seconds_to_connect=1")
    }

    pub(super) fn run(&self, script: &str, arguments: &[&str]) -> Output {
        Command::new("timeout")
            .args(["60", "/bin/sh"])
            .arg(self.path("bundle").join(script))
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.path("programs").display()))
            .output()
            .unwrap()
    }

    pub(super) fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap()
    }
}

pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}
