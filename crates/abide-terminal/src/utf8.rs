//! Decodes UTF-8 byte by byte. What is malformed is left out, as xterm.js leaves it out: no
//! replacement character, and a byte order mark counts as malformed.

/// A decoder that may stop and go on anywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Utf8 {
    /// The character as far as it has come.
    code: u32,
    /// Bytes that are still to come; 0 between characters.
    missing: u8,
    /// The bytes of the character as far as it has come.
    bytes: [u8; 3],
    /// How many of them there are.
    length: u8,
}

impl Utf8 {
    /// Takes one byte; returns the code point that it completes.
    pub(crate) fn push(&mut self, byte: u8) -> Option<u32> {
        if self.missing > 0 {
            if byte & 0xc0 == 0x80 {
                return self.go_on(byte);
            }
            // The character is given up; the byte starts afresh.
            self.missing = 0;
        }
        let (missing, bits) = match byte {
            0..=0x7f => return Some(u32::from(byte)),
            0xc0..=0xdf => (1, byte & 0x1f),
            0xe0..=0xef => (2, byte & 0x0f),
            0xf0..=0xf7 => (3, byte & 0x07),
            _ => return None,
        };
        self.code = u32::from(bits);
        self.missing = missing;
        self.bytes[0] = byte;
        self.length = 1;
        None
    }

    /// Whether the next byte begins a character.
    pub(crate) fn at_boundary(&self) -> bool {
        self.missing == 0
    }

    /// The bytes of a character whose end has not come yet.
    pub(crate) fn unfinished(&self) -> &[u8] {
        if self.missing == 0 {
            &[]
        } else {
            &self.bytes[..usize::from(self.length)]
        }
    }

    fn go_on(&mut self, byte: u8) -> Option<u32> {
        self.code = self.code << 6 | u32::from(byte & 0x3f);
        self.missing -= 1;
        if self.missing > 0 {
            self.bytes[usize::from(self.length)] = byte;
            self.length += 1;
            return None;
        }
        let least = match self.length {
            1 => 0x80,
            2 => 0x800,
            _ => 0x1_0000,
        };
        let valid = self.code >= least && self.code != 0xfeff;
        // Refuses surrogates and what is beyond Unicode.
        char::from_u32(self.code).filter(|_| valid).map(u32::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let mut decoder = Utf8::default();
        let decoded: String = bytes
            .iter()
            .filter_map(|byte| decoder.push(*byte))
            .filter_map(char::from_u32)
            .collect();
        assert_eq!(decoded, expected, "{bytes:x?}");
    }

    #[test]
    fn well_formed_text_comes_through_and_the_rest_is_left_out() {
        check("aé—🦀\u{80}".as_bytes(), "aé—🦀\u{80}");
        check(b"a\xffb\x80c", "abc");
        check(b"a\xe2\x80b", "ab");
        check(b"\xe2\xe2\x80\x94", "—");
        check(b"\xed\xa0\x80x", "x");
        check(b"\xc1\x81x", "x");
        check(b"\xf4\x90\x80\x80x", "x");
        check("\u{feff}x".as_bytes(), "x");
    }

    #[test]
    fn an_unfinished_character_can_be_carried_over() {
        let mut decoder = Utf8::default();
        for byte in &"🦀".as_bytes()[..3] {
            assert_eq!(decoder.push(*byte), None);
        }
        assert_eq!(decoder.unfinished(), &"🦀".as_bytes()[..3]);
        assert_eq!(decoder.push("🦀".as_bytes()[3]), Some(u32::from('🦀')));
        assert!(decoder.unfinished().is_empty());
    }
}
