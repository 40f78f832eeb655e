//! libFuzzer's door to the entry `log_dir`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flumen_fuzz::entries::run("log_dir", bytes));
