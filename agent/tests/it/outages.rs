//! Whatever the control plane does: the loop never ends, never spins, and comes back.

use planasonix_agent::timing::Timing;
use tokio::time::{Duration, Instant, sleep};

use crate::{
    rig::{Rig, SECOND, credential},
    rough::Mood,
};

/// What a busy machine adds.
const NOISE: Duration = Duration::from_secs(2);

/// Two minutes of this mood, and back to a good one.
async fn outlives(rig: Rig, mood: Mood) {
    let server = &rig.server;
    server.wait(0, "the first beat", |request| request.accepted).await;
    server.turn(mood);
    let failed = || rig.log().matches("no usable answer").count();
    let (before, failed_before, began) = (server.count(), failed(), Instant::now());
    sleep(SECOND * 120).await;
    let (during, lasted) = (server.count() - before, began.elapsed());
    // One attempt that follows the beat before, one that is drawn from the whole interval, and then no more
    // than one in 5 seconds.
    let most = 2 + lasted.as_millis() / (SECOND * 5).as_millis();
    let attempts = during.max(failed() - failed_before);
    assert!((attempts as u128) <= most, "{attempts} attempts in {lasted:?}");
    assert!(attempts > 0, "it gave up");
    assert!(server.seen().iter().skip(before).all(|request| !request.accepted));
    if mood == Mood::WrongCertificate {
        assert!(server.seen().iter().skip(before).all(|request| request.bearer.is_empty()));
    }
    let (known, over) = (server.count(), Instant::now());
    server.turn(Mood::Good);
    let back = server.wait(known, "a beat after the outage", |request| request.accepted).await;
    assert!(back.at - over < SECOND * 30 + NOISE, "{:?}", back.at - over);
    rig.wait_for("active").await;
    rig.stop().await;
}

#[tokio::test]
async fn it_outlives_a_server_that_is_away() {
    outlives(Rig::enrolled().await, Mood::Away).await;
}

#[tokio::test]
async fn it_outlives_errors_of_the_server() {
    outlives(Rig::enrolled().await, Mood::Broken).await;
}

#[tokio::test]
async fn a_proxys_page_is_no_success_whatever_its_status() {
    outlives(Rig::enrolled().await, Mood::Html(200)).await;
}

#[tokio::test]
async fn a_proxys_page_is_no_refusal_whatever_its_status() {
    outlives(Rig::enrolled().await, Mood::Html(403)).await;
    outlives(Rig::enrolled().await, Mood::Html(502)).await;
}

#[tokio::test]
async fn it_outlives_a_server_that_takes_requests_and_says_nothing() {
    outlives(Rig::enrolled_in_a_hurry().await, Mood::Stall).await;
}

#[tokio::test]
async fn it_outlives_a_server_that_hangs_up() {
    outlives(Rig::enrolled().await, Mood::HangUp).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_sent_no_credential() {
    outlives(Rig::enrolled_over_tls().await, Mood::WrongCertificate).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::Redirect);
    rig.server.wait(0, "a request", |_| true).await;
    rig.wait_for("unreachable").await;
    assert!(rig.server.seen().iter().all(|request| !request.line.contains("elsewhere")));
    rig.stop().await;
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let rig = Rig::enrolled().await;
    rig.server.wait(0, "the first beat", |request| request.accepted).await;
    rig.server.turn(Mood::Limited(120));
    let known = rig.server.count();
    let refused = rig.server.wait(known, "a beat that is refused", |request| !request.accepted).await;
    rig.server.turn(Mood::Good);
    let again = rig.server.wait(known, "a beat after that", |request| request.accepted).await;
    assert!(again.at - refused.at >= SECOND * 120, "{:?}", again.at - refused.at);
    rig.stop().await;
}

#[tokio::test]
async fn a_beat_that_came_too_soon_is_no_outage() {
    let rig = Rig::enrolled().await;
    rig.wait_for("active").await;
    rig.server.turn(Mood::Limited(1));
    let known = rig.server.count();
    for _ in 0..3 {
        rig.server.wait(rig.server.count(), "a beat too soon", |request| !request.accepted).await;
        let told = rig.told().unwrap();
        assert!(told.connected && told.status == "active", "{told:?}");
    }
    assert!(rig.server.count() >= known + 3 && !rig.log().contains("no usable answer"));
    rig.stop().await;
}

/// As where the control plane believes a last heartbeat in the future.
#[tokio::test]
async fn agent_whose_first_heartbeats_come_too_soon_says_so() {
    let rig = Rig::fresh().await;
    rig.wait_for("not_enrolled").await;
    rig.server.turn(Mood::Limited(1));
    rig.store.update(|identity| identity.settle(credential(1), None)).unwrap();
    rig.wait_for("throttled").await;
    let known = rig.server.count();
    rig.server.wait(known + 1, "two more refused", |request| !request.accepted).await;
    let told = rig.told().unwrap();
    assert_eq!((told.status.as_str(), told.connected, told.accepts_work), ("throttled", false, false));
    assert_eq!(rig.log().matches("refused as too frequent (429)").count(), 1, "{}", rig.log());
    rig.server.turn(Mood::Good);
    rig.wait_for("active").await;
    assert!(rig.told().unwrap().connected);
    rig.stop().await;
}

/// None of those that were accepted keeps it connected any longer.
#[tokio::test]
async fn agent_whose_heartbeats_go_on_coming_too_soon_says_so() {
    let rig = Rig::enrolled().await;
    rig.wait_for("active").await;
    rig.server.turn(Mood::Limited(1));
    rig.wait_for("throttled").await;
    let told = rig.told().unwrap();
    assert_eq!((told.connected, told.accepts_work), (false, true), "as when the control plane is away");
    rig.stop().await;
}

#[tokio::test]
async fn an_interval_beyond_the_contract_silences_nobody() {
    for asked in [u32::MAX, 86_400, 0] {
        let rig = Rig::enrolled().await;
        rig.server.wait(0, "the first beat", |request| request.accepted).await;
        rig.server.turn(Mood::Interval(asked));
        let known = rig.server.count();
        let first = rig.server.wait(known, "a beat", |request| request.accepted).await;
        let third = rig.server.wait(known + 2, "a third beat", |request| request.accepted).await;
        assert!(third.at - first.at < SECOND * 60 + NOISE, "{asked}: {:?}", third.at - first.at);
        let log = rig.log();
        assert_eq!(log.matches("heartbeat interval out of range").count(), 1, "{log}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn an_agent_that_is_kept_waiting_is_connected_no_longer() {
    let rig = Rig::enrolled().await;
    rig.wait_for("active").await;
    assert!(rig.told().unwrap().connected_until.is_some());
    rig.server.turn(Mood::Limited(3_600));
    // 100 s after the last accepted heartbeat, and then up to a minute until the runtimes are told.
    let began = Instant::now();
    while rig.told().unwrap().connected {
        assert!(began.elapsed() < SECOND * 200 + NOISE, "{:?}", rig.told());
        sleep(SECOND).await;
    }
    let told = rig.told().unwrap();
    assert_eq!((told.status.as_str(), told.connected_until), ("active", None));
    rig.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_always_asks_for_a_rotation_gets_one() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::AlwaysRotates);
    rig.server.wait(0, "a rotation", |request| request.line.ends_with("/credential")).await;
    sleep(SECOND * 300).await;
    let seen = rig.server.seen();
    let rotations = seen.iter().filter(|request| request.line.ends_with("/credential")).count();
    let beats = seen.iter().filter(|request| request.bearer == credential(2).expose()).count();
    assert!(rotations == 1 && beats > 3, "{rotations} rotations, {beats} beats");
    rig.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named_and_stops_nothing() {
    let rig = Rig::enrolled().await;
    rig.server.turn(Mood::ClockOff(3_600));
    for _ in 0..3 {
        rig.server.wait(rig.server.count(), "a beat", |request| request.accepted).await;
    }
    rig.wait_for("active").await;
    let log = rig.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("this host's clock is")).collect();
    assert!(told.len() == 1 && told[0].contains("s behind the control plane's"), "{told:?}");
    rig.stop().await;
}

#[test]
fn the_real_waiting_times_are_these() {
    let real = Timing::default();
    let seconds = |span: Duration| span.as_secs();
    assert_eq!((seconds(real.connect), seconds(real.request), seconds(real.interval)), (5, 10, 30));
    assert_eq!((seconds(real.gap), seconds(real.least_backoff), seconds(real.most_backoff)), (1, 5, 30));
    assert_eq!((seconds(real.quiet), seconds(real.watch), seconds(real.farewell)), (900, 2, 5));
    assert_eq!((seconds(real.second), seconds(real.most_retry_after)), (1, 3_600));
    assert_eq!((seconds(real.most_interval), seconds(real.rotation_pause)), (3_960, 3_600));
    assert_eq!(seconds(real.republish), 60);
}
