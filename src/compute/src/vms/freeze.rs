//! Asking the guest's agent to hold its file systems still. A guest without an agent is not asked.

use std::time::Duration;

use serde_json::json;
use vmspec::ServerDirectory;

use super::agent::Agent;

/// How long file systems may take to become still. Their last writes go to the disk first.
const FREEZE: Duration = Duration::from_secs(60);
const THAW: Duration = Duration::from_secs(30);

/// True once the file systems are frozen, false if no agent answers within `patience`. The error is the agent's.
pub(super) async fn freeze(directory: &ServerDirectory, patience: Duration) -> Result<bool, String> {
    let Ok(mut agent) = Agent::find(directory, patience).await else { return Ok(false) };
    match agent.ask("guest-fsfreeze-freeze", json!({}), FREEZE).await {
        Ok(_) => Ok(true),
        Err(error) => {
            // What it may have frozen before it failed.
            let _ = agent.ask("guest-fsfreeze-thaw", json!({}), THAW).await;
            Err(error)
        }
    }
}

/// Has them thawed, as far as an agent answers.
pub(super) async fn thaw(directory: &ServerDirectory, patience: Duration) -> Result<(), String> {
    let Ok(mut agent) = Agent::find(directory, patience).await else { return Ok(()) };
    agent.ask("guest-fsfreeze-thaw", json!({}), THAW).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::UnixListener;
    use vmspec::directory;

    use super::*;

    /// An agent that answers each command with what `answer` says; what it was asked comes back.
    async fn with_agent(answer: fn(&str) -> Option<String>, test: impl AsyncFnOnce(&ServerDirectory)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let directory = ServerDirectory::at(folder.path());
        let listener = UnixListener::bind(directory.file(directory::AGENT)).unwrap();
        let guest = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (from, mut to) = stream.into_split();
            let (mut from, mut line, mut asked) = (BufReader::new(from), Vec::new(), Vec::new());
            while from.read_until(b'\n', &mut line).await.unwrap_or(0) > 0 {
                let text: Vec<u8> = std::mem::take(&mut line).into_iter().filter(|byte| *byte != 0xff).collect();
                let request: Value = serde_json::from_slice(&text).unwrap();
                let command = request["execute"].as_str().unwrap().to_owned();
                let reply = match answer(&command) {
                    Some(reply) => reply,
                    None if command == "guest-sync-delimited" => {
                        format!("{{\"return\": {}}}", request["arguments"]["id"])
                    }
                    None => break,
                };
                let before: &[u8] = if command == "guest-sync-delimited" { b"noise\n\xff" } else { b"" };
                asked.push(command);
                // A client that has heard enough hangs up.
                if to.write_all(&[before, reply.as_bytes(), b"\n"].concat()).await.is_err() {
                    break;
                }
            }
            asked
        });
        test(&directory).await;
        guest.await.unwrap()
    }

    #[tokio::test]
    async fn an_agent_is_greeted_asked_and_believed() {
        let asked = with_agent(
            |command| (command != "guest-sync-delimited").then(|| "{\"return\": 2}".to_owned()),
            async |directory| assert_eq!(freeze(directory, Duration::from_secs(30)).await, Ok(true)),
        );
        assert_eq!(asked.await, ["guest-sync-delimited", "guest-fsfreeze-freeze"]);
    }

    #[tokio::test]
    async fn an_agent_that_refuses_is_told_to_thaw_and_says_why() {
        let asked = with_agent(
            |command| {
                (command != "guest-sync-delimited").then(|| "{\"error\": {\"desc\": \"no such thing\"}}".to_owned())
            },
            async |directory| {
                let refused = freeze(directory, Duration::from_secs(30)).await;
                assert_eq!(refused, Err("its guest agent refused guest-fsfreeze-freeze: no such thing".to_owned()));
            },
        );
        assert_eq!(asked.await, ["guest-sync-delimited", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]);
    }

    #[tokio::test]
    async fn a_guest_that_floods_or_says_nothing_is_no_agent() {
        let flood = with_agent(
            |_| Some("x".repeat(1 << 20)),
            async |directory| {
                assert_eq!(freeze(directory, Duration::from_millis(500)).await, Ok(false));
            },
        );
        assert_eq!(flood.await, ["guest-sync-delimited"]);
        let folder = tempfile::tempdir().unwrap();
        let directory = ServerDirectory::at(folder.path());
        assert_eq!(freeze(&directory, Duration::from_millis(500)).await, Ok(false));
        let _listener = UnixListener::bind(directory.file(directory::AGENT)).unwrap();
        assert_eq!(freeze(&directory, Duration::from_millis(200)).await, Ok(false));
        assert_eq!(thaw(&directory, Duration::from_millis(200)).await, Ok(()));
    }
}
