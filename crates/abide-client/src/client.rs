//! Connections, credentials and the one way every request goes.

use std::sync::Arc;
use std::time::Duration;

use abide_model::Problem;
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::Error;

/// Longest time to wait for a TCP connection. Requests themselves have no limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a foreign error body is worth showing.
const FOREIGN_BODY_CHARS: usize = 300;

/// A handle on one server. Cheap to clone; clones share the connection pool.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    base: Url,
    shown: String,
}

impl Client {
    /// A client of the server at `base_url` (`http://host:port`), with the API key if there is
    /// one. Proxies of the environment are not used. No connection is made yet.
    pub fn new(base_url: &str, key: Option<&str>) -> Result<Self, Error> {
        let bad_url = || Error::BadUrl {
            url: base_url.to_owned(),
        };
        let mut base = Url::parse(base_url).map_err(|_| bad_url())?;
        if base.scheme() != "http" || !base.has_host() || base.query().is_some() {
            return Err(bad_url());
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| Error::BadKey)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .default_headers(headers)
            .build()
            .map_err(Error::Build)?;
        let shown = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self {
            inner: Arc::new(Inner { http, base, shown }),
        })
    }

    /// The server's URL, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.inner.shown
    }

    /// A request for a path below the base URL; `segments` are encoded one by one.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.inner.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        self.inner.http.request(method, url)
    }

    /// Sends, and turns every answer that is not a success into an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|e| self.transport(e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    /// Sends what asks for another protocol.
    pub(crate) async fn send_to_upgrade(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|e| self.transport(e))?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(response),
            status if status.is_success() => Err(Error::Protocol {
                what: "an answer where another protocol was asked for",
            }),
            _ => Err(self.refused(response).await),
        }
    }

    /// Sends and reads the whole answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        what: &'static str,
        request: RequestBuilder,
    ) -> Result<T, Error> {
        let response = self.send(request).await?;
        self.read_json(what, response).await
    }

    /// Reads the whole of an answer as JSON.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        what: &'static str,
        response: Response,
    ) -> Result<T, Error> {
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|source| Error::Decode { what, source })
    }

    /// Sends a request whose answer has no body worth reading.
    pub(crate) async fn discard(&self, request: RequestBuilder) -> Result<(), Error> {
        let response = self.send(request).await?;
        self.body(response).await.map(drop)
    }

    /// Reads the whole body.
    pub(crate) async fn body(&self, response: Response) -> Result<Bytes, Error> {
        response.bytes().await.map_err(|e| self.transport(e))
    }

    /// Asks for server-sent events.
    pub(crate) fn as_event_stream(request: RequestBuilder) -> RequestBuilder {
        request.header(ACCEPT, "text/event-stream")
    }

    /// Sorts what the transport says by whether the request can have reached the server.
    pub(crate) fn transport(&self, source: reqwest::Error) -> Error {
        let url = self.inner.shown.clone();
        if source.is_connect() || source.is_builder() {
            Error::Unreachable { url, source }
        } else {
            Error::ConnectionLost {
                url,
                source: Some(source),
            }
        }
    }

    /// The answer ended before it was whole.
    pub(crate) fn cut_short(&self) -> Error {
        Error::ConnectionLost {
            url: self.inner.shown.clone(),
            source: None,
        }
    }

    async fn refused(&self, response: Response) -> Error {
        let status = response.status().as_u16();
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Error::Problem(Box::new(problem)),
            Err(_) => Error::Foreign {
                url: self.inner.shown.clone(),
                status,
                body: String::from_utf8_lossy(&body)
                    .chars()
                    .take(FOREIGN_BODY_CHARS)
                    .collect(),
            },
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.inner.shown)
            .finish_non_exhaustive()
    }
}

/// Whether the body of `response` is a server-sent event stream.
pub(crate) fn is_event_stream(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.trim_start().starts_with("text/event-stream"))
}

/// A numeric header.
pub(crate) fn header_u64(response: &Response, name: &str) -> Option<u64> {
    response
        .headers()
        .get(name)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls() {
        for url in [
            "",
            "localhost:8080",
            "https://localhost",
            "file:///tmp",
            "http://",
            "http://a?b",
        ] {
            assert!(
                matches!(Client::new(url, None), Err(Error::BadUrl { .. })),
                "{url}"
            );
        }
        for (url, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://box/abide", "http://box/abide"),
        ] {
            assert_eq!(Client::new(url, None).unwrap().base_url(), shown);
        }
    }

    #[test]
    fn path_segments_are_encoded() {
        let client = Client::new("http://box/abide", Some("k")).unwrap();
        let request = client
            .request(Method::GET, &["sessions", "a/b ?"])
            .build()
            .unwrap();
        assert_eq!(
            request.url().as_str(),
            "http://box/abide/sessions/a%2Fb%20%3F"
        );
    }

    #[test]
    fn a_key_with_a_line_break_is_refused() {
        assert!(matches!(
            Client::new("http://box", Some("a\nb")),
            Err(Error::BadKey)
        ));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let client = Client::new("http://box", Some("sesame")).unwrap();
        assert!(!format!("{client:?} {:?}", client.inner.http).contains("sesame"));
    }
}
