//! The end of what an interpreter wrote to standard error: why it died, when it says so itself.

/// The end that a crash report quotes, in bytes.
const TAIL_BYTES: usize = 4096;
/// What V8 says before it aborts for want of memory; the exit itself is a plain SIGABRT.
const HEAP_EXHAUSTED: &[u8] = b"JavaScript heap out of memory";
/// What the C++ runtime says, last of all, when an allocation outside V8's heap fails and nothing
/// catches that; the exit is the same.
const ALLOCATION_FAILED: &str = "std::bad_alloc";
/// How much may follow it: every thread that was collecting garbage prints a native stack, which
/// has been seen to take 30 KiB.
const AFTER_BYTES: usize = 256 * 1024;

/// Standard error, as far as it may explain a death.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    tail: Vec<u8>,
    heap_exhausted: Option<HeapExhausted>,
}

/// The line in which V8 gave up.
#[derive(Debug)]
struct HeapExhausted {
    line: String,
    /// Bytes since.
    after: usize,
}

impl LastWords {
    /// Takes what comes next.
    pub(super) fn push(&mut self, data: &[u8]) {
        if let Some(found) = &mut self.heap_exhausted {
            found.after = found.after.saturating_add(data.len());
        }
        let kept = &data[data.len().saturating_sub(TAIL_BYTES)..];
        let near = HEAP_EXHAUSTED.len() - 1;
        let mut seam = self.tail[self.tail.len().saturating_sub(near)..].to_vec();
        seam.extend_from_slice(&data[..data.len().min(near)]);
        if let Some(at) = find(data) {
            self.found(&data[..at], data.len() - at);
        } else if find(&seam).is_some() {
            self.found(&[], data.len());
        }
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend_from_slice(kept);
    }

    /// Whether it says that memory ran out: the JavaScript heap, or an allocation of native code.
    pub(super) fn say_out_of_memory(&self) -> bool {
        let last = &self.tail[self.tail.len().saturating_sub(200)..];
        self.exhausted().is_some() || String::from_utf8_lossy(last).contains(ALLOCATION_FAILED)
    }

    /// The end of it; before that the line that matters, when it lies further back.
    pub(super) fn quoted(&self) -> String {
        let tail = String::from_utf8_lossy(&self.tail);
        match self.exhausted() {
            Some(found) if !tail.contains(&found.line) => format!("{}\n[…]\n{tail}", found.line),
            _ => tail.into_owned(),
        }
    }

    fn exhausted(&self) -> Option<&HeapExhausted> {
        let found = self.heap_exhausted.as_ref();
        found.filter(|found| found.after <= AFTER_BYTES)
    }

    /// `before` is what the data has before it. Several threads may say it; the first explains.
    fn found(&mut self, before: &[u8], after: usize) {
        if self.exhausted().is_some() {
            return;
        }
        let line = before.iter().rposition(|byte| *byte == b'\n');
        let begins = line.map_or(0, |at| at + 1);
        let begins = begins.max(before.len().saturating_sub(200));
        let mut line = String::from_utf8_lossy(&before[begins..]).into_owned();
        line.push_str(&String::from_utf8_lossy(HEAP_EXHAUSTED));
        self.heap_exhausted = Some(HeapExhausted { line, after });
    }
}

/// Where V8 gives up. Most of what is written has no capital J, which is soon seen.
fn find(data: &[u8]) -> Option<usize> {
    let is_here = |window: &[u8]| window == HEAP_EXHAUSTED;
    if !data.contains(&HEAP_EXHAUSTED[0]) {
        return None;
    }
    data.windows(HEAP_EXHAUSTED.len()).position(is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"FATAL ERROR: Allocation failed - JavaScript heap out of memory";

    fn words(pieces: &[&[u8]]) -> LastWords {
        let mut words = LastWords::default();
        for piece in pieces {
            words.push(piece);
        }
        words
    }

    #[test]
    fn keeps_the_end() {
        let long = "0123456789".repeat(1000);
        for size in [1, 7, 4095, 4096, 4097, 10_000] {
            let pieces: Vec<&[u8]> = long.as_bytes().chunks(size).collect();
            assert_eq!(words(&pieces).quoted(), long[long.len() - TAIL_BYTES..]);
            assert!(!words(&pieces).say_out_of_memory());
        }
    }

    #[test]
    fn hears_v8_give_up_wherever_the_pieces_end() {
        for cut in 0..=LINE.len() {
            let (first, second) = LINE.split_at(cut);
            assert!(words(&[b"before\n", first, second]).say_out_of_memory());
        }
    }

    #[test]
    fn hears_native_code_give_up_if_that_is_the_last_it_says() {
        const SAID: &[u8] = b"terminate called after throwing an instance of 'St9bad_alloc'\n  \
                              what():  std::bad_alloc\n";
        assert!(words(&[b"before\n", SAID]).say_out_of_memory());
        assert!(!words(&[SAID, &[b'.'; 300]]).say_out_of_memory());
    }

    #[test]
    fn quotes_it_from_before_many_stacks_but_not_from_long_ago() {
        let stacks = " 1: 0xb9bbf0 node::Abort() [node]\n".repeat(1000);
        let mut words = words(&[b"...\n", LINE, b"\n", stacks.as_bytes()]);
        let quoted = words.quoted();
        assert!(quoted.starts_with("FATAL ERROR: Allocation"), "{quoted}");
        assert!(quoted.ends_with("node::Abort() [node]\n"));
        assert!(words.say_out_of_memory());
        words.push(&vec![b'.'; AFTER_BYTES]);
        assert!(!words.say_out_of_memory());
        words.push(LINE);
        assert!(words.say_out_of_memory());
    }
}
