//! The task that owns one terminal's keeper: input and sizes in, news of the journal out.

use std::collections::VecDeque;
use std::sync::Arc;

use abide_keeper::{ExitRecord, Message, WindowSize, exit_record};
use abide_model::Exit;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, warn};

use super::Shared;
use super::screens::Screens;
use crate::link::Link;
use crate::recorder::Recorder;

/// How long new output waits until the screen is fed: whoever looks is served first, and what comes in small
/// pieces is fed in larger ones. Whoever wants to see the screen itself does not wait for that.
const FED_AFTER: std::time::Duration = std::time::Duration::from_millis(10);
/// Pause before an end is recorded again.
const RECORD_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// What the task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Write to the terminal, behind all input before.
    Input {
        bytes: Bytes,
        /// Told once the terminal or the keeper has it.
        taken: oneshot::Sender<()>,
    },
    /// Give the terminal another size.
    Resize(WindowSize),
    /// End the whole tree.
    Stop,
}

/// See the module.
pub(super) struct TerminalTask {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// `None` once the keeper is gone.
    link: Option<Link>,
    screens: Screens,
    recorder: Arc<dyn Recorder>,
    /// Dropped last: who waits for more finds that there will be none.
    head: watch::Sender<u64>,
    /// Input that the keeper has no room for, and how much of the first is with it already.
    input: VecDeque<(Bytes, oneshot::Sender<()>)>,
    /// To be told that the keeper has their input, once all that is queued for it is sent.
    passed_on: Vec<oneshot::Sender<()>>,
    /// Sequence number up to which the journal was announced.
    seen: u64,
    /// When the screen is to be fed.
    feed_at: Option<tokio::time::Instant>,
    ended: watch::Receiver<Option<ExitRecord>>,
    is_recorded: bool,
}

impl TerminalTask {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        link: Option<Link>,
        screens: Screens,
        recorder: Arc<dyn Recorder>,
        head: watch::Sender<u64>,
    ) -> Self {
        Self {
            ended: shared.follower.ended(),
            shared,
            commands,
            link,
            screens,
            recorder,
            head,
            input: VecDeque::new(),
            passed_on: Vec::new(),
            seen: 0,
            feed_at: None,
            is_recorded: false,
        }
    }

    /// Until the keeper is gone, or the agent stops.
    pub(super) async fn run(mut self, stopping: CancellationToken) {
        let span = tracing::info_span!("terminal", worker = %self.shared.id);
        async {
            loop {
                self.announce();
                self.pass_input_on();
                let Some(link) = &mut self.link else {
                    return self.conclude(&stopping).await;
                };
                if link.flush() {
                    for told in self.passed_on.drain(..) {
                        // Who sent it may be gone.
                        let _ = told.send(());
                    }
                }
                if link.keeper_is_gone() {
                    self.link = None;
                    continue;
                }
                let (more_input, feed_at) = (!self.input.is_empty(), self.feed_at);
                tokio::select! {
                    () = stopping.cancelled() => return,
                    command = self.commands.recv() => match command {
                        Some(command) => handle(command, link, &mut self.input),
                        // Nobody can reach the terminal any more: its session was deleted.
                        None => link.queue(Message::Stop),
                    },
                    () = link.wait(&self.shared.journal, self.seen, more_input) => {}
                    () = until(feed_at) => self.feed(),
                    ended = end(&mut self.ended), if !self.is_recorded => {
                        self.record(ended, &stopping).await;
                    }
                }
            }
        }
        .instrument(span)
        .await;
    }

    /// Tells viewers and screen of what is new in the journal.
    fn announce(&mut self) {
        let head = self.shared.journal.head_seq();
        if head != self.seen {
            self.seen = head;
            self.head.send_replace(head);
            self.feed_at
                .get_or_insert_with(|| tokio::time::Instant::now() + FED_AFTER);
        }
    }

    fn feed(&mut self) {
        self.feed_at = None;
        self.screens.wake(&self.shared.follower);
    }

    /// Hands over as much input as the terminal takes and the keeper has room for.
    fn pass_input_on(&mut self) {
        let Some(link) = &mut self.link else { return };
        while let Some((bytes, _)) = self.input.front_mut() {
            let taken = link.pass_input(bytes);
            if taken < bytes.len() {
                let _ = bytes.split_to(taken);
                return;
            }
            if let Some((_, told)) = self.input.pop_front() {
                self.passed_on.push(told);
            }
        }
    }

    /// The keeper is gone, in order or not.
    async fn conclude(&mut self, stopping: &CancellationToken) {
        self.announce();
        self.feed();
        if !self.is_recorded {
            let ended = self.ended.borrow().clone();
            let ended = ended.or_else(|| exit_record(&self.shared.dir));
            self.record(ended, stopping).await;
        }
    }

    /// Records how the program ended; `None` if nobody saw it.
    async fn record(&mut self, ended: Option<ExitRecord>, stopping: &CancellationToken) {
        self.is_recorded = true;
        let exit = described(ended.as_ref());
        loop {
            let (session, worker) = (self.shared.session, self.shared.id);
            // A terminal that ends is no crash of its session.
            let recorded = self
                .recorder
                .worker_exited(session, worker, exit.clone(), false);
            match recorded.await {
                Ok(()) => break,
                Err(error) => warn!(error = &error as &dyn std::error::Error, "not recorded"),
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(RECORD_AGAIN) => {}
            }
        }
        self.shared.exit.send_replace(Some(exit));
    }
}

fn handle(command: Command, link: &mut Link, input: &mut VecDeque<(Bytes, oneshot::Sender<()>)>) {
    match command {
        Command::Input { bytes, taken } => input.push_back((bytes, taken)),
        Command::Resize(size) => link.queue(Message::Resize(size)),
        Command::Stop => link.queue(Message::Stop),
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until the screen has come to the program's end.
async fn end(ended: &mut watch::Receiver<Option<ExitRecord>>) -> Option<ExitRecord> {
    ended.wait_for(Option::is_some).await.ok()?.clone()
}

/// How a program ended, in one sentence; `None` if nobody saw it.
pub fn described(ended: Option<&ExitRecord>) -> Exit {
    let (code, signal) = ended.map_or((None, None), |exit| (exit.code, exit.signal));
    let reason = match (code, signal) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "its keeper was killed, or the machine restarted".to_owned(),
    };
    Exit {
        code,
        signal,
        reason,
    }
}
