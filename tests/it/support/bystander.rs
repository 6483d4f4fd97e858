//! Somebody who registers, enrolls, reads and revokes agents while things break around them, and who
//! remembers what they were told.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use planasonix_wire::AgentId;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    actors::{Agent, Workspace},
    wire::{Line, Reply, request},
};

const PAUSE: Duration = Duration::from_millis(10);

/// At work until stopped.
pub struct Bystander {
    stop: CancellationToken,
    work: JoinHandle<Deeds>,
}

/// An agent whose registration was acknowledged.
struct Made {
    id: AgentId,
    /// Acknowledged.
    credential: Option<String>,
    revoked: Revoked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Revoked {
    No,
    /// The answer never came, or was "outcome unknown".
    Perhaps,
    Yes,
}

/// What was acknowledged, and how long every answer took.
#[derive(Default)]
pub struct Deeds {
    made: Vec<Made>,
    /// When each was asked, how long it took, and whether it was done.
    answers: Vec<(Instant, Duration, bool)>,
    broken: u32,
}

impl Bystander {
    pub fn start(at: SocketAddr, workspace: &Workspace, name: &str) -> Self {
        let stop = CancellationToken::new();
        let hands =
            Hands { at, key: workspace.operator.token.clone().unwrap(), line: None, deeds: Deeds::default() };
        let work = tokio::spawn(hands.work(name.to_owned(), stop.clone()));
        Self { stop, work }
    }

    pub async fn stop(self) -> Deeds {
        self.stop.cancel();
        self.work.await.unwrap()
    }
}

struct Hands {
    at: SocketAddr,
    key: String,
    line: Option<Line>,
    deeds: Deeds,
}

impl Hands {
    async fn work(mut self, name: String, stop: CancellationToken) -> Deeds {
        for number in 0.. {
            if stop.is_cancelled() {
                break;
            }
            self.one_agent(&format!("{name} {number}"), number % 2 == 0).await;
            sleep(PAUSE).await;
        }
        self.deeds
    }

    /// As much of an agent's life as goes well.
    async fn one_agent(&mut self, label: &str, revoke: bool) -> Option<()> {
        let key = self.key.clone();
        let new = json!({"label": label, "platform": "linux"}).to_string();
        let registered = self.ask(&request("POST", "/api/agents", Some(&key), &new)).await?;
        let id = registered["id"].as_str().unwrap().to_owned();
        let place = self.deeds.made.len();
        self.deeds.made.push(Made { id: id.parse().unwrap(), credential: None, revoked: Revoked::No });
        let path = format!("/api/agents/{id}");
        let detail = self.ask(&request("GET", &path, Some(&key), "")).await?;
        assert_eq!(detail["label"], label, "somebody else's answer");

        let token = registered["enrollment_token"].as_str();
        let enrolled = self.ask(&request("POST", "/api/agents/enroll", token, "")).await?;
        assert_eq!(enrolled["agent_id"], id, "somebody else's answer");
        self.deeds.made[place].credential = Some(enrolled["credential"].as_str().unwrap().to_owned());
        if revoke {
            self.deeds.made[place].revoked = Revoked::Perhaps;
            let path = format!("/api/agents/revoke/{id}");
            let revoked = self.ask(&request("POST", &path, Some(&key), "")).await?;
            assert_eq!(revoked["id"], id, "somebody else's answer");
            self.deeds.made[place].revoked = Revoked::Yes;
        }
        Some(())
    }

    /// The answer's data, if it was done.
    async fn ask(&mut self, request: &str) -> Option<Value> {
        let started = Instant::now();
        let Ok(reply) = self.send(request).await else {
            self.deeds.broken += 1;
            return None;
        };
        let answer = reply.json();
        let done = matches!(reply.status, 200 | 201);
        let postponed = reply.status == 503
            && answer["error"]["code"] == "unavailable"
            && reply.header("retry-after").is_some();
        assert!(done || postponed, "{reply:?}");
        self.deeds.answers.push((started, started.elapsed(), done));
        done.then(|| answer["data"].clone())
    }

    async fn send(&mut self, request: &str) -> io::Result<Reply> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => Line::open(self.at).await?,
        };
        let reply = line.ask(request).await?;
        self.line = Some(line);
        Ok(reply)
    }
}

impl Deeds {
    pub fn append(&mut self, mut more: Self) {
        self.made.append(&mut more.made);
        self.answers.append(&mut more.answers);
        self.broken += more.broken;
    }

    pub fn summary(&self) -> String {
        let postponed = self.answers.iter().filter(|(.., done)| !done).count();
        let slowest = self.answers.iter().map(|(_, took, _)| took).max();
        let enrolled = self.made.iter().filter(|made| made.credential.is_some()).count();
        let revoked = self.made.iter().filter(|made| made.revoked == Revoked::Yes);
        format!(
            "acknowledged: {} registered, {enrolled} enrolled, {} revoked; {postponed} postponed, {} broken, slowest {slowest:?}",
            self.made.len(),
            revoked.count(),
            self.broken,
        )
    }

    /// Every request was answered, none took longer than `patience`, and those from `recovered` on were
    /// done.
    pub fn assert_in_time(&self, patience: Duration, recovered: Instant) {
        assert_eq!(self.broken, 0);
        for (started, took, done) in &self.answers {
            assert!(*took < patience, "{took:?}");
            assert!(*done || *started < recovered, "{:?} after", *started - recovered);
        }
        assert!(self.answers.iter().any(|(started, ..)| *started > recovered));
    }

    /// All that was acknowledged stands.
    pub async fn assert_kept(&self, at: SocketAddr, workspace: &Workspace) {
        assert!(self.made.iter().any(|made| made.revoked == Revoked::Yes));
        for made in &self.made {
            let operator = workspace.operator.at(at);
            let detail = operator.get(&format!("/api/agents/{}", made.id)).await.data(200);
            let Some(credential) = &made.credential else {
                continue;
            };
            let me = operator.with_token(credential);
            let agent = Agent { id: made.id, me };
            match made.revoked {
                Revoked::No => agent.beat().await,
                Revoked::Perhaps => {}
                Revoked::Yes => {
                    assert_eq!(detail["status"], "revoked");
                    agent.heartbeat(&json!({})).await.error(403, "agent_revoked");
                }
            }
        }
    }
}
