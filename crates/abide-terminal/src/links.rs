//! Hyperlinks (OSC 8) that cells refer to.

/// A longer address is no link; other terminals draw the line lower still.
const LONGEST: usize = 4096;

/// The links that cells, pens and saved pens refer to, by number from 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    links: Vec<Link>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    /// What the program called it, so that its parts are known to belong together; may be empty.
    id: String,
    address: String,
}

impl Links {
    /// Collected when there are this many, since most of them have scrolled away by then.
    pub(crate) const MANY: usize = 1024;

    /// The number of the link that the payload of an OSC 8 (without `8;`) opens: 0 if it closes one.
    /// Nothing if it is malformed and does neither.
    pub(crate) fn open(&mut self, payload: &str) -> Option<u16> {
        let (params, address) = payload.split_once(';')?;
        if address.is_empty() {
            return params.trim().is_empty().then_some(0);
        }
        if payload.len() > LONGEST {
            return Some(0);
        }
        let id = params
            .trim()
            .split(':')
            .find_map(|param| param.strip_prefix("id="))
            .unwrap_or_default();
        let link = Link {
            id: id.to_owned(),
            address: address.to_owned(),
        };
        // Links without a name are one as well if they lead to the same place.
        let known = self.links.iter().rposition(|other| *other == link);
        let index = known.unwrap_or_else(|| {
            self.links.push(link);
            self.links.len() - 1
        });
        Some(u16::try_from(index + 1).unwrap_or(0))
    }

    /// Writes the OSC 8 that opens link `number`, or for 0 the one that closes.
    pub(crate) fn write(&self, number: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x1b]8;");
        let link = usize::from(number)
            .checked_sub(1)
            .and_then(|index| self.links.get(index));
        if let Some(link) = link {
            if !link.id.is_empty() {
                out.extend_from_slice(b"id=");
                out.extend_from_slice(link.id.as_bytes());
            }
            out.push(b';');
            out.extend_from_slice(link.address.as_bytes());
        } else {
            out.push(b';');
        }
        out.extend_from_slice(b"\x1b\\");
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Forgets the links that are not in `used`; returns the new number of each.
    pub(crate) fn collect(&mut self, used: &[bool]) -> Vec<u16> {
        let mut numbers = vec![0; self.links.len() + 1];
        let mut kept = Vec::new();
        for (index, link) in std::mem::take(&mut self.links).into_iter().enumerate() {
            if used.get(index + 1) == Some(&true) {
                kept.push(link);
                numbers[index + 1] = u16::try_from(kept.len()).unwrap_or(0);
            }
        }
        self.links = kept;
        numbers
    }
}
