//! What this process takes of the machine, by the names that every Prometheus client gives these numbers.

use std::{path::Path, time::Duration};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};

use crate::exposition::{Exposition, Kind};

/// Numbers that cannot be read are left out.
pub fn write(text: &mut Exposition, state_dir: &Path) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let time = |time: nix::sys::time::TimeVal| {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
            Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
        };
        let taken = time(usage.user_time()) + time(usage.system_time());
        text.family("process_cpu_seconds_total", Kind::Counter, "Processor time of the program.")
            .sample(&[], taken.as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |name: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    if let Some(kib) = number("VmRSS:") {
        text.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory of the program.")
            .sample(&[], kib * 1024);
    }
    if let Some(kib) = number("VmSize:") {
        text.family("process_virtual_memory_bytes", Kind::Gauge, "Address space of the program.")
            .sample(&[], kib * 1024);
    }
    if let Some(count) = number("Threads:") {
        text.family("process_threads", Kind::Gauge, "Threads of the program.").sample(&[], count);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the directory itself.
        let count = entries.count().saturating_sub(1);
        text.family("process_open_fds", Kind::Gauge, "Open descriptors of the program.").sample(&[], count);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        text.family("process_max_fds", Kind::Gauge, "Descriptors that the program may have open.").sample(&[], soft);
    }
    if let Some(at) = started_at() {
        text.family("process_start_time_seconds", Kind::Gauge, "When the program started.").sample(&[], at);
    }
    if let Ok(stat) = nix::sys::statvfs::statvfs(state_dir) {
        text.family("solostack_disk_size_bytes", Kind::Gauge, "Size of the file system that holds the state.")
            .sample(&[], stat.blocks() * stat.fragment_size());
        text.family("solostack_disk_free_bytes", Kind::Gauge, "What is free of it.")
            .sample(&[], stat.blocks_available() * stat.fragment_size());
    }
}

/// Seconds since 1970.
fn started_at() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold spaces and parentheses; the 20th field behind it is the time of start.
    let ticks: u64 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let all = std::fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = all.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + ticks / u64::try_from(per_second).ok()?.max(1))
}
