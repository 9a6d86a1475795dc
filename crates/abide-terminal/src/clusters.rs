//! Characters of several code points, such as a letter and its accents, that cells refer to.

/// Code points in one cell. What is stacked higher is no writing.
const MOST: usize = 32;

/// The clusters that cells refer to, by number. They are never changed: a further accent makes a further
/// cluster, and what no cell refers to is forgotten from time to time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clusters {
    texts: Vec<Box<str>>,
}

impl Clusters {
    /// Collected when there are this many more than were in use the last time.
    pub(crate) const MANY: usize = 4096;

    /// `base` with `mark` behind it. Nothing if it is full.
    pub(crate) fn join(&mut self, base: &str, mark: char) -> Option<u32> {
        if base.chars().count() >= MOST {
            return None;
        }
        let number = u32::try_from(self.texts.len()).ok()?;
        let mut text = String::with_capacity(base.len() + mark.len_utf8());
        text.push_str(base);
        text.push(mark);
        self.texts.push(text.into());
        Some(number)
    }

    /// A cluster's text.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.texts
            .get(number as usize)
            .map_or("", |text| text.as_ref())
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Forgets the clusters that are not in `used`; returns the new number of each.
    pub(crate) fn collect(&mut self, used: &[bool]) -> Vec<u32> {
        let mut numbers = vec![0; self.texts.len()];
        let mut kept = Vec::new();
        for (index, text) in std::mem::take(&mut self.texts).into_iter().enumerate() {
            if used.get(index) == Some(&true) {
                numbers[index] = kept.len() as u32;
                kept.push(text);
            }
        }
        self.texts = kept;
        numbers
    }
}
