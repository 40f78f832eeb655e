//! libFuzzer's door to the entry `decompress`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("decompress", bytes));
