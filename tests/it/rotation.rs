//! Rotation with overlap: whenever a host dies, it finds a way in by itself.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    App,
    actors::Agent,
    rows::Held,
    turn,
    wire::{Line, request},
};

const KILLS: usize = 100;
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Where a host dies, between asking for its next credential and having used it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    BeforeAsking,
    WhileAsking,
    BeforeKeeping,
    BeforeFirstUse,
    DuringFirstUse,
    BeforeForgetting,
}

const DEATHS: [Death; 6] = [
    Death::BeforeAsking,
    Death::WhileAsking,
    Death::BeforeKeeping,
    Death::BeforeFirstUse,
    Death::DuringFirstUse,
    Death::BeforeForgetting,
];

/// A host; what it knows is what its disk holds.
struct Host<'a> {
    app: &'a App,
    /// The credential that was last accepted, and the next one while it was not.
    kept: Agent,
    next: Option<Agent>,
    rng: StdRng,
}

impl Host<'_> {
    /// Wakes up: whichever of its credentials is accepted is its credential from now on.
    async fn wake(&mut self) {
        if let Some(next) = self.next.take() {
            let answer = next.heartbeat(&json!({})).await;
            if answer.status == 200 {
                self.kept = next;
                return;
            }
            let error = answer.error(403, "credential_rotated");
            assert_eq!(error["action"], "re_enroll");
        }
        self.kept.beat().await;
    }

    /// Rotates, unless it dies on the way.
    async fn rotate(&mut self, death: Option<Death>) {
        if death == Some(Death::BeforeAsking) {
            return;
        }
        if death == Some(Death::WhileAsking) {
            return self.send_and_die(&self.kept.clone(), "credential").await;
        }
        let next = self.kept.rotate().await;
        if death == Some(Death::BeforeKeeping) {
            return;
        }
        self.next = Some(next.clone());
        if death == Some(Death::BeforeFirstUse) {
            return;
        }
        if death == Some(Death::DuringFirstUse) {
            return self.send_and_die(&next, "heartbeat").await;
        }
        next.beat().await;
        if death != Some(Death::BeforeForgetting) {
            self.kept = next;
            self.next = None;
        }
    }

    /// The server may or may not have done it; nobody hears.
    async fn send_and_die(&mut self, me: &Agent, what: &str) {
        let path = format!("/api/agents/{}/{what}", me.id);
        let mut line = Line::open(self.app.address).await.unwrap();
        line.say(&request("POST", &path, me.me.token.as_deref(), "")).await.unwrap();
        sleep(Duration::from_millis(self.rng.random_range(0..20))).await;
    }
}

#[tokio::test]
async fn a_host_that_dies_anywhere_in_a_rotation_goes_on_without_a_human() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let kept = acme.agent("mortal").await;
    let id = kept.id;
    let mut host = Host { app: &app, kept, next: None, rng: StdRng::seed_from_u64(7) };
    for kill in 0..KILLS {
        let death = DEATHS[kill % DEATHS.len()];
        host.rotate(Some(death)).await;
        // Longer than any timer, and up to the last hour of the credential.
        let dead_for = [Duration::ZERO, HOUR, 7 * DAY, 29 * DAY + 23 * HOUR][kill / DEATHS.len() % 4];
        app.time_passes_for(&[id], dead_for).await;
        host.wake().await;
        if kill % 5 == 0 {
            // It dies once more on the way back.
            host.rotate(Some(DEATHS[kill / 5 % DEATHS.len()])).await;
            host.wake().await;
        }
        host.rotate(None).await;
        assert_eq!(acme.health(id).await["status"], "healthy", "kill {kill}: {death:?}");
    }
    let events = app.event_types(id).await;
    assert_eq!(events.iter().filter(|kind| *kind == "enrolled").count(), 1, "no human, no enrollment");
}

/// What a credential is worth, without using it: on another agent's path a good one is told so.
async fn is_alive(agent: &Agent, other: &Agent) -> bool {
    let answer = agent.me.post_nothing(&format!("/api/agents/{}/credential", other.id)).await;
    if answer.status == 404 {
        answer.error(404, "agent_not_found");
        return true;
    }
    answer.error(403, "credential_rotated");
    false
}

#[tokio::test]
async fn the_old_credential_dies_at_the_first_use_of_the_new_one_on_whatever_route() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let other = acme.agent("other").await;
    for route in ["heartbeat", "credential", "disconnect"] {
        let old = acme.agent(route).await;
        old.beat().await;
        let new = old.rotate().await;
        app.time_passes_for(&[old.id], 7 * DAY).await;
        old.beat().await;
        assert!(is_alive(&old, &other).await && is_alive(&new, &other).await, "{route}");
        let used = new.me.post_nothing(&format!("/api/agents/{}/{route}", new.id)).await;
        assert!(used.status.is_success(), "{used:?}");
        assert!(!is_alive(&old, &other).await && is_alive(&new, &other).await, "{route}");
        let refused = old.heartbeat(&json!({})).await.error(403, "credential_rotated");
        assert_eq!(refused["action"], "re_enroll");
        old.try_rotate().await.error(403, "credential_rotated");
        old.disconnect().await.error(403, "credential_rotated");
        new.beat().await;
    }
}

#[tokio::test]
async fn asking_again_replaces_the_unused_new_one() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (old, other) = (acme.agent("old").await, acme.agent("other").await);
    let lost = old.rotate().await;
    let new = old.rotate().await;
    assert!(!is_alive(&lost, &other).await);
    lost.heartbeat(&json!({})).await.error(403, "credential_rotated");
    // A refused try ends nothing.
    assert!(is_alive(&old, &other).await && is_alive(&new, &other).await);
    new.beat().await;
    assert!(!is_alive(&old, &other).await);
}

#[tokio::test]
async fn of_many_who_ask_at_once_the_last_one_s_credential_and_the_old_one_live() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let (old, other) = (acme.agent("old").await, acme.agent("other").await);
    let asking = (0..10).map(|_| old.rotate());
    let issued = futures_util::future::join_all(asking).await;
    let mut alive = Vec::new();
    for agent in &issued {
        if is_alive(agent, &other).await {
            alive.push(agent);
        }
    }
    assert_eq!(alive.len(), 1);
    assert!(is_alive(&old, &other).await);
    alive[0].beat().await;
    assert!(!is_alive(&old, &other).await);
}

#[tokio::test]
async fn both_credentials_in_one_flush_are_both_answered() {
    let _alone = turn::alone();
    let app = App::one_process(|_| {}).await;
    let acme = app.workspace("acme").await;
    let (old, busy) = (acme.agent("old").await, acme.agent("busy").await);
    old.beat().await;
    let new = old.rotate().await;
    let held = Held::flushes(&app.database.options).await;
    let (moment, says) = (Duration::from_millis(300), [1, 2].map(|depth| json!({"queue_depth": depth})));
    let occupy = busy.beat();
    let both = async {
        sleep(moment).await;
        tokio::join!(old.heartbeat(&says[0]), new.heartbeat(&says[1]), async {
            sleep(moment).await;
            held.let_go().await;
        })
    };
    let ((), (by_old, by_new, ())) = tokio::join!(occupy, both);
    by_old.data(200);
    by_new.data(200);
    assert_eq!(acme.health(old.id).await["queue_depth"], 2, "the younger one speaks for the agent");
    old.heartbeat(&json!({})).await.error(403, "credential_rotated");
    new.beat().await;
}

#[tokio::test]
async fn each_of_the_two_expires_in_its_own_time() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let old = acme.agent("old").await;
    app.time_passes(29 * DAY).await;
    let wish = old.heartbeat(&json!({})).await.data(200);
    assert_eq!(wish["rotate_credential"], true);
    let new = old.rotate().await;
    app.time_passes(2 * DAY).await;
    let expired = old.heartbeat(&json!({})).await.error(403, "credential_expired");
    assert_eq!(expired["action"], "re_enroll");
    old.try_rotate().await.error(403, "credential_expired");
    let accepted = new.heartbeat(&json!({})).await.data(200);
    assert_eq!(accepted["rotate_credential"], false);

    let newest = new.rotate().await;
    app.time_passes(31 * DAY).await;
    for dead in [&new, &newest] {
        dead.heartbeat(&json!({})).await.error(403, "credential_expired");
        dead.try_rotate().await.error(403, "credential_expired");
        dead.disconnect().await.error(403, "credential_expired");
    }
}

#[tokio::test]
async fn a_new_credential_is_wished_for_in_the_last_third_of_its_life() {
    let app = App::start().await;
    let acme = app.workspace("acme").await;
    let agent = acme.agent("ageing").await;
    for (passed, wished) in [(19 * DAY, false), (2 * DAY, true)] {
        app.time_passes(passed).await;
        assert_eq!(agent.heartbeat(&json!({})).await.data(200)["rotate_credential"], wished);
    }
    let new = agent.rotate().await;
    assert_eq!(agent.heartbeat(&json!({})).await.data(200)["rotate_credential"], true, "not yet used");
    assert_eq!(new.heartbeat(&json!({})).await.data(200)["rotate_credential"], false);
}
