//! A file of settings, or an argument template.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    wf0_agent_fuzz::settings(data);
});
