//! Finds control sequences in a stream of characters: the state machine of the DEC terminals as
//! Paul Williams described it (<https://vt100.net/emu/dec_ansi_parser>), with what xterm.js adds:
//! sub-parameters behind colons, an OSC that BEL ends, C1 controls as code points.
//!
//! ```text
//!            ESC            [              digit            @ … ~
//!  Ground ───────► Escape ────► CsiEntry ────────► CsiParam ─────► Ground, event `Csi`
//!    ▲               │ ]  ► Osc ──── BEL, ESC, ST ───────────────► event `Osc`
//!    │               │ P  ► DcsEntry … ─► DcsBody ── ESC, ST ────► event `DcsEnd`
//!    │               │ X ^ _ ► Text (ignored up to ESC or ST)
//!    └── CAN, SUB, a C1 control: from anywhere
//! ```

mod params;

pub(crate) use self::params::Params;

/// Payload that is kept of an OSC. The longest that means anything here are links and titles.
const LONGEST_PAYLOAD: usize = 1 << 16;

/// Where in a sequence the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Ground,
    Escape,
    EscapeIntermediate,
    CsiEntry,
    CsiParam,
    CsiIntermediate,
    CsiIgnore,
    /// SOS, PM or APC.
    Text,
    Osc,
    DcsEntry,
    DcsParam,
    DcsIntermediate,
    DcsIgnore,
    DcsBody,
}

/// What a character amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing yet, or nothing at all.
    None,
    /// A character for the screen.
    Print(char),
    /// A control character.
    Execute(u8),
    /// An escape sequence with this last character.
    Escape(u8),
    /// A control sequence with this last character.
    Csi(u8),
    /// An OSC has ended; its payload is in [`Parser::payload`], unless it was cancelled.
    Osc { cancelled: bool },
    /// A device control string has told what it is.
    DcsStart(u8),
    /// A device control string has ended.
    DcsEnd,
}

/// The state machine and what it has collected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parser {
    state: State,
    params: Params,
    collected: u32,
    payload: String,
    overlong: bool,
}

impl Parser {
    /// Where in a sequence the stream is.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The parameters of the present CSI or DCS.
    pub(crate) fn params(&self) -> &Params {
        &self.params
    }

    /// Prefix and intermediates of the present sequence, one per byte, the latest lowest: `?` and `$`
    /// of `CSI ? 1 $ p` are `0x3f24`.
    pub(crate) fn collected(&self) -> u32 {
        self.collected
    }

    /// What the present OSC carries; nothing if it was too long.
    pub(crate) fn payload(&self) -> &str {
        if self.overlong { "" } else { &self.payload }
    }

    /// Writes what brings a new parser to where this one is in a sequence. A device control string or a
    /// text that nobody here reads is not repeated: its rest will be passed over too.
    pub(crate) fn write_unfinished(&self, out: &mut Vec<u8>) {
        match self.state {
            State::Ground => {}
            State::Escape => out.push(0x1b),
            State::EscapeIntermediate => {
                out.push(0x1b);
                self.write_collected(out);
            }
            State::CsiEntry => out.extend_from_slice(b"\x1b["),
            State::CsiParam => {
                out.extend_from_slice(b"\x1b[");
                self.write_collected(out);
                self.params.write(out);
            }
            State::CsiIntermediate => {
                out.extend_from_slice(b"\x1b[");
                let mut collected = Vec::new();
                self.write_collected(&mut collected);
                let prefix = collected.iter().take_while(|byte| **byte >= b'<').count();
                out.extend_from_slice(&collected[..prefix]);
                self.params.write(out);
                out.extend_from_slice(&collected[prefix..]);
            }
            State::CsiIgnore => out.extend_from_slice(b"\x1b[0<"),
            State::Text => out.extend_from_slice(b"\x1bX"),
            State::Osc => {
                out.extend_from_slice(b"\x1b]");
                let payload = if self.overlong { "~" } else { &self.payload };
                out.extend_from_slice(payload.as_bytes());
            }
            State::DcsEntry | State::DcsParam | State::DcsIntermediate => {
                out.extend_from_slice(b"\x1bP");
            }
            State::DcsIgnore | State::DcsBody => out.extend_from_slice(b"\x1bP0<"),
        }
    }

    /// Takes the next character.
    pub(crate) fn advance(&mut self, code: u32) -> Event {
        if code < 0x20 || (0x80..0xa0).contains(&code) {
            return self.control(code);
        }
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        let ascii = u8::try_from(code).unwrap_or(0xff);
        match self.state {
            State::Ground if ascii == 0x7f => Event::None,
            State::Ground => Event::Print(character),
            State::Osc => {
                if self.payload.len() >= LONGEST_PAYLOAD {
                    self.overlong = true;
                } else {
                    self.payload.push(character);
                }
                Event::None
            }
            State::Text => self.text(code),
            State::DcsBody => Event::None,
            State::DcsIgnore | State::CsiIgnore if code >= 0xa0 => Event::None,
            // Neither letter nor digit of any sequence: the sequence is given up.
            _ if code >= 0xa0 => self.to(State::Ground),
            _ if ascii == 0x7f => Event::None,
            State::Escape => self.escape(ascii),
            State::EscapeIntermediate => match ascii {
                0x20..=0x2f => self.collect(ascii, State::EscapeIntermediate),
                _ => self.end(Event::Escape(ascii)),
            },
            State::CsiEntry | State::CsiParam | State::CsiIntermediate | State::CsiIgnore => {
                self.csi(ascii)
            }
            State::DcsEntry | State::DcsParam | State::DcsIntermediate | State::DcsIgnore => {
                self.dcs(ascii)
            }
        }
    }

    /// Takes a whole control sequence at the start of `bytes` that has nothing but numbers, as most have.
    /// Returns its last character and what is behind it; otherwise nothing has happened. Only in the
    /// ground state.
    pub(crate) fn plain_sequence<'a>(&mut self, bytes: &'a [u8]) -> Option<(u8, &'a [u8])> {
        let numbers = bytes.strip_prefix(b"\x1b[")?;
        let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b';');
        let length = numbers.iter().position(|byte| !is_number(byte))?;
        let (numbers, rest) = numbers.split_at(length);
        let (last, behind) = rest.split_first()?;
        if !matches!(last, 0x40..=0x7e) {
            return None;
        }
        self.clear();
        for byte in numbers {
            if *byte == b';' {
                self.params.next();
            } else {
                self.params.digit(byte - b'0');
            }
        }
        Some((*last, behind))
    }

    /// A control character, C0 or C1.
    fn control(&mut self, code: u32) -> Event {
        let control = u8::try_from(code).unwrap_or(0);
        let in_osc = self.state == State::Osc;
        let in_dcs = self.state == State::DcsBody;
        match control {
            // ESC, CAN, SUB and ST end a string, whatever else they do.
            0x1b | 0x18 | 0x1a | 0x9c if in_osc || in_dcs => {
                self.clear();
                self.state = if control == 0x1b {
                    State::Escape
                } else {
                    State::Ground
                };
                let cancelled = matches!(control, 0x18 | 0x1a);
                if in_osc {
                    Event::Osc { cancelled }
                } else {
                    Event::DcsEnd
                }
            }
            0x07 if in_osc => {
                self.clear();
                self.end(Event::Osc { cancelled: false })
            }
            0x1b => self.begin(State::Escape),
            0x9b => self.begin(State::CsiEntry),
            0x90 => self.begin(State::DcsEntry),
            0x9d => self.begin_osc(),
            0x98 | 0x9e | 0x9f => self.to(State::Text),
            0x9c => self.to(State::Ground),
            0x18 | 0x1a | 0x80..=0x9a => self.end(Event::Execute(control)),
            _ => match self.state {
                State::Ground
                | State::Escape
                | State::EscapeIntermediate
                | State::CsiEntry
                | State::CsiParam
                | State::CsiIntermediate
                | State::CsiIgnore => Event::Execute(control),
                State::Text
                | State::Osc
                | State::DcsEntry
                | State::DcsParam
                | State::DcsIntermediate
                | State::DcsIgnore
                | State::DcsBody => Event::None,
            },
        }
    }

    fn text(&mut self, code: u32) -> Event {
        if code >= 0xa0 {
            self.state = State::Ground;
        }
        Event::None
    }

    fn escape(&mut self, byte: u8) -> Event {
        match byte {
            0x20..=0x2f => self.collect(byte, State::EscapeIntermediate),
            b'[' => self.begin(State::CsiEntry),
            b']' => self.begin_osc(),
            b'P' => self.begin(State::DcsEntry),
            b'X' | b'^' | b'_' => self.to(State::Text),
            _ => self.end(Event::Escape(byte)),
        }
    }

    fn csi(&mut self, byte: u8) -> Event {
        match (self.state, byte) {
            (State::CsiIgnore, 0x40..) => self.to(State::Ground),
            (State::CsiIgnore, _) => Event::None,
            (_, 0x40..) => self.end(Event::Csi(byte)),
            (_, 0x20..=0x2f) => self.collect(byte, State::CsiIntermediate),
            (State::CsiEntry | State::CsiParam, 0x30..=0x3b) => self.param(byte, State::CsiParam),
            (State::CsiEntry, _) => self.collect(byte, State::CsiParam),
            _ => self.to(State::CsiIgnore),
        }
    }

    fn dcs(&mut self, byte: u8) -> Event {
        match (self.state, byte) {
            (State::DcsIgnore, _) => Event::None,
            (_, 0x40..) => {
                self.state = State::DcsBody;
                Event::DcsStart(byte)
            }
            (_, 0x20..=0x2f) => self.collect(byte, State::DcsIntermediate),
            (State::DcsEntry | State::DcsParam, 0x30..=0x3b) => self.param(byte, State::DcsParam),
            (State::DcsEntry, _) => self.collect(byte, State::DcsParam),
            _ => self.to(State::DcsIgnore),
        }
    }

    fn param(&mut self, byte: u8, state: State) -> Event {
        match byte {
            b';' => self.params.next(),
            b':' => self.params.next_sub(),
            digit => self.params.digit(digit - b'0'),
        }
        self.to(state)
    }

    fn collect(&mut self, byte: u8, state: State) -> Event {
        self.collected = self.collected << 8 | u32::from(byte);
        self.to(state)
    }

    fn write_collected(&self, out: &mut Vec<u8>) {
        let bytes = self.collected.to_be_bytes();
        out.extend(bytes.iter().filter(|byte| **byte != 0));
    }

    fn begin(&mut self, state: State) -> Event {
        self.clear();
        self.to(state)
    }

    fn begin_osc(&mut self) -> Event {
        self.payload.clear();
        self.overlong = false;
        self.to(State::Osc)
    }

    fn clear(&mut self) {
        self.params.reset();
        self.collected = 0;
    }

    fn to(&mut self, state: State) -> Event {
        self.state = state;
        Event::None
    }

    fn end(&mut self, event: Event) -> Event {
        self.state = State::Ground;
        event
    }
}
