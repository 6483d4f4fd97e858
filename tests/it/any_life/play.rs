//! A sequence, played against the server and the model at once.

mod compare;

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use planasonix::domain::agent::ReenablePolicy;
use planasonix_wire::AgentId;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::Method;
use serde_json::{Value, json};

use super::state::{Issued, KEY_CONFLICT, REVOKED, Refusal, World};
use crate::support::{Answer, App, actors::Workspace};

/// How long a replica may go by what it remembers of a dead credential.
const REMEMBERED: Duration = Duration::from_secs(31);
const REVOKED_REMEMBERED: Duration = Duration::from_millis(1_500);
const SECONDS: [u64; 6] = [30, 3 * 60, 11 * 60, 6 * 3_600, 9 * 86_400, 21 * 86_400];
const KEYS: [Option<&str>; 3] = [None, Some("one"), Some("other")];

/// Somebody else, whose path shows what a credential is worth and changes nothing.
pub struct Stage<'a> {
    pub app: &'a App,
    pub slug: String,
    pub workspace: Workspace,
    pub bystander: AgentId,
}

/// The server's side of a sequence: what it handed out, in the model's order.
pub struct Play<'a> {
    stage: &'a Stage<'a>,
    seed: u64,
    rng: StdRng,
    world: World,
    policy: ReenablePolicy,
    agents: Vec<AgentId>,
    credentials: Vec<String>,
    tokens: Vec<String>,
    remembered: Vec<Vec<(Refusal, Instant)>>,
    story: String,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Register,
    RegisterAgain,
    RegisterOther,
    Enroll,
    Beat,
    Rotate,
    Disconnect,
    DeleteItself,
    Drain,
    Resume,
    Revoke,
    Enable,
    Reissue,
    Delete,
    TimePasses,
    Policy,
}

const DEEDS: [(Deed, u32); 16] = [
    (Deed::Register, 1),
    (Deed::RegisterAgain, 4),
    (Deed::RegisterOther, 1),
    (Deed::Enroll, 16),
    (Deed::Beat, 22),
    (Deed::Rotate, 12),
    (Deed::Disconnect, 5),
    (Deed::DeleteItself, 1),
    (Deed::Drain, 3),
    (Deed::Resume, 2),
    (Deed::Revoke, 7),
    (Deed::Enable, 10),
    (Deed::Reissue, 4),
    (Deed::Delete, 1),
    (Deed::TimePasses, 12),
    (Deed::Policy, 3),
];

impl<'a> Play<'a> {
    pub fn new(stage: &'a Stage<'a>, seed: u64) -> Self {
        Self {
            stage,
            seed,
            rng: StdRng::seed_from_u64(seed),
            world: World::default(),
            policy: ReenablePolicy::Enrollment,
            agents: Vec::new(),
            credentials: Vec::new(),
            tokens: Vec::new(),
            remembered: Vec::new(),
            story: String::new(),
        }
    }

    /// Plays it; the most credentials that were alive at once.
    pub async fn run(mut self, steps: usize) -> usize {
        self.stage.app.reenable_by(&self.stage.slug, self.policy).await;
        let mut most = 0;
        for step in 0..steps {
            let deed = match step {
                0 => Deed::Register,
                _ => DEEDS.choose_weighted(&mut self.rng, |(_, weight)| *weight).unwrap().0,
            };
            let _ = write!(self.story, "\n{step}: {deed:?}");
            self.act(deed).await;
            most = most.max(self.compare().await);
        }
        self.tidy_up().await;
        most
    }

    async fn act(&mut self, deed: Deed) {
        let agent = self.newest();
        match deed {
            Deed::Register => self.register().await,
            Deed::RegisterAgain => {
                let again = self.rng.random_range(0..self.agents.len());
                self.register_again(again).await;
            }
            Deed::RegisterOther => self.register_other(agent).await,
            Deed::Enroll => self.enroll().await,
            Deed::Beat => self.beat().await,
            Deed::Rotate => self.rotate().await,
            Deed::Disconnect => self.disconnect().await,
            Deed::DeleteItself => self.delete_itself().await,
            Deed::Drain | Deed::Resume => self.drain(agent, matches!(deed, Deed::Drain)).await,
            Deed::Revoke => self.revoke(agent).await,
            Deed::Enable => self.enable(agent).await,
            Deed::Reissue => self.reissue(agent).await,
            Deed::Delete => self.delete(agent).await,
            Deed::TimePasses => self.time_passes().await,
            Deed::Policy => self.change_policy().await,
        }
    }

    fn newest(&self) -> usize {
        self.agents.len().saturating_sub(1)
    }

    /// The newest of them as a rule: what is long dead has little to tell.
    fn some(&mut self, all: usize) -> Option<usize> {
        let back = if self.rng.random_bool(0.5) { self.rng.random_range(0..3) } else { 0 };
        let any = self.rng.random_range(0..all.max(1));
        if self.rng.random_bool(0.15) { all.checked_sub(1 + any) } else { all.checked_sub(1 + back) }
    }

    async fn ask(&self, method: Method, path: &str, token: Option<&str>, key: Option<&str>) -> Answer {
        let operator = &self.stage.workspace.operator;
        let caller = token.map_or_else(|| operator.clone(), |token| operator.with_token(token));
        let request = caller.request(method, path);
        let request = match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        };
        caller.send(request).await
    }

    async fn operate(&self, method: Method, path: &str) -> Answer {
        self.ask(method, path, None, None).await
    }

    fn key_of(&self, place: usize) -> String {
        format!("{} {place}", self.seed)
    }

    async fn send_registration(&self, place: usize, label: &str) -> Answer {
        let operator = &self.stage.workspace.operator;
        let body = json!({"label": label, "platform": "linux"});
        let request = operator.request(Method::POST, "/api/agents").json(&body);
        operator.send(request.header("Idempotency-Key", self.key_of(place))).await
    }

    /// The same registration once more, while its key stands for it.
    async fn register_again(&mut self, again: usize) {
        if self.world.key_holds(again) {
            let _ = write!(self.story, " {again}");
            let answer = self.send_registration(again, "model").await;
            let expected = self.world.register_again(again);
            if let Some((data, issued)) = self.agree(&answer, 201, expected) {
                assert_eq!(text(&data["id"]), self.agents[again].to_string(), "{}", self.told());
                self.keep(&data, &issued);
            }
        }
    }

    async fn register(&mut self) {
        let answer = self.send_registration(self.agents.len(), "model").await;
        self.world.register();
        if let Some((data, ())) = self.agree(&answer, 201, Ok(())) {
            self.agents.push(text(&data["id"]).parse().unwrap());
            self.keep(&data, &Issued::Token);
        }
    }

    async fn register_other(&mut self, agent: usize) {
        if self.world.key_holds(agent) {
            let answer = self.send_registration(agent, "another").await;
            self.agree::<()>(&answer, 201, Err(KEY_CONFLICT));
        }
    }

    async fn enroll(&mut self) {
        let Some(token) = self.some(self.tokens.len()) else { return };
        let key = *KEYS.choose(&mut self.rng).unwrap();
        let _ = write!(self.story, " token {token} key {key:?}");
        let answer = self.ask(Method::POST, "/api/agents/enroll", Some(&self.tokens[token]), key).await;
        let expected = self.world.enroll(token, key);
        if let Some((data, ())) = self.agree(&answer, 200, expected) {
            let agent = &self.world.agents[self.world.tokens[token].agent];
            assert_eq!((&data["status"], &data["draining"]), (&json!("active"), &json!(agent.draining)));
            self.keep(&data, &Issued::Credential);
        }
    }

    /// A credential, its agent's path, and its place.
    fn some_credential(&mut self) -> Option<(usize, String, String)> {
        let place = self.some(self.credentials.len())?;
        let _ = write!(self.story, " credential {place}");
        let agent = self.agents[self.world.credentials[place].agent];
        Some((place, format!("/api/agents/{agent}"), self.credentials[place].clone()))
    }

    async fn beat(&mut self) {
        let Some((place, path, token)) = self.some_credential() else { return };
        let answer = self.ask(Method::POST, &format!("{path}/heartbeat"), Some(&token), None).await;
        let expected = self.world.beat(place).map_err(|truth| self.told_from_memory(place, truth, &answer));
        if let Some((data, agent)) = self.agree(&answer, 200, expected) {
            assert_eq!(data["accepts_work"], !self.world.agents[agent].draining, "{}", self.told());
            assert_eq!(data["rotate_credential"], self.world.is_to_rotate(place), "{}", self.told());
        }
    }

    /// A beat may be refused by what some replica learned a moment ago of the same dead credential.
    fn told_from_memory(&mut self, place: usize, truth: Refusal, answer: &Answer) -> Refusal {
        let code = answer.json()["error"]["code"].clone();
        let remembered = &mut self.remembered[place];
        let mut fresh = remembered.iter().filter(|(told, since)| since.elapsed() < lifetime(*told));
        if let Some((told, _)) = fresh.find(|(told, _)| code == told.1) {
            return *told;
        }
        remembered.push((truth, Instant::now()));
        truth
    }

    async fn rotate(&mut self) {
        let Some((place, path, token)) = self.some_credential() else { return };
        let answer = self.ask(Method::POST, &format!("{path}/credential"), Some(&token), None).await;
        let expected = self.world.rotate(place);
        if let Some((data, ())) = self.agree(&answer, 200, expected) {
            self.keep(&data, &Issued::Credential);
        }
    }

    async fn disconnect(&mut self) {
        let Some((place, path, token)) = self.some_credential() else { return };
        let answer = self.ask(Method::POST, &format!("{path}/disconnect"), Some(&token), None).await;
        let expected = self.world.disconnect(place);
        self.agree(&answer, 204, expected);
    }

    async fn delete_itself(&mut self) {
        let Some((place, path, token)) = self.some_credential() else { return };
        let answer = self.ask(Method::DELETE, &path, Some(&token), None).await;
        let expected = self.world.use_credential(place).map(|agent| self.world.delete(agent).unwrap());
        self.agree(&answer, 204, expected);
    }

    async fn drain(&mut self, agent: usize, draining: bool) {
        let verb = if draining { "drain" } else { "resume" };
        let answer = self.operate(Method::POST, &format!("/api/agents/{verb}/{}", self.agents[agent])).await;
        let expected = self.world.drain(agent, draining);
        if let Some((data, ())) = self.agree(&answer, 200, expected) {
            assert_eq!(data["draining"], draining, "{}", self.told());
        }
    }

    async fn revoke(&mut self, agent: usize) {
        let answer = self.operate(Method::POST, &format!("/api/agents/revoke/{}", self.agents[agent])).await;
        let expected = self.world.revoke(agent);
        self.agree(&answer, 200, expected);
    }

    async fn enable(&mut self, agent: usize) {
        let answer = self.operate(Method::POST, &format!("/api/agents/enable/{}", self.agents[agent])).await;
        let expected = self.world.enable(agent, self.policy);
        if let Some((data, issued)) = self.agree(&answer, 200, expected) {
            self.keep(&data, &issued);
        }
    }

    async fn reissue(&mut self, agent: usize) {
        let path = format!("/api/agents/{}/enrollment-token", self.agents[agent]);
        let answer = self.operate(Method::POST, &path).await;
        let expected = self.world.reissue(agent);
        if let Some((data, ())) = self.agree(&answer, 200, expected) {
            self.keep(&data, &Issued::Token);
        }
    }

    async fn delete(&mut self, agent: usize) {
        let answer = self.operate(Method::DELETE, &format!("/api/agents/{}", self.agents[agent])).await;
        let expected = self.world.delete(agent);
        self.agree(&answer, 204, expected);
    }

    async fn time_passes(&mut self) {
        let time = Duration::from_secs(*SECONDS.choose(&mut self.rng).unwrap());
        let _ = write!(self.story, " {time:?}");
        self.stage.app.time_passes_for(&self.agents, time).await;
        self.world.time_passes(time);
    }

    async fn change_policy(&mut self) {
        self.policy = match self.policy {
            ReenablePolicy::Enrollment => ReenablePolicy::Rotation,
            ReenablePolicy::Rotation => ReenablePolicy::Enrollment,
        };
        self.stage.app.reenable_by(&self.stage.slug, self.policy).await;
    }

    async fn tidy_up(&self) {
        for agent in &self.agents {
            self.operate(Method::DELETE, &format!("/api/agents/{agent}")).await;
        }
    }

    fn told(&self) -> String {
        format!("\nseed {}:{}\n{:#?}", self.seed, self.story, self.world)
    }
}

fn lifetime(refusal: Refusal) -> Duration {
    if refusal == REVOKED { REVOKED_REMEMBERED } else { REMEMBERED }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
