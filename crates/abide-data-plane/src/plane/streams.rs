//! Steps for callers who wait, and for callers who follow.

use std::sync::Arc;

use abide_model::{Problem, ProblemCode};
use tokio::sync::mpsc;

use super::DataPlane;
use super::steps::{StepReply, StepRequest, Want};
use crate::link::FrameLine;

/// Frames that may wait for a slow reader; then the session agent waits, and so does the program.
const WAITING_FRAMES: usize = 16;

/// What a follower of a step gets.
#[derive(Debug)]
pub enum StepItem {
    /// The runtime has it; comes first, once.
    Accepted,
    /// `started`, output or a gap.
    Line(FrameLine),
    /// The end, last.
    Ended(FrameLine),
    /// There will be no end; last.
    Failed(Box<Problem>),
}

/// See [`DataPlane::follow_step`].
pub type StepItems = mpsc::Receiver<StepItem>;

/// Where frames go. An error: nobody wants more of them.
pub(super) trait StepSink: Send {
    /// The runtime has the step; may be called again.
    fn accepted(&mut self) -> impl Future<Output = Result<(), Problem>> + Send;
    /// Anything but the end.
    fn line(&mut self, line: FrameLine) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// For callers who want the end alone.
struct Nowhere;

impl StepSink for Nowhere {
    async fn accepted(&mut self) -> Result<(), Problem> {
        Ok(())
    }

    async fn line(&mut self, _: FrameLine) -> Result<(), Problem> {
        Ok(())
    }
}

struct Follower {
    items: mpsc::Sender<StepItem>,
    told: bool,
}

impl Follower {
    async fn give(&self, item: StepItem) -> Result<(), Problem> {
        let gone = |_| Problem::new(ProblemCode::Internal, "nobody follows the step any more");
        self.items.send(item).await.map_err(gone)
    }
}

impl StepSink for Follower {
    async fn accepted(&mut self) -> Result<(), Problem> {
        if std::mem::replace(&mut self.told, true) {
            return Ok(());
        }
        self.give(StepItem::Accepted).await
    }

    async fn line(&mut self, line: FrameLine) -> Result<(), Problem> {
        self.give(StepItem::Line(line)).await
    }
}

impl DataPlane {
    /// Runs a step and answers when it ended, or was accepted if `wait` is false. Whoever stops
    /// waiting leaves the step as it is.
    ///
    /// # Errors
    /// See [`crate::routing::Verdict`].
    pub async fn run_step(&self, request: &StepRequest, wait: bool) -> Result<StepReply, Problem> {
        let want = if wait { Want::End } else { Want::Acceptance };
        self.drive(request, want, &mut Nowhere).await
    }

    /// Runs a step and gives its frames as they come. A follower who is slow holds the program
    /// back where there is output; one who goes away leaves the step as it is.
    pub fn follow_step(self: &Arc<Self>, request: StepRequest, output: bool) -> StepItems {
        let (items, receiver) = mpsc::channel(WAITING_FRAMES);
        let plane = Arc::clone(self);
        self.tasks.spawn("follow step", async move {
            let mut follower = Follower { items, told: false };
            let want = Want::Frames { output };
            let last = match plane.drive(&request, want, &mut follower).await {
                Ok(StepReply::Ended(line)) => StepItem::Ended(line),
                // Not asked for.
                Ok(StepReply::Accepted(_)) => return,
                Err(problem) => StepItem::Failed(Box::new(problem)),
            };
            // Nobody may be there any more.
            let _ = follower.give(last).await;
        });
        receiver
    }
}
