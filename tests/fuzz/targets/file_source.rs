//! libFuzzer's door to the entry `file_source`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("file_source", bytes));
