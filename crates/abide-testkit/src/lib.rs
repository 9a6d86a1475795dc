//! A real server for tests: the built program on a free port and a directory of its own.
//!
//! Nothing here sleeps or polls: the server says on its standard output when it is ready, and
//! processes are waited for.

mod agent;
mod data_plane;
mod json_socket;
mod processes;
pub mod proxy;
mod server;
mod stack;
mod terminal;

pub use agent::{AgentOptions, TestAgent};
pub use data_plane::TestDataPlane;
pub use json_socket::{Came, DeafSocket, JsonSocket, Refused};
pub(crate) use processes::agent_is_there;
pub use processes::{processes_of_worker_dir, still_alive};
pub use proxy::Proxy;
pub use server::{Exited, ServerOptions, TestServer};
pub use stack::{Plane, TestStack};
pub use terminal::Terminal;
