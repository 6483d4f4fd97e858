//! The install and uninstall scripts, run for real: what they make of files that the agent's own account can write.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use super::sandbox::{OTHER, Sandbox, said};

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
