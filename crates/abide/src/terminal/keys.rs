//! The key that detaches.

/// `Ctrl` with one of the keys that have a control character; or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKey {
    /// What a terminal may send for it.
    sent: Vec<Vec<u8>>,
}

impl DetachKey {
    /// From `ctrl-]`, `^]` or `none`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self { sent: Vec::new() });
        }
        let lower = text.to_ascii_lowercase();
        let key = ["ctrl-", "ctrl+", "^"]
            .iter()
            .find_map(|prefix| lower.strip_prefix(prefix));
        match key.map(str::as_bytes) {
            Some(&[key @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Ok(Self {
                sent: vec![
                    vec![key & 0x1f],
                    // To programs that asked for keys to be told apart: CSI u, modifyOtherKeys.
                    format!("\x1b[{key};5u").into_bytes(),
                    format!("\x1b[27;5;{key}~").into_bytes(),
                ],
            }),
            _ => {
                Err("write ctrl-] or ctrl- with a letter or one of @ [ \\ ^ _; or none".to_owned())
            }
        }
    }

    /// Where it stands in what was typed.
    pub(crate) fn find(&self, typed: &[u8]) -> Option<usize> {
        let find = |sent: &Vec<u8>| typed.windows(sent.len()).position(|window| window == sent);
        self.sent.iter().filter_map(find).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found() {
        let check = |key: &str, typed: &str, expected| {
            let found = DetachKey::parse(key).unwrap().find(typed.as_bytes());
            assert_eq!(found, expected, "{key} {typed:?}");
        };
        check("ctrl-]", "ab\x1d", Some(2));
        check("^]", "\x1d", Some(0));
        check("ctrl-]", "a\x1b[93;5u", Some(1));
        check("Ctrl-]", "a\x1b[27;5;93~", Some(1));
        check("ctrl-]", "]\x1b[93;6u", None);
        check("ctrl-A", "\x01", Some(0));
        check("ctrl-\\", "\x1c", Some(0));
        check("none", "\x1d", None);
        for wrong in ["", "x", "ctrl-", "ctrl-]]", "ctrl-1", "^ü"] {
            assert!(DetachKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
