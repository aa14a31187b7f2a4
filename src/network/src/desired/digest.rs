//! What was applied, remembered as a digest: comparing is all that is needed of it, and plans are large.

use std::hash::{Hash, Hasher};

/// SHA-256, because users choose much of what goes in: nobody may find two plans of which the second seems applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Equal for equal values in one process, and for no others.
    pub(crate) fn of(value: &impl Hash) -> Self {
        let mut sink =
            Sink { context: ring::digest::Context::new(&ring::digest::SHA256), waiting: Vec::with_capacity(BLOCK) };
        value.hash(&mut sink);
        sink.context.update(&sink.waiting);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(sink.context.finish().as_ref());
        Self(bytes)
    }
}

const BLOCK: usize = 8192;

/// Values hash themselves in many small pieces.
struct Sink {
    context: ring::digest::Context,
    waiting: Vec<u8>,
}

impl Hasher for Sink {
    fn write(&mut self, bytes: &[u8]) {
        if self.waiting.len() + bytes.len() > BLOCK {
            self.context.update(&self.waiting);
            self.waiting.clear();
        }
        self.waiting.extend_from_slice(bytes);
    }

    /// Not asked for: the digest has more bytes than this.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_digests_and_others_do_not() {
        let of = |texts: &[&str]| Digest::of(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&[]), of(&[""]));
        let long = "x".repeat(3 * BLOCK);
        assert_eq!(of(&[&long, "y"]), of(&[&long, "y"]));
        assert_ne!(of(&[&long, "y"]), of(&[&long, "z"]));
    }
}
