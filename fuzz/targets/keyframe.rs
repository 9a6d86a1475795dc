//! Stored screens that were damaged, or made up by somebody who can count checksums: an error, or a screen
//! that goes on.

#![no_main]

use abide_terminal::{Keyframe, Screen, ScrollbackLimit};
use libfuzzer_sys::fuzz_target;

const LIMIT: ScrollbackLimit = ScrollbackLimit(16 * 1024);

fuzz_target!(|input: &[u8]| {
    let _ = Keyframe::from_bytes(input.to_vec());
    // Past the magic number and the checksum, where it gets interesting.
    let mut forged = b"ABIDEKF\x01".to_vec();
    forged.extend_from_slice(input);
    forged.extend_from_slice(&crc32c::crc32c(&forged).to_le_bytes());
    let Ok(keyframe) = Keyframe::from_bytes(forged) else {
        return;
    };
    if let Ok(mut screen) = Screen::from_keyframe(&keyframe, LIMIT) {
        screen.feed(b"\x1b[31mred\r\n\x1b[?1049h\x1b[?1049l");
        let _ = (screen.snapshot(usize::MAX), screen.keyframe(), screen.text());
    }
});
