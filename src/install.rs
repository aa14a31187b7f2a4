//! `solostack install`: from the medium that the appliance was started from to a disk of the machine.

use std::io::{BufRead, Write};
use std::path::Path;

use appliance::install::{Disk, Disks, Holds, Plan, asked_by_kernel, install};
use appliance::points::Points;
use appliance::update::Mounted;

use crate::serve::Failure;

const STATE: &str = "/var/lib/solostack";
const COMMAND_LINE: &str = "/proc/cmdline";

#[derive(Debug, clap::Args)]
pub struct Install {
    /// The disk, as in `sda` or `/dev/disk/by-id/...` [default: asks].
    #[arg(value_name = "DISK")]
    disk: Option<String>,
    /// Show the disks of this machine, and which of them would be taken.
    #[arg(long, conflicts_with_all = ["disk", "yes"])]
    list: bool,
    /// Do not ask: everything on that disk is lost.
    #[arg(long, requires = "disk")]
    yes: bool,
    /// The disk is named on the kernel's command line, and must be empty: started by systemd.
    #[arg(long, hide = true, conflicts_with_all = ["disk", "yes", "list"])]
    asked_by_kernel: bool,
}

/// # Errors
/// Why not, in words for who stands before the machine.
pub fn run(asked: Install, answers: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(version) = appliance::version() else {
        return Err("this is not the appliance: it is installed by its image (README.md)".into());
    };
    let disks = Disks::this()?;
    if asked.list {
        return list(&disks, out);
    }
    let disk = match (&asked.disk, asked.asked_by_kernel) {
        (_, true) => by_kernel(&disks, &std::fs::read_to_string(COMMAND_LINE)?)?,
        (Some(name), false) => disks.find(name)?,
        (None, false) => {
            list(&disks, out)?;
            disks.find(&ask("Which disk? ", answers, out)?)?
        }
    };
    if !asked.yes && !asked.asked_by_kernel {
        confirm(&disk, answers, out)?;
    }
    let source = Path::new("/dev").join(&disks.running);
    let plan = {
        let medium = Mounted::to_look(Path::new(STATE))?;
        let versions: Vec<String> = medium.machine.esp.entries()?.into_iter().map(|entry| entry.version).collect();
        Plan::new(&source, &version, &versions)?
    };
    copy(&plan, &disks, &disk, out)?;
    writeln!(out, "version {version} is on {}: take the medium away and start the machine again", disk.name)?;
    Ok(())
}

fn by_kernel(disks: &Disks, command_line: &str) -> Result<Disk, Failure> {
    let Some(name) = asked_by_kernel(command_line) else {
        return Err("the kernel's command line names no disk, as in solostack.install=/dev/sda".into());
    };
    let disk = disks.find(name)?;
    if disk.holds != Holds::Nothing {
        // Who forgets the word there would lose the cloud at the next start.
        return Err(format!(
            "{} is not empty ({}): without a question only an empty disk is taken",
            disk.name,
            disk.holds.words()
        )
        .into());
    }
    Ok(disk)
}

fn copy(plan: &Plan, disks: &Disks, disk: &Disk, out: &mut dyn Write) -> Result<(), Failure> {
    let (total, mut told) = (plan.bytes().max(1), 0);
    writeln!(out, "version {} goes to {}", plan.version, disk.name)?;
    let mut progress = |done: u64| {
        let tenths = done * 10 / total;
        if tenths > told {
            told = tenths;
            // Nobody may be there to read it any more.
            let _ = writeln!(out, "{}%", tenths * 10).and_then(|()| out.flush());
        }
    };
    Ok(install(plan, disks, disk, &Points::default(), &mut progress)?)
}

fn list(disks: &Disks, out: &mut dyn Write) -> Result<(), Failure> {
    let found = disks.list()?;
    if found.is_empty() {
        writeln!(out, "this machine has no other disk than the medium that it runs from ({})", disks.running)?;
    }
    for disk in &found {
        let why = disk.reason.as_ref().map(|reason| format!("; not taken: {reason}")).unwrap_or_default();
        writeln!(out, "{}{why}", disk.line())?;
    }
    Ok(())
}

fn ask(question: &str, answers: &mut dyn BufRead, out: &mut dyn Write) -> Result<String, Failure> {
    write!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::Read::take(answers, 256).read_line(&mut answer)?;
    match answer.trim() {
        "" => Err("nothing was answered, nothing was changed".into()),
        answer => Ok(answer.to_owned()),
    }
}

fn confirm(disk: &Disk, answers: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{}\nEverything on it will be lost.", disk.line())?;
    let answer = ask(&format!("Type {} to go on: ", disk.name), answers, out)?;
    if answer != disk.name {
        return Err("that is another name: nothing was changed".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(holds: Holds) -> Disk {
        Disk { name: "sda".into(), model: "Fast 9000".into(), bytes: 500_000_000_000, holds, reason: None }
    }

    #[test]
    fn only_the_disks_own_name_lets_everything_on_it_be_lost() {
        let with = |answer: &str| {
            let mut out = Vec::new();
            let done = confirm(&disk(Holds::Partitions(vec!["photos".into()])), &mut answer.as_bytes(), &mut out);
            (done.is_ok(), String::from_utf8(out).unwrap())
        };
        let (done, said) = with("sda\n");
        assert!(done && said.contains("Fast 9000, 500 GB, has partitions: photos"), "{said}");
        for other in ["yes\n", "sdb\n", "\n", "", "SDA\n", "sda1\n"] {
            assert!(!with(other).0, "{other:?}");
        }
    }
}
