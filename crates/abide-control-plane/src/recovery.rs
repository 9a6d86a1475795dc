//! What the server does with the workers it finds when it starts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use abide_model::{Exit, NewStep, SessionId, StepOutcome, StepStatus, Timestamp};
use abide_session_agent::{Acceptance, Adoption, Recorder};
use abide_store::StoreError;
use tracing::{info, warn};

use crate::service::ControlPlane;

impl ControlPlane {
    /// Takes over every worker the records name, ends every one they do not, and concludes
    /// steps whose worker left nothing behind. Call it once, before serving.
    pub async fn recover(&self) -> Result<(), StoreError> {
        let mut unfinished: HashMap<SessionId, Vec<NewStep>> = HashMap::new();
        for step in self.store.unfinished_steps(None).await? {
            let step = step.step;
            unfinished.entry(step.session_id).or_default().push(step);
        }
        let recorder: Arc<dyn Recorder> = self.recorder.clone();
        for worker in self.store.running_workers().await? {
            let Some(session) = self.store.session(worker.session_id).await? else {
                continue;
            };
            let adoption = Adoption {
                worker: worker.id,
                session: session.id,
                runtime: worker.runtime,
                workspace: session.workspace.path.into(),
                unfinished: unfinished.remove(&session.id).unwrap_or_default(),
            };
            let steps = adoption.unfinished.clone();
            if let Err(error) = self.agent.adopt(adoption, Arc::clone(&recorder)) {
                warn!(worker = %worker.id, session = %session.id, %error, "journal is gone");
                for step in steps {
                    self.conclude_lost(step).await;
                }
                let reason = format!("its keeper and journal are gone: {error}");
                let exit = Exit {
                    reason: reason.clone(),
                    ..Exit::default()
                };
                self.store.worker_crashed(worker.id, exit, reason).await?;
            }
        }
        // The worker had ended and the server died before it could say so for these.
        for step in unfinished.into_values().flatten() {
            self.conclude_lost(step).await;
        }
        // Dead workers keep their journals for readers until their session is deleted.
        let known: HashSet<_> = self.store.worker_ids().await?.into_iter().collect();
        info!(workers = known.len(), "recovered");
        self.agent.open(&known);
        Ok(())
    }

    async fn conclude_lost(&self, step: NewStep) {
        let outcome = StepOutcome {
            id: step.id,
            status: StepStatus::Lost,
            stdout: Default::default(),
            stderr: Default::default(),
            result: None,
            error: Some(abide_model::StepError {
                kind: "Lost".to_owned(),
                message: "nobody saw how the step ended: its worker left nothing behind".to_owned(),
                traceback: String::new(),
            }),
            exit: None,
            started_at: None,
            finished_at: Timestamp::now(),
            output_start: 0,
            output_end: 0,
            worker: None,
        };
        let (id, step) = (step.id, Arc::new(step));
        let ended = self
            .recorder
            .step_finished(step, Acceptance::Recorded, Arc::new(outcome));
        if let Err(error) = ended.await {
            warn!(step = %id, %error, "cannot record a lost step");
        }
    }
}
