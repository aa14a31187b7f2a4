//! The Boot Loader Specification: entry files, `loader.conf`, and the order systemd-boot lists them in.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::cmp::Ordering;

use crate::{
    Result, version,
    volume::{Kind, Volumes},
};

const ENTRIES: usize = 512;
const FILE_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The file's name without `.conf` or `.efi` and without boot counters.
    pub id: String,
    pub title: Option<String>,
    pub version: Option<String>,
    pub machine_id: Option<String>,
    pub sort_key: Option<String>,
    pub architecture: Option<String>,
    pub linux: Option<String>,
    pub initrds: Vec<String>,
    pub options: String,
    /// An EFI program or unified kernel image.
    pub efi: Option<String>,
    pub devicetree: bool,
    /// Boot counting, with no tries left.
    pub is_bad: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoaderConf {
    /// A file name pattern.
    pub default: Option<String>,
}

/// `key value` lines; comments and empty lines left out.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        Some((key, value.trim()))
    })
}

pub fn parse_loader_conf(text: &str) -> LoaderConf {
    let mut conf = LoaderConf::default();
    for (key, value) in lines(text) {
        if key == "default" && !value.is_empty() {
            conf.default = Some(value.to_string());
        }
    }
    conf
}

/// Splits `name+3-1` into the name and whether no tries are left.
pub fn split_counters(stem: &str) -> (&str, bool) {
    let Some((name, counters)) = stem.rsplit_once('+') else { return (stem, false) };
    let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
    match (left.parse::<u32>(), done.parse::<u32>()) {
        (Ok(left), Ok(_)) => (name, left == 0),
        _ => (stem, false),
    }
}

pub fn parse_entry(file_name: &str, text: &str) -> Entry {
    let (id, is_bad) = split_counters(file_name.strip_suffix(".conf").unwrap_or(file_name));
    let mut entry = Entry { id: id.to_string(), is_bad, ..Entry::default() };
    for (key, value) in lines(text) {
        let some = || Some(value.to_string());
        match key {
            "title" => entry.title = some(),
            "version" => entry.version = some(),
            "machine-id" => entry.machine_id = some(),
            "sort-key" => entry.sort_key = some(),
            "architecture" => entry.architecture = some(),
            "linux" => entry.linux = some(),
            "initrd" if !value.is_empty() => entry.initrds.push(value.to_string()),
            "options" => {
                if !entry.options.is_empty() {
                    entry.options.push(' ');
                }
                entry.options.push_str(value);
            }
            "efi" | "uki" => entry.efi = some(),
            "devicetree" | "devicetree-overlay" => entry.devicetree = true,
            _ => {}
        }
    }
    entry
}

/// All entries of a directory, in no order. One that cannot be read is left out.
pub fn read_entries(volumes: &Volumes, volume: usize, directory: &str) -> Result<Vec<Entry>> {
    let home = volumes.get(volume)?;
    let mut entries = Vec::new();
    for file in home.list(directory, 4 * ENTRIES)? {
        if !file.name.ends_with(".conf") || file.kind == Kind::Directory || entries.len() >= ENTRIES {
            continue;
        }
        let Ok(data) = home.read(&volumes.disk, &alloc::format!("{directory}/{}", file.name), FILE_BYTES) else {
            continue;
        };
        entries.push(parse_entry(&file.name, &String::from_utf8_lossy(&data)));
    }
    Ok(entries)
}

/// systemd-boot's order: what has failed last, then by sort key, machine, newest version, newest file name.
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    let by_key = match (&a.sort_key, &b.sort_key) {
        (Some(x), Some(y)) => x.cmp(y).then_with(|| a.machine_id.cmp(&b.machine_id)).then_with(|| {
            let version = |entry: &Entry| entry.version.clone().unwrap_or_default();
            version::uapi(&version(b), &version(a))
        }),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    a.is_bad.cmp(&b.is_bad).then(by_key).then_with(|| version::uapi(&b.id, &a.id))
}

/// `*` and `?` and `[...]`, without regard to case, as systemd-boot matches `default`. Linear: one point to go back to.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().take(512).collect();
    let name: Vec<char> = name.to_lowercase().chars().take(512).collect();
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                back = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => class(&pattern, p, name[n]),
            Some(&c) if c == name[n] => Some(p + 1),
            _ => None,
        };
        match (step, back) {
            (Some(next), _) => {
                p = next;
                n += 1;
            }
            (None, Some((after, from))) => {
                back = Some((after, from + 1));
                p = after;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The position behind a `[...]` at `at` if it holds `c`.
fn class(pattern: &[char], at: usize, c: char) -> Option<usize> {
    let close = at + 1 + pattern.get(at + 1..)?.iter().skip(1).position(|&c| c == ']')? + 1;
    let set = &pattern[at + 1..close];
    let (negated, set) = match set.first() {
        Some('!' | '^') => (true, &set[1..]),
        _ => (false, set),
    };
    let mut found = false;
    let mut index = 0;
    while index < set.len() {
        if index + 2 < set.len() && set[index + 1] == '-' {
            found |= (set[index]..=set[index + 2]).contains(&c);
            index += 3;
        } else {
            found |= set[index] == c;
            index += 1;
        }
    }
    (found != negated).then_some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_holds_what_its_file_says() {
        let text = "title Fedora Linux (6.5.6)\nversion\t6.5.6\n# no\nlinux /vmlinuz-6.5.6\ninitrd /a.img\ninitrd /b.img $tuned_initrd\noptions root=UUID=1 ro\noptions quiet\ngrub_users $grub_users\n";
        let entry = parse_entry("abc-6.5.6+2-1.conf", text);
        assert_eq!(entry.id, "abc-6.5.6");
        assert!(!entry.is_bad);
        assert_eq!(entry.linux.as_deref(), Some("/vmlinuz-6.5.6"));
        assert_eq!(entry.initrds, ["/a.img", "/b.img $tuned_initrd"]);
        assert_eq!(entry.options, "root=UUID=1 ro quiet");
        assert!(parse_entry("x+0-3.conf", "").is_bad);
        assert_eq!(parse_entry("gcc+plus.conf", "").id, "gcc+plus");
    }

    #[test]
    fn patterns_match_as_in_systemd_boot() {
        for (pattern, name, expected) in [
            ("arch*", "arch-lts.conf", true),
            ("arch*", "debian.conf", false),
            ("*-6.1?.conf", "a-6.12.conf", true),
            ("ARCH.conf", "arch.conf", true),
            ("a[0-9]b", "a5b", true),
            ("a[!0-9]b", "a5b", false),
            ("a[", "a[", false),
            ("*", "", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        // Every star could go back to every other: it must not.
        assert!(!matches(&"*a".repeat(250), &"b".repeat(512)));
    }

    #[test]
    fn the_newest_entry_comes_first_and_the_failed_one_last() {
        let entry = |name: &str, key: &str, version: &str| {
            parse_entry(name, &alloc::format!("sort-key {key}\nversion {version}\nlinux /x\n"))
        };
        let mut entries = [
            entry("a.conf", "debian", "6.1"),
            entry("b.conf", "debian", "6.12"),
            entry("c+0-3.conf", "arch", "9"),
            parse_entry("z.conf", "linux /x"),
        ];
        entries.sort_by(order);
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["b", "a", "z", "c"]);
    }
}
