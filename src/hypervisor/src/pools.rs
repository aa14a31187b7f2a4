//! The host's pools of huge pages.

use vmspec::PageSize;

/// The pool that memory of these pages is taken from, by the size of its pages in MiB: the first that has enough of them
/// free. None for ordinary memory. To be asked while `/sys` is in sight; whoever takes the pages has the last word.
pub fn choose(pages: PageSize, memory_mib: u64) -> Result<Option<u64>, String> {
    let pools = pages.pools_mib();
    let mut lacking = Vec::new();
    for mib in pools.iter().filter(|mib| memory_mib.is_multiple_of(**mib)) {
        let read = |name: &str| {
            let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/{name}_hugepages", mib << 10);
            std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
        };
        let free = read("free").unwrap_or(0).saturating_sub(read("resv").unwrap_or(0));
        let wanted = memory_mib / mib;
        if free >= wanted {
            return Ok(Some(*mib));
        }
        lacking.push(format!("{wanted} of {mib} MiB, of which {free} are free"));
    }
    if pools.is_empty() {
        return Ok(None);
    }
    Err(format!("this host has not enough huge pages for {memory_mib} MiB: it would take {}", lacking.join(", or ")))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;

    use super::*;

    /// Set aside in the host's pool for the time of a test, if the host lets it and has them.
    pub(crate) struct Pool {
        before: String,
        /// One test at a time, whatever process it is in.
        _alone: File,
    }

    const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    impl Pool {
        pub(crate) fn new(pages: u64) -> Option<Self> {
            let alone = File::open(POOL).ok()?;
            alone.lock().unwrap();
            let before = std::fs::read_to_string(POOL).ok()?;
            let wanted = before.trim().parse::<u64>().ok()? + pages;
            let _ = std::fs::write(POOL, wanted.to_string());
            let pool = Self { before, _alone: alone };
            let free = choose(PageSize::TwoMib, pages * 2);
            free.inspect_err(|why| eprintln!("not tested: {why}")).ok().map(|_| pool)
        }
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            let _ = std::fs::write(POOL, self.before.trim());
        }
    }

    #[test]
    fn what_a_pool_lacks_is_said_and_ordinary_memory_needs_none() {
        let refused = choose(PageSize::TwoMib, 1 << 20).unwrap_err();
        assert!(refused.contains("2 MiB"), "{refused}");
        let refused = choose(PageSize::Large, 1 << 30).unwrap_err();
        assert!(refused.contains("1024 MiB") && refused.contains("2 MiB"), "{refused}");
        assert_eq!(choose(PageSize::Any, 1 << 30), Ok(None));
        assert_eq!(choose(PageSize::Small, 1 << 30), Ok(None));
        let Some(_pool) = Pool::new(8) else { return };
        assert_eq!(choose(PageSize::TwoMib, 16), Ok(Some(2)));
    }
}
