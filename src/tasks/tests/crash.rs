//! Death before and after every outside effect and every commit: the end is always the one of the undisturbed run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use db::{Clock, Db, params};
use serde::{Deserialize, Serialize};
use tasks::{Engine, EngineBuilder, Failure, Faults, NewTask, Operation, Record, Step, TaskContext};

/// The outside world: what a crash leaves behind.
#[derive(Clone, Debug)]
struct World {
    things: Arc<Mutex<BTreeSet<String>>>,
    /// Making this thing always fails.
    broken: Option<&'static str>,
    /// The engine must not get past this point of the create until the test says so.
    hold: Arc<tokio::sync::Semaphore>,
}

impl World {
    fn new(broken: Option<&'static str>) -> Self {
        Self { things: Arc::default(), broken, hold: Arc::new(tokio::sync::Semaphore::new(1)) }
    }

    fn ensure(&self, thing: &str) -> Result<(), Failure> {
        if self.broken == Some(thing) {
            return Err(Failure::fatal(format!("no {thing} today")));
        }
        self.things.lock().unwrap().insert(thing.to_owned());
        Ok(())
    }

    fn remove(&self, thing: &str) {
        self.things.lock().unwrap().remove(thing);
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Create {
    Disk,
    Tap,
    Process,
    Undo { why: String },
}

impl Operation for Create {
    const KIND: &'static str = "test.create";
    type App = World;

    fn event(&self) -> Option<&'static str> {
        Some(match self {
            Self::Disk => "disk",
            Self::Tap => "tap",
            Self::Process => "process",
            Self::Undo { .. } => "undo",
        })
    }

    async fn advance(self, world: &World, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let id = task.resource().to_owned();
        match self {
            Self::Disk => {
                task.act(async { world.ensure("disk") }).await?;
                Ok(Step::next(Self::Tap, |_| Ok(())))
            }
            Self::Tap => {
                drop(world.hold.acquire().await);
                task.act(async { world.ensure("tap") }).await?;
                Ok(Step::next(Self::Process, |_| Ok(())))
            }
            Self::Process => {
                task.act(async { world.ensure("process") }).await?;
                Ok(Step::done(move |tx| tx.execute("UPDATE toy SET state = 'active' WHERE id = ?1", [id]).map(|_| ())))
            }
            Self::Undo { why } => {
                for thing in ["process", "tap", "disk"] {
                    task.act(async { world.remove(thing) }).await;
                }
                Ok(Step::fail(why.clone(), move |tx| {
                    tx.execute("UPDATE toy SET state = 'error', fault = ?2 WHERE id = ?1", params![id, why]).map(|_| ())
                }))
            }
        }
    }

    fn failed(self, _: &World, _: &TaskContext, failure: &Failure) -> Step<Self> {
        Step::next(Self::Undo { why: failure.public.clone() }, |_| Ok(()))
    }

    fn unreadable(_: &World, resource: &str, reason: &str) -> Record {
        let (resource, reason) = (resource.to_owned(), reason.to_owned());
        Box::new(move |tx| {
            tx.execute("UPDATE toy SET state = 'error', fault = ?2 WHERE id = ?1", params![resource, reason])
                .map(|_| ())
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Delete {
    Process,
    Rest,
}

impl Operation for Delete {
    const KIND: &'static str = "test.delete";
    type App = World;

    async fn advance(self, world: &World, task: &TaskContext) -> Result<Step<Self>, Failure> {
        let id = task.resource().to_owned();
        match self {
            Self::Process => {
                task.act(async { world.remove("process") }).await;
                Ok(Step::next(Self::Rest, |_| Ok(())))
            }
            Self::Rest => {
                task.act(async { world.remove("tap") }).await;
                task.act(async { world.remove("disk") }).await;
                Ok(Step::done(move |tx| tx.execute("DELETE FROM toy WHERE id = ?1", [id]).map(|_| ())))
            }
        }
    }

    fn failed(self, _: &World, _: &TaskContext, failure: &Failure) -> Step<Self> {
        Step::fail(failure.public.clone(), |_| Ok(()))
    }

    fn unreadable(_: &World, _: &str, _: &str) -> Record {
        Box::new(|_| Ok(()))
    }
}

fn start(db: &Db, world: &World, faults: &Faults) -> Engine {
    EngineBuilder::new(db.clone(), Clock::default(), faults.clone())
        .operation::<Create>(world.clone())
        .operation::<Delete>(world.clone())
        .start()
}

fn new_task<'a>(action: &'a str) -> NewTask<'a> {
    NewTask {
        resource: "t1",
        action,
        request_id: "req-1",
        user_id: None,
        project_id: None,
        now: "2026-01-01T00:00:00.000000Z",
    }
}

async fn open(path: &Path) -> Db {
    let db = Db::open(path).unwrap();
    db.write::<_, db::Error, _>(|tx| {
        tx.execute("CREATE TABLE IF NOT EXISTS toy (id TEXT PRIMARY KEY, state TEXT NOT NULL, fault TEXT)", [])
    })
    .await
    .unwrap();
    db
}

async fn ask_create(db: &Db) {
    db.write::<_, tasks::Busy, _>(|tx| {
        tx.execute("INSERT INTO toy (id, state) VALUES ('t1', 'building')", [])?;
        tasks::start(tx, &new_task("create"), &Create::Disk)
    })
    .await
    .unwrap();
}

async fn ask_delete(db: &Db) {
    db.write::<_, db::Error, _>(|tx| tasks::supersede(tx, &new_task("delete"), &Delete::Process)).await.unwrap();
}

/// Waits until nothing runs, or the process is "dead".
async fn settle(db: &Db, faults: &Faults) {
    let mut changes = db.changes("tasks");
    let idle = async {
        loop {
            if faults.dead() || db.read(|tx| tasks::find(tx, "t1")).await.unwrap().is_none() {
                return;
            }
            // Death changes no row, so it is looked for now and then.
            let _ = tokio::time::timeout(Duration::from_millis(2), changes.changed()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), idle).await.expect("the operation never ended");
}

#[derive(Debug, PartialEq, Eq)]
struct End {
    row: Option<(String, Option<String>)>,
    world: BTreeSet<String>,
}

async fn end(db: &Db, world: &World) -> End {
    let row = db
        .read::<_, db::Error, _>(|tx| tx.find("SELECT state, fault FROM toy", [], |row| Ok((row.get(0)?, row.get(1)?))))
        .await
        .unwrap();
    End { row, world: world.things.lock().unwrap().clone() }
}

/// Runs to the end with a death at point `die_at` (0: none) and a restart; answers the end and the points passed.
async fn run(broken: Option<&'static str>, delete_during: bool, die_at: u64) -> (End, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.db");
    let world = World::new(broken);
    let faults = if die_at == 0 { Faults::default() } else { Faults::dying_at(die_at) };
    let db = open(&path).await;
    let gate = if delete_during { Some(Arc::clone(&world.hold).acquire_owned().await.unwrap()) } else { None };
    let engine = start(&db, &world, &faults);
    ask_create(&db).await;
    if delete_during {
        // The delete arrives while the create stands between two steps.
        ask_delete(&db).await;
    }
    drop(gate);
    settle(&db, &faults).await;
    let points = faults.passed();
    engine.stop().await;
    drop((engine, db));

    let faults = Faults::default();
    let db = open(&path).await;
    let engine = start(&db, &world, &faults);
    settle(&db, &faults).await;
    engine.stop().await;
    (end(&db, &world).await, points)
}

async fn die_everywhere(broken: Option<&'static str>, delete_during: bool) -> u64 {
    let (want, points) = run(broken, delete_during, 0).await;
    assert!(points >= 8, "only {points} points were passed: the count must cover acts and commits");
    for die_at in 1..=points {
        let (got, _) = run(broken, delete_during, die_at).await;
        assert_eq!(got, want, "death at point {die_at} of {points}");
    }
    points
}

#[tokio::test]
async fn a_create_ends_the_same_wherever_the_process_dies() {
    die_everywhere(None, false).await;
    let (end, _) = run(None, false, 0).await;
    assert_eq!(end.row, Some(("active".into(), None)));
    assert_eq!(end.world.len(), 3);
}

#[tokio::test]
async fn a_create_that_fails_leaves_its_reason_and_nothing_else_wherever_the_process_dies() {
    die_everywhere(Some("process"), false).await;
    let (end, _) = run(Some("process"), false, 0).await;
    assert_eq!(end.row, Some(("error".into(), Some("no process today".into()))));
    assert!(end.world.is_empty());
}

#[tokio::test]
async fn a_delete_that_overtakes_a_create_leaves_nothing_wherever_the_process_dies() {
    die_everywhere(None, true).await;
    let (end, _) = run(None, true, 0).await;
    assert_eq!(end, End { row: None, world: BTreeSet::new() });
}

#[tokio::test]
async fn a_second_operation_on_a_busy_resource_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("toy.db")).await;
    ask_create(&db).await;
    let refused = db.write(|tx| tasks::start(tx, &new_task("reboot"), &Delete::Process)).await;
    assert!(matches!(refused, Err(tasks::Busy::Busy(action)) if action == "create"));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("toy.db")).await;
    ask_create(&db).await;
    db.write::<_, db::Error, _>(|tx| tx.execute("UPDATE tasks_task SET state = '{\"Future\": 1}'", [])).await.unwrap();
    let world = World::new(None);
    let faults = Faults::default();
    let engine = start(&db, &world, &faults);
    settle(&db, &faults).await;
    engine.stop().await;
    let (state, fault) = end(&db, &world).await.row.unwrap();
    assert_eq!(state, "error");
    assert!(fault.unwrap().contains("test.create"));
    let log = db.read(|tx| tasks::list_log(tx, "t1")).await.unwrap();
    assert_eq!(log[0].result.as_deref(), Some("error"));
}

#[tokio::test]
async fn steps_and_their_ends_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder.path().join("toy.db")).await;
    let world = World::new(Some("process"));
    let faults = Faults::default();
    let engine = start(&db, &world, &faults);
    ask_create(&db).await;
    settle(&db, &faults).await;
    engine.stop().await;
    let log = db.read(|tx| tasks::list_log(tx, "t1")).await.unwrap();
    let generation = log[0].generation;
    let events = db.read(move |tx| tasks::list_events(tx, generation)).await.unwrap();
    let seen: Vec<_> = events.iter().rev().map(|event| (event.name.as_str(), event.result.as_str())).collect();
    assert_eq!(seen, [("disk", "Success"), ("tap", "Success"), ("process", "Error"), ("undo", "Error")]);
}
