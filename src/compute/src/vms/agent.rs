//! The guest agent (qemu-guest-agent): one request at a time over the port that every machine has.
//!
//! What comes from there is the guest's word: bounded in size and time, and believed for nothing but the guest itself.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};
use uuid::Uuid;
use vmspec::{ServerDirectory, client, directory};

use super::{Driver, FakeDriver, VmError};

const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// Before this byte everything is of an earlier conversation.
const DELIMITER: u8 = 0xff;

impl Driver {
    /// Has the guest's agent do something, and gives what it returned. It has `present` to say that it is there, for a guest
    /// without one says nothing for ever, and `patience` for the command itself.
    ///
    /// # Errors
    /// [`VmError::NotRunning`] without a machine, [`VmError::NoAgent`] where none answers, [`VmError::Refused`] where it would
    /// not do it.
    pub async fn ask_agent(
        &self,
        server_id: Uuid,
        command: &str,
        arguments: Value,
        present: Duration,
        patience: Duration,
    ) -> Result<Value, VmError> {
        match self {
            Self::Process(driver) => {
                let directory = ServerDirectory::of(driver.servers(), server_id);
                ask(&directory, server_id, command, arguments, present, patience).await
            }
            Self::Fake(driver) => driver.ask_agent(server_id, command),
        }
    }
}

async fn ask(
    directory: &ServerDirectory,
    server_id: Uuid,
    command: &str,
    arguments: Value,
    present: Duration,
    patience: Duration,
) -> Result<Value, VmError> {
    let mut agent = Agent::find(directory, present).await.map_err(|absent| match absent {
        Absent::NoMachine => VmError::NotRunning { server_id },
        Absent::NoAgent(reason) => VmError::NoAgent { server_id, reason },
    })?;
    agent.ask(command, arguments, patience).await.map_err(|reason| VmError::Refused { server_id, reason })
}

/// Why there is nobody to ask.
#[derive(Debug)]
pub(super) enum Absent {
    NoMachine,
    NoAgent(String),
}

/// An agent that has said that it is there.
pub(super) struct Agent {
    port: BufReader<UnixStream>,
}

impl Agent {
    /// Greets it. A guest without one says nothing for as long as `patience` lasts.
    pub async fn find(directory: &ServerDirectory, patience: Duration) -> Result<Self, Absent> {
        let stream = client::connect_socket(directory, directory::AGENT).await.map_err(|_| Absent::NoMachine)?;
        let mut port = BufReader::new(stream);
        let id = Uuid::new_v4().as_u128() as u32;
        let present = timeout(patience, async {
            let hello = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
            send(&mut port, &hello, true).await?;
            loop {
                let mut skipped = Vec::new();
                let read = (&mut port).take(MAX_ANSWER_BYTES).read_until(DELIMITER, &mut skipped).await?;
                if read == 0 || skipped.last() != Some(&DELIMITER) {
                    return Err(std::io::Error::other("it closed its port"));
                }
                // What follows may be the answer to a greeting of before.
                if receive(&mut port).await?["return"] == json!(id) {
                    return Ok(());
                }
            }
        });
        match present.await {
            Ok(Ok(())) => Ok(Self { port }),
            Ok(Err(error)) => Err(Absent::NoAgent(spoken_to(&error))),
            Err(_) => Err(Absent::NoAgent("no guest agent answers in it".into())),
        }
    }

    /// What it returned, or why not in words.
    pub async fn ask(&mut self, command: &str, arguments: Value, patience: Duration) -> Result<Value, String> {
        let asked = timeout(patience, async {
            send(&mut self.port, &json!({"execute": command, "arguments": arguments}), false).await?;
            receive(&mut self.port).await
        });
        match asked.await {
            Ok(Ok(mut answer)) => match answer.get("error") {
                None if answer.get("return").is_some() => Ok(answer["return"].take()),
                Some(error) => {
                    let words = error["desc"].as_str().unwrap_or("no reason given");
                    let words: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
                    Err(format!("its guest agent refused {command}: {words}"))
                }
                None => Err("its guest agent answered with something else".into()),
            },
            Ok(Err(error)) => Err(spoken_to(&error)),
            Err(_) => Err(format!("its guest agent has not done {command} in {} s", patience.as_secs())),
        }
    }
}

fn spoken_to(error: &std::io::Error) -> String {
    format!("its guest agent cannot be spoken to: {error}")
}

async fn send(port: &mut BufReader<UnixStream>, message: &Value, first: bool) -> std::io::Result<()> {
    let mut bytes = if first { vec![DELIMITER] } else { Vec::new() };
    bytes.extend(message.to_string().into_bytes());
    bytes.push(b'\n');
    port.get_mut().write_all(&bytes).await
}

async fn receive(port: &mut BufReader<UnixStream>) -> std::io::Result<Value> {
    let mut line = Vec::new();
    let read = port.take(MAX_ANSWER_BYTES).read_until(b'\n', &mut line).await?;
    if read == 0 || line.last() != Some(&b'\n') {
        return Err(std::io::Error::other("its answer has no end"));
    }
    serde_json::from_slice(&line).map_err(std::io::Error::other)
}

impl FakeDriver {
    /// A fake guest has an agent that does everything, unless it refuses what some drivers cannot do.
    fn ask_agent(&self, server_id: Uuid, command: &str) -> Result<Value, VmError> {
        self.check_agent(server_id)?;
        Ok(match command {
            "guest-fsfreeze-freeze" | "guest-fsfreeze-thaw" => json!(1),
            "guest-fsfreeze-status" => json!("thawed"),
            _ => json!({}),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that hears `heard` and says `said` after each line.
    async fn with_agent(said: &[&str]) -> (Result<Value, VmError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let id = Uuid::new_v4();
        let directory = ServerDirectory::of(folder.path(), id);
        std::fs::create_dir_all(directory.path()).unwrap();
        let listener = tokio::net::UnixListener::bind(directory.path().join(directory::AGENT)).unwrap();
        let said: Vec<String> = said.iter().map(|line| (*line).to_owned()).collect();
        let agent = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut heard = Vec::new();
            stream.read_until(b'\n', &mut heard).await.unwrap();
            let hello: Value = serde_json::from_slice(&heard[1..]).unwrap();
            let stale = b"{\"return\": {}}\n\xff{\"return\": 1}\n";
            stream.get_mut().write_all(stale).await.unwrap();
            let answer = json!({"return": hello["arguments"]["id"]});
            stream.get_mut().write_all(b"\xff").await.unwrap();
            stream.get_mut().write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            for words in said {
                // A client that has heard enough hangs up.
                let _ = stream.get_mut().write_all(words.as_bytes()).await;
            }
            line
        });
        let long = Duration::from_secs(30);
        let answer = ask(&directory, id, "guest-ping", json!({}), long, long).await;
        (answer, agent.await.unwrap())
    }

    #[tokio::test]
    async fn an_agent_is_heard_behind_what_it_said_to_others() {
        let (answer, asked) = with_agent(&["{\"return\": {\"a\": 1}}\n"]).await;
        assert_eq!(answer.unwrap(), json!({"a": 1}));
        assert_eq!(serde_json::from_str::<Value>(&asked).unwrap()["execute"], "guest-ping");
    }

    #[tokio::test]
    async fn a_refusal_carries_the_agents_reason() {
        let (answer, _) =
            with_agent(&["{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such\\u0007 user\"}}\n"]).await;
        let reason = answer.unwrap_err().to_string();
        assert!(reason.ends_with("its guest agent refused guest-ping: no such user"), "{reason}");
    }

    #[tokio::test]
    async fn an_agent_that_talks_without_an_end_is_given_up() {
        let flood = "x".repeat(2 << 20);
        let (answer, _) = with_agent(&[&flood]).await;
        assert!(answer.unwrap_err().to_string().contains("its answer has no end"));
    }
}
