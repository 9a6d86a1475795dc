//! A server that answers one connection after the other from a script.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What to do with one connection, after its request has been read.
pub(crate) enum Answer {
    /// Close without a word.
    HangUp,
    /// A problem document.
    Problem(abide_model::ProblemCode),
    /// An event stream that ends cleanly after these messages.
    Stream(String),
    /// An event stream whose connection breaks after these messages.
    Broken(String),
}

/// A listening server; `serve` plays the script.
pub(crate) struct Scripted {
    listener: TcpListener,
    pub(crate) url: String,
}

impl Scripted {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// Answers as many connections as there are answers; returns the requests, head and body.
    pub(crate) async fn serve(&self, answers: Vec<Answer>) -> Vec<String> {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = self.listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !is_whole(&request) {
                assert_ne!(
                    socket.read_buf(&mut request).await.unwrap(),
                    0,
                    "request cut off"
                );
            }
            requests.push(String::from_utf8(request).unwrap());
            let head = |status: u16, kind: &str| {
                format!(
                    "HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\nconnection: close\r\n"
                )
            };
            let text = match answer {
                Answer::HangUp => continue,
                Answer::Problem(code) => {
                    let body =
                        serde_json::to_string(&abide_model::Problem::new(code, "no")).unwrap();
                    format!(
                        "{}content-length: {}\r\n\r\n{body}",
                        head(code.status(), "application/problem+json"),
                        body.len()
                    )
                }
                Answer::Stream(body) => format!("{}\r\n{body}", head(200, "text/event-stream")),
                // More is announced than comes.
                Answer::Broken(body) => format!(
                    "{}content-length: {}\r\n\r\n{body}",
                    head(200, "text/event-stream"),
                    body.len() + 1
                ),
            };
            socket.write_all(text.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
        }
        requests
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .map(str::to_owned)
        })
        .map_or(0, |v| v.trim().parse().unwrap());
    body.len() >= length
}
