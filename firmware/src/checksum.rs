//! CRC-32 (GPT) and CRC-32C (the ext4 journal).

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

static IEEE: [u32; 256] = table(0xedb8_8320);
static CASTAGNOLI: [u32; 256] = table(0x82f6_3b78);

fn update(table: &[u32; 256], mut state: u32, data: &[u8]) -> u32 {
    for &byte in data {
        state = (state >> 8) ^ table[((state ^ u32::from(byte)) & 0xff) as usize];
    }
    state
}

/// The CRC-32 that GPT headers carry.
pub fn crc32(data: &[u8]) -> u32 {
    !update(&IEEE, !0, data)
}

/// CRC-32C without the inversions, as ext4 and jbd2 chain it.
pub fn crc32c(state: u32, data: &[u8]) -> u32 {
    update(&CASTAGNOLI, state, data)
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_checksums_give_the_published_values() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(!super::crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
