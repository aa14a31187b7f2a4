//! Reads a backup that anybody may have made: nothing is believed that was not checked.
//!
//! The manifest bounds everything: members come in its order, with its sizes and hashes, and nothing else comes. So what is
//! unpacked is never more than what the manifest says, and that is known before the first byte is written.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::hashing::Hashing;
use super::{MANIFEST, MANIFEST_BYTES_MAX, Manifest, Member};
use crate::files::{About as _, Result, refused};

/// zstd frames that need more memory than 128 MiB are refused.
const WINDOW_LOG_MAX: u32 = 27;
/// What may follow the last member: an archive's end is padded.
const PADDING_MAX: u64 = 1 << 20;

/// The bytes of a backup, before they are understood.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).about(path, "cannot be read")?;
    if !file.metadata().about(path, "cannot be read")?.is_file() {
        return refused(format!("{} is no file", path.display()));
    }
    Ok(Box::new(file))
}

/// Reads the backup at `name`, or from the stream given instead. Gives the checked manifest to `begin`, then each member with its bytes to `take`, which must read them all.
pub(super) fn read(
    stream: Option<&mut dyn Read>,
    name: &Path,
    begin: &mut dyn FnMut(&Manifest) -> Result<()>,
    take: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<()>,
) -> Result<Manifest> {
    const BROKEN: &str = "is no whole backup";
    let mut opened;
    let from: &mut dyn Read = match stream {
        Some(stream) => stream,
        None => {
            opened = open(name)?;
            &mut opened
        }
    };
    let mut decoder = zstd::stream::read::Decoder::new(from).about(name, BROKEN)?;
    decoder.window_log_max(WINDOW_LOG_MAX).about(name, BROKEN)?;
    let mut archive = tar::Archive::new(decoder);
    // Raw: no long names, no links, no sparse maps, nothing that the library would read into memory by itself.
    let mut entries = archive.entries().about(name, BROKEN)?.raw(true);

    let Some(first) = entries.next() else { return refused(format!("{} is empty", name.display())) };
    let mut first = first.about(name, "is no backup of Solostack")?;
    if !is_member(&first, MANIFEST) || first.size() > MANIFEST_BYTES_MAX {
        return refused(format!("{} is no backup of Solostack: it does not begin with a manifest", name.display()));
    }
    let mut text = Vec::new();
    (&mut first).take(MANIFEST_BYTES_MAX).read_to_end(&mut text).about(name, BROKEN)?;
    let manifest: Manifest = serde_json::from_slice(&text).or_else(|error| {
        refused(format!("{} is no backup of Solostack: its manifest cannot be read: {error}", name.display()))
    })?;
    manifest.check()?;
    begin(&manifest)?;

    for member in &manifest.members {
        let Some(entry) = entries.next() else {
            return refused(format!("{} ends before {:?}: it was cut off", name.display(), member.name));
        };
        let mut entry = entry.about(name, BROKEN)?;
        if !is_member(&entry, &member.name) || entry.size() != member.size {
            return refused(format!(
                "{} has something else where its manifest has {:?}: it was tampered with",
                name.display(),
                member.name
            ));
        }
        let mut reading = Hashing::new(&mut entry);
        take(member, &mut reading)?;
        if reading.count != member.size {
            return refused(format!("{}: {:?} was cut off", name.display(), member.name));
        }
        if reading.finish() != member.sha256 {
            return refused(format!("{}: {:?} is damaged: its checksum is another one", name.display(), member.name));
        }
    }
    if let Some(more) = entries.next() {
        more.about(name, BROKEN)?;
        return refused(format!("{} holds more than its manifest says: it was tampered with", name.display()));
    }
    let mut rest = archive.into_inner().take(PADDING_MAX);
    let mut padding = Vec::new();
    rest.read_to_end(&mut padding).about(name, BROKEN)?;
    if padding.len() as u64 == PADDING_MAX || padding.iter().any(|byte| *byte != 0) {
        return refused(format!("{} goes on after its end: it was tampered with", name.display()));
    }
    Ok(manifest)
}

fn is_member<R: Read>(entry: &tar::Entry<'_, R>, name: &str) -> bool {
    entry.header().entry_type().is_file() && entry.path_bytes().as_ref() == name.as_bytes()
}

/// Reads to the end and keeps nothing.
pub(super) fn skip(reader: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}
