//! Snapshot and tail against the uninterrupted rendering, in xterm.js, cell by cell.

use crate::recording::{self, Numbers, Recording};
use crate::xterm::Comparison;

/// Cuts through all recordings together.
const CUTS: usize = 1000;
/// How far behind the snapshot is looked at most.
const FARTHEST: usize = 20_000;

#[test]
fn a_snapshot_and_its_tail_render_as_the_whole() {
    let recordings = recording::all();
    let mut comparison = Comparison::new();
    for (seed, recording) in recordings.iter().enumerate() {
        comparison.job(recording, &[]);
        let cuts = CUTS.div_ceil(recordings.len());
        cut(
            &mut comparison,
            recording,
            &mut Numbers::new(seed as u64 + 1),
            cuts,
        );
    }
    comparison.run();
}

/// Adds cuts at random offsets, and what both ways come to at once, or somewhere behind, or at the end. Every other
/// has the raw tail behind the snapshot, every other what a replay sends.
pub(crate) fn cut(
    comparison: &mut Comparison,
    recording: &Recording,
    numbers: &mut Numbers,
    count: usize,
) {
    let bytes = &recording.bytes;
    let size = (recording.size.cols(), recording.size.rows());
    let mut cuts: Vec<(usize, usize)> = (0..count)
        .map(|index| {
            let offset = numbers.below(bytes.len() + 1);
            let end = match index % 8 {
                0 => bytes.len(),
                1..=3 => offset,
                _ => (offset + numbers.below(FARTHEST)).min(bytes.len()),
            };
            (offset, whole_character(bytes, end))
        })
        .collect();
    cuts.sort_unstable();
    let mut screen = recording.screen(0);
    let mut snapshots = Vec::new();
    for (offset, end) in cuts {
        let fed = usize::try_from(screen.offset()).unwrap();
        screen.feed(&bytes[fed..offset]);
        snapshots.push((end, offset, screen.clone()));
    }
    snapshots.sort_by_key(|(end, ..)| *end);
    for (index, (end, offset, screen)) in snapshots.into_iter().enumerate() {
        let rest = &bytes[offset..end.max(offset)];
        let silent = index % 2 == 0;
        let mut tail = Vec::new();
        if silent {
            let mut filter = screen.replay();
            filter.feed(rest, &mut tail);
            tail.extend(filter.finish());
        } else {
            tail.extend(screen.unfinished());
            tail.extend_from_slice(rest);
        }
        let snapshot = screen.snapshot(usize::MAX);
        comparison.cut((offset, end), size, &snapshot, &tail, silent);
    }
}

/// The first offset from `end` on that is not within a character: xterm.js loses some that a write cuts in two.
fn whole_character(bytes: &[u8], mut end: usize) -> usize {
    while bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end += 1;
    }
    end
}
