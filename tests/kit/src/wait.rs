//! Waiting for a value.

use std::time::{Duration, Instant};

/// Much longer than anything here takes; a busy machine must not fail a test.
const DEADLINE: Duration = Duration::from_secs(30);

/// Looks until `look` answers `Ok`; panics with what it saw last when the deadline has passed.
pub async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => assert!(started.elapsed() < DEADLINE, "waited in vain for {what}: {seen}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(25));
    }
}
