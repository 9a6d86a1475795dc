//! What is typed, and the key that detaches.

use tokio::sync::mpsc;

use crate::error::{CommandError, Result};

/// `Ctrl` with one of the keys that have a control character; or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKey {
    /// What a terminal may send for it.
    sent: Vec<Vec<u8>>,
}

impl DetachKey {
    /// From `ctrl-]`, `^]` or `none`.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        if text == "none" {
            return Ok(Self { sent: Vec::new() });
        }
        let lower = text.to_ascii_lowercase();
        let key = ["ctrl-", "ctrl+", "^"]
            .iter()
            .find_map(|prefix| lower.strip_prefix(prefix));
        match key.map(str::as_bytes) {
            Some(&[key @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Ok(Self {
                sent: vec![
                    vec![key & 0x1f],
                    // To programs that asked for keys to be told apart: CSI u, modifyOtherKeys.
                    format!("\x1b[{key};5u").into_bytes(),
                    format!("\x1b[27;5;{key}~").into_bytes(),
                ],
            }),
            _ => {
                Err("write ctrl-] or ctrl- with a letter or one of @ [ \\ ^ _; or none".to_owned())
            }
        }
    }

    /// Where it stands in what was typed.
    pub(crate) fn find(&self, typed: &[u8]) -> Option<usize> {
        let find = |sent: &Vec<u8>| typed.windows(sent.len()).position(|window| window == sent);
        self.sent.iter().filter_map(find).min()
    }
}

/// What is typed.
#[derive(Debug)]
pub(crate) enum Keys {
    /// Before it is attached.
    Unasked,
    /// They come from a thread.
    Open(mpsc::Receiver<Vec<u8>>),
    /// There will be no more.
    Ended,
}

impl Keys {
    /// Begins to read standard input. The thread ends with the program: nobody else can end a read.
    pub(crate) fn ask(&mut self) -> Result {
        if !matches!(self, Self::Unasked) {
            return Ok(());
        }
        let (sender, keys) = mpsc::channel(16);
        let reading = std::thread::Builder::new().spawn(move || {
            let mut typed = [0; 8192];
            loop {
                match rustix::io::read(rustix::stdio::stdin(), &mut typed) {
                    Ok(0) => return,
                    Ok(count) if sender.blocking_send(typed[..count].to_vec()).is_ok() => {}
                    Err(rustix::io::Errno::INTR) => {}
                    Ok(_) | Err(_) => return,
                }
            }
        });
        reading.map_err(|e| CommandError::io("cannot read standard input", &e))?;
        *self = Self::Open(keys);
        Ok(())
    }

    /// What is typed next; nothing, once, at the end of input.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        match self {
            Self::Open(keys) => keys.recv().await.unwrap_or_else(|| {
                *self = Self::Ended;
                Vec::new()
            }),
            Self::Unasked | Self::Ended => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found() {
        let check = |key: &str, typed: &str, expected| {
            let found = DetachKey::parse(key).unwrap().find(typed.as_bytes());
            assert_eq!(found, expected, "{key} {typed:?}");
        };
        check("ctrl-]", "ab\x1d", Some(2));
        check("^]", "\x1d", Some(0));
        check("ctrl-]", "a\x1b[93;5u", Some(1));
        check("Ctrl-]", "a\x1b[27;5;93~", Some(1));
        check("ctrl-]", "]\x1b[93;6u", None);
        check("ctrl-A", "\x01", Some(0));
        check("ctrl-\\", "\x1c", Some(0));
        check("none", "\x1d", None);
        for wrong in ["", "x", "ctrl-", "ctrl-]]", "ctrl-1", "^ü"] {
            assert!(DetachKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
