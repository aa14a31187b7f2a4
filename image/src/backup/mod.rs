//! One file with the whole cloud.
//!
//! A backup is a tar archive compressed by zstd: `tar --zstd -tf` lists it. Its first member is `manifest.json`: versions, and
//! name, size and SHA-256 of every other member, in the order in which they follow. Nothing else may be in it.
//!
//! | member | what |
//! |---|---|
//! | `database/solostack.db` | the database as it was at one moment |
//! | `state/...` | certificates and authority, keys of tokens, policy files, access files |
//! | `config/solostack.toml` | the configuration |
//! | `images/<id>` | images' data, by choice |
//! | `servers/<id>/...` | servers' disks and what belongs to them, by choice; of each file one moment |

mod archive;
mod create;
pub(crate) mod hashing;
mod restore;
#[cfg(test)]
mod tests;
mod verify;

use serde::{Deserialize, Serialize};

pub use self::create::is_running;
pub use self::create::{Cloner, Created, Options, create};
pub use self::restore::{Into, Restored, restore};
pub use self::verify::{Verified, verify};
use crate::files::{Result, refused};

/// Of the container: changes when an older program could not read it.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "database/solostack.db";
const CONFIG: &str = "config/solostack.toml";

/// The database in a state directory.
const DATABASE_FILE: &str = "solostack.db";
/// What else belongs to the state, and is not made anew at a start.
const STATE: [&str; 6] = ["tls", "keys", "policy", "ca.crt", "admin-openrc", "clouds.yaml"];

const MANIFEST_BYTES_MAX: u64 = 64 << 20;
const MEMBERS_MAX: usize = 1_000_000;
/// The most that a tar header's name holds.
const NAME_MAX: usize = 100;

/// The first member.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Manifest {
    pub format: u32,
    /// Of the program that wrote it.
    pub version: String,
    /// The newest migration of the database.
    pub schema: String,
    /// RFC 3339, UTC.
    pub made_at: String,
    /// Of the machine.
    pub host: String,
    /// Whether images' data are in it.
    pub images: bool,
    /// Whether servers' disks are in it.
    pub disks: bool,
    /// Images with data on the machine, by id, whether they are in it or not.
    pub known_images: Vec<String>,
    /// Servers with disks on the machine, the same way.
    pub known_servers: Vec<String>,
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub size: u64,
    /// What it took on the disk: sparse files take less than their size.
    pub stored: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub mode: u32,
}

impl Manifest {
    /// Everything that can be said of a manifest without its members.
    fn check(&self) -> Result<()> {
        if self.format > FORMAT {
            return refused(format!(
                "the backup was made by Solostack {}, in a format that this program ({}) does not know: restore it with that \
                 version or a newer one",
                self.version,
                env!("CARGO_PKG_VERSION")
            ));
        }
        if self.format == 0 || self.members.len() > MEMBERS_MAX {
            return refused("it is no backup of Solostack: its manifest makes no sense");
        }
        // Names of migrations begin with their time.
        if self.schema.as_str() > db::snapshot::schema() {
            return refused(format!(
                "the backup was made by Solostack {}, whose database ({}) is newer than what this program ({}) knows ({}): \
                 update this machine first",
                self.version,
                self.schema,
                env!("CARGO_PKG_VERSION"),
                db::snapshot::schema()
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut sum = 0_u64;
        for member in &self.members {
            place_of(&member.name)?;
            if !seen.insert(member.name.as_str()) {
                return refused(format!(
                    "the backup is not whole or was tampered with: {:?} is twice in it",
                    member.name
                ));
            }
            let (total, hex) = (sum.checked_add(member.size), member.sha256.len() == 64);
            match total {
                Some(total) if hex && total <= i64::MAX as u64 => sum = total,
                _ => return refused(format!("the backup's manifest says nonsense of {:?}", member.name)),
            }
        }
        // A file of one name cannot be a folder of the same.
        for member in &self.members {
            let mut above = member.name.as_str();
            while let Some((folder, _)) = above.rsplit_once('/') {
                if seen.contains(folder) {
                    return refused(format!("the backup's manifest has {folder:?} as a file and as a folder"));
                }
                above = folder;
            }
        }
        if !seen.contains(DATABASE) {
            return refused("there is no database in the backup");
        }
        for id in self.known_images.iter().chain(&self.known_servers) {
            if !is_name(id) {
                return refused(format!("the backup's manifest names {id:?}, which is no id"));
            }
        }
        Ok(())
    }
}

/// Proves the database of a backup, on a copy that may change.
fn prove(copy: &std::path::Path) -> Result<db::snapshot::Checked> {
    db::snapshot::check(copy).or_else(|error| match error {
        db::Error::UnknownMigration(name) => refused(format!(
            "the backup's database has {name}, which this program ({}) does not know: update this machine first",
            env!("CARGO_PKG_VERSION")
        )),
        db::Error::Sqlite(why) => refused(format!("the backup's database cannot be used: {why}")),
        other => refused(format!("the backup's database cannot be used: {other}")),
    })
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Database,
    Config,
    State,
    Image,
    Disk,
}

/// What a member is, and its path in a state directory.
fn place_of(name: &str) -> Result<(Kind, String)> {
    let bad = || refused(format!("the backup holds {name:?}, which has no place in a cloud: it was tampered with"));
    let parts: Vec<&str> = name.split('/').collect();
    if name.len() > NAME_MAX || !parts.iter().all(|part| is_name(part)) {
        return bad();
    }
    let below = |rest: &[&str]| rest.join("/");
    match parts.as_slice() {
        _ if name == DATABASE => Ok((Kind::Database, DATABASE_FILE.to_owned())),
        _ if name == CONFIG => Ok((Kind::Config, crate::reset::SETTINGS.to_owned())),
        ["state", rest @ ..] if rest.first().is_some_and(|top| STATE.contains(top)) => Ok((Kind::State, below(rest))),
        ["images", id] => Ok((Kind::Image, format!("images/data/{id}"))),
        ["servers", id, file] => Ok((Kind::Disk, format!("servers/{id}/{file}"))),
        _ => bad(),
    }
}

/// A name of one step, as we make them.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\')
        && part != "."
        && part != ".."
}
