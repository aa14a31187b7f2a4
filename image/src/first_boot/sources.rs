//! Where a preseed may lie. The first place that has one is the one that counts:
//!
//! 1. `solostack.preseed=` on the kernel's command line: an https URL, or `base64:` and the preseed itself; `off` looks nowhere;
//! 2. the same as an OEM string of SMBIOS (`qemu -smbios type=11,value=solostack.preseed=...`);
//! 3. `solostack.toml` on a file system (FAT, ISO 9660) labelled `SOLOSTACK`;
//! 4. cloud-init's NoCloud: a file system labelled `cidata` with `solostack.toml` or `user-data`;
//! 5. an OpenStack config drive (`config-2`): `openstack/latest/user_data`;
//! 6. in a server of an OpenStack cloud without one, its metadata service.
//!
//! User data may be for anything: it is a preseed when its first line begins with `#solostack`.

use std::{fs, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Setup, fetch, media, medium::Medium};

pub(super) const MOST_BYTES: u64 = 1 << 20;
const KEY: &str = "solostack.preseed=";
const MARK: &[u8] = b"#solostack";
/// In words, labels of file systems, files on them, and whether these may be for somebody else.
type Place = (&'static str, [&'static str; 2], &'static [(&'static str, bool)]);
const MEDIA: [Place; 3] = [
    ("the medium labelled SOLOSTACK", ["SOLOSTACK", "solostack"], &[("solostack.toml", false)]),
    ("the NoCloud seed", ["cidata", "CIDATA"], &[("solostack.toml", false), ("user-data", true)]),
    ("the config drive", ["config-2", "CONFIG-2"], &[("openstack/latest/user_data", true)]),
];
/// A metadata service answers at once, if there is one; the network may take a moment to come up.
const METADATA: Duration = Duration::from_secs(15);
/// Whoever named a URL wants it to be read.
const URL: Duration = Duration::from_secs(90);

/// A preseed as it lay there.
#[derive(Debug)]
pub(super) struct Found {
    /// In words.
    pub source: String,
    pub bytes: Vec<u8>,
    /// What it lay on, for what else is there.
    pub medium: Option<Medium>,
}

/// The first one. A place that cannot be read is no place to go past.
pub(super) fn find(setup: &Setup<'_>) -> Result<Option<Found>, String> {
    let root = &setup.root;
    let line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let asked = line.split_whitespace().filter_map(|word| word.strip_prefix(KEY)).next_back();
    if asked == Some("off") {
        return Ok(None);
    }
    if let Some(asked) = asked {
        return named(asked, "the kernel's command line").map(Some);
    }
    if let Some(asked) = oem_string(&root.join("sys/firmware/dmi/entries")) {
        return named(&asked, "SMBIOS").map(Some);
    }
    media::arrive(root);
    for (source, labels, files) in MEDIA {
        let paths = labels.map(|label| root.join("dev/disk/by-label").join(label));
        let Some(path) = paths.iter().find(|path| path.exists()) else { continue };
        let medium = Medium::open(path, root).map_err(|reason| format!("{source}: {reason}"))?;
        for (file, shared) in files {
            let read = medium.read(file).map_err(|reason| format!("{source}: {reason}"))?;
            if let Some(bytes) = read.filter(|bytes| !shared || is_ours(bytes)) {
                return Ok(Some(Found { source: source.to_owned(), bytes, medium: Some(medium) }));
            }
        }
    }
    if !in_openstack(root) {
        return Ok(None);
    }
    let url = format!("{}/openstack/latest/user_data", setup.metadata);
    match fetch::get(&url, METADATA) {
        Ok(Some(bytes)) if is_ours(&bytes) => {
            Ok(Some(Found { source: "the metadata service".into(), bytes, medium: None }))
        }
        Ok(_) => Ok(None),
        Err(reason) => {
            // A cloud without one is no reason to stop.
            tracing::warn!(url, reason, "the metadata service says nothing");
            Ok(None)
        }
    }
}

fn is_ours(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(MARK)
}

/// What a word of the command line names.
fn named(asked: &str, by: &str) -> Result<Found, String> {
    let bytes = if let Some(text) = asked.strip_prefix("base64:") {
        STANDARD.decode(text).map_err(|error| format!("{by}: solostack.preseed is no base64: {error}"))?
    } else if asked.starts_with("https://") {
        fetch::get(asked, URL)
            .and_then(|found| found.ok_or_else(|| "there is nothing".to_owned()))
            .map_err(|reason| format!("{by}: {asked}: {reason}"))?
    } else {
        return Err(format!("{by}: solostack.preseed is neither off, nor an https URL, nor base64:..."));
    };
    Ok(Found { source: by.to_owned(), bytes, medium: None })
}

/// Of SMBIOS structures of type 11: strings behind a header of five bytes.
fn oem_string(entries: &Path) -> Option<String> {
    let mut found: Vec<_> = fs::read_dir(entries).ok()?.filter_map(Result::ok).collect();
    found.sort_by_key(fs::DirEntry::file_name);
    for entry in found {
        if !entry.file_name().to_string_lossy().starts_with("11-") {
            continue;
        }
        let Ok(raw) = fs::read(entry.path().join("raw")) else { continue };
        let head = usize::from(raw.get(1).copied().unwrap_or(0));
        for text in raw.get(head..).unwrap_or_default().split(|byte| *byte == 0) {
            if let Some(asked) = std::str::from_utf8(text).ok().and_then(|text| text.strip_prefix(KEY)) {
                return Some(asked.to_owned());
            }
        }
    }
    None
}

/// Whether this machine says that it is a server of an OpenStack cloud.
fn in_openstack(root: &Path) -> bool {
    let said = |name: &str| fs::read_to_string(root.join("sys/class/dmi/id").join(name)).unwrap_or_default();
    said("product_name").starts_with("OpenStack") || said("chassis_asset_tag").contains("OpenStack")
}
