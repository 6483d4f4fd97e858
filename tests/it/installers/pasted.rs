//! The commands of `manual-install`, pasted into a shell. Download, `sudo` and the bundle's script are stand-ins.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::App;

/// Copies the bundle to where `-o` says.
const CURL: &str = "#!/bin/sh
cat >/dev/null
while [ $# -gt 0 ]; do
    [ \"$1\" != -o ] || cp '@/bundle.tar.gz' \"$2\"
    shift
done
";

/// Reports where it runs, and who may enter there.
const INSTALL: &str = "#!/bin/sh
folder=$(dirname \"$(dirname \"$0\")\")
stat -c '%a %n' \"$folder\" >'@/report'
";

const PLANTED: &str = "#!/bin/sh
touch '@/pwned'
";

/// A shell whose working folder others can write to, and have written to.
struct Shell {
    folder: TempDir,
    steps: [String; 2],
}

impl Shell {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shell = |text: &str| text.replace('@', folder.path().to_str().unwrap());
        let programs: [(&str, &str); 4] = [
            ("programs/curl", CURL),
            ("programs/sudo", "#!/bin/sh\nexec \"$@\"\n"),
            ("planasonix-agent/install.sh", INSTALL),
            ("open/planasonix-agent/install.sh", PLANTED),
        ];
        for (name, text) in programs {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, if name.ends_with("sudo") { text.to_owned() } else { shell(text) }).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(folder.path().join("tmp")).unwrap();
        let packed = Command::new("tar")
            .args(["-czf", "bundle.tar.gz", "planasonix-agent"])
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(packed.success());
        fs::copy(folder.path().join("bundle.tar.gz"), folder.path().join("open/planasonix-agent.tar.gz"))
            .unwrap();
        let steps = commands(&fs::read(folder.path().join("bundle.tar.gz")).unwrap()).await;
        Self { folder, steps }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn paste(&self, lines: &[&str]) -> Output {
        Command::new("/bin/sh")
            .args(["-c", &lines.join("\n")])
            .current_dir(self.path("open"))
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("programs").display()))
            .env("TMPDIR", self.path("tmp"))
            .env("PLANASONIX_ENROLLMENT_TOKEN", "plnx_enroll_x")
            .output()
            .unwrap()
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.path("tmp")).unwrap().count()
    }
}

/// Both steps of a Linux agent, for this bundle instead of the server's.
async fn commands(bundle: &[u8]) -> [String; 2] {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.register("a").await;
    let manual = acme.operator.manual(agent.id).await.data(200);
    let served = acme.operator.bundle(agent.id, "linux").await.sha256();
    let sha256 = Sha256::digest(bundle).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let command = |step: &Value| step["command"].as_str().unwrap().replace(&served, &sha256);
    [command(&manual["steps"][0]), command(&manual["steps"][1])]
}

#[tokio::test]
async fn steps_run_in_a_private_folder_that_goes() {
    let shell = Shell::new().await;
    let ended = shell.paste(&[&shell.steps[0], &shell.steps[1], r#"echo "left: $?${planasonix_dir-}""#]);
    let told = String::from_utf8(ended.stdout.clone()).unwrap();
    assert!(told.ends_with("left: 0\n"), "{ended:?}");
    let report = fs::read_to_string(shell.path("report")).unwrap();
    let expected = format!("700 {}/", shell.path("tmp").display());
    assert!(report.starts_with(&expected), "{report}");
    assert!(!shell.path("pwned").exists());
    assert_eq!(shell.left_behind(), 0);
}

#[tokio::test]
async fn step_2_without_step_1_runs_nothing() {
    let shell = Shell::new().await;
    let ended = shell.paste(&[&shell.steps[1]]);
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && told.contains("run step 1 in this shell first"), "{told}");
    let twice = shell.paste(&[&shell.steps[0], &shell.steps[1], &shell.steps[1]]);
    assert!(!twice.status.success(), "the second time there is nothing to run");
    assert!(!shell.path("pwned").exists());
}

#[tokio::test]
async fn bundle_that_was_changed_runs_nothing() {
    let shell = Shell::new().await;
    let change = r#"printf x >>"$planasonix_dir/planasonix-agent.tar.gz""#;
    let ended = shell.paste(&[&shell.steps[0], change, &shell.steps[1]]);
    assert!(!ended.status.success(), "{ended:?}");
    assert!(!shell.path("report").exists() && !shell.path("pwned").exists());
    assert_eq!(shell.left_behind(), 0);
}

#[tokio::test]
async fn download_that_fails_leaves_nothing() {
    let shell = Shell::new().await;
    fs::write(shell.path("programs/curl"), "#!/bin/sh\nexit 22\n").unwrap();
    let ended = shell.paste(&[&shell.steps[0], &shell.steps[1]]);
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && told.contains("run step 1 in this shell first"), "{told}");
    assert_eq!(shell.left_behind(), 0);
}
