//! Named points in a step's life at which a test may have the server killed.
//!
//! Active in builds with debug assertions only; a release build compiles [`pass`] to nothing.

#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};

/// Every point, in the order in which a step passes them.
pub const POINTS: &[&str] = &[
    "step.before_accept",
    "step.before_send",
    "step.before_write",
    "step.after_send",
    "step.during_output",
    "step.before_record",
    "step.after_record",
];

#[cfg(debug_assertions)]
static ARMED: OnceLock<(String, AtomicU64)> = OnceLock::new();

/// Arms `name:n`: the process kills itself with `SIGKILL` when `name` is passed the n-th time.
/// An unknown name, a bad number or a release build is an error.
pub fn arm(spec: &str) -> Result<(), String> {
    let (name, count) = spec.rsplit_once(':').ok_or("expected NAME:COUNT")?;
    if !POINTS.contains(&name) {
        return Err(format!(
            "unknown crash point {name:?}; known: {}",
            POINTS.join(", ")
        ));
    }
    let count: u64 = count
        .parse()
        .map_err(|_| format!("not a count: {count:?}"))?;
    arm_checked(name, count)
}

#[cfg(debug_assertions)]
fn arm_checked(name: &str, count: u64) -> Result<(), String> {
    ARMED
        .set((name.to_owned(), AtomicU64::new(count)))
        .map_err(|_| "a crash point is armed already".to_owned())
}

#[cfg(not(debug_assertions))]
fn arm_checked(_: &str, _: u64) -> Result<(), String> {
    Err("crash points exist in debug builds only".to_owned())
}

/// Marks the point `name`.
#[inline]
pub fn pass(name: &'static str) {
    #[cfg(debug_assertions)]
    if let Some((armed, left)) = ARMED.get()
        && armed == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
