//! Writes control sequences that give the pen of another terminal a look.

use super::{Attributes, Colour, Style};
use crate::links::Links;

/// The pen of the terminal that will read the bytes: what it looks like by now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pen {
    style: Style,
}

impl Pen {
    /// Gives the pen the look `style`; writes nothing when it has it.
    pub(crate) fn take(&mut self, style: Style, links: &Links, out: &mut Vec<u8>) {
        if self.style == style {
            return;
        }
        let old = std::mem::replace(&mut self.style, style);
        if old.link != style.link {
            links.write(style.link, out);
        }
        // SGR 0 ends the protection too in xterm.js, elsewhere it does not.
        let protected = |style: Style| style.attributes.has(Attributes::PROTECTED);
        if protected(old) && !protected(style) {
            out.extend_from_slice(b"\x1b[0\"q");
        }
        let unlinked = |style: Style| Style { link: 0, ..style };
        if unlinked(old) != unlinked(style) {
            write_sgr(style, unlinked(old) == Style::default(), out);
            if protected(style) {
                out.extend_from_slice(b"\x1b[1\"q");
            }
        }
    }
}

const SWITCHES: [(u16, u8); 8] = [
    (Attributes::BOLD, b'1'),
    (Attributes::DIM, b'2'),
    (Attributes::ITALIC, b'3'),
    (Attributes::BLINK, b'5'),
    (Attributes::INVERSE, b'7'),
    (Attributes::HIDDEN, b'8'),
    (Attributes::STRUCK, b'9'),
    (Attributes::OVERLINE, 0),
];

/// Always from the default: short, and right whatever the pen was.
fn write_sgr(style: Style, from_default: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\x1b[");
    let start = out.len();
    if !from_default {
        out.extend_from_slice(b"0;");
    }
    for (bit, code) in SWITCHES {
        if !style.attributes.has(bit) {
            continue;
        }
        if bit == Attributes::OVERLINE {
            out.extend_from_slice(b"53;");
        } else {
            out.extend_from_slice(&[code, b';']);
        }
    }
    match style.attributes.underline() {
        0 => {}
        1 => out.extend_from_slice(b"4;"),
        form => number(out, "4:", form.into()),
    }
    write_colour(style.foreground, [30, 90, 38], out);
    write_colour(style.background, [40, 100, 48], out);
    // There are no sixteen of these; the first of the palette are the same.
    write_colour(style.underline, [0, 0, 58], out);
    if out.len() > start {
        out.pop();
    }
    out.push(b'm');
}

/// `codes`: of the dark eight, of the bright eight, of everything else.
fn write_colour(colour: Colour, [dark, bright, other]: [u32; 3], out: &mut Vec<u8>) {
    let value = colour.0 & 0xff_ffff;
    match colour.0 & !0xff_ffff {
        Colour::SIXTEEN if value < 8 => number(out, "", dark + value),
        Colour::SIXTEEN => number(out, "", bright + value - 8),
        Colour::PALETTE => {
            number(out, "", other);
            number(out, "5;", value);
        }
        Colour::RGB => {
            number(out, "", other);
            number(out, "2;", value >> 16);
            number(out, "", value >> 8 & 0xff);
            number(out, "", value & 0xff);
        }
        _ => {}
    }
}

fn number(out: &mut Vec<u8>, prefix: &str, number: u32) {
    out.extend_from_slice(prefix.as_bytes());
    decimal(out, number);
    out.push(b';');
}

/// Writes a number without the formatting machinery, which costs more than the rest of a look.
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{Event, Parser};

    /// What `sequence` makes of the default look, and what is written for that look.
    fn check(sequence: &str, expected: &str) {
        let style = read(Style::default(), sequence.as_bytes());
        let mut out = Vec::new();
        Pen::default().take(style, &Links::default(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{sequence}");
        assert_eq!(read(Style::default(), &out), style, "{sequence}");
    }

    fn read(mut style: Style, bytes: &[u8]) -> Style {
        let mut parser = Parser::default();
        for byte in bytes {
            if parser.advance(u32::from(*byte)) == Event::Csi(b'm') {
                style.select(parser.params());
            }
        }
        style
    }

    #[test]
    fn a_look_is_read_and_written_alike() {
        check("\x1b[1;31m", "\x1b[1;31m");
        check("\x1b[1;31m\x1b[22;39m", "");
        check("\x1b[91;102m", "\x1b[91;102m");
        check("\x1b[38;5;1;48;2;1;2;3m", "\x1b[38;5;1;48;2;1;2;3m");
        check(
            "\x1b[38:5:200m\x1b[48:2::9:8:7m",
            "\x1b[38;5;200;48;2;9;8;7m",
        );
        check("\x1b[4:3;58:2::1:2:3m", "\x1b[4:3;58;2;1;2;3m");
        check("\x1b[4m\x1b[24;53m", "\x1b[53m");
        check("\x1b[38;5m", "\x1b[38;5;0m");
    }
}
