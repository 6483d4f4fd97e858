//! Secrets that no longer work, and a key over its limit, presented as fast as they are refused.

use std::net::{Ipv4Addr, SocketAddr};

use planasonix_wire::AgentId;
use serde_json::{Value, json};

use super::{
    actor::{Act, Actor, Outcome},
    arena::{ATTACKERS, Arena, Check},
    client::{Client, get, post},
    paced::{Paced, Requests},
    rounds::{Plan, Report},
};
use crate::{Result, report};

const CONNECTIONS: u32 = 16;
/// More than a key may send at once.
const ALLOWANCE: u32 = 1_200;
/// Transactions of one allowed request: authentication and data.
const PER_ALLOWED: f64 = 2.0;
const PER_REFUSED_AT_MOST: f64 = 0.05;

/// What is presented.
#[derive(Clone, Copy)]
enum Secret {
    /// A credential of a revoked agent, to be rotated.
    Credential,
    /// The enrollment token of a revoked agent.
    EnrollmentToken,
    /// A key that has used up its allowance.
    SpentKey,
}

pub async fn run(arena: &mut Arena) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, title, secret) in [
        ("dead credential", "a revoked credential asks to be rotated", Secret::Credential),
        ("dead token", "a revoked agent's enrollment token", Secret::EnrollmentToken),
        ("spent key", "a key that has used up its allowance", Secret::SpentKey),
    ] {
        checks.extend(one(arena, Plan { name, title, latency: true }, secret).await?);
    }
    Ok(checks)
}

async fn one(arena: &mut Arena, plan: Plan, secret: Secret) -> Result<Vec<Check>> {
    let mut subject = arena.serve().await?;
    let (address, seconds) = (subject.address, arena.seconds());
    let report = Report::take(arena, &mut subject, plan, async |arena: &mut Arena| {
        let request = secret.request(arena, address).await?;
        Ok(vec![repeat(address, request, seconds, None)])
    })
    .await?;
    subject.stop().await?;
    let mut checks = report.checks();
    let (quiet, attacked) = (&report.quiet, &report.attacked);
    let answered = attacked.attack.iter().map(Outcome::answered).sum::<u64>();
    let allowed = attacked.attack.iter().map(|act| act.count(200) + act.count(404)).sum::<u64>();
    let background = quiet.transactions / quiet.seconds * attacked.seconds;
    let own = attacked.transactions - background - PER_ALLOWED * report::count(allowed);
    let refused = report::count(answered - allowed);
    let each = own.max(0.0) / refused.max(1.0);
    let seen = format!("{each:.3} at {:.0} a second", refused / attacked.seconds);
    let few = refused > 0.0 && each <= PER_REFUSED_AT_MOST;
    checks.push(plan.check("at most 0.05 transactions for a refused request", seen, few));
    Ok(checks)
}

/// Sent on each connection as soon as the last one was answered.
fn repeat(address: SocketAddr, request: String, seconds: f64, most: Option<u64>) -> Act {
    Act::Paced(Paced {
        address,
        sources: ATTACKERS,
        connections: CONNECTIONS,
        requests: Requests::Texts(vec![request]),
        rate: None,
        together: false,
        most,
        seconds,
        hold: false,
    })
}

impl Secret {
    /// Prepares a fresh secret of this kind. Returns the request that presents it.
    async fn request(self, arena: &Arena, address: SocketAddr) -> Result<String> {
        let mut operator = Client::new(address, Ipv4Addr::LOCALHOST);
        match self {
            Self::Credential => {
                let (id, token) = register(&mut operator, &arena.admin).await?;
                let enrolled = operator.data(&post("/api/agents/enroll", &token, "{}"), 200).await?;
                let credential = text(&enrolled, "credential")?;
                revoke(&mut operator, &arena.admin, &id).await?;
                Ok(post(&format!("/api/agents/{id}/credential"), &credential, "{}"))
            }
            Self::EnrollmentToken => {
                let (id, token) = register(&mut operator, &arena.admin).await?;
                revoke(&mut operator, &arena.admin, &id).await?;
                Ok(post("/api/agents/enroll", &token, "{}"))
            }
            Self::SpentKey => {
                let key = arena.attacker_key("agents:read").await?;
                let absent = AgentId::from_uuid(uuid::Uuid::from_u128(1));
                let request = get(&format!("/api/agents/{absent}"), &key);
                let each = u64::from(ALLOWANCE.div_ceil(CONNECTIONS)) + 10;
                let spend = repeat(address, request.clone(), arena.seconds() * 6.0, Some(each));
                Actor::start(&[spend], false).await?.finish().await?;
                Ok(request)
            }
        }
    }
}

/// Registers an agent. Returns its id and enrollment token.
async fn register(operator: &mut Client, admin: &str) -> Result<(String, String)> {
    let body = json!({"label": "bench-dead", "platform": "linux"}).to_string();
    let agent = operator.data(&post("/api/agents", admin, &body), 201).await?;
    Ok((text(&agent, "id")?, text(&agent, "enrollment_token")?))
}

async fn revoke(operator: &mut Client, admin: &str, id: &str) -> Result<()> {
    operator.data(&post(&format!("/api/agents/revoke/{id}"), admin, "{}"), 200).await?;
    Ok(())
}

fn text(data: &Value, field: &str) -> Result<String> {
    let text = data.get(field).and_then(Value::as_str);
    Ok(text.ok_or_else(|| format!("an answer without {field}"))?.to_owned())
}
