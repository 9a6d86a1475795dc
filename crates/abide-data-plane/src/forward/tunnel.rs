//! A WebSocket that goes through this process as bytes, both ways.
//!
//! Nothing is read while what was read before waits to be taken, so whoever is slow is felt at the other
//! end. Of what is shown only the frames' heads are looked at, so that a server that stops can say goodbye
//! between two messages.

use std::time::Duration;

use abide_model::{AttachmentError, FromTerminal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::Sent;

/// Bytes that are under way within this process at most: what viewers type, and what terminals show.
const UNDER_WAY: (usize, usize) = (8 * 1024, 64 * 1024);
/// How long a viewer may take to be told goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// The service restarts (RFC 6455, registered by IANA).
const RESTART: u16 = 1012;
/// Why the server closes.
const STOPPING: &str = "the server is stopping";

/// Joins two streams until one of them ends, or with a goodbye when `stopping`.
pub(super) async fn join<A, B>(
    above: A,
    below: B,
    sent: Option<Sent>,
    stopping: CancellationToken,
) -> std::io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_above, to_above) = tokio::io::split(above);
    let (from_below, to_below) = tokio::io::split(below);
    let typing = hand_down(from_above, to_below);
    let showing = hand_up(from_below, to_above, sent, stopping);
    let mut typing = std::pin::pin!(typing);
    let mut showing = std::pin::pin!(showing);
    tokio::select! {
        shown = &mut showing => shown,
        // What is still to be shown is, to one who only says no more.
        typed = &mut typing => match typed {
            Ok(()) => showing.await,
            gone => gone,
        },
    }
}

async fn hand_down(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut buffer = vec![0; UNDER_WAY.0];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

async fn hand_up(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    sent: Option<Sent>,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let mut buffer = vec![0; UNDER_WAY.1];
    let mut frames = Frames::default();
    loop {
        let read = tokio::select! {
            biased;
            // First: a terminal that pours must not put it off.
            () = stopping.cancelled() => break,
            read = from.read(&mut buffer) => read?,
        };
        let piece = &buffer[..read];
        if piece.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(piece).await?;
        to.flush().await?;
        frames.pass(piece);
        if let Some(sent) = &sent {
            sent(read);
        }
    }
    let goodbye = async {
        // First the message to its end, part of which was shown.
        while !frames.is_between() {
            let read = from.read(&mut buffer).await?;
            let rest = frames.pass_to_end(&buffer[..read]);
            if rest == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..rest]).await?;
        }
        to.write_all(&goodbye()).await?;
        to.shutdown().await
    };
    // Heard or not.
    tokio::time::timeout(GOODBYE, goodbye)
        .await
        .unwrap_or(Ok(()))
}

/// Why the server closes, and that it does: two frames.
fn goodbye() -> Vec<u8> {
    let why = FromTerminal::Error {
        code: AttachmentError::ShuttingDown,
        message: STOPPING.to_owned(),
    };
    // Only maps with keys that are no text cannot be encoded.
    let why = serde_json::to_vec(&why).unwrap_or_default();
    let close = [&RESTART.to_be_bytes(), STOPPING.as_bytes()].concat();
    let mut frames = Vec::new();
    for (head, content) in [(0x81, why), (0x88, close)] {
        frames.push(head);
        // Both are shorter than what needs a longer head.
        frames.push(u8::try_from(content.len()).unwrap_or(0));
        frames.extend(content);
    }
    frames
}

/// Where in the frames of a server one is (RFC 6455, 5.2): they are not masked.
#[derive(Debug, Default)]
struct Frames {
    /// What has come of the present frame's head.
    head: Vec<u8>,
    /// Bytes that the present frame still has.
    left: u64,
    /// The message goes on in another frame.
    goes_on: bool,
}

impl Frames {
    /// Nothing of a message is missing.
    const fn is_between(&self) -> bool {
        self.head.is_empty() && self.left == 0 && !self.goes_on
    }

    /// Takes all of `bytes`.
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// Takes bytes up to the next end of a message; how many those are.
    fn pass_to_end(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            taken += self.step(&bytes[taken..]);
            if self.is_between() {
                break;
            }
        }
        taken
    }

    /// Takes some of `bytes`, not beyond the end of a frame.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            let taken =
                usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= taken as u64;
            return taken;
        }
        self.head.extend(bytes.first());
        let Some(length) = self.length() else {
            return 1;
        };
        // Control frames, which are whole, may come within a message.
        if self.head[0] & 0x08 == 0 {
            self.goes_on = self.head[0] & 0x80 == 0;
        }
        self.head.clear();
        self.left = length;
        1
    }

    /// How long the frame's content is, once its head has come.
    fn length(&self) -> Option<u64> {
        let short = *self.head.get(1)? & 0x7f;
        let more = match short {
            126 => 2,
            127 => 8,
            _ => return Some(short.into()),
        };
        let more = self.head.get(2..2 + more)?;
        Some(
            more.iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(u8::try_from(length).unwrap()),
            126..65_536 => {
                frame.push(126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + length, 0x81);
        frame
    }

    proptest! {
        #[test]
        fn ends_of_messages_are_found_however_the_bytes_are_cut(
            messages in prop::collection::vec((prop::collection::vec(0_usize..70_000, 1..3), any::<bool>()), 1..4),
            cuts in prop::collection::vec(1_usize..9000, 1..20),
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for (parts, is_pinged) in messages {
                for (n, length) in parts.iter().enumerate() {
                    let fin = if n + 1 == parts.len() { 0x80 } else { 0 };
                    let opcode = if n == 0 { 2 } else { 0 };
                    if is_pinged && n > 0 {
                        bytes.extend(frame(0x89, 4));
                    }
                    bytes.extend(frame(fin | opcode, *length));
                }
                ends.push(bytes.len());
            }
            let (mut frames, mut at) = (Frames::default(), 0);
            for cut in cuts.iter().cycle() {
                let until = (at + cut).min(bytes.len());
                frames.pass(&bytes[at..until]);
                at = until;
                prop_assert_eq!(frames.is_between(), ends.contains(&at));
                if at == bytes.len() {
                    break;
                }
            }
            let mut frames = Frames::default();
            frames.pass(&bytes[..1]);
            let next = 1 + frames.pass_to_end(&bytes[1..]);
            prop_assert_eq!(next, ends[1]);
        }
    }

    #[tokio::test]
    async fn goodbye_comes_after_the_message_that_was_begun() {
        let (viewer, above) = tokio::io::duplex(1 << 20);
        let (mut terminal, below) = tokio::io::duplex(1 << 20);
        let stopping = CancellationToken::new();
        let joined = join(above, below, None, stopping.clone());
        let begun = frame(0x82, 1000);
        let telling = async {
            let (mut viewer, _typing) = tokio::io::split(viewer);
            terminal.write_all(&begun[..500]).await.unwrap();
            let mut seen = vec![0; 500];
            viewer.read_exact(&mut seen).await.unwrap();
            stopping.cancel();
            terminal.write_all(&begun[500..]).await.unwrap();
            terminal.write_all(&frame(0x82, 7)).await.unwrap();
            viewer.read_to_end(&mut seen).await.unwrap();
            seen
        };
        let (joined, seen) = tokio::join!(joined, telling);
        joined.unwrap();
        let (whole, rest) = seen.split_at(begun.len());
        assert!(whole == begun);
        assert_eq!(rest, goodbye());
        assert!(goodbye().ends_with(STOPPING.as_bytes()));
    }
}
