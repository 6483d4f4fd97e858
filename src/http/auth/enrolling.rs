//! The holder of an enrollment token, who trades it for a credential.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{Extensions, request::Parts},
};

use super::{Presented, presented_by, reject};
use crate::{
    db::Budget,
    domain::{
        Error,
        agent::EnrollmentFacts,
        credential::{Enrollment, Plain},
    },
    enrollment::Enrolled,
    http::{
        App,
        error::Problem,
        extract::RemoteIp,
        limits::{Claim, Owner, Purpose},
    },
};

/// The holder of an enrollment token, by its form. Whether the token is any good is decided when it is used.
pub struct Enrolling {
    token: Arc<Plain<Enrollment>>,
    address: IpAddr,
    request: Extensions,
}

impl Enrolling {
    /// Trades the token for a credential, under the limits of its agent and of its holder's address. A token that is
    /// not good is found out without a lock; a good one is charged to its agent under the lock that uses it up, so
    /// that the losers of a race are not charged.
    ///
    /// # Errors
    /// Those of [`crate::enrollment::Lives::find_enrollment`] and [`crate::enrollment::Lives::enroll`], and
    /// [`Error::RateLimited`].
    pub async fn enroll(
        &self,
        app: &App,
        facts: &EnrollmentFacts,
        key: Option<&str>,
    ) -> Result<Enrolled, Error> {
        let (budget, token) = (Budget::default(), self.token.hashed());
        let claim = Claim {
            address: self.address,
            digest: *token.as_bytes(),
            purpose: Purpose::enroll(key),
            request: &self.request,
            budget: &budget,
        };
        let (workspace, agent) = app
            .limits
            .admit_uncharged(claim, async |turn| {
                let (workspace, agent) =
                    app.lives.find_enrollment(&app.db, token, key, turn, &budget).await?;
                Ok((Owner::Agent(agent, workspace.id()), (workspace, agent)))
            })
            .await?;
        let admit = |agent| app.limits.charge_agent(agent);
        let enrolled = app.lives.enroll(&workspace, agent, token, facts, key, admit).await;
        enrolled.map_err(|error| app.limits.turned_down(claim, error))
    }
}

impl FromRequestParts<App> for Enrolling {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let RemoteIp(address) = RemoteIp::of(parts, app);
        match presented_by(parts) {
            Presented::Enrollment(token) => Ok(Self { token, address, request: Extensions::new() }),
            _ => Err(reject(parts, app).into()),
        }
    }
}
