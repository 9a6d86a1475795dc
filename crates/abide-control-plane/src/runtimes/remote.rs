//! Interpreters of a data plane.
