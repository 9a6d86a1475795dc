//! Which sequences are answered by a terminal, or write to its user's clipboard.

use crate::parser::Parser;

/// DECID.
pub(super) fn is_escape(parser: &Parser, last: u8) -> bool {
    parser.collected() == 0 && last == b'Z'
}

/// Whether the control sequence in `parser` asks for something.
pub(super) fn is_csi(parser: &Parser, last: u8) -> bool {
    let collected = parser.collected().to_be_bytes();
    let start = collected.iter().take_while(|byte| **byte == 0).count();
    let first = parser.params().get(0);
    match (&collected[start..], last) {
        // DA1, DA2, DA3.
        (b"" | b">" | b"=", b'c') => true,
        // DSR, with the cursor's position, and its private form.
        (b"" | b"?", b'n') => true,
        // DECRQM.
        (b"$" | b"?$", b'p') => true,
        // XTVERSION.
        (b">", b'q') => true,
        // Reports of the window's state, place, size and titles.
        (b"", b't') => matches!(first, 11 | 13..=16 | 18..=21),
        // DECREQTPARM.
        (b"", b'x') => true,
        // The state of the Kitty keyboard protocol.
        (b"?", b'u') => true,
        // DECRQUPSS, DECRQTSR, DECRQPSR, DECRQDE, DECRQCRA, DECRQLP.
        (b"&" | b"$", b'u') | (b"$", b'w') | (b"\"", b'v') | (b"*", b'y') | (b"'", b'|') => true,
        // XTSMGRAPHICS, XTQMODKEYS, XTREPORTSGR, XTREPORTCOLORS.
        (b"?", b'S' | b'm') | (b"#", b'|' | b'R') => true,
        _ => false,
    }
}

/// DECRQSS and XTGETTCAP.
pub(super) fn is_dcs(parser: &Parser, last: u8) -> bool {
    last == b'q' && [u32::from(b'$'), u32::from(b'+')].contains(&parser.collected())
}

/// What the number of an OSC tells, once it is complete; nothing if the rest matters.
pub(super) fn is_osc_from_its_number(payload: &str) -> Option<bool> {
    let number = match payload.split_once(';') {
        Some((number, _)) => number,
        // Letters instead of a number, as the first terminals of Sun and the Linux console have them.
        None if payload.starts_with(|first: char| !first.is_ascii_digit()) => return Some(false),
        None => return None,
    };
    match number.parse::<u32>() {
        // The clipboard: of xterm, of Kitty.
        Ok(52 | 5522) => Some(true),
        // Colours, fonts, pointers, properties; and what iTerm2 put under one number.
        Ok(3..=5 | 10..=19 | 21 | 22 | 50 | 1337) => None,
        // Which features are allowed.
        Ok(60 | 61) => Some(true),
        _ => Some(false),
    }
}

/// Whether a complete OSC asks for something or writes to the clipboard.
pub(super) fn is_osc(payload: &str) -> bool {
    let (number, rest) = payload.split_once(';').unwrap_or((payload, ""));
    match number.parse::<u32>() {
        Ok(4 | 5 | 10..=19 | 50) => rest.split(';').any(|part| part == "?"),
        Ok(3) => rest.starts_with('?'),
        Ok(21) => rest.split(';').any(|part| part.ends_with("=?")),
        Ok(22) => rest.starts_with('?'),
        Ok(52 | 60 | 61 | 5522) => true,
        Ok(1337) => [
            "ReportCellSize",
            "ReportVariable",
            "RequestUpload",
            "Copy",
            "EndCopy",
        ]
        .iter()
        .any(|name| rest.starts_with(name)),
        _ => false,
    }
}
