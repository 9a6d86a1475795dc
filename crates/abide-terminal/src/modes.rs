//! What programs switch on and off.

use std::io::Write as _;

/// Modes that the screen itself follows, and those that concern whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Modes {
    /// IRM.
    pub(crate) insert: bool,
    /// LNM: a line feed returns the carriage too.
    pub(crate) newline: bool,
    /// DECOM.
    pub(crate) origin: bool,
    /// DECAWM.
    pub(crate) wrap: bool,
    /// Mode 45: a backspace goes back over a wrap.
    pub(crate) reverse_wrap: bool,
    /// DECKPAM, which mode 66 is too.
    keypad: bool,
    /// DECTCEM.
    cursor: bool,
    /// Mode 12, once a program has said something about it.
    blink: Option<bool>,
    /// DECSCUSR, 1 to 6; 0 is the viewer's own choice.
    cursor_form: u8,
    /// Which mouse events are reported: 9, 1000, 1002, 1003; 0 is none.
    mouse: u16,
    /// How: 1006, 1016; 0 is the oldest way. What came between (1005, 1015) is known to few viewers, so
    /// that it stands beside and not in place of these.
    mouse_encoding: u16,
    /// Bits of [`PLAIN`].
    plain: u32,
    /// modifyOtherKeys, 0 to 2.
    other_keys: u8,
}

/// Private modes that are only told on.
const PLAIN: [u16; 10] = [1, 5, 1004, 1005, 1007, 1015, 2004, 2026, 2027, 2031];

/// Those of them that DECSTR switches off.
const SOFT: [u16; 4] = [1, 1004, 2004, 2026];

impl Default for Modes {
    fn default() -> Self {
        Self {
            insert: false,
            newline: false,
            origin: false,
            wrap: true,
            reverse_wrap: false,
            keypad: false,
            cursor: true,
            blink: None,
            cursor_form: 0,
            mouse: 0,
            mouse_encoding: 0,
            plain: 0,
            other_keys: 0,
        }
    }
}

impl Modes {
    /// `CSI mode h` and `CSI mode l`.
    pub(crate) fn set(&mut self, mode: i32, on: bool) {
        match mode {
            4 => self.insert = on,
            20 => self.newline = on,
            _ => {}
        }
    }

    /// `CSI ? mode h` and `CSI ? mode l`, but for what does more than set a mode.
    pub(crate) fn set_private(&mut self, mode: u16, on: bool) {
        match mode {
            6 => self.origin = on,
            7 => self.wrap = on,
            12 => self.blink = Some(on),
            25 => self.cursor = on,
            45 => self.reverse_wrap = on,
            66 => self.keypad = on,
            9 | 1000 | 1002 | 1003 => self.mouse = if on { mode } else { 0 },
            1006 | 1016 => self.mouse_encoding = if on { mode } else { 0 },
            _ if on => self.plain |= plain_bit(mode),
            _ => self.plain &= !plain_bit(mode),
        }
    }

    /// DECKPAM and DECKPNM.
    pub(crate) fn set_keypad(&mut self, application: bool) {
        self.keypad = application;
    }

    /// DECSCUSR.
    pub(crate) fn set_cursor_form(&mut self, form: i32) {
        if let Some(form) = u8::try_from(form).ok().filter(|form| *form <= 6) {
            self.cursor_form = form;
        }
    }

    /// modifyOtherKeys, `CSI > 4 ; level m`.
    pub(crate) fn set_other_keys(&mut self, level: i32) {
        self.other_keys = u8::try_from(level)
            .ok()
            .filter(|level| *level <= 2)
            .unwrap_or(0);
    }

    /// What DECSTR leaves.
    pub(crate) fn soft_reset(&mut self) {
        let soft = SOFT.iter().fold(0, |bits, mode| bits | plain_bit(*mode));
        *self = Self {
            newline: self.newline,
            blink: self.blink,
            mouse: self.mouse,
            mouse_encoding: self.mouse_encoding,
            plain: self.plain & !soft,
            other_keys: self.other_keys,
            ..Self::default()
        };
    }

    /// Whether the cursor is shown.
    pub(crate) fn shows_cursor(&self) -> bool {
        self.cursor
    }

    /// Writes what a reset terminal needs to have the modes, but for those that bear on printing
    /// (insert, origin, wrap) or that a reset may leave as they were.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut private = |mode: u16, on: bool| {
            // Writing to a vector cannot fail.
            let _ = write!(out, "\x1b[?{mode}{}", if on { 'h' } else { 'l' });
        };
        if let Some(blink) = self.blink {
            private(12, blink);
        }
        // Not every terminal shows the cursor again when it is reset.
        private(25, self.cursor);
        if self.reverse_wrap {
            private(45, true);
        }
        for mode in [self.mouse, self.mouse_encoding] {
            if mode != 0 {
                private(mode, true);
            }
        }
        for mode in PLAIN {
            if self.plain & plain_bit(mode) != 0 {
                private(mode, true);
            }
        }
        out.extend_from_slice(if self.newline {
            b"\x1b[20h"
        } else {
            b"\x1b[20l"
        });
        if self.keypad {
            out.extend_from_slice(b"\x1b=");
        }
        if self.cursor_form != 0 {
            let _ = write!(out, "\x1b[{} q", self.cursor_form);
        }
        if self.other_keys != 0 {
            let _ = write!(out, "\x1b[>4;{}m", self.other_keys);
        }
    }
}

fn plain_bit(mode: u16) -> u32 {
    PLAIN
        .iter()
        .position(|plain| *plain == mode)
        .map_or(0, |index| 1 << index)
}
