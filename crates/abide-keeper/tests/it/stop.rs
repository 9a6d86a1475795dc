//! Nothing of a tree is left.

use abide_keeper::{KeeperClient, Lifecycle, SignalScope};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Kept, Told, child, gated, wait_for_end};

/// A keeper of a tree that resists, once everybody in it is there.
fn stubborn() -> (Kept, KeeperClient, Told) {
    let kept = Kept::launch(&child(&["stubborn"]));
    let client = kept.connect();
    let mut told = Told::default();
    told.until(&client, |told| told.frames.len() == 3);
    assert_eq!(kept.processes().len(), 3);
    (kept, client, told)
}

#[test]
fn a_stop_ends_those_who_ignore_it_and_those_who_got_away() {
    let (kept, client, mut told) = stubborn();
    client.stop().unwrap();
    told.until_closed(&client);
    assert!(kept.is_empty());
    wait_for_end(&client);
    let exit = kept.exit();
    assert_eq!(
        (exit.signal, exit.requested, exit.oom),
        (Some(9), true, false)
    );
}

#[test]
fn a_kill_does_not_wait() {
    let mut spec = child(&["stubborn"]);
    spec.hang_up_grace_ms = 3_600_000;
    let kept = Kept::launch(&spec);
    let client = kept.connect();
    let mut told = Told::default();
    told.until(&client, |told| told.frames.len() == 3);
    client.stop().unwrap();
    client.kill().unwrap();
    told.until_closed(&client);
    assert!(kept.is_empty());
}

#[test]
fn terminating_the_keeper_is_a_stop() {
    let (kept, client, mut told) = stubborn();
    kill_process(
        Pid::from_raw(client.identity().keeper.pid).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    told.until_closed(&client);
    assert!(kept.is_empty());
    wait_for_end(&client);
}

#[test]
fn a_stop_hangs_up_first_and_gives_time() {
    let mut spec = child(&[]);
    spec.argv = ["/bin/sh", "-c", "trap 'echo hung up' HUP; trap 'echo terminated; exit 5' TERM; echo ready; while :; do read x <&3; done"]
        .map(str::to_owned)
        .to_vec();
    (spec.hang_up_grace_ms, spec.terminate_grace_ms) = (300, 3_600_000);
    let kept = Kept::launch(&spec);
    let client = kept.connect();
    let mut told = Told::default();
    told.until(&client, |told| told.stdout == b"ready\n");
    client.stop().unwrap();
    told.until_closed(&client);
    assert_eq!(
        String::from_utf8_lossy(&told.stdout),
        "ready\nhung up\nterminated\n"
    );
    wait_for_end(&client);
    let exit = kept.exit();
    assert_eq!(
        (exit.code, exit.signal, exit.requested),
        (Some(5), None, true)
    );
}

#[test]
fn who_is_stopped_is_ended_too() {
    let (kept, client, mut told) = stubborn();
    client.signal(libc::SIGSTOP, SignalScope::Tree).unwrap();
    client.stop().unwrap();
    told.until_closed(&client);
    assert!(kept.is_empty());
}

#[test]
fn nobody_survives_the_program() {
    for _ in 0..10 {
        let kept = Kept::launch(&gated(&["orphans"]));
        let client = kept.begin();
        let told = Told::all(&client);
        assert!(matches!(told.lifecycle.last(), Some(Lifecycle::Closed)));
        wait_for_end(&client);
        assert!(kept.is_empty());
        assert_eq!(kept.exit().code, Some(0));
    }
}

#[test]
fn a_scope_says_who_gets_a_signal() {
    let (kept, client, mut told) = stubborn();
    client.signal(libc::SIGUSR1, SignalScope::Leader).unwrap();
    told.until(&client, |told| {
        told.lifecycle
            .iter()
            .any(|event| matches!(event, Lifecycle::Exited(_)))
    });
    told.until_closed(&client);
    wait_for_end(&client);
    assert_eq!(kept.exit().signal, Some(libc::SIGUSR1));
    assert!(kept.is_empty());

    let (kept, client, mut told) = stubborn();
    client.signal(libc::SIGUSR1, SignalScope::Tree).unwrap();
    told.until_closed(&client);
    assert!(kept.is_empty());
}
