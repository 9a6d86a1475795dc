//! Recordings that somebody else made: read without a panic; and what is written is text that is read again.

#![no_main]

use std::time::Duration;

use abide_model::{CastEvent, CastFormat, CastHeader, CastReader, CastWriter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        let mut lines = text.lines();
        if let Ok((mut reader, _)) = CastReader::new(lines.next().unwrap_or_default()) {
            let mut last = Duration::ZERO;
            for (at, _) in lines.filter_map(|line| reader.event(line).ok().flatten()) {
                assert!(at >= last, "time goes on");
                last = at;
            }
        }
    }
    let format = [CastFormat::V2, CastFormat::V3][input.len() % 2];
    let mut text = String::new();
    let mut writer = CastWriter::new(format, &CastHeader::default(), &mut text);
    for (index, piece) in input.chunks(7).enumerate() {
        writer.output(Duration::from_millis(index as u64), piece, &mut text);
    }
    let mut lines = text.lines();
    let header = lines.next().expect("a header");
    let (mut reader, _) = CastReader::new(header).expect("a header of its own");
    let mut output = String::new();
    for line in lines {
        match reader.event(line) {
            Ok(Some((_, CastEvent::Output(text)))) => output.push_str(&text),
            other => panic!("{other:?} of {line}"),
        }
    }
    let whole = String::from_utf8_lossy(input);
    assert!(whole.starts_with(&output), "what was written, but for a character cut at the end");
});
