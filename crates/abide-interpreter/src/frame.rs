//! The wire format: a little-endian `u32` payload length, then the payload, a list of fields.
//!
//! ```text
//! frame   = length:u32le payload
//! payload = field*
//! field   = key_length:u8 key value_length:u32le value
//! ```
//!
//! There is no JSON in it because a harness should not have to load a JSON library to answer.

/// The longest payload either side accepts; a longer length means that the stream is broken.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024 * 1024;

const LENGTH_BYTES: usize = 4;

/// Bytes from a harness that are not what the protocol allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length exceeds [`MAX_PAYLOAD_BYTES`].
    #[error("a frame of {0} bytes is longer than the protocol allows")]
    TooLong(usize),
    /// A field runs beyond the end of the payload.
    #[error("a field runs beyond the end of its frame")]
    Truncated,
    /// A key or a value that must be text is not UTF-8.
    #[error("the field {0:?} is not UTF-8")]
    NotText(String),
    /// A field that the operation needs is not there.
    #[error("the field {0:?} is missing")]
    Missing(&'static str),
    /// A field has a value that makes no sense.
    #[error("the field {field:?} has the value {value:?}")]
    Invalid {
        /// Its key.
        field: &'static str,
        /// The first characters of its value.
        value: String,
    },
}

/// The first frame's payload and the bytes the frame takes in `buffer`; `None` until it is
/// complete.
///
/// # Errors
/// [`FrameError::TooLong`]; the stream cannot be resynchronised then.
pub fn split_frame(buffer: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Err(FrameError::TooLong(length));
    }
    Ok(rest
        .get(..length)
        .map(|payload| (payload, LENGTH_BYTES + length)))
}

/// Builds one frame.
pub(crate) struct FrameWriter(Vec<u8>);

impl FrameWriter {
    pub(crate) fn new() -> Self {
        Self(vec![0; LENGTH_BYTES])
    }

    /// Keys are constants of this crate, shorter than 256 bytes.
    pub(crate) fn field(&mut self, key: &'static str, value: &[u8]) {
        debug_assert!(key.len() < 256);
        self.0.push(key.len() as u8);
        self.0.extend_from_slice(key.as_bytes());
        self.0
            .extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.0.extend_from_slice(value);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - LENGTH_BYTES) as u32;
        self.0[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// The fields of a payload, in order; stops after the first error.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn read(&mut self) -> Result<(&'a str, &'a [u8]), FrameError> {
        let key_length = usize::from(self.take(1)?[0]);
        let key = text("key", self.take(key_length)?)?;
        let (length, rest) = self
            .0
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok((key, self.take(u32::from_le_bytes(*length) as usize)?))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a str, &'a [u8]), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// A value that must be UTF-8.
pub(crate) fn text<'a>(key: &str, value: &'a [u8]) -> Result<&'a str, FrameError> {
    std::str::from_utf8(value).map_err(|_| FrameError::NotText(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn incomplete_frames_wait_and_absurd_ones_fail() {
        assert_eq!(split_frame(&[]), Ok(None));
        assert_eq!(split_frame(&[1, 0, 0]), Ok(None));
        assert_eq!(split_frame(&[1, 0, 0, 0]), Ok(None));
        assert_eq!(split_frame(&[1, 0, 0, 0, 7, 9]), Ok(Some((&[7][..], 5))));
        assert_eq!(
            split_frame(&[0xFF; 4]),
            Err(FrameError::TooLong(u32::MAX as usize))
        );
    }

    proptest! {
        #[test]
        fn written_fields_are_read_back(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
        ) {
            let mut writer = FrameWriter::new();
            for value in &values {
                writer.field("value", value);
            }
            let frame = writer.finish();
            let (payload, used) = split_frame(&frame).unwrap().unwrap();
            prop_assert_eq!(used, frame.len());
            let read: Vec<_> = Fields::new(payload).map(|field| field.unwrap().1.to_vec()).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn any_bytes_are_fields_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            for field in Fields::new(&payload) {
                if field.is_err() {
                    break;
                }
            }
            let _ = split_frame(&payload);
        }
    }
}
