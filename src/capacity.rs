//! What this machine has to give: cores, memory, disk, and what its processor can do.

use std::path::Path;

use config::Config;

/// The name of this machine in the APIs.
#[must_use]
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "solostack".into())
}

/// Totals as they are now; ratios and reserves as configured.
#[must_use]
pub fn of_this_machine(config: &Config) -> compute::Capacity {
    let scheduling = &config.scheduling;
    compute::Capacity {
        vcpus: std::thread::available_parallelism().map_or(1, |cores| i64::try_from(cores.get()).unwrap_or(1)),
        memory_mib: memory_mib().unwrap_or(1024),
        disk_gib: disk_gib(&config.state_dir).unwrap_or(1).max(1),
        reserved_memory_mib: i64::try_from(scheduling.reserved_memory_mib).unwrap_or(i64::MAX),
        reserved_disk_gib: i64::try_from(scheduling.reserved_disk_gib).unwrap_or(i64::MAX),
        vcpu_ratio: scheduling.cpu_allocation_ratio,
        memory_ratio: scheduling.ram_allocation_ratio,
        disk_ratio: scheduling.disk_allocation_ratio,
    }
}

fn memory_mib() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// Size of the file system that holds servers.
fn disk_gib(path: &Path) -> Option<i64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    i64::try_from(stat.blocks() * stat.fragment_size() / (1 << 30)).ok()
}

/// Traits that are true of this host and its driver (os-traits names).
#[must_use]
pub fn traits(driver: vmspec::Driver) -> Vec<String> {
    let mut traits = vec!["COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_RAW", "COMPUTE_IMAGE_TYPE_QCOW2"];
    if driver == vmspec::Driver::Kvm {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has = |flag: &str| {
            flags
                .lines()
                .find(|line| line.starts_with("flags"))
                .is_some_and(|line| line.split_whitespace().any(|one| one == flag))
        };
        for (flag, name) in [
            ("vmx", "HW_CPU_X86_VMX"),
            ("svm", "HW_CPU_X86_SVM"),
            ("avx", "HW_CPU_X86_AVX"),
            ("avx2", "HW_CPU_X86_AVX2"),
            ("aes", "HW_CPU_X86_AESNI"),
            ("sse4_2", "HW_CPU_X86_SSE42"),
        ] {
            if has(flag) {
                traits.push(name);
            }
        }
    }
    traits.into_iter().map(str::to_owned).collect()
}
