//! The real program as a service of an appliance: what systemd hears of it. Needs nothing; the fake driver, free ports of
//! 127.0.0.1, sockets of the tests' own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]
#![expect(clippy::disallowed_methods, reason = "files of another process are looked at again, with a deadline")]

mod first_boot;
mod notify;
mod syslog;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_solostack");
/// Much longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `solostack serve`; killed when dropped.
pub struct Service {
    pub state: TempDir,
    pub process: Child,
    _output: BufReader<ChildStdout>,
}

impl Service {
    /// Started with these lines in its configuration and changed by `prepare`; it has said that it is ready.
    pub fn start(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        Self::start_in(TempDir::new().unwrap(), config, prepare)
    }

    pub fn start_in(state: TempDir, config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let file = state.path().join("solostack.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = serve(state.path(), &file);
        prepare(&mut command);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("ready https://"), "{line:?}");
        Self { state, process, _output: output }
    }

    /// An orderly stop.
    pub fn stop(&mut self) {
        self.stop_begin();
        self.wait();
    }

    pub fn stop_begin(&self) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGTERM).unwrap();
    }

    pub fn wait(&mut self) {
        let began = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "the program does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(state: &Path, config: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg("--state").arg(state).arg("--config").arg(config);
    command.args(["--listen", "127.0.0.1", "--https-port", "0", "--http-port", "0", "--service-ports", "off"]);
    command.args(["--public-host", "127.0.0.1", "--driver", "fake"]).stdin(Stdio::null());
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command
}
