//! How the program is, for the screen of the machine: a socket in the state directory that only root, or who runs the program,
//! may open. Who connects is told, as one JSON object, and the connection ends. Nothing is ever read from it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use config::Config;

/// Made anew at each start.
#[must_use]
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("console.sock")
}

/// How many may ask at once: two screens and somebody curious.
const MOST: usize = 4;
/// How long an answer may take, with whom it goes to.
const DEADLINE: Duration = Duration::from_secs(30);

/// Answers until `stop`. What cannot be listened on is logged: a cloud without a screen is a cloud.
pub fn start(config: &Config, authority: &str, reporter: system::Reporter, stop: CancellationToken) {
    let path = socket(&config.state_dir);
    match bind(&path) {
        Ok(listener) => drop(tokio::spawn(serve(listener, authority.to_owned(), reporter, stop))),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the screen of this machine is not told how the cloud is");
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    // The lock of the state directory is held: an older socket is nobody's.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, authority: String, reporter: system::Reporter, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if may_ask(&stream) => {
                let (authority, reporter) = (authority.clone(), reporter.clone());
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(DEADLINE, answer(stream, &authority, &reporter)).await;
                    drop(slot);
                });
            }
            Ok(_) => (),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of the machine's screen");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Between the making of the socket and its mode, anybody who reaches the directory could have connected.
fn may_ask(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

async fn answer(mut stream: UnixStream, authority: &str, reporter: &system::Reporter) -> io::Result<()> {
    let told = serde_json::json!({
        "authority": authority,
        "ca_fingerprint": reporter.ca_fingerprint(),
        "health": reporter.health().await,
    });
    stream.write_all(told.to_string().as_bytes()).await?;
    stream.shutdown().await
}
