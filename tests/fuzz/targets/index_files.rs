//! libFuzzer's door to the entry `index_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("index_files", bytes));
