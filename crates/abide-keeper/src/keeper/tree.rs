//! The worker's process tree, and how it is brought to an end.
//!
//! ```text
//! Calm --stop--> HangUp --grace--> Terminate --grace--> Kill --> until nothing is left
//!   \------------------------kill-----------------------^
//! ```
//!
//! The keeper is subreaper: whatever double-forks or calls `setsid` is still its descendant.

use std::fs;

use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::process::{ProcessStamp, Stat, all_pids, boottime_ns};
use crate::protocol::SignalScope;
use crate::spec::{Io, KeeperSpec};

/// Between two looks at a tree that is being killed. Every death is announced by SIGCHLD; this
/// is for processes that the announcements cannot tell of.
const KILL_AGAIN_NS: u64 = 100_000_000;

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Calm,
    HangUp,
    Terminate,
    Kill,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    keeper: i32,
    /// The program, until it has been waited for: as long, its pid and process group are its.
    leader: Option<Pid>,
    stage: Stage,
    /// When the next stage begins, in nanoseconds of `CLOCK_BOOTTIME`.
    deadline: Option<u64>,
    /// After hanging up and after terminating, in nanoseconds.
    graces: [u64; 2],
    /// There may be shells, which ignore SIGTERM while they are interactive, and miss a SIGHUP that
    /// comes just before they wait for a key.
    has_terminal: bool,
}

impl Tree {
    pub(super) fn new(leader: Pid, spec: &KeeperSpec) -> Self {
        let graces = [spec.hang_up_grace_ms, spec.terminate_grace_ms];
        Self {
            keeper: std::process::id() as i32,
            leader: Some(leader),
            stage: Stage::Calm,
            deadline: None,
            graces: graces.map(|ms| ms.saturating_mul(1_000_000)),
            has_terminal: matches!(spec.io, Io::Terminal(_)),
        }
    }

    pub(super) fn leader(&self) -> Option<Pid> {
        self.leader
    }

    /// The leader has been waited for.
    pub(super) fn forget_leader(&mut self) {
        self.leader = None;
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// A stop or kill was asked for.
    pub(super) fn is_ending(&self) -> bool {
        self.stage > Stage::Calm
    }

    /// SIGKILL was sent by us.
    pub(super) fn is_killing(&self) -> bool {
        self.stage == Stage::Kill
    }

    /// Begins to stop the tree, unless that has begun.
    pub(super) fn stop(&mut self) {
        if self.stage == Stage::Calm {
            self.enter(Stage::HangUp);
        }
    }

    /// Kills the tree now, and again until [`Self::settle`].
    pub(super) fn kill(&mut self) {
        self.enter(Stage::Kill);
    }

    /// Goes on if the deadline has passed.
    pub(super) fn tick(&mut self, now: u64) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.enter(match self.stage {
                Stage::Calm | Stage::HangUp => Stage::Terminate,
                Stage::Terminate | Stage::Kill => Stage::Kill,
            });
        }
    }

    /// Some process of the tree is dead: its children are ours now.
    pub(super) fn someone_died(&mut self) {
        if self.stage == Stage::Kill {
            self.enter(Stage::Kill);
        }
    }

    /// Nothing is left.
    pub(super) fn settle(&mut self) {
        self.deadline = None;
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        let patience = match stage {
            Stage::Calm => return,
            Stage::HangUp => {
                self.signal_tree(Signal::HUP, true);
                self.graces[0]
            }
            Stage::Terminate => {
                if self.has_terminal {
                    self.signal_tree(Signal::HUP, true);
                }
                self.signal_tree(Signal::TERM, true);
                self.graces[1]
            }
            Stage::Kill => {
                self.signal_tree(Signal::KILL, false);
                KILL_AGAIN_NS
            }
        };
        self.deadline = Some(boottime_ns().saturating_add(patience));
    }

    /// Sends a signal that a client asked for.
    pub(super) fn signal(&self, signal: Signal, scope: SignalScope) {
        // ESRCH and EPERM mean that there is nobody to tell, or that nobody may.
        let _ = match (scope, self.leader) {
            (SignalScope::Tree, _) => {
                self.signal_tree(signal, false);
                Ok(())
            }
            (SignalScope::Leader, Some(leader)) => rustix::process::kill_process(leader, signal),
            (SignalScope::Group, Some(leader)) => {
                rustix::process::kill_process_group(leader, signal)
            }
            (SignalScope::Leader | SignalScope::Group, None) => Ok(()),
        };
    }

    /// `wake` also continues what is stopped, so that it can act on the signal. The whole tree is
    /// listed first: a parent that dies of the signal orphans its children.
    fn signal_tree(&self, signal: Signal, wake: bool) {
        for process in self.descendants() {
            let Some(pidfd) = process.open() else {
                continue;
            };
            let _ = pidfd_send_signal(&pidfd, signal);
            if wake {
                let _ = pidfd_send_signal(&pidfd, Signal::CONT);
            }
        }
    }

    /// Every process below the keeper. Listing is not atomic; whoever is missed is found by the
    /// next look.
    fn descendants(&self) -> Vec<ProcessStamp> {
        let mut found = Vec::new();
        let mut parents = vec![self.keeper];
        while let Some(parent) = parents.pop() {
            for pid in children_of(parent) {
                // A pid in a list may have changed hands since the list was made.
                let Some(stat) = Stat::read(pid) else {
                    continue;
                };
                if stat.parent == parent || stat.parent == self.keeper {
                    found.push(ProcessStamp {
                        pid,
                        start_time: stat.start_time,
                    });
                    parents.push(pid);
                }
            }
        }
        found
    }
}

/// Children of every thread of a process.
fn children_of(parent: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => children.extend(
                text.split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            ),
            // The thread is gone, or this kernel does not list children.
            Err(_) if thread.path().exists() => return children_by_search(parent),
            Err(_) => {}
        }
    }
    children
}

fn children_by_search(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| Stat::read(*pid).is_some_and(|stat| stat.parent == parent);
    all_pids().filter(is_child).collect()
}
