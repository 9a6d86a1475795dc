//! A small HTTP/1.1 client on a blocking socket: what it costs must not be what is measured.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// An answer that takes longer than this will not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// What one read from the socket takes at most.
const BUFFER_BYTES: usize = 256 * 1024;

/// One connection that is kept alive.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Lines that every request carries.
    common: String,
    buffer: Vec<u8>,
    /// What of the buffer was received and not yet taken.
    taken: usize,
    filled: usize,
}

/// What precedes a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Status of the answer.
    pub(super) status: u16,
    length: Length,
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    /// Connects. Requests carry the key.
    pub(super) fn open(address: SocketAddr, key: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            common: format!("Host: {address}\r\nAuthorization: Bearer {key}\r\n"),
            buffer: vec![0; BUFFER_BYTES],
            taken: 0,
            filled: 0,
        })
    }

    /// Has every request from now on carry one more header.
    pub(super) fn add_header(&mut self, name: &str, value: &str) {
        self.common += &format!("{name}: {value}\r\n");
    }

    /// The bytes of a request; made beforehand where a request is sent many times.
    pub(super) fn request(&self, method: &str, path: &str, accept: &str, body: &str) -> Vec<u8> {
        let content = if body.is_empty() {
            String::new()
        } else {
            let length = body.len();
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
        };
        let common = &self.common;
        format!("{method} {path} HTTP/1.1\r\n{common}Accept: {accept}\r\n{content}\r\n{body}")
            .into_bytes()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) fn begin(&mut self, request: &[u8]) -> Result<Head> {
        self.stream.write_all(request).context("cannot send")?;
        let mut head = Head {
            status: 0,
            length: Length::Known(0),
        };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(head);
            }
            let text = std::str::from_utf8(line).context("a header is no text")?;
            if head.status == 0 {
                let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
                head.status = status.with_context(|| format!("no status in {text:?}"))?;
            } else if let Some((name, value)) = text.split_once(": ") {
                if name.eq_ignore_ascii_case("content-length") {
                    head.length = Length::Known(value.parse().context("no length")?);
                } else if name.eq_ignore_ascii_case("transfer-encoding") {
                    head.length = Length::Chunked;
                }
            }
        }
    }

    /// Hands on the body of the answer whose head was the last one read, as it comes.
    pub(super) fn finish(&mut self, head: Head, mut each: impl FnMut(&[u8])) -> Result<()> {
        match head.length {
            Length::Known(bytes) => self.take(bytes, &mut each),
            Length::Chunked => loop {
                let line = self.line()?;
                let size = std::str::from_utf8(line).context("a chunk's size is no text")?;
                let size = usize::from_str_radix(size, 16)
                    .with_context(|| format!("{size:?} is no chunk's size"))?;
                self.take(size, &mut each)?;
                ensure!(self.line()?.is_empty(), "a chunk is longer than it said");
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }

    /// Sends a request, reads the whole answer and returns its status; an answer's bytes are
    /// appended to `body`.
    pub(super) fn exchange(&mut self, request: &[u8], body: &mut Vec<u8>) -> Result<u16> {
        let head = self.begin(request)?;
        self.finish(head, |part| body.extend_from_slice(part))?;
        Ok(head.status)
    }

    /// Sends a request and returns the answer's JSON; an error unless it is a success.
    pub(super) fn json(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = self.request(method, path, "application/json", &body);
        let mut text = Vec::new();
        let status = self.exchange(&request, &mut text)?;
        if !(200..300).contains(&status) {
            let text = String::from_utf8_lossy(&text);
            bail!("{method} {path} answered {status}: {text}");
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&text).with_context(|| format!("{method} {path} sent no JSON"))
    }

    /// The next line without its end. It lies in the buffer until the next read.
    fn line(&mut self) -> Result<&[u8]> {
        let mut searched = self.taken;
        loop {
            let unread = &self.buffer[searched..self.filled];
            if let Some(at) = unread.iter().position(|byte| *byte == b'\n') {
                let (from, to) = (self.taken, searched + at);
                self.taken = to + 1;
                let line = &self.buffer[from..to];
                return Ok(line.strip_suffix(b"\r").unwrap_or(line));
            }
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
            searched = self.filled;
            self.receive()?;
        }
    }

    fn take(&mut self, mut left: usize, each: &mut impl FnMut(&[u8])) -> Result<()> {
        while left > 0 {
            if self.taken == self.filled {
                (self.taken, self.filled) = (0, 0);
                self.receive()?;
            }
            let to = self.filled.min(self.taken + left);
            each(&self.buffer[self.taken..to]);
            left -= to - self.taken;
            self.taken = to;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        ensure!(self.filled < self.buffer.len(), "a line is too long");
        let count = self.stream.read(&mut self.buffer[self.filled..]);
        let count = count.context("no answer")?;
        ensure!(count > 0, "the server closed the connection");
        self.filled += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Serves one prepared answer in pieces of three bytes.
    fn answered(answer: &'static str) -> Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = Connection::open(listener.local_addr().unwrap(), "k").unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.set_nodelay(true).unwrap();
            for piece in answer.as_bytes().chunks(3) {
                stream.write_all(piece).unwrap();
            }
        });
        let request = connection.request("GET", "/", "*/*", "");
        let mut body = Vec::new();
        let status = connection.exchange(&request, &mut body);
        server.join().unwrap();
        Ok((status?, String::from_utf8(body).unwrap()))
    }

    #[test]
    fn bodies_arrive_whole() {
        let known = "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(answered(known).unwrap(), (201, "hello".to_owned()));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                       3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(
            answered(chunked).unwrap(),
            (200, "abc0123456789".to_owned())
        );
        let none = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(answered(none).unwrap(), (204, String::new()));
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort";
        assert!(answered(cut).is_err());
    }
}
