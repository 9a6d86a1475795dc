//! Where another plane is: `http://127.0.0.1:8081`.

use super::Value;

/// The base of another plane's URLs: `http`, a host, perhaps a port and a path, no slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl(pub(crate) String);

impl Value for BaseUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "{text:?} {why}; write for example http://127.0.0.1:8081"
            ))
        };
        let base = text.trim().trim_end_matches('/');
        let Some(rest) = base.strip_prefix("http://") else {
            return if base.starts_with("https://") {
                wrong("is https, which planes do not speak to each other yet")
            } else {
                wrong("is not a URL")
            };
        };
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            return wrong("carries a user name or password, which is not sent");
        }
        if rest.contains(['?', '#']) {
            return wrong("has more than a path");
        }
        if !is_authority(authority) || rest.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return wrong("is not a URL");
        }
        Ok(Self(base.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (address, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    !host.is_empty() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        for (text, base) in [
            ("http://localhost:8081", "http://localhost:8081"),
            ("http://localhost:8081/", "http://localhost:8081"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://[::1]", "http://[::1]"),
            (
                " http://data-plane.abide.svc ",
                "http://data-plane.abide.svc",
            ),
            ("http://proxy/abide/", "http://proxy/abide"),
        ] {
            assert_eq!(BaseUrl::parse(text).map(|url| url.0).as_deref(), Ok(base));
        }
        for text in [
            "",
            "localhost:8081",
            ":8081",
            "ftp://x",
            "http://",
            "http:///x",
            "http://:80",
            "http://x:",
            "http://x:0",
            "http://x:70000",
            "http://x:80:80",
            "http://[::1",
            "http://[x]:1",
            "http://[::1]80",
            "http://u:p@x",
            "http://x?y",
            "http://x/#y",
            "http://x y",
            "https://x",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
    }
}
