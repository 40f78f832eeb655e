//! libFuzzer's door to the entry `connect_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("connect_records", bytes));
