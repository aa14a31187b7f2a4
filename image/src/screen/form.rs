//! The form for network settings: one NIC, by DHCP or with fixed addresses, and the name servers.

use config::{Config, NetworkSettings};
use toml_edit::{Array, DocumentMut, value};

use super::keys::Key;
use crate::network::{Checked, Nic, NicId, check, section, to_toml};

/// Longer than any list of addresses that fits on a screen.
const LONGEST: usize = 200;

/// Where the cursor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Nic,
    Kind,
    Addresses,
    Gateways,
    Dns,
    Apply,
}

const FIELDS: [Field; 6] = [Field::Nic, Field::Kind, Field::Addresses, Field::Gateways, Field::Dns, Field::Apply];

/// What is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Those that may be chosen: hardware that is in no bond.
    pub nics: Vec<Nic>,
    pub nic: usize,
    pub fixed: bool,
    pub addresses: String,
    pub gateways: String,
    pub dns: String,
    pub at: Field,
    /// Why it was not taken.
    pub problems: Vec<String>,
}

/// What a key means for the form as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    Close,
    Apply(Box<Checked>),
}

impl Form {
    #[must_use]
    pub fn new(nics: &[Nic], config: &Config) -> Self {
        let nics: Vec<Nic> = nics.iter().filter(|nic| nic.physical && nic.bond.is_none()).cloned().collect();
        // The one with a cable is the one that is meant, most likely.
        let nic = nics.iter().position(|nic| nic.has_link).unwrap_or(0);
        let mut form = Self {
            nics,
            nic,
            fixed: false,
            addresses: String::new(),
            gateways: String::new(),
            dns: words(&config.network_settings.dns_servers),
            at: Field::Nic,
            problems: Vec::new(),
        };
        form.fill_in(&config.network_settings);
        form
    }

    /// What the chosen NIC has now.
    fn fill_in(&mut self, settings: &NetworkSettings) {
        let link = self.nics.get(self.nic).and_then(|nic| Some(&settings.interfaces[&section_of(settings, nic)?]));
        self.fixed = link.is_some_and(|link| !link.addresses.is_empty());
        self.addresses = link.map(|link| words(&link.addresses)).unwrap_or_default();
        self.gateways = link.map(|link| words(&link.gateways)).unwrap_or_default();
    }

    /// Whether a field can be reached now.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.fixed || !matches!(field, Field::Addresses | Field::Gateways)
    }

    pub fn key(&mut self, key: Key, config: &Config) -> Asked {
        match (key, self.at) {
            (Key::Esc, _) => return Asked::Close,
            (Key::Enter, Field::Apply) => return self.apply(config),
            (Key::Tab | Key::Down | Key::Enter, _) => self.step(1),
            (Key::BackTab | Key::Up, _) => self.step(FIELDS.len() - 1),
            (Key::Left | Key::Right | Key::Char(' '), Field::Nic) if !self.nics.is_empty() => {
                let by = if key == Key::Left { self.nics.len() - 1 } else { 1 };
                self.nic = (self.nic + by) % self.nics.len();
                self.fill_in(&config.network_settings);
            }
            (Key::Left | Key::Right | Key::Char(' '), Field::Kind) => self.fixed = !self.fixed,
            (Key::Char(c), at) if c == ' ' || c.is_ascii_graphic() => {
                if let Some(text) = self.text(at)
                    && text.len() < LONGEST
                {
                    text.push(c);
                }
            }
            (Key::Backspace, at) => {
                if let Some(text) = self.text(at) {
                    text.pop();
                }
            }
            _ => (),
        }
        Asked::Nothing
    }

    fn text(&mut self, at: Field) -> Option<&mut String> {
        match at {
            Field::Addresses => Some(&mut self.addresses),
            Field::Gateways => Some(&mut self.gateways),
            Field::Dns => Some(&mut self.dns),
            _ => None,
        }
    }

    fn step(&mut self, by: usize) {
        let mut at = FIELDS.iter().position(|field| *field == self.at).unwrap_or(0);
        loop {
            at = (at + by) % FIELDS.len();
            if self.has(FIELDS[at]) {
                self.at = FIELDS[at];
                return;
            }
        }
    }

    fn apply(&mut self, config: &Config) -> Asked {
        match self.settings(config) {
            Ok(checked) => Asked::Apply(Box::new(checked)),
            Err(problems) => {
                self.problems = problems;
                Asked::Nothing
            }
        }
    }

    /// The settings in force with what is filled in.
    fn settings(&self, config: &Config) -> Result<Checked, Vec<String>> {
        let Some(nic) = self.nics.get(self.nic) else {
            return Err(vec!["this machine has no wired NIC that could be set".into()]);
        };
        if self.fixed && self.addresses.trim().is_empty() {
            return Err(vec!["a fixed address is missing, such as 192.0.2.10/24".into()]);
        }
        let mut settings = config.network_settings.clone();
        let id = section_of(&settings, nic).unwrap_or_else(|| nic.name.clone());
        let link = settings.interfaces.entry(id.clone()).or_default();
        (link.addresses, link.gateways, link.dhcp) = (Vec::new(), Vec::new(), config::Dhcp::Auto);
        if *link == config::Link::default() && !self.fixed {
            settings.interfaces.remove(&id);
        }
        settings.dns_servers.clear();
        // What people type goes through the reader of the file, whose words for mistakes they know.
        let mut document: DocumentMut = to_toml(&settings).parse().map_err(|error| vec![format!("{error}")])?;
        let list = |text: &str| value(Array::from_iter(text.split([' ', ',']).filter(|word| !word.is_empty())));
        if !self.dns.trim().is_empty() {
            document["network_settings"]["dns_servers"] = list(&self.dns);
        }
        if self.fixed {
            document["network_settings"]["interface"][&id]["addresses"] = list(&self.addresses);
            document["network_settings"]["interface"][&id]["gateways"] = list(&self.gateways);
        }
        let network_settings = section(&document.to_string())?;
        check(&Config { network_settings, ..config.clone() })
    }
}

fn words<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// By which id the settings know a NIC.
fn section_of(settings: &NetworkSettings, nic: &Nic) -> Option<String> {
    let is_it = |id: &&String| match NicId::parse(id) {
        Ok(NicId::Mac(mac)) => mac == nic.mac,
        Ok(NicId::Name(name)) => name == nic.name,
        Err(_) => false,
    };
    settings.interfaces.keys().find(is_it).cloned()
}
