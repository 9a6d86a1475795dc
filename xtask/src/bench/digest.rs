//! Whether bytes that came are the ones that were sent.

/// A count and a hash of bytes, however they are cut into pieces. Eight bytes at a time, so that
/// it costs a fiftieth of what reading them does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// How many there were.
    pub(super) bytes: usize,
    hash: u64,
    /// The bytes that do not make eight yet.
    rest: [u8; 8],
}

impl Digest {
    /// Adds what came next.
    pub(super) fn add(&mut self, mut data: &[u8]) {
        let kept = self.bytes % 8;
        self.bytes += data.len();
        if kept > 0 {
            let (head, tail) = data.split_at(data.len().min(8 - kept));
            self.rest[kept..kept + head.len()].copy_from_slice(head);
            if kept + head.len() < 8 {
                return;
            }
            self.mix(self.rest);
            data = tail;
        }
        let (words, rest) = data.as_chunks();
        for word in words {
            self.mix(*word);
        }
        self.rest = [0; 8];
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    fn mix(&mut self, word: [u8; 8]) {
        let mixed = self.hash.rotate_left(5) ^ u64::from_le_bytes(word);
        self.hash = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_sees_bytes_and_not_pieces() {
        let data: Vec<u8> = (0..=255).cycle().take(1003).collect();
        let mut whole = Digest::default();
        whole.add(&data);
        for size in [1, 3, 8, 13, 500] {
            let mut pieces = Digest::default();
            data.chunks(size).for_each(|piece| pieces.add(piece));
            assert_eq!(pieces, whole, "pieces of {size}");
        }
        let mut other = Digest::default();
        other.add(&data[..1002]);
        other.add(b"?");
        assert_ne!(other, whole);
    }
}
