//! Recordings of terminals as asciicast: a header, then a line of JSON for each thing that happened.
//!
//! Version 2 tells when since the beginning, version 3 how long after the event before. Text is
//! UTF-8: what was cut within a character is put together again, and what is no text becomes U+FFFD.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What terminals are told they are.
const TERM: &str = "xterm-256color";

crate::closed_set! {
    /// Which asciicast.
    CastFormat {
        /// Version 2, which most players read.
        V2 = "v2",
        /// Version 3, which also tells how the program ended.
        V3 = "v3",
    }
}

/// What a recording begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CastHeader {
    /// Columns at the beginning.
    pub cols: u16,
    /// Rows at the beginning.
    pub rows: u16,
    /// When it began, in seconds since 1970.
    pub timestamp: Option<i64>,
    /// What it is called.
    pub title: Option<String>,
    /// What was started.
    pub command: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CastEvent {
    /// The terminal's programs wrote this.
    Output(String),
    /// The terminal has another size from here on.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The program ended with this exit status.
    Exit(i32),
    /// A place worth finding, with its name.
    Marker(String),
    /// What was typed, or something of a later version: nothing to show.
    Other,
}

/// A recording that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    /// The first line is no header.
    #[error("the first line is no header of an asciicast: {0}")]
    Header(String),
    /// A version that is not read here.
    #[error("asciicast version {0} is not read, only 2 and 3")]
    Version(u64),
    /// A line is no event.
    #[error("a line is no event of an asciicast: {0}")]
    Event(String),
}

/// Writes a recording, line by line.
#[derive(Debug)]
pub struct CastWriter {
    format: CastFormat,
    /// When the last event was, in microseconds.
    last: u64,
    /// The beginning of a character whose end is still to come.
    cut: Vec<u8>,
}

impl CastWriter {
    /// Writes the header to `out`.
    pub fn new(format: CastFormat, header: &CastHeader, out: &mut String) -> Self {
        let mut head = match format {
            CastFormat::V2 => serde_json::json!({
                "version": 2, "width": header.cols, "height": header.rows, "env": { "TERM": TERM },
            }),
            CastFormat::V3 => serde_json::json!({
                "version": 3, "term": { "cols": header.cols, "rows": header.rows, "type": TERM },
            }),
        };
        let texts = [("title", &header.title), ("command", &header.command)];
        for (name, text) in texts {
            if let Some(text) = text {
                head[name] = text.as_str().into();
            }
        }
        if let Some(timestamp) = header.timestamp {
            head["timestamp"] = timestamp.into();
        }
        out.push_str(&head.to_string());
        out.push('\n');
        Self {
            format,
            last: 0,
            cut: Vec::new(),
        }
    }

    /// `at` is the time since the beginning; earlier than the last counts as the last.
    pub fn output(&mut self, at: Duration, bytes: &[u8], out: &mut String) {
        self.cut.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = &self.cut[..];
        let cut = loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break Vec::new();
                }
                Err(error) => error,
            };
            let (valid, broken) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            match error.error_len() {
                None => break broken.to_vec(),
                Some(length) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &broken[length..];
                }
            }
        };
        self.cut = cut;
        if !text.is_empty() {
            self.event(at, "o", &text, out);
        }
    }

    /// See [`CastEvent::Resize`].
    pub fn resize(&mut self, at: Duration, cols: u16, rows: u16, out: &mut String) {
        self.event(at, "r", &format!("{cols}x{rows}"), out);
    }

    /// See [`CastEvent::Marker`].
    pub fn marker(&mut self, at: Duration, name: &str, out: &mut String) {
        self.event(at, "m", name, out);
    }

    /// See [`CastEvent::Exit`]. Version 2 has no such event.
    pub fn exit(&mut self, at: Duration, status: i32, out: &mut String) {
        if self.format == CastFormat::V3 {
            self.event(at, "x", &status.to_string(), out);
        }
    }

    fn event(&mut self, at: Duration, code: &str, data: &str, out: &mut String) {
        let at = u64::try_from(at.as_micros())
            .unwrap_or(u64::MAX)
            .max(self.last);
        let time = match self.format {
            CastFormat::V2 => at,
            CastFormat::V3 => at - self.last,
        };
        self.last = at;
        let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
        let data = serde_json::Value::from(data);
        out.push_str(&format!("[{seconds}.{micros:06}, \"{code}\", {data}]\n"));
    }
}

/// Reads a recording, line by line.
#[derive(Debug)]
pub struct CastReader {
    format: CastFormat,
    last: Duration,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
    width: Option<u16>,
    height: Option<u16>,
    term: Option<Term>,
    timestamp: Option<serde_json::Number>,
    title: Option<String>,
    command: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Term {
    cols: u16,
    rows: u16,
}

impl CastReader {
    /// Takes the first line.
    ///
    /// # Errors
    /// [`CastError::Header`], [`CastError::Version`]
    pub fn new(line: &str) -> Result<(Self, CastHeader), CastError> {
        let wrong = |what: &dyn std::fmt::Display| CastError::Header(what.to_string());
        let head: Head = serde_json::from_str(line).map_err(|error| wrong(&error))?;
        let format = match head.version {
            2 => CastFormat::V2,
            3 => CastFormat::V3,
            other => return Err(CastError::Version(other)),
        };
        let size = match format {
            CastFormat::V2 => head.width.zip(head.height),
            CastFormat::V3 => head.term.map(|term| (term.cols, term.rows)),
        };
        let (cols, rows) = size.ok_or_else(|| wrong(&"it has no size"))?;
        let header = CastHeader {
            cols,
            rows,
            timestamp: head.timestamp.and_then(|number| number.as_i64()),
            title: head.title,
            command: head.command,
        };
        let last = Duration::ZERO;
        Ok((Self { format, last }, header))
    }

    /// Takes another line: when it happened since the beginning, and what; `None` for a comment.
    ///
    /// # Errors
    /// [`CastError::Event`]
    pub fn event(&mut self, line: &str) -> Result<Option<(Duration, CastEvent)>, CastError> {
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let wrong = |what: &dyn std::fmt::Display| CastError::Event(what.to_string());
        let (time, code, data): (f64, String, String) =
            serde_json::from_str(line).map_err(|error| wrong(&error))?;
        let time = Duration::try_from_secs_f64(time.max(0.0)).map_err(|error| wrong(&error))?;
        let at = match self.format {
            CastFormat::V2 => time.max(self.last),
            CastFormat::V3 => self.last.saturating_add(time),
        };
        self.last = at;
        let event = match code.as_str() {
            "o" => CastEvent::Output(data),
            "r" => {
                let size = data.split_once('x').and_then(|(cols, rows)| {
                    let (cols, rows) = (cols.parse().ok()?, rows.parse().ok()?);
                    Some(CastEvent::Resize { cols, rows })
                });
                size.ok_or_else(|| wrong(&"a size is written like 80x24"))?
            }
            "m" => CastEvent::Marker(data),
            "x" => CastEvent::Exit(data.parse().map_err(|error| wrong(&error))?),
            _ => CastEvent::Other,
        };
        Ok(Some((at, event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> CastHeader {
        CastHeader {
            cols: 80,
            rows: 24,
            timestamp: Some(1_700_000_000),
            title: None,
            command: Some("make \"all\"".to_owned()),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let ms = Duration::from_millis;
        for format in [CastFormat::V2, CastFormat::V3] {
            let mut text = String::new();
            let mut writer = CastWriter::new(format, &header(), &mut text);
            writer.output(ms(1500), "grün \x1b[1m\r\n".as_bytes(), &mut text);
            writer.resize(ms(2000), 100, 30, &mut text);
            // Not back in time.
            writer.marker(ms(1000), "here", &mut text);
            writer.exit(ms(2250), 7, &mut text);
            let mut lines = text.lines();
            let (mut reader, read) = CastReader::new(lines.next().unwrap()).unwrap();
            assert_eq!(read, header(), "{text}");
            let events: Vec<_> = lines
                .map(|line| reader.event(line).unwrap().unwrap())
                .collect();
            let output = CastEvent::Output("grün \x1b[1m\r\n".to_owned());
            let (cols, rows) = (100, 30);
            let mut expected = vec![
                (ms(1500), output),
                (ms(2000), CastEvent::Resize { cols, rows }),
                (ms(2000), CastEvent::Marker("here".to_owned())),
            ];
            if format == CastFormat::V3 {
                expected.push((ms(2250), CastEvent::Exit(7)));
            }
            assert_eq!(events, expected, "{text}");
        }
    }

    #[test]
    fn lines_are_spelled_like_this() {
        let mut text = String::new();
        let mut writer = CastWriter::new(CastFormat::V3, &header(), &mut text);
        writer.output(Duration::from_micros(2_000_123), b"a\x1b\"", &mut text);
        assert_eq!(
            text,
            "{\"command\":\"make \\\"all\\\"\",\"term\":{\"cols\":80,\"rows\":24,\
             \"type\":\"xterm-256color\"},\"timestamp\":1700000000,\"version\":3}\n\
             [2.000123, \"o\", \"a\\u001b\\\"\"]\n"
        );
    }

    #[test]
    fn characters_are_put_together() {
        let check = |pieces: &[&[u8]], expected: &[&str]| {
            let mut text = String::new();
            let mut writer = CastWriter::new(CastFormat::V2, &header(), &mut text);
            let begun = text.len();
            for piece in pieces {
                writer.output(Duration::ZERO, piece, &mut text);
            }
            let events: Vec<(f64, String, String)> = text[begun..]
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let texts: Vec<_> = events.iter().map(|(_, _, data)| data.as_str()).collect();
            assert_eq!(texts, expected);
        };
        check(&[b"gr\xc3", b"\xbcn"], &["gr", "ün"]);
        check(&[b"\xf0\x9f", b"\xa6", b"\x80!"], &["🦀!"]);
        check(&[b"a\xffb", b"\xe2\x82c"], &["a\u{fffd}b", "\u{fffd}c"]);
    }

    #[test]
    fn what_is_no_recording_is_said() {
        let fails = |line: &str| CastReader::new(line).unwrap_err().to_string();
        assert!(fails("hello").contains("no header"));
        assert!(fails("{\"version\":1}").contains("version 1"));
        assert!(fails("{\"version\":3}").contains("no size"));
        let (mut reader, _) = CastReader::new("{\"version\":2,\"width\":2,\"height\":1}").unwrap();
        assert_eq!(reader.event("# a comment").unwrap(), None);
        assert_eq!(
            reader.event("[1, \"i\", \"typed\"]").unwrap(),
            Some((Duration::from_secs(1), CastEvent::Other))
        );
        for line in ["[1, \"r\", \"80\"]", "[1e300, \"o\", \"\"]", "[\"o\"]"] {
            reader.event(line).unwrap_err();
        }
    }
}
