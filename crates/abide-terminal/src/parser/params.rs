//! The numbers of a control sequence.

use std::io::Write as _;

/// As many as xterm.js keeps; what follows is ignored, as there.
const MOST: usize = 32;

/// Parameters, and behind each its sub-parameters. A parameter that is left out is 0, a sub-parameter
/// that is left out is -1.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    values: [i32; MOST],
    /// Where the sub-parameters of each begin and end.
    spans: [(u8, u8); MOST],
    length: usize,
    subs: [i32; MOST],
    subs_length: usize,
    /// Digits belong to a sub-parameter.
    in_sub: bool,
    /// There was no room for the parameter that digits belong to.
    full: bool,
    subs_full: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            values: [0; MOST],
            spans: [(0, 0); MOST],
            length: 1,
            subs: [0; MOST],
            subs_length: 0,
            in_sub: false,
            full: false,
            subs_full: false,
        }
    }
}

impl Params {
    /// One parameter, left out.
    pub(crate) fn reset(&mut self) {
        self.values[0] = 0;
        self.spans[0] = (0, 0);
        self.length = 1;
        self.subs_length = 0;
        self.in_sub = false;
        self.full = false;
        self.subs_full = false;
    }

    /// How many there are, at least one.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// A parameter; 0 when there is none at `index`.
    pub(crate) fn get(&self, index: usize) -> i32 {
        if index < self.length {
            self.values[index]
        } else {
            0
        }
    }

    /// A parameter that counts something, at least one.
    pub(crate) fn count(&self, index: usize) -> usize {
        usize::try_from(self.get(index)).unwrap_or(0).max(1)
    }

    /// The sub-parameters of one parameter.
    pub(crate) fn subs(&self, index: usize) -> &[i32] {
        if index >= self.length {
            return &[];
        }
        let (start, end) = self.spans[index];
        &self.subs[usize::from(start)..usize::from(end)]
    }

    /// All parameters, without their sub-parameters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        self.values[..self.length].iter().copied()
    }

    /// Writes them so that more digits may follow.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for index in 0..self.length {
            if index > 0 {
                out.push(b';');
            }
            // Writing to a vector cannot fail.
            let _ = write!(out, "{}", self.values[index]);
            for sub in self.subs(index) {
                out.push(b':');
                if *sub >= 0 {
                    let _ = write!(out, "{sub}");
                }
            }
        }
        if self.full {
            out.push(b';');
        }
        if self.subs_full && self.in_sub {
            out.push(b':');
        }
    }

    pub(super) fn next(&mut self) {
        self.in_sub = false;
        if self.length >= MOST {
            self.full = true;
            return;
        }
        let at = u8::try_from(self.subs_length).unwrap_or(u8::MAX);
        self.spans[self.length] = (at, at);
        self.values[self.length] = 0;
        self.length += 1;
    }

    pub(super) fn next_sub(&mut self) {
        self.in_sub = true;
        if self.full || self.subs_length >= MOST {
            self.subs_full = true;
            return;
        }
        self.subs[self.subs_length] = -1;
        self.subs_length += 1;
        self.spans[self.length - 1].1 += 1;
    }

    pub(super) fn digit(&mut self, digit: u8) {
        if self.full || self.in_sub && (self.subs_full || self.subs_length == 0) {
            return;
        }
        let value = if self.in_sub {
            &mut self.subs[self.subs_length - 1]
        } else {
            &mut self.values[self.length - 1]
        };
        *value = (*value)
            .max(0)
            .saturating_mul(10)
            .saturating_add(i32::from(digit));
    }
}
