//! What a keeper is told, and what it leaves for others to read.

use std::path::PathBuf;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::process::ProcessStamp;
use crate::terminal::{Terminal, WindowSize};

/// Everything a keeper needs to know; `spec.json` in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperSpec {
    /// Names the worker; also given to its processes as `ABIDE_WORKER`.
    pub worker_id: Uuid,
    /// For people who look at the directory.
    #[serde(default)]
    pub label: String,
    /// Program and arguments. A program without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// Directory the program starts in.
    pub cwd: PathBuf,
    /// The whole environment; nothing is inherited. A program on a terminal also gets `TERM`,
    /// `COLORTERM` and a UTF-8 `LC_CTYPE` where these do not say otherwise.
    pub env: Vec<(String, String)>,
    /// User to run as; the keeper's own when absent. Needs privileges.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Group to run as; the keeper's own when absent. Needs privileges.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Resource limits for the program.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Size of the journal's data ring: a multiple of 4096.
    pub journal_bytes: u64,
    /// How long after SIGHUP a tree that is being stopped gets SIGTERM.
    pub hang_up_grace_ms: u64,
    /// How long after SIGTERM it gets SIGKILL.
    pub terminate_grace_ms: u64,
    /// How the program is connected.
    #[serde(default)]
    pub io: Io,
}

/// How a program is connected to its keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// Descriptor 0 is empty, 1 and 2 are pipes, 3 is a stream socket for control frames.
    #[default]
    Pipes,
    /// Descriptors 0, 1 and 2 are a terminal, the controlling one of a session that the program
    /// leads. What it starts may outlive it, until the keeper is told to stop the tree.
    Terminal(Terminal),
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited.
    pub resource: LimitedResource,
    /// `None` is unlimited.
    pub soft: Option<u64>,
    /// `None` is unlimited.
    pub hard: Option<u64>,
}

/// What can be limited, in the units of `setrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedResource {
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of core file.
    Core,
    /// Seconds of processor time.
    Cpu,
    /// Bytes of data segment.
    Data,
    /// Bytes of one file.
    FileSize,
    /// Open descriptors.
    OpenFiles,
    /// Processes of the user.
    Processes,
    /// Bytes of stack.
    Stack,
}

impl LimitedResource {
    pub(crate) fn to_resource(self) -> Resource {
        match self {
            Self::AddressSpace => Resource::As,
            Self::Core => Resource::Core,
            Self::Cpu => Resource::Cpu,
            Self::Data => Resource::Data,
            Self::FileSize => Resource::Fsize,
            Self::OpenFiles => Resource::Nofile,
            Self::Processes => Resource::Nproc,
            Self::Stack => Resource::Stack,
        }
    }
}

/// Who a running keeper is; `keeper.json` in its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperRecord {
    /// Version of the control protocol it speaks.
    pub protocol: u32,
    /// The worker it keeps.
    pub worker_id: Uuid,
    /// The keeper itself.
    pub keeper: ProcessStamp,
    /// The program it started.
    pub child: ProcessStamp,
    /// Told again in the handshake: the directory and the process belong together.
    pub nonce: Uuid,
    /// Pids and start times mean something within this boot only.
    pub boot_id: String,
}

/// How a worker's program ended; `exit.json` in its keeper's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit status, unless a signal ended it.
    pub code: Option<i32>,
    /// Number of the signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed it for want of memory.
    #[serde(default)]
    pub oom: bool,
    /// Whether the keeper had been asked to stop or kill it.
    #[serde(default)]
    pub requested: bool,
    /// When: milliseconds since the epoch.
    pub unix_ms: u64,
}

/// Payload of a journal entry with [`crate::Tag::Lifecycle`], as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Lifecycle {
    /// The program runs. Always the first entry.
    Started {
        /// The program.
        child: ProcessStamp,
        /// When: milliseconds since the epoch.
        unix_ms: u64,
    },
    /// Nothing more is read from the control descriptor.
    ControlEnded {
        /// One sentence for people.
        reason: String,
    },
    /// A client has given the terminal another size. All output before was written without
    /// knowledge of it.
    Resized {
        /// The one before.
        before: WindowSize,
        /// The one from now on.
        size: WindowSize,
    },
    /// The program has ended, and everything it wrote before is in the journal already. What it
    /// left running on a terminal may write on.
    Exited(ExitRecord),
    /// The whole tree is gone and the keeper goes. Always the last entry.
    Closed,
}
