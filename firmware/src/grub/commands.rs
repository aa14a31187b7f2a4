//! GRUB's commands, as far as they decide what boots.

use alloc::{
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    condition::{self, Files},
    environment,
    run::{Entry, Flow, Grub, Load, Saved},
    syntax::Node,
};
use crate::{
    Error, Result, because, bls,
    file::FileMap,
    partitions,
    smbios::{self, What},
    volume,
};

/// Done by doing nothing: modules are all there, and there is nobody to look at the screen or to wait for.
const TRUE: [&str; 27] = [
    "true",
    ":",
    "insmod",
    "rmmod",
    "echo",
    "serial",
    "terminal",
    "terminal_input",
    "terminal_output",
    "sleep",
    "clear",
    "cls",
    "play",
    "background_color",
    "hiddenmenu",
    "pager",
    "gettext",
    "lsmod",
    "list_env",
    "cat",
    "videoinfo",
    "vbeinfo",
    "at_keyboard",
    "usb_keyboard",
    "read",
    "keymap",
    "nop",
];

/// These boot something, or change the machine, in a way that is not done here.
const HAND_OVER: [&str; 31] = [
    "chainloader",
    "ntldr",
    "freedos",
    "drivemap",
    "multiboot",
    "multiboot2",
    "module",
    "module2",
    "kfreebsd",
    "knetbsd",
    "knetbsd_module_elf",
    "kopenbsd",
    "kopenbsd_ramdisk",
    "xnu_kernel",
    "xnu_kernel64",
    "xnu_resume",
    "xen_hypervisor",
    "acpi",
    "devicetree",
    "loopback",
    "gptprio.next",
    "cryptomount",
    "cutmem",
    "badram",
    "halt",
    "reboot",
    "exit",
    "fwsetup",
    "pxechainloader",
    "parttool",
    "gptsync",
];

const OURS: [&str; 41] = [
    "false",
    "set",
    "unset",
    "export",
    "test",
    "[",
    "[[",
    "return",
    "break",
    "continue",
    "shift",
    "setparams",
    "eval",
    "source",
    ".",
    "configfile",
    "normal",
    "extract_entries_source",
    "extract_entries_configfile",
    "search",
    "search.fs_uuid",
    "search.fs_label",
    "search.file",
    "search.part_uuid",
    "load_env",
    "save_env",
    "linux",
    "linux16",
    "linuxefi",
    "initrd",
    "initrd16",
    "initrdefi",
    "boot",
    "blscfg",
    "probe",
    "smbios",
    "cpuid",
    "increment",
    "decrement",
    "default",
    "menuentry",
];

pub(super) fn is_known(name: &str) -> bool {
    TRUE.contains(&name) || OURS.contains(&name) || HAND_OVER.contains(&name)
}

/// How a command of ours ended: true, false, or failed with a reason that keeps an entry from booting.
enum End {
    True,
    False,
    Failed(String),
    Flow(Flow),
}

fn truth(value: bool) -> End {
    if value { End::True } else { End::False }
}

pub(super) fn run(grub: &mut Grub, name: &str, arguments: &[String]) -> Result<Flow> {
    let end = if TRUE.contains(&name) {
        End::True
    } else if HAND_OVER.contains(&name) {
        if name == "fwsetup" && arguments.iter().any(|argument| argument == "--is-supported") {
            End::False
        } else {
            return Err(because!("grub.cfg uses {name}"));
        }
    } else {
        match ours(grub, name, arguments) {
            Ok(end) => end,
            // Limits end the whole; anything else is a command that failed.
            Err(error @ Error::Limit(_)) => return Err(error),
            Err(error) => End::Failed(format!("{name}: {error}")),
        }
    };
    match end {
        End::True => grub.status = 0,
        End::False => grub.status = 1,
        End::Failed(why) => {
            grub.status = 1;
            if matches!(
                name,
                "linux" | "linux16" | "linuxefi" | "initrd" | "initrd16" | "initrdefi" | "blscfg" | "configfile"
            ) {
                let why = match arguments.first() {
                    Some(first) => format!("{why}: {}", first.chars().take(80).collect::<String>()),
                    None => why,
                };
                grub.failure = Some(why);
            }
        }
        End::Flow(flow) => return Ok(flow),
    }
    Ok(Flow::Next)
}

fn levels(arguments: &[String]) -> u32 {
    arguments.first().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn ours(grub: &mut Grub, name: &str, arguments: &[String]) -> Result<End> {
    let first = arguments.first().map(String::as_str);
    Ok(match name {
        "set" => {
            for argument in arguments.iter().take(1) {
                let (name, value) = argument.split_once('=').ok_or(Error::NotFound)?;
                grub.set(name, value)?;
            }
            End::True
        }
        // The command of GRUB Legacy that some converted files still hold.
        "default" => {
            grub.set("default", first.unwrap_or("0"))?;
            End::True
        }
        "unset" => {
            if let Some(name) = first {
                grub.unset(name);
            }
            End::True
        }
        "export" => {
            for name in arguments {
                grub.export(name)?;
            }
            End::True
        }
        "test" | "[" | "[[" => {
            let words = match (name, arguments.split_last()) {
                ("[", Some((last, words))) if last == "]" => words,
                ("[[", Some((last, words))) if last == "]]" => words,
                ("test", _) => arguments,
                _ => return Ok(End::False),
            };
            truth(condition::evaluate(words, &mut Lookup(grub)))
        }
        "return" => {
            grub.status = first.and_then(|text| text.parse().ok()).unwrap_or(grub.status);
            End::Flow(Flow::Return)
        }
        "break" => End::Flow(Flow::Break(levels(arguments))),
        "continue" => End::Flow(Flow::Continue(levels(arguments))),
        "shift" => {
            let count = levels(arguments) as usize;
            if count > grub.arguments.len() {
                return Ok(End::False);
            }
            grub.arguments.drain(..count);
            End::True
        }
        "setparams" => {
            grub.arguments = arguments.to_vec();
            End::True
        }
        "eval" => {
            let nodes = grub.parse(&arguments.join(" "))?;
            End::Flow(grub.list(&nodes)?)
        }
        "source" | "." | "extract_entries_source" => {
            let (volume, path) = place(grub, first.ok_or(Error::NotFound)?)?;
            let nodes = grub.read_config(volume, &path)?;
            grub.status = 0;
            End::Flow(match grub.list(&nodes)? {
                Flow::Boot => Flow::Boot,
                _ => Flow::Next,
            })
        }
        "configfile" | "extract_entries_configfile" | "normal" => {
            let path = match first {
                Some(path) => path.to_string(),
                None => format!("{}/grub.cfg", grub.get("prefix").unwrap_or("")),
            };
            let (volume, path) = place(grub, &path)?;
            End::Flow(grub.config_file_in_context(volume, &path)?)
        }
        "search" => search(grub, arguments, None)?,
        "search.fs_uuid" => search(grub, arguments, Some(By::Uuid))?,
        "search.fs_label" => search(grub, arguments, Some(By::Label))?,
        "search.file" => search(grub, arguments, Some(By::File))?,
        "search.part_uuid" => search(grub, arguments, Some(By::PartitionUuid))?,
        "load_env" => load_env(grub, arguments)?,
        "save_env" => save_env(grub, arguments)?,
        "linux" | "linux16" | "linuxefi" => linux(grub, arguments)?,
        "initrd" | "initrd16" | "initrdefi" => initrd(grub, arguments)?,
        "boot" => {
            if grub.loaded.is_some() && grub.failure.is_none() {
                End::Flow(Flow::Boot)
            } else {
                End::Failed("boot: nothing is loaded".to_string())
            }
        }
        "blscfg" => blscfg(grub, first)?,
        "probe" => probe(grub, arguments)?,
        "smbios" => smbios(grub, arguments)?,
        "cpuid" => truth(!arguments.is_empty()),
        "increment" | "decrement" => {
            let variable = first.ok_or(Error::NotFound)?;
            let value: i64 = grub.get(variable).and_then(|text| text.parse().ok()).ok_or(Error::NotFound)?;
            let value = if name == "increment" { value.saturating_add(1) } else { value.saturating_sub(1) };
            grub.set(variable, &value.to_string())?;
            End::True
        }
        _ => End::False,
    })
}

/// Device and path of `(hd0,gpt1)/x` or, on `$root`, `/x`.
fn place(grub: &Grub, path: &str) -> Result<(usize, String)> {
    let (device, path) = match path.strip_prefix('(') {
        Some(rest) => rest.split_once(')').ok_or(Error::NotFound)?,
        None => ("", path),
    };
    let device = if device.is_empty() { grub.get("root").unwrap_or("") } else { device };
    let volume = grub
        .volumes
        .by_name(device)
        .ok_or_else(|| because!("no device {}", device.chars().take(40).collect::<String>()))?;
    if !path.starts_with('/') {
        return Err(because!("a path without a leading slash"));
    }
    Ok((volume, path.to_string()))
}

struct Lookup<'g, 'a>(&'g Grub<'a>);

impl Lookup<'_, '_> {
    fn node(&self, path: &str) -> Option<volume::Node> {
        let (volume, path) = place(self.0, path).ok()?;
        self.0.volumes.get(volume).ok()?.node(&path).ok()
    }
}

impl Files for Lookup<'_, '_> {
    fn is_file(&mut self, path: &str) -> bool {
        self.node(path).is_some_and(|node| node.kind == volume::Kind::File)
    }

    fn is_directory(&mut self, path: &str) -> bool {
        self.node(path).is_some_and(|node| node.kind == volume::Kind::Directory)
    }

    fn has_bytes(&mut self, path: &str) -> bool {
        self.node(path).is_some_and(|node| node.kind == volume::Kind::File && node.bytes > 0)
    }
}

pub(super) fn menu_entry(submenu: bool, words: &[String], body: Rc<Vec<Node>>) -> Entry {
    let mut title: Option<String> = None;
    let mut id = None;
    let mut arguments = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let word = &words[at];
        at += 1;
        let (option, value) = match word.strip_prefix("--") {
            Some(option) => {
                let (option, value) = option_and_value(option);
                (option, value.map(str::to_string))
            }
            None => {
                if title.is_none() {
                    title = Some(word.clone());
                } else {
                    arguments.push(word.clone());
                }
                continue;
            }
        };
        // All but one of these take a value, here or as the next word.
        if matches!(option, "class" | "users" | "hotkey" | "source" | "id") && value.is_none() && at < words.len() {
            if option == "id" {
                id = Some(words[at].clone());
            }
            at += 1;
        } else if option == "id" {
            id = value;
        }
    }
    let title = title.unwrap_or_default();
    // The title is the entry's $1.
    arguments.insert(0, title.clone());
    Entry { id: id.unwrap_or_else(|| title.clone()), title, arguments, submenu, body }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Uuid,
    Label,
    File,
    PartitionUuid,
}

/// `--option=value`, or an option whose value, if it has one, is the next word.
fn option_and_value(argument: &str) -> (&str, Option<&str>) {
    argument.split_once('=').map_or((argument, None), |(option, value)| (option, Some(value)))
}

fn search(grub: &mut Grub, arguments: &[String], by: Option<By>) -> Result<End> {
    let fixed = by.is_some();
    let (mut by, mut variable, mut plain) = (by, None, Vec::new());
    let mut at = 0;
    while at < arguments.len() {
        let argument = arguments[at].as_str();
        at += 1;
        let (option, value) = option_and_value(argument);
        match option {
            "-f" | "--file" => by = Some(By::File),
            "-l" | "--label" | "--fs-label" => by = Some(By::Label),
            "-u" | "--fs-uuid" => by = Some(By::Uuid),
            "-p" | "--part-uuid" => by = Some(By::PartitionUuid),
            "-s" | "--set" => variable = Some(value.unwrap_or("root").to_string()),
            _ if option.starts_with("--hint") || option == "-h" => {
                if value.is_none() {
                    at += 1;
                }
            }
            _ if option.starts_with('-') && option.len() > 1 => {}
            _ => plain.push(argument),
        }
    }
    let wanted = *plain.first().ok_or(Error::NotFound)?;
    if fixed {
        variable = Some(plain.get(1).copied().unwrap_or("root").to_string());
    }
    let found = grub.volumes.all.iter().position(|volume| match by.unwrap_or(By::File) {
        By::Uuid => volume.uuid().is_some_and(|uuid| uuid.eq_ignore_ascii_case(wanted)),
        By::Label => volume.label().is_some_and(|label| label == wanted),
        By::File => wanted.starts_with('/') && volume.node(wanted).is_ok(),
        By::PartitionUuid => partition_uuid(&volume.partition).is_some_and(|uuid| uuid.eq_ignore_ascii_case(wanted)),
    });
    let Some(found) = found else { return Ok(End::False) };
    if let Some(variable) = variable {
        let device = grub.volumes.name(found);
        grub.set(&variable, &device)?;
    }
    Ok(End::True)
}

fn partition_uuid(partition: &partitions::Partition) -> Option<String> {
    match partition.kind {
        partitions::Kind::Gpt(_) => Some(volume::guid_text(&partition.uuid)),
        partitions::Kind::Mbr(_) => {
            let signature = crate::bytes::u32_le(&partition.uuid, 0);
            Some(format!("{signature:08x}-{:02x}", partition.number))
        }
        partitions::Kind::Whole => None,
    }
}

fn probe(grub: &mut Grub, arguments: &[String]) -> Result<End> {
    let (mut what, mut variable, mut device) = (None, None, None);
    let mut at = 0;
    while at < arguments.len() {
        let argument = arguments[at].as_str();
        at += 1;
        let (option, value) = option_and_value(argument);
        match option {
            "--set" | "-s" => {
                variable = match value {
                    Some(value) => Some(value.to_string()),
                    None => {
                        at += 1;
                        arguments.get(at - 1).cloned()
                    }
                }
            }
            "-u" | "--fs-uuid" => what = Some("uuid"),
            "-l" | "--label" => what = Some("label"),
            "-f" | "--fs" => what = Some("fs"),
            "-p" | "--partmap" => what = Some("partmap"),
            "--part-uuid" => what = Some("part-uuid"),
            _ if option.starts_with('-') => return Ok(End::False),
            _ => device = Some(argument),
        }
    }
    let device = device.ok_or(Error::NotFound)?.trim_start_matches('(').trim_end_matches(')');
    let volume = grub.volumes.by_name(device).ok_or(Error::NotFound)?;
    let volume = grub.volumes.get(volume)?;
    let value = match what {
        Some("uuid") => volume.uuid(),
        Some("label") => volume.label(),
        Some("fs") => Some(volume.file_system().to_string()).filter(|name| !name.is_empty()),
        Some("part-uuid") => partition_uuid(&volume.partition),
        Some("partmap") => Some(
            match volume.partition.kind {
                partitions::Kind::Gpt(_) => "gpt",
                partitions::Kind::Mbr(_) => "msdos",
                partitions::Kind::Whole => "none",
            }
            .to_string(),
        ),
        _ => None,
    };
    let Some(value) = value else { return Ok(End::False) };
    if let Some(variable) = variable {
        grub.set(&variable, &value)?;
    }
    Ok(End::True)
}

fn smbios(grub: &mut Grub, arguments: &[String]) -> Result<End> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => usize::from_str_radix(hex, 16).ok(),
        None => text.parse::<usize>().ok(),
    };
    let mut query = smbios::Query { nth: 1, ..smbios::Query::default() };
    let mut variable = None;
    let mut words = arguments.iter().flat_map(|argument| match argument.split_once('=') {
        Some((option, value)) if option.starts_with("--") => alloc::vec![option, value],
        _ => alloc::vec![argument.as_str()],
    });
    while let Some(option) = words.next() {
        let value = words.next().ok_or(Error::NotFound)?;
        if matches!(option, "--set") {
            variable = Some(value.to_string());
            continue;
        }
        let value = number(value).ok_or(Error::NotFound)?;
        let what = match option {
            "-t" | "--type" => {
                query.kind = Some(u8::try_from(value).map_err(|_| Error::NotFound)?);
                continue;
            }
            "-h" | "--handle" => {
                query.handle = Some(u16::try_from(value).map_err(|_| Error::NotFound)?);
                continue;
            }
            "-m" | "--match" => {
                query.nth = value;
                continue;
            }
            "-b" | "--get-byte" => What::Byte,
            "-w" | "--get-word" => What::Word,
            "-d" | "--get-dword" => What::Double,
            "-q" | "--get-qword" => What::Quad,
            "-s" | "--get-string" => What::String,
            "-u" | "--get-uuid" => What::Uuid,
            _ => return Ok(End::False),
        };
        (query.what, query.offset) = (what, value);
    }
    let Some(value) = smbios::ask(grub.smbios, &query) else { return Ok(End::False) };
    if let Some(variable) = variable {
        grub.set(&variable, &value)?;
    }
    Ok(End::True)
}

/// Splits `-f FILE` off the arguments of load_env and save_env; the file is `$prefix/grubenv` otherwise.
fn environment_file(grub: &Grub, arguments: &[String]) -> Result<(usize, String, Vec<String>)> {
    let mut names = Vec::new();
    let mut file = None;
    let mut at = 0;
    while at < arguments.len() {
        let argument = arguments[at].as_str();
        at += 1;
        match argument {
            "-f" | "--file" => {
                file = arguments.get(at).cloned();
                at += 1;
            }
            "-s" | "--skip-sig" => {}
            _ => match argument.strip_prefix("--file=") {
                Some(path) => file = Some(path.to_string()),
                None => names.push(argument.to_string()),
            },
        }
    }
    let file = file.unwrap_or_else(|| format!("{}/grubenv", grub.get("prefix").unwrap_or("")));
    let (volume, path) = place(grub, &file)?;
    Ok((volume, path, names))
}

/// The block of a grubenv file, read once; later changes are seen.
fn environment_block(grub: &mut Grub, volume: usize, path: &str) -> Result<usize> {
    if let Some(index) = grub.saved.iter().position(|saved| saved.volume == volume && saved.path == path) {
        return Ok(index);
    }
    if grub.saved.len() >= 8 {
        return Err(Error::Limit("environment files"));
    }
    let data = grub.volumes.get(volume)?.read(&grub.volumes.disk, path, environment::LIMIT_BYTES)?;
    let block = environment::Block::parse(&data)?;
    grub.saved.push(Saved { volume, path: path.to_string(), block, changed: false });
    Ok(grub.saved.len() - 1)
}

fn load_env(grub: &mut Grub, arguments: &[String]) -> Result<End> {
    let (volume, path, only) = environment_file(grub, arguments)?;
    let index = environment_block(grub, volume, &path)?;
    for (name, value) in grub.saved[index].block.variables.clone() {
        if only.is_empty() || only.contains(&name) {
            grub.set(&name, &value)?;
        }
    }
    Ok(End::True)
}

fn save_env(grub: &mut Grub, arguments: &[String]) -> Result<End> {
    let (volume, path, names) = environment_file(grub, arguments)?;
    let index = environment_block(grub, volume, &path)?;
    for name in names {
        let value = grub.get(&name).map(String::from);
        let saved = &mut grub.saved[index];
        let before = saved.block.clone();
        saved.block.set(&name, value.as_deref());
        saved.changed |= saved.block != before;
    }
    Ok(End::True)
}

fn file(grub: &Grub, path: &str) -> Result<FileMap> {
    let (volume, path) = place(grub, path)?;
    grub.volumes.get(volume)?.file(&path)
}

/// GRUB's rules: words with blanks are put in quotes, and quotes and backslashes escaped.
fn join_cmdline(words: &[String]) -> String {
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        let blank = word.contains(' ');
        if blank {
            line.push('"');
        }
        for c in word.chars() {
            if matches!(c, '\\' | '\'' | '"') {
                line.push('\\');
            }
            line.push(c);
        }
        if blank {
            line.push('"');
        }
    }
    line
}

fn linux(grub: &mut Grub, arguments: &[String]) -> Result<End> {
    grub.loaded = None;
    let (path, rest) = arguments.split_first().ok_or(Error::NotFound)?;
    let kernel = file(grub, path)?;
    let mut words = alloc::vec![format!("BOOT_IMAGE={path}")];
    words.extend_from_slice(rest);
    // A kernel that loads after another command failed (an `||` of sorts) makes good for it.
    grub.failure = None;
    grub.load(Load { path: path.clone(), kernel, initrds: Vec::new(), cmdline: join_cmdline(&words) });
    Ok(End::True)
}

fn initrd(grub: &mut Grub, arguments: &[String]) -> Result<End> {
    for path in arguments.iter().filter(|argument| !argument.starts_with("--")) {
        if path.starts_with("newc:") {
            return Err(Error::Unsupported("an initrd made of single files"));
        }
        let map = file(grub, path)?;
        grub.add_initrd(map)?;
    }
    Ok(End::True)
}

/// The entries of the Boot Loader Specification, as Fedora's and RHEL's GRUB list them: newest first, files on `$root`.
fn blscfg(grub: &mut Grub, place_of: Option<&str>) -> Result<End> {
    let (volume, directory) = match place_of {
        Some(path) if path.starts_with(['/', '(']) => place(grub, path)?,
        _ => {
            let device = grub.get("boot").or_else(|| grub.get("root")).unwrap_or("");
            let volume = grub.volumes.by_name(device).ok_or(Error::NotFound)?;
            let found = ["/loader/entries", "/boot/loader/entries"];
            let found =
                found.iter().find(|path| grub.volumes.get(volume).is_ok_and(|volume| volume.is_directory(path)));
            (volume, (*found.ok_or(Error::NotFound)?).to_string())
        }
    };
    let mut entries = bls::read_entries(grub.volumes, volume, &directory)?;
    entries.sort_by(|a, b| crate::version::rpm_package(&b.id, &a.id));
    for entry in entries {
        let Some(kernel) = entry.linux else { continue };
        let defaults = grub.get("default_kernelopts").unwrap_or("").to_string();
        let options = if entry.options.is_empty() { defaults } else { entry.options };
        // As text, because options and initrd may hold variables ($kernelopts, $tuned_params, $tuned_initrd).
        let mut script = format!("linux ($root){kernel} {options}\n");
        let early = grub.get("early_initrd").unwrap_or("").to_string();
        let initrds: Vec<String> = early
            .split_ascii_whitespace()
            .map(|path| format!("($root){}{path}", if path.starts_with('/') { "" } else { "/" }))
            .chain(entry.initrds.iter().map(|line| {
                let words = line.split_ascii_whitespace();
                words
                    .map(|word| if word.starts_with('/') { format!("($root){word}") } else { word.to_string() })
                    .collect::<Vec<_>>()
                    .join(" ")
            }))
            .collect();
        if !initrds.is_empty() {
            script.push_str(&format!("initrd {}\n", initrds.join(" ")));
        }
        let body = Rc::new(grub.parse(&script)?);
        let title = entry.title.unwrap_or_else(|| entry.id.clone());
        grub.add_entry(Entry { arguments: alloc::vec![title.clone()], title, id: entry.id, submenu: false, body })?;
    }
    Ok(End::True)
}
