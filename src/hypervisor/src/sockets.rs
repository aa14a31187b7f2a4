//! Listeners of a VM process, which outlive every failure of those who connect.

use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

/// Out of descriptors, most likely: those that are open will close.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

/// The next to connect, however long that takes.
pub async fn accepted(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "a client of a socket was lost");
                tokio::time::sleep(AFTER_A_FAILURE).await;
            }
        }
    }
}
