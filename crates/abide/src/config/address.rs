//! Where a plane listens, as runtime-routing deployments write it: `:9000`, `127.0.0.1:9000`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Value;

/// A port, and the addresses to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    host: Host,
    /// 0 takes a free one.
    pub(crate) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    /// None was named.
    Unnamed,
    /// `localhost`
    Localhost,
    One(IpAddr),
}

impl ListenAddress {
    /// The addresses to listen on. An address without a host means this machine alone, and every
    /// interface where that is allowed: in a pod the same text is expected to be reachable.
    pub(crate) fn hosts(&self, allow_remote: bool) -> Vec<IpAddr> {
        match self.host {
            Host::One(host) => vec![host],
            Host::Unnamed if allow_remote => vec![
                IpAddr::from(Ipv4Addr::UNSPECIFIED),
                Ipv6Addr::UNSPECIFIED.into(),
            ],
            Host::Unnamed | Host::Localhost => vec![
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ],
        }
    }
}

impl Value for ListenAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not an address; write for example :9000, 127.0.0.1:9000 or [::1]:9000"
            )
        };
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
        let host = match host {
            "" => Host::Unnamed,
            "localhost" => Host::Localhost,
            _ => {
                let inner = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'));
                let address: IpAddr = inner.unwrap_or(host).parse().map_err(|_| wrong())?;
                // Without brackets nobody can tell where an IPv6 address ends.
                if address.is_ipv6() != inner.is_some() {
                    return Err(wrong());
                }
                Host::One(address)
            }
        };
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Self { host, port })
    }

    fn show(&self) -> String {
        let port = self.port;
        match self.host {
            Host::Unnamed => format!(":{port}"),
            Host::Localhost => format!("localhost:{port}"),
            Host::One(IpAddr::V4(host)) => format!("{host}:{port}"),
            Host::One(IpAddr::V6(host)) => format!("[{host}]:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, remote, hosts) in [
            (":9000", false, "127.0.0.1 ::1"),
            (":9000", true, "0.0.0.0 ::"),
            ("localhost:9000", true, "127.0.0.1 ::1"),
            ("10.0.0.1:9000", false, "10.0.0.1"),
            ("[::1]:9000", false, "::1"),
        ] {
            let address = ListenAddress::parse(text).unwrap();
            assert_eq!(address.port, 9000);
            assert_eq!(address.show(), text);
            let found: Vec<_> = address
                .hosts(remote)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found.join(" "), hosts, "{text}");
        }
        for text in [
            "",
            "9000",
            ":",
            ":70000",
            "::1:9000",
            "[::1]",
            "[127.0.0.1]:1",
            "host:1",
        ] {
            assert!(ListenAddress::parse(text).is_err(), "{text}");
        }
    }
}
