//! Boot menus that are plain lists: GRUB Legacy's `menu.lst` (CirrOS) and extlinux's `extlinux.conf` (Alpine).
//!
//! A list with anything that boots otherwise in its default entry is handed over; what only decorates is skipped.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use crate::{Error, Result, because};

pub const TEXT_BYTES: usize = 256 << 10;
const ENTRIES: usize = 512;

/// The default entry. Paths are as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    pub title: String,
    /// GRUB Legacy's `root` and `uuid`.
    pub root: Option<Root>,
    pub kernel: String,
    pub initrds: Vec<String>,
    pub cmdline: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    Device(String),
    Uuid(String),
}

fn words(line: &str) -> (&str, &str) {
    line.split_once([' ', '\t', '=']).map_or((line, ""), |(key, rest)| (key, rest.trim_start_matches([' ', '\t', '='])))
}

/// The partition number (from 1 on) of GRUB Legacy's `(hd0,0)` or `(hd0,0,a)`; None for the whole disk.
pub fn legacy_partition(device: &str) -> Result<Option<u32>> {
    let unknown = || because!("no device {}", device.chars().take(40).collect::<String>());
    let inner = device.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(unknown)?;
    match inner.strip_prefix("hd0").ok_or_else(unknown)? {
        "" => Ok(None),
        rest => {
            let number = rest.strip_prefix(',').ok_or_else(unknown)?;
            number.parse::<u32>().ok().and_then(|number| number.checked_add(1)).map(Some).ok_or_else(unknown)
        }
    }
}

pub fn grub_legacy(text: &str) -> Result<Entry> {
    let mut default = 0usize;
    let mut fallback = None;
    let mut entries: Vec<core::result::Result<Entry, String>> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, rest) = words(line);
        if key == "title" {
            if entries.len() >= ENTRIES {
                return Err(Error::Limit("entries of menu.lst"));
            }
            entries.push(Ok(Entry { title: rest.to_string(), ..Entry::default() }));
            continue;
        }
        let Some(current) = entries.last_mut() else {
            match key {
                "default" => {
                    default = rest.trim().parse().map_err(|_| Error::Unsupported("a saved default in menu.lst"))?
                }
                "fallback" => fallback = rest.split_whitespace().next().and_then(|text| text.parse::<usize>().ok()),
                _ => {}
            }
            continue;
        };
        let Ok(entry) = current else { continue };
        match key {
            "root" | "rootnoverify" => entry.root = Some(Root::Device(rest.trim().to_string())),
            "uuid" => entry.root = Some(Root::Uuid(rest.trim().to_string())),
            "kernel" => {
                let rest = ["--no-mem-option ", "--type=linux "]
                    .iter()
                    .fold(rest, |rest, option| rest.strip_prefix(option).unwrap_or(rest));
                let (path, arguments) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
                entry.kernel = path.to_string();
                entry.cmdline = arguments.trim().to_string();
            }
            "initrd" => entry.initrds = rest.split_whitespace().map(ToString::to_string).collect(),
            "boot" | "quiet" | "savedefault" | "find" => {}
            other => *current = Err(other.chars().take(40).collect()),
        }
    }
    let chosen = entries.get(default).or_else(|| entries.get(fallback.unwrap_or(0)));
    match chosen {
        Some(Ok(entry)) if !entry.kernel.is_empty() => Ok(entry.clone()),
        Some(Err(command)) => Err(because!("menu.lst uses {command}")),
        _ => Err(Error::Unsupported("a menu.lst that starts nothing")),
    }
}

pub fn extlinux(text: &str) -> Result<Entry> {
    struct Label {
        name: String,
        entry: core::result::Result<Entry, String>,
    }
    let mut labels: Vec<Label> = Vec::new();
    let (mut default, mut on_timeout, mut menu_default, mut append) = (None, None, None, String::new());
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, rest) = line.split_once([' ', '\t']).map_or((line, ""), |(key, rest)| (key, rest.trim()));
        let key = key.to_ascii_lowercase();
        if key == "label" {
            if labels.len() >= ENTRIES {
                return Err(Error::Limit("labels of extlinux.conf"));
            }
            let entry = Ok(Entry { title: rest.to_string(), cmdline: append.clone(), ..Entry::default() });
            labels.push(Label { name: rest.to_string(), entry });
            continue;
        }
        match key.as_str() {
            "default" => default = Some(rest.to_string()),
            "ontimeout" => on_timeout = Some(rest.to_string()),
            "include" => return Err(Error::Unsupported("an extlinux.conf that includes another file")),
            "menu" if rest.eq_ignore_ascii_case("default") => menu_default = labels.len().checked_sub(1),
            "menu" if rest.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("include")) => {
                return Err(Error::Unsupported("an extlinux.conf that includes another file"));
            }
            "append" if labels.is_empty() => append = rest.to_string(),
            _ => {}
        }
        let Some(Label { entry: current, .. }) = labels.last_mut() else { continue };
        let Ok(entry) = current else { continue };
        match key.as_str() {
            "linux" | "kernel" => {
                let lower = rest.to_ascii_lowercase();
                if [".c32", ".com", ".bin", ".bs", ".bss", ".0", ".img"].iter().any(|end| lower.ends_with(end)) {
                    *current = Err(rest.chars().take(40).collect());
                } else {
                    entry.kernel = rest.to_string();
                }
            }
            "initrd" => entry.initrds = rest.split(',').map(|path| path.trim().to_string()).collect(),
            "append" => entry.cmdline = if rest == "-" { String::new() } else { rest.to_string() },
            "fdt" | "fdtdir" | "devicetree" | "localboot" | "com32" | "boot" | "bss" | "pxe" | "config" => {
                *current = Err(key)
            }
            _ => {}
        }
    }
    let named = |name: &Option<String>| {
        name.as_ref().and_then(|name| labels.iter().position(|label| label.name.eq_ignore_ascii_case(name)))
    };
    let chosen = named(&on_timeout).or(menu_default).or_else(|| named(&default)).unwrap_or(0);
    let mut entry = match labels.into_iter().nth(chosen).map(|label| label.entry) {
        Some(Ok(entry)) if !entry.kernel.is_empty() => entry,
        Some(Err(what)) => return Err(because!("extlinux.conf uses {what}")),
        _ => return Err(Error::Unsupported("an extlinux.conf that starts nothing")),
    };
    // The old way to name the initrd.
    if entry.initrds.is_empty()
        && let Some(paths) = entry.cmdline.split_whitespace().find_map(|word| word.strip_prefix("initrd="))
    {
        entry.initrds = paths.split(',').map(ToString::to_string).collect();
    }
    entry.initrds.retain(|path| !path.is_empty());
    entry.cmdline = alloc::format!("BOOT_IMAGE={} {}", entry.kernel, entry.cmdline).trim_end().to_string();
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn menu_lst_gives_its_default_entry() {
        let text = "default 1\ntimeout=0\ncolor cyan/blue white/blue\ntitle one\nroot (hd0,0)\nkernel /a\nchainloader +1\n\ntitle  CirrOS\nroot (hd0,0)\nkernel /boot/vmlinuz root=LABEL=cirros-rootfs ro console=tty1 console=ttyS0\ninitrd /boot/initrd.img\nquiet\nboot\n";
        let entry = grub_legacy(text).unwrap();
        assert_eq!(entry.kernel, "/boot/vmlinuz");
        assert_eq!(entry.cmdline, "root=LABEL=cirros-rootfs ro console=tty1 console=ttyS0");
        assert_eq!(entry.initrds, ["/boot/initrd.img"]);
        assert_eq!(entry.root, Some(Root::Device("(hd0,0)".into())));
        assert!(grub_legacy(&text.replace("default 1", "default 0")).is_err());
        assert!(grub_legacy(&text.replace("default 1", "default saved")).is_err());
        assert!(grub_legacy("").is_err());
        assert_eq!(legacy_partition("(hd0,4)"), Ok(Some(5)));
        assert_eq!(legacy_partition("(hd0)"), Ok(None));
        for wrong in ["(hd1,0)", "hd0,0", "(hd0,x)", "(hd0,4294967295)", "(nd)", ""] {
            assert!(legacy_partition(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn extlinux_conf_gives_its_default_label() {
        let text = "DEFAULT menu.c32\nPROMPT 0\nMENU TITLE Alpine/Linux Boot Menu\nTIMEOUT 10\nLABEL lts\n  LINUX vmlinuz-lts\n  APPEND lts\nLABEL virt\n  MENU DEFAULT\n  MENU LABEL Linux virt\n  LINUX vmlinuz-virt\n  INITRD ucode.img,initramfs-virt\n  APPEND root=UUID=1 modules=ext4 console=ttyS0\nMENU SEPARATOR\n";
        let entry = extlinux(text).unwrap();
        assert_eq!(entry.kernel, "vmlinuz-virt");
        assert_eq!(entry.initrds, ["ucode.img", "initramfs-virt"]);
        assert_eq!(entry.cmdline, "BOOT_IMAGE=vmlinuz-virt root=UUID=1 modules=ext4 console=ttyS0");
        let old = extlinux("default linux\nappend quiet\nlabel other\n kernel /x\nlabel linux\n kernel /boot/k\n append initrd=/boot/i ro\n").unwrap();
        assert_eq!((old.kernel.as_str(), old.initrds.as_slice()), ("/boot/k", ["/boot/i".to_string()].as_slice()));
        for wrong in [
            "",
            "include x\n",
            "label a\n kernel chain.c32\n",
            "label a\n linux /k\n fdt /x\n",
            "label a\n menu label x\n",
        ] {
            assert!(extlinux(wrong).is_err(), "{wrong}");
        }
    }
}
