//! What would boot from this disk: the boot loader that is installed, its configuration, its default entry.
//!
//! One answer or none. Where a disk leaves a choice that only its own boot loader can make, it is handed over.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    Error, Result, because, bls,
    disk::Disk,
    file::{FileMap, Piece},
    grub::Grub,
    linux::{HEADER_BYTES, Header},
    lists, uki,
    volume::{Content, Kind, Volumes},
};

const INITRD_BYTES: u64 = 2 << 30;
const GRUB_DIRECTORIES: [&str; 4] = ["/boot/grub", "/boot/grub2", "/grub", "/grub2"];
const UKIS: usize = 128;

/// Bytes that the boot loader leaves on the disk before it starts the kernel (grubenv), within one sector range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub disk: u64,
    pub data: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Plan {
    /// Where it came from, for the log: `grub (hd0,gpt1)/boot/grub/grub.cfg`.
    pub source: String,
    pub name: String,
    pub header: Header,
    pub kernel: Piece,
    pub initrds: Vec<Piece>,
    pub cmdline: String,
    pub writes: Vec<Write>,
}

/// `smbios` is the machine's table, empty if it has none.
pub fn find(disk: Rc<Disk>, smbios: &[u8]) -> Result<Plan> {
    let volumes = Volumes::open(disk)?;
    find_in(&volumes, smbios)
}

pub fn find_in(volumes: &Volumes, smbios: &[u8]) -> Result<Plan> {
    // systemd-boot, where it is installed, is what a firmware starts. Without entries of its own it starts nothing.
    let systemd_boot = volumes.all.iter().any(|volume| {
        volume.partition.is_esp() && volume.is_readable() && volume.is_file("/EFI/systemd/systemd-bootx64.efi")
    });
    if systemd_boot && let Some(plan) = boot_loader_entries(volumes)? {
        return Ok(plan);
    }
    if let Some((volume, path)) = grub_config(volumes)? {
        return grub(volumes, volume, &path, smbios);
    }
    if let Some((volume, path)) = list(volumes)? {
        return from_list(volumes, volume, path);
    }
    if let Some(plan) = boot_loader_entries(volumes)? {
        return Ok(plan);
    }
    let mut unread: Vec<&str> = Vec::new();
    for volume in &volumes.all {
        if let Content::Opaque { what, .. } = volume.content
            && !unread.contains(&what)
        {
            unread.push(what);
        }
    }
    if unread.is_empty() {
        return Err(because!("no boot loader configuration on this disk"));
    }
    Err(because!("no boot loader configuration outside {}", unread.join(", ")))
}

/// The one grub.cfg that a boot starts with.
fn grub_config(volumes: &Volumes) -> Result<Option<(usize, String)>> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (index, volume) in volumes.all.iter().enumerate() {
        for directory in GRUB_DIRECTORIES {
            let path = format!("{directory}/grub.cfg");
            if volume.is_readable() && volume.node(&path).is_ok_and(|node| node.kind == Kind::File && node.bytes > 0) {
                found.push((index, path));
                break;
            }
        }
    }
    if found.len() == 1 {
        return Ok(found.pop());
    }
    // A BIOS would start these before it looked at an EFI system partition.
    if found.is_empty() && list(volumes)?.is_some() {
        return Ok(None);
    }
    // None or several: what the EFI system partition's says, which on a machine with one system names the right one.
    let mut starts: Vec<(usize, String)> = Vec::new();
    for (index, volume) in volumes.all.iter().enumerate() {
        if !volume.partition.is_esp() || !volume.is_readable() {
            continue;
        }
        for vendor in volume.list("/EFI", 64).unwrap_or_default() {
            let path = format!("/EFI/{}/grub.cfg", vendor.name);
            if vendor.kind == Kind::Directory && !vendor.name.eq_ignore_ascii_case("boot") && volume.is_file(&path) {
                starts.push((index, path));
            }
        }
        if starts.is_empty() && volume.is_file("/EFI/BOOT/grub.cfg") {
            starts.push((index, "/EFI/BOOT/grub.cfg".to_string()));
        }
    }
    match (starts.len(), found.len()) {
        (1, _) => Ok(starts.pop()),
        (0, 0) => Ok(None),
        _ => Err(because!("several GRUB configurations on this disk")),
    }
}

const LISTS: [&str; 7] = [
    "/boot/grub/menu.lst",
    "/grub/menu.lst",
    "/boot/extlinux.conf",
    "/boot/extlinux/extlinux.conf",
    "/extlinux.conf",
    "/extlinux/extlinux.conf",
    "/boot/syslinux/extlinux.conf",
];

/// The one plain list, if the disk has no grub.cfg.
fn list(volumes: &Volumes) -> Result<Option<(usize, &'static str)>> {
    let mut found = Vec::new();
    for (index, volume) in volumes.all.iter().enumerate() {
        if volume.is_readable() && !volume.partition.is_esp() {
            found.extend(LISTS.iter().filter(|path| volume.is_file(path)).map(|path| (index, *path)));
        }
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(because!("several boot menus on this disk")),
    }
}

fn from_list(volumes: &Volumes, volume: usize, path: &str) -> Result<Plan> {
    let home = volumes.get(volume)?;
    let text = home.read(&volumes.disk, path, lists::TEXT_BYTES)?;
    let text = String::from_utf8_lossy(&text);
    let legacy = path.ends_with("menu.lst");
    let entry = if legacy { lists::grub_legacy(&text)? } else { lists::extlinux(&text)? };
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let by_number = |number: Option<u32>| {
        let found = volumes.all.iter().position(|volume| volume.partition.number == number.unwrap_or(0));
        found.ok_or_else(|| because!("menu.lst names a partition that is not there"))
    };
    let root = match &entry.root {
        None => volume,
        Some(lists::Root::Device(device)) => by_number(lists::legacy_partition(device)?)?,
        Some(lists::Root::Uuid(uuid)) => {
            let found = volumes
                .all
                .iter()
                .position(|volume| volume.uuid().is_some_and(|known| known.eq_ignore_ascii_case(uuid)));
            found.ok_or_else(|| because!("menu.lst names a file system that is not there"))?
        }
    };
    let file = |path: &str| -> Result<Piece> {
        let map = if !legacy {
            let path = if path.starts_with('/') { path.to_string() } else { format!("{directory}/{path}") };
            home.file(&path)
        } else if let Some(rest) = path.strip_prefix('(') {
            let (device, path) = rest.split_once(')').ok_or(Error::NotFound)?;
            volumes.get(by_number(lists::legacy_partition(&format!("({device})"))?)?)?.file(path)
        } else {
            volumes.get(root)?.file(path)
        };
        map.map(whole).map_err(|error| because!("{}: {error}", path.chars().take(80).collect::<String>()))
    };
    let kernel = file(&entry.kernel)?;
    let initrds = entry.initrds.iter().map(|path| file(path)).collect::<Result<Vec<_>>>()?;
    let source = format!("({}){path}", volumes.name(volume));
    plan(volumes, source, entry.kernel, kernel, initrds, entry.cmdline, Vec::new())
}

fn whole(map: FileMap) -> Piece {
    Piece { offset: 0, bytes: map.bytes, map }
}

fn grub(volumes: &Volumes, volume: usize, path: &str, smbios: &[u8]) -> Result<Plan> {
    let source = format!("grub ({}){path}", volumes.name(volume));
    let (load, saved) = Grub::new(volumes, smbios).boot(volume, path)?;
    let mut writes = Vec::new();
    for saved in saved.iter().filter(|saved| saved.changed) {
        let content = saved.block.content()?;
        let map = volumes.get(saved.volume)?.file_in_place(&saved.path)?;
        if map.bytes != content.len() as u64 || map.extents.len() > 8 {
            return Err(Error::Unsupported("a grubenv in pieces"));
        }
        for extent in &map.extents {
            let disk = extent.disk.ok_or(Error::Unsupported("a grubenv with holes"))?;
            let range = extent.file as usize..(extent.file + extent.bytes) as usize;
            let data = content.get(range).ok_or(Error::Corrupt("grubenv"))?.to_vec();
            writes.push(Write { disk, data });
        }
    }
    let initrds = load.initrds.into_iter().map(whole).collect();
    plan(volumes, source, load.path, whole(load.kernel), initrds, load.cmdline, writes)
}

fn plan(
    volumes: &Volumes,
    source: String,
    name: String,
    kernel: Piece,
    initrds: Vec<Piece>,
    cmdline: String,
    writes: Vec<Write>,
) -> Result<Plan> {
    let mut head = alloc::vec![0; HEADER_BYTES.min(usize::try_from(kernel.bytes).unwrap_or(HEADER_BYTES))];
    kernel.map.read(&volumes.disk, kernel.offset, &mut head)?;
    let header = Header::parse(&head, kernel.bytes)?;
    if cmdline.len() > header.cmdline_max || cmdline.contains('\0') {
        return Err(Error::Unsupported("a command line longer than the kernel takes"));
    }
    let mut total = 0u64;
    for initrd in &initrds {
        total = total.saturating_add(initrd.bytes);
    }
    if total > INITRD_BYTES {
        return Err(Error::Limit("size of the initrd"));
    }
    let initrds = initrds.into_iter().filter(|initrd| initrd.bytes > 0).collect();
    Ok(Plan { source, name, header, kernel, initrds, cmdline, writes })
}

/// Entries of type 1 (text files) and type 2 (unified kernel images), on the EFI system partition and XBOOTLDR.
fn boot_loader_entries(volumes: &Volumes) -> Result<Option<Plan>> {
    let mut entries: Vec<(usize, bls::Entry)> = Vec::new();
    let mut conf = bls::LoaderConf::default();
    for (index, volume) in volumes.all.iter().enumerate() {
        if !volume.is_readable() || !(volume.partition.is_esp() || volume.partition.is_xbootldr()) {
            continue;
        }
        if volume.partition.is_esp()
            && let Ok(text) = volume.read(&volumes.disk, "/loader/loader.conf", 64 << 10)
        {
            conf = bls::parse_loader_conf(&String::from_utf8_lossy(&text));
        }
        if let Ok(found) = bls::read_entries(volumes, index, "/loader/entries") {
            entries.extend(found.into_iter().map(|entry| (index, entry)));
        }
        for file in volume.list("/EFI/Linux", UKIS).unwrap_or_default() {
            let Some(stem) = strip_efi(&file.name) else { continue };
            if file.kind == Kind::Directory {
                continue;
            }
            let path = format!("/EFI/Linux/{}", file.name);
            let Ok(image) = volume.file(&path).and_then(|map| uki::parse(&volumes.disk, &map)) else { continue };
            let value = |key: &str| uki::os_release_value(&image.os_release, key);
            let (id, is_bad) = bls::split_counters(stem);
            entries.push((
                index,
                bls::Entry {
                    id: id.to_string(),
                    title: value("PRETTY_NAME"),
                    version: value("IMAGE_VERSION").or_else(|| value("VERSION_ID")).or_else(|| value("BUILD_ID")),
                    sort_key: value("IMAGE_ID").or_else(|| value("ID")),
                    efi: Some(path),
                    is_bad,
                    ..bls::Entry::default()
                },
            ));
        }
    }
    entries.retain(|(_, entry)| {
        (entry.linux.is_some() || entry.efi.is_some())
            && entry.architecture.as_ref().is_none_or(|name| name.eq_ignore_ascii_case("x64"))
    });
    entries.sort_by(|(_, a), (_, b)| bls::order(a, b));
    // `@saved` and its like are EFI variables, which do not exist here.
    let wanted = conf.default.filter(|pattern| !pattern.starts_with('@'));
    let chosen = wanted.and_then(|pattern| {
        entries.iter().position(|(_, entry)| {
            let file = if entry.linux.is_some() { format!("{}.conf", entry.id) } else { format!("{}.efi", entry.id) };
            bls::matches(&pattern, &file) || bls::matches(&pattern, &entry.id)
        })
    });
    let Some((volume, entry)) = entries.get(chosen.unwrap_or(0)) else { return Ok(None) };
    let home = volumes.get(*volume)?;
    let source = format!("boot loader entry {} on ({})", entry.id, volumes.name(*volume));
    if entry.devicetree {
        return Err(because!("the entry {} has a device tree", entry.id));
    }
    let (name, kernel, initrds, cmdline) = match (&entry.linux, &entry.efi) {
        (Some(linux), _) => {
            let initrds = entry.initrds.iter().map(|path| home.file(path).map(whole)).collect::<Result<Vec<_>>>()?;
            (linux.clone(), whole(home.file(linux)?), initrds, entry.options.clone())
        }
        (None, Some(efi)) => {
            let image = uki::parse(&volumes.disk, &home.file(efi)?)?;
            let cmdline = if entry.options.is_empty() { image.cmdline } else { entry.options.clone() };
            (efi.clone(), image.linux, image.initrds, cmdline)
        }
        (None, None) => return Ok(None),
    };
    // Without one the initrd asks EFI variables which disk it came from.
    if !cmdline
        .split_ascii_whitespace()
        .any(|word| word.starts_with("root=") || word.starts_with("mount.usr=") || word.starts_with("roothash="))
        && !initrds.is_empty()
    {
        return Err(because!("the entry {} names no root file system", entry.id));
    }
    plan(volumes, source, name, kernel, initrds, cmdline, Vec::new()).map(Some)
}

fn strip_efi(name: &str) -> Option<&str> {
    let at = name.len().checked_sub(4)?;
    name.get(at..).filter(|end| end.eq_ignore_ascii_case(".efi"))?;
    name.get(..at)
}
