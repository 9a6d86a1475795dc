//! Signals that end a command that has the terminal to itself.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the program.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, u8)>);

impl Signals {
    /// Begins to listen.
    pub(crate) fn new() -> std::io::Result<Self> {
        // SIGHUP, SIGINT, SIGQUIT, SIGTERM.
        let numbers = [1_u8, 2, 3, 15];
        let listen = |number: u8| Ok((signal(SignalKind::from_raw(number.into()))?, number));
        numbers
            .into_iter()
            .map(listen)
            .collect::<std::io::Result<_>>()
            .map(Self)
    }

    /// The number of the next that comes.
    pub(crate) async fn next(&mut self) -> u8 {
        poll_fn(|cx| {
            for (signal, number) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}
