//! Random output of all that the screen knows, in small terminals where everything meets everything.
//!
//! `ABIDE_SCHEDULE=n` runs one of the schedules, `ABIDE_SCHEDULES=n` as many as that.

use std::fmt::Write as _;

use abide_terminal::Size;

use crate::recording::{Numbers, Recording};
use crate::snapshot;
use crate::xterm::Comparison;

const SCHEDULES: u64 = 300;
const STEPS: usize = 120;
const CUTS: usize = 8;

#[test]
fn random_output_cut_anywhere_renders_as_the_whole() {
    let mut comparison = Comparison::new();
    for schedule in schedules() {
        let recording = output(schedule);
        comparison.job(&recording, &[]);
        let mut numbers = Numbers::new(schedule + 1_000_000);
        snapshot::cut(&mut comparison, &recording, &mut numbers, CUTS);
    }
    comparison.run();
}

pub(crate) fn schedules() -> std::ops::Range<u64> {
    let number = |name| -> Option<u64> {
        std::env::var_os(name).map(|text| text.to_str().unwrap().parse().unwrap())
    };
    match number("ABIDE_SCHEDULE") {
        Some(only) => only..only + 1,
        None => 0..number("ABIDE_SCHEDULES").unwrap_or(SCHEDULES),
    }
}

/// What schedule `schedule` prints, on a terminal of 8 to 27 columns and 3 to 8 rows.
pub(crate) fn output(schedule: u64) -> Recording {
    let mut numbers = Numbers::new(schedule);
    let (cols, rows) = (8 + numbers.below(20), 3 + numbers.below(6));
    let size = Size::new(cols.try_into().unwrap(), rows.try_into().unwrap()).unwrap();
    let mut bytes = String::new();
    for _ in 0..STEPS {
        step(&mut numbers, cols, rows, &mut bytes);
    }
    Recording {
        name: format!("schedule {schedule}"),
        size,
        bytes: bytes.into_bytes(),
    }
}

/// Takes the cursor from behind the last column: what is erased under it there cannot be told from a blank.
const LEFT: &str = "\x1b[2D";
/// xterm.js forgets the form of an underline when it restores a cursor.
const NO_UNDERLINE: &str = "\x1b[24m";

fn step(numbers: &mut Numbers, cols: usize, rows: usize, out: &mut String) {
    const WORDS: [&str; 12] = [
        "word",
        "a",
        " ",
        "漢字",
        "🦀",
        "e\u{301}",
        "\x1b[2D\u{301}",
        "ー",
        "👩\u{200d}👧",
        "naïve",
        "qqxx",
        "ﾊ\u{ff9e}",
    ];
    const LOOKS: [&str; 14] = [
        "",
        "0",
        "1",
        "2;3",
        "4",
        "4:3",
        "7",
        "22;23;24",
        "31",
        "48;5;200",
        "38;2;1;2;3",
        "44",
        "39;49",
        "9;53",
    ];
    const MODES: [u16; 15] = [
        1, 5, 12, 25, 45, 66, 1000, 1002, 1004, 1006, 1016, 2004, 2026, 2, 1005,
    ];
    const NOISE: [&str; 10] = [
        "\x07",
        "\x1b[c",
        "\x1b[6n",
        "\x1b]11;?\x1b\\",
        "\x1bP$qm\x1b\\",
        "\x1b]52;c;aGk=\x07",
        "\x1b[>c",
        "\x1b[?2026$p",
        "\x1b[18t",
        "\x1b_anything\x1b\\",
    ];
    let n = |numbers: &mut Numbers| numbers.below(5);
    match numbers.below(46) {
        0..=11 => {
            for _ in 0..1 + numbers.below(6) {
                out.push_str(WORDS[numbers.below(WORDS.len())]);
            }
        }
        12 => {
            let length = numbers.below(3 * cols);
            out.extend((0..length).map(|index| char::from(b'a' + (index % 26) as u8)));
        }
        13..=15 => out.push_str("\r\n"),
        16 => out.push('\n'),
        17 => out.push('\r'),
        18 => out.push('\x08'),
        19 => out.push('\t'),
        20..=22 => write!(out, "\x1b[{}m", LOOKS[numbers.below(LOOKS.len())]).unwrap(),
        23 => write!(
            out,
            "\x1b[{};{}H",
            numbers.below(rows + 2),
            numbers.below(cols + 2)
        )
        .unwrap(),
        24 => {
            let last = b"ABCDEFGIZ`ade"[numbers.below(13)];
            write!(out, "\x1b[{}{}", n(numbers), char::from(last)).unwrap();
        }
        25 => {
            let last = b"@PXLMST"[numbers.below(7)];
            write!(out, "{LEFT}\x1b[{}{}", n(numbers), char::from(last)).unwrap();
        }
        26 => write!(out, "{LEFT}\x1b[{}K", numbers.below(3)).unwrap(),
        27 => write!(out, "{LEFT}\x1b[{}J", [0, 0, 2][numbers.below(3)]).unwrap(),
        28 => write!(
            out,
            "\x1b[{};{}r",
            numbers.below(rows),
            numbers.below(rows + 1)
        )
        .unwrap(),
        29 => out.push_str("\x1b[r"),
        30 => {
            let move_cursor = ["\x1b7", "\x1b8", "\x1b[s", "\x1b[u"][numbers.below(4)];
            write!(out, "{NO_UNDERLINE}{move_cursor}").unwrap();
        }
        31 => out.push_str(["\x1bD", "\x1bE", "\x1bM", "\x1bM"][numbers.below(4)]),
        32 | 33 => {
            let on = ['h', 'l'][numbers.below(2)];
            write!(out, "\x1b[?{}{on}", MODES[numbers.below(MODES.len())]).unwrap();
        }
        34 => out.push_str(
            [
                "\x1b[4h", "\x1b[4l", "\x1b[?6h", "\x1b[?6l", "\x1b[20h", "\x1b[20l",
            ][numbers.below(6)],
        ),
        35 => out.push_str(
            [
                "\x1b(0", "\x1b(B", "\x1b)0", "\x0e", "\x0f", "\x1b(A", "\x1bn", "\x1b*0",
            ][numbers.below(8)],
        ),
        36 => out.push_str(["\x1bH", "\x1b[g", "\x1b[3g"][numbers.below(3)]),
        37 => {
            let switch = ["1049h", "1049l", "47h", "47l", "1047l", "1048h"][numbers.below(6)];
            write!(out, "{LEFT}{NO_UNDERLINE}\x1b[?{switch}").unwrap();
        }
        38 => write!(out, "\x1b]2;title {}\x07", n(numbers)).unwrap(),
        39 => out.push_str(["\x1b[22t", "\x1b[23;2t"][numbers.below(2)]),
        40 => write!(
            out,
            "\x1b]8;{};https://example.org/{}\x1b\\link\x1b]8;;\x1b\\",
            ["", "id=a"][numbers.below(2)],
            n(numbers)
        )
        .unwrap(),
        41 => write!(out, "\x1b[{}b", n(numbers)).unwrap(),
        42 => write!(out, "\x1b[{} q", numbers.below(7)).unwrap(),
        43 => write!(
            out,
            "{LEFT}\x1b[{}{}",
            n(numbers),
            [" @", " A", "'}", "'~"][numbers.below(4)]
        )
        .unwrap(),
        44 => out.push_str(
            [
                "\x1b[1\"q",
                "\x1b[0\"q",
                "\x1b[?K",
                "\x1b[?J",
                "\x1b[!p",
                "\r\x1b[?7labcdefghijklmnopqrstuvwxyz\x1b[?7h",
            ][numbers.below(6)],
        ),
        // NUL, because a mark that follows what a replay has left out joins what was printed before it.
        _ => write!(out, "{}\0", NOISE[numbers.below(NOISE.len())]).unwrap(),
    }
}
