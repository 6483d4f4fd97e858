//! Enrollment, rotation, refusals and leave-taking, as the loop goes through them.

use std::fs;

use planasonix_agent::identity::Next;
use planasonix_wire::token::Kind;
use tokio::time::sleep;

use crate::{
    rig::{Rig, SECOND, credential, token},
    rough::Mood,
};

#[tokio::test]
async fn it_beats_and_says_goodbye() {
    let rig = Rig::enrolled().await;
    let beat = rig.server.wait(0, "a beat", |request| request.accepted).await;
    assert_eq!(beat.line, format!("POST /api/agents/{}/heartbeat", credential(1).agent()));
    assert_eq!(beat.body["active_jobs"], 0);
    assert!(beat.body["memory_percent"].is_number() && beat.body["sent_at"].is_string(), "{}", beat.body);
    rig.wait_for("active").await;
    let told = rig.told().unwrap();
    assert!(told.accepts_work && told.connected);
    let (seen, told) = rig.stop().await;
    assert!(seen.last().unwrap().line.ends_with("/disconnect"));
    assert_eq!((told.status.as_str(), told.accepts_work, told.connected), ("down", false, false));
}

#[tokio::test]
async fn without_an_identity_it_waits_for_a_token() {
    let rig = Rig::fresh().await;
    rig.wait_for("not_enrolled").await;
    sleep(SECOND * 30).await;
    assert_eq!(rig.server.count(), 0);
    fs::write(&rig.token_file, token(Kind::Enrollment, 1).expose()).unwrap();
    let beat = rig.server.wait(0, "a beat", |request| request.line.ends_with("/heartbeat")).await;
    assert_eq!(beat.bearer, credential(1).expose());
    let identity = rig.identity();
    assert_eq!((identity.agent_id, identity.credential), (Some(credential(1).agent()), Some(credential(1))));
    rig.stop().await;
}

#[tokio::test]
async fn a_lost_enrollment_is_asked_for_again_with_the_same_key() {
    let rig = Rig::fresh().await;
    rig.server.turn(Mood::HangUp);
    fs::write(&rig.token_file, token(Kind::Enrollment, 1).expose()).unwrap();
    let lost = rig.server.wait(0, "an enrollment", |request| request.line.ends_with("/enroll")).await;
    rig.server.turn(Mood::Good);
    let again = rig.server.wait(0, "an enrollment", |request| request.accepted).await;
    assert!(lost.key.is_some());
    assert_eq!((lost.key, lost.bearer), (again.key, again.bearer));
    rig.wait_for("active").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_new_credential_replaces_the_old_one_once_it_was_accepted() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::Rotates);
    rig.server.wait(0, "a rotation", |request| request.line.ends_with("/credential")).await;
    let new = credential(2);
    rig.server.wait(0, "a beat with it", |request| request.bearer == new.expose() && request.accepted).await;
    let known = rig.server.count();
    rig.server.wait(known, "another beat with it", |request| request.bearer == new.expose()).await;
    let identity = rig.identity();
    assert_eq!((identity.credential, identity.next), (Some(new), None));
    assert_eq!(identity.credential_expires_at.unwrap().to_string(), "2030-01-01T00:00:00Z");
    rig.stop().await;
}

#[tokio::test]
async fn a_new_credential_that_is_refused_leaves_the_old_one_in_use() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::RefusesNew);
    let (old, new) = (credential(1), credential(2));
    rig.server.wait(0, "a beat with the new one", |request| request.bearer == new.expose()).await;
    let known = rig.server.count();
    rig.server.turn(Mood::Good);
    let back = rig.server.wait(known, "a beat with the old one", |request| request.accepted).await;
    assert_eq!(back.bearer, old.expose());
    rig.wait_for("active").await;
    let identity = rig.identity();
    assert_eq!((identity.credential, identity.next), (Some(old), None));
    rig.stop().await;
}

#[tokio::test]
async fn a_disk_that_refuses_does_not_bring_a_refused_credential_back() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::Broken);
    rig.wait_for("unreachable").await;
    let (old, new) = (credential(1), credential(2));
    let next = Next { credential: new.clone(), credential_expires_at: None };
    rig.store.update(|identity| identity.next = Some(next)).unwrap();
    // Where the lock was, nothing can be locked, whoever runs this: not even root writes to a folder.
    let lock = rig.store.path().with_file_name("identity.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    rig.server.wait(0, "a beat with the new one", |request| request.bearer == new.expose()).await;
    let known = rig.server.count();
    rig.server.turn(Mood::RefusesNew);
    rig.server.wait(known, "a beat with the old one", |request| request.bearer == old.expose()).await;
    sleep(SECOND * 120).await;
    let seen = rig.server.seen();
    let tried = seen.iter().skip(known).filter(|request| request.bearer == new.expose()).count();
    assert!((1..=2).contains(&tried), "{tried} times");
    rig.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_goes_quiet_until_it_is_enrolled_anew() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::Refuses("stop"));
    rig.wait_for("stopped").await;
    let told = rig.told().unwrap();
    assert!(!told.accepts_work);
    let known = rig.server.count();
    sleep(SECOND * 120).await;
    assert!(rig.told().unwrap().updated_at > told.updated_at, "`status` would take it for dead");
    assert_eq!(rig.server.count(), known, "quiet, also for a token that it was not given");
    rig.server.turn(Mood::Good);
    rig.store.update(|identity| identity.settle(credential(5), None)).unwrap();
    let beat = rig.server.wait(known, "a beat", |request| request.accepted).await;
    assert_eq!(beat.bearer, credential(5).expose());
    rig.wait_for("active").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_quiet_agent_asks_again_by_itself() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::Refuses("stop"));
    rig.wait_for("stopped").await;
    let known = rig.server.count();
    rig.server.turn(Mood::Good);
    rig.server.wait(known, "a beat within a quarter of an hour", |request| request.accepted).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_agent_whose_credential_is_dead_enrolls_with_the_token_that_appears() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::Refuses("re_enroll"));
    rig.wait_for("needs_enrollment").await;
    let known = rig.server.count();
    sleep(SECOND * 60).await;
    assert_eq!(rig.server.count(), known);
    rig.server.turn(Mood::Good);
    let fresh = token(Kind::Enrollment, 3);
    fs::write(&rig.token_file, fresh.expose()).unwrap();
    let enrolled = rig.server.wait(known, "an enrollment", |request| request.accepted).await;
    assert_eq!(enrolled.bearer, fresh.expose());
    assert!(enrolled.body["instance_id"].is_string(), "{}", enrolled.body);
    rig.server.wait(known, "a beat", |request| request.bearer == credential(2).expose()).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_token_that_was_refused_is_not_tried_twice() {
    let rig = Rig::enrolled().await;
    fs::write(&rig.token_file, token(Kind::Enrollment, 3).expose()).unwrap();
    rig.server.turn(Mood::RefusesAll);
    rig.server.wait(0, "an enrollment", |request| request.line.ends_with("/enroll")).await;
    sleep(SECOND * 120).await;
    let tried = rig.server.seen().iter().filter(|request| request.line.ends_with("/enroll")).count();
    assert_eq!(tried, 1);
    rig.wait_for("needs_enrollment").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_credential_that_a_re_enable_handed_out_is_taken_over() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::Refuses("re_enroll"));
    rig.wait_for("needs_enrollment").await;
    let known = rig.server.count();
    rig.server.turn(Mood::Good);
    fs::write(&rig.token_file, credential(7).expose()).unwrap();
    let beat = rig.server.wait(known, "a beat", |request| request.accepted).await;
    assert!(beat.line.ends_with("/heartbeat") && beat.bearer == credential(7).expose());
    rig.wait_for("active").await;
    assert_eq!(rig.identity().credential, Some(credential(7)));
    rig.stop().await;
}

#[tokio::test]
async fn heartbeats_of_one_loop_have_one_run_and_say_that_it_goes_on() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rig = Rig::enrolled().await;
        rig.server.wait(2, "a third beat", |request| request.line.ends_with("/heartbeat")).await;
        let (seen, _) = rig.stop().await;
        let beats: Vec<_> = seen.iter().filter(|request| request.line.ends_with("/heartbeat")).collect();
        let run = beats[0].body["run_id"].as_str().unwrap().to_owned();
        assert!(beats.iter().all(|beat| beat.body["run_id"] == *run));
        let goes_on: Vec<_> = beats.iter().take(3).map(|beat| beat.body["run_continues"].as_bool()).collect();
        assert_eq!(goes_on, [Some(false), Some(true), Some(true)]);
        runs.push(run);
    }
    assert_ne!(runs[0], runs[1]);
}
