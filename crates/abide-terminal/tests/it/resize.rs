//! A screen whose size changes, against xterm.js whose size changes in the same way.

use abide_terminal::Size;

use crate::recording;
use crate::xterm::Comparison;

/// Narrower and wider, lower and higher.
const ONCE: [&[(u16, u16)]; 6] = [
    &[(60, 24)],
    &[(120, 24)],
    &[(80, 12)],
    &[(80, 50)],
    &[(61, 17)],
    &[(132, 43)],
];

/// And back. Not for what was in the alternate buffer: xterm.js shows again there what was cut off, until the
/// program draws it anew.
const AND_BACK: [&[(u16, u16)]; 2] = [&[(40, 10), (80, 24)], &[(200, 50), (120, 23), (100, 30)]];

const FULL_SCREEN: [&str; 5] = ["htop", "less", "less-wide", "tmux", "vim"];

#[test]
fn a_resized_screen_is_a_resized_xterm() {
    let mut comparison = Comparison::new();
    for recording in recording::all() {
        let full_screen = FULL_SCREEN.contains(&recording.name.as_str());
        let and_back = AND_BACK.iter().filter(|_| !full_screen);
        let sequences: Vec<_> = ONCE.iter().chain(and_back).collect();
        for part in [3, 5, 8] {
            let mut recording = recording::Recording {
                name: format!("{} {part}/8", recording.name),
                size: recording.size,
                bytes: recording.bytes[..recording.bytes.len() * part / 8].to_vec(),
            };
            // Not within a sequence.
            let unfinished = recording.screen(recording.bytes.len()).unfinished().len();
            recording.bytes.truncate(recording.bytes.len() - unfinished);
            for sizes in &sequences {
                comparison.job(&recording, sizes);
                let mut screen = recording.screen(recording.bytes.len());
                for (cols, rows) in **sizes {
                    screen.resize(Size::new(*cols, *rows).unwrap());
                }
                let snapshot = screen.snapshot(usize::MAX);
                let size = *sizes.last().unwrap();
                let end = recording.bytes.len();
                comparison.cut((end, end), size, &snapshot, b"", false);
            }
        }
    }
    comparison.run();
}
