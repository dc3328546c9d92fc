//! What is said on the connection, either way.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wf0_agent_fuzz::frames(data);
});
