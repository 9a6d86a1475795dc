//! Character sets of the DEC terminals: line drawing and the national sets, which replace some of ASCII.

/// A character set, by the last character of the sequence that designates it. ASCII is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charset(u8);

/// G0 to G3, which of them is in use, and what the use of it amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charsets {
    sets: [Option<Charset>; 4],
    level: usize,
    /// The set in use. It differs from `sets[level]` after a saved cursor was restored.
    current: Option<Charset>,
}

impl Charset {
    /// What `designator` stands for: nothing for one that is not known, `Some(None)` for ASCII.
    fn designated(designator: u8) -> Option<Option<Self>> {
        match designator {
            b'B' => Some(None),
            _ if !changes(designator).is_empty() => Some(Some(Self(designator))),
            _ => None,
        }
    }

    /// The character that ASCII `byte` stands for.
    pub(crate) fn map(self, byte: u8) -> char {
        changes(self.0)
            .split(' ')
            .find_map(|pair| {
                let mut pair = pair.chars();
                (pair.next() == Some(char::from(byte))).then(|| pair.next())?
            })
            .unwrap_or(char::from(byte))
    }

    /// The byte that `byte` is drawn by, where something else stands in its place.
    pub(crate) fn drawn_by(self, byte: u8) -> Option<u8> {
        if self.map(byte) == char::from(byte) {
            return None;
        }
        changes(self.0).split(' ').find_map(|pair| {
            let mut pair = pair.chars();
            let (from, to) = (pair.next()?, pair.next()?);
            (to == char::from(byte)).then(|| u8::try_from(from).ok())?
        })
    }
}

impl Charsets {
    /// The set in use, unless it is ASCII.
    pub(crate) fn current(&self) -> Option<Charset> {
        self.current
    }

    /// Shifts G`level` in.
    pub(crate) fn shift(&mut self, level: usize) {
        self.level = level;
        self.current = self.sets[level];
    }

    /// `ESC intermediate designator`.
    pub(crate) fn designate(&mut self, intermediate: u8, designator: u8) {
        let level = match intermediate {
            b'(' => 0,
            b')' | b'-' => 1,
            b'*' | b'.' => 2,
            b'+' => 3,
            _ => return,
        };
        if let Some(set) = Charset::designated(designator) {
            self.set(level, set);
        }
    }

    /// ASCII into all four, without a shift.
    pub(crate) fn all_ascii(&mut self) {
        for level in 0..4 {
            self.set(level, None);
        }
    }

    /// ASCII into G0, and that shifted in.
    pub(crate) fn reset_to_ascii(&mut self) {
        self.shift(0);
        self.set(0, None);
    }

    /// What comes with a saved cursor.
    pub(crate) fn restore(&mut self, saved: Option<Charset>) {
        self.current = saved;
    }

    /// Whether the set in use is the one that was shifted in.
    pub(crate) fn is_shifted(&self) -> bool {
        self.current == self.sets[self.level]
    }

    /// Writes what gives a reset terminal these sets.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (set, intermediate) in self.sets.iter().zip(*b"()*+") {
            if set.is_some() {
                write_designation(intermediate, *set, out);
            }
        }
        match self.level {
            0 => {}
            1 => out.push(0x0e),
            2 => out.extend_from_slice(b"\x1bn"),
            _ => out.extend_from_slice(b"\x1bo"),
        }
    }

    fn set(&mut self, level: usize, set: Option<Charset>) {
        self.sets[level] = set;
        if self.level == level {
            self.current = set;
        }
    }
}

/// Writes the designation of `set`.
pub(crate) fn write_designation(intermediate: u8, set: Option<Charset>, out: &mut Vec<u8>) {
    let designator = set.map_or(b'B', |set| set.0);
    out.extend_from_slice(&[0x1b, intermediate, designator]);
}

/// Pairs of an ASCII character and what stands in its place.
fn changes(designator: u8) -> &'static str {
    match designator {
        b'0' => {
            "`◆ a▒ b␉ c␌ d␍ e␊ f° g± h␤ i␋ j┘ k┐ l┌ m└ n┼ o⎺ p⎻ q─ r⎼ s⎽ t├ u┤ v┴ w┬ x│ y≤ z≥ {π |≠ }£ ~·"
        }
        b'A' => "#£",
        b'4' => "#£ @¾ [i \\½ ]| {¨ |f }¼ ~´",
        b'C' | b'5' => "[Ä \\Ö ]Å ^Ü `é {ä |ö }å ~ü",
        b'R' => "#£ @à [° \\ç ]§ {é |ù }è ~¨",
        b'Q' => "@à [â \\ç ]ê ^î `ô {é |ù }è ~û",
        b'K' => "@§ [Ä \\Ö ]Ü {ä |ö }ü ~ß",
        b'Y' => "#£ @§ [° \\ç ]é `ù {à |ò }è ~ì",
        b'E' | b'6' => "@Ä [Æ \\Ø ]Å ^Ü `ä {æ |ø }å ~ü",
        b'Z' => "#£ @§ [¡ \\Ñ ]¿ {° |ñ }ç",
        b'H' | b'7' => "@É [Ä \\Ö ]Å ^Ü `é {ä |ö }å ~ü",
        b'=' => "#ù @à [é \\ç ]ê ^î _è `ô {ä |ö }ü ~û",
        _ => "",
    }
}
