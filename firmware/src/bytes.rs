//! Numbers out of byte slices. Reading past the end gives zero: callers check lengths first where that matters, and a
//! zero is never a valid pointer in the structures read here.

pub fn u8_at(from: &[u8], at: usize) -> u8 {
    from.get(at).copied().unwrap_or(0)
}

fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    at.checked_add(N).and_then(|end| from.get(at..end)).and_then(|found| found.try_into().ok()).unwrap_or([0; N])
}

pub fn u16_le(from: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(from, at))
}

pub fn u32_le(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(from, at))
}

pub fn u64_le(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(from, at))
}

pub fn u32_be(from: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(from, at))
}

pub fn guid_at(from: &[u8], at: usize) -> [u8; 16] {
    array(from, at)
}

/// Writes `value` at `at`; silently nothing when that lies outside (the callers' buffers are of fixed size).
pub fn put(to: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = at.checked_add(value.len()).and_then(|end| to.get_mut(at..end)) {
        place.copy_from_slice(value);
    }
}

/// Text that may hold anything: up to the first NUL, invalid UTF-8 replaced.
pub fn text(from: &[u8]) -> alloc::string::String {
    let end = from.iter().position(|&b| b == 0).unwrap_or(from.len());
    alloc::string::String::from_utf8_lossy(&from[..end]).into_owned()
}
