//! The public API over three processes: the suite of `api`, where it is not about one process.

mod http {
    //! The same requests to another composition.

    pub(crate) use crate::api::http::{Answer, Composition, Stream, data, output};

    /// A control plane over a data plane over a session agent.
    pub(crate) type Server = abide_testkit::TestStack;

    /// The same, and how to speak to it.
    pub(crate) type Api = crate::api::http::ApiOf<abide_testkit::TestStack>;
}

mod faults;
mod full_disk;
mod scripts;
mod survival;
mod terminals_below;
mod ways_in;

#[path = "api/agents.rs"]
mod agents;
#[path = "api/auth.rs"]
mod auth;
#[path = "dialect.rs"]
mod dialect;
#[path = "api/errors.rs"]
mod errors;
#[path = "api/events.rs"]
mod events;
#[path = "api/interpreters.rs"]
mod interpreters;
#[path = "api/jobs.rs"]
mod jobs;
#[path = "api/libraries.rs"]
mod libraries;
#[path = "api/output.rs"]
mod output;
#[path = "api/sessions.rs"]
mod sessions;
#[path = "shell.rs"]
mod shell;
#[path = "api/shutdown.rs"]
mod shutdown;
#[path = "api/steps.rs"]
mod steps;
#[path = "api/streams.rs"]
mod streams;
#[path = "api/system.rs"]
mod system;
#[path = "terminals.rs"]
mod terminals;
