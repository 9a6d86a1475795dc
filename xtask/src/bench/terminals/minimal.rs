//! The least that shows a terminal over a WebSocket: what is read from the terminal is a message, and what a message holds
//! is typed. No screen, nothing kept, two threads per viewer. A process of its own, as servers are.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::host::{Host, Plain, Program};
use super::line::Line;
use super::pty::Pty;
use crate::bench::websocket::{self, BINARY, HEAD, WebSocket};

/// What the server reads from a terminal at once, at most.
const READ_BYTES: usize = 64 * 1024;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Minimal {
    server: Child,
    address: SocketAddr,
}

impl Minimal {
    /// Starts this program again, as the server.
    pub(super) fn start() -> Result<Self> {
        let mut server = Command::new(std::env::current_exe()?)
            .arg("terminal-server")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the minimal server")?;
        let address = port(&mut server)?;
        Ok(Self { server, address })
    }
}

/// Where a server listens that has said its port on a line.
pub(super) fn port(server: &mut Child) -> Result<SocketAddr> {
    let mut line = String::new();
    let out = server.stdout.take().context("no standard output")?;
    BufReader::new(out).read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("the server did not start")?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

impl Host for Minimal {
    fn start(&mut self, program: &Program) -> Result<Box<dyn Line>> {
        Ok(Box::new(Plain::start(self.address, program)?))
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(vec![self.server.id()])
    }
}

impl Drop for Minimal {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Serves until it is killed: one terminal per connection, which starts what its first message says.
pub(crate) fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // How a viewer leaves.
            let _ = show(stream);
        });
    }
    Ok(())
}

fn show(stream: TcpStream) -> Result<()> {
    let mut socket = WebSocket::accept(stream)?;
    let command: Vec<String> = serde_json::from_slice(socket.next()?.1)?;
    let terminal = Pty::start(&command)?;
    let (mut output, mut writer) = (terminal.master()?, socket.writer()?);
    std::thread::spawn(move || {
        let mut buffer = vec![0; HEAD + READ_BYTES];
        while let Ok(count @ 1..) = output.read(&mut buffer[HEAD..]) {
            let (head, start) = websocket::head(BINARY, count, false);
            buffer[..HEAD].copy_from_slice(&head);
            if writer.write_all(&buffer[start..HEAD + count]).is_err() {
                break;
            }
        }
        let _ = writer.shutdown(std::net::Shutdown::Both);
    });
    let mut input = terminal.master()?;
    while let Ok((_, typed)) = socket.next() {
        input.write_all(typed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::terminals::line::{enter_until, until};

    #[test]
    fn a_terminal_is_shown_and_typed_into() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || show(listener.accept().unwrap().0));
        let program = Program::script("printf 'ready>'; read -r go; printf 'the-end>'", &[]);
        let mut line = Plain::start(address, &program).unwrap();
        until(&mut line, "ready>").unwrap();
        enter_until(&mut line, "the-end>").unwrap();
        drop(line);
        server.join().unwrap().unwrap();
    }
}
