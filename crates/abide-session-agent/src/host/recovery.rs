//! What the agent does with the sessions it finds when it starts.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use abide_model::{Exit, SessionId, StepOutcome};
use tracing::{info, warn};

use super::{Hosted, SessionHost};
use crate::agent::Adoption;
use crate::ledger::{Ledger, Unfinished};
use crate::recorder::Recorder;
use crate::worker::{Acceptance, LEFT_NOTHING};

impl SessionHost {
    /// Takes over every interpreter that a session has, ends every other, and concludes steps
    /// whose interpreter left nothing behind. Call it once, before serving.
    pub async fn recover(self: &Arc<Self>) -> std::io::Result<()> {
        let mut known = HashSet::new();
        for entry in std::fs::read_dir(&self.config.sessions_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| SessionId::parse(name).ok()) else {
                continue;
            };
            let Some(ledger) = self.open(&entry.path()) else {
                continue;
            };
            let record = ledger.record();
            // Without the interpreter that it is to have nobody was told that it is registered.
            if record.terminating || (record.worker.is_none() && !record.bare) {
                // Not known: what is left of its interpreter is ended below.
                self.remove_files(&ledger).await;
                continue;
            }
            known.extend(record.workers());
            self.adopt(id, &ledger).await;
            self.adopt_terminals(id, &ledger).await;
            let hosted = Hosted::new(id);
            let _ = hosted.ledger.set(ledger);
            self.sessions.lock().insert(id, Arc::new(hosted));
        }
        let sessions = self.sessions.lock().len();
        info!(sessions, workers = known.len(), "recovered");
        self.agent.open(&known);
        Ok(())
    }

    fn open(&self, dir: &Path) -> Option<Arc<Ledger>> {
        match Ledger::open(
            dir.to_owned(),
            Arc::clone(&self.news),
            Arc::clone(&self.metrics),
        ) {
            Ok(ledger) => Some(ledger),
            // Killed before its first record was there: nobody was told of it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                crate::ledger::remove_dir(dir);
                None
            }
            Err(error) => {
                warn!(dir = %dir.display(), %error, "leaving a session aside");
                None
            }
        }
    }

    async fn adopt(self: &Arc<Self>, id: SessionId, ledger: &Arc<Ledger>) {
        let record = ledger.record();
        let unfinished = ledger.unfinished();
        let Some(worker) = record.worker.filter(|_| record.exit.is_none()) else {
            // The interpreter had ended, and the agent died before it could say so for these.
            conclude_lost(ledger, &unfinished).await;
            return;
        };
        let adoption = Adoption {
            worker,
            session: id,
            runtime: record.runtime,
            workspace: record.workspace,
            unfinished: unfinished.iter().map(|it| (*it.step).clone()).collect(),
        };
        let recorder: Arc<dyn Recorder> = Arc::clone(ledger) as _;
        match self.agent.adopt(adoption, Arc::clone(&recorder)) {
            Ok(worker) => {
                for step in unfinished {
                    self.limit_queueing(&worker, &step);
                }
            }
            Err(error) => {
                warn!(session_id = %ledger.label, %error, "journal is gone");
                conclude_lost(ledger, &unfinished).await;
                let exit = Exit {
                    reason: format!("its keeper and journal are gone: {error}"),
                    ..Exit::default()
                };
                let recorded = recorder.worker_exited(id, worker, exit, true).await;
                if let Err(error) = recorded {
                    warn!(session_id = %ledger.label, %error, "cannot record its end");
                }
            }
        }
    }
}

async fn conclude_lost(ledger: &Arc<Ledger>, steps: &[Unfinished]) {
    for unfinished in steps {
        let outcome = StepOutcome::lost(unfinished.step.id, LEFT_NOTHING);
        let step = Arc::clone(&unfinished.step);
        let recorded = ledger
            .step_finished(step, Acceptance::Recorded, Arc::new(outcome))
            .await;
        if let Err(error) = recorded {
            warn!(step_id = %unfinished.step.id, %error, "cannot record a lost step");
        }
    }
}
