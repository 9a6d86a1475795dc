//! Who looks at a terminal: told to all who look whenever it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use abide_keeper::WindowSize;
use abide_model::{Presence, SizePolicy, ViewerRole};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::size::{self, Claim};
use super::task::Command;

/// Who is attached, and whose window the terminal is as large as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attendance {
    /// Decides about the size.
    pub policy: SizePolicy,
    /// In the order in which they came.
    pub viewers: Vec<Presence>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Viewers {
    state: Mutex<State>,
    attendance: watch::Sender<Arc<Attendance>>,
    /// Where another size is asked for.
    inbox: mpsc::UnboundedSender<Command>,
}

/// In the order in which they came.
#[derive(Debug)]
struct State {
    policy: SizePolicy,
    viewers: BTreeMap<u64, Visitor>,
    next: u64,
    /// Counts what viewers do.
    clock: u64,
    /// The size that was asked for last.
    size: Option<WindowSize>,
    /// Whose windows that size is of.
    decisive: Vec<u64>,
}

#[derive(Debug)]
struct Visitor {
    name: Option<String>,
    claim: Claim,
}

/// What one who looks changes of itself; what is not given stays.
#[derive(Debug, Clone, Default)]
pub struct Introduction {
    /// What others see it called.
    pub name: Option<String>,
    /// What it may do.
    pub role: Option<ViewerRole>,
}

impl Viewers {
    pub(super) fn new(policy: SizePolicy, inbox: mpsc::UnboundedSender<Command>) -> Self {
        let viewers = Vec::new();
        Self {
            state: Mutex::new(State {
                policy,
                viewers: BTreeMap::new(),
                next: 0,
                clock: 0,
                size: None,
                decisive: Vec::new(),
            }),
            attendance: watch::channel(Arc::new(Attendance { policy, viewers })).0,
            inbox,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.state.lock().viewers.len()
    }

    pub(super) fn attendance(&self) -> watch::Receiver<Arc<Attendance>> {
        self.attendance.subscribe()
    }

    /// Somebody comes, and gets a number.
    pub(super) fn come(&self, role: ViewerRole, size: Option<WindowSize>) -> u64 {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        let active = state.tick();
        let claim = Claim { role, size, active };
        state.viewers.insert(id, Visitor { name: None, claim });
        self.settle(&mut state);
        id
    }

    pub(super) fn leave(&self, id: u64) {
        let mut state = self.state.lock();
        state.viewers.remove(&id);
        self.settle(&mut state);
    }

    pub(super) fn set_window(&self, id: u64, size: WindowSize) {
        let mut state = self.state.lock();
        let active = state.tick();
        if let Some(visitor) = state.viewers.get_mut(&id) {
            visitor.claim.size = Some(size);
            visitor.claim.active = active;
            self.settle(&mut state);
        }
    }

    /// It did something that makes it the latest.
    pub(super) fn is_active(&self, id: u64) {
        let mut state = self.state.lock();
        let active = state.tick();
        if let Some(visitor) = state.viewers.get_mut(&id) {
            visitor.claim.active = active;
            // Asked with every key: mostly it was the latest before.
            if state.policy == SizePolicy::Latest && state.decisive != [id] {
                self.settle(&mut state);
            }
        }
    }

    pub(super) fn introduce(&self, id: u64, as_whom: Introduction) {
        let mut state = self.state.lock();
        if let Some(visitor) = state.viewers.get_mut(&id) {
            if let Some(name) = as_whom.name {
                visitor.name = Some(name).filter(|name| !name.is_empty());
            }
            visitor.claim.role = as_whom.role.unwrap_or(visitor.claim.role);
            self.settle(&mut state);
        }
    }

    pub(super) fn set_policy(&self, policy: SizePolicy) {
        let mut state = self.state.lock();
        state.policy = policy;
        self.settle(&mut state);
    }

    /// Finds out who decides about the size, asks for it if it is another one, and tells everybody what
    /// has changed.
    fn settle(&self, state: &mut State) {
        let claims = state.viewers.iter().map(|(id, it)| (*id, &it.claim));
        let decision = size::decide(state.policy, claims);
        let wanted = decision.as_ref().map(|decision| decision.size);
        state.decisive = decision.map_or_else(Vec::new, |decision| decision.by);
        let attendance = state.attendance();
        self.attendance.send_if_modified(|told| {
            let news = **told != attendance;
            if news {
                *told = Arc::new(attendance);
            }
            news
        });
        if let Some(size) = wanted.filter(|size| state.size != Some(*size)) {
            state.size = Some(size);
            // Under the lock, so that the last to decide is the last to be heard. Gone with its size.
            let _ = self.inbox.send(Command::Resize(size));
        }
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn attendance(&self) -> Attendance {
        let presence = |(id, visitor): (&u64, &Visitor)| Presence {
            id: *id,
            name: visitor.name.clone(),
            role: visitor.claim.role,
            cols: visitor.claim.size.map(|size| size.columns),
            rows: visitor.claim.size.map(|size| size.rows),
            drives_size: self.decisive.contains(id),
        };
        Attendance {
            policy: self.policy,
            viewers: self.viewers.iter().map(presence).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drivers(viewers: &Viewers) -> Vec<u64> {
        let attendance = viewers.attendance().borrow().clone();
        let driving = attendance.viewers.iter().filter(|it| it.drives_size);
        driving.map(|it| it.id).collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        let (inbox, mut asked) = mpsc::unbounded_channel();
        let mut asked = move || match asked.try_recv() {
            Ok(Command::Resize(size)) => Some(size.columns),
            _ => None,
        };
        let viewers = Viewers::new(SizePolicy::Latest, inbox);
        let mut told = viewers.attendance();
        let size = |columns| Some(WindowSize::new(columns, 20));
        let one = viewers.come(ViewerRole::Drive, size(80));
        let other = viewers.come(ViewerRole::Drive, size(100));
        assert_eq!((asked(), asked(), asked()), (Some(80), Some(100), None));
        assert_eq!(drivers(&viewers), [other]);
        told.borrow_and_update();
        // The latest types on.
        viewers.is_active(other);
        assert_eq!((asked(), told.has_changed().unwrap()), (None, false));
        viewers.is_active(one);
        assert_eq!((asked(), told.has_changed().unwrap()), (Some(80), true));
        assert_eq!(drivers(&viewers), [one]);
        // One who only looks from now on has no say any more.
        let role = Some(ViewerRole::View);
        viewers.introduce(one, Introduction { name: None, role });
        assert_eq!((asked(), drivers(&viewers)), (Some(100), vec![other]));
        viewers.leave(other);
        assert_eq!((asked(), drivers(&viewers)), (None, vec![]));
        assert_eq!(viewers.count(), 1);
    }
}
