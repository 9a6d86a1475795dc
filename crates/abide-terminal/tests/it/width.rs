//! The widths of characters against those of xterm.js.

use abide_terminal::{Screen, Size};

use crate::recording::PLENTY;
use crate::xterm;

#[test]
fn every_character_is_as_wide_as_in_xterm() {
    let output = xterm::node("widths.cjs").output().unwrap();
    assert!(output.status.success());
    let widths: Vec<u8> = output.stdout.iter().map(|digit| digit - b'0').collect();
    assert_eq!(widths.len(), 0x11_0000 - 0xa0);
    let mut screen = Screen::new(Size::new(10, 1).unwrap(), PLENTY, 0);
    for (code, width) in (0xa0..).zip(widths) {
        // Surrogates and the byte order mark are no characters of UTF-8.
        let Some(character) = char::from_u32(code).filter(|_| code != 0xfeff) else {
            continue;
        };
        screen.feed(format!("\ra{character}").as_bytes());
        assert_eq!(screen.cursor().col, 1 + u16::from(width), "U+{code:04X}");
    }
}
