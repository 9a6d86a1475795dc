//! What clients of the multi-terminal dialect send, and what they are sent of it.

#![no_main]

use abide_model::{DialectMessage, DialectRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let sent = match DialectRequest::parse(text) {
        Some(DialectRequest::Input { session_id, data }) => {
            DialectMessage::Output { session_id, data }
        }
        Some(DialectRequest::Rename { session_id, name }) => {
            DialectMessage::Renamed { session_id, name }
        }
        Some(DialectRequest::Ping { session_id }) => DialectMessage::Pong { session_id },
        _ => return,
    };
    let message: serde_json::Value =
        serde_json::from_str(&sent.encode()).expect("what is sent is JSON");
    assert!(message["type"].is_string());
});
