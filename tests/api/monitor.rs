//! Whether the cloud works: `/healthz`, `/readyz`, and what the watchdog hears.

use std::{
    os::unix::net::UnixDatagram,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use appliance::notify::{Environment, Notifier};
use kit::{Persona::Anonymous, Reply, TestCloud, wait_for};
use solostack::monitor::feed;
use tokio_util::sync::CancellationToken;

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.bytes).into_owned()
}

/// Holds the writer until what is returned is dropped.
async fn block_the_writer(cloud: &TestCloud) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (holds, held) = tokio::sync::oneshot::channel();
    let db = cloud.inner().db.clone();
    tokio::spawn(async move {
        db.write(move |_| {
            let _ = holds.send(());
            let _ = released.recv();
            Ok::<_, db::Error>(())
        })
        .await
    });
    held.await.unwrap();
    release
}

#[tokio::test]
async fn anybody_may_ask_whether_the_cloud_is_alive_and_ready() {
    let cloud = TestCloud::start().await;
    for (path, said) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let reply = cloud.as_(Anonymous).get(path).await;
        assert_eq!((reply.status.as_u16(), text(&reply).as_str()), (200, said));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    assert_eq!(cloud.as_(Anonymous).post("/readyz", serde_json::Value::Null).await.status, 405);
}

#[tokio::test]
async fn a_stuck_writer_is_alive_not_ready_and_says_so() {
    let cloud = TestCloud::start().await;
    let release = block_the_writer(&cloud).await;
    let reply = cloud.as_(Anonymous).get("/readyz").await;
    assert_eq!(reply.status, 503);
    assert!(text(&reply).starts_with("The database gives no answer within"), "{}", text(&reply));
    assert_eq!(cloud.as_(Anonymous).get("/healthz").await.status, 200);
    drop(release);
    wait_for("a writer that writes again", async || {
        let reply = cloud.as_(Anonymous).get("/readyz").await;
        if reply.status == 200 { Ok(()) } else { Err(text(&reply)) }
    })
    .await;
}

#[tokio::test]
async fn a_crowd_that_asks_writes_no_more_than_one() {
    let cloud = TestCloud::start().await;
    let writes = || cloud.inner().db.activity().writes;
    let (before, began) = (writes(), Instant::now());
    for _ in 0..200 {
        assert_eq!(cloud.as_(Anonymous).get("/readyz").await.status, 200);
    }
    // Reconcilers write too, now and then.
    let most = 50 + 2 * began.elapsed().as_secs();
    assert!(writes() - before < most, "{} writes", writes() - before);
}

#[tokio::test]
async fn a_cloud_that_stops_is_not_ready() {
    let cloud = TestCloud::start().await;
    cloud.inner().monitor.close();
    let reply = cloud.as_(Anonymous).get("/readyz").await;
    assert_eq!((reply.status.as_u16(), text(&reply).as_str()), (503, "The cloud is stopping.\n"));
}

#[tokio::test]
async fn the_watchdog_is_fed_only_while_the_database_answers() {
    let cloud = TestCloud::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let environment = Environment {
        notify_socket: Some(path.into()),
        watchdog_usec: Some("400000".into()),
        ..Environment::default()
    };
    let notifier = Arc::new(Notifier::of(&environment).unwrap().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(feed(notifier, cloud.inner().monitor.clone(), "all is well".into(), stop.clone()));
    let next = async |wanted: &str| {
        wait_for(wanted, async || {
            let mut bytes = [0; 4096];
            match socket.recv(&mut bytes) {
                Ok(count) => {
                    let said = String::from_utf8_lossy(&bytes[..count]).into_owned();
                    if said.contains(wanted) { Ok(said) } else { Err(said) }
                }
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    };
    assert_eq!(next("WATCHDOG=1").await, "STATUS=all is well\nWATCHDOG=1");

    let release = block_the_writer(&cloud).await;
    let said = next("gives no answer").await;
    assert!(!said.contains("WATCHDOG"), "{said}");
    // From here on nothing but complaints, for longer than systemd would wait.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let said = next("STATUS=").await;
        assert!(said.contains("gives no answer") && !said.contains("WATCHDOG"), "{said}");
    }
    drop(release);
    assert_eq!(next("WATCHDOG=1").await, "STATUS=all is well\nWATCHDOG=1");
    stop.cancel();
}
