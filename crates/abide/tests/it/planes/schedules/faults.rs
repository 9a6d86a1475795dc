//! What a schedule does to the planes and to what is between them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use abide_testkit::Proxy;
use abide_testkit::proxy::{Action, Fault, Gate, Point, Request};
use fastrand::Rng;
use rustix::process::Signal;

use super::super::{Planes, signal};
use super::work::Seen;

/// The faults under way.
pub(super) struct Faults {
    /// To be done to requests to come, in order.
    armed: Arc<Mutex<VecDeque<Armed>>>,
    gates: Vec<Gate>,
    /// Process ids of planes that stand still: agent, data plane.
    stopped: [Option<u32>; 2],
    refusing: bool,
    armed_in_all: usize,
}

struct Armed {
    /// For a step on its way; otherwise for a question about one or its session.
    step: bool,
    fault: Fault,
}

impl Faults {
    /// None yet; notes which steps the proxy sees.
    pub(super) fn over(planes: &Planes, seen: Arc<Seen>) -> Self {
        let armed = Arc::new(Mutex::new(VecDeque::<Armed>::new()));
        let queue = Arc::clone(&armed);
        planes.proxy.plan(move |request| {
            let step = request.is("POST", "/v1/steps");
            if step {
                seen.note(step_of(request));
            }
            let question = request.is("GET", "/v1/sessions/");
            let mut queue = queue.lock().unwrap();
            let mut due = queue.iter();
            let due = due.position(|armed| if armed.step { step } else { question });
            let fault = due.and_then(|n| queue.remove(n));
            fault.map(|armed| armed.fault).into_iter().collect()
        });
        Self {
            armed,
            gates: Vec::new(),
            stopped: [None, None],
            refusing: false,
            armed_in_all: 0,
        }
    }

    /// Whether no step gets to the proxy now.
    pub(super) fn silent(&self) -> bool {
        self.refusing || self.stopped[1].is_some()
    }

    /// How many faults were done to requests.
    pub(super) fn done(&self) -> usize {
        self.armed_in_all - self.armed.lock().unwrap().len()
    }

    /// Does something to a request to come.
    pub(super) fn arm(&mut self, planes: &Planes, rng: &mut Rng) -> String {
        let fault = any_fault(&planes.proxy, &mut self.gates, rng);
        let step = rng.u8(..4) > 0;
        let said = format!("arm {} {fault:?}", if step { "step" } else { "question" });
        self.armed.lock().unwrap().push_back(Armed { step, fault });
        self.armed_in_all += 1;
        said
    }

    /// `SIGKILL`, and the next one.
    pub(super) fn restart_agent(&mut self, planes: &mut Planes) -> String {
        self.stopped[0] = None;
        planes.restart_agent();
        "restart agent".to_owned()
    }

    /// The same for the data plane.
    pub(super) fn restart_data_plane(&mut self, planes: &mut Planes) -> String {
        self.stopped[1] = None;
        planes.restart_data_plane();
        "restart data plane".to_owned()
    }

    /// Stops a plane, or lets it go on if it stands still.
    pub(super) fn stop_or_go_on(&mut self, planes: &Planes, data_plane: bool) -> String {
        let pids = [planes.agent.pid(), planes.data.pid()];
        let which = usize::from(data_plane);
        let pid = pids[which].unwrap();
        let how = if self.stopped[which].take().is_some() {
            Signal::CONT
        } else {
            self.stopped[which] = Some(pid);
            Signal::STOP
        };
        signal(pid, how);
        format!("{how:?} {}", ["agent", "data plane"][which])
    }

    /// Refuses connections to the agent, or accepts them again.
    pub(super) fn refuse_or_accept(&mut self, planes: &Planes) -> String {
        self.refusing = !self.refusing;
        planes.proxy.refuse(self.refusing).unwrap();
        format!("refuse: {}", self.refusing)
    }

    /// Ends every fault; with `cut` connections under way do not survive that.
    pub(super) fn heal(&mut self, planes: &Planes, cut: bool) {
        for pid in self.stopped.iter_mut().filter_map(Option::take) {
            signal(pid, Signal::CONT);
        }
        if self.refusing {
            planes.proxy.refuse(false).unwrap();
        }
        planes.proxy.forward();
        if cut {
            tokio::task::block_in_place(|| planes.proxy.settle());
        }
        self.gates.iter().for_each(Gate::open);
    }
}

/// Something to be done to a request to come. What it holds waits for a gate, which is noted.
pub(in super::super) fn any_fault(proxy: &Proxy, gates: &mut Vec<Gate>, rng: &mut Rng) -> Fault {
    let at = match rng.u8(..7) {
        0 => Point::BeforeRequest,
        1 => Point::InRequest(rng.usize(1..600)),
        2 => Point::AfterRequest,
        3 => Point::BeforeResponse,
        // In the head, in the frames, in what comes at the end.
        _ => Point::InResponse(rng.usize(1..800)),
    };
    let action = match rng.u8(..6) {
        0 => Action::Cut,
        1 => Action::Reset,
        2 => Action::HalfClose,
        3 if at <= Point::AfterRequest => Action::Duplicate,
        _ => {
            let gate = proxy.gate();
            gates.push(gate.clone());
            Action::Hold(gate)
        }
    };
    Fault::new(at, action)
}

/// The id of the step that a request submits.
pub(in super::super) fn step_of(request: &Request<'_>) -> String {
    let text = String::from_utf8_lossy(request.bytes);
    let id = text.split("\"stepId\":\"").nth(1).unwrap_or_default();
    id.split('"').next().unwrap_or_default().to_owned()
}
