//! Where the bytes are:
//!
//! ```text
//! <directory>/data/<image>                 whole, inspected, named by an active or deactivated record
//! <directory>/staging/<image>.<upload>     arriving, or waiting for its import
//! <directory>/cache/<image>.<hash>.raw     raw copies, made at first use
//! <directory>/cache/tmp.<work>             a raw copy being made
//! ```
//!
//! Names are made of ids that we checked or made, never of anything else a client sent.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Files {
    data: PathBuf,
    staging: PathBuf,
    cache: PathBuf,
}

impl Files {
    pub fn open(directory: &Path) -> io::Result<Self> {
        let files =
            Files { data: directory.join("data"), staging: directory.join("staging"), cache: directory.join("cache") };
        for path in [&files.data, &files.staging, &files.cache] {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok(files)
    }

    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    pub fn staging_directory(&self) -> &Path {
        &self.staging
    }

    pub fn cache_directory(&self) -> &Path {
        &self.cache
    }

    pub fn data(&self, image_id: &str) -> PathBuf {
        self.data.join(image_id)
    }

    pub fn staging(&self, image_id: &str, upload_id: &str) -> PathBuf {
        self.staging.join(format!("{image_id}.{upload_id}"))
    }

    pub fn cached(&self, image_id: &str, hash: &str) -> PathBuf {
        self.cache.join(format!("{image_id}.{}.raw", hash.get(..16).unwrap_or(hash)))
    }

    pub fn cache_temporary(&self, work_id: &str) -> PathBuf {
        self.cache.join(format!("tmp.{work_id}"))
    }

    /// Bytes that may still be written before the reserve is touched.
    pub fn room_bytes(&self, reserve_bytes: u64) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.staging)?;
        Ok((stat.f_bavail * stat.f_frsize).saturating_sub(reserve_bytes))
    }
}

/// A new file that nobody else can read, open for both ways.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Removes a file; one that is not there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
