//! The agent registry.

use abide_model::{Agent, AgentId, JsonObject, NewAgent};

use super::{ControlPlane, Outcome, store_problem};

/// The agent that owns sessions whose creator names none.
const DEFAULT_AGENT: &str = "default";

impl ControlPlane {
    /// Registers an agent with a DID of its own.
    pub(crate) async fn create_agent(&self, agent: NewAgent) -> Outcome<Agent> {
        self.store.create_agent(agent).await.map_err(store_problem)
    }

    /// The owner of sessions that name none; registered on first use.
    pub(crate) async fn default_agent(&self) -> Outcome<AgentId> {
        self.agent_named(DEFAULT_AGENT).await
    }

    /// The agent of this name, registered if it is not there.
    pub(crate) async fn agent_named(&self, name: &str) -> Outcome<AgentId> {
        let agent = new_agent(AgentId::new(), name);
        self.store
            .ensure_agent(agent)
            .await
            .map(|agent| agent.id)
            .map_err(store_problem)
    }
}

/// An agent with nothing but a name.
pub(crate) fn new_agent(id: AgentId, name: &str) -> NewAgent {
    NewAgent {
        id,
        did: did(name),
        name: name.to_owned(),
        agent_type: "general".to_owned(),
        configuration: JsonObject::empty(),
        metadata: JsonObject::empty(),
        resource_limits: JsonObject::empty(),
    }
}

/// `did:agent:{name}:{8 hex digits}`, as the session service makes it.
pub(crate) fn did(name: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("did:agent:{name}:{}", &random[..8])
}
