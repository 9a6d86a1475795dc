//! A WebSocket on a blocking socket: what it costs must not be what is measured.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// What takes longer than this will not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// What one read from the socket takes at most, unless a message is longer.
const BUFFER_BYTES: usize = 256 * 1024;
/// Room that the head of a message needs before its bytes.
pub(super) const HEAD: usize = 10;

const CONTINUATION: u8 = 0;
/// A message of text.
pub(super) const TEXT: u8 = 1;
/// A message of bytes.
pub(super) const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer was received and not yet taken.
    taken: usize,
    filled: usize,
    /// Bytes that came over the socket, heads of messages included.
    received: u64,
    is_client: bool,
}

impl WebSocket {
    /// Connects and asks for `path`; `headers` are lines of their own, each with its end.
    pub(super) fn connect(address: SocketAddr, path: &str, headers: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        let mut socket = Self::new(stream, true)?;
        // The key is the example of RFC 6455; the answer to it is not looked at.
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {headers}\r\n"
        );
        socket.stream.write_all(request.as_bytes())?;
        let head = socket.head()?;
        ensure!(head.starts_with("HTTP/1.1 101"), "{path} answered {head}");
        Ok(socket)
    }

    /// Takes a connection on. Any client of this program's is content with the answer.
    pub(super) fn accept(stream: TcpStream) -> Result<Self> {
        let mut socket = Self::new(stream, false)?;
        socket.head()?;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\n\r\n";
        socket.stream.write_all(answer.as_bytes())?;
        Ok(socket)
    }

    fn new(stream: TcpStream, is_client: bool) -> Result<Self> {
        stream.set_nodelay(true)?;
        if is_client {
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
            taken: 0,
            filled: 0,
            received: 0,
            is_client,
        })
    }

    /// The same socket for another thread to write to.
    pub(super) fn writer(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    /// Bytes that came so far, heads of messages included.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Sends a message that consists of these parts.
    pub(super) fn send(&mut self, kind: u8, parts: &[&[u8]]) -> Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let (head, start) = head(kind, length, self.is_client);
        let mut message = head[start..].to_vec();
        if self.is_client {
            // A client must mask what it sends; this key leaves the bytes as they are.
            message.extend([0; 4]);
        }
        parts
            .iter()
            .for_each(|part| message.extend_from_slice(part));
        self.stream.write_all(&message).context("cannot send")
    }

    /// Waits for the next message of text or bytes. An error when the other side closes.
    pub(super) fn next(&mut self) -> Result<(u8, &[u8])> {
        loop {
            let (kind, from, to) = self.frame()?;
            self.taken = to;
            match kind {
                TEXT | BINARY => return Ok((kind, &self.buffer[from..to])),
                PING => self.send(PONG, &[])?,
                PONG => {}
                CLOSE => bail!("the other side closed"),
                other => bail!("a message of kind {other}"),
            }
        }
    }

    /// Has the next frame in the buffer: its kind and where its bytes are.
    fn frame(&mut self) -> Result<(u8, usize, usize)> {
        self.need(2)?;
        let [first, second] = [0, 1].map(|at| self.buffer[self.taken + at]);
        let kind = first & 0x0F;
        ensure!(first & 0x80 != 0 && kind != CONTINUATION, "a fragment");
        let (mut head, mut length) = (2, usize::from(second & 0x7F));
        if length >= 126 {
            let wide = if length == 126 { 2 } else { 8 };
            self.need(2 + wide)?;
            let bytes = &self.buffer[self.taken + 2..][..wide];
            length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            head += wide;
        }
        let is_masked = second & 0x80 != 0;
        head += if is_masked { 4 } else { 0 };
        self.need(head + length)?;
        let (from, to) = (self.taken + head, self.taken + head + length);
        if is_masked {
            let (before, bytes) = self.buffer[..to].split_at_mut(from);
            let key = &before[from - 4..];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte ^= key[at % 4];
            }
        }
        Ok((kind, from, to))
    }

    /// Waits until as many bytes are in the buffer, in one piece.
    fn need(&mut self, count: usize) -> Result<()> {
        while self.filled - self.taken < count {
            if self.taken == self.filled || self.buffer.len() - self.taken < count {
                self.buffer.copy_within(self.taken..self.filled, 0);
                self.filled -= self.taken;
                self.taken = 0;
            }
            if self.buffer.len() < count {
                self.buffer.resize(count, 0);
            }
            let read = self.stream.read(&mut self.buffer[self.filled..]);
            let read = read.context("nothing comes")?;
            ensure!(read > 0, "the other side closed the connection");
            self.filled += read;
            self.received += read as u64;
        }
        Ok(())
    }

    /// The head of an HTTP message.
    fn head(&mut self) -> Result<String> {
        loop {
            let unread = &self.buffer[self.taken..self.filled];
            if let Some(end) = unread.windows(4).position(|it| it == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&unread[..end]).into_owned();
                self.taken += end + 4;
                return Ok(head);
            }
            self.need(unread.len() + 1)?;
        }
    }
}

/// The head of a message, and where in these bytes it begins. It ends at their end, so that bytes can
/// lie behind it.
pub(super) fn head(kind: u8, length: usize, is_masked: bool) -> ([u8; HEAD], usize) {
    let mut head = [0; HEAD];
    let wide = (length as u64).to_be_bytes();
    let (start, short) = match length {
        0..126 => (8, wide[7]),
        126..65536 => (6, 126),
        _ => (0, 127),
    };
    if start < 8 {
        head[start + 2..].copy_from_slice(&wide[start..]);
    }
    head[start] = 0x80 | kind;
    head[start + 1] = short | if is_masked { 0x80 } else { 0 };
    (head, start)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn messages_of_every_length_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lengths = [0, 1, 125, 126, 4096, 65_535, 65_536, 600_000];
        let server = std::thread::spawn(move || {
            let mut socket = WebSocket::accept(listener.accept().unwrap().0).unwrap();
            for _ in lengths {
                let (kind, bytes) = socket.next().unwrap();
                let bytes = bytes.to_vec();
                socket.send(PING, &[]).unwrap();
                socket
                    .send(
                        kind,
                        &[&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]],
                    )
                    .unwrap();
            }
            // Answers to pings, then the end: a connection closed before would be a reset one.
            assert!(socket.next().is_err());
        });
        let mut socket = WebSocket::connect(address, "/", "").unwrap();
        for length in lengths {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            socket.send(BINARY, &[&bytes]).unwrap();
            assert_eq!(socket.next().unwrap(), (BINARY, &bytes[..]), "{length}");
        }
        drop(socket);
        server.join().unwrap();
    }

    #[test]
    fn what_a_client_masks_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // The example of RFC 6455.
        client
            .write_all(b"GET / HTTP/1.1\r\n\r\n\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
            .unwrap();
        let mut socket = WebSocket::accept(listener.accept().unwrap().0).unwrap();
        assert_eq!(socket.next().unwrap(), (TEXT, &b"Hello"[..]));
    }
}
