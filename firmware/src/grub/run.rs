//! Runs a tree: variables, functions, the menu, and which of its entries is the default.

use alloc::{
    collections::BTreeMap,
    format,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    environment,
    syntax::{self, Node, Piece, Word},
};
use crate::{Error, Result, because, file::FileMap, volume::Volumes};

/// Commands executed, in all files and loops together. A stock grub.cfg takes under a hundred.
const STEPS: u32 = 50_000;
/// Bytes of expanded words.
const EXPANDED_BYTES: usize = 32 << 20;
/// Bytes of configuration parsed, included files counted each time.
const PARSED_BYTES: usize = 8 << 20;
const DEPTH: u32 = 100;
const VALUE_BYTES: usize = 32 << 10;
const VARIABLES: usize = 2048;
const ENTRIES: usize = 2048;
const INITRDS: usize = 32;

/// What an entry loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// As written, for the log.
    pub path: String,
    pub kernel: FileMap,
    pub initrds: Vec<FileMap>,
    pub cmdline: String,
}

#[derive(Debug, Clone)]
struct Variable {
    value: String,
    exported: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub title: String,
    pub id: String,
    pub arguments: Vec<String>,
    pub submenu: bool,
    pub body: Rc<Vec<Node>>,
}

/// A grubenv file that was read, and whether it is to be written.
#[derive(Debug, Clone)]
pub struct Saved {
    pub volume: usize,
    pub path: String,
    pub block: environment::Block,
    pub changed: bool,
}

/// What follows a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break(u32),
    Continue(u32),
    Return,
    /// Something is loaded and starts.
    Boot,
}

pub struct Grub<'a> {
    pub(super) volumes: &'a Volumes,
    pub(super) smbios: &'a [u8],
    variables: BTreeMap<String, Variable>,
    functions: BTreeMap<String, Rc<Vec<Node>>>,
    pub(super) menu: Vec<Entry>,
    pub(super) arguments: Vec<String>,
    pub(super) loaded: Option<Load>,
    pub(super) status: u32,
    /// Of the last command that failed; the reason to hand over with.
    pub(super) failure: Option<String>,
    pub(super) saved: Vec<Saved>,
    steps: u32,
    expanded_bytes: usize,
    parsed_bytes: usize,
    depth: u32,
}

const FEATURES: [&str; 9] = [
    "feature_chainloader_bpb",
    "feature_ntldr",
    "feature_platform_search_hint",
    "feature_default_font_path",
    "feature_all_video_module",
    "feature_menuentry_id",
    "feature_menuentry_options",
    "feature_200_final",
    "feature_timeout_style",
];

impl<'a> Grub<'a> {
    /// `smbios` is the machine's table, empty if it has none.
    pub fn new(volumes: &'a Volumes, smbios: &'a [u8]) -> Grub<'a> {
        let mut grub = Grub {
            volumes,
            smbios,
            variables: BTreeMap::new(),
            functions: BTreeMap::new(),
            menu: Vec::new(),
            arguments: Vec::new(),
            loaded: None,
            status: 0,
            failure: None,
            saved: Vec::new(),
            steps: 0,
            expanded_bytes: 0,
            parsed_bytes: 0,
            depth: 0,
        };
        for feature in FEATURES {
            grub.preset(feature, "y");
        }
        // As GRUB for a BIOS sees itself: configurations then leave out what only EFI has.
        grub.preset("grub_platform", "pc");
        grub.preset("grub_cpu", "i386");
        grub.preset("lang", "");
        grub
    }

    fn preset(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_string(), Variable { value: value.to_string(), exported: true });
    }

    /// Runs the configuration at `path` of a volume and its menu's default entry.
    pub fn boot(mut self, volume: usize, path: &str) -> Result<(Load, Vec<Saved>)> {
        let device = self.volumes.name(volume);
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        self.preset("root", &device);
        self.preset("prefix", &format!("({device}){directory}"));
        self.preset("cmdpath", &format!("({device})"));
        let flow = self.config_file(volume, path)?;
        match (flow, self.loaded.take()) {
            (Flow::Boot, Some(load)) => Ok((load, self.saved)),
            _ => Err(self.hand_over("grub.cfg starts nothing")),
        }
    }

    fn hand_over(&self, what: &str) -> Error {
        match &self.failure {
            Some(failure) => because!("{what} ({failure})"),
            None => because!("{what}"),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|variable| variable.value.as_str())
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if value.len() > VALUE_BYTES || (self.variables.len() >= VARIABLES && !self.variables.contains_key(name)) {
            return Err(Error::Limit("variables in grub.cfg"));
        }
        let exported = self.variables.get(name).is_some_and(|variable| variable.exported);
        // GRUB strips the brackets of a device.
        let value = if name == "root" { value.trim_start_matches('(').trim_end_matches(')') } else { value };
        self.variables.insert(name.to_string(), Variable { value: value.to_string(), exported });
        Ok(())
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    pub(super) fn export(&mut self, name: &str) -> Result<()> {
        match self.variables.get_mut(name) {
            Some(variable) => variable.exported = true,
            None => {
                self.set(name, "")?;
                if let Some(variable) = self.variables.get_mut(name) {
                    variable.exported = true;
                }
            }
        }
        Ok(())
    }

    /// Runs `inside` as in a new context: only exported variables go in, none come out.
    fn context(&mut self, inside: impl FnOnce(&mut Self) -> Result<Flow>) -> Result<Flow> {
        let outer = self.variables.clone();
        self.variables.retain(|_, variable| variable.exported);
        let flow = inside(self);
        self.variables = outer;
        flow
    }

    pub(super) fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Error::Limit("nesting in grub.cfg"));
        }
        let result = inside(self);
        self.depth -= 1;
        result
    }

    pub(super) fn parse(&mut self, text: &str) -> Result<Vec<Node>> {
        self.parsed_bytes += text.len() + 16;
        if self.parsed_bytes > PARSED_BYTES {
            return Err(Error::Limit("bytes of GRUB configuration"));
        }
        syntax::parse(text)
    }

    pub(super) fn read_config(&mut self, volume: usize, path: &str) -> Result<Vec<Node>> {
        let data = self.volumes.get(volume)?.read(&self.volumes.disk, path, syntax::TEXT_BYTES)?;
        self.parse(&String::from_utf8_lossy(&data))
    }

    /// `configfile`: a new context is the caller's to make. Runs the file, then the menu it made, if any.
    pub(super) fn config_file(&mut self, volume: usize, path: &str) -> Result<Flow> {
        let nodes = self.read_config(volume, path)?;
        let device = self.volumes.name(volume);
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        self.preset("config_file", &format!("({device}){path}"));
        self.preset("config_directory", &format!("({device}){directory}"));
        let outer = core::mem::take(&mut self.menu);
        let flow = self.deeper(|this| {
            let flow = this.list(&nodes)?;
            if flow == Flow::Boot || this.menu.is_empty() { Ok(flow) } else { this.default_entry("") }
        });
        self.menu = outer;
        flow.map(|flow| if flow == Flow::Boot { flow } else { Flow::Next })
    }

    pub(super) fn config_file_in_context(&mut self, volume: usize, path: &str) -> Result<Flow> {
        self.context(|this| this.config_file(volume, path))
    }

    pub(super) fn add_entry(&mut self, entry: Entry) -> Result<()> {
        if self.menu.len() >= ENTRIES {
            return Err(Error::Limit("menu entries"));
        }
        self.menu.push(entry);
        Ok(())
    }

    /// Picks the default of the menu and runs it; on failure those that `fallback` names.
    fn default_entry(&mut self, chosen: &str) -> Result<Flow> {
        let menu = core::mem::take(&mut self.menu);
        let default = self.get("default").unwrap_or("").to_string();
        let (index, rest) = pick(&menu, &default).unwrap_or((0, ""));
        let rest = rest.to_string();
        let mut queue = alloc::vec![(index, rest)];
        if let Some(fallback) = self.get("fallback") {
            let found = fallback.split_whitespace().take(8).filter_map(|name| pick(&menu, name));
            queue.extend(found.map(|(index, rest)| (index, rest.to_string())));
        }
        for (index, rest) in queue {
            let Some(entry) = menu.get(index).cloned() else { continue };
            self.loaded = None;
            self.failure = None;
            if self.deeper(|this| this.run_entry(&entry, &rest, chosen))? == Flow::Boot {
                return Ok(Flow::Boot);
            }
        }
        let title = menu.get(index).map_or("", |entry| &entry.title);
        Err(self.hand_over(&format!("the menu entry \"{title}\" starts nothing")))
    }

    fn run_entry(&mut self, entry: &Entry, rest: &str, chosen: &str) -> Result<Flow> {
        // As the user would write it in `default`.
        let chosen = format!("{chosen}{}", entry.id.replace('>', ">>"));
        self.set("chosen", &chosen)?;
        self.export("chosen")?;
        let outer = core::mem::replace(&mut self.arguments, entry.arguments.clone());
        let flow = if entry.submenu {
            self.context(|this| {
                match rest {
                    "" => this.unset("default"),
                    rest => this.set("default", rest)?,
                }
                this.menu.clear();
                match this.list(&entry.body)? {
                    Flow::Boot => Ok(Flow::Boot),
                    _ if this.menu.is_empty() => Ok(Flow::Next),
                    _ => this.default_entry(&format!("{chosen}>")),
                }
            })
        } else {
            self.list(&entry.body).map(|flow| match flow {
                Flow::Boot => flow,
                // GRUB boots what an entry has loaded, unless one of its commands for that failed.
                _ if self.loaded.is_some() && self.failure.is_none() => Flow::Boot,
                _ => Flow::Next,
            })
        };
        self.arguments = outer;
        flow
    }

    pub(super) fn list(&mut self, nodes: &[Node]) -> Result<Flow> {
        self.deeper(|this| {
            for node in nodes {
                let flow = this.node(node)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > STEPS {
            return Err(Error::Limit("commands in grub.cfg"));
        }
        Ok(())
    }

    /// Whether a list of commands ends in success; or the flow that left it.
    fn holds(&mut self, condition: &[Node]) -> Result<core::result::Result<bool, Flow>> {
        match self.list(condition)? {
            Flow::Next => Ok(Ok(self.status == 0)),
            flow => Ok(Err(flow)),
        }
    }

    fn node(&mut self, node: &Node) -> Result<Flow> {
        self.step()?;
        match node {
            Node::Simple(words) => {
                let words = self.expand(words)?;
                self.command(&words)
            }
            Node::If { arms, otherwise } => {
                for (condition, body) in arms {
                    match self.holds(condition)? {
                        Err(flow) => return Ok(flow),
                        Ok(true) => return self.list(body),
                        Ok(false) => {}
                    }
                }
                self.status = 0;
                self.list(otherwise)
            }
            Node::Loop { until, condition, body } => {
                loop {
                    self.step()?;
                    match self.holds(condition)? {
                        Err(flow) => return Ok(flow),
                        Ok(value) if value == *until => break,
                        Ok(_) => {}
                    }
                    if let Some(flow) = after_body(self.list(body)?) {
                        return Ok(flow.unwrap_or(Flow::Next));
                    }
                }
                self.status = 0;
                Ok(Flow::Next)
            }
            Node::For { name, words, body } => {
                for value in self.expand(words)? {
                    self.step()?;
                    self.set(name, &value)?;
                    if let Some(flow) = after_body(self.list(body)?) {
                        return Ok(flow.unwrap_or(Flow::Next));
                    }
                }
                Ok(Flow::Next)
            }
            Node::Function { name, body } => {
                if self.functions.len() >= VARIABLES {
                    return Err(Error::Limit("functions in grub.cfg"));
                }
                self.functions.insert(name.clone(), body.clone());
                self.status = 0;
                Ok(Flow::Next)
            }
            Node::Menu { submenu, words, body } => {
                let words = self.expand(words)?;
                let entry = super::commands::menu_entry(*submenu, &words, body.clone());
                self.add_entry(entry)?;
                self.status = 0;
                Ok(Flow::Next)
            }
        }
    }

    /// One command with its words expanded.
    pub(super) fn command(&mut self, words: &[String]) -> Result<Flow> {
        let (negated, words) = match words.split_first() {
            Some((first, rest)) if first == "!" => (true, rest),
            _ => (false, words),
        };
        let Some((name, arguments)) = words.split_first() else {
            self.status = 0;
            return Ok(Flow::Next);
        };
        let flow = if super::commands::is_known(name) {
            super::commands::run(self, name, arguments)?
        } else if let Some(body) = self.functions.get(name.as_str()).cloned() {
            let outer = core::mem::replace(&mut self.arguments, arguments.to_vec());
            self.status = 0;
            let flow = self.list(&body);
            self.arguments = outer;
            match flow? {
                Flow::Boot => Flow::Boot,
                _ => Flow::Next,
            }
        } else if let Some((name, value)) = name.split_once('=') {
            self.set(name, value)?;
            self.status = 0;
            Flow::Next
        } else {
            self.status = 1;
            Flow::Next
        };
        if negated {
            self.status = u32::from(self.status == 0);
        }
        Ok(flow)
    }

    fn expand(&mut self, words: &[Word]) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for Word(pieces) in words {
            let mut current: Option<String> = None;
            for piece in pieces {
                match piece {
                    Piece::Text { text, quoted } => {
                        if *quoted || !text.is_empty() {
                            self.spend(text.len())?;
                            current.get_or_insert_default().push_str(text);
                        }
                    }
                    Piece::Variable { name, quoted: true } if name == "@" => {
                        for (index, argument) in self.arguments.clone().iter().enumerate() {
                            self.spend(argument.len())?;
                            if index > 0 {
                                done.extend(current.take());
                            }
                            current.get_or_insert_default().push_str(argument);
                        }
                    }
                    Piece::Variable { name, quoted } => {
                        let value = self.value(name);
                        self.spend(value.len())?;
                        if *quoted {
                            current.get_or_insert_default().push_str(&value);
                            continue;
                        }
                        if value.starts_with([' ', '\t', '\n']) {
                            done.extend(current.take());
                        }
                        for (index, part) in value.split_ascii_whitespace().enumerate() {
                            if index > 0 {
                                done.extend(current.take());
                            }
                            current.get_or_insert_default().push_str(part);
                        }
                        if value.ends_with([' ', '\t', '\n']) {
                            done.extend(current.take());
                        }
                    }
                }
            }
            done.extend(current);
        }
        Ok(done)
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.expanded_bytes += bytes + 16;
        if self.expanded_bytes > EXPANDED_BYTES {
            return Err(Error::Limit("expanded words in grub.cfg"));
        }
        Ok(())
    }

    fn value(&self, name: &str) -> String {
        match name {
            "?" => self.status.to_string(),
            "#" => self.arguments.len().to_string(),
            "*" | "@" => self.arguments.join(" "),
            _ if name.starts_with(|c: char| c.is_ascii_digit()) => {
                let index = name.parse::<usize>().unwrap_or(0);
                index.checked_sub(1).and_then(|index| self.arguments.get(index)).cloned().unwrap_or_default()
            }
            _ => self.get(name).unwrap_or("").to_string(),
        }
    }

    pub(super) fn load(&mut self, load: Load) {
        self.loaded = Some(load);
    }

    pub(super) fn add_initrd(&mut self, map: FileMap) -> Result<()> {
        let Some(load) = &mut self.loaded else { return Err(because!("an initrd without a kernel")) };
        if load.initrds.len() >= INITRDS {
            return Err(Error::Limit("initrds"));
        }
        load.initrds.push(map);
        Ok(())
    }
}

/// None: the loop goes on. Some(None): it ends. Some(flow): it ends, and so does what is around it.
fn after_body(flow: Flow) -> Option<Option<Flow>> {
    match flow {
        Flow::Next | Flow::Continue(0 | 1) => None,
        Flow::Break(0 | 1) => Some(None),
        Flow::Break(levels) => Some(Some(Flow::Break(levels - 1))),
        Flow::Continue(levels) => Some(Some(Flow::Continue(levels - 1))),
        Flow::Return | Flow::Boot => Some(Some(flow)),
    }
}

/// The entry that `default` means, and what remains for the submenu: an index, an id or a title, and `>` between levels
/// (`>>` is a `>` within a name).
fn pick<'d>(menu: &[Entry], default: &'d str) -> Option<(usize, &'d str)> {
    let bytes = default.as_bytes();
    let mut cut = bytes.len();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'>' {
            if bytes.get(at + 1) != Some(&b'>') {
                cut = at;
                break;
            }
            at += 1;
        }
        at += 1;
    }
    let (name, rest) = (&default[..cut], default.get(cut + 1..).unwrap_or(""));
    if let Ok(index) = name.trim().parse::<usize>()
        && index < menu.len()
    {
        return Some((index, rest));
    }
    let name = name.replace(">>", ">");
    menu.iter().position(|entry| entry.title == name || entry.id == name).map(|index| (index, rest))
}
