//! What programs write to a terminal, which is anything, while its size changes: no panic; and a snapshot
//! gives another screen of the size the same state.
//!
//! The first two bytes are the size. Then come pieces: a byte that says how long the next is; where it
//! says 0, two bytes are another size.

#![no_main]

use abide_terminal::{Screen, ScrollbackLimit, Size};
use libfuzzer_sys::fuzz_target;

/// Little, so that it overflows.
const LIMIT: ScrollbackLimit = ScrollbackLimit(16 * 1024);

fuzz_target!(|input: &[u8]| {
    let Some((size, mut rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let mut screen = Screen::new(size_of(*size), LIMIT, 0);
    while let Some((&length, more)) = rest.split_first() {
        if length == 0 {
            let Some((size, more)) = more.split_first_chunk::<2>() else {
                break;
            };
            screen.resize(size_of(*size));
            rest = more;
        } else {
            let (piece, more) = more.split_at(more.len().min(length.into()));
            screen.feed(piece);
            rest = more;
        }
    }
    let _ = (screen.title(), screen.cursor(), screen.ansi(), screen.scrollback(100));
    let snapshot = screen.snapshot(usize::MAX);
    let mut again = Screen::new(screen.size(), LIMIT, 0);
    again.feed(&snapshot);
    assert_eq!(again.text(), screen.text(), "the text");
    assert_eq!(again.cursor(), screen.cursor(), "the cursor");
    assert_eq!(again.title(), screen.title(), "the title");
    assert_eq!(again.is_alternate(), screen.is_alternate(), "the buffer");
    let stored = screen.keyframe();
    let restored = Screen::from_keyframe(&stored, LIMIT).expect("a keyframe of its own");
    assert_eq!(restored.text(), screen.text(), "the text of a keyframe");
    assert_eq!(restored.cursor(), screen.cursor(), "the cursor of a keyframe");
    assert_eq!(restored.unfinished(), screen.unfinished(), "what is unfinished");
});

/// From 2 to 33 columns, from 1 to 16 rows: where everything meets everything.
fn size_of([cols, rows]: [u8; 2]) -> Size {
    Size::new(2 + u16::from(cols % 32), 1 + u16::from(rows % 16)).expect("a size")
}
