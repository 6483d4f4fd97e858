//! The door to one workspace's rows: every statement behind it binds the workspace's id.

use planasonix_wire::WorkspaceId;

use super::{
    Budget, Db, Lane, Turn, agents::Agents, api_keys::ApiKeys, credentials::Credentials, events::Events,
    idempotency::IdempotencyKeys, lane::Loan,
};
use crate::domain::Result;

/// One workspace, on behalf of one request.
#[derive(Clone)]
pub struct Workspace {
    db: Db,
    id: WorkspaceId,
    budget: Budget,
}

impl Workspace {
    pub(super) fn new(db: Db, id: WorkspaceId, budget: Budget) -> Self {
        Self { db, id, budget }
    }

    /// The same workspace with a fresh budget, for an answer that goes on longer than a request may wait.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { budget: Budget::default(), ..self.clone() }
    }

    /// The workspace's id.
    pub fn id(&self) -> WorkspaceId {
        self.id
    }

    /// What is left of the time that the request may wait.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Asks something.
    ///
    /// # Errors
    /// What `work` fails with, or `Unavailable`.
    pub async fn read<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        work: impl FnOnce(Rows) -> F,
    ) -> Result<T> {
        let turn = Turn::Workspace(self.id);
        self.db.reads().run_for(turn, name, &self.budget, |loan| work(self.rows(loan))).await
    }

    /// Changes something, in one transaction.
    ///
    /// # Errors
    /// What `work` fails with (nothing is changed then), or `Unavailable`.
    pub async fn write<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        work: impl Fn(Rows) -> F,
    ) -> Result<T> {
        self.change(self.db.writes(), name, work).await
    }

    /// Bars an agent, in one transaction on a lane that nothing else uses.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn bar<T, F: Future<Output = Result<T>>>(
        &self,
        name: &'static str,
        work: impl Fn(Rows) -> F,
    ) -> Result<T> {
        self.change(self.db.barring(), name, work).await
    }

    async fn change<T, F: Future<Output = Result<T>>>(
        &self,
        lane: &Lane,
        name: &'static str,
        work: impl Fn(Rows) -> F,
    ) -> Result<T> {
        let turn = Turn::Workspace(self.id);
        lane.transaction_for(turn, name, &self.budget, |loan| work(self.rows(loan))).await
    }

    fn rows(&self, connection: Loan) -> Rows {
        Rows { connection, workspace: self.id }
    }
}

/// A connection that sees one workspace. Dropping it gives the connection back.
pub struct Rows {
    connection: Loan,
    workspace: WorkspaceId,
}

impl Rows {
    /// The workspace's agents.
    pub fn agents(&mut self) -> Agents<'_> {
        Agents { connection: &mut self.connection, workspace: self.workspace }
    }

    /// What its agents authenticate with.
    pub fn credentials(&mut self) -> Credentials<'_> {
        Credentials { connection: &mut self.connection, workspace: self.workspace }
    }

    /// Its audit trail.
    pub fn events(&mut self) -> Events<'_> {
        Events { connection: &mut self.connection, workspace: self.workspace }
    }

    /// Its idempotency keys of one route.
    pub fn idempotency_keys(&mut self, route: &'static str) -> IdempotencyKeys<'_> {
        IdempotencyKeys { connection: &mut self.connection, workspace: self.workspace, route }
    }

    /// Its API keys.
    pub fn api_keys(&mut self) -> ApiKeys<'_> {
        ApiKeys { connection: &mut self.connection, workspace: self.workspace }
    }
}
