#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firmware::fuzz::boot_list(data));
