//! Many agents that beat at once, and a record of what each was told and when.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use planasonix_wire::AgentId;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    actors::{Agent, PendingAgent, Workspace},
    ask::eventually,
    wire::{Line, Reply, request},
};

/// One beat as its sender saw it.
#[derive(Debug, Clone)]
pub struct Beat {
    pub agent: AgentId,
    /// Before the request's first byte was sent.
    pub started: Instant,
    pub took: Duration,
    /// The `active_jobs` that it told, which count an agent's beats in this storm.
    pub jobs: i32,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, at this time on the database's clock.
    Accepted(DateTime<Utc>),
    Refused {
        status: u16,
        code: String,
        retry_after: bool,
        action: Option<String>,
    },
    /// The connection failed.
    Broken,
}

impl Beat {
    pub fn accepted_at(&self) -> Option<DateTime<Utc>> {
        match self.outcome {
            Outcome::Accepted(at) => Some(at),
            _ => None,
        }
    }

    /// Whether nobody knows what became of it.
    pub fn is_lost(&self) -> bool {
        self.outcome == Outcome::Broken
    }

    /// Whether it was turned away with this code.
    pub fn was_told(&self, wanted: &str) -> bool {
        matches!(&self.outcome, Outcome::Refused { code, .. } if code == wanted)
    }

    /// A 503 as it must be.
    pub fn was_postponed(&self) -> bool {
        let Outcome::Refused { status: 503, code, retry_after: true, action: Some(action) } = &self.outcome
        else {
            return false;
        };
        code == "unavailable" && action == "retry"
    }
}

/// Agents that beat until told to stop, each on a connection of its own, one beat after another.
pub struct Storm {
    stop: CancellationToken,
    agents: JoinSet<Vec<Beat>>,
}

impl Storm {
    /// `pause` lies between an answer and the agent's next beat. `first` is the first beat's `active_jobs`.
    pub fn start(agents: &[Agent], at: SocketAddr, pause: Duration, first: i32) -> Self {
        let stop = CancellationToken::new();
        let count = u32::try_from(agents.len()).unwrap();
        let mut tasks = JoinSet::new();
        for (agent, place) in agents.iter().zip(0..) {
            let (agent, stop, delay) = (agent.clone(), stop.clone(), pause * place / count);
            tasks.spawn(async move {
                sleep(delay).await;
                beat_until(stop, &agent, at, pause, first).await
            });
        }
        Self { stop, agents: tasks }
    }

    /// Ends it; every beat that anybody sent.
    pub async fn stop(self) -> Vec<Beat> {
        self.stop.cancel();
        self.agents.join_all().await.concat()
    }
}

async fn beat_until(
    stop: CancellationToken,
    agent: &Agent,
    at: SocketAddr,
    pause: Duration,
    first: i32,
) -> Vec<Beat> {
    let (mut line, mut beats) = (None, Vec::new());
    for jobs in first.. {
        if stop.is_cancelled() {
            break;
        }
        let (started, beat) = (Instant::now(), heartbeat(agent, jobs));
        let outcome = send(&mut line, at, &beat).await;
        beats.push(Beat { agent: agent.id, started, took: started.elapsed(), jobs, outcome });
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    beats
}

/// A beat's bytes. Its texts come and go, so that the slow fields are written in the storm too.
pub fn heartbeat(agent: &Agent, jobs: i32) -> String {
    let last_error = (jobs % 8 == 7).then_some("disk");
    let body = json!({"active_jobs": jobs, "version": "2.14.3", "last_error": last_error});
    let path = format!("/api/agents/{}/heartbeat", agent.id);
    request("POST", &path, agent.me.token.as_deref(), &body.to_string())
}

async fn send(line: &mut Option<Line>, at: SocketAddr, beat: &str) -> Outcome {
    let open = match line.take() {
        Some(open) => Ok(open),
        None => Line::open(at).await,
    };
    let Ok(mut open) = open else {
        return Outcome::Broken;
    };
    let Ok(reply) = open.ask(beat).await else {
        return Outcome::Broken;
    };
    *line = Some(open);
    outcome(&reply)
}

/// Sends a beat until it is accepted: a machine under load may answer 503, which asks for it again.
pub async fn insist(line: &mut Line, beat: &str) {
    for _ in 0..20 {
        let reply = line.ask(beat).await.unwrap();
        match reply.status {
            200 => return,
            503 => sleep(Duration::from_millis(100)).await,
            _ => panic!("{reply:?}"),
        }
    }
    panic!("20 beats, none accepted");
}

fn outcome(reply: &Reply) -> Outcome {
    let Ok(answer) = serde_json::from_slice::<Value>(&reply.body) else {
        // A proxy's own page.
        return Outcome::Broken;
    };
    if reply.status == 200 {
        return Outcome::Accepted(answer["data"]["server_time"].as_str().unwrap().parse().unwrap());
    }
    Outcome::Refused {
        status: reply.status,
        code: answer["error"]["code"].as_str().unwrap().to_owned(),
        retry_after: reply.header("retry-after").is_some(),
        action: answer["error"]["action"].as_str().map(ToOwned::to_owned),
    }
}

/// Registers this many agents, once the operator's key is verified: on a busy machine that takes longer than one request
/// may, and is remembered.
pub async fn pending(workspace: &Workspace, many: usize) -> Vec<PendingAgent> {
    let verified = async || workspace.operator.get("/api/agents?limit=1").await.status == 200;
    eventually(async || verified().await.then_some(())).await;
    stream::iter(0..many)
        .map(async |number| workspace.register(&format!("storm {number}")).await)
        .buffer_unordered(8)
        .collect()
        .await
}

/// Registers and enrolls this many agents.
pub async fn agents(workspace: &Workspace, many: usize) -> Vec<Agent> {
    stream::iter(pending(workspace, many).await)
        .map(async |agent| agent.enroll().await)
        .buffer_unordered(8)
        .collect()
        .await
}
