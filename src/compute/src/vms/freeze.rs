//! Asking the guest's agent (qemu-guest-agent, by its QMP-like lines over `agent.sock`) to hold its file systems still.
//!
//! What answers is a guest: every line is bounded, everything has a deadline, and whatever it says is only ever taken for
//! yes or no.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use vmspec::{ServerDirectory, client, directory};

const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long file systems may take to become still. Their last writes go to the disk first.
const FREEZE: Duration = Duration::from_secs(60);
const THAW: Duration = Duration::from_secs(30);
/// Begins a fresh conversation, whatever half line came before.
const DELIMITER: u8 = 0xff;

/// True once the file systems are frozen, false if no agent answers within `patience`. The error is the agent's.
pub(super) async fn freeze(directory: &ServerDirectory, patience: Duration) -> Result<bool, String> {
    let Some(mut agent) = Agent::find(directory, patience).await else { return Ok(false) };
    match agent.ask("guest-fsfreeze-freeze", FREEZE).await {
        Ok(_) => Ok(true),
        Err(error) => {
            // What it may have frozen before it failed.
            let _ = agent.ask("guest-fsfreeze-thaw", THAW).await;
            Err(format!("the guest agent did not freeze the file systems: {error}"))
        }
    }
}

/// Has them thawed, as far as an agent answers.
pub(super) async fn thaw(directory: &ServerDirectory, patience: Duration) -> Result<(), String> {
    let Some(mut agent) = Agent::find(directory, patience).await else { return Ok(()) };
    agent.ask("guest-fsfreeze-thaw", THAW).await.map(|_| ())
}

struct Agent {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Agent {
    async fn find(directory: &ServerDirectory, patience: Duration) -> Option<Self> {
        let greeting = async {
            let stream = client::connect_socket(directory, directory::AGENT).await?;
            let mut agent = Self { stream, heard: Vec::new() };
            let number = vmspec::unix_ms() & 0xffff_ffff;
            let hello = json!({"execute": "guest-sync-delimited", "arguments": {"id": number}});
            agent.stream.write_all(&[DELIMITER]).await?;
            agent.say(&hello).await?;
            // Answers to what somebody asked before come first.
            while agent.line().await?.get("return").and_then(Value::as_u64) != Some(number) {}
            Ok::<_, io::Error>(agent)
        };
        timeout(patience, greeting).await.ok()?.ok()
    }

    async fn say(&mut self, message: &Value) -> io::Result<()> {
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        self.stream.write_all(&line).await
    }

    async fn ask(&mut self, command: &str, deadline: Duration) -> Result<Value, String> {
        let conversation = async {
            self.say(&json!({"execute": command})).await?;
            self.line().await
        };
        let answer = match timeout(deadline, conversation).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("no answer within {} s", deadline.as_secs())),
        };
        match (answer.get("return"), answer.pointer("/error/desc").and_then(Value::as_str)) {
            (Some(value), _) => Ok(value.clone()),
            (None, reason) => {
                let reason = reason.unwrap_or("an answer that is none");
                Err(reason.chars().filter(|c| !c.is_control()).take(200).collect())
            }
        }
    }

    /// The next line that is JSON.
    async fn line(&mut self) -> io::Result<Value> {
        loop {
            while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let start = line.iter().rposition(|byte| *byte == DELIMITER).map_or(0, |at| at + 1);
                if let Ok(value) = serde_json::from_slice(line.get(start..).unwrap_or_default()) {
                    return Ok(value);
                }
            }
            if self.heard.len() > MAX_ANSWER_BYTES {
                return Err(io::Error::other("the guest agent's answer is too long"));
            }
            let mut chunk = [0; 4096];
            let read = self.stream.read(&mut chunk).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.heard.extend_from_slice(chunk.get(..read).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::net::UnixListener;

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
                let text: Vec<u8> = std::mem::take(&mut line).into_iter().filter(|byte| *byte != DELIMITER).collect();
                let request: Value = serde_json::from_slice(&text).unwrap();
                let command = request["execute"].as_str().unwrap().to_owned();
                let reply = match answer(&command) {
                    Some(reply) => reply,
                    None if command == "guest-sync-delimited" => {
                        format!("{{\"return\": {}}}", request["arguments"]["id"])
                    }
                    None => break,
                };
                asked.push(command);
                to.write_all(&[b"noise\n\xff", reply.as_bytes(), b"\n"].concat()).await.unwrap();
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
                assert_eq!(refused, Err("the guest agent did not freeze the file systems: no such thing".to_owned()));
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
