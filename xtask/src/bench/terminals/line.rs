//! What a viewer of a terminal does, whatever shows it the terminal.

use std::time::Instant;

use anyhow::Result;

/// A viewer that types. Dropping it leaves; whether the program lives on is the host's affair.
pub(super) trait Line {
    /// Types.
    fn send(&mut self, bytes: &[u8]) -> Result<()>;

    /// Waits until something comes and hands that on. An error when nothing comes for long, or the
    /// terminal is gone.
    fn receive(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<()>;

    /// Says that everything received so far was dealt with, to a host that wants to know.
    fn acknowledge(&mut self) -> Result<()> {
        Ok(())
    }

    /// Bytes that came over the network so far, if there is one between.
    fn wire_bytes(&self) -> Option<u64> {
        None
    }
}

/// Receives until `text` has come.
pub(super) fn until(line: &mut dyn Line, text: &str) -> Result<()> {
    let mut search = Search::new(text);
    while !search.is_found {
        line.receive(&mut |bytes| search.add(bytes))?;
    }
    Ok(())
}

/// Presses Enter and receives until `text` has come; returns how long that took, in seconds.
pub(super) fn enter_until(line: &mut dyn Line, text: &str) -> Result<f64> {
    let begun = Instant::now();
    line.send(b"\n")?;
    until(line, text)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Types what ends the program and stays until it has ended, so that no run finds what another left.
pub(super) fn finish(mut line: Box<dyn Line>, typed: &str) -> Result<()> {
    line.send(typed.as_bytes())?;
    while line.receive(&mut |_| {}).is_ok() {}
    Ok(())
}

/// Looks for a text in bytes, however they are cut into pieces.
#[derive(Debug)]
pub(super) struct Search {
    text: Vec<u8>,
    /// The end of what came before: too short to hold the text.
    tail: Vec<u8>,
    pub(super) is_found: bool,
}

impl Search {
    /// For a text of one byte at least.
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            tail: Vec::new(),
            is_found: false,
        }
    }

    /// Looks at what came.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let length = self.text.len();
        self.tail
            .extend_from_slice(&bytes[..bytes.len().min(length)]);
        self.is_found |= contains(&self.tail, &self.text) || contains(bytes, &self.text);
        if bytes.len() > length {
            self.tail.extend_from_slice(&bytes[bytes.len() - length..]);
        }
        let from = self.tail.len().saturating_sub(length - 1);
        self.tail.drain(..from);
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == text[0]) {
        rest = &rest[at..];
        if rest.starts_with(text) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_pieces() {
        let bytes = b"....the-the-end>....";
        for size in 1..bytes.len() {
            let mut search = Search::new("the-end>");
            for (number, piece) in bytes.chunks(size).enumerate() {
                search.add(piece);
                assert_eq!(
                    search.is_found,
                    (number + 1) * size >= 16,
                    "pieces of {size}"
                );
            }
        }
        let mut search = Search::new("the-end>");
        bytes[..15].chunks(2).for_each(|piece| search.add(piece));
        assert!(!search.is_found);
    }
}
