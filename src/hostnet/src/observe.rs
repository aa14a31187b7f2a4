//! What of this instance exists.

use std::fs;

use crate::netfilter::Netfilter;
use crate::netlink::Netlink;
use crate::worker::on_own_thread;
use crate::{Error, Id, Inner, Observed, ObservedNamespace, Result, dhcp, external, namespace, process};

pub(crate) fn observe(host: &Inner) -> Result<Observed> {
    let mut seen = Observed::default();
    for entry in namespace::list(host)? {
        let Some(namespace) = entry.namespace else {
            seen.remains.push(entry.name);
            continue;
        };
        let inside = on_own_thread("observing a namespace", || {
            namespace::enter(&namespace)?;
            let mut netlink = Netlink::open()?;
            if !namespace::is_ours(host, &mut netlink)? {
                return Ok(None);
            }
            let mut inside = ObservedNamespace::default();
            for link in netlink.links()? {
                match link.kind.as_str() {
                    "tun" => inside.taps.push(link.name),
                    "veth" => inside.veths.push(link.name),
                    "bridge" => inside.bridges.push(link.name),
                    _ => {}
                }
            }
            let tables = Netfilter::open()?.tables()?;
            inside.tables = tables.into_iter().map(|(family, name)| format!("{family} {name}")).collect();
            Ok(Some(inside))
        })?;
        let Some(mut inside) = inside else { continue };
        for names in [&mut inside.taps, &mut inside.veths, &mut inside.bridges, &mut inside.tables] {
            names.sort();
        }
        if entry.is_router {
            seen.routers.insert(entry.id, inside);
        } else {
            seen.networks.insert(entry.id, inside);
        }
    }
    let mut netlink = Netlink::open()?;
    seen.host_links = external::links(host, &mut netlink)?.into_iter().map(|(_, name)| name).collect();
    seen.host_tables = external::tables(host)?;
    seen.dnsmasq = process::all(host);
    for id in directories(host)? {
        if !seen.networks.contains_key(&id) && !seen.routers.contains_key(&id) {
            seen.remains.push(host.files.join(id.to_string()).display().to_string());
        }
    }
    seen.remains.sort();
    Ok(seen)
}

fn directories(host: &Inner) -> Result<Vec<Id>> {
    let failed = |e| Error::io(format!("listing {}", host.files.display()), e);
    let mut found = Vec::new();
    match fs::read_dir(&host.files) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
        Ok(entries) => {
            for entry in entries {
                found.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse::<Id>().ok()));
            }
        }
    }
    Ok(found)
}

/// Half-made namespaces, and servers whose namespace somebody else removed.
pub(crate) fn remove_remains(host: &Inner) -> Result<()> {
    for entry in namespace::list(host)? {
        if entry.namespace.is_none() {
            namespace::remove(host, &entry.name)?;
        }
    }
    for id in directories(host)? {
        dhcp::stop(host, id)?;
    }
    match fs::remove_dir(&host.files) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", host.files.display()), e))
        }
        _ => Ok(()),
    }
}
