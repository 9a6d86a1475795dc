//! Server-sent events, as the WHATWG HTML standard describes the stream format.

use memchr::memchr2;

/// Largest message that is accepted, in bytes. Keeps a broken server from filling our memory;
/// generous, since a step's result with figures arrives as one message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// One dispatched message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The `event` field; `message` when there was none.
    pub event: String,
    /// The `data` lines, joined with line feeds. Bytes, because nothing says they are UTF-8.
    pub data: Vec<u8>,
    /// The last `id` seen in the stream, this message's own or an earlier one's.
    pub id: Option<String>,
}

/// A message outgrew [`MAX_MESSAGE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of more than {MAX_MESSAGE_BYTES} bytes")]
pub struct TooLarge;

/// An incremental parser: bytes go in however they are cut, messages come out.
#[derive(Debug, Default)]
pub struct SseParser {
    /// Not yet parsed; the first `taken` bytes of it already are.
    buffer: Vec<u8>,
    taken: usize,
    /// No line end is in `buffer[taken..scanned]`.
    scanned: usize,
    /// The byte order mark can no longer come.
    begun: bool,
    /// The last line ended in CR: a LF that follows belongs to it.
    after_cr: bool,
    event: String,
    data: Vec<u8>,
    has_data: bool,
    id: Option<String>,
}

impl SseParser {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.scanned -= self.taken;
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, or `None` until more bytes are pushed. What the stream's end
    /// leaves incomplete is never delivered.
    pub fn next_message(&mut self) -> Result<Option<Message>, TooLarge> {
        if !self.begun && !self.skip_byte_order_mark() {
            return Ok(None);
        }
        while let Some((start, end)) = self.next_line() {
            if start == end {
                if let Some(message) = self.dispatch() {
                    return Ok(Some(message));
                }
                continue;
            }
            self.field(start, end)?;
        }
        if self.buffer.len() - self.taken > MAX_MESSAGE_BYTES {
            Err(TooLarge)
        } else {
            Ok(None)
        }
    }

    /// False while the bytes so far could be the beginning of a byte order mark.
    fn skip_byte_order_mark(&mut self) -> bool {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if self.buffer.starts_with(MARK) {
            self.taken = MARK.len();
            self.scanned = MARK.len();
        } else if MARK.starts_with(&self.buffer) {
            return false;
        }
        self.begun = true;
        true
    }

    /// The bounds of the next line, without its end.
    fn next_line(&mut self) -> Option<(usize, usize)> {
        if self.after_cr && self.taken < self.buffer.len() {
            self.after_cr = false;
            if self.buffer[self.taken] == b'\n' {
                self.taken += 1;
                self.scanned = self.scanned.max(self.taken);
            }
        }
        let start = self.taken;
        let from = self.scanned.max(start);
        let Some(found) = memchr2(b'\n', b'\r', &self.buffer[from..]) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = from + found;
        // A CR ends the line at once; waiting to see whether a LF follows would hold the message
        // back until the next one comes.
        self.after_cr = self.buffer[end] == b'\r';
        self.taken = end + 1;
        self.scanned = self.taken;
        Some((start, end))
    }

    fn field(&mut self, start: usize, end: usize) -> Result<(), TooLarge> {
        let line = &self.buffer[start..end];
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return Ok(()),
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &line[..0]),
        };
        match name {
            b"data" => {
                if self.data.len() + value.len() > MAX_MESSAGE_BYTES {
                    return Err(TooLarge);
                }
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => {
                self.id = Some(String::from_utf8_lossy(value).into_owned());
            }
            // `retry` sets the browser's own delay; ours is the caller's. The rest is unknown.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let event = if event.is_empty() {
            "message".to_owned()
        } else {
            event
        };
        Some(Message {
            event,
            data: std::mem::take(&mut self.data),
            id: self.id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<(String, String, Option<String>)> {
        let mut parser = SseParser::default();
        let mut messages = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            while let Some(m) = parser.next_message().unwrap() {
                messages.push((m.event, String::from_utf8_lossy(&m.data).into_owned(), m.id));
            }
        }
        messages
    }

    fn check(stream: &[u8], expected: &[(&str, &str, Option<&str>)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(e, d, i)| ((*e).to_owned(), (*d).to_owned(), i.map(str::to_owned)))
            .collect();
        assert_eq!(parse(&[stream]), expected, "in one piece");
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(parse(&bytes), expected, "byte by byte");
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(parse(&[a, b]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn every_rule_of_the_format() {
        check(b"data: a\n\n", &[("message", "a", None)]);
        check(b"data:a\n\n", &[("message", "a", None)]);
        check(b"data:  a\n\n", &[("message", " a", None)]);
        check(
            b"data: a\ndata: b\ndata\n\n",
            &[("message", "a\nb\n", None)],
        );
        check(
            b"event: x\r\nid: 7\r\ndata: 1\r\n\r\n",
            &[("x", "1", Some("7"))],
        );
        check(
            b"event: x\rdata: 1\r\rdata: 2\r\r",
            &[("x", "1", None), ("message", "2", None)],
        );
        check(b": keep-alive\n\ndata: 1\n\n", &[("message", "1", None)]);
        check(b"event: lonely\n\ndata: 1\n\n", &[("message", "1", None)]);
        check(
            b"id: 1\ndata: a\n\ndata: b\n\n",
            &[("message", "a", Some("1")), ("message", "b", Some("1"))],
        );
        check(b"id: 1\ndata: a\nid\n\n", &[("message", "a", Some(""))]);
        check(b"id: a\0b\ndata: 1\n\n", &[("message", "1", None)]);
        check(b"\xef\xbb\xbfdata: 1\n\n", &[("message", "1", None)]);
        check(b"data: \xef\xbb\xbf\n\n", &[("message", "\u{feff}", None)]);
        check(
            b"retry: 5\nnonsense\ndata: 1\n\n",
            &[("message", "1", None)],
        );
        check(
            b"data: whole\n\ndata: cut off\n",
            &[("message", "whole", None)],
        );
        check(b"data: a: b\n\n", &[("message", "a: b", None)]);
        check(b"data\n\n", &[("message", "", None)]);
        check(b"", &[]);
        check(
            "data: žluťoučký 🐎\n\n".as_bytes(),
            &[("message", "žluťoučký 🐎", None)],
        );
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = SseParser::default();
        parser.push(b"data: ");
        parser.push(&vec![b'x'; MAX_MESSAGE_BYTES + 1]);
        assert_eq!(parser.next_message(), Err(TooLarge));
    }

    /// Lines and their ends as a server might write them.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let field = prop_oneof![
            Just("data: ".to_owned()),
            "data: ?[a-z: 🐎]{0,6}",
            "event: [a-z]{0,3}",
            "id: [0-9]{0,2}",
            ": [a-z]{0,3}",
            Just(String::new()),
        ];
        let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
        prop::collection::vec((field, end), 0..24).prop_map(|lines| lines.concat_bytes())
    }

    trait ConcatBytes {
        fn concat_bytes(self) -> Vec<u8>;
    }

    impl ConcatBytes for Vec<(String, &str)> {
        fn concat_bytes(self) -> Vec<u8> {
            self.into_iter()
                .map(|(field, end)| field + end)
                .collect::<String>()
                .into_bytes()
        }
    }

    /// The format's rules once more, on the whole text and as plainly as possible.
    fn model(stream: &[u8]) -> Vec<(String, String, Option<String>)> {
        let text = String::from_utf8_lossy(stream)
            .replace("\r\n", "\n")
            .replace('\r', "\n");
        let (mut event, mut data, mut id) = (String::new(), Vec::<&str>::new(), None);
        let mut messages = Vec::new();
        let mut lines: Vec<&str> = text.split('\n').collect();
        lines.pop();
        for line in lines {
            if line.is_empty() {
                if !data.is_empty() {
                    let name = if event.is_empty() { "message" } else { &event };
                    messages.push((name.to_owned(), data.join("\n"), id.clone()));
                }
                (event, data) = (String::new(), Vec::new());
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "data" => data.push(value),
                "event" => event = value.to_owned(),
                "id" => id = Some(value.to_owned()),
                _ => {}
            }
        }
        messages
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(stream in stream(), cuts in prop::collection::vec(0usize..200, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % (stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&stream[from..cut]);
                from = cut;
            }
            chunks.push(&stream[from..]);
            prop_assert_eq!(parse(&chunks), model(&stream));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&[&bytes]);
        }
    }
}
