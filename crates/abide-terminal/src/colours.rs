//! Colours that programs redefine: the palette (OSC 4), text, background and cursor (OSC 10 to 12).

use std::collections::BTreeMap;
use std::io::Write as _;

/// The longest that describes a colour, such as `rgba:ffff/ffff/ffff/ffff`, and some.
const LONGEST: usize = 40;
/// Where text, background and cursor stand behind the palette.
const SPECIAL: u16 = 256;

/// Descriptions of the colours that are not as the viewer has them, as the program gave them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Colours {
    set: BTreeMap<u16, String>,
}

impl Colours {
    /// Puts them all back, in the viewer's terminal.
    pub(crate) const RESET: &[u8] = b"\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\";

    /// OSC `number` with `payload`; whatever is no colour or a question does nothing.
    pub(crate) fn command(&mut self, number: u16, payload: &str) {
        match number {
            4 => {
                let mut slots = payload.split(';');
                while let (Some(index), Some(colour)) = (slots.next(), slots.next()) {
                    if let Some(index) = palette_index(index) {
                        self.define(index, colour);
                    }
                }
            }
            10..=12 => {
                for (index, colour) in (number - 10 + SPECIAL..SPECIAL + 3).zip(payload.split(';'))
                {
                    self.define(index, colour);
                }
            }
            104 if payload.is_empty() => self.set.retain(|index, _| *index >= SPECIAL),
            104 => {
                for index in payload.split(';').filter_map(palette_index) {
                    self.set.remove(&index);
                }
            }
            110..=112 => {
                self.set.remove(&(number - 110 + SPECIAL));
            }
            _ => {}
        }
    }

    /// Writes the commands that redefine them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (index, colour) in &self.set {
            // Writing to a vector cannot fail.
            let _ = match index.checked_sub(SPECIAL) {
                None => write!(out, "\x1b]4;{index};{colour}\x1b\\"),
                Some(special) => write!(out, "\x1b]{};{colour}\x1b\\", special + 10),
            };
        }
    }

    fn define(&mut self, index: u16, colour: &str) {
        let plausible = |byte: u8| byte.is_ascii_alphanumeric() || b"#:/,.".contains(&byte);
        if !colour.is_empty() && colour.len() <= LONGEST && colour.bytes().all(plausible) {
            self.set.insert(index, colour.to_owned());
        }
    }
}

fn palette_index(text: &str) -> Option<u16> {
    text.parse().ok().filter(|index| *index < SPECIAL)
}
