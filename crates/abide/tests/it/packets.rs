//! `TCP_NODELAY` on both ends of a connection: asked of the kernel about the very sockets.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use abide_testkit::{ServerOptions, TestServer};
use rustix::net::{getpeername, getsockname, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Copies of a process's connected TCP sockets that have `server` at one end.
fn connections(pid: u32, server: SocketAddr) -> Vec<OwnedFd> {
    let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
    {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.to_string_lossy().starts_with("socket:") {
            continue;
        }
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        let Ok(socket) = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let ends = (getsockname(&socket), getpeername(&socket));
        let (Ok(own), Ok(Some(peer))) = ends else {
            continue;
        };
        let ends = [SocketAddr::try_from(own), SocketAddr::try_from(peer)];
        if ends.contains(&Ok(server)) {
            found.push(socket);
        }
    }
    found
}

#[tokio::test]
async fn both_ends_of_a_connection_send_at_once() {
    let options = ServerOptions::new(env!("CARGO_BIN_EXE_abide")).set("warm_python=0");
    let server = TestServer::start(options).unwrap();
    let address = server
        .url()
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let client = server.client().unwrap();
    client.status().await.unwrap();
    for (whose, pid) in [
        ("client", std::process::id()),
        ("server", server.pid().unwrap()),
    ] {
        // The client keeps its connection for the next request.
        let sockets = connections(pid, address);
        assert_eq!(sockets.len(), 1, "connections of the {whose}");
        for socket in sockets {
            assert!(sockopt::tcp_nodelay(socket).unwrap(), "of the {whose}");
        }
    }
}
