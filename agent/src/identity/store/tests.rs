//! What the identity's file survives: damage, other users, a full disk.

use planasonix_wire::token::Kind;

use super::*;
use crate::secret::tests::token;

#[test]
fn an_identity_reads_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(&folder.path().join("state"));
    assert_eq!(store.load().unwrap(), None);
    let written = store.update(|identity| identity.settle(token(Kind::Agent, 1), None)).unwrap();
    assert_eq!(store.load().unwrap(), Some(written.clone()));
    let stamp = store.stamp();
    assert_eq!(store.update(|_| {}).unwrap(), written);
    assert_eq!(store.stamp(), stamp, "nothing changed, nothing is written");
    store.remove().unwrap();
    assert_eq!(store.stamp(), None);
}

#[cfg(unix)]
#[test]
fn only_its_user_can_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(&folder.path().join("state"));
    store.update(|_| {}).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.path()), 0o600);
    assert_eq!(mode(&store.folder), 0o700);
    assert!(!store.folder.join(CHANGE).exists());
}

#[test]
fn a_broken_file_is_named_and_its_content_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    fs::write(store.path(), r#"{"seed": "s", "credential": "plnx_agent_secret"}"#).unwrap();
    let error = store.update(|_| {}).unwrap_err().to_string();
    assert!(error.contains("identity.json") && !error.contains("plnx_agent"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_planted_lock_is_refused_and_where_it_leads_stays_as_it_is() {
    let (_folder, store, target) = planted();
    let lock = store.folder.join(LOCK);
    std::os::unix::fs::symlink(&target, &lock).unwrap();
    let error = store.update(|_| {}).unwrap_err().to_string();
    assert!(error.contains("identity.lock: not a plain file"), "{error}");
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&target, &lock).unwrap();
    let error = store.update(|_| {}).unwrap_err().to_string();
    assert!(error.contains("identity.lock: this file has other names"), "{error}");
    untouched(&target);
    assert!(!store.path().exists());
}

#[cfg(unix)]
#[test]
fn a_planted_link_in_place_of_the_new_file_is_not_written_through() {
    use std::os::unix::fs::MetadataExt;

    let (_folder, store, target) = planted();
    std::os::unix::fs::symlink(&target, store.folder.join(CHANGE)).unwrap();
    store.update(|_| {}).unwrap();
    untouched(&target);
    let owner = fs::metadata(&store.folder).unwrap().uid();
    for name in [FILE, LOCK] {
        let about = fs::symlink_metadata(store.folder.join(name)).unwrap();
        assert!(about.is_file());
        assert_eq!((about.uid(), about.mode() & 0o777), (owner, 0o600), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_that_was_left_behind_lends_no_looser_mode() {
    use std::os::unix::fs::PermissionsExt;

    let (_folder, store, _) = planted();
    let left = store.folder.join(CHANGE);
    fs::write(&left, "cut short").unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
    store.update(|_| {}).unwrap();
    assert_eq!(fs::metadata(store.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A state folder, which root gives to another user, and a file beside it that no store may touch.
#[cfg(unix)]
fn planted() -> (tempfile::TempDir, Store, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (state, target) = (folder.path().join("state"), folder.path().join("target"));
    fs::write(&target, "precious").unwrap();
    fs::create_dir(&state).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&state, Some(65_534), Some(65_534)).unwrap();
    }
    (folder, Store::new(&state), target)
}

#[cfg(unix)]
fn untouched(target: &Path) {
    use std::os::unix::fs::MetadataExt;

    assert_eq!(fs::read(target).unwrap(), b"precious");
    assert_eq!(fs::metadata(target).unwrap().uid(), nix::unistd::geteuid().as_raw());
}

#[test]
fn a_trial_leaves_the_identity_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let written = store.update(|identity| identity.settle(token(Kind::Agent, 1), None)).unwrap();
    store.prove_writable().unwrap();
    assert_eq!(store.load().unwrap(), Some(written.clone()));
    assert_eq!(
        store.update(|identity| identity.spent_token = Some("x".repeat(64))).unwrap().seed,
        written.seed
    );
}

#[test]
fn a_trial_fails_where_a_change_would() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    store.update(|_| {}).unwrap();
    for name in [CHANGE, LOCK] {
        let path = folder.path().join(name);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(store.prove_writable().is_err(), "{name}");
        assert!(store.update(|identity| identity.seed.push('x')).is_err(), "{name}");
        fs::remove_dir_all(path).unwrap();
        store.prove_writable().unwrap();
    }
}
