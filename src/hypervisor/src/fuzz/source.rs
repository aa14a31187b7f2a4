//! Bytes, taken as decisions. Where there are no more, every decision is 0.

pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `count` bytes as they are.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `limit`, from as few bytes as can tell it.
    pub fn below(&mut self, limit: u64) -> u64 {
        let number = match limit {
            0..=0x100 => self.u8().into(),
            0x101..=0x1_0000 => self.u16().into(),
            _ => self.u64(),
        };
        number % limit.max(1)
    }

    /// 1, 2, 4 or 8: what an access can be long.
    pub fn access(&mut self) -> usize {
        1 << self.below(4)
    }
}
