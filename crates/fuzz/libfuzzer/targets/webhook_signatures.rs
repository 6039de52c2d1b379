//! The target `webhook_signatures` as a program of libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(target) = fuzz::find("webhook_signatures") {
        target(bytes);
    }
});
