//! The data plane: finds each session's runtime and gets each step to it, once.

pub mod routing;
