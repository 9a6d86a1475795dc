//! States that random output came to once and that were not carried over.

use abide_terminal::{Screen, ScrollbackLimit, Size};

use crate::keyframe::assert_same;

/// A screen of 8 columns and 5 rows that was fed `output` goes on from its snapshot and from its keyframe as
/// if nothing had happened.
fn check(what: &str, output: &str) {
    let size = Size::new(8, 5).unwrap();
    let mut whole = Screen::new(size, ScrollbackLimit(1 << 16), 0);
    whole.feed(output.as_bytes());
    let mut shown = Screen::new(size, ScrollbackLimit(1 << 16), 0);
    shown.feed(&whole.snapshot(usize::MAX));
    let stored = whole.keyframe();
    let mut stored = Screen::from_keyframe(&stored, ScrollbackLimit(1 << 16)).unwrap();
    for rest in ["", "a|]\u{301}", "\r\n\x1b[2bz"] {
        whole.feed(rest.as_bytes());
        for (by, screen) in [("snapshot", &mut shown), ("keyframe", &mut stored)] {
            screen.feed(rest.as_bytes());
            assert_same(screen, &whole, &format!("{what}, by {by}, before {rest:?}"));
            assert_eq!(
                screen.ansi(),
                whole.ansi(),
                "{what}, by {by}, before {rest:?}"
            );
        }
    }
}

#[test]
fn states_that_were_found_are_carried_over() {
    check("a character that its set draws by another", "\x1b(4]");
    check("the same, shifted in", "\x1b)5\x0e[\\");
    check(
        "a cursor above its region under origin mode",
        "one\x1b7\x1b[3;4r\x1b[?6h\x1b8",
    );
    check(
        "the same, behind a character",
        "one\x1b7\x1b[3;4r\x1b[?6h\x1b8x",
    );
    check(
        "the same, in insert mode",
        "one two\x1b[4G\x1b7\x1b[3;4r\x1b[?6h\x1b8\x1b[4hx",
    );
    check(
        "ASCII that a saved cursor of the other buffer brought",
        "\x1b(0\x1b7\x1b[?1047h\x1b8\x1b[?1047la",
    );
}

/// A smaller screen brings the cursor behind an empty cell, and two marks then join it.
#[test]
fn marks_behind_an_empty_cell_stand_alone() {
    let mut whole = Screen::new(Size::new(32, 1).unwrap(), ScrollbackLimit(1 << 16), 0);
    whole.feed(b"\t\t\n11");
    whole.resize(Size::new(17, 9).unwrap());
    whole.feed("\u{5ae}\u{5ae}".as_bytes());
    let mut shown = Screen::new(whole.size(), ScrollbackLimit(1 << 16), 0);
    shown.feed(&whole.snapshot(usize::MAX));
    assert_same(&shown, &whole, "by snapshot");
}
