//! What a replay leaves out, and that it leaves out nothing else.

use abide_terminal::ReplayFilter;
use proptest::prelude::*;

use crate::recording;

fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
    let mut filter = ReplayFilter::new();
    let mut out = Vec::new();
    for piece in pieces {
        filter.feed(piece, &mut out);
    }
    out.extend(filter.finish());
    out
}

/// Checks what becomes of `output`, whole and byte by byte.
fn check(output: &str, expected: &str) {
    let whole = filtered(&[output.as_bytes()]);
    assert_eq!(String::from_utf8_lossy(&whole), expected, "{output:?}");
    let bytes: Vec<&[u8]> = output.as_bytes().chunks(1).collect();
    assert_eq!(filtered(&bytes), whole, "{output:?} byte by byte");
}

#[test]
fn queries_are_dropped() {
    for query in [
        "\x1b[c",
        "\x1b[0c",
        "\x1b[>c",
        "\x1b[=c",
        "\x1b[5n",
        "\x1b[6n",
        "\x1b[?6n",
        "\x1b[?996n",
        "\x1b[?25$p",
        "\x1b[4$p",
        "\x1b[>q",
        "\x1b[>0q",
        "\x1b[18t",
        "\x1b[14;2t",
        "\x1b[x",
        "\x1b[?u",
        "\x1b[?1;1;0S",
        "\x1b[?4m",
        "\x1b[1;1;1;1;1;1*y",
        "\x1bZ",
        "\x05",
        "\u{9b}6n",
        "\x1b]10;?\x07",
        "\x1b]11;?\x1b\\",
        "\x1b]4;1;?\x07",
        "\x1b]4;1;#fff;2;?\x07",
        "\u{9d}12;?\u{9c}",
        "\x1bP$qm\x1b\\",
        "\x1bP+q544e\x1b\\",
        "\u{90}$q\"p\u{9c}",
        "\x1b]22;?__current__\x1b\\",
        "\x1b]1337;ReportCellSize\x07",
    ] {
        check(&format!("a{query}b"), "ab");
    }
}

#[test]
fn bells_and_clipboard_writes_are_dropped() {
    check("a\x07b", "ab");
    check("a\x1b]52;c;aGVsbG8=\x07b", "ab");
    check("a\x1b]52;c;aGVsbG8=\x1b\\b", "ab");
    check("a\x1b]52;c;?\x1b\\b", "ab");
    check("a\x1b]52;c;never ended", "a");
    check("a\x1b]52;c;broken off\x18b", "ab");
    check(&format!("a\x1b]52;c;{}\x07b", "QUJD".repeat(100_000)), "ab");
}

#[test]
fn everything_else_passes() {
    for other in [
        "\x1b[31m",
        "\x1b[?25h",
        "\x1b[2J",
        "\x1b7\x1b8",
        "\x1b]0;title\x07",
        "\x1b]2;?\x1b\\",
        "\x1b]8;;https://example.org\x1b\\x\x1b]8;;\x1b\\",
        "\x1b]10;#fff\x07",
        "\x1b]4;1;rgb:1/2/3\x1b\\",
        "\x1bPq#0;2;0;0;0#0~~\x1b\\",
        "\x1b_Gf=24;AAAA\x1b\\",
        "\x1b[22;0t",
        "\x1b[8;24;80t",
        "\x1b[>4;2m",
        "\x1b[>1u",
        "\x1b[ q",
        "\x1b[!p",
        "\x1b[?1049h",
        "\r\n\t\x08\x0e\x0f\0",
        "漢字🦀",
        "\x1b[3\x18c",
        "\x1b\\",
        "\x1b[?1$x",
    ] {
        check(&format!("a{other}b"), &format!("a{other}b"));
    }
}

#[test]
fn what_is_within_a_dropped_sequence_has_its_effect() {
    check("a\x1b[6\r\nnb", "a\r\nb");
    check("a\x1b[3\x071mb", "a\x1b[31mb");
    check("\x1b]52;c;x\x1b[31mb", "\x1b[31mb");
    check("\x1b]10;?\x1b]0;t\x07", "\x1b]0;t\x07");
}

#[test]
fn what_is_held_back_comes_at_the_end() {
    for output in [
        "a\x1b",
        "a\x1b[",
        "a\x1b[6",
        "a\x1b]11;",
        "a\x1bP$",
        "a\u{c2}",
    ] {
        check(output, output);
    }
    check("a\x1b]52;c;x\x1b", "a");
    check("a\x1b]52;c;x\x1b[3", "a\x1b[3");
    assert_eq!(filtered(&[b"a\xc2", b"\x9b6", b"nb"]), b"ab");
    assert_eq!(filtered(&[b"a\xe2\x80", b"z\xff"]), b"a\xe2\x80z\xff");
}

#[test]
fn recordings_pass_but_for_what_is_to_be_dropped() {
    for recording in recording::all() {
        let once = filtered(&[&recording.bytes]);
        assert_eq!(filtered(&[&once]), once, "{}", recording.name);
        // Every recording has its own number of bells and queries; all of them are short.
        assert!(
            recording.bytes.len() - once.len() < 400,
            "{}",
            recording.name
        );
    }
}

proptest! {
    #[test]
    fn pieces_make_no_difference(output in crate::arbitrary::output(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut offsets: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
        offsets.sort_unstable();
        let mut pieces = Vec::new();
        let mut start = 0;
        for offset in offsets {
            pieces.push(&output[start..offset]);
            start = offset;
        }
        pieces.push(&output[start..]);
        prop_assert_eq!(filtered(&pieces), filtered(&[&output]));
    }
}
