//! What a hostile guest, client or caller can say, as functions of bytes: one for each target of `fuzz/`, and the same are
//! run here by ordinary tests, over the corpus in `fuzz/seeds` and over bounded changes of it.
//!
//! What must stay true: a finding is a panic; the same bytes do the same; none waits for longer than a turn of a device.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a finding is a panic, and this is in no production build")]

mod control;
mod fw_cfg;
mod pci;
mod rfb;
mod source;
mod virtqueues;

pub use control::control_protocol;
pub use fw_cfg::fw_cfg;
pub use pci::pci;
pub use rfb::rfb_client;
pub use virtqueues::virtqueues;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    /// A generator of numbers with a seed (SplitMix64).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }

        fn below(&mut self, limit: usize) -> usize {
            (self.next() >> 11) as usize % limit.max(1)
        }
    }

    /// One entry with a few changes, as a fuzzer would make them.
    fn changed(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus.get(random.below(corpus.len() + 1)).cloned().unwrap_or_default();
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len() + 1);
            match random.below(6) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                2 if at < bytes.len() => bytes[at] = random.next() as u8,
                3 => {
                    let more: Vec<u8> = (0..random.below(48)).map(|_| random.next() as u8).collect();
                    bytes.splice(at..at, more);
                }
                4 if !corpus.is_empty() => {
                    let other = &corpus[random.below(corpus.len())];
                    bytes.truncate(at);
                    bytes.extend(&other[random.below(other.len() + 1)..]);
                }
                _ => bytes.extend((0..random.below(64)).map(|_| random.next() as u8)),
            }
        }
        bytes.truncate(4096);
        bytes
    }

    /// Everything in the corpus, then as many changes of it, or as many as fit into a few seconds on a slow machine.
    fn run(target: &str, changes: u64, act: fn(&[u8])) {
        let seeds = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds")).join(target);
        let mut files: Vec<_> = std::fs::read_dir(&seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let corpus: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!corpus.is_empty());
        for (bytes, path) in corpus.iter().zip(&files) {
            eprintln!("{}", path.display());
            act(bytes);
        }
        let until = Instant::now() + Duration::from_secs(4);
        let mut random = Random(0x50_10_57_ac);
        for turn in 0..changes {
            if Instant::now() > until {
                break;
            }
            let bytes = changed(&mut random, &corpus);
            eprintln!("change {turn}: {}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            act(&bytes);
        }
    }

    #[test]
    fn whatever_lies_in_the_rings_no_device_breaks() {
        run("virtqueues", 600, virtqueues);
    }

    #[test]
    fn whatever_is_written_to_configuration_space_and_bars_the_bus_stays_whole() {
        run("pci", 600, pci);
    }

    #[test]
    fn whatever_is_written_to_fw_cfg_only_what_was_asked_for_is_touched() {
        run("fw_cfg", 3000, fw_cfg);
    }

    #[test]
    fn whatever_is_said_on_the_control_socket_the_connection_ends_and_leaves_nothing() {
        run("control_protocol", 400, control_protocol);
    }

    #[test]
    fn whatever_a_client_says_its_screen_is_served_or_it_is_let_go() {
        run("rfb_client", 600, rfb_client);
    }
}
