//! What the multi-terminal dialect must not be told.

use super::Config;
use crate::error::CommandError;

impl Config {
    /// Refuses what no connection of the dialect could live with.
    pub(crate) fn check_dialect(&self) -> Result<(), CommandError> {
        let ping = self.terminal_ping_interval.0;
        if ping.is_zero() || ping >= self.terminal_read_timeout.0 {
            let wrong = "must be more than nothing and less than terminal_read_timeout";
            return Err(self.error("terminal_ping_interval", wrong));
        }
        for (name, side) in [
            ("terminal_rows", self.terminal_rows),
            ("terminal_cols", self.terminal_cols),
        ] {
            if !(1..=500).contains(&side) {
                return Err(self.error(name, "must be from 1 to 500"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::super::{ByteSize, Grace, Span};
    use crate::error::Kind;

    #[test]
    fn the_dialect_is_told_what_other_deployments_set() {
        let config = load(
            &[],
            [
                ("PTY_ORPHAN_GRACE_PERIOD", "300"),
                ("PTY_OUTPUT_BUFFER_SIZE", "131072"),
                ("PTY_CLOSE_GRACE_PERIOD", "250ms"),
                ("TERMINAL_WS_MAX_MESSAGE_BYTES", "65536"),
                ("TERMINAL_WS_READ_TIMEOUT", "1m30s"),
                ("TERMINAL_WS_PING_INTERVAL", "30s"),
                ("TERMINAL_WS_MESSAGE_RATE", "30"),
                ("TERMINAL_WS_MESSAGE_BURST", "60"),
                ("TERMINAL_SESSION_ID_MAX_LENGTH", "64"),
                ("DEFAULT_SHELL", "/bin/zsh"),
                ("DEFAULT_ROWS", "30"),
                ("DEFAULT_COLS", "100"),
                ("COOKIE_NAME", "session"),
            ],
            None,
        )
        .unwrap();
        config.check_dialect().unwrap();
        let seconds = |seconds| std::time::Duration::from_secs(seconds);
        assert_eq!(config.orphan_grace, Grace(Some(seconds(300))));
        assert_eq!(config.terminal_output, ByteSize(128 << 10));
        let close = Some(Span(std::time::Duration::from_millis(250)));
        assert_eq!(config.terminal_close_grace, close);
        assert_eq!(config.terminal_piece, ByteSize(64 << 10));
        let waits = (
            config.terminal_read_timeout.0,
            config.terminal_ping_interval.0,
        );
        assert_eq!(waits, (seconds(90), seconds(30)));
        let rate = (config.terminal_message_rate, config.terminal_message_burst);
        assert_eq!(rate, (30, 60));
        assert_eq!(config.terminal_id_length, 64);
        assert_eq!(config.terminal_shell.as_deref(), Some("/bin/zsh"));
        assert_eq!((config.terminal_rows, config.terminal_cols), (30, 100));
        assert_eq!(config.cookie_name, "session");
        // Ours wins, and nothing set is for ever.
        let both = [
            ("PTY_ORPHAN_GRACE_PERIOD", "300"),
            ("ABIDE_ORPHAN_GRACE", "1m"),
        ];
        let config = load(&[], both, None).unwrap();
        assert_eq!(config.orphan_grace, Grace(Some(seconds(60))));
        let config = load(&[], [], None).unwrap();
        assert_eq!(config.orphan_grace, Grace(None));
        let size = (config.terminal_rows, config.terminal_cols);
        assert_eq!(size, abide_model::DIALECT_USUAL_SIZE);
    }

    #[test]
    fn a_dialect_that_no_connection_could_live_with_is_refused() {
        for (variable, text) in [
            ("TERMINAL_WS_PING_INTERVAL", "90s"),
            ("TERMINAL_WS_PING_INTERVAL", "0s"),
            ("TERMINAL_WS_READ_TIMEOUT", "30s"),
            ("DEFAULT_ROWS", "0"),
            ("DEFAULT_COLS", "501"),
        ] {
            let config = load(&[], [(variable, text)], None).unwrap();
            let error = config.check_dialect().unwrap_err();
            assert_eq!(error.kind, Kind::Config, "{variable}={text}");
        }
    }
}
