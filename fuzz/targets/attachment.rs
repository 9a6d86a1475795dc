//! What comes over an attachment from whoever is attached.

#![no_main]

use abide_model::{TerminalFrame, ToTerminal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(frame) = TerminalFrame::decode(input) {
        assert_eq!(frame.encode(), input, "a frame is what it was");
    }
    if let Ok(said) = serde_json::from_slice::<ToTerminal>(input) {
        let text = serde_json::to_string(&said).expect("no keys but text");
        let again: ToTerminal = serde_json::from_str(&text).expect("what was written");
        assert_eq!(again, said);
    }
});
