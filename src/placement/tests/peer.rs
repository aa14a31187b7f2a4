//! What compute relies on: this machine as a provider, claims that say what is short, and nothing left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end where its own assumption fails")]

use db::{Db, Tx};
use placement::peer::{self, Claim, ClaimError, Inventory, Provider};
use rest::Error;

const HOST: &str = "11111111-1111-1111-1111-111111111111";
const FIRST: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaa1";
const SECOND: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaa2";
const NOW: &str = "2026-11-22T00:00:00.000000Z";

struct Cloud {
    db: Db,
    _folder: tempfile::TempDir,
}

fn host() -> Provider {
    Provider {
        uuid: HOST.to_owned(),
        name: "host".to_owned(),
        inventories: vec![
            Inventory { ratio: 2.0, ..Inventory::of("VCPU", 4) },
            Inventory { reserved: 1024, ..Inventory::of("MEMORY_MB", 5120) },
            Inventory::of("DISK_GB", 100),
        ],
        traits: vec!["COMPUTE_NODE".to_owned(), "CUSTOM_SOLO".to_owned()],
    }
}

impl Cloud {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("db")).unwrap();
        let cloud = Self { db, _folder: folder };
        cloud.write(|tx| peer::ensure_provider(tx, &host(), NOW)).await.unwrap();
        cloud
    }

    async fn write<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Tx<'_>) -> rest::Result<T> + Send + 'static,
    ) -> rest::Result<T> {
        self.db.write(f).await
    }

    async fn claim(&self, consumer: &'static str, resources: &'static [(&'static str, i64)]) -> Result<(), ClaimError> {
        self.db
            .write(move |tx| {
                let wanted = Claim {
                    provider_uuid: HOST,
                    consumer_uuid: consumer,
                    project_id: "project",
                    user_id: "user",
                    resources,
                };
                peer::claim(tx, &wanted, NOW)
            })
            .await
    }

    fn used(&self, class: &str) -> i64 {
        let usage = self.db.read_blocking(|tx| peer::usage(tx, HOST)).unwrap();
        usage.iter().find(|usage| usage.class == class).unwrap().used
    }

    fn generation(&self) -> i64 {
        self.db
            .read_blocking(|tx| tx.count("SELECT generation FROM placement_provider WHERE uuid = ?1", [HOST]))
            .map_err(Error::from)
            .unwrap()
    }
}

fn shortage(result: Result<(), ClaimError>) -> peer::Shortage {
    match result {
        Err(ClaimError::Shortage(shortage)) => shortage,
        other => panic!("expected a shortage, got {other:?}"),
    }
}

#[tokio::test]
async fn registering_the_same_machine_again_changes_nothing_and_a_change_moves_the_generation() {
    let cloud = Cloud::start().await;
    let before = cloud.generation();
    cloud.write(|tx| peer::ensure_provider(tx, &host(), NOW)).await.unwrap();
    assert_eq!(cloud.generation(), before);
    let mut more = host();
    more.inventories[1].total = 8192;
    more.name = "renamed".to_owned();
    cloud.write(move |tx| peer::ensure_provider(tx, &more, NOW)).await.unwrap();
    assert_eq!(cloud.generation(), before + 1);
    let usage = cloud.db.read_blocking(|tx| peer::usage(tx, HOST)).unwrap();
    let memory = usage.iter().find(|usage| usage.class == "MEMORY_MB").unwrap();
    assert_eq!((memory.total, memory.reserved, memory.capacity), (8192, 1024, 7168));
}

#[tokio::test]
async fn an_administrators_own_classes_and_traits_survive_a_restart() {
    let cloud = Cloud::start().await;
    let mut richer = host();
    richer.inventories.push(Inventory::of("VGPU", 2));
    richer.traits.push("CUSTOM_RACK_7".to_owned());
    cloud.write(move |tx| peer::ensure_provider(tx, &richer, NOW)).await.unwrap();
    let before = cloud.generation();
    cloud.write(|tx| peer::ensure_provider(tx, &host(), NOW)).await.unwrap();
    assert_eq!(cloud.generation(), before);
    assert_eq!(cloud.used("VGPU"), 0);
}

#[tokio::test]
async fn a_claim_takes_and_a_release_gives_back() {
    let cloud = Cloud::start().await;
    cloud.claim(FIRST, &[("VCPU", 2), ("MEMORY_MB", 1024), ("DISK_GB", 0)]).await.unwrap();
    assert_eq!((cloud.used("VCPU"), cloud.used("MEMORY_MB"), cloud.used("DISK_GB")), (2, 1024, 0));
    let held = cloud.db.read_blocking(|tx| peer::allocated(tx, FIRST)).unwrap();
    assert_eq!(held[HOST]["MEMORY_MB"], 1024);
    assert_eq!(held[HOST].len(), 2);
    assert_eq!(cloud.db.read_blocking(|tx| peer::consumers(tx, HOST)).unwrap(), [FIRST]);
    assert!(cloud.write(|tx| peer::release(tx, FIRST)).await.unwrap());
    assert!(!cloud.write(|tx| peer::release(tx, FIRST)).await.unwrap());
    assert_eq!(cloud.used("VCPU"), 0);
    assert!(cloud.db.read_blocking(|tx| peer::consumers(tx, HOST)).unwrap().is_empty());
}

#[tokio::test]
async fn a_claim_that_does_not_fit_names_every_class_that_is_short_and_takes_nothing() {
    let cloud = Cloud::start().await;
    cloud.claim(FIRST, &[("VCPU", 4), ("MEMORY_MB", 4000)]).await.unwrap();
    let short = shortage(cloud.claim(SECOND, &[("VCPU", 4), ("MEMORY_MB", 512), ("DISK_GB", 150)]).await);
    assert_eq!(
        short.to_string(),
        "MEMORY_MB: requested 512, available 96 of 4096, short by 416; \
         DISK_GB: requested 150, available 100 of 100, short by 50"
    );
    assert!(cloud.db.read_blocking(|tx| peer::allocated(tx, SECOND)).unwrap().is_empty());
    assert_eq!(cloud.used("VCPU"), 4);
}

#[tokio::test]
async fn one_server_cannot_have_more_cores_than_there_are_even_when_they_are_promised_twice() {
    let cloud = Cloud::start().await;
    let short = shortage(cloud.claim(FIRST, &[("VCPU", 6)]).await);
    assert_eq!(short.to_string(), "VCPU: requested 6, available 8 of 8, at most 4 for one server, short by 2");
}

#[tokio::test]
async fn what_the_server_has_counts_as_free_when_it_is_resized() {
    let cloud = Cloud::start().await;
    cloud.claim(FIRST, &[("MEMORY_MB", 3000)]).await.unwrap();
    cloud.claim(FIRST, &[("MEMORY_MB", 4096)]).await.unwrap();
    assert_eq!(cloud.used("MEMORY_MB"), 4096);
    let short = shortage(cloud.claim(FIRST, &[("MEMORY_MB", 4097)]).await);
    assert_eq!(short.0[0].short_by(), 1);
    assert_eq!(cloud.used("MEMORY_MB"), 4096);
}

#[tokio::test]
async fn a_class_that_the_machine_has_none_of_is_short_by_all() {
    let cloud = Cloud::start().await;
    let short = shortage(cloud.claim(FIRST, &[("VGPU", 1)]).await);
    assert_eq!(short.to_string(), "VGPU: requested 1, available 0 of 0, short by 1");
}

#[tokio::test]
async fn without_a_provider_a_claim_says_so() {
    let cloud = Cloud::start().await;
    assert!(cloud.write(|tx| peer::remove_provider(tx, HOST)).await.unwrap());
    assert!(matches!(cloud.claim(FIRST, &[("VCPU", 1)]).await, Err(ClaimError::NoProvider)));
}

#[tokio::test]
async fn a_provider_with_servers_on_it_is_not_removed() {
    let cloud = Cloud::start().await;
    cloud.claim(FIRST, &[("VCPU", 1)]).await.unwrap();
    assert!(!cloud.write(|tx| peer::remove_provider(tx, HOST)).await.unwrap());
}

#[tokio::test]
async fn claims_at_the_same_time_never_promise_more_than_there_is() {
    let cloud = std::sync::Arc::new(Cloud::start().await);
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let cloud = std::sync::Arc::clone(&cloud);
            let consumer: &'static str = format!("bbbbbbbb-bbbb-bbbb-bbbb-{n:012}").leak();
            tokio::spawn(async move { cloud.claim(consumer, &[("MEMORY_MB", 512)]).await.is_ok() })
        })
        .collect();
    let mut fitted = 0;
    for task in tasks {
        fitted += i64::from(task.await.unwrap());
    }
    assert_eq!((fitted, cloud.used("MEMORY_MB")), (8, 4096));
}
