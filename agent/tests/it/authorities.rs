//! Certificate authorities that change while the agent runs.

use tokio::time::sleep;

use crate::{
    rig::{Rig, SECOND},
    rough::Mood,
};

#[tokio::test]
async fn an_authority_that_is_added_is_trusted_without_a_restart() {
    let rig = Rig::enrolled_over_tls().await;
    rig.wait_for("active").await;
    rig.server.turn(Mood::OtherAuthority);
    rig.wait_for("unreachable").await;
    let known = rig.server.count();
    rig.authorities(&rig.other_authority());
    rig.server.wait(known, "a heartbeat", |request| request.accepted).await;
    rig.wait_for("active").await;
    rig.stop().await;
}

#[tokio::test]
async fn an_authority_that_is_withdrawn_is_trusted_no_longer() {
    let rig = Rig::enrolled_over_tls_renewing().await;
    rig.wait_for("active").await;
    rig.authorities(&rig.other_authority());
    rig.wait_for("unreachable").await;
    let refused = |line: &str| line == "TLS";
    assert!(rig.server.seen().iter().any(|request| refused(&request.line)));
    rig.stop().await;
}

#[tokio::test]
async fn authorities_that_cannot_be_read_leave_those_before() {
    let rig = Rig::enrolled_over_tls_renewing().await;
    rig.wait_for("active").await;
    rig.authorities("half a certificate");
    rig.wait_for_log("those read before remain in use").await;
    let known = rig.server.count();
    sleep(SECOND * 120).await;
    assert!(rig.server.seen().iter().skip(known).filter(|request| request.accepted).count() >= 2);
    let log = rig.log();
    assert_eq!(log.matches("those read before remain in use").count(), 1, "{log}");
    rig.stop().await;
}

#[tokio::test]
async fn one_bad_certificate_does_not_cost_the_others() {
    let rig = Rig::enrolled_over_tls().await;
    rig.wait_for("active").await;
    rig.server.turn(Mood::OtherAuthority);
    rig.wait_for("unreachable").await;
    let known = rig.server.count();
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    rig.authorities(&format!("\u{feff}{bad}{}", rig.other_authority()));
    rig.server.wait(known, "a heartbeat", |request| request.accepted).await;
    let log = rig.log();
    assert!(log.contains("certificate 1, from line 1 on: it cannot be read as a certificate"), "{log}");
    rig.stop().await;
}
