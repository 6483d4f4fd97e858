//! The lifecycle in memory, as the contract tells it.

use std::time::Duration;

use planasonix::domain::agent::ReenablePolicy;

const DAY: u64 = 86_400;
const CREDENTIAL_LIFE: u64 = 30 * DAY;
const TOKEN_LIFE: u64 = 5 * 3_600;
const REPEATABLE: u64 = 600;
const WINDOW: u64 = 120;

/// How a refusal is told: status, code, and to agents, what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub u16, pub &'static str, pub Option<&'static str>);

pub const UNKNOWN: Refusal = Refusal(401, "unauthenticated", Some("re_enroll"));
pub const REVOKED: Refusal = Refusal(403, "agent_revoked", Some("stop"));
const ROTATED: Refusal = Refusal(403, "credential_rotated", Some("re_enroll"));
const EXPIRED: Refusal = Refusal(403, "credential_expired", Some("re_enroll"));
const TOKEN_INVALID: Refusal = Refusal(401, "enrollment_token_invalid", Some("re_enroll"));
const TOKEN_EXPIRED: Refusal = Refusal(401, "enrollment_token_expired", Some("re_enroll"));
const TOKEN_USED: Refusal = Refusal(401, "enrollment_token_used", Some("re_enroll"));
const ABSENT: Refusal = Refusal(404, "agent_not_found", None);
const NOT_REVOKED: Refusal = Refusal(409, "agent_not_revoked", None);
const NOT_PENDING: Refusal = Refusal(409, "agent_not_pending", None);
const IS_REVOKED: Refusal = Refusal(409, "agent_is_revoked", None);
pub const KEY_CONFLICT: Refusal = Refusal(409, "idempotency_conflict", None);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Pending,
    Active,
    Revoked,
    Gone,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Agent {
    pub status: Status,
    pub draining: bool,
    registered: u64,
    first_pending: bool,
    enrolled: bool,
    current: Option<usize>,
    next: Option<usize>,
    seen: Option<u64>,
    open: bool,
}

/// A credential that was ever issued.
#[derive(Debug)]
pub struct Credential {
    pub agent: usize,
    expires: u64,
    retired: bool,
    used: bool,
}

/// An enrollment token that was ever issued.
#[derive(Debug)]
pub struct Token {
    pub agent: usize,
    expires: u64,
    superseded: bool,
    used: Option<Use>,
}

#[derive(Debug)]
struct Use {
    at: u64,
    key: Option<&'static str>,
    credential: usize,
}

/// What enabling an agent, or registering it once more, hands out.
#[derive(Debug, PartialEq, Eq)]
pub enum Issued {
    Token,
    Credential,
    Nothing,
}

/// All agents of a sequence, with all that they ever held. Time is in seconds.
#[derive(Debug, Default)]
pub struct World {
    pub now: u64,
    pub agents: Vec<Agent>,
    pub credentials: Vec<Credential>,
    pub tokens: Vec<Token>,
}

impl World {
    pub fn time_passes(&mut self, time: Duration) {
        self.now += time.as_secs();
    }

    pub fn register(&mut self) {
        self.agents.push(Agent {
            status: Status::Pending,
            draining: false,
            registered: self.now,
            first_pending: true,
            enrolled: false,
            current: None,
            next: None,
            seen: None,
            open: false,
        });
        self.issue_token(self.agents.len() - 1);
    }

    /// Whether its registration's key still stands for it.
    pub fn key_holds(&self, agent: usize) -> bool {
        self.now - self.agents[agent].registered < DAY
    }

    pub fn register_again(&mut self, agent: usize) -> Result<Issued, Refusal> {
        match &self.agents[agent] {
            Agent { status: Status::Gone, .. } => Err(KEY_CONFLICT),
            Agent { first_pending: true, .. } => {
                self.issue_token(agent);
                Ok(Issued::Token)
            }
            _ => Ok(Issued::Nothing),
        }
    }

    pub fn reissue(&mut self, agent: usize) -> Result<(), Refusal> {
        match self.agents[agent].status {
            Status::Gone => Err(ABSENT),
            Status::Active => Err(NOT_PENDING),
            Status::Revoked => Err(IS_REVOKED),
            Status::Pending => {
                self.issue_token(agent);
                Ok(())
            }
        }
    }

    pub fn enroll(&mut self, token: usize, key: Option<&'static str>) -> Result<(), Refusal> {
        let presented = &self.tokens[token];
        let agent = &self.agents[presented.agent];
        match (agent.status, &presented.used) {
            (Status::Gone, _) => return Err(TOKEN_INVALID),
            (Status::Revoked, _) => return Err(REVOKED),
            (Status::Active, Some(used)) if self.is_repeatable(agent, used, key) => {}
            (_, Some(_)) => return Err(TOKEN_USED),
            _ if presented.superseded => return Err(TOKEN_INVALID),
            _ if presented.expires <= self.now => return Err(TOKEN_EXPIRED),
            _ => {}
        }
        let (at, agent) = (presented.used.as_ref().map_or(self.now, |used| used.at), presented.agent);
        self.retire_all(agent);
        let credential = self.issue_credential(agent);
        self.tokens[token].used = Some(Use { at, key, credential });
        let agent = &mut self.agents[agent];
        (agent.status, agent.first_pending, agent.enrolled) = (Status::Active, false, true);
        (agent.current, agent.next, agent.seen, agent.open) = (Some(credential), None, None, false);
        Ok(())
    }

    fn is_repeatable(&self, agent: &Agent, used: &Use, key: Option<&str>) -> bool {
        key.is_some()
            && used.key == key
            && self.now - used.at < REPEATABLE
            && agent.current == Some(used.credential)
            && agent.next.is_none()
            && !self.credentials[used.credential].used
    }

    pub fn revoke(&mut self, agent: usize) -> Result<(), Refusal> {
        match self.agents[agent].status {
            Status::Gone => return Err(ABSENT),
            Status::Revoked => return Ok(()),
            _ => {}
        }
        self.retire_all(agent);
        self.supersede_tokens(agent);
        let agent = &mut self.agents[agent];
        (agent.status, agent.first_pending, agent.open) = (Status::Revoked, false, false);
        (agent.current, agent.next) = (None, None);
        Ok(())
    }

    pub fn enable(&mut self, agent: usize, policy: ReenablePolicy) -> Result<Issued, Refusal> {
        match self.agents[agent].status {
            Status::Gone => Err(ABSENT),
            Status::Pending | Status::Active => Err(NOT_REVOKED),
            Status::Revoked if policy == ReenablePolicy::Rotation && self.agents[agent].enrolled => {
                let credential = self.issue_credential(agent);
                let agent = &mut self.agents[agent];
                (agent.status, agent.current) = (Status::Active, Some(credential));
                Ok(Issued::Credential)
            }
            Status::Revoked => {
                self.issue_token(agent);
                self.agents[agent].status = Status::Pending;
                Ok(Issued::Token)
            }
        }
    }

    pub fn drain(&mut self, agent: usize, draining: bool) -> Result<(), Refusal> {
        match self.agents[agent].status {
            Status::Gone => Err(ABSENT),
            Status::Revoked => Err(IS_REVOKED),
            Status::Pending | Status::Active => {
                self.agents[agent].draining = draining;
                Ok(())
            }
        }
    }

    pub fn delete(&mut self, agent: usize) -> Result<(), Refusal> {
        if self.agents[agent].status == Status::Gone {
            return Err(ABSENT);
        }
        self.agents[agent].status = Status::Gone;
        Ok(())
    }

    /// What a credential is worth, tried by nobody.
    pub fn fate(&self, credential: usize) -> Result<(), Refusal> {
        let held = &self.credentials[credential];
        match self.agents[held.agent].status {
            Status::Gone => Err(UNKNOWN),
            Status::Revoked => Err(REVOKED),
            _ if held.retired => Err(ROTATED),
            _ if held.expires <= self.now => Err(EXPIRED),
            _ => Ok(()),
        }
    }

    /// A request under a credential; its first one ends the credential before it.
    pub fn use_credential(&mut self, credential: usize) -> Result<usize, Refusal> {
        self.fate(credential)?;
        let held = self.credentials[credential].agent;
        let agent = &mut self.agents[held];
        if agent.next == Some(credential) {
            let before = agent.current.replace(credential);
            agent.next = None;
            self.retire(before);
        }
        self.credentials[credential].used = true;
        Ok(held)
    }

    pub fn beat(&mut self, credential: usize) -> Result<usize, Refusal> {
        let agent = self.use_credential(credential)?;
        (self.agents[agent].seen, self.agents[agent].open) = (Some(self.now), true);
        Ok(agent)
    }

    /// Whether a beat is answered with the wish for a new credential.
    pub fn is_to_rotate(&self, credential: usize) -> bool {
        self.now >= self.credentials[credential].expires - CREDENTIAL_LIFE / 3
    }

    pub fn rotate(&mut self, credential: usize) -> Result<(), Refusal> {
        let agent = self.use_credential(credential)?;
        let unused = self.agents[agent].next.take();
        self.retire(unused);
        self.agents[agent].next = Some(self.issue_credential(agent));
        Ok(())
    }

    pub fn disconnect(&mut self, credential: usize) -> Result<(), Refusal> {
        let agent = self.use_credential(credential)?;
        self.agents[agent].open = false;
        Ok(())
    }

    pub fn is_connected(&self, agent: usize) -> bool {
        let agent = &self.agents[agent];
        agent.status == Status::Active && agent.open && agent.seen.is_some_and(|at| self.now - at < WINDOW)
    }

    pub fn health(&self, agent: usize) -> &'static str {
        match (self.agents[agent].status, self.agents[agent].seen) {
            (Status::Revoked, _) => "revoked",
            (Status::Pending, _) | (_, None) => "unknown",
            _ if self.is_connected(agent) => "healthy",
            _ => "offline",
        }
    }

    fn issue_token(&mut self, agent: usize) {
        self.supersede_tokens(agent);
        let expires = self.now + TOKEN_LIFE;
        self.tokens.push(Token { agent, expires, superseded: false, used: None });
    }

    fn issue_credential(&mut self, agent: usize) -> usize {
        let expires = self.now + CREDENTIAL_LIFE;
        self.credentials.push(Credential { agent, expires, retired: false, used: false });
        self.credentials.len() - 1
    }

    fn supersede_tokens(&mut self, agent: usize) {
        for token in self.tokens.iter_mut().filter(|token| token.agent == agent && token.used.is_none()) {
            token.superseded = true;
        }
    }

    fn retire(&mut self, credential: Option<usize>) {
        if let Some(credential) = credential {
            self.credentials[credential].retired = true;
        }
    }

    fn retire_all(&mut self, agent: usize) {
        for credential in self.credentials.iter_mut().filter(|credential| credential.agent == agent) {
            credential.retired = true;
        }
    }
}
