//! How many cells a character takes: Unicode 11, as the viewers have it (xterm.js with its Unicode 11
//! add-on). Nothing is gained by knowing better than the terminal that shows the same bytes.

mod table;

/// The widths of the first 65,536 code points, four to the byte: looking them up must not take longer than
/// printing.
static BASIC: [u8; 0x4000] = basic();

/// The width of a character from U+00A0 on, 0 to 2. ASCII takes one cell and does not come here.
pub(crate) fn width(character: char) -> u8 {
    let code = u32::from(character);
    if let Some(four) = BASIC.get(code as usize / 4) {
        four >> (code % 4 * 2) & 3
    } else if within(&table::TWO, code) {
        2
    } else {
        u8::from(!within(&table::NONE, code))
    }
}

fn within(ranges: &[(u32, u32)], code: u32) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= code);
    after > 0 && code <= ranges[after - 1].1
}

const fn basic() -> [u8; 0x4000] {
    // One cell each.
    let widths = fill([0b0101_0101; 0x4000], &table::TWO, 2);
    fill(widths, &table::NONE, 0)
}

const fn fill(mut widths: [u8; 0x4000], ranges: &[(u32, u32)], width: u8) -> [u8; 0x4000] {
    let mut index = 0;
    while index < ranges.len() {
        let (mut code, last) = ranges[index];
        while code <= last && code < 0x1_0000 {
            let (byte, shift) = (code as usize / 4, code % 4 * 2);
            widths[byte] = widths[byte] & !(3 << shift) | width << shift;
            code += 1;
        }
        index += 1;
    }
    widths
}
