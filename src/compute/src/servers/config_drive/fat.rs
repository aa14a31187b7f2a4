//! A FAT file system, as large as it must be and no smaller than what formats well.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Write as _},
};

/// Holds the documents many times over, and is what FAT can format.
const LEAST_BYTES: usize = 2 << 20;

pub(super) fn write(files: &BTreeMap<String, Vec<u8>>, label: &str) -> io::Result<Vec<u8>> {
    let need: usize = files.values().map(|content| content.len().next_multiple_of(4096) + 4096).sum();
    let mut image = Cursor::new(vec![0_u8; LEAST_BYTES.max(need.next_multiple_of(1 << 20) * 2)]);
    let mut name = [b' '; 11];
    for (to, from) in name.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    fatfs::format_volume(&mut image, fatfs::FormatVolumeOptions::new().volume_label(name))?;
    {
        let file_system = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new())?;
        let root = file_system.root_dir();
        for (path, content) in files {
            let mut at = root.clone();
            let mut parts = path.split('/').peekable();
            while let Some(part) = parts.next() {
                if parts.peek().is_some() {
                    at = at.create_dir(part)?;
                } else {
                    let mut file = at.create_file(part)?;
                    file.truncate()?;
                    file.write_all(content)?;
                }
            }
        }
    }
    Ok(image.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_fat_holds_its_files_under_its_label() {
        let mut files = BTreeMap::new();
        files.insert("openstack/latest/meta_data.json".to_owned(), b"{\"a\": 1}".to_vec());
        files.insert("openstack/latest/user_data".to_owned(), vec![7; 60_000]);
        let mut image = Cursor::new(write(&files, "config-2").unwrap());
        let file_system = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new()).unwrap();
        assert_eq!(file_system.volume_label(), "config-2");
        let mut content = Vec::new();
        let mut file = file_system.root_dir().open_file("openstack/latest/user_data").unwrap();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, files["openstack/latest/user_data"]);
    }
}
