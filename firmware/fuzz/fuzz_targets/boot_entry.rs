#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firmware::fuzz::boot_entry(data));
