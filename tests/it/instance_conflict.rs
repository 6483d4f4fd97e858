//! Two hosts that beat on one credential are seen.

use std::{net::IpAddr, time::Duration};

use planasonix::domain::agent::ReenablePolicy;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{
    App,
    actors::{Agent, Workspace},
    fleet::Disk,
    rows::Held,
};

const MOMENT: Duration = Duration::from_millis(100);

async fn beat(agent: &Agent, instance: &str) {
    agent.heartbeat(&json!({"instance_id": instance})).await.data(200);
}

async fn conflicts(acme: &Workspace, agent: &Agent) -> Vec<Value> {
    let path = format!("/api/agents/{}/events?type=instance_conflict", agent.id);
    acme.operator.get(&path).await.data(200).as_array().unwrap().clone()
}

fn instances(event: &Value) -> Vec<&str> {
    let hosts = event["detail"]["instances"].as_array().unwrap().iter();
    let mut names: Vec<_> = hosts.map(|host| host["instance_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

async fn assert_reasons(acme: &Workspace, agent: &Agent, status: &str, reasons: Value) {
    let health = acme.health(agent.id).await;
    assert_eq!((&health["status"], &health["reasons"]), (&json!(status), &reasons), "{health}");
}

#[tokio::test]
async fn two_hosts_on_one_credential_are_told_once_a_minute_and_forgotten_after_a_window() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("cloned").await;
    for _ in 0..3 {
        beat(&agent, "first").await;
    }
    agent.beat().await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    for instance in ["second", "first", "second", "first"] {
        beat(&agent, instance).await;
        assert_reasons(&acme, &agent, "degraded", json!(["instance_conflict"])).await;
    }
    let events = conflicts(&acme, &agent).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["actor"], "system");
    assert_eq!(instances(&events[0]), ["first", "second"]);
    for host in events[0]["detail"]["instances"].as_array().unwrap() {
        assert!(host["remote_ip"].as_str().unwrap().parse::<IpAddr>().is_ok(), "{host}");
    }

    app.time_passes(Duration::from_secs(61)).await;
    beat(&agent, "second").await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 2);

    for _ in 0..3 {
        app.time_passes(Duration::from_secs(50)).await;
        beat(&agent, "second").await;
    }
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 2);
}

#[tokio::test]
async fn a_host_that_takes_over_from_a_silent_one_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("moved").await;
    beat(&agent, "first").await;
    app.time_passes(Duration::from_secs(121)).await;
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn a_name_that_was_taken_back_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("renamed").await;
    beat(&agent, "first").await;
    agent.heartbeat(&json!({"instance_id": null})).await.data(200);
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn a_host_that_enrolls_anew_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("reinstalled").await;
    beat(&agent, "first").await;
    acme.revoke(agent.id).await.data(200);
    let agent = acme.enable(agent.id).await.enroll().await;
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn a_host_that_is_handed_the_credential_of_an_enable_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    app.reenable_by("acme", ReenablePolicy::Rotation).await;
    let agent = acme.agent("replaced").await;
    beat(&agent, "first").await;
    acme.revoke(agent.id).await.data(200);
    let enabled = acme.operator.post_nothing(&format!("/api/agents/enable/{}", agent.id)).await.data(200);
    let me = agent.me.with_token(enabled["credential"].as_str().unwrap());
    let agent = Agent { id: agent.id, me };
    beat(&agent, "second").await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn two_hosts_whose_beats_were_merged_are_seen_too() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, busy) = (acme.agent("cloned").await, acme.agent("busy").await);
    let held = Held::flushes(&app.database.options).await;
    let merged = async {
        sleep(MOMENT).await;
        tokio::join!(beat(&agent, "first"), beat(&agent, "second"), async {
            sleep(MOMENT).await;
            held.let_go().await;
        })
    };
    tokio::join!(busy.beat(), merged);
    assert_reasons(&acme, &agent, "degraded", json!(["instance_conflict"])).await;
    let events = conflicts(&acme, &agent).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(instances(&events[0]), ["first", "second"]);
}

async fn run(agent: &Agent, run: &str, continues: bool) {
    let said = json!({"instance_id": "one disk", "run_id": run, "run_continues": continues});
    agent.heartbeat(&said).await.data(200);
}

/// One identity, also the machine's: a copied disk, or a volume that containers share.
#[tokio::test]
async fn processes_that_share_an_identity_are_told_apart_however_many() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for processes in [&["a", "b"][..], &["a", "b", "c", "d"]] {
        let agent = acme.agent("copied").await;
        for process in processes {
            run(&agent, process, false).await;
        }
        assert_reasons(&acme, &agent, "healthy", json!([])).await;
        for process in processes {
            run(&agent, process, true).await;
            assert_reasons(&acme, &agent, "degraded", json!(["instance_conflict"])).await;
        }
        let events = conflicts(&acme, &agent).await;
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(instances(&events[0]), ["one disk", "one disk"]);
    }
}

#[tokio::test]
async fn process_that_starts_anew_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("restarted").await;
    for process in ["a", "b", "c"] {
        // The answer to the first heartbeat got lost.
        run(&agent, process, false).await;
        run(&agent, process, false).await;
        agent.beat().await;
        run(&agent, process, true).await;
        assert_reasons(&acme, &agent, "healthy", json!([])).await;
    }
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

/// As when the other process has been stopped for longer than the window, or the agent was enrolled anew.
#[tokio::test]
async fn process_that_goes_on_alone_is_no_conflict() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("resumed").await;
    run(&agent, "a", false).await;
    run(&agent, "b", false).await;
    app.time_passes(Duration::from_secs(121)).await;
    run(&agent, "a", true).await;
    acme.revoke(agent.id).await.data(200);
    let agent = acme.enable(agent.id).await.enroll().await;
    run(&agent, "b", true).await;
    assert_reasons(&acme, &agent, "healthy", json!([])).await;
    assert_eq!(conflicts(&acme, &agent).await.len(), 0);
}

#[tokio::test]
async fn processes_whose_heartbeats_were_merged_are_told_apart() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (agent, busy) = (acme.agent("copied").await, acme.agent("busy").await);
    run(&agent, "a", false).await;
    let held = Held::flushes(&app.database.options).await;
    let merged = async {
        sleep(MOMENT).await;
        tokio::join!(run(&agent, "a", true), run(&agent, "b", true), async {
            sleep(MOMENT).await;
            held.let_go().await;
        })
    };
    tokio::join!(busy.beat(), merged);
    assert_reasons(&acme, &agent, "degraded", json!(["instance_conflict"])).await;
}

/// The agent's own loops: a disk that is copied into one more host, and into three. Started anew, it is one again.
#[tokio::test]
async fn copied_disk_is_seen_and_a_restart_is_not() {
    const SECOND: Duration = Duration::from_millis(20);
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    for copies in [1, 3] {
        let agent = acme.agent("copied").await;
        let disk = Disk::of(&agent);
        let disks: Vec<_> = (0..copies).map(|_| disk.copy()).collect();
        let mut copied: Vec<_> = disks.iter().map(|disk| disk.run(app.address, SECOND)).collect();
        copied.push(disk.run(app.address, SECOND));
        acme.health_when(agent.id, is_conflicting).await;
        let events = conflicts(&acme, &agent).await;
        let [one, other] = instances(&events[0])[..] else { panic!("not two") };
        assert_eq!(one, other);

        drop(copied);
        app.time_passes(Duration::from_mins(3)).await;
        let noted = conflicts(&acme, &agent).await.len();
        for _ in 0..3 {
            let alone = disk.run(app.address, SECOND);
            acme.health_when(agent.id, |health| health["status"] != "offline").await;
            sleep(100 * SECOND).await;
            drop(alone);
        }
        assert!(!is_conflicting(&acme.health(agent.id).await));
        assert_eq!(conflicts(&acme, &agent).await.len(), noted);
    }
}

/// Beside what the load of the machine may add.
fn is_conflicting(health: &Value) -> bool {
    health["reasons"].as_array().unwrap().contains(&json!("instance_conflict"))
}
