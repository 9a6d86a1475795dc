//! `/agents`

use abide_model::{Agent, AgentChanges, AgentId, JsonObject};
use reqwest::Method;
use serde::Serialize;

use crate::{Client, Error};

impl Client {
    /// Registers an agent.
    pub async fn create_agent(
        &self,
        name: &str,
        agent_type: &str,
        configuration: Option<&JsonObject>,
    ) -> Result<Agent, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            name: &'a str,
            agent_type: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            configuration: Option<&'a JsonObject>,
        }
        let body = Body {
            name,
            agent_type,
            configuration,
        };
        self.json("agent", self.request(Method::POST, &["agents"]).json(&body))
            .await
    }

    /// Agents, newest first.
    pub async fn list_agents(&self, limit: u32) -> Result<Vec<Agent>, Error> {
        let request = self
            .request(Method::GET, &["agents"])
            .query(&[("limit", limit)]);
        self.json("agents", request).await
    }

    /// One agent.
    pub async fn agent(&self, id: AgentId) -> Result<Agent, Error> {
        self.json(
            "agent",
            self.request(Method::GET, &["agents", &id.to_string()]),
        )
        .await
    }

    /// Changes an agent.
    pub async fn update_agent(&self, id: AgentId, changes: &AgentChanges) -> Result<Agent, Error> {
        let request = self
            .request(Method::PATCH, &["agents", &id.to_string()])
            .json(changes);
        self.json("agent", request).await
    }

    /// Deletes an agent that owns no sessions.
    pub async fn delete_agent(&self, id: AgentId) -> Result<(), Error> {
        self.discard(self.request(Method::DELETE, &["agents", &id.to_string()]))
            .await
    }
}
