//! Which Postgres is taken, where its data goes, and what is said when there is none.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use planasonix::dev::postgres::{Cluster, Error, Search, Settings, default_dir};

use super::sandbox::Sandbox;

#[test]
fn where_no_postgres_is_the_message_says_how_to_get_one() {
    let sandbox = Sandbox::new();
    let search = Search { override_dir: Some(sandbox.dir.clone()), path: None };
    let error = search.find().unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    let message = error.to_string();
    for word in ["apt-get", "dnf", "brew", "winget", "PLANASONIX_DEV_DATABASE_URL"] {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn the_newest_programs_win_by_number() {
    let sandbox = Sandbox::new();
    let versions = ["9.6.24", "99.2 (Debian 99.2-1)", "99.10", "100beta1", "88.1"];
    let dirs = versions.map(|version| sandbox.fake_programs(version));
    let search = |dirs: &[PathBuf]| {
        let path = Some(std::env::join_paths(dirs).unwrap());
        Search { override_dir: None, path }.find().unwrap().dir
    };
    assert_eq!(search(&dirs), dirs[3]);
    assert_eq!(search(&dirs[..3]), dirs[2]);
}

#[test]
fn programs_that_are_too_old_are_named() {
    let sandbox = Sandbox::new();
    let override_dir = Some(sandbox.fake_programs("14.9"));
    let error = Search { override_dir, path: None }.find().unwrap_err();
    assert!(matches!(error, Error::TooOld { .. }));
    assert!(error.to_string().contains("14.9"), "{error}");
}

#[test]
fn a_folder_in_the_way_is_named() {
    let sandbox = Sandbox::new();
    let closed = sandbox.dir.join("closed");
    fs::DirBuilder::new().mode(0o600).create(&closed).unwrap();
    let settings = Settings { dir: closed.join("below"), ..sandbox.settings() };
    let error = Cluster::start(&settings).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { obstacle, .. } if *obstacle == closed), "{error}");
}

#[test]
fn the_default_folder_is_where_postgres_can_go() {
    let (data, home) = (Path::new("/data"), Path::new("/home/me"));
    if geteuid().is_root() {
        assert_eq!(default_dir(Some(data), None), Some("/var/lib/planasonix".into()));
        return;
    }
    assert_eq!(default_dir(Some(data), Some(home)), Some("/data/planasonix".into()));
    assert!(default_dir(Some(Path::new("relative")), Some(home)).unwrap().starts_with(home));
    assert_eq!(default_dir(None, None), None);
}
