//! `solostack network`: what the subcommands do, as text.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::change::read_checked;
use super::{CONFIRM_WITHIN_S, Changes, Checked, Nic, Places, System, check_here, nics};

/// What is in force, why, and on which NICs.
#[must_use]
pub fn show(places: &Places, system: &dyn System) -> String {
    let changes = Changes::new(places, system);
    let status = changes.status();
    let mut text = String::new();
    if status.in_force.is_empty() {
        text.push_str("every wired NIC uses DHCP\n");
    } else {
        text.push_str(&status.in_force);
    }
    if let Some(left) = status.waits_s {
        let _ = writeln!(text, "\nnot confirmed: the settings before return in {left} s (solostack network confirm)");
    }
    if let Some(note) = status.note {
        let _ = writeln!(text, "\n{}", crate::plain(&note));
    }
    text.push('\n');
    for nic in changes.nics() {
        text.push_str(&line(&nic));
    }
    text
}

fn line(nic: &Nic) -> String {
    let link = match (nic.has_link, nic.speed_mbps) {
        (false, _) => "no link".to_owned(),
        (true, None) => "link".to_owned(),
        (true, Some(speed)) => format!("{speed} Mbit/s"),
    };
    let addresses: Vec<String> = nic.addresses.iter().map(ToString::to_string).collect();
    let bond = nic.bond.as_ref().map(|bond| format!(" in {}", crate::plain(bond))).unwrap_or_default();
    format!("{:<16} {}  {link}{bond}  {}\n", crate::plain(&nic.name), nic.mac_text(), addresses.join(" "))
}

/// The settings of a file, checked as well as this machine can, with notes.
///
/// # Errors
/// Everything that is wrong.
pub fn check_file(places: &Places, file: &Path) -> Result<(Checked, Vec<String>), String> {
    if !file.is_file() {
        return Err(format!("{} is not there", file.display()));
    }
    let checked = read_checked(file).map_err(|problems| problems.join("\n"))?;
    let (problems, notes) = check_here(&checked, &nics(places, &[]));
    if problems.is_empty() { Ok((checked, notes)) } else { Err(problems.join("\n")) }
}

/// For a minute; a watcher of its own returns them.
///
/// # Errors
/// Why not.
pub fn apply(places: &Places, system: &dyn System, file: &Path) -> Result<String, String> {
    let (checked, _) = check_file(places, file)?;
    let applied = Changes::new(places, system).apply(&checked)?;
    let mut text = noted(&applied.notes);
    let _ = writeln!(
        text,
        "in force; without `solostack network confirm` within {CONFIRM_WITHIN_S} s the settings before return"
    );
    Ok(text)
}

/// The operator's file, for good.
///
/// # Errors
/// Why not; the old settings then are in force.
pub fn settle(places: &Places, system: &dyn System) -> Result<String, String> {
    let checked = read_checked(&places.config()).map_err(|problems| problems.join("\n"))?;
    let applied = Changes::new(places, system).settle(&checked)?;
    Ok(noted(&applied.notes) + "in force\n")
}

fn noted(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {note}\n")).collect()
}

/// # Errors
/// When nothing waits.
pub fn confirm(places: &Places, system: &dyn System) -> Result<String, String> {
    Changes::new(places, system).confirm()?;
    Ok(format!("confirmed, and written to {}\n", places.config().display()))
}

/// # Errors
/// When nothing waits.
pub fn give_back(places: &Places, system: &dyn System) -> Result<String, String> {
    Changes::new(places, system).give_back()?;
    Ok("the settings before are in force again\n".to_owned())
}

/// Until nothing waits any more.
///
/// # Errors
/// When the old settings cannot be put into force, again and again.
pub fn watch(places: &Places, system: &dyn System) -> Result<String, String> {
    const TRIES: u32 = 60;
    let (_never, wait) = std::sync::mpsc::channel::<()>();
    let mut failures = 0;
    loop {
        let changes = Changes::new(places, system);
        match changes.tick() {
            Ok(()) if changes.status().waits_s.is_none() => return Ok(String::new()),
            Ok(()) => failures = 0,
            Err(reason) if failures >= TRIES => return Err(reason),
            Err(_) => failures += 1,
        }
        let _ = wait.recv_timeout(Duration::from_millis(500));
    }
}
