//! SGR, select graphic rendition: what `CSI … m` does to the pen.

use super::{Attributes, Colour, Style};
use crate::parser::Params;

impl Style {
    /// Applies the parameters of `CSI … m`.
    pub(crate) fn select(&mut self, params: &Params) {
        let mut index = 0;
        while index < params.len() {
            let code = params.get(index);
            if matches!(code, 38 | 48 | 58) {
                index += self.select_colour(code, params, index);
            } else {
                self.select_one(code, params.subs(index));
            }
            index += 1;
        }
    }

    fn select_one(&mut self, code: i32, subs: &[i32]) {
        use Attributes as A;
        let attributes = &mut self.attributes;
        match code {
            0 => {
                // The link is no part of the rendition.
                *self = Self {
                    link: self.link,
                    ..Self::default()
                }
            }
            1 => attributes.set(A::BOLD, true),
            2 => attributes.set(A::DIM, true),
            3 => attributes.set(A::ITALIC, true),
            4 => attributes.set_underline(match subs.first() {
                Some(form @ 0..=5) => *form as u16,
                _ => 1,
            }),
            5 => attributes.set(A::BLINK, true),
            7 => attributes.set(A::INVERSE, true),
            8 => attributes.set(A::HIDDEN, true),
            9 => attributes.set(A::STRUCK, true),
            21 => attributes.set_underline(2),
            22 => attributes.set(A::BOLD | A::DIM, false),
            23 => attributes.set(A::ITALIC, false),
            24 => attributes.set_underline(0),
            25 => attributes.set(A::BLINK, false),
            27 => attributes.set(A::INVERSE, false),
            28 => attributes.set(A::HIDDEN, false),
            29 => attributes.set(A::STRUCK, false),
            30..=37 => self.foreground = Colour::sixteen(code - 30),
            39 => self.foreground = Colour::default(),
            40..=47 => self.background = Colour::sixteen(code - 40),
            49 => self.background = Colour::default(),
            53 => attributes.set(A::OVERLINE, true),
            55 => attributes.set(A::OVERLINE, false),
            59 => self.underline = Colour::default(),
            90..=97 => self.foreground = Colour::sixteen(code - 90 + 8),
            100..=107 => self.background = Colour::sixteen(code - 100 + 8),
            _ => {}
        }
    }

    /// `38`, `48` or `58` and what follows, in any of the forms that are about: `38;5;n`, `38;2;r;g;b`,
    /// `38:5:n`, `38:2:r:g:b`, `38:2::r:g:b` and mixtures. Returns how many further parameters it took.
    fn select_colour(&mut self, target: i32, params: &Params, index: usize) -> usize {
        // Kind, colour space, then up to three values.
        let mut slots = [0, 0, -1, 0, 0, 0];
        let mut space = 0;
        let mut taken = 0;
        loop {
            slots[taken + space] = params.get(index + taken);
            let subs = params.subs(index + taken);
            if !subs.is_empty() {
                for (nth, sub) in subs.iter().enumerate() {
                    if slots[1] == 5 {
                        space = 1;
                    }
                    let slot = taken + nth + 1 + space;
                    if slot >= slots.len() {
                        break;
                    }
                    slots[slot] = *sub;
                }
                // `38:2:r:g:b`, without the colour space, is read as xterm.js reads it: the first
                // value is taken for the colour space.
                break;
            }
            let complete =
                slots[1] == 5 && taken + space >= 2 || slots[1] == 2 && taken + space >= 5;
            if complete {
                break;
            }
            if slots[1] != 0 {
                space = 1;
            }
            taken += 1;
            if index + taken >= params.len() || taken + space >= slots.len() {
                break;
            }
        }
        let value = |slot: usize| slots[slot].max(0);
        let colour = match slots[1] {
            2 => Colour::rgb([value(3), value(4), value(5)]),
            5 => Colour::palette(value(3)),
            _ => return taken,
        };
        match target {
            38 => self.foreground = colour,
            48 => self.background = colour,
            _ => self.underline = colour,
        }
        taken
    }
}
