//! Programs of the system, each with a deadline.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What a program said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    pub success: bool,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end, or to the deadline.
///
/// # Errors
/// When it cannot be started, or does not end in time.
pub fn run(program: &str, arguments: &[&str], deadline: Duration) -> Result<Done, String> {
    let child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} does not run: {error}"))?;
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(child.wait_with_output());
    });
    match ended.recv_timeout(deadline) {
        Ok(Ok(output)) => Ok(Done {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Err(_) => {
            // The thread has not waited for it yet, so the id is still its own.
            if let Ok(id) = i32::try_from(id) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
            }
            Err(format!("{program} gave no answer within {} s", deadline.as_secs()))
        }
    }
}
