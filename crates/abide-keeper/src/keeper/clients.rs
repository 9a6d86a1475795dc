//! Who is at the control socket.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt::socket_peercred,
};
use uuid::Uuid;

use super::inbox::{Fill, Inbox};
use super::setup::watch;
use super::terminal::Terminal;
use super::{JOINING, token};
use crate::journal::JournalWriter;
use crate::process::ProcessStamp;
use crate::protocol::{
    GIVES_INPUT, HELLO_LEN, Hello, PREAMBLE_LEN, Welcome, is_spoken, refusal, version_of,
};

/// Handshakes under way at once. One more takes the place of an older one.
pub(super) const PLACES: usize = 4;

/// What a keeper says of itself in every handshake.
pub(super) struct Identity {
    pub(super) keeper: ProcessStamp,
    pub(super) child: ProcessStamp,
    pub(super) worker_id: Uuid,
    pub(super) nonce: Uuid,
}

/// The attached client.
pub(super) struct Client {
    stream: UnixStream,
    pub(super) ready: bool,
    /// It has closed, or is gone: no event will tell when it has been read empty.
    hung_up: bool,
    pub(super) inbox: Inbox,
    wake_reader: OwnedFd,
    wake_writer: OwnedFd,
}

impl Client {
    pub(super) fn notice(&mut self, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        self.hung_up |= flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
        self.ready = true;
    }

    /// Reads once into the inbox. As with the program's control socket, a read that leaves room
    /// has emptied it.
    pub(super) fn fill(&mut self) -> Fill {
        let fill = self.inbox.fill(&self.stream);
        if let Fill::Data { drained: true, .. } | Fill::Empty = fill {
            self.ready = self.hung_up && fill != Fill::Empty;
        }
        fill
    }

    /// Wakes the reader.
    pub(super) fn wake(&self) {
        // Fails only when the counter is full: then the reader has wake-ups to spare.
        let _ = rustix::io::write(&self.wake_reader, &1u64.to_ne_bytes());
    }

    /// Takes the wake-ups that the reader sent.
    pub(super) fn take_wake(&self) {
        let _ = rustix::io::read(&self.wake_writer, &mut [0; 8]);
    }
}

struct Joining {
    stream: UnixStream,
    hello: [u8; HELLO_LEN],
    have: usize,
}

/// Somebody who has said who they are.
pub(super) struct Introduced {
    stream: UnixStream,
    hello: Hello,
}

/// The control socket, those who are introducing themselves, and the one who has.
pub(super) struct Clients {
    listener: UnixListener,
    identity: Identity,
    joining: [Option<Joining>; PLACES],
    next_place: usize,
    pub(super) active: Option<Client>,
}

impl Clients {
    pub(super) fn new(listener: UnixListener, identity: Identity) -> Self {
        Self {
            listener,
            identity,
            joining: [const { None }; PLACES],
            next_place: 0,
            active: None,
        }
    }

    /// Accepts everybody who knocks and runs as this user or as root. The socket's mode says
    /// the same; this holds where file systems do not honour it.
    pub(super) fn accept(&mut self, epoll: &OwnedFd) {
        let own = rustix::process::geteuid();
        while let Ok((stream, _)) = self.listener.accept() {
            let welcome =
                socket_peercred(&stream).is_ok_and(|peer| peer.uid == own || peer.uid.is_root());
            if !welcome || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let place = self.next_place;
            self.next_place = (place + 1) % PLACES;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            if watch(epoll, &stream, JOINING + place as u64, flags).is_ok() {
                self.joining[place] = Some(Joining {
                    stream,
                    hello: [0; HELLO_LEN],
                    have: 0,
                });
            }
        }
    }

    /// Goes on with a handshake. Returns who is to be attached when it is complete.
    pub(super) fn join(&mut self, place: usize) -> Option<Introduced> {
        let mut joining = self.joining.get_mut(place).and_then(Option::take)?;
        while joining.have < HELLO_LEN {
            match rustix::io::read(&joining.stream, &mut joining.hello[joining.have..]) {
                Ok(0) => return None,
                Ok(len) => joining.have += len,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => return None,
            }
            if let Some(preamble) = joining.hello[..joining.have].first_chunk::<PREAMBLE_LEN>()
                && !is_spoken(version_of(preamble)?)
            {
                let _ = rustix::net::send(&joining.stream, &refusal(), SendFlags::NOSIGNAL);
                return None;
            }
        }
        if joining.have < HELLO_LEN {
            self.joining[place] = Some(joining);
            return None;
        }
        Some(Introduced {
            stream: joining.stream,
            hello: Hello::decode(&joining.hello),
        })
    }

    /// The new client supersedes the one before it.
    pub(super) fn attach(
        &mut self,
        Introduced { stream, hello }: Introduced,
        epoll: &OwnedFd,
        journal: &JournalWriter,
        terminal: Option<&Terminal>,
        control: Option<BorrowedFd<'_>>,
    ) -> rustix::io::Result<()> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let (wake_reader, wake_writer) = (eventfd(0, flags)?, eventfd(0, flags)?);
        epoll::delete(epoll, &stream)?;
        self.detach(epoll, journal);
        watch(
            epoll,
            &stream,
            token::CLIENT,
            epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
        )?;
        watch(epoll, &wake_writer, token::WAKE, epoll::EventFlags::IN)?;
        let welcome = Welcome {
            keeper: self.identity.keeper,
            child: self.identity.child,
            worker_id: self.identity.worker_id,
            nonce: self.identity.nonce,
            client_nonce: hello.nonce,
            capacity: journal.capacity(),
            generation: journal.attach(hello.resume),
            input: terminal.map_or(0, Terminal::taken),
        };
        let client = Client {
            stream,
            ready: true,
            hung_up: false,
            inbox: Inbox::default(),
            wake_reader,
            wake_writer,
        };
        let given = terminal.map(Terminal::as_fd).or(control);
        let given = given.filter(|_| hello.version >= GIVES_INPUT);
        let sent = send_welcome(&client, &welcome.encode(hello.version), given);
        self.active = Some(client);
        if sent.is_err() {
            self.detach(epoll, journal);
        }
        sent
    }

    /// Lets the attached client go.
    pub(super) fn detach(&mut self, epoll: &OwnedFd, journal: &JournalWriter) {
        if let Some(client) = self.active.take() {
            journal.detach();
            // The client has a copy of this descriptor, which would keep it watched.
            let _ = epoll::delete(epoll, &client.wake_writer);
        }
    }
}

fn send_welcome(
    client: &Client,
    welcome: &[u8],
    given: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<()> {
    let wakes = [client.wake_reader.as_fd(), client.wake_writer.as_fd()];
    let descriptors: Vec<_> = wakes.into_iter().chain(given).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    // A new socket's buffer takes a hundred bytes whole.
    sendmsg(
        &client.stream,
        &[IoSlice::new(welcome)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map(|_| ())
}
