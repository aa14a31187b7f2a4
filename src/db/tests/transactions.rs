//! The promises of `Db`, on a real file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use db::{Db, Error, params};

fn open(folder: &tempfile::TempDir) -> Db {
    Db::open(&folder.path().join("test.db")).unwrap()
}

async fn insert(db: &Db, resource: &'static str, generation: i64) -> Result<(), Error> {
    db.write(move |tx| {
        tx.execute(
            "INSERT INTO tasks_log (generation, resource, kind, action, request_id, started_at, updated_at)
             VALUES (?1, ?2, 'k', 'a', 'r', 't', 't')",
            params![generation, resource],
        )?;
        Ok(())
    })
    .await
}

async fn count(db: &Db) -> i64 {
    db.read::<_, Error, _>(|tx| tx.count("SELECT count(*) FROM tasks_log", [])).await.unwrap()
}

#[tokio::test]
async fn a_refused_closure_takes_back_only_its_own_rows() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let (a, b, c) = tokio::join!(insert(&db, "a", 1), insert(&db, "b", 1), insert(&db, "c", 2));
    assert!(a.is_ok() && c.is_ok());
    assert_eq!(b.unwrap_err().unique(), Some("tasks_log.generation"));
    assert_eq!(count(&db).await, 2);
}

#[tokio::test]
async fn a_panicking_closure_is_taken_back_and_the_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let panicked: Result<(), Error> = db
        .write(|tx| {
            tx.execute("UPDATE tasks_sequence SET value = 99", [])?;
            panic!("on purpose")
        })
        .await;
    assert!(matches!(panicked, Err(Error::Panicked)));
    insert(&db, "a", 1).await.unwrap();
    let value = db.read::<_, Error, _>(|tx| tx.count("SELECT value FROM tasks_sequence", [])).await.unwrap();
    assert_eq!(value, 0);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_for_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    insert(&db, "a", 1).await.unwrap();
    // A copy of the files as they are now is what a power cut would leave.
    let copy = tempfile::tempdir().unwrap();
    for file in ["test.db", "test.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    assert_eq!(count(&open(&copy)).await, 1);
}

#[tokio::test]
async fn a_generation_moves_with_commits_to_its_own_tables_only() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let (tasks, other) = (db.generation("tasks"), db.generation("other"));
    let mut changes = db.changes("tasks");
    let before = (tasks.get(), other.get());
    insert(&db, "a", 1).await.unwrap();
    assert!(tasks.get() > before.0);
    assert_eq!(other.get(), before.1);
    changes.changed().await;
}

#[tokio::test]
async fn hooks_run_after_a_commit_and_not_after_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let ran = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&ran);
    let refused: Result<(), Error> = db
        .write(move |tx| {
            tx.after_commit(move || hook.store(true, Ordering::SeqCst));
            Err(Error::Missing("anything"))
        })
        .await;
    assert!(refused.is_err() && !ran.load(Ordering::SeqCst));
    let hook = Arc::clone(&ran);
    db.write::<_, Error, _>(move |tx| {
        tx.after_commit(move || hook.store(true, Ordering::SeqCst));
        Ok(())
    })
    .await
    .unwrap();
    assert!(ran.load(Ordering::SeqCst));
}

#[tokio::test]
async fn writing_inside_a_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    let refused = db.read::<_, Error, _>(|tx| tx.execute("UPDATE tasks_sequence SET value = 1", [])).await;
    assert!(refused.is_err());
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let db = open(&folder);
    assert_eq!(std::fs::metadata(db.path()).unwrap().permissions().mode() & 0o777, 0o600);
}
