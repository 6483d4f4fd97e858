//! API keys: what a valid one looks like.

use planasonix_wire::api_key::{CreateApiKey, Scope};

use super::invalid::{Checks, Invalid};

const NAME_CHARS: usize = 255;
const MOST_DAYS: i64 = 36_500;

/// A valid key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its name for people.
    pub name: String,
    /// What it may do, at least one, without duplicates.
    pub scopes: Vec<Scope>,
    /// In how many days it ends; `None` is never.
    pub expires_in_days: Option<i32>,
}

impl TryFrom<CreateApiKey> for NewKey {
    type Error = Invalid;

    fn try_from(body: CreateApiKey) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        match &body.name {
            Some(name) => checks.text("name", name, 1..=NAME_CHARS),
            None => checks.fail("name", "required", "is required"),
        }
        let scopes = scopes(&mut checks, body.scopes.unwrap_or_default());
        if let Some(days) = body.expires_in_days {
            checks.range("expires_in_days", days, 1..=MOST_DAYS);
        }
        checks.finish()?;
        let expires_in_days = body.expires_in_days.and_then(|days| i32::try_from(days).ok());
        Ok(Self { name: body.name.unwrap_or_default(), scopes, expires_in_days })
    }
}

fn scopes(checks: &mut Checks, names: Vec<String>) -> Vec<Scope> {
    if names.is_empty() {
        checks.fail("scopes", "required", "must name at least one scope");
    }
    let mut scopes = Vec::new();
    for (nth, name) in names.iter().enumerate() {
        let scope =
            checks.name(&format!("scopes[{nth}]"), name, "agents:read, agents:write, admin:organization");
        scopes.extend(scope.filter(|scope| !scopes.contains(scope)));
    }
    scopes
}
