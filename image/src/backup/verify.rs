//! Proves that a backup could be restored: every checksum, and the database brought up to date in a folder of its own.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::archive;
use super::{DATABASE, Manifest};
use crate::files::{self, About as _, Result, refused};

/// What a backup proved to be.
#[derive(Clone, Debug)]
pub struct Verified {
    pub manifest: Manifest,
    pub database: db::snapshot::Checked,
}

/// Reads the backup at `from`, or from the stream given instead. Uses room for two databases below `scratch`.
///
/// # Errors
/// Why it could not be restored.
pub fn verify(from: &Path, stream: Option<&mut dyn Read>, scratch: &Path) -> Result<Verified> {
    let folder = tempfile::Builder::new().prefix("solostack-verify-").tempdir_in(scratch);
    let folder = folder.about(scratch, "has no room for a test restore")?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .about(folder.path(), "cannot be made private")?;
    let database: PathBuf = folder.path().join("solostack.db");
    let room = folder.path().to_owned();
    let manifest = archive::read(
        stream,
        from,
        &mut |manifest| {
            let size = manifest.members.iter().find(|member| member.name == DATABASE).map_or(0, |member| member.size);
            if size.saturating_mul(2) > files::free_bytes(&room)? {
                return refused(format!(
                    "{} has not enough room for a test restore of the database ({size} bytes): set TMPDIR to a folder that has",
                    room.display()
                ));
            }
            Ok(())
        },
        &mut |member, bytes| {
            if member.name != DATABASE {
                return archive::skip(bytes).about(from, "is no whole backup");
            }
            let mut file = files::create_private(&database)?;
            std::io::copy(bytes, &mut file).map(|_| ()).about(from, "is no whole backup")
        },
    )?;
    Ok(Verified { manifest, database: super::prove(&database)? })
}
