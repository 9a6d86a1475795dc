//! Terminals as they are asked for and shown.

use std::path::PathBuf;

use abide_keeper::WindowSize;
use abide_model::{ScreenState, SessionId, TerminalSpec, WorkerId};

use super::{NewTerminal, TerminalHandle};

/// Size of a terminal that nobody looks at yet: columns and rows.
const USUAL: (u16, u16) = (80, 24);

impl NewTerminal {
    /// What a request asks for.
    pub fn of_spec(
        id: WorkerId,
        session: SessionId,
        workspace: PathBuf,
        spec: &TerminalSpec,
    ) -> Self {
        let (cols, rows) = (spec.cols.unwrap_or(USUAL.0), spec.rows.unwrap_or(USUAL.1));
        Self {
            id,
            session,
            command: spec.command.clone(),
            login: spec.login,
            workspace,
            size: WindowSize::new(cols, rows),
            policy: spec.size_policy.unwrap_or_default(),
            output_bytes: spec.output_bytes,
        }
    }
}

/// What can be told of a terminal without drawing it.
pub fn shown(terminal: &TerminalHandle) -> ScreenState {
    let size = terminal.size().unwrap_or(WindowSize::new(0, 0));
    let (output_start, output_end) = terminal.output_range();
    ScreenState {
        cols: size.columns,
        rows: size.rows,
        title: terminal.title(),
        viewers: terminal.viewers(),
        output_start,
        output_end,
    }
}
