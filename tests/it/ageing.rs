//! Agents that fall silent, watched by two processes at once.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use crate::support::{
    actors::{Agent, Workspace},
    ask::eventually,
    process::{Pair, Server},
    rows::{self, Held},
    storm::{self, heartbeat},
    turn,
    wire::Line,
};

const WINDOW: Duration = Duration::from_secs(4);
const FLAGS: [&str; 4] = ["--connected-window", "4", "--heartbeat-interval", "1"];
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_silent_agent_leaves_connected_within_a_second_of_the_window_and_is_recorded_once() {
    let _alone = turn::alone();
    let pair = Pair::start(&FLAGS).await;
    let agents = storm::agents(&pair.acme, 40).await;
    let faithful = &agents[0];
    let first = Instant::now();
    for agent in &agents {
        agent.beat().await;
    }
    let last = Instant::now();
    let _faithful = beating(faithful);
    sleep_until((first + 3 * SECOND).into()).await;
    for server in &pair.servers {
        // Only what was asked before the window of the first was over can be held to this.
        let connected = at(server, &pair.acme).connected().await;
        assert!(first.elapsed() > WINDOW || connected.len() == agents.len());
    }

    sleep_until((last + WINDOW + SECOND).into()).await;
    for server in &pair.servers {
        let acme = at(server, &pair.acme);
        assert_eq!(acme.connected().await, [faithful.id.to_string()]);
        assert_eq!(acme.health(agents[1].id).await["status"], "offline");
        assert_eq!(acme.health(faithful.id).await["status"], "healthy");
    }
    eventually(async || {
        let trails = rows::trails(&pair.database.options).await;
        agents[1..].iter().all(|agent| trails[&agent.id].len() > 3).then_some(())
    })
    .await;
    // Time for either process to record what the other has recorded.
    sleep(SECOND).await;
    let trails = rows::trails(&pair.database.options).await;
    for agent in &agents[1..] {
        let trail: Vec<_> =
            trails[&agent.id].iter().map(|(kind, reason)| (kind.as_str(), reason.as_deref())).collect();
        assert_eq!(trail[2..], [("connected", None), ("disconnected", Some("missed_heartbeats"))]);
    }
    assert_eq!(trails[&faithful.id].len(), 3, "{:?}", trails[&faithful.id]);
}

/// An agent that beats on, until the answer is dropped.
fn beating(agent: &Agent) -> JoinSet<()> {
    let (agent, mut task) = (agent.clone(), JoinSet::new());
    task.spawn(async move {
        loop {
            agent.heartbeat(&json!({})).await;
            sleep(SECOND / 2).await;
        }
    });
    task
}

fn at(server: &Server, workspace: &Workspace) -> Workspace {
    Workspace { id: workspace.id, operator: workspace.operator.at(server.address) }
}

#[tokio::test]
async fn an_agent_that_is_back_before_the_task_ran_leaves_and_comes_in_order() {
    let _alone = turn::alone();
    let pair = Pair::start(&FLAGS).await;
    let agents = storm::agents(&pair.acme, 20).await;
    let ageing = Held::ageing(&pair.database.options).await;
    for agent in &agents {
        agent.beat().await;
    }
    sleep(WINDOW + SECOND).await;
    assert!(pair.acme.connected().await.is_empty(), "who is connected does not wait for the task");
    assert_eq!(pair.acme.health(agents[0].id).await["status"], "offline");
    for agent in &agents {
        at_both(&pair, agent).await;
    }
    ageing.let_go().await;
    sleep(SECOND).await;
    let trails = rows::trails(&pair.database.options).await;
    let distinct: HashSet<Vec<_>> = agents
        .iter()
        .map(|agent| trails[&agent.id].iter().map(|(kind, _)| kind.as_str()).collect())
        .collect();
    let expected = vec!["registered", "enrolled", "connected", "disconnected", "connected"];
    assert_eq!(distinct, HashSet::from([expected]));
    let rows = pair.acme.operator.get("/api/agents/connected").await.data(200);
    assert_eq!(rows.as_array().unwrap().len(), agents.len());
}

/// Beats at both servers at once: one of them notes that the agent was away.
async fn at_both(pair: &Pair, agent: &Agent) {
    let [here, there] = pair.servers.each_ref().map(|server| agent.at(server.address));
    let nothing = json!({});
    let (first, second) = tokio::join!(here.heartbeat(&nothing), there.heartbeat(&nothing));
    first.data(200);
    second.data(200);
}

/// Each comes back at the very moment at which the task finds it silent, again and again.
#[tokio::test]
async fn coming_back_as_the_task_runs_reads_in_order() {
    let _alone = turn::alone();
    let pair = Pair::start(&FLAGS).await;
    let agents = storm::agents(&pair.acme, 300).await;
    let mut returning = JoinSet::new();
    for (agent, number) in agents.iter().cloned().zip(0..) {
        let server = pair.servers[number % 2].address;
        let late = Duration::from_micros(1_300) * u32::try_from(number).unwrap();
        returning.spawn(async move {
            let mut line = Line::open(server).await.unwrap();
            for round in 0..3 {
                storm::insist(&mut line, &heartbeat(&agent, round)).await;
                sleep(WINDOW + late).await;
            }
        });
    }
    returning.join_all().await;
    let trails = rows::trails(&pair.database.options).await;
    let mut returned = 0;
    for agent in &agents {
        let trail: Vec<_> = trails[&agent.id][2..].iter().map(|(kind, _)| kind.as_str()).collect();
        for pair in trail.windows(2) {
            assert_ne!(pair[0], pair[1], "{trail:?}");
        }
        assert_eq!(trail[0], "connected", "{trail:?}");
        returned += trail.len();
    }
    assert!(returned > agents.len() * 4, "hardly anybody was away");
}
