//! What a program gets from its keeper, and what the keeper gets from it.

use std::os::unix::fs::PermissionsExt as _;

use abide_keeper::{LaunchError, Lifecycle, Limit, LimitedResource, SignalScope, split_input};

use crate::support::{Kept, Told, child, gated, gated_shell, pattern, wait_for_end};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_program_has_four_descriptors_and_no_more() {
    let kept = Kept::launch(&gated(&["fds"]));
    let told = Told::all(&kept.begin());
    assert_eq!(text(&told.stdout), "0=/dev/null\n1=pipe\n2=pipe\n3=socket");
}

#[test]
fn a_program_has_exactly_the_environment_it_was_given() {
    let spec = gated(&["env"]);
    let kept = Kept::launch(&spec);
    let told = Told::all(&kept.begin());
    assert_eq!(
        text(&told.stdout),
        format!("ABIDE_WORKER={}\nGREETING=hello", spec.worker_id)
    );
}

#[test]
fn a_program_starts_with_default_signals_in_a_group_of_its_own() {
    let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status; umask; ps -o pgid= -p $$; echo $$";
    let kept = Kept::launch(&gated_shell(script));
    let told = text(&Told::all(&kept.begin()).stdout);
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    let pid = kept.record().child.pid;
    let words: Vec<&str> = told.split_ascii_whitespace().collect();
    let expected = format!(
        "SigBlk: {0} SigIgn: {0} {1:04o} {pid} {pid}",
        "0000000000000000",
        umask.bits()
    );
    assert_eq!(words.join(" "), expected);
}

/// The message is longer than the socket holds, so the signal has to wait for the program.
#[test]
fn an_interrupt_comes_with_its_payload_behind_what_was_delivered() {
    const LEN: usize = 3_000_000;
    for _ in 0..20 {
        let kept = Kept::launch(&gated(&["heed", &LEN.to_string()]));
        let client = kept.begin();
        let mut told = Told::default();
        told.until(&client, |told| told.stdout == b"ready\n");
        client.deliver([1; 16], &vec![b'.'; LEN]).unwrap();
        client.interrupt(b"stop").unwrap();
        told.until_closed(&client);
        assert_eq!(text(&told.stdout), "ready\nstop");
        // The interrupt is not one of the inputs.
        assert_eq!(told.inputs.len(), 2);
    }
}

#[test]
fn limits_and_directory_are_the_ones_asked_for() {
    let mut spec = gated_shell("pwd; ulimit -n; ulimit -c");
    spec.cwd = "/tmp".into();
    spec.limits = vec![
        Limit {
            resource: LimitedResource::OpenFiles,
            soft: Some(77),
            hard: Some(99),
        },
        Limit {
            resource: LimitedResource::Core,
            soft: Some(0),
            hard: Some(0),
        },
    ];
    let kept = Kept::launch(&spec);
    assert_eq!(text(&Told::all(&kept.begin()).stdout), "/tmp\n77\n0\n");
}

#[test]
fn a_program_runs_as_the_user_asked_for() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut spec = gated_shell("id -u; id -g; id -G");
    (spec.uid, spec.gid) = (Some(65534), Some(65534));
    let kept = Kept::launch(&spec);
    assert_eq!(
        text(&Told::all(&kept.begin()).stdout),
        "65534\n65534\n65534\n"
    );
}

#[test]
fn what_cannot_be_started_is_said() {
    let check = |change: &dyn Fn(&mut abide_keeper::KeeperSpec), expected: &str| {
        let mut spec = child(&["pause"]);
        change(&mut spec);
        match Kept::try_launch(&spec).map(|_| ()) {
            Err(LaunchError::Refused(reason)) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    };
    check(
        &|spec| spec.argv = vec!["no-such-program".to_owned()],
        "\"no-such-program\": No such file",
    );
    check(&|spec| spec.argv.clear(), "names no program");
    check(&|spec| spec.cwd = "/no/such/place".into(), "/no/such/place");
    check(&|spec| spec.journal_bytes = 5, "capacity of 5 bytes");
}

#[test]
fn a_directory_is_private_and_used_once() {
    let spec = child(&["pause"]);
    let kept = Kept::launch(&spec);
    let mode = |name: &str| {
        std::fs::symlink_metadata(kept.dir.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(""), 0o700);
    for name in [
        "spec.json",
        "keeper.json",
        "journal",
        "control.sock",
        "keeper.log",
    ] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    let again = crate::support::launcher().launch(&kept.dir, &spec);
    assert!(matches!(again, Err(LaunchError::Directory { .. })));
}

#[test]
fn a_flood_on_two_streams_arrives_to_the_byte() {
    const TOTAL: u64 = 30_000_000;
    // Wraps the ring thirty times.
    let mut spec = gated(&["flood", &TOTAL.to_string(), "1"]);
    spec.journal_bytes = 1024 * 1024;
    let kept = Kept::launch(&spec);
    let told = Told::all(&kept.begin());
    assert_eq!(told.output.len() as u64, TOTAL);
    // Two pipes have no common order; each stream has its own, so take the pieces in turn.
    let (mut at, mut turn, mut from) = (0u64, 0, [0usize; 2]);
    while at < TOTAL {
        let len = (TOTAL - at).min(1 + turn * 7919 % 60_000) as usize;
        let (stream, from) = match turn % 3 {
            2 => (&told.stderr, &mut from[1]),
            _ => (&told.stdout, &mut from[0]),
        };
        let piece = &stream[*from..*from + len];
        assert!(
            piece
                .iter()
                .enumerate()
                .all(|(offset, byte)| *byte == pattern(at + offset as u64))
        );
        *from += len;
        at += len as u64;
        turn += 1;
    }
    assert_eq!(from, [told.stdout.len(), told.stderr.len()]);
}

#[test]
fn output_written_before_a_frame_comes_before_it() {
    const FRAMES: u64 = 3000;
    let mut spec = gated(&["frames", &FRAMES.to_string()]);
    spec.journal_bytes = 256 * 1024;
    let kept = Kept::launch(&spec);
    let told = Told::all(&kept.begin());
    assert_eq!(told.frames.len() as u64, FRAMES);
    let mut expected = 0;
    for (number, (offset, frame)) in told.frames.iter().enumerate() {
        assert_eq!(frame[..], (number as u64).to_le_bytes());
        expected += format!("{number}:").len() + number * 37 % 5000 + 1;
        // What was written after the frame may be read with what was written before it.
        assert!(
            *offset >= expected as u64,
            "frame {number} at {offset}, not after {expected}"
        );
    }
}

#[test]
fn a_frame_of_any_length_arrives_whole() {
    for len in [0, 1, 65_535, 65_536, 65_537, 5_000_000] {
        let mut spec = gated(&["long-frame", &len.to_string()]);
        spec.journal_bytes = 1024 * 1024;
        let kept = Kept::launch(&spec);
        let told = Told::all(&kept.begin());
        assert_eq!(told.frames.len(), 1, "{len}");
        assert_eq!(told.frames[0].1, vec![7; len]);
    }
}

#[test]
fn a_broken_control_stream_is_noted() {
    for (kind, reason) in [
        ("bad-frame", "beyond the limit"),
        ("torn-frame", "within a frame"),
    ] {
        let kept = Kept::launch(&gated(&[kind]));
        let told = Told::all(&kept.begin());
        assert!(told.frames.is_empty());
        let noted = told.lifecycle.iter().any(
            |event| matches!(event, Lifecycle::ControlEnded { reason: told } if told.contains(reason)),
        );
        assert!(noted, "{:?}", told.lifecycle);
    }
}

#[test]
fn last_words_precede_the_exit() {
    for _ in 0..20 {
        let kept = Kept::launch(&gated(&["last-words"]));
        let told = Told::all(&kept.begin());
        assert_eq!(text(&told.stdout), "last words\n");
        assert_eq!(told.frames, [(11, b"last frame".to_vec())]);
        assert!(matches!(
            &told.lifecycle[..],
            [
                Lifecycle::Started { .. },
                Lifecycle::Exited(_),
                Lifecycle::Closed
            ]
        ));
    }
}

#[test]
fn how_a_program_ended_is_known() {
    let check = |args: &[&str], code: Option<i32>, signal: Option<i32>| {
        let kept = Kept::launch(&gated(args));
        let client = kept.begin();
        let told = Told::all(&client);
        let exits = told.lifecycle.iter().filter_map(|event| match event {
            Lifecycle::Exited(exit) => Some((exit.code, exit.signal, exit.oom, exit.requested)),
            _ => None,
        });
        assert_eq!(exits.collect::<Vec<_>>(), [(code, signal, false, false)]);
        wait_for_end(&client);
        let exit = kept.exit();
        assert_eq!(
            (exit.code, exit.signal, exit.oom),
            (code, signal, false),
            "{args:?}"
        );
    };
    check(&["exit", "0"], Some(0), None);
    check(&["exit", "77"], Some(77), None);
    check(&["raise", "10"], None, Some(10));
    check(&["raise", "9"], None, Some(9));
}

#[test]
fn a_message_is_delivered_once() {
    let kept = Kept::launch(&child(&["echo"]));
    let client = kept.connect();
    let framed = |payload: &[u8]| {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    };
    let id = |number: u64| u128::from(number).to_le_bytes();
    for number in 0..5000u64 {
        let message = framed(&number.to_le_bytes());
        client.deliver(id(number), &message).unwrap();
        if number % 3 == 0 {
            client.deliver(id(number), &message).unwrap();
        }
        if number > 1000 {
            // Still among the last thousand.
            client.deliver(id(number - 1000), &message).unwrap();
        }
    }
    // Again through another connection: the keeper remembers, not the connection.
    let client = kept.connect();
    client.deliver(id(4999), &framed(b"again")).unwrap();
    let long = vec![9; 3_000_000];
    client.deliver(id(5000), &framed(&long)).unwrap();
    client.deliver(id(5001), &framed(b"quit")).unwrap();
    let mut told = Told::default();
    told.until_closed(&client);
    let numbers = told
        .frames
        .iter()
        .take(5000)
        .map(|(_, frame)| frame.clone());
    assert!(numbers.eq((0..5000u64).map(|number| number.to_le_bytes().to_vec())));
    assert_eq!(told.frames.len(), 5001);
    assert_eq!(told.frames[5000].1, long);
    assert_eq!(told.inputs.len(), 5002);
    for (number, input) in told.inputs.iter().enumerate() {
        assert_eq!(split_input(input).unwrap().0, id(number as u64));
    }
    assert_eq!(split_input(&told.inputs[5000]).unwrap().1, framed(&long));
}

#[test]
fn a_signal_after_a_message_comes_after_it() {
    // The shell says that it has the message; then it is interrupted.
    let spec = gated_shell(
        "trap 'echo interrupted; exit 3' INT; head -c 2 <&3; echo; while :; do read x <&3; done",
    );
    let kept = Kept::launch(&spec);
    let client = kept.begin();
    client.deliver([1; 16], b"go").unwrap();
    let mut told = Told::default();
    told.until(&client, |told| told.stdout == b"go\n");
    client.signal(libc::SIGINT, SignalScope::Group).unwrap();
    told.until_closed(&client);
    assert_eq!(text(&told.stdout), "go\ninterrupted\n");
    wait_for_end(&client);
    assert_eq!(kept.exit().code, Some(3));
}
