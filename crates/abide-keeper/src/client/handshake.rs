//! A client's side of the handshake.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::ConnectError;
use crate::files;
use crate::protocol::{
    Hello, PREAMBLE_LEN, PROTOCOL_VERSION, REFUSAL_LEN, WELCOME_LEN, Welcome, is_accepted,
    version_of,
};

/// A keeper answers within microseconds, unless its machine is in trouble.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn open_socket(dir: &Path) -> io::Result<UnixStream> {
    let handle: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_PATH)
        .open(dir)?;
    let stream = UnixStream::connect(files::socket_path(&handle))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A keeper's answer and what came with it.
pub(super) struct Answer {
    pub(super) welcome: Welcome,
    pub(super) wake_reader: OwnedFd,
    pub(super) wake_writer: OwnedFd,
    /// The terminal or the program's control socket, if the keeper gives it.
    pub(super) given: Option<OwnedFd>,
}

pub(super) fn shake_hands(mut stream: &UnixStream, hello: &Hello) -> Result<Answer, ConnectError> {
    stream
        .write_all(&hello.encode())
        .map_err(ConnectError::Handshake)?;
    let mut bytes = [0; REFUSAL_LEN + WELCOME_LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    // A socket with a time limit is not taken up again by the system when a signal comes, such as
    // that of another keeper's start being over.
    let received = retry_on_intr(|| {
        let mut bytes = [IoSliceMut::new(&mut bytes)];
        recvmsg(stream, &mut bytes, &mut control, flags)
    })
    .map_err(|errno| ConnectError::Handshake(errno.into()))?;
    let mut descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten();
    let (wake_reader, wake_writer) = (descriptors.next(), descriptors.next());
    let given = descriptors.next();
    drop(descriptors);
    let mut have = received.bytes;
    while have < REFUSAL_LEN {
        have += read_some(stream, &mut bytes[have..REFUSAL_LEN])?;
    }
    let version = bytes.first_chunk::<PREAMBLE_LEN>().and_then(version_of);
    match version {
        None => return Err(ConnectError::Nonsense),
        Some(version) if version == hello.version => {}
        Some(theirs) => {
            return Err(ConnectError::VersionMismatch {
                ours: PROTOCOL_VERSION,
                theirs,
            });
        }
    }
    if !is_accepted([bytes[8], bytes[9], bytes[10], bytes[11]]) {
        return Err(ConnectError::Nonsense);
    }
    if have < bytes.len() {
        stream
            .read_exact(&mut bytes[have..])
            .map_err(ConnectError::Handshake)?;
    }
    let welcome = bytes.last_chunk::<WELCOME_LEN>().and_then(Welcome::decode);
    let (Some(welcome), Some(wake_reader), Some(wake_writer)) = (welcome, wake_reader, wake_writer)
    else {
        return Err(ConnectError::Nonsense);
    };
    Ok(Answer {
        welcome,
        wake_reader,
        wake_writer,
        given,
    })
}

fn read_some(mut stream: &UnixStream, buf: &mut [u8]) -> Result<usize, ConnectError> {
    loop {
        return match stream.read(buf) {
            Ok(0) => Err(ConnectError::Handshake(io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => Ok(len),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(ConnectError::Handshake(error)),
        };
    }
}
