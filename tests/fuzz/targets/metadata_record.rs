//! libFuzzer's door to the entry `metadata_record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("metadata_record", bytes));
