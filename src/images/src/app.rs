//! What handlers, operations and reconcilers work with.

use std::path::PathBuf;
use std::sync::Arc;

use db::{Clock, Db};
use tokio::sync::RwLock;

use crate::cache::Cache;
use crate::files::Files;
use crate::imports::web::client::Client;
use crate::imports::web::guard::Guard;
use crate::live::Live;

/// The counter that moves when files may have to go.
pub const FILES: &str = "images_files";

/// Where and how the service works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory for all bytes of images; made when missing.
    pub directory: PathBuf,
    pub converter: Converter,
    /// The largest file that anyone may upload.
    pub max_image_bytes: u64,
    /// The largest disk that an image may describe.
    pub max_virtual_bytes: u64,
    /// Bytes of files that one project may keep; none: no limit.
    pub project_quota_bytes: Option<u64>,
    /// Space that uploads leave free, so that the database and running servers do not meet a full disk first.
    pub reserve_bytes: u64,
    /// Bytes of raw copies that are kept; the least recently used go first.
    pub cache_max_bytes: u64,
    /// Refuse data that is not what the image's disk format says. Without it such data is kept and never booted.
    pub require_format_match: bool,
    /// Whether users may have data fetched from the web, and from where. None: they may not.
    pub downloads: Option<Downloads>,
}

/// The import method `web-download`.
#[derive(Clone, Debug)]
pub struct Downloads {
    pub guard: Guard,
    /// A PEM file of the authorities that servers must be vouched for by, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The longest that one download may take.
    pub max_seconds: u64,
}

impl Default for Downloads {
    fn default() -> Self {
        Downloads { guard: Guard::default(), ca_file: None, max_seconds: 3600 }
    }
}

impl Options {
    #[must_use]
    pub fn new(directory: PathBuf, converter: Converter) -> Self {
        Options {
            directory,
            converter,
            max_image_bytes: 1 << 40,
            max_virtual_bytes: 16 << 40,
            project_quota_bytes: None,
            reserve_bytes: 256 << 20,
            cache_max_bytes: 64 << 30,
            require_format_match: true,
            downloads: Some(Downloads::default()),
        }
    }
}

/// Who converts images to raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Converter {
    /// `<program> convert`, in its jail; in production this very program.
    Helper(PathBuf),
    /// This process: for tests without the program, and for the fake cloud.
    InProcess,
}

/// The Image service's state; clones share everything.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Clock,
    options: Options,
    files: Files,
    live: Live,
    cache: Cache,
    placing: RwLock<()>,
    web: Option<Client>,
}

impl Images {
    /// Prepares the directory.
    ///
    /// # Errors
    /// When the directory cannot be made or used.
    pub fn open(db: Db, clock: Clock, options: Options) -> std::io::Result<Self> {
        let files = Files::open(&options.directory)?;
        let web = options.downloads.as_ref().map(|set| Client::new(set.guard.clone(), set.ca_file.clone()));
        let inner = Inner {
            web,
            db,
            clock,
            options,
            files,
            live: Live::default(),
            cache: Cache::default(),
            placing: RwLock::new(()),
        };
        Ok(Images { inner: Arc::new(inner) })
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(crate) fn now(&self) -> String {
        self.inner.clock.now_text()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn files(&self) -> &Files {
        &self.inner.files
    }

    pub(crate) fn live(&self) -> &Live {
        &self.inner.live
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// Read while a file gets its final name and its record becomes active; written while a file without a record goes.
    pub(crate) fn placing(&self) -> &RwLock<()> {
        &self.inner.placing
    }

    pub(crate) fn limits(&self) -> disks::Limits {
        disks::Limits {
            max_virtual_bytes: self.inner.options.max_virtual_bytes,
            max_output_bytes: self.inner.options.max_virtual_bytes,
            allow_internal_snapshots: true,
        }
    }

    /// What fetches from the web, if users may have that.
    pub(crate) fn web(&self) -> Option<&Client> {
        self.inner.web.as_ref()
    }

    /// Wakes the reconciler of files.
    pub(crate) fn wake(&self) {
        self.inner.db.generation(FILES).bump();
    }
}
