//! Whatever is fed: no panic, and the same in whatever pieces.

use abide_terminal::{Screen, Size};
use proptest::prelude::*;

use crate::keyframe::assert_same;
use crate::recording::PLENTY;

/// Bytes, most of them such as mean something to a terminal.
pub(crate) fn output() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..8),
        4 => "[ -~]{0,12}".prop_map(String::into_bytes),
        4 => "\\PC{0,6}".prop_map(String::into_bytes),
        8 => "\x1b\\[[0-9:;<=>?]{0,6}[ !\"$'*]?[@-~]".prop_map(String::into_bytes),
        2 => "\x1b[ -/]?[0-~]".prop_map(String::into_bytes),
        2 => "\x1b\\](0|2|4|8|10|52);[;?a-z]{0,8}(\x07|\x1b\\\\)?".prop_map(String::into_bytes),
        1 => "\x1bP[$+]?[a-z]{0,4}(\x1b\\\\)?".prop_map(String::into_bytes),
        3 => "[\r\n\t\x08\x0e\x0f\x07\x18]{1,4}".prop_map(String::into_bytes),
        2 => "\x1b\\[\\?(6|7|25|47|69|1049|2026)[hl]".prop_map(String::into_bytes),
    ];
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

fn size() -> impl Strategy<Value = Size> {
    (2_u16..30, 1_u16..10).prop_map(|(cols, rows)| Size::new(cols, rows).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn pieces_make_no_difference(
        output in output(),
        size in size(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut whole = Screen::new(size, PLENTY, 0);
        whole.feed(&output);
        let mut offsets: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
        offsets.sort_unstable();
        let mut pieces = Screen::new(size, PLENTY, 0);
        let mut start = 0;
        for offset in offsets.into_iter().chain([output.len()]) {
            pieces.feed(&output[start..offset]);
            start = offset;
        }
        assert_same(&pieces, &whole, "in pieces");
    }

    #[test]
    fn sizes_may_change_at_any_time(output in output(), sizes in prop::collection::vec((size(), any::<prop::sample::Index>()), 1..6)) {
        let mut screen = Screen::new(sizes[0].0, PLENTY, 0);
        for (size, cut) in &sizes {
            screen.feed(&output[..cut.index(output.len() + 1)]);
            screen.resize(*size);
            prop_assert_eq!(screen.size(), *size);
            let keyframe = screen.keyframe();
            let again = Screen::from_keyframe(&keyframe, PLENTY).unwrap();
            prop_assert_eq!(again.text(), screen.text());
        }
        screen.feed(&output);
    }
}
