//! Where things are in the appliance.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The paths of the appliance, below a root that is `/` everywhere but in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    root: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self::under("/")
    }
}

impl Places {
    #[must_use]
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    #[must_use]
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Says that this is the appliance.
    #[must_use]
    pub fn mark(&self) -> PathBuf {
        self.root.join(crate::MARK.trim_start_matches('/'))
    }

    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("var/lib/solostack")
    }

    /// What is gone after a reboot.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run/solostack")
    }

    /// The operator's file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.state().join("solostack.toml")
    }

    /// The settings in force, as a file of their own.
    pub(crate) fn settled(&self) -> PathBuf {
        self.state().join("network-settings/settled.toml")
    }

    /// A change that waits.
    pub(crate) fn pending(&self) -> PathBuf {
        self.state().join("network-settings/pending.json")
    }

    /// What the console should say about the last change.
    pub(crate) fn note(&self) -> PathBuf {
        self.state().join("network-settings/note")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.run().join("network.lock")
    }

    /// What systemd-networkd reads.
    #[must_use]
    pub fn networkd(&self) -> PathBuf {
        self.root.join("run/systemd/network")
    }

    #[must_use]
    pub fn sys_net(&self) -> PathBuf {
        self.root.join("sys/class/net")
    }

    /// Below the root.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// The text of a file of at most `most` bytes; `None` if there is none.
pub(crate) fn read_bounded(path: &Path, most: u64) -> io::Result<Option<String>> {
    use std::io::Read;
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("is larger than {most} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8"))
}
