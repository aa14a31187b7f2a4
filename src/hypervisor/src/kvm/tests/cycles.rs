//! Machines that come and go in one process, and what is left of them.

use super::*;

/// The recipe `fuzz-machine` has this do 500.
const START_STOP: usize = 40;
const RESETS: usize = 200;

/// What this process holds: descriptors, mappings, threads.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    mappings: usize,
    threads: usize,
}

fn held() -> Held {
    let entries = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    Held { descriptors: entries("/proc/self/fd"), mappings, threads: entries("/proc/self/task") }
}

impl Held {
    /// A thread that has been joined may still be listed for a moment, and so may its stack.
    fn soon(&self) -> Self {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let now = held();
            if (now.descriptors <= self.descriptors && now.threads <= self.threads && now.mappings <= self.mappings)
                || Instant::now() > until
            {
                return now;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stacks of ended threads are kept for the next ones, and the heap grows in pieces: a few mappings more or less are
    /// not a leak; one for each tenth cycle would be.
    fn assert_no_leak(&self, before: &Self, cycles: usize) {
        let same = self.descriptors == before.descriptors && self.threads == before.threads;
        assert!(
            same && self.mappings <= before.mappings + cycles / 10,
            "{before:?} and after {cycles} cycles {self:?}"
        );
    }
}

#[test]
fn starts_and_stops_leave_nothing() {
    let Some(said) = apart("starts_and_stops_leave_nothing", "SOLOSTACK_TEST_STARTS", &[]) else {
        let tap = tap();
        let spec = everything(tap.is_some());
        let cycle = || {
            let code = [&say(b'x')[..], HALT];
            let bios = Start::Bios { bios: bios(&code) };
            let mut bench = machine_with(&spec, bios, tap.as_ref(), None)?;
            bench.guest.go();
            bench.hear("x");
            bench.guest.end();
            Some(())
        };
        for _ in 0..20 {
            let Some(()) = cycle() else { return };
        }
        let cycles = std::env::var("SOLOSTACK_MACHINE_CYCLES").map_or(START_STOP, |cycles| cycles.parse().unwrap());
        let before = held();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let started = Instant::now();
        for _ in 0..cycles {
            cycle();
        }
        let after = before.soon();
        println!("counted: {cycles} machines in {:?}: {before:?}, {after:?}", started.elapsed());
        if after.mappings > before.mappings {
            let now = std::fs::read_to_string("/proc/self/maps").unwrap();
            now.lines().filter(|line| !maps.contains(line)).take(20).for_each(|line| println!("{line}"));
        }
        after.assert_no_leak(&before, cycles);
        return;
    };
    assert!(said.contains("counted") || said.contains("no usable /dev/kvm"), "{said}");
    println!("{said}");
}

#[test]
fn two_hundred_resets_leave_nothing() {
    let Some(said) = apart("two_hundred_resets_leave_nothing", "SOLOSTACK_TEST_RESETS", &[]) else {
        let tap = tap();
        let code = [&say(b'x')[..], RESET, HALT];
        let start = Start::Bios { bios: bios(&code) };
        let Some(mut bench) = machine_with(&everything(tap.is_some()), start, tap.as_ref(), None) else { return };
        let mut cycle = || {
            bench.guest.go();
            assert_eq!(bench.wish(), Wish::Reset);
            bench.hear("x");
            bench.guest.reset(false).unwrap();
        };
        for _ in 0..20 {
            cycle();
        }
        let before = held();
        for _ in 0..RESETS {
            cycle();
        }
        let after = before.soon();
        println!("counted: {RESETS} resets: {before:?}, {after:?}");
        after.assert_no_leak(&before, RESETS);
        return;
    };
    assert!(said.contains("counted") || said.contains("no usable /dev/kvm"), "{said}");
    println!("{said}");
}
