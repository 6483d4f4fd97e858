//! A state folder that takes nothing: a full disk, or one that is mounted read-only.

use std::fs;

use planasonix_wire::token::Kind;
use tokio::time::sleep;

use crate::{
    rig::{Rig, SECOND, credential, token},
    rough::Mood,
};

#[tokio::test]
async fn no_new_credential_is_asked_for_while_the_disk_takes_none() {
    let rig = Rig::enrolled().await;
    rig.wait_for("active").await;
    rig.disk_refuses(true);
    rig.server.turn(Mood::AlwaysRotates);
    rig.wait_for_log("no new credential is asked for meanwhile").await;
    let known = rig.server.count();
    sleep(SECOND * 300).await;
    let seen = rig.server.seen();
    assert!(!seen.iter().any(|request| request.line.ends_with("/credential")));
    let beats: Vec<_> = seen.iter().skip(known).filter(|request| request.accepted).collect();
    let told = beats.iter().filter(|beat| beat.body["last_error"].to_string().contains("cannot be renewed"));
    assert!(beats.len() > 3 && told.count() >= beats.len() - 1, "{beats:?}");
    let trials = rig.log().matches("no new credential is asked for meanwhile").count();
    assert!((2..=4).contains(&trials), "after 60 s, 120 s, 240 s: {trials}");
    rig.disk_refuses(false);
    rig.server.wait(known, "a rotation", |request| request.line.ends_with("/credential")).await;
    let new = credential(2);
    let beat = rig.server.wait(known, "a beat with it", |request| request.bearer == new.expose()).await;
    assert!(beat.body["last_error"].is_null(), "{}", beat.body);
    assert_eq!(rig.identity().credential, Some(new));
    rig.stop().await;
}

#[tokio::test]
async fn no_token_is_used_up_while_the_disk_takes_no_credential() {
    let rig = Rig::fresh().await;
    rig.wait_for("not_enrolled").await;
    rig.disk_refuses(true);
    fs::write(&rig.token_file, token(Kind::Enrollment, 1).expose()).unwrap();
    rig.wait_for("unreachable").await;
    sleep(SECOND * 120).await;
    assert_eq!(rig.server.count(), 0);
    rig.disk_refuses(false);
    rig.wait_for("active").await;
    let enrolled = rig.server.seen().iter().filter(|request| request.line.ends_with("/enroll")).count();
    assert_eq!(enrolled, 1);
    rig.stop().await;
}
