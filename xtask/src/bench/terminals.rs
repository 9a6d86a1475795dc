//! Terminals, beside what else shows them: the kernel's terminal alone, the least that shows it over a WebSocket, node-pty
//! with ws, VS Code's kind of pty host, and tmux.

mod abide;
mod continuity;
mod corpus;
mod echo;
mod filled;
mod host;
mod idle;
mod interrupt;
mod line;
mod minimal;
mod node;
mod pty;
mod reattach;
mod stalled;
mod stream;
mod tmux;
mod wire;

pub(super) use continuity::continuity;
pub(super) use echo::echo;
pub(super) use filled::filled;
pub(super) use idle::idle;
pub(super) use interrupt::interrupt;
pub(super) use reattach::{history, reattach};
pub(super) use stalled::stalled;
pub(super) use stream::stream;
pub(super) use wire::wire;

pub(crate) use minimal::serve;
