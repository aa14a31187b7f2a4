#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firmware::fuzz::unified_kernel(data));
