//! libFuzzer's door to the entry `request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("request", bytes));
