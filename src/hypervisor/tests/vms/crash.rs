//! A supervisor that is killed at any instant, and what it leaves.

use super::*;

/// The three servers of a state directory; others may be tested at the same time.
fn three(state: &Path) -> [Uuid; 3] {
    [b"1", b"2", b"3"]
        .map(|name| Uuid::new_v5(&Uuid::NAMESPACE_URL, &[state.to_str().unwrap().as_bytes(), name].concat()))
}

/// A supervisor that does random things to three servers until it is killed.
pub async fn supervise(kind: Kind, state: &Path) {
    let bench = std::mem::ManuallyDrop::new(Bench::over(kind, state));
    bench.driver.adopt_all().await.unwrap();
    futures::future::join_all(three(state).into_iter().zip(FIRST_UID..).map(|(id, uid)| {
        let bench = &bench;
        async move {
            loop {
                match random::<1>()[0] % 6 {
                    0..=2 => {
                        // As an operation does: what was started before keeps its generation.
                        let before = bench.directory(id).read_spec().unwrap().map_or(0, |spec| spec.generation);
                        let runs = matches!(bench.driver.observe(id).await, Ok(Observed::Running(_)));
                        let mut spec = VmSpec { server_id: id, generation: before + u64::from(!runs), ..bench.spec() };
                        spec.smbios = Smbios::openstack(id);
                        spec.run_as = spec.run_as.map(|_| uid);
                        bench.driver.ensure_running(&spec, bench.disk(&spec)).await.unwrap();
                    }
                    3 => bench.driver.stop(id, None).await.unwrap(),
                    4 => bench.driver.kill(id).await.unwrap(),
                    _ => bench.driver.remove(id).await.unwrap(),
                }
            }
        }
    }))
    .await;
}

/// All processes that belong to those servers of this state directory.
fn processes_of(state: &Path) -> Vec<String> {
    let servers = state.join("servers").to_str().unwrap().to_owned();
    let ids = three(state).map(|id| id.to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        // A VM process names its directory; its QEMU has the server's id.
        let named = line.contains(&servers) || ids.iter().any(|id| line.contains(id));
        if named && !line.contains(" supervise ") && alive(pid) {
            found.push(line);
        }
    }
    found
}

/// `SOLOSTACK_TEST_KILLS` sets how many times; the default is for every day.
pub async fn killing_the_supervisor_at_any_instant_loses_and_leaves_nothing(bench: Bench) {
    let kills = std::env::var("SOLOSTACK_TEST_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let name = if bench.kind == Kind::Fake { "fake" } else { "tcg" };
    let mut lives = 0;
    for round in 0.. {
        // On a machine that is too busy the supervisor may never have come to anything: go on until it has.
        if round >= kills && (lives > 0 || round >= 20 * kills) {
            break;
        }
        let mut supervisor = tokio::process::Command::new(std::env::current_exe().unwrap())
            .arg("supervise")
            .arg(name)
            .arg(bench.state.path())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let wait_ms = 30 + u64::from(u16::from_ne_bytes(random()) % if bench.kind == Kind::Fake { 100 } else { 700 });
        let ended = tokio::time::timeout(Duration::from_millis(wait_ms), supervisor.wait()).await;
        assert!(ended.is_err(), "the supervisor failed by itself: {ended:?}");
        supervisor.kill().await.unwrap();
        for (id, observed) in bench.driver.adopt_all().await.unwrap() {
            match observed {
                Observed::Running(running) => {
                    lives += 1;
                    // What runs is what the directory says.
                    let spec = bench.directory(id).read_spec().unwrap().unwrap();
                    assert_eq!((running.spec_hash, running.generation), (spec.hash(), spec.generation));
                }
                Observed::Gone(_) | Observed::Absent => {}
                Observed::Unresponsive { reason } => panic!("{id} does not respond: {reason}"),
            }
        }
    }
    assert!(lives > 0, "no server ever survived: this proves nothing");
    for id in three(bench.state.path()) {
        // A process that was spawned just before the last kill may come to life in between.
        eventually(async || bench.driver.remove(id).await.is_ok()).await;
    }
    assert!(bench.driver.adopt_all().await.unwrap().is_empty());
    if bench.kind == Kind::Tcg {
        eventually(async || processes_of(bench.state.path()).is_empty()).await;
        assert!(bench.driver.adopt_all().await.unwrap().is_empty(), "a late process brought nothing back");
        for id in three(bench.state.path()) {
            assert!(vmspec::cgroup::path_of(id).is_none_or(|path| !path.exists()));
        }
    }
}
