//! Takes out of recorded output what must not happen a second time: queries, which would be answered into
//! the program's input, bells, and writes to the clipboard.

mod query;

use crate::parser::{Event, Parser, State};
use crate::utf8::Utf8;

/// A sequence that has grown so long without telling what it is will not be anything to wait for.
const LONGEST_HELD: usize = 1 << 17;

const ENQ: u8 = 0x05;
const BEL: u8 = 0x07;
const ESC: u8 = 0x1b;

/// A filter for output that is replayed to a viewer. It drops queries, bells and clipboard writes, and
/// passes everything else byte for byte; it may be fed in any pieces.
///
/// What may yet turn out to be one of those is held back, until it is complete or known to be another thing.
#[derive(Clone, Debug, Default)]
pub struct ReplayFilter {
    utf8: Utf8,
    parser: Parser,
    fate: Fate,
    /// The bytes of the present character, as far as they have come.
    character: Vec<u8>,
    /// The bytes of the present sequence, as long as nothing is decided.
    held: Vec<u8>,
    /// Control characters within it, which take effect whatever becomes of the sequence.
    controls: Vec<u8>,
    /// The ESC at the end of a string that was dropped, of which the `\` has not come yet.
    dropped_terminator: bool,
    /// What was passed before anybody asked for it.
    ahead: Vec<u8>,
}

/// What becomes of the bytes of the present sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Pass,
    Hold,
    Drop,
}

impl ReplayFilter {
    /// A filter for output from its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A filter that goes on behind `unfinished`, which is passed on too if it is not dropped.
    pub(crate) fn behind(unfinished: &[u8]) -> Self {
        let mut filter = Self::new();
        let mut ahead = Vec::new();
        filter.feed(unfinished, &mut ahead);
        filter.ahead = ahead;
        filter
    }

    /// Takes what comes next and appends what is to be sent to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.append(&mut self.ahead);
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            if self.parser.state() == State::Ground && self.utf8.at_boundary() {
                let run = innocent(rest);
                if run > 0 {
                    out.extend_from_slice(&rest[..run]);
                    rest = &rest[run..];
                    continue;
                }
            }
            self.byte(*byte, out);
            rest = &rest[1..];
        }
    }

    /// Ends the replay. What was held back is what the output that follows goes on from.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.ahead);
        if self.dropped_terminator && self.parser.state() == State::Escape {
            return out;
        }
        out.append(&mut self.held);
        if self.fate != Fate::Drop {
            out.append(&mut self.character);
        }
        out
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte & 0xc0 != 0x80 {
            // A character that is not completed is no part of what begins here.
            self.pass_character(out);
        }
        self.character.push(byte);
        let Some(code) = self.utf8.push(byte) else {
            if self.utf8.at_boundary() {
                self.pass_character(out);
            }
            return;
        };
        let was = self.parser.state();
        let event = self.parser.advance(code);
        let begins = code == u32::from(ESC)
            || (0x80..0xa0).contains(&code) && self.parser.state() != State::Ground;
        let mut ended_dropped = false;
        match event {
            Event::None => {}
            Event::Print(_) => return self.pass_character(out),
            Event::Execute(control) => return self.control(control, was, out),
            Event::Csi(last) => {
                return self.end(query::is_csi(&self.parser, last), out);
            }
            Event::Escape(last) => {
                let dropped = std::mem::take(&mut self.dropped_terminator) && last == b'\\';
                return self.end(dropped || query::is_escape(&self.parser, last), out);
            }
            Event::DcsStart(last) => {
                self.decide(query::is_dcs(&self.parser, last), out);
            }
            Event::Osc { .. } | Event::DcsEnd => {
                let query = matches!(event, Event::Osc { .. })
                    && self.fate == Fate::Hold
                    && query::is_osc(self.parser.payload());
                ended_dropped = query || self.fate == Fate::Drop;
                if !begins {
                    return self.end(ended_dropped, out);
                }
                self.decide(ended_dropped, out);
            }
        }
        if begins {
            self.begin(ended_dropped, out);
        } else if self.parser.state() == State::Ground {
            // Given up: it was no sequence after all.
            return self.end(self.fate == Fate::Drop, out);
        } else if self.parser.state() == State::Osc
            && self.fate == Fate::Hold
            && let Some(query) = query::is_osc_from_its_number(self.parser.payload())
        {
            self.decide(query, out);
        } else if self.parser.state() == State::Text {
            self.decide(false, out);
        }
        self.pass_character(out);
        if self.held.len() > LONGEST_HELD {
            self.decide(true, out);
        }
    }

    /// A control character, outside of a sequence, within one, or instead of its end.
    fn control(&mut self, control: u8, was: State, out: &mut Vec<u8>) {
        if matches!(control, BEL | ENQ) {
            self.character.clear();
        } else if was == State::Ground {
            self.pass_character(out);
        } else if self.parser.state() == State::Ground {
            // It ends the sequence, which means nothing then.
            self.end(self.fate == Fate::Drop, out);
        } else {
            if self.fate == Fate::Hold {
                self.controls.extend_from_slice(&self.character);
            }
            self.pass_character(out);
        }
    }

    /// A sequence begins with the present character.
    fn begin(&mut self, behind_dropped: bool, out: &mut Vec<u8>) {
        if self.fate == Fate::Hold {
            // One that began before has come to nothing.
            self.decide(false, out);
        }
        self.fate = Fate::Hold;
        self.dropped_terminator = behind_dropped;
        self.controls.clear();
    }

    /// The present sequence ends with the present character.
    fn end(&mut self, query: bool, out: &mut Vec<u8>) {
        self.decide(query, out);
        self.pass_character(out);
        self.fate = Fate::Pass;
        self.dropped_terminator = false;
    }

    /// Decides what becomes of the present sequence.
    fn decide(&mut self, query: bool, out: &mut Vec<u8>) {
        if self.fate != Fate::Hold {
            return;
        }
        if query {
            self.fate = Fate::Drop;
            self.held.clear();
            out.append(&mut self.controls);
        } else {
            self.fate = Fate::Pass;
            out.append(&mut self.held);
            self.controls.clear();
        }
    }

    fn pass_character(&mut self, out: &mut Vec<u8>) {
        match self.fate {
            Fate::Pass => out.append(&mut self.character),
            Fate::Hold => self.held.append(&mut self.character),
            Fate::Drop => self.character.clear(),
        }
    }
}

/// How many bytes at the start are text and controls that may be passed without a look.
fn innocent(bytes: &[u8]) -> usize {
    let suspicious = |byte: &u8| matches!(*byte, ENQ | BEL | ESC | 0x80..);
    bytes.iter().position(suspicious).unwrap_or(bytes.len())
}
