//! A client of a WebSocket that carries JSON texts, and knows nothing of what they mean.

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A connection. Dropping it cuts it, without a word.
#[derive(Debug)]
pub struct JsonSocket {
    socket: WebSocketStream<TcpStream>,
}

/// A connection that takes what comes and never answers.
#[derive(Debug)]
pub struct DeafSocket {
    stream: TcpStream,
}

impl DeafSocket {
    /// Until the server ends the connection.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn cut(&mut self) -> std::io::Result<()> {
        let mut taken = [0; 4096];
        while self.stream.read(&mut taken).await? > 0 {}
        Ok(())
    }
}

/// How the server refused to talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Status of the answer to the handshake.
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// A text, which was JSON.
    Json(Value),
    /// The server said goodbye: code and reason.
    Closed(u16, String),
    /// The connection ended without a goodbye.
    Cut,
}

impl JsonSocket {
    /// Connects to `path` (with its query) of the server at `base` (`http://host:port`).
    ///
    /// # Errors
    /// Where there is nobody; a refusal is no error, but an answer.
    pub async fn connect(
        base: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Result<Self, Refused>> {
        let address = base.strip_prefix("http://").context("not http")?;
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            let value = HeaderValue::from_str(value)?;
            request.headers_mut().insert(name, value);
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Ok(Self { socket })),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Ok(Err(Refused {
                    status: answer.status().as_u16(),
                    body: String::from_utf8_lossy(body).into_owned(),
                }))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, value: &Value) -> anyhow::Result<()> {
        self.send_text(&value.to_string()).await
    }

    /// Sends a text as it is.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_text(&mut self, text: &str) -> anyhow::Result<()> {
        let message = Message::Text(text.into());
        self.socket.send(message).await.context("cannot send")
    }

    /// Sends bytes as a binary message.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let message = Message::Binary(bytes.to_vec().into());
        self.socket.send(message).await.context("cannot send")
    }

    /// What comes next. Pings are answered.
    ///
    /// # Errors
    /// Something came that is neither JSON text nor a control message.
    pub async fn next(&mut self) -> anyhow::Result<Came> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text)
                        .map(Came::Json)
                        .with_context(|| format!("not JSON: {text}"));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    let (code, reason) = frame.unwrap_or((1005, String::new()));
                    return Ok(Came::Closed(code, reason));
                }
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => bail!("a binary message"),
                Some(Err(_)) | None => return Ok(Came::Cut),
            }
        }
    }

    /// Stops answering anything, pings included.
    pub fn deaf(self) -> DeafSocket {
        DeafSocket {
            stream: self.socket.into_inner(),
        }
    }

    /// Waits for a ping of the server's own; what else comes meanwhile is passed over.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn pinged(&mut self) -> anyhow::Result<()> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Ping(_))) => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => bail!("the connection ended"),
            }
        }
    }
}
