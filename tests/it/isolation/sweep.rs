//! The sweep itself.

use planasonix::domain::{
    Scope,
    credential::{Agent, ApiKey, Enrollment, Plain},
};
use planasonix_wire::{WorkspaceId, token};
use rand::RngExt;
use serde_json::Value;

use super::{Needs, Route, key, routes, workspace};
use crate::support::{Answer, App, actors::Workspace};

/// One credential of each kind, every one of them good, of one agent and its workspace.
struct Good {
    key: String,
    token: String,
    credential: String,
}

/// A credential that a route must refuse: what it is, what is sent as `Authorization`, the answer.
struct Wrong {
    what: &'static str,
    authorization: Vec<String>,
    status: u16,
    code: &'static str,
}

impl Wrong {
    fn new(what: &'static str, authorization: impl Into<String>, status: u16, code: &'static str) -> Self {
        Self { what, authorization: vec![authorization.into()], status, code }
    }

    fn unknown(what: &'static str, authorization: impl Into<String>) -> Self {
        Self::new(what, authorization, 401, "unauthenticated")
    }
}

/// Of its kind, but nobody's.
const NEVER_ISSUED: &str = "never issued";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The same text but for its last character.
fn mistyped(token: &str) -> String {
    let (rest, last) = token.split_at(token.len() - 1);
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}

/// A well-formed token with the same public id and another secret.
fn forged(token: &str) -> String {
    let (kind, public_id) = token::inspect(token).unwrap();
    let secret = std::array::from_fn(|_| rand::rng().random_range(0..62));
    token::assemble(kind, public_id, &secret)
}

/// What is wrong on any route that needs `good`, whose kind the `others` are not.
fn wrong_by_form(good: &str, others: &[&str]) -> Vec<Wrong> {
    let mut wrong = vec![
        Wrong { authorization: vec![], ..Wrong::unknown("none", "") },
        Wrong { authorization: vec![bearer(good), bearer(good)], ..Wrong::unknown("the same twice", "") },
        Wrong {
            authorization: vec!["Bearer x".to_owned(), bearer(good)],
            ..Wrong::unknown("a bad one before the good", "")
        },
        Wrong::unknown("two in one header", format!("{0}, {0}", bearer(good))),
        Wrong::unknown("empty", ""),
        Wrong::unknown("a scheme alone", "Bearer"),
        Wrong::unknown("nothing behind the scheme", "Bearer "),
        Wrong::unknown("no scheme", good),
        Wrong::unknown("malformed", "Bearer nonsense"),
        Wrong::unknown("a prefix alone", bearer(good.split('_').next().unwrap())),
        Wrong::unknown("cut short", bearer(&good[..good.len() - 1])),
        Wrong::unknown("too long", bearer(&format!("{good}0"))),
        Wrong::unknown("mistyped", bearer(&mistyped(good))),
        Wrong::unknown("upper case", bearer(&good.to_uppercase())),
        Wrong::unknown("quoted", format!("Bearer \"{good}\"")),
    ];
    for scheme in ["Basic", "Token", "Digest", "ApiKey", "Bearer,"] {
        wrong.push(Wrong::unknown("another scheme", format!("{scheme} {good}")));
    }
    wrong.extend(others.iter().map(|other| Wrong::unknown("another kind", bearer(other))));
    wrong
}

/// What is wrong with API keys, whatever the route needs one for.
async fn wrong_keys(app: &App, acme: WorkspaceId, needed: Scope) -> Vec<Wrong> {
    let (revoked, by_revoked) = app.operator(acme, Scope::ALL).await;
    app.revoke_key(revoked).await;
    let (expired, by_expired) = app.operator(acme, Scope::ALL).await;
    app.expire_key(expired).await;
    let other = if needed == Scope::AgentsRead { Scope::AgentsWrite } else { Scope::AgentsRead };
    let (_, by_unfit) = app.operator(acme, &[other]).await;
    let (revoked, expired) = (by_revoked.token.unwrap(), by_expired.token.unwrap());
    let (unfit, never) = (by_unfit.token.unwrap(), ulid::Ulid::from_parts(1, 2));
    let never = Plain::<ApiKey>::generate(&mut rand::rng(), never).reveal();
    vec![
        Wrong::unknown("a revoked key's id with another secret", bearer(&forged(&revoked))),
        Wrong::unknown("an expired key's id with another secret", bearer(&forged(&expired))),
        Wrong::unknown("a good key's id with another secret", bearer(&forged(&unfit))),
        Wrong::unknown("a key that never was", bearer(&never)),
        Wrong::new("revoked", bearer(&revoked), 401, "api_key_revoked"),
        Wrong::new("expired", bearer(&expired), 401, "api_key_expired"),
        Wrong::new("lacking the scope", bearer(&unfit), 403, "insufficient_scope"),
    ]
}

async fn wrong_credentials(app: &App, acme: &Workspace, needs: Needs, good: &Good) -> Vec<Wrong> {
    let Good { key, token, credential } = good;
    let agent = token::inspect(token).unwrap().1;
    let mut wrong = match needs {
        Needs::Nothing => return vec![],
        Needs::Read | Needs::Write | Needs::Admin => wrong_by_form(key, &[token, credential]),
        Needs::Token => wrong_by_form(token, &[key, credential]),
        Needs::Credential => wrong_by_form(credential, &[key, token]),
        Needs::WriteOrSelf => wrong_by_form(key, &[token]),
        Needs::ReadOrToken => wrong_by_form(key, &[credential]),
        Needs::ReadOrOwn => wrong_by_form(key, &[]),
    };
    wrong.extend(match needs {
        Needs::Read | Needs::ReadOrToken | Needs::ReadOrOwn => {
            wrong_keys(app, acme.id, Scope::AgentsRead).await
        }
        Needs::Write | Needs::WriteOrSelf => wrong_keys(app, acme.id, Scope::AgentsWrite).await,
        Needs::Admin => wrong_keys(app, acme.id, Scope::AdminOrganization).await,
        Needs::Nothing | Needs::Token | Needs::Credential => vec![],
    });
    if matches!(needs, Needs::Token | Needs::ReadOrToken | Needs::ReadOrOwn) {
        let forged = Plain::<Enrollment>::generate(&mut rand::rng(), agent).reveal();
        wrong.push(Wrong::new(NEVER_ISSUED, bearer(&forged), 401, "enrollment_token_invalid"));
    }
    if matches!(needs, Needs::Credential | Needs::WriteOrSelf | Needs::ReadOrOwn) {
        let forged = Plain::<Agent>::generate(&mut rand::rng(), agent).reveal();
        wrong.push(Wrong::unknown(NEVER_ISSUED, bearer(&forged)));
    }
    wrong
}

async fn send(app: &App, route: &Route, id: &str, wrong: &Wrong) -> Answer {
    let caller = app.anonymous();
    let request = wrong
        .authorization
        .iter()
        .fold(route.request(&caller, id), |request, value| request.header("authorization", value));
    caller.send(request).await
}

fn assert_refused(route: &Route, wrong: &Wrong, answer: &Answer) {
    let cell = format!("{} × {}: {answer:?}", route.name(), wrong.what);
    assert_eq!(answer.status, wrong.status, "{cell}");
    let error = answer.error(wrong.status, wrong.code);
    let by_agent = route.is_agent() || route.takes_key_or_own() && wrong.what == NEVER_ISSUED;
    let action = if by_agent { Value::from("re_enroll") } else { Value::Null };
    assert_eq!(error["action"], action, "{cell}");
    assert!(route.operation.may_answer(wrong.status, wrong.code), "not in the document: {cell}");
    for sent in &wrong.authorization {
        let token = sent.split(' ').next_back().unwrap();
        assert!(token.len() < 20 || !answer.text.contains(token), "repeats the credential: {cell}");
    }
}

#[tokio::test]
async fn no_route_takes_a_wrong_credential() {
    let app = App::start().await;
    let acme = workspace(&app, "acme").await;
    let (enrolled, waiting) = (acme.agent("enrolled").await, acme.register("waiting").await);
    enrolled.beat().await;
    let (agent, key) = (enrolled.id.to_string(), key(&acme).await);
    let good = Good {
        key: acme.operator.token.clone().unwrap(),
        token: waiting.token.token.clone().unwrap(),
        credential: enrolled.me.token.clone().unwrap(),
    };
    let before = stored(&acme, &agent, &key).await;
    for route in routes() {
        let id = if route.is_about_keys() { &key } else { &agent };
        for wrong in wrong_credentials(&app, &acme, route.needs, &good).await {
            let answer = send(&app, &route, id, &wrong).await;
            assert_refused(&route, &wrong, &answer);
        }
    }
    assert_eq!(stored(&acme, &agent, &key).await, before, "a refused request left a trace");
    waiting.enroll().await;
    enrolled.beat().await;
}

/// All that a refused request could have changed.
async fn stored(acme: &Workspace, agent: &str, key: &str) -> [Value; 5] {
    [
        acme.operator.get("/api/agents").await.data(200),
        acme.operator.get(&format!("/api/agents/{agent}")).await.data(200),
        acme.health(agent.parse().unwrap()).await,
        acme.operator.get(&format!("/api/user/api-keys/{key}")).await.data(200),
        acme.operator.get("/api/agents/events?limit=100").await.data(200),
    ]
}

#[tokio::test]
async fn what_is_public_is_so_with_any_credential() {
    let app = App::start().await;
    for route in routes().iter().filter(|route| route.needs == Needs::Nothing) {
        for wrong in wrong_by_form("plnx_live_", &["plnx_enroll_", "plnx_agent_"]) {
            let answer = send(&app, route, "", &wrong).await;
            assert_eq!(answer.status, 200, "{} × {}", route.name(), wrong.what);
        }
    }
}
