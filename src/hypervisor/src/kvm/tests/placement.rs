//! Machines on CPUs and in memory of their own.

use std::collections::{BTreeMap, BTreeSet};

use vmspec::Dedicated;

use super::*;
use crate::pools::tests::Pool;

const APART: &str = "HYPERVISOR_PLACEMENT";

fn made(spec: &VmSpec) -> Option<std::io::Result<Bench>> {
    let kvm = Kvm::new().ok()?;
    let output = Arc::new(Output::default());
    let parts = Parts {
        kvm,
        start: Start::Bios { bios: bios(&[SAY_WHETHER_ZERO, HALT]) },
        output: Arc::clone(&output),
        disks: Vec::new(),
        nics: Vec::new(),
        vhost: Vec::new(),
        vsock: None,
        restore: None,
        debug_port: false,
    };
    Some(KvmMachine::new(spec, parts).map(|(guest, wishes)| Bench { guest, wishes, output }))
}

/// The CPUs that each thread of this process may run on, as the kernel lists them.
fn allowed() -> BTreeMap<String, String> {
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).ok()?.trim().to_owned();
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned();
        Some((name, cpus))
    };
    std::fs::read_dir("/proc/self/task").unwrap().filter_map(of).collect()
}

#[test]
fn vcpus_run_where_the_spec_says_and_nobody_else_is_moved() {
    if apart("vcpus_run_where_the_spec_says_and_nobody_else_is_moved", APART, &[]).is_some() {
        return;
    }
    let all = allowed().into_values().next().unwrap();
    let last: u16 = all.rsplit([',', '-']).next().unwrap().parse().unwrap();
    let own = |vcpus: &[u16]| Dedicated {
        vcpus: vcpus.iter().map(|cpu| BTreeSet::from([*cpu])).collect(),
        others: BTreeSet::new(),
    };
    let with = |dedicated| VmSpec { cpu: Cpu { dedicated: Some(dedicated), ..Cpu::default() }, ..spec(2) };
    let Some(made_here) = made(&with(own(&[0, last]))) else { return };
    let mut bench = made_here.unwrap();
    bench.guest.go();
    bench.hear("z");
    let now = allowed();
    assert_eq!((now["vcpu0"].as_str(), now["vcpu1"].as_str()), ("0", last.to_string().as_str()));
    assert_eq!(now["balloon"], all);
    bench.guest.end();
    drop(bench);

    let Some(Err(refused)) = made(&with(own(&[0, 1023]))) else { panic!("a CPU that is not there is no reason") };
    assert!(refused.to_string().contains("vcpu1 cannot run on CPUs 1023"), "{refused}");
}

#[test]
fn memory_of_a_pool_is_zero_again_after_a_reset_and_refused_where_there_is_none() {
    let refused = made(&VmSpec { page_size: PageSize::TwoMib, memory_mib: 1 << 20, ..spec(1) });
    let Some(refused) = refused else { return };
    let refused = refused.err().expect("no host has that many huge pages").to_string();
    assert!(refused.contains("huge pages"), "{refused}");

    let Some(_pool) = Pool::new(8) else { return };
    let mut bench = made(&VmSpec { page_size: PageSize::Large, ..spec(1) }).unwrap().unwrap();
    for _ in 0..3 {
        bench.guest.go();
        bench.hear("z");
        bench.guest.reset(false).unwrap();
    }
    let (mut state, memory) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    bench.guest.go();
    bench.hear("z");
    bench.guest.suspend(&mut state, &memory).unwrap();
    let word = bench.word(0x500);
    assert_ne!(word, 0);
    drop(bench);
    let spec = VmSpec { page_size: PageSize::TwoMib, ..spec(1) };
    let mut bench =
        machine(&spec, Start::Bios { bios: bios(&[SAY_WHETHER_ZERO, HALT]) }, Some((state, memory))).unwrap();
    assert_eq!(bench.word(0x500), word);
    bench.guest.reset(false).unwrap();
    bench.guest.go();
    bench.hear("z");
}
