//! Telling requests that a web page elsewhere made a browser send.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

/// The `Host` of a request.
pub fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let authority = || uri.authority().map(axum::http::uri::Authority::as_str);
    let header = headers.get(header::HOST);
    header
        .map(|value| value.to_str().unwrap_or("?"))
        .or_else(authority)
}

/// The host in the `Origin` of a request, if it has one; `?` for one that names none.
pub fn origin_of(headers: &HeaderMap) -> Option<&str> {
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or("?");
    Some(
        origin
            .split_once("://")
            .map_or("?", |(_, rest)| host_name(rest)),
    )
}

/// An authority without its port.
pub fn host_name(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}

/// Whether a host name is one of this machine's loopback names, or one of `allowed`.
pub fn is_ours(name: &str, allowed: &[String]) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
        || allowed.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// Whether a host is given as an address: no name that somebody else may have pointed here.
pub fn is_address(name: &str) -> bool {
    name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (authority, ours, address) in [
            ("localhost", true, false),
            ("localhost:8080", true, false),
            ("127.0.0.1:1", true, true),
            ("[::1]:8080", true, true),
            ("[::1]", true, true),
            ("abide.example:8080", true, false),
            ("evil.example", false, false),
            ("localhost.evil.example:8080", false, false),
            ("[::2]:8080", false, true),
            ("10.0.0.7:9000", false, true),
            ("", false, false),
        ] {
            let allowed = ["abide.example".to_owned()];
            let name = host_name(authority);
            assert_eq!(is_ours(name, &allowed), ours, "{authority}");
            assert_eq!(is_address(name), address, "{authority}");
        }
    }
}
