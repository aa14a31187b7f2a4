//! Settings as TOML, and their place in the operator's file, whose other lines and comments stay as they are.

use config::{Bond, Link, NetworkSettings, Vlan};
use toml_edit::{Array, DocumentMut, Item, Table, value};

const SECTION: &str = "network_settings";

/// A file with nothing but these settings.
#[must_use]
pub fn to_toml(settings: &NetworkSettings) -> String {
    let mut document = DocumentMut::new();
    insert(&mut document, settings);
    document.to_string()
}

/// The settings of a file of which all else may be wrong.
///
/// # Errors
/// What is wrong with the file as a whole, or with that section.
pub fn section(text: &str) -> Result<NetworkSettings, Vec<String>> {
    let mut document: DocumentMut = text.parse().map_err(|error| vec![not_toml(&error)])?;
    let mut alone = DocumentMut::new();
    if let Some(item) = document.remove(SECTION) {
        alone.insert(SECTION, item);
    }
    let config = config::resolve(&alone.to_string(), &[]);
    // The lines are those of a text that nobody sees.
    config.map(|config| config.network_settings).map_err(|problems| problems.into_iter().map(|p| p.text).collect())
}

/// The operator's file with other settings in it.
///
/// # Errors
/// When the file is no TOML, or would not say what it should.
pub fn replaced(text: &str, settings: &NetworkSettings) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| not_toml(&error))?;
    document.remove(SECTION);
    insert(&mut document, settings);
    let new = document.to_string();
    let said = section(&new).map_err(|problems| problems.join("; "))?;
    let same_else = match (config::resolve(text, &[]), config::resolve(&new, &[])) {
        (Ok(mut old), Ok(new)) => {
            old.network_settings = new.network_settings.clone();
            old == new
        }
        (Ok(_), Err(_)) => false,
        // What was wrong with the rest may be wrong still.
        (Err(_), _) => true,
    };
    if said == *settings && same_else {
        Ok(new)
    } else {
        Err("the file cannot be changed by a program; edit it".into())
    }
}

fn not_toml(error: &toml_edit::TomlError) -> String {
    format!("not TOML: {}", error.message().trim())
}

fn insert(document: &mut DocumentMut, settings: &NetworkSettings) {
    if *settings == NetworkSettings::default() {
        return;
    }
    let mut table = Table::new();
    table.set_implicit(true);
    let list = |table: &mut Table, key: &str, texts: Vec<String>| {
        if !texts.is_empty() {
            table.insert(key, value(Array::from_iter(texts)));
        }
    };
    list(&mut table, "dns_servers", settings.dns_servers.iter().map(ToString::to_string).collect());
    list(&mut table, "search_domains", settings.search_domains.clone());
    list(&mut table, "ntp_servers", settings.ntp_servers.clone());
    let mut group = |name: &str, sections: Vec<(&String, Table)>| {
        if sections.is_empty() {
            return;
        }
        let mut all = Table::new();
        all.set_implicit(true);
        for (id, section) in sections {
            all.insert(id, Item::Table(section));
        }
        table.insert(name, Item::Table(all));
    };
    group("interface", settings.interfaces.iter().map(|(id, link)| (id, link_table(Table::new(), link))).collect());
    group("bond", settings.bonds.iter().map(|(id, bond)| (id, bond_table(bond))).collect());
    group("vlan", settings.vlans.iter().map(|(id, vlan)| (id, vlan_table(vlan))).collect());
    document.insert(SECTION, Item::Table(table));
}

fn link_table(mut table: Table, link: &Link) -> Table {
    table.insert("dhcp", value(link.dhcp.as_str()));
    if !link.addresses.is_empty() {
        table.insert("addresses", value(Array::from_iter(link.addresses.iter().map(ToString::to_string))));
    }
    if !link.gateways.is_empty() {
        table.insert("gateways", value(Array::from_iter(link.gateways.iter().map(ToString::to_string))));
    }
    if let Some(mtu) = link.mtu {
        table.insert("mtu", value(i64::from(mtu)));
    }
    table
}

fn bond_table(bond: &Bond) -> Table {
    let mut table = Table::new();
    table.insert("members", value(Array::from_iter(bond.members.clone())));
    table.insert("mode", value(bond.mode));
    if let Some(primary) = &bond.primary {
        table.insert("primary", value(primary.as_str()));
    }
    table.insert("lacp_rate", value(bond.lacp_rate));
    table.insert("hash", value(bond.hash));
    table.insert("monitor_ms", value(i64::from(bond.monitor_ms)));
    link_table(table, &bond.link)
}

fn vlan_table(vlan: &Vlan) -> Table {
    let mut table = Table::new();
    table.insert("parent", value(vlan.parent.as_str()));
    table.insert("id", value(i64::from(vlan.id)));
    link_table(table, &vlan.link)
}
