//! How large a screen is, within what can be kept.

use crate::Error;

/// Columns and rows of a screen: 2 to 4,096 columns, 1 to 4,096 rows, at most 2^20 cells, so that
/// nobody's window, however it was dragged, takes more than 20 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    cols: u16,
    rows: u16,
}

impl Size {
    const LONGEST: u16 = 4096;
    const MOST_CELLS: u32 = 1 << 20;

    /// A size; one column is refused because a wide character would have no place.
    ///
    /// # Errors
    /// [`Error::Size`] outside of the limits.
    pub fn new(cols: u16, rows: u16) -> Result<Self, Error> {
        let fits = (2..=Self::LONGEST).contains(&cols)
            && (1..=Self::LONGEST).contains(&rows)
            && u32::from(cols) * u32::from(rows) <= Self::MOST_CELLS;
        if fits {
            Ok(Self { cols, rows })
        } else {
            Err(Error::Size { cols, rows })
        }
    }

    /// The size of a screen that there is.
    pub(crate) fn of(cols: usize, rows: usize) -> Self {
        let small = |value: usize| u16::try_from(value).unwrap_or(Self::LONGEST);
        Self {
            cols: small(cols),
            rows: small(rows),
        }
    }

    /// Cells in a row.
    #[must_use]
    pub fn cols(self) -> u16 {
        self.cols
    }

    /// Rows.
    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows
    }
}
