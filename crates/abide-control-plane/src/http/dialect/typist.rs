//! What is typed over a connection of the dialect, on its way to one terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use abide_session_agent::Tasks;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::runtimes::Terminal;

/// Input that may wait for one program to read, in bytes.
const TYPED_AHEAD: usize = 16 * 1024 * 1024;

/// Hands input on in order, as fast as the program takes it; whoever types never waits.
#[derive(Debug)]
pub(super) struct Typist {
    typed: mpsc::UnboundedSender<(Bytes, Option<u64>)>,
    waiting: Arc<AtomicUsize>,
}

impl Typist {
    /// One of `tasks` types, so that what was typed before a client left is typed all the same.
    pub(super) fn new(terminal: Arc<dyn Terminal>, tasks: &Tasks) -> Self {
        let (typed, mut to_type) = mpsc::unbounded_channel::<(Bytes, Option<u64>)>();
        let waiting = Arc::<AtomicUsize>::default();
        let handed_on = Arc::clone(&waiting);
        let all = async move {
            while let Some((bytes, viewer)) = to_type.recv().await {
                let length = bytes.len();
                if terminal.input(bytes, viewer).await.is_err() {
                    // Nobody reads it any more.
                    return;
                }
                handed_on.fetch_sub(length, Ordering::Relaxed);
            }
        };
        let stopping = tasks.stopping();
        tasks.spawn("typing", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = all => {}
            }
        });
        Self { typed, waiting }
    }

    /// Types, as one of those who look, in pieces of at most `piece` bytes. `false`: too much waits already,
    /// and this was not taken.
    pub(super) fn types(&self, mut bytes: Bytes, piece: usize, viewer: Option<u64>) -> bool {
        if self.waiting.load(Ordering::Relaxed) + bytes.len() > TYPED_AHEAD {
            return false;
        }
        self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        while !bytes.is_empty() {
            let next = bytes.split_to(bytes.len().min(piece.max(1)));
            if self.typed.send((next, viewer)).is_err() {
                // To a program that has ended, as to any terminal that nobody reads.
                break;
            }
        }
        true
    }

    /// The program has ended.
    pub(super) fn is_done(&self) -> bool {
        self.typed.is_closed()
    }
}
