//! What a program on a terminal is given.

use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};

/// A terminal to be made for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its size, set before the program starts.
    pub size: WindowSize,
    /// Starts the program under its name with a dash before it: a shell is a login shell then.
    #[serde(default)]
    pub login: bool,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
    /// Width in pixels, 0 when nobody knows.
    #[serde(default)]
    pub pixel_width: u16,
    /// Height in pixels, 0 when nobody knows.
    #[serde(default)]
    pub pixel_height: u16,
}

impl WindowSize {
    /// So many columns and rows, of unknown width and height.
    pub const fn new(columns: u16, rows: u16) -> Self {
        Self {
            columns,
            rows,
            pixel_width: 0,
            pixel_height: 0,
        }
    }

    /// As it goes over the wire and into a journal's header; zeros stand for no size at all.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let numbers = [self.columns, self.rows, self.pixel_width, self.pixel_height];
        let [[a, b], [c, d], [e, f], [g, h]] = numbers.map(u16::to_le_bytes);
        [a, b, c, d, e, f, g, h]
    }

    pub(crate) fn from_bytes([a, b, c, d, e, f, g, h]: [u8; 8]) -> Self {
        let [columns, rows, pixel_width, pixel_height] =
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes);
        Self {
            columns,
            rows,
            pixel_width,
            pixel_height,
        }
    }
}

impl From<WindowSize> for Winsize {
    fn from(size: WindowSize) -> Self {
        Self {
            ws_col: size.columns,
            ws_row: size.rows,
            ws_xpixel: size.pixel_width,
            ws_ypixel: size.pixel_height,
        }
    }
}

impl From<Winsize> for WindowSize {
    fn from(size: Winsize) -> Self {
        Self {
            columns: size.ws_col,
            rows: size.ws_row,
            pixel_width: size.ws_xpixel,
            pixel_height: size.ws_ypixel,
        }
    }
}

/// What a program must know of its terminal and `env` does not say: which one it is, unless some
/// `TERM` is named, and that it speaks UTF-8, unless the locale does already or is forced.
pub(crate) fn missing_variables(env: &[(String, String)]) -> Vec<(&'static str, &'static str)> {
    let value = |name: &str| {
        let named = env.iter().rev().find(|(key, _)| key == name);
        named
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    };
    let mut missing = Vec::new();
    if value("TERM").is_none() {
        missing.push(("TERM", "xterm-256color"));
        if value("COLORTERM").is_none() {
            missing.push(("COLORTERM", "truecolor"));
        }
    }
    let is_utf8 = |locale: &str| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    };
    let locale = value("LC_CTYPE").or(value("LANG"));
    if value("LC_ALL").is_none() && !locale.is_some_and(is_utf8) {
        missing.push(("LC_CTYPE", "C.UTF-8"));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_stays() {
        let check = |env: &[(&str, &str)], expected: &[&str]| {
            let env: Vec<_> = env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let missing = missing_variables(&env);
            let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, expected, "{env:?}");
        };
        check(&[], &["TERM", "COLORTERM", "LC_CTYPE"]);
        check(&[("TERM", "")], &["TERM", "COLORTERM", "LC_CTYPE"]);
        check(&[("TERM", "dumb")], &["LC_CTYPE"]);
        check(&[("COLORTERM", "24bit")], &["TERM", "LC_CTYPE"]);
        let term = ("TERM", "xterm");
        check(&[term, ("LANG", "de_DE.UTF-8")], &[]);
        check(&[term, ("LANG", "de_DE.utf8")], &[]);
        check(&[term, ("LANG", "C")], &["LC_CTYPE"]);
        check(
            &[term, ("LANG", "C.UTF-8"), ("LC_CTYPE", "C")],
            &["LC_CTYPE"],
        );
        check(&[term, ("LC_ALL", "C")], &[]);
    }

    #[test]
    fn a_size_survives_the_wire() {
        let size = WindowSize {
            columns: 513,
            rows: 2,
            pixel_width: 65_535,
            pixel_height: 4,
        };
        assert_eq!(WindowSize::from_bytes(size.to_bytes()), size);
        assert_eq!(WindowSize::from(Winsize::from(size)), size);
    }
}
