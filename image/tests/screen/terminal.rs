//! A machine that is a folder, with its own marks, NICs and settings, where systemd's programs are scripts that write down what
//! they were asked; and a screen on a pseudo terminal, as somebody sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder };
        machine.write("usr/lib/solostack/appliance", "2026.11.1\n");
        machine.write("run/solostack/claim", "K7QM-4TXW\n");
        for (file, text) in [("type", "1"), ("address", "52:54:00:ab:cd:01"), ("carrier", "1"), ("device/x", "")] {
            machine.write(&format!("sys/class/net/eno1/{file}"), text);
        }
        machine.write("var/lib/solostack/solostack.toml", "region = \"north\"\n");
        for name in ["systemctl", "networkctl", "journalctl"] {
            let script = format!(
                "#!/bin/sh\necho {name} \"$@\" >> {}\ncat {}/{name}.says 2>/dev/null\nexit 0\n",
                machine.path("calls").display(),
                machine.path("").display()
            );
            machine.write(&format!("bin/{name}"), &script);
            std::fs::set_permissions(machine.path(&format!("bin/{name}")), PermissionsExt::from_mode(0o755)).unwrap();
        }
        machine.write("calls", "");
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The cloud says this of itself from now on, to all who ask.
    pub fn says(&self, report: serde_json::Value) {
        let listener = UnixListener::bind(self.path("var/lib/solostack/console.sock")).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream: UnixStream| stream.write_all(report.to_string().as_bytes()));
            }
        });
    }

    /// `command` becomes a screen on the terminal that it is given.
    pub fn screen(&self, columns: u16, rows: u16, command: impl FnOnce(&Self, &str) -> Command) -> Screen {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let tty = nix::unistd::ttyname(&pty.slave).unwrap();
        // A screen that held the other end of its own terminal would never see it go.
        for end in [&pty.master, &pty.slave] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).unwrap();
        }
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let child = command(self, tty.to_str().unwrap())
            .env("PATH", path)
            .env("INVOCATION_ID", "x")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let parser = parser(rows.max(24), columns.max(80));
        let mut screen = Screen { child, master: Some(pty.master), parser, raw: Vec::new() };
        // The other end stays open until the screen has it.
        assert!(screen.comes(&|screen| !screen.raw.is_empty()), "nothing is drawn");
        drop(pty.slave);
        screen
    }
}

/// What draws as a terminal of that size does.
pub fn parser(rows: u16, columns: u16) -> vt100::Parser {
    let size = |count: u16| count.try_into().unwrap();
    vt100::Parser::new(size(rows), size(columns), 0)
}

/// What somebody sees, and the keys under their hands.
pub struct Screen {
    pub child: Child,
    pub master: Option<OwnedFd>,
    pub parser: vt100::Parser,
    pub raw: Vec<u8>,
}

impl Screen {
    fn file(&self) -> File {
        File::from(self.master.as_ref().unwrap().try_clone().unwrap())
    }

    pub fn press(&self, keys: &str) {
        self.file().write_all(keys.as_bytes()).unwrap();
    }

    pub fn text(&self) -> String {
        self.parser.screen().contents()
    }

    /// Reads until it is so; false after the deadline.
    pub fn comes(&mut self, is_so: &dyn Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + DEADLINE;
        while !is_so(self) {
            let left = end.saturating_duration_since(Instant::now()).as_millis().min(200);
            if left == 0 {
                return false;
            }
            let mut file = self.file();
            let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(u16::try_from(left).unwrap())).unwrap() == 0 {
                continue;
            }
            let mut bytes = [0; 4096];
            let count = file.read(&mut bytes).unwrap();
            self.raw.extend_from_slice(&bytes[..count]);
            self.parser.process(&bytes[..count]);
        }
        true
    }

    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        assert!(self.comes(&|screen| screen.text().contains(text)), "{text:?} is not there:\n{}", self.text());
    }

    #[track_caller]
    pub fn hides(&mut self, text: &str) {
        assert!(self.comes(&|screen| !screen.text().contains(text)), "{text:?} is still there:\n{}", self.text());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub fn becomes(what: &str, mut is_so: impl FnMut() -> bool) {
    let (end, (_never, wait)) = (Instant::now() + DEADLINE, std::sync::mpsc::channel::<()>());
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        let _ = wait.recv_timeout(Duration::from_millis(50));
    }
}

pub fn well() -> serde_json::Value {
    serde_json::json!({"authority": "cloud.example:8443", "ca_fingerprint": "0A:1B:2C", "health": {"state": "ok", "parts":
        [{"name": "hypervisor", "state": "ok", "reason": "kvm: it works\u{1b}]0;pwned\u{7}", "advice": null}]}})
}
