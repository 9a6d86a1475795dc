//! One connection through the proxy: a thread in each direction.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Action, Fault, Point, Shared};

/// What both directions know of the exchange under way.
#[derive(Default)]
struct Exchange {
    state: Mutex<Answer>,
    changed: Condvar,
}

/// The answer that is to come or comes.
#[derive(Default)]
struct Answer {
    /// Faults still ahead, in order.
    faults: Vec<Fault>,
    /// Bytes of it that were forwarded.
    forwarded: usize,
    /// The request has not been dealt with yet, so nothing is forwarded.
    held: bool,
    /// The connections are being reset, and see no orderly end.
    reset: bool,
}

/// Why a direction ends.
struct Over;

/// Carries a connection until both ends are closed.
pub(super) fn carry(shared: &Arc<Shared>, client: &TcpStream, target: SocketAddr) {
    // Nobody there: the client finds its connection closed.
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let Ok(id) = shared.enter(&[client, &server]) else {
        return;
    };
    let exchange = Exchange::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if answers(client, &server, &exchange).is_err() {
                exchange.close(client, &server);
            }
        });
        if requests(shared, client, &server, target, &exchange).is_err() {
            exchange.close(client, &server);
        }
        // A gate is never waited for by nobody.
        exchange.lock().held = false;
        exchange.changed.notify_all();
    });
    shared.leave(id);
}

/// Forwards requests, with what the plan does to them.
fn requests(
    shared: &Arc<Shared>,
    client: &TcpStream,
    server: &TcpStream,
    target: SocketAddr,
    exchange: &Exchange,
) -> Result<(), Over> {
    let mut buffer = Vec::new();
    while let Some(request) = next_request(client, &mut buffer)? {
        let (method, path) = first_line(&request);
        let faults = shared.faults(&method, &path, &request);
        let (ours, theirs) = faults
            .into_iter()
            .partition::<Vec<_>, _>(|fault| fault.at <= Point::AfterRequest);
        *exchange.lock() = Answer {
            faults: theirs,
            held: true,
            ..Answer::default()
        };
        let mut sent = 0;
        for fault in ours {
            let until = match fault.at {
                Point::BeforeRequest => 0,
                Point::InRequest(bytes) => bytes.min(request.len()).max(sent),
                Point::AfterRequest | Point::BeforeResponse | Point::InResponse(_) => request.len(),
            };
            forward(server, request.get(sent..until).unwrap_or_default())?;
            sent = until;
            match &fault.action {
                Action::Duplicate => duplicate(shared, target, request.clone()),
                Action::Forge(change) => duplicate(shared, target, change(&request)),
                action => exchange.act(action, client, server, server)?,
            }
        }
        forward(server, request.get(sent..).unwrap_or_default())?;
        exchange.lock().held = false;
        exchange.changed.notify_all();
    }
    // The client will send no more.
    if !exchange.lock().reset {
        let _ = server.shutdown(Shutdown::Write);
    }
    Ok(())
}

/// Forwards answers.
fn answers(client: &TcpStream, mut server: &TcpStream, exchange: &Exchange) -> Result<(), Over> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = server.read(&mut buffer).map_err(|_| Over)?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        if rest.is_empty() {
            if !exchange.lock().reset {
                let _ = client.shutdown(Shutdown::Write);
            }
            return Ok(());
        }
        let state = exchange.lock();
        let ready = exchange.changed.wait_while(state, |answer| answer.held);
        drop(ready.unwrap_or_else(PoisonError::into_inner));
        while !rest.is_empty() {
            let (until, action) = exchange.next(rest.len());
            let (now, later) = rest.split_at(until);
            forward(client, now)?;
            rest = later;
            if let Some(action) = action {
                exchange.act(&action, client, server, client)?;
            }
        }
    }
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of the next `available` bytes may be forwarded, and what happens then.
    fn next(&self, available: usize) -> (usize, Option<Action>) {
        let mut answer = self.lock();
        let at = answer.faults.first().map(|fault| match fault.at {
            Point::InResponse(bytes) => bytes,
            _ => 0,
        });
        match at.map(|at| at.saturating_sub(answer.forwarded)) {
            Some(until) if until < available => {
                answer.forwarded += until;
                (until, Some(answer.faults.remove(0).action))
            }
            _ => {
                answer.forwarded += available;
                (available, None)
            }
        }
    }

    /// Does what is to be done to a connection whose next bytes would go to `receiver`.
    fn act(
        &self,
        action: &Action,
        client: &TcpStream,
        server: &TcpStream,
        receiver: &TcpStream,
    ) -> Result<(), Over> {
        match action {
            Action::Cut => return Err(Over),
            Action::Reset => {
                // Closed with nothing to linger for, a connection is reset.
                let now = Some(Duration::ZERO);
                let _ = rustix::net::sockopt::set_socket_linger(client, now);
                let _ = rustix::net::sockopt::set_socket_linger(server, now);
                self.lock().reset = true;
                return Err(Over);
            }
            Action::HalfClose => {
                let _ = receiver.shutdown(Shutdown::Write);
            }
            Action::Hold(gate) => gate.pass(),
            // Of a request only.
            Action::Duplicate | Action::Forge(_) => {}
        }
        Ok(())
    }

    /// Ends both connections, which wakes the other direction.
    fn close(&self, client: &TcpStream, server: &TcpStream) {
        // Reading ends without a word to the other side.
        let how = if self.lock().reset {
            Shutdown::Read
        } else {
            Shutdown::Both
        };
        let _ = client.shutdown(how);
        let _ = server.shutdown(how);
    }
}

/// The next whole request; `None` if the client sends no more.
fn next_request(mut client: &TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Over> {
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(length) = length_of_request(buffer) {
            let rest = buffer.split_off(length);
            return Ok(Some(std::mem::replace(buffer, rest)));
        }
        let read = client.read(&mut chunk).map_err(|_| Over)?;
        if read == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
}

/// Length of the request at the beginning of `bytes`, if it is there whole. Bodies are as long as
/// `Content-Length` says; the planes send no others.
fn length_of_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let body = length.map_or(Some(0), |length| length.trim().parse().ok())?;
    (bytes.len() >= head + body).then_some(head + body)
}

fn first_line(request: &[u8]) -> (String, String) {
    let line = request
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ').map(str::to_owned);
    (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    )
}

/// Sends a request on a connection of its own and throws away what comes back.
fn duplicate(shared: &Arc<Shared>, target: SocketAddr, request: Vec<u8>) {
    let Ok(mut server) = TcpStream::connect(target) else {
        return;
    };
    let Ok(id) = shared.enter(&[&server]) else {
        return;
    };
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        // It may be gone again; then there is no second request.
        let _ = server.write_all(&request);
        let _ = std::io::copy(&mut server, &mut std::io::sink());
        shared.leave(id);
    });
}

fn forward(mut to: &TcpStream, bytes: &[u8]) -> Result<(), Over> {
    to.write_all(bytes).map_err(|_| Over)
}
