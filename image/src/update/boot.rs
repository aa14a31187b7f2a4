//! Which version the machine starts, as systemd-boot and GRUB understand it.
//!
//! On the EFI partition, `EFI/Linux/solostack_<version>.efi` is a version that has proved itself, and
//! `solostack_<version>+<left>-<done>.efi` one on trial: systemd-boot takes one attempt off at each start, and prefers any other once
//! none is left. GRUB, on machines without UEFI, does the same with `try` and `tries` in `grub/environment`.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::files::{self, About as _, Result, refused};

/// Attempts that a new version has.
pub const TRIES: u32 = 3;
const ENVIRONMENT_BYTES: usize = 1024;
const PREFIX: &str = "solostack_";

/// One unified kernel image on the EFI partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: PathBuf,
    pub version: String,
    /// Attempts that are left; `None`: it has proved itself.
    pub left: Option<u32>,
}

/// The mounted EFI partition.
#[derive(Clone, Debug)]
pub struct Esp {
    root: PathBuf,
}

impl Esp {
    /// The file system that is mounted at `root`.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn images(&self) -> PathBuf {
        self.root.join("EFI/Linux")
    }

    fn grub(&self) -> PathBuf {
        self.root.join("grub")
    }

    /// Every version that is there.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let folder = self.images();
        let entry = |name: String| {
            let stem = name.strip_suffix(".efi")?.strip_prefix(PREFIX)?;
            let (version, left) = match stem.rsplit_once('+') {
                None => (stem, None),
                Some((version, counter)) => {
                    let left = counter.split_once('-').map_or(counter, |(left, _)| left);
                    (version, Some(left.parse().ok()?))
                }
            };
            Some(Entry { path: folder.join(&name), version: version.to_owned(), left })
        };
        Ok(files::names(&folder)?.into_iter().filter_map(entry).collect())
    }

    /// Makes a version unknown to the boot loaders.
    pub(super) fn forget(&self, version: &str) -> Result<()> {
        self.choose(None, Some(version))?;
        for entry in self.entries()?.iter().filter(|entry| entry.version == version) {
            files::remove_file(&entry.path)?;
        }
        files::remove_file(&self.partial(version))?;
        files::remove_file(&self.grub().join(format!("{PREFIX}{version}.cfg")))?;
        self.sync()
    }

    /// Where a version's image is written, by a name that no boot loader looks at.
    pub(super) fn partial(&self, version: &str) -> PathBuf {
        self.images().join(format!("{PREFIX}{version}.new"))
    }

    pub(super) fn write_grub(&self, version: &str, script: &[u8]) -> Result<()> {
        let path = self.grub().join(format!("{PREFIX}{version}.cfg"));
        fs::create_dir_all(self.grub()).about(&path, "cannot be written")?;
        fs::write(&path, script).about(&path, "cannot be written")?;
        self.sync()
    }

    /// The version can be started from now on, [`TRIES`] times.
    pub(super) fn try_out(&self, version: &str) -> Result<()> {
        let path = self.images().join(format!("{PREFIX}{version}+{TRIES}.efi"));
        fs::rename(self.partial(version), &path).about(&path, "cannot be put in place")?;
        self.sync()?;
        self.choose(Some(version), None)
    }

    /// The version has proved itself, as systemd-bless-boot does it.
    pub(super) fn bless(&self, version: &str) -> Result<()> {
        self.rename(version, "")?;
        self.write_environment(version, "", 0)
    }

    /// The version is not to be started again while there is another.
    pub(super) fn condemn(&self, version: &str) -> Result<()> {
        self.choose(None, Some(version))?;
        self.rename(version, "+0-1")
    }

    fn rename(&self, version: &str, counter: &str) -> Result<()> {
        let path = self.images().join(format!("{PREFIX}{version}{counter}.efi"));
        for entry in self.entries()?.iter().filter(|entry| entry.version == version && entry.path != path) {
            fs::rename(&entry.path, &path).about(&path, "cannot be renamed")?;
        }
        self.sync()
    }

    /// What GRUB tries next, if anything; what it is trying now, no more if it is `not`.
    fn choose(&self, try_next: Option<&str>, not: Option<&str>) -> Result<()> {
        let Some((good, trying)) = self.environment()? else { return Ok(()) };
        match (try_next, not) {
            (Some(version), _) => self.write_raw(&good, &format!("{PREFIX}{version}"), TRIES),
            (None, Some(version)) if trying == format!("{PREFIX}{version}") => self.write_raw(&good, "", 0),
            _ => Ok(()),
        }
    }

    fn write_environment(&self, good: &str, trying: &str, tries: u32) -> Result<()> {
        match self.environment()? {
            Some(_) => self.write_raw(&format!("{PREFIX}{good}"), trying, tries),
            None => Ok(()),
        }
    }

    /// What has proved itself, and what is tried; `None` where GRUB is not.
    fn environment(&self) -> Result<Option<(String, String)>> {
        let path = self.grub().join("environment");
        if !files::is_there(&path)? {
            return Ok(None);
        }
        let mut text = String::new();
        let file = File::open(&path).about(&path, "cannot be read")?;
        file.take(ENVIRONMENT_BYTES as u64).read_to_string(&mut text).about(&path, "cannot be read")?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        Ok(Some((value("good"), value("try"))))
    }

    fn write_raw(&self, good: &str, trying: &str, tries: u32) -> Result<()> {
        let mut text = format!("# GRUB Environment Block\ngood={good}\ntry={trying}\ntries={tries}\n");
        if text.len() > ENVIRONMENT_BYTES {
            return refused("the versions' names are too long for GRUB");
        }
        text.extend(std::iter::repeat_n('#', ENVIRONMENT_BYTES - text.len()));
        let path = self.grub().join("environment");
        let new = self.grub().join("environment.new");
        let written = fs::write(&new, text).and_then(|()| File::open(&new)?.sync_all());
        written.and_then(|()| fs::rename(&new, &path)).about(&path, "cannot be written")?;
        self.sync()
    }

    /// FAT keeps no order by itself: everything is written before the next step.
    pub(super) fn sync(&self) -> Result<()> {
        let root = File::open(&self.root).about(&self.root, "cannot be opened")?;
        rustix::fs::syncfs(&root).map_err(std::io::Error::from).about(&self.root, "cannot be written")
    }
}
