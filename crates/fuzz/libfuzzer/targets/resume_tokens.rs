//! The target `resume_tokens` as a program of libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(target) = fuzz::find("resume_tokens") {
        target(bytes);
    }
});
