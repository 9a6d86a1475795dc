//! What a schedule does to the planes and to the two wires between them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use abide_testkit::Plane;
use abide_testkit::proxy::{Action, Fault, Gate, Point};
use fastrand::Rng;
use rustix::process::Signal;

use super::super::super::schedules::faults::{any_fault, step_of};
use super::super::{Whole, is_step};
use super::work::Seen;

/// The faults under way.
pub(super) struct Faults {
    /// To be done to requests to come, in order, by wire.
    armed: [Arc<Mutex<VecDeque<Armed>>>; 2],
    gates: Vec<Gate>,
    /// By plane.
    stopped: [bool; 3],
    /// By wire.
    refusing: [bool; 2],
    armed_in_all: usize,
    may_block: bool,
}

struct Armed {
    /// For a step on its way; otherwise for a question about one or its session.
    step: bool,
    fault: Fault,
}

impl Faults {
    /// None yet; notes which steps come to the data plane.
    pub(super) fn over(whole: &Whole, seen: Arc<Seen>) -> Self {
        let armed: [Arc<Mutex<VecDeque<Armed>>>; 2] = Default::default();
        for (wire, armed) in whole.wires.iter().zip(&armed) {
            let (queue, seen) = (Arc::clone(armed), Arc::clone(&seen));
            wire.plan(move |request| {
                let step = is_step(request);
                if step {
                    seen.note(step_of(request));
                }
                let question = request.method == "GET" && request.path.contains("/sessions/");
                let mut queue = queue.lock().unwrap();
                let mut due = queue.iter();
                let due = due.position(|armed| if armed.step { step } else { question });
                let fault = due.and_then(|n| queue.remove(n));
                fault.map(|armed| armed.fault).into_iter().collect()
            });
        }
        Self {
            armed,
            gates: Vec::new(),
            stopped: [false; 3],
            refusing: [false; 2],
            armed_in_all: 0,
            may_block: false,
        }
    }

    /// Whether something may keep a step from coming to the data plane before the end.
    pub(super) const fn may_block(&self) -> bool {
        self.may_block
    }

    /// How many faults were done to requests.
    pub(super) fn done(&self) -> usize {
        let left = self.armed.iter().map(|armed| armed.lock().unwrap().len());
        self.armed_in_all - left.sum::<usize>()
    }

    /// Does something to a request to come.
    pub(super) fn arm(&mut self, whole: &Whole, rng: &mut Rng) -> String {
        let (wire, step) = (rng.usize(..2), rng.u8(..4) > 0);
        let fault = any_fault(&whole.wires[wire], &mut self.gates, rng);
        self.may_block |= matches!(fault.action, Action::Hold(_));
        let what = if step { "step" } else { "question" };
        let said = format!("arm {what} on wire {wire} {fault:?}");
        let armed = Armed { step, fault };
        self.armed[wire].lock().unwrap().push_back(armed);
        self.armed_in_all += 1;
        said
    }

    /// `SIGKILL`, and the next one.
    pub(super) fn restart(&mut self, whole: &mut Whole, plane: Plane) -> String {
        self.stopped[plane as usize] = false;
        tokio::task::block_in_place(|| {
            whole.stack.kill(plane).unwrap();
            whole.stack.up(plane).unwrap();
        });
        format!("restart {plane:?}")
    }

    /// Stops a plane, or lets it go on if it stands still.
    pub(super) fn stop_or_go_on(&mut self, whole: &Whole, plane: Plane) -> String {
        let stopped = &mut self.stopped[plane as usize];
        *stopped = !*stopped;
        self.may_block = true;
        let how = if *stopped { Signal::STOP } else { Signal::CONT };
        whole.stack.signal(plane, how).unwrap();
        format!("{how:?} {plane:?}")
    }

    /// Refuses connections on a wire, or accepts them again.
    pub(super) fn refuse_or_accept(&mut self, whole: &Whole, wire: usize) -> String {
        let refusing = &mut self.refusing[wire];
        *refusing = !*refusing;
        self.may_block = true;
        whole.wires[wire].refuse(*refusing).unwrap();
        format!("refuse on wire {wire}: {refusing}")
    }

    /// Ends every fault; with `cut` connections under way do not survive that.
    pub(super) fn heal(&mut self, whole: &Whole, cut: bool) {
        for plane in Plane::ALL {
            if self.stopped[plane as usize] {
                whole.stack.signal(plane, Signal::CONT).unwrap();
            }
        }
        for wire in &whole.wires {
            wire.refuse(false).unwrap();
            wire.forward();
            if cut {
                tokio::task::block_in_place(|| wire.settle());
            }
        }
        self.gates.iter().for_each(Gate::open);
    }
}

/// Has the next step come to the session agent twice, the second time under another id.
pub(super) fn forge_next_step(whole: &Whole) {
    let forged = |request: &[u8]| {
        let text = String::from_utf8(request.to_vec()).unwrap();
        let (head, rest) = text.split_once("\"stepId\":\"").unwrap();
        let (id, rest) = rest.split_at(36);
        let other = uuid::Uuid::new_v5(&uuid::Uuid::nil(), id.as_bytes());
        format!("{head}\"stepId\":\"{other}{rest}").into_bytes()
    };
    let fault = Fault::new(Point::AfterRequest, Action::Forge(forged));
    whole.wires[1].once(is_step, fault);
}
