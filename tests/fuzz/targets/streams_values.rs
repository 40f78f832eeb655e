//! libFuzzer's door to the entry `streams_values`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("streams_values", bytes));
