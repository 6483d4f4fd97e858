//! Revoke racing everything that hands out secrets, over two processes: nothing that was issued before
//! enable's answer authenticates afterwards. `REVOKE_ROUNDS` sets how often.

use std::time::{Duration, Instant};

use planasonix::domain::agent::ReenablePolicy;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{
    Answer,
    actors::{Agent, Caller, PendingAgent, Workspace},
    ask::for_each,
    process::Pair,
};

const ROUNDS: usize = 200;
const AT_ONCE: usize = 4;

/// A round's agent and all secrets that anybody was given on the way.
struct Round<'a> {
    pair: &'a Pair,
    acme: &'a Workspace,
    agent: PendingAgent,
    number: usize,
    active: bool,
}

#[derive(Default)]
struct Secrets {
    tokens: Vec<String>,
    credentials: Vec<String>,
}

impl Secrets {
    /// Keeps what an answer holds. Anything but "outcome unknown" must be one that such a race may have.
    fn keep(&mut self, answer: &Answer) {
        let status = answer.status.as_u16();
        assert!(matches!(status, 200 | 201 | 401 | 403 | 409 | 503), "{answer:?}");
        let data = answer.json()["data"].clone();
        self.tokens.extend(data["enrollment_token"].as_str().map(str::to_owned));
        self.credentials.extend(data["credential"].as_str().map(str::to_owned));
    }
}

impl Round<'_> {
    fn at(&self, place: usize, token: &Caller) -> Caller {
        token.at(self.pair.servers[(self.number + place) % 2].address)
    }

    async fn play(&self) -> bool {
        let mut secrets = Secrets::default();
        secrets.tokens.push(self.agent.token.token.clone().unwrap());
        if self.active {
            let first = self.agent.enroll().await;
            first.beat().await;
            secrets.credentials.push(first.rotate().await.me.token.unwrap());
            secrets.credentials.push(first.me.token.unwrap());
        }
        let path = format!("/api/agents/revoke/{}", self.agent.id);
        let revoker = self.at(0, &self.acme.operator);
        let (revoked, enabled, others) =
            tokio::join!(insist(&revoker, Method::POST, &path, None), self.enable(), self.others(&secrets));
        revoked.data(200);
        for answer in &others {
            secrets.keep(answer);
        }
        self.assert_dead(&secrets).await;
        self.assert_alive(&enabled).await;
        others.iter().any(|answer| answer.status == 200)
    }

    /// Enables it, on the other server, as soon as it is revoked; asks again meanwhile.
    async fn enable(&self) -> Value {
        let path = format!("/api/agents/enable/{}", self.agent.id);
        let operator = self.at(1, &self.acme.operator);
        let began = Instant::now();
        loop {
            let twice = [self.at(0, &operator), operator.clone()];
            let [one, other] = futures_util::future::join_all(twice.iter().map(|by| by.post_nothing(&path)))
                .await
                .try_into()
                .unwrap();
            let done: Vec<_> = [&one, &other].into_iter().filter(|answer| answer.status == 200).collect();
            assert!(done.len() < 2, "both enabled it: {done:?}");
            if let Some(done) = done.first() {
                return done.data(200);
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{one:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// All that hands out secrets, at both servers at once, and a moment later once more.
    async fn others(&self, secrets: &Secrets) -> Vec<Answer> {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let asking = (0..2).flat_map(|place| {
                let enroll = secrets.tokens.iter().map(move |token| (place, "enroll".to_owned(), token));
                let rotate = format!("{}/credential", self.agent.id);
                let rotations =
                    secrets.credentials.iter().map(move |credential| (place, rotate.clone(), credential));
                enroll.chain(rotations)
            });
            let asked = asking.map(|(place, route, token)| async move {
                let caller = self.at(place, &self.acme.operator).with_token(token);
                let request = caller.request(Method::POST, &format!("/api/agents/{route}"));
                caller.send(request.header("Idempotency-Key", "the same")).await
            });
            let registered = async {
                let body = json!({"label": self.label(), "platform": "linux"});
                let request = self.acme.operator.request(Method::POST, "/api/agents").json(&body);
                self.acme.operator.send(request.header("Idempotency-Key", self.label())).await
            };
            let (asked, registered) = tokio::join!(futures_util::future::join_all(asked), registered);
            answers.extend(asked);
            answers.push(registered);
        }
        answers
    }

    fn label(&self) -> String {
        format!("contested {}", self.number)
    }

    /// Whatever was in somebody's hands before enable's answer is worth nothing, on either server.
    async fn assert_dead(&self, secrets: &Secrets) {
        for place in 0..2 {
            for credential in &secrets.credentials {
                let me = self.at(place, &self.acme.operator).with_token(credential);
                let agent = Agent { id: self.agent.id, me };
                for route in ["heartbeat", "credential"] {
                    let path = format!("{}/{route}", agent.path());
                    let refused = insist(&agent.me, Method::POST, &path, None).await;
                    let code = refused.json()["error"]["code"].clone();
                    let told =
                        refused.status == 403 && (code == "credential_rotated" || code == "agent_revoked");
                    assert!(told, "{refused:?}");
                }
            }
            for token in &secrets.tokens {
                let caller = self.at(place, &self.acme.operator).with_token(token);
                for key in ["the same", "another"] {
                    let refused = insist(&caller, Method::POST, "/api/agents/enroll", Some(key)).await;
                    assert_eq!(refused.status, 401, "{refused:?}");
                }
                for path in ["manual-install/{}", "installer/{}/linux"] {
                    let path = format!("/api/agents/{}", path.replace("{}", &self.agent.id.to_string()));
                    let refused = insist(&caller, Method::GET, &path, None).await;
                    assert_eq!(refused.status, 401, "{refused:?}");
                }
            }
        }
    }

    /// What enable handed out works.
    async fn assert_alive(&self, enabled: &Value) {
        let operator = self.at(1, &self.acme.operator);
        let agent = if let Some(credential) = enabled["credential"].as_str() {
            Agent { id: self.agent.id, me: operator.with_token(credential) }
        } else {
            let token = operator.with_token(enabled["enrollment_token"].as_str().unwrap());
            PendingAgent { id: self.agent.id, token }.enroll().await
        };
        agent.beat().await;
    }
}

/// Asks until there is an answer: a busy machine may say 503, after which the same may be asked again.
async fn insist(caller: &Caller, method: Method, path: &str, key: Option<&str>) -> Answer {
    for _ in 0..20 {
        let request = caller.request(method.clone(), path);
        let answer =
            caller.send(key.into_iter().fold(request, |r, key| r.header("Idempotency-Key", key))).await;
        if answer.status != 503 {
            return answer;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("20 times 503 from {path}");
}

/// Registers under an idempotency key, so that the race may ask again for what it said.
async fn register(acme: &Workspace, number: usize) -> PendingAgent {
    let label = format!("contested {number}");
    let request = acme.operator.request(Method::POST, "/api/agents");
    let request = request.json(&json!({"label": label, "platform": "linux"}));
    let registered = acme.operator.send(request.header("Idempotency-Key", label)).await.data(201);
    let token = acme.operator.with_token(registered["enrollment_token"].as_str().unwrap());
    PendingAgent { id: registered["id"].as_str().unwrap().parse().unwrap(), token }
}

#[tokio::test]
async fn nothing_that_was_issued_before_enable_s_answer_authenticates_afterwards() {
    let rounds = std::env::var("REVOKE_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let pair = Pair::start(&[]).await;
    let rotating = pair.servers[1].workspace(&pair.database.options, "rotating").await;
    pair.reenable_by("rotating", ReenablePolicy::Rotation).await;
    let began = Instant::now();
    let contested = for_each(0..rounds, AT_ONCE, |number| {
        let (pair, acme) = (&pair, if number % 2 == 0 { &pair.acme } else { &rotating });
        async move {
            let agent = register(acme, number).await;
            Round { pair, acme, agent, number, active: number % 4 < 2 }.play().await
        }
    })
    .await;
    let contested = contested.into_iter().filter(|contested| *contested).count();
    println!(
        "{rounds} rounds in {:?}; in {contested} somebody was given a credential meanwhile",
        began.elapsed()
    );
    assert!(contested > rounds / 20, "revoke met nobody");
}
