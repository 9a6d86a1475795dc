//! A TCP proxy between two planes that fails on demand.
//!
//! It understands just enough HTTP/1.1 to tell requests apart: each is read whole, shown to the
//! plan, and forwarded; what comes back belongs to the request before it. The plan answers with the
//! faults of that request, each at a named [`Point`]. Without a plan everything goes through.
//!
//! Nothing here depends on the time: what is held up waits for a [`Gate`] that the test opens.

mod connection;
mod gate;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

pub use gate::Gate;

/// A request on its way through the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// How many came before it, over all connections.
    pub index: usize,
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    /// All of it as it goes over the wire.
    pub bytes: &'a [u8],
}

impl Request<'_> {
    /// Whether it is of this method and its path begins like this.
    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path.starts_with(path)
    }

    /// Whether this text stands anywhere in it.
    pub fn has(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.bytes.windows(text.len()).any(|window| window == text)
    }
}

/// Where in an exchange something happens, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Nothing of the request has been forwarded.
    BeforeRequest,
    /// This many of its bytes have been, or all if it has fewer.
    InRequest(usize),
    /// All of it has been, and nothing of the answer.
    AfterRequest,
    /// The answer begins to arrive, so that the request was understood.
    BeforeResponse,
    /// This many bytes of the answer have been forwarded. Does nothing to an answer that has fewer.
    InResponse(usize),
}

/// What happens there.
#[derive(Debug, Clone)]
pub enum Action {
    /// Both connections are closed.
    Cut,
    /// Both are reset: what was sent and not yet read may be lost.
    Reset,
    /// The receiver sees the end of the stream, and may still be heard.
    HalfClose,
    /// Nothing more is forwarded until the gate is opened.
    Hold(Gate),
    /// The whole request is sent on a connection of its own, too; that answer is thrown away.
    Duplicate,
    /// The same, changed by this, so that the receiver may take it for another request.
    Forge(fn(&[u8]) -> Vec<u8>),
}

/// One fault of one request.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Where.
    pub at: Point,
    /// What.
    pub action: Action,
}

impl Fault {
    /// `action` at `at`.
    pub const fn new(at: Point, action: Action) -> Self {
        Self { at, action }
    }
}

type Plan = Box<dyn FnMut(&Request<'_>) -> Vec<Fault> + Send>;

/// See the module. Dropping it opens every gate and closes every connection.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What the proxy's threads share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    target: SocketAddr,
    plan: Plan,
    gates: Vec<Gate>,
    /// Both ends of each connection.
    connections: HashMap<u64, Vec<TcpStream>>,
    next_connection: u64,
    /// Method and path of every request.
    requests: Vec<(String, String)>,
    listening: bool,
    refusing: bool,
}

impl Proxy {
    /// A proxy to `target`, a base URL such as `http://127.0.0.1:9000`, that forwards everything.
    pub fn start(target: &str) -> anyhow::Result<Self> {
        // An address that nobody else uses: while connections are refused its port stays free.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let [.., n] = STARTED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let ip = IpAddr::V4(Ipv4Addr::new(127, 64 | (high & 63), low, n.max(1)));
        let listener = TcpListener::bind((ip, 0)).context("cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target: socket_address(target)?,
                plan: Box::new(|_| Vec::new()),
                gates: Vec::new(),
                connections: HashMap::new(),
                next_connection: 0,
                requests: Vec::new(),
                listening: true,
                refusing: false,
            }),
            changed: Condvar::new(),
        });
        accept(Arc::clone(&shared), listener);
        Ok(Self { shared, address })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New connections go to this base URL.
    pub fn set_target(&self, target: &str) -> anyhow::Result<()> {
        self.shared.lock().target = socket_address(target)?;
        Ok(())
    }

    /// Asks `plan` about each request from now on.
    pub fn plan(&self, plan: impl FnMut(&Request<'_>) -> Vec<Fault> + Send + 'static) {
        self.shared.lock().plan = Box::new(plan);
    }

    /// Does `fault` to the first request that `which` picks, and lets everything else through.
    pub fn once(&self, which: impl Fn(&Request<'_>) -> bool + Send + 'static, fault: Fault) {
        let mut left = Some(fault);
        self.plan(move |request| {
            let due = left.take_if(|_| which(request));
            due.into_iter().collect()
        });
    }

    /// Lets everything through from now on. Gates stay as they are.
    pub fn forward(&self) {
        self.plan(|_| Vec::new());
    }

    /// A gate that opens when the proxy goes away at the latest.
    pub fn gate(&self) -> Gate {
        let gate = Gate::new();
        self.shared.lock().gates.push(gate.clone());
        gate
    }

    /// Refuses new connections, as a host does where nothing listens, or accepts them again.
    /// Connections that are there are not touched.
    pub fn refuse(&self, refuse: bool) -> anyhow::Result<()> {
        let mut state = self.shared.lock();
        if state.refusing == refuse {
            return Ok(());
        }
        state.refusing = refuse;
        if refuse {
            drop(state);
            // Wakes the thread that accepts.
            let _ = TcpStream::connect(self.address);
            let waiting = self.shared.lock();
            let waited = self.shared.changed.wait_while(waiting, |s| s.listening);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        } else {
            let listener = TcpListener::bind(self.address).context("cannot listen again")?;
            state.listening = true;
            drop(state);
            accept(Arc::clone(&self.shared), listener);
        }
        Ok(())
    }

    /// Closes every connection.
    pub fn cut_all(&self) {
        for stream in self.shared.lock().connections.values().flatten() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Opens every gate, closes every connection that is there and waits until nothing is forwarded
    /// on those any more.
    pub fn settle(&self) {
        self.forward();
        let gates: Vec<_> = self.shared.lock().gates.drain(..).collect();
        gates.iter().for_each(Gate::open);
        let before = self.shared.lock().next_connection;
        self.cut_all();
        let state = self.shared.lock();
        let left = |state: &mut State| state.connections.keys().any(|id| *id < before);
        let settled = self.shared.changed.wait_while(state, left);
        drop(settled.unwrap_or_else(PoisonError::into_inner));
    }

    /// How many requests of this method came whose path begins like this.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.shared.lock().count(method, path)
    }

    /// Waits until `count` such requests have come in all.
    pub fn wait_for(&self, count: usize, method: &str, path: &str) {
        let state = self.shared.lock();
        let missing = |state: &mut State| state.count(method, path) < count;
        let waited = self.shared.changed.wait_while(state, missing);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails only where there is no way to listen, and then nobody has to stop.
        let _ = self.refuse(true);
        self.settle();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters both ends of a connection, to be closed from outside.
    fn enter(&self, ends: &[&TcpStream]) -> std::io::Result<u64> {
        let ends: std::io::Result<Vec<_>> = ends.iter().map(|end| end.try_clone()).collect();
        let mut state = self.lock();
        let id = state.next_connection;
        state.next_connection += 1;
        state.connections.insert(id, ends?);
        Ok(id)
    }

    fn leave(&self, id: u64) {
        self.lock().connections.remove(&id);
        self.changed.notify_all();
    }

    /// What is to become of a request.
    fn faults(&self, method: &str, path: &str, bytes: &[u8]) -> Vec<Fault> {
        let mut state = self.lock();
        let request = Request {
            index: state.requests.len(),
            method,
            path,
            bytes,
        };
        let mut faults = (state.plan)(&request);
        faults.sort_by_key(|fault| fault.at);
        state.requests.push((method.to_owned(), path.to_owned()));
        self.changed.notify_all();
        faults
    }
}

impl State {
    fn count(&self, method: &str, path: &str) -> usize {
        let alike = |(m, p): &&(String, String)| m == method && p.starts_with(path);
        self.requests.iter().filter(alike).count()
    }
}

/// Accepts connections until they are to be refused.
fn accept(shared: Arc<Shared>, listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let state = shared.lock();
            if state.refusing {
                break;
            }
            let target = state.target;
            drop(state);
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || connection::carry(&shared, &stream, target));
        }
        drop(listener);
        shared.lock().listening = false;
        shared.changed.notify_all();
    });
}

fn socket_address(url: &str) -> anyhow::Result<SocketAddr> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    address
        .parse()
        .with_context(|| format!("not an address: {url}"))
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
