//! What the server says beside what the model expects.

use reqwest::Method;
use serde_json::Value;

use super::{Play, text};
use crate::{
    any_life::state::{Issued, Refusal, Status},
    support::Answer,
};

impl Play<'_> {
    /// Compares an answer with what the model expects.
    pub(super) fn agree<T>(
        &self,
        answer: &Answer,
        good: u16,
        expected: Result<T, Refusal>,
    ) -> Option<(Value, T)> {
        match expected {
            Ok(more) => {
                assert_eq!(answer.status, good, "expected {good}, got {answer:?}{}", self.told());
                let data = if good == 204 { Value::Null } else { answer.json()["data"].clone() };
                Some((data, more))
            }
            Err(Refusal(status, code, action)) => {
                let error = answer.json()["error"].clone();
                let got = (answer.status.as_u16(), text(&error["code"]), error["action"].as_str());
                assert_eq!(got, (status, code, action), "{}", self.told());
                None
            }
        }
    }

    /// Keeps the secret that an answer holds, where the model expects it to hold one.
    pub(super) fn keep(&mut self, data: &Value, issued: &Issued) {
        match issued {
            Issued::Token => self.tokens.push(text(&data["enrollment_token"]).to_owned()),
            Issued::Credential => {
                self.credentials.push(text(&data["credential"]).to_owned());
                self.remembered.push(Vec::new());
            }
            Issued::Nothing => assert_eq!(data["enrollment_token"], Value::Null, "{}", self.told()),
        }
        let known = (self.tokens.len(), self.credentials.len());
        assert_eq!(known, (self.world.tokens.len(), self.world.credentials.len()), "{}", self.told());
    }

    /// All that can be seen without changing it. Tells how many credentials of the newest agent live.
    pub(super) async fn compare(&self) -> usize {
        let newest = self.newest();
        let path = format!("/api/agents/{}", self.agents[newest]);
        let (detail, health) = (
            self.operate(Method::GET, &path).await,
            self.operate(Method::GET, &format!("{path}/health")).await,
        );
        let model = &self.world.agents[newest];
        if model.status == Status::Gone {
            let absent = Err::<(), _>(Refusal(404, "agent_not_found", None));
            assert!(self.agree(&detail, 200, absent).is_none() && self.agree(&health, 200, absent).is_none());
        } else {
            let (detail, health) = (detail.data(200), health.data(200));
            let status = format!("{:?}", model.status).to_lowercase();
            assert_eq!(text(&detail["status"]), status, "{}", self.told());
            assert_eq!(detail["draining"], model.draining, "{}", self.told());
            assert_eq!(text(&health["status"]), self.world.health(newest), "{}", self.told());
        }
        let connected = self.stage.workspace.connected().await;
        assert_eq!(
            connected.contains(&self.agents[newest].to_string()),
            self.world.is_connected(newest),
            "{}",
            self.told()
        );
        self.compare_credentials(newest).await
    }

    /// On another agent's path a good credential is told so and not used.
    async fn compare_credentials(&self, newest: usize) -> usize {
        let path = format!("/api/agents/{}/credential", self.stage.bystander);
        let mut alive = 0;
        for (place, token) in self.credentials.iter().enumerate() {
            let answer = self.ask(Method::POST, &path, Some(token), None).await;
            let fate = self.world.fate(place);
            let live = fate.is_ok();
            let told = fate.err().unwrap_or(Refusal(404, "agent_not_found", Some("stop")));
            self.agree::<()>(&answer, 200, Err(told));
            alive += usize::from(live && self.world.credentials[place].agent == newest);
        }
        let most = if self.world.agents[newest].status == Status::Active { 2 } else { 0 };
        assert!(alive <= most, "{alive} alive{}", self.told());
        alive
    }
}
