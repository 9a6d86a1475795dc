//! Keyframes: a screen that went on from one is the screen that was never interrupted.

use abide_terminal::{Error, Keyframe, Screen, ScrollbackLimit, Size};

use crate::random;
use crate::recording::{self, Numbers, PLENTY, Recording};

/// Keyframes of each recording.
const CUTS: usize = 40;

#[test]
fn a_screen_goes_on_from_a_keyframe() {
    let recordings = recording::all();
    let random = random::schedules().map(random::output);
    for (seed, recording) in recordings.into_iter().chain(random).enumerate() {
        let mut numbers = Numbers::new(seed as u64 + 77);
        let whole = recording.screen(recording.bytes.len());
        for _ in 0..CUTS {
            go_on(&recording, &whole, numbers.below(recording.bytes.len() + 1));
        }
    }
}

fn go_on(recording: &Recording, whole: &Screen, offset: usize) {
    let before = recording.screen(offset);
    let stored = before.keyframe().as_bytes().to_vec();
    let keyframe = Keyframe::from_bytes(stored).unwrap();
    assert_eq!(keyframe.offset(), offset as u64);
    let mut screen = Screen::from_keyframe(&keyframe, PLENTY).unwrap();
    let place = format!("{} at {offset}", recording.name);
    assert_eq!(screen.size(), before.size(), "{place}");
    assert_eq!(screen.offset(), before.offset(), "{place}");
    assert_same(&screen, &before, &place);
    screen.feed(&recording.bytes[offset..]);
    assert_same(&screen, whole, &place);
}

/// Everything that can be seen from outside is the same.
pub(crate) fn assert_same(one: &Screen, other: &Screen, place: &str) {
    let shown =
        |screen: &Screen| String::from_utf8_lossy(&screen.snapshot(usize::MAX)).into_owned();
    assert_eq!(shown(one), shown(other), "{place}");
    assert_eq!(one.unfinished(), other.unfinished(), "{place}");
    assert_eq!(one.text(), other.text(), "{place}");
    assert_eq!(one.title(), other.title(), "{place}");
    assert_eq!(one.cursor(), other.cursor(), "{place}");
}

fn stored() -> Vec<u8> {
    let mut screen = Screen::new(Size::new(20, 3).unwrap(), PLENTY, 7);
    screen.feed(b"one\r\ntwo\r\nthree\r\nfour \x1b[31mred\r\nfive\x1b[3");
    screen.keyframe().as_bytes().to_vec()
}

#[test]
fn a_damaged_keyframe_is_an_error() {
    let stored = stored();
    for length in 0..stored.len() {
        Keyframe::from_bytes(stored[..length].to_vec()).unwrap_err();
    }
    for index in 0..stored.len() {
        let mut damaged = stored.clone();
        damaged[index] ^= 0x10;
        Keyframe::from_bytes(damaged).unwrap_err();
    }
}

/// `stored` with byte `index` changed, and a checksum that fits.
fn forged(index: usize, byte: u8) -> Vec<u8> {
    let mut forged = stored();
    let end = forged.len() - 4;
    forged[index % end] = byte;
    let sum = crc32c::crc32c(&forged[..end]);
    forged[end..].copy_from_slice(&sum.to_le_bytes());
    forged
}

#[test]
fn a_forged_keyframe_is_an_error_or_a_screen_without_queries() {
    for index in 0..stored().len() - 4 {
        for byte in [0, 1, 7, 0x1b, b'n', 0x80, 0xff] {
            let Ok(keyframe) = Keyframe::from_bytes(forged(index, byte)) else {
                continue;
            };
            match Screen::from_keyframe(&keyframe, ScrollbackLimit(1 << 16)) {
                Err(error) => assert!(matches!(error, Error::Keyframe { .. } | Error::Size { .. })),
                Ok(screen) => {
                    let snapshot = screen.snapshot(usize::MAX);
                    let mut filtered = Vec::new();
                    let mut filter = abide_terminal::ReplayFilter::new();
                    filter.feed(&snapshot, &mut filtered);
                    filtered.extend(filter.finish());
                    assert_eq!(snapshot, filtered, "byte {index} is {byte}");
                }
            }
        }
    }
}

#[test]
fn a_keyframe_of_beyond_any_journal_is_an_error() {
    // The most significant byte of the offset, which stands behind the magic number.
    Keyframe::from_bytes(forged(15, 0x40)).unwrap_err();
    Keyframe::from_bytes(forged(15, 0xff)).unwrap_err();
    Keyframe::from_bytes(forged(15, 0x3f)).unwrap();
}

#[test]
fn a_keyframe_keeps_what_the_limit_allows() {
    let mut screen = Screen::new(Size::new(20, 3).unwrap(), PLENTY, 0);
    for line in 0..20_000 {
        screen.feed(format!("line {line}\r\n").as_bytes());
    }
    let limit = 100_000;
    let less = Screen::from_keyframe(&screen.keyframe(), ScrollbackLimit(limit)).unwrap();
    let kept = less.scrollback(usize::MAX);
    assert!((limit / 4..limit).contains(&kept.len()), "{}", kept.len());
    assert!(screen.scrollback(usize::MAX).ends_with(&kept));
}
