//! Messages from the client.

use super::appends::Then;
use super::inbox::{Fill, TooLong};
use super::output::unread;
use super::pump::READS;
use super::{Keeper, Phase, log};
use crate::journal::{MESSAGE_ID_LEN, Tag};
use crate::process::signal;
use crate::protocol::Message;

/// Nothing more is taken from the client while so much waits to be delivered.
const DELIVERY_LIMIT: usize = 128 * 1024 * 1024;
/// Message ids remembered.
const IDS: usize = 1024;

/// The ids of the last messages, each delivered once.
#[derive(Default)]
pub(super) struct DeliveredIds {
    ids: Vec<u128>,
    next: usize,
}

impl DeliveredIds {
    /// `false` for an id that is among the last.
    fn insert(&mut self, id: [u8; 16]) -> bool {
        let id = u128::from_ne_bytes(id);
        if self.ids.contains(&id) {
            return false;
        }
        if self.ids.len() < IDS {
            self.ids.push(id);
        } else {
            self.ids[self.next] = id;
            self.next = (self.next + 1) % IDS;
        }
        true
    }
}

impl Keeper {
    /// Takes messages from the client. `true` when there may be more. Also while blocked: an
    /// interrupt must get through when output does not.
    pub(super) fn read_client(&mut self) -> bool {
        for _ in 0..READS {
            if self.appends.bytes() + self.control.outgoing_bytes() > DELIVERY_LIMIT {
                return false;
            }
            let Some(client) = &mut self.clients.active else {
                return false;
            };
            match client.inbox.next_frame() {
                Ok(Some(frame)) => {
                    let Some(message) = Message::decode(frame) else {
                        return self.drop_client("a client sent what is no message");
                    };
                    match message {
                        // A program has a control socket or a terminal.
                        Message::Deliver { .. } | Message::Interrupt { .. }
                            if self.terminal.is_some() =>
                        {
                            return self.drop_client("a client sent messages to a terminal");
                        }
                        Message::Deliver { id, payload } => {
                            if matches!(self.phase, Phase::Running) && self.delivered.insert(id) {
                                let parts: [&[u8]; 2] = [&id, payload];
                                self.appends.push(Tag::Input, &parts, [0; 2], Then::Deliver);
                                // Now, so that a signal sent after a message comes after it.
                                self.append_waiting();
                            }
                        }
                        Message::Interrupt { payload } => {
                            if self.appends.hold_messages() {
                                self.appends
                                    .push(Tag::Input, &[payload], [0; 2], Then::Interrupt);
                            } else {
                                self.control.push(payload.to_vec(), 0, true);
                                self.write_control();
                            }
                        }
                        Message::Signal {
                            signal: number,
                            scope,
                        } => {
                            if let Some(signal) = signal(number) {
                                self.tree.signal(signal, scope);
                            }
                        }
                        Message::Input { payload } => {
                            let terminal = self.terminal.as_mut();
                            if !terminal.is_some_and(|terminal| terminal.push(payload)) {
                                return self.drop_client("a client sent more input than it may");
                            }
                            self.write_terminal();
                        }
                        Message::Resize(size) => {
                            if self.terminal.is_none() {
                                return self.drop_client("a client resized what is no terminal");
                            }
                            let (drain, then) = (unread(&self.outputs), Then::Resize(size));
                            self.appends.push(Tag::Lifecycle, &[], drain, then);
                            self.append_waiting();
                        }
                        Message::Repeat => self.repeat_hand_over(),
                        Message::Stop => self.tree.stop(),
                        Message::Kill => self.tree.kill(),
                    }
                    continue;
                }
                Ok(None) => {}
                Err(TooLong) => {
                    return self.drop_client("a client sent a message beyond the limit");
                }
            }
            if !client.ready {
                return false;
            }
            match client.fill() {
                Fill::Data { .. } | Fill::Empty => {}
                Fill::End => return self.drop_client(""),
            }
        }
        true
    }

    /// Makes an entry of what the client has written to the program itself, if there is none yet. `true`
    /// when it waits to be appended.
    pub(super) fn take_hand_over(&mut self) -> bool {
        if self.terminal.is_some() || !matches!(self.phase, Phase::Running) {
            return false;
        }
        let Some(handed) = self.journal.take_hand_over() else {
            return false;
        };
        if let Some(id) = handed.bytes.first_chunk() {
            self.delivered.insert(*id);
        }
        self.appends.push_handed_over(handed);
        self.is_unanswered = true;
        true
    }

    /// Writes what was handed over last to the program, unless that has answered: whoever handed it over
    /// goes, and may not have come to it. A program that has it ignores it.
    pub(super) fn repeat_hand_over(&mut self) {
        self.take_hand_over();
        self.append_waiting();
        if std::mem::take(&mut self.is_unanswered)
            && let Some(handed) = self.journal.last_hand_over()
        {
            self.control.push(handed.bytes, MESSAGE_ID_LEN, false);
            self.write_control();
        }
    }

    /// Takes what the client has sent by now, within bounds.
    pub(super) fn finish_client(&mut self) {
        if let Some(client) = &mut self.clients.active {
            client.ready = true;
        }
        for _ in 0..READS {
            if !self.read_client() {
                break;
            }
        }
    }

    /// Lets the client go; always `false`, there is nothing more to read from it.
    fn drop_client(&mut self, reason: &str) -> bool {
        if !reason.is_empty() {
            log(reason);
        }
        self.repeat_hand_over();
        self.clients.detach(&self.epoll, &self.journal);
        self.unblock_reader();
        false
    }
}
