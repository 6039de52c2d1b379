//! The target `grpc_web` as a program of libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(target) = fuzz::find("grpc_web") {
        target(bytes);
    }
});
