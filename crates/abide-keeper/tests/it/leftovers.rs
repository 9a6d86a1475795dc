//! The keeper itself is killed.

use abide_keeper::{ConnectError, JournalReader, KeeperClient, kill_leftovers};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Kept, Told, child, eventually, wait_for_end};

#[test]
fn a_killed_keeper_takes_the_program_with_it_and_the_rest_is_found() {
    let kept = Kept::launch(&child(&["stubborn"]));
    let client = kept.connect();
    let mut told = Told::default();
    told.until(&client, |told| told.frames.len() == 3);
    let record = kept.record();
    kill_process(Pid::from_raw(record.keeper.pid).unwrap(), Signal::KILL).unwrap();
    wait_for_end(&client);
    eventually("the program is gone", || {
        !kept.processes().contains(&record.child.pid)
    });
    assert!(matches!(
        KeeperClient::connect(&kept.dir),
        Err(ConnectError::NotRunning { exit: None } | ConnectError::ForeignProcess { .. })
    ));
    // Those who got away have no parent to take them along.
    assert_eq!(kept.processes().len(), 2);
    assert_eq!(kill_leftovers(kept.worker_id), 2);
    assert!(kept.is_empty());
    assert_eq!(kill_leftovers(kept.worker_id), 0);
    // What it had written is readable.
    let journal = JournalReader::open_after_crash(&kept.dir.join("journal")).unwrap();
    assert_eq!(journal.head_seq(), told.cursor);
}
