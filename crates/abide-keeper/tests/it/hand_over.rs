//! Messages that a client writes to the program itself.

use abide_keeper::{
    FrameAssembler, HandOver, JournalReader, Message, PROTOCOL_VERSION, Tag, split_input,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Kept, Told, child, eventually, gated_shell, wait_for_end};

fn id(number: u32) -> [u8; 16] {
    u128::from(number).to_le_bytes()
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&len[..], payload].concat()
}

/// Hands a message over; what is then to be sent to the keeper.
fn hand_over(way: &HandOver, number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    eventually("the one before has an entry", || {
        way.have_entered();
        way.note(id(number), payload)
    });
    way.write(payload, &mut out);
    out
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn a_message_has_its_entry_before_what_comes_of_it() {
    const MESSAGES: u32 = 1000;
    // Somebody else prints all the time, so that the keeper is at work whenever a message comes.
    let script = "(while :; do echo noise; done) & echo begun; \
                  while read -r line <&3; do echo \"heard $line\"; printf '\\1\\0\\0\\0.' >&3; done";
    let kept = Kept::launch(&gated_shell(script));
    let client = kept.begin();
    let mut told = Told::default();
    told.until_printed(&client, "begun\n");
    let (journal, mut cursor) = (client.journal().clone(), told.cursor);
    let mut input = FrameAssembler::default();
    let (mut entered, mut output, mut answered) = (0, Vec::new(), 0);
    for number in 1..=MESSAGES {
        let line = format!("{number}\n");
        assert!(hand_over(client.hand_over(), number, line.as_bytes()).is_empty());
        let heard = format!("heard {number}\n");
        let mut was_heard = false;
        while answered < number {
            let mut payload = Vec::new();
            let Some(record) = journal.next(&mut cursor, &mut payload).unwrap() else {
                client.wait(cursor).unwrap();
                continue;
            };
            match record.tag {
                Tag::Input => {
                    let (_, frame) = input.push(&record, &payload).unwrap();
                    let (of, message) = split_input(frame).unwrap();
                    assert_eq!((of, message), (id(number), line.as_bytes()));
                    entered += 1;
                }
                Tag::Stdout => output.extend_from_slice(&payload),
                Tag::Control => answered += 1,
                _ => {}
            }
            if let Some(last) = output.iter().rposition(|byte| *byte == b'\n') {
                let said = std::str::from_utf8(&output[..=last]).unwrap();
                assert!(
                    !said.contains("heard") || entered == number,
                    "printed before its entry"
                );
                was_heard |= said.contains(&heard);
                output.drain(..=last);
            }
            journal.set_cursor(cursor);
        }
        assert_eq!(entered, number, "answered before its entry");
        assert!(was_heard, "answered before it printed");
    }
}

#[test]
fn a_message_is_entered_when_asked_though_nothing_comes_of_it() {
    let kept = Kept::launch(&child(&["pause"]));
    let client = kept.connect();
    let before = abide_keeper::boottime_ns();
    assert!(hand_over(client.hand_over(), 1, b"unheard").is_empty());
    let after = abide_keeper::boottime_ns();
    assert!(client.journal().left_hand_over().is_some());
    client.hand_over().have_entered();
    let mut told = Told::default();
    told.until(&client, |told| told.inputs.len() == 1);
    assert_eq!(told.inputs[0], [&id(1)[..], b"unheard"].concat());
    assert!(client.journal().left_hand_over().is_none());
    // It was then, and not when it was entered.
    let (mut seq, mut payload) = (told.cursor - 1, Vec::new());
    let record = client.journal().next(&mut seq, &mut payload).unwrap();
    assert!((before..=after).contains(&record.unwrap().time_ns));
}

#[test]
fn a_message_whose_sender_died_before_writing_it_is_written() {
    let kept = Kept::launch(&child(&["echo"]));
    let mut told = Told::default();
    for number in 1..=50 {
        let client = kept.connect();
        assert!(
            client
                .hand_over()
                .note(id(number), &framed(&[number as u8]))
        );
        drop(client);
        let client = kept.connect();
        told.until(&client, |told| told.frames.len() == number as usize);
        assert_eq!(told.inputs.len(), number as usize);
        // One that was answered is not written again.
        drop(client);
        drop(kept.connect());
    }
    let frames: Vec<_> = told.frames.iter().map(|(_, frame)| frame[0]).collect();
    assert_eq!(frames, (1..=50).collect::<Vec<u8>>());
    // Nor is it delivered again by its id.
    let client = kept.connect();
    client.deliver(id(50), &framed(&[50])).unwrap();
    client.deliver(id(51), &framed(&[51])).unwrap();
    told.until(&client, |told| told.frames.len() > 50);
    assert_eq!(told.frames[50].1, [51]);
}

#[test]
fn what_the_program_does_not_take_the_keeper_writes_when_it_does() {
    let kept = Kept::launch(&child(&["echo"]));
    let client = kept.connect();
    let program = kept.record().child.pid;
    signal(program, Signal::STOP);
    let mut sent = Vec::new();
    for number in 1u32.. {
        let payload = [&number.to_le_bytes()[..], &[b'.'; 1900]].concat();
        let out = hand_over(client.hand_over(), number, &framed(&payload));
        sent.push(payload);
        if !out.is_empty() {
            let mut expected = Vec::new();
            Message::Repeat.encode(&mut expected);
            assert_eq!(out, expected);
            client.send(Message::Repeat).unwrap();
            break;
        }
    }
    assert!(sent.len() > 10, "{}", sent.len());
    // A message through the keeper comes behind it.
    client.deliver([9; 16], &framed(b"last")).unwrap();
    sent.push(b"last".to_vec());
    signal(program, Signal::CONT);
    let mut told = Told::default();
    told.until(&client, |told| told.frames.len() == sent.len());
    let frames: Vec<_> = told.frames.into_iter().map(|(_, frame)| frame).collect();
    assert!(frames == sent);
}

#[test]
fn a_message_of_which_a_dead_keeper_made_no_entry_is_found() {
    let kept = Kept::launch(&child(&["pause"]));
    let client = kept.connect();
    let keeper = kept.record().keeper.pid;
    signal(keeper, Signal::STOP);
    assert!(client.hand_over().note(id(7), b"the last"));
    client.hand_over().write(b"the last", &mut Vec::new());
    signal(keeper, Signal::KILL);
    wait_for_end(&client);
    let journal = JournalReader::open_after_crash(&kept.dir.join("journal")).unwrap();
    let (record, bytes) = journal.left_hand_over().unwrap();
    let mut input = FrameAssembler::default();
    let (seq, frame) = input.push(&record, &bytes).unwrap();
    assert_eq!(seq, journal.head_seq());
    assert_eq!(split_input(frame), Some((id(7), &b"the last"[..])));
}

#[test]
fn a_message_that_a_program_died_of_has_an_entry() {
    let kept = Kept::launch(&gated_shell("echo begun; read -r line <&3; kill -9 $$"));
    let client = kept.begin();
    Told::default().until_printed(&client, "begun");
    assert!(hand_over(client.hand_over(), 1, b"die\n").is_empty());
    let told = Told::all(&client);
    assert_eq!(told.inputs.len(), 2);
    assert_eq!(told.exited.unwrap().1.signal, Some(9));
    assert!(client.journal().left_hand_over().is_none());
}

#[test]
fn what_must_go_through_the_keeper_is_not_noted() {
    let kept = Kept::launch(&child(&["echo"]));
    let old = kept.connect();
    assert!(!old.hand_over().note(id(1), &[0; 2048]), "too long");
    let client = kept.connect();
    assert!(!old.hand_over().note(id(1), b"x"), "superseded");
    // A second one before the first has an entry.
    let keeper = kept.record().keeper.pid;
    let mut told = Told::default();
    client.deliver(id(2), &framed(&[2])).unwrap();
    told.until(&client, |told| told.frames.len() == 1);
    signal(keeper, Signal::STOP);
    assert!(client.hand_over().note(id(3), &framed(&[3])));
    assert!(!client.hand_over().note(id(4), &framed(&[4])));
    signal(keeper, Signal::CONT);
    // An older keeper gives nothing to write to.
    let file = kept.dir.join("keeper.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let ours = format!("\"protocol\":{PROTOCOL_VERSION}");
    std::fs::write(&file, text.replace(&ours, "\"protocol\":3")).unwrap();
    let older = kept.connect();
    assert!(!older.hand_over().note(id(5), b"x"));
    older.deliver(id(6), &framed(&[6])).unwrap();
    told.until(&older, |told| told.frames.len() == 3);
    let frames: Vec<_> = told.frames.iter().map(|(_, frame)| frame[0]).collect();
    // The third was noted and never written by its sender.
    assert_eq!(frames, [2, 3, 6]);
}
