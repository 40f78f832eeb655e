//! libFuzzer's door to the entry `coordinator_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("coordinator_records", bytes));
