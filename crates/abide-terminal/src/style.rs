//! How a cell looks: colours, attributes, the link it belongs to.

mod select;
mod write;

pub(crate) use self::write::{Pen, decimal};

/// A colour, told apart as the program told it: the default, one of the 16, one of the 256, or red,
/// green and blue. The upper byte is the kind, the lower three the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Colour(u32);

impl Colour {
    const SIXTEEN: u32 = 1 << 24;
    const PALETTE: u32 = 2 << 24;
    const RGB: u32 = 3 << 24;

    fn sixteen(index: i32) -> Self {
        Self(Self::SIXTEEN | (index as u32 & 0xf))
    }

    fn palette(index: i32) -> Self {
        Self(Self::PALETTE | (index as u32 & 0xff))
    }

    fn rgb([red, green, blue]: [i32; 3]) -> Self {
        let byte = |value: i32| value as u32 & 0xff;
        Self(Self::RGB | byte(red) << 16 | byte(green) << 8 | byte(blue))
    }
}

/// What SGR and DECSCA switch on and off, one bit each, and the form of the underline in the top bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes(u16);

impl Attributes {
    pub(crate) const BOLD: u16 = 1;
    pub(crate) const DIM: u16 = 1 << 1;
    pub(crate) const ITALIC: u16 = 1 << 2;
    pub(crate) const BLINK: u16 = 1 << 3;
    pub(crate) const INVERSE: u16 = 1 << 4;
    pub(crate) const HIDDEN: u16 = 1 << 5;
    pub(crate) const STRUCK: u16 = 1 << 6;
    pub(crate) const OVERLINE: u16 = 1 << 7;
    pub(crate) const PROTECTED: u16 = 1 << 8;
    const UNDERLINE: u32 = 13;

    pub(crate) fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    pub(crate) fn set(&mut self, bits: u16, on: bool) {
        if on {
            self.0 |= bits;
        } else {
            self.0 &= !bits;
        }
    }

    /// 0 is none, 1 single, 2 double, 3 curly, 4 dotted, 5 dashed.
    fn underline(self) -> u16 {
        self.0 >> Self::UNDERLINE
    }

    fn set_underline(&mut self, form: u16) {
        self.0 = self.0 & ((1 << Self::UNDERLINE) - 1) | form << Self::UNDERLINE;
    }
}

/// The look of a cell, or of what is printed next.
#[derive(Clone, Copy, Debug, Default, Eq)]
#[repr(C)]
pub(crate) struct Style {
    pub(crate) foreground: Colour,
    pub(crate) background: Colour,
    pub(crate) underline: Colour,
    pub(crate) attributes: Attributes,
    /// The hyperlink; 0 is none.
    pub(crate) link: u16,
}

/// In two comparisons instead of five: it is asked of every cell that is drawn.
impl PartialEq for Style {
    fn eq(&self, other: &Self) -> bool {
        self.packed() == other.packed()
    }
}

impl Style {
    fn packed(self) -> [u64; 2] {
        let colours = u64::from(self.foreground.0) | u64::from(self.background.0) << 32;
        let rest = u64::from(self.underline.0)
            | u64::from(self.attributes.0) << 32
            | u64::from(self.link) << 48;
        [colours, rest]
    }

    /// What an erased cell looks like: the background stays.
    pub(crate) fn erased(self) -> Self {
        Self {
            background: self.background,
            ..Self::default()
        }
    }

    /// Whether erasing under some pen can give a cell this look.
    pub(crate) fn is_erased(self) -> bool {
        self == self.erased()
    }
}
