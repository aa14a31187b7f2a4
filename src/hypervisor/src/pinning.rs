//! Threads on the CPUs of the host that the spec names for them.
//!
//! What must stay true: a thread is where it belongs before it is confined, as no filter allows it to move; a CPU that this
//! host does not have, or not for us, is an error and no hint.

use std::collections::BTreeSet;
use std::io;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

fn list(cpus: &BTreeSet<u16>) -> String {
    cpus.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

/// Have the calling thread, and those it starts from now on, run on these CPUs only. An empty set changes nothing.
pub fn pin(who: &str, cpus: &BTreeSet<u16>) -> io::Result<()> {
    pin_thread(None, who, cpus)
}

/// The same for any thread of this user, by its number; none is the calling one.
pub fn pin_thread(thread: Option<Pid>, who: &str, cpus: &BTreeSet<u16>) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(usize::from(*cpu)));
    let refused =
        |why: io::Error| io::Error::new(why.kind(), format!("{who} cannot run on CPUs {}: {why}", list(cpus)));
    sched_setaffinity(thread, &set).map_err(|error| refused(error.into()))?;
    // The kernel leaves out what it does not have, or not for this process, and is content with one that is left.
    let now = sched_getaffinity(thread).map_err(|error| refused(error.into()))?;
    if now != set {
        return Err(refused(io::Error::new(io::ErrorKind::NotFound, "this host has not all of them for it")));
    }
    Ok(())
}

/// Start threads by `f` that run on these CPUs only; the calling thread stays where it was.
pub fn with_pinned<T>(who: &str, cpus: &BTreeSet<u16>, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if cpus.is_empty() {
        return f();
    }
    let before = sched_getaffinity(None)?;
    let done = pin(who, cpus).and_then(|()| f());
    sched_setaffinity(None, &before)?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> BTreeSet<u16> {
        let now = sched_getaffinity(None).unwrap();
        (0..vmspec::resources::MAX_HOST_CPUS).filter(|cpu| now.is_set(usize::from(*cpu))).collect()
    }

    #[test]
    fn threads_are_where_they_belong_and_whoever_started_them_stays() {
        let all = here();
        let last = BTreeSet::from([*all.last().unwrap()]);
        let started = with_pinned("a thread", &last, || Ok(std::thread::spawn(here))).unwrap();
        assert_eq!(started.join().unwrap(), last);
        assert_eq!(here(), all);
        assert_eq!(with_pinned("a thread", &BTreeSet::new(), || Ok(here())).unwrap(), all);
        pin("this one", &last).unwrap();
        assert_eq!(here(), last);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_by_its_number() {
        let all = here();
        for wanted in [BTreeSet::from([1023]), BTreeSet::from([*all.last().unwrap(), 1023])] {
            let refused = with_pinned("vCPU 3", &wanted, || Ok(())).unwrap_err().to_string();
            assert!(refused.contains("vCPU 3") && refused.contains("1023"), "{refused}");
        }
        assert_eq!(here(), all);
    }
}
