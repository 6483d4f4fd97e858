//! No secret is ever in a log line or in clear in the database: a whole life of a server that logs all it
//! can, and then a search for every secret that was issued.

use planasonix_wire::{
    AgentId,
    token::{SECRET_CHARS, inspect},
};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{
    Answer,
    actors::Caller,
    database::Database,
    http,
    program::{Program, Running},
};

/// A server that logs all it can, and every secret that it gave out.
struct Watched {
    database: Database,
    server: Running,
    secrets: Vec<String>,
}

impl Watched {
    async fn start() -> Self {
        let database = Database::create().await;
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--log-format", "json"];
        let server = Program::new(&arguments)
            .variable("DATABASE_URL", &database.url())
            .variable("RUST_LOG", "trace")
            .start()
            .until_serving();
        Self { database, server, secrets: Vec::new() }
    }

    fn command(&self, arguments: &[&str]) -> String {
        let program = Program::new(arguments).variable("PLANASONIX_LOG", "trace");
        let ended = program.variable("DATABASE_URL", &self.database.url()).run();
        assert!(ended.status.success(), "{ended:?}");
        assert_holds_none(&ended.stderr, &self.secrets);
        ended.stdout
    }

    fn key(&mut self, scope: &str) -> Caller {
        let command = ["api-key", "create", "--workspace", "acme", "--name", "x", "--json", "--scope", scope];
        let key: Value = serde_json::from_str(&self.command(&command)).unwrap();
        self.holder(&key["secret"])
    }

    /// Somebody with a secret that must never show up again.
    fn holder(&mut self, secret: &Value) -> Caller {
        let secret = secret.as_str().unwrap().to_owned();
        inspect(&secret).unwrap();
        self.secrets.push(secret.clone());
        Caller {
            http: http::client(),
            base: format!("http://{}", self.server.address()),
            token: Some(secret),
        }
    }
}

/// Neither a whole secret nor its secret part.
#[track_caller]
fn assert_holds_none(text: &str, secrets: &[String]) {
    for secret in secrets {
        let (public, part) = secret.rsplit_once('_').unwrap();
        let line = text.lines().find(|line| line.contains(&part[..SECRET_CHARS]));
        assert_eq!(line, None, "a secret of {public}");
    }
}

/// An answer that carries a secret, which nobody on the way may keep.
#[track_caller]
fn shown_once(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    answer.data(status)
}

#[tokio::test]
async fn no_secret_is_logged_or_stored_in_clear() {
    let mut watched = Watched::start().await;
    watched.command(&["workspace", "create", "--slug", "acme", "--name", "Acme"]);
    let id = a_whole_life(&mut watched).await;

    let Watched { database, server, secrets } = watched;
    assert_eq!(secrets.len(), 6);
    let (dump, ended) = (database.dump(), server.stop());
    assert!(dump.contains(&id.uuid().to_string()), "the dump holds the agent");
    assert!(ended.stderr.contains("\"answered\""), "the log speaks of requests");
    for text in [&dump, &ended.stdout, &ended.stderr] {
        assert_holds_none(text, &secrets);
    }
}

async fn a_whole_life(watched: &mut Watched) -> AgentId {
    let (operator, reader) = (watched.key("admin:organization"), watched.key("agents:read"));
    let new = json!({"label": "agent", "platform": "linux"});
    let registered = shown_once(&operator.post("/api/agents", &new).await, 201);
    let id = registered["id"].as_str().unwrap();
    let (heartbeat, enroll) = (format!("/api/agents/{id}/heartbeat"), "/api/agents/enroll");
    let about = async |verb: &str| operator.post_nothing(&format!("/api/agents/{verb}")).await;

    let replaced = watched.holder(&registered["enrollment_token"]);
    let reissued = shown_once(&about(&format!("{id}/enrollment-token")).await, 200);
    let token = watched.holder(&reissued["enrollment_token"]);
    replaced.post_nothing(enroll).await.error(401, "enrollment_token_invalid");
    let enrolled = shown_once(&token.post_nothing(enroll).await, 200);
    let agent = watched.holder(&enrolled["credential"]);
    agent.post(&heartbeat, &json!({"version": "1"})).await.data(200);

    misuse(&[&operator, &reader, &token, &agent], &heartbeat).await;
    about(&format!("revoke/{id}")).await.data(200);
    agent.post(&heartbeat, &json!({})).await.error(403, "agent_revoked");
    let enabled = shown_once(&about(&format!("enable/{id}")).await, 200);
    watched.holder(&enabled["enrollment_token"]);
    id.parse().unwrap()
}

/// Sends good secrets where they do not belong: other routes, other headers, the query.
async fn misuse(holders: &[&Caller], heartbeat: &str) {
    for holder in holders {
        let secret = holder.token.as_deref().unwrap();
        let stranger = Caller { token: None, ..(*holder).clone() };
        let ask = |path: &str| stranger.request(reqwest::Method::POST, path);
        let carriers: [fn(RequestBuilder, &str) -> RequestBuilder; 6] = [
            |request, secret| request.bearer_auth(secret),
            |request, secret| request.bearer_auth(format!("{secret}x")),
            |request, secret| request.header("authorization", format!("Basic {secret}")),
            |request, secret| request.header("x-planasonix-api-key", secret),
            |request, secret| {
                request.header("x-planasonix-key", secret).bearer_auth(secret).bearer_auth(secret)
            },
            |request, secret| request.header("x-api-key", secret).header("cookie", secret),
        ];
        for path in ["/api/agents", "/api/agents/revoke/nonsense", "/nowhere", "/livez"] {
            for carry in carriers {
                let refused = stranger.send(carry(ask(path), secret)).await;
                assert!(refused.status.is_client_error() && !refused.text.contains(secret), "{refused:?}");
            }
        }
        let refused = stranger.send(ask(&format!("{heartbeat}?token={secret}"))).await;
        refused.error(401, "unauthenticated");
        assert!(!refused.text.contains(secret));
    }
}
