//! Text out of bytes that come in pieces.

/// Decodes UTF-8 so that no character is split: the bytes of one that is not whole wait for the rest.
/// What is no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub(super) struct TextStream {
    /// At most three bytes.
    unfinished: Vec<u8>,
}

impl TextStream {
    /// The text of what has come, up to the last whole character.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> String {
        let mut joined = std::mem::take(&mut self.unfinished);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let rest = chunk.invalid();
            if rest.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && may_go_on(rest) {
                self.unfinished = rest.to_vec();
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }
}

/// Whether this is the beginning of a character.
fn may_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_not_matter_how_it_was_cut(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<String>().prop_map(String::into_bytes),
                    prop::collection::vec(any::<u8>(), 0..6),
                    Just("é漢👍".as_bytes().to_vec()),
                ],
                0..8,
            ),
            cuts in prop::collection::vec(1_usize..9, 1..60),
        ) {
            let whole = parts.concat();
            let mut stream = TextStream::default();
            let (mut text, mut rest) = (String::new(), &whole[..]);
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                text.push_str(&stream.decode(piece));
                rest = after;
            }
            // What is left is the beginning of a character, which counts as one that is none.
            if !stream.unfinished.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            prop_assert_eq!(text, String::from_utf8_lossy(&whole).into_owned());
        }
    }
}
