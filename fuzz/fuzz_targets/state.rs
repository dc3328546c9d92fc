//! The files of the state folder.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wf0_agent_fuzz::state(data);
});
