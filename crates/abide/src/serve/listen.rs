//! The sockets the server listens on.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;

/// One listener for each address, all on one port, and the URL to tell people. `flag` is how they
/// choose another port.
pub(super) async fn bind(
    hosts: &[IpAddr],
    port: u16,
    flag: &str,
) -> anyhow::Result<(Vec<TcpListener>, String)> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut port = port;
    for host in hosts {
        match TcpListener::bind(SocketAddr::new(*host, port)).await {
            Ok(listener) => {
                // Port 0 takes a free one; the other addresses then share it.
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            // A machine without IPv6, say: the other addresses do.
            Err(error)
                if error.kind() == ErrorKind::AddrNotAvailable && hosts.len() > 1
                    || error.kind() == ErrorKind::Unsupported =>
            {
                tracing::warn!(%host, %error, "not listening there");
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
                "port {port} on {host} is in use by another program; choose another with {flag}"
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {host} port {port}"));
            }
        }
    }
    let Some(first) = listeners.first() else {
        bail!("there is no address to listen on")
    };
    let mut address = first.local_addr()?;
    if address.ip().is_unspecified() {
        let loopback: IpAddr = if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            "::1".parse()?
        };
        address.set_ip(loopback);
    }
    Ok((listeners, format!("http://{address}")))
}
