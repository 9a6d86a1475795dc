//! What comes from an interpreter's private descriptor, which is whatever user code wrote to it.

#![no_main]

use abide_interpreter::{FromHarness, ToHarness, split_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while let Ok(Some((payload, taken))) = split_frame(rest) {
        assert!(taken > 0 && taken <= rest.len(), "a frame ends where it says");
        let _ = FromHarness::decode(payload);
        let _ = ToHarness::decode_step(payload);
        rest = &rest[taken..];
    }
});
