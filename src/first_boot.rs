//! `solostack first-boot`: before `serve`, at every boot of the appliance.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use appliance::{
    first_boot::{Outcome, Setup},
    network::{self, Places, ThisSystem},
};
use clap::Args;

use crate::serve::Failure;

#[derive(Debug, Args)]
pub struct Arguments {
    /// What stands for `/`.
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
    /// Where an OpenStack cloud answers its servers.
    #[arg(long, value_name = "URL", hide = true, default_value = "http://169.254.169.254")]
    metadata: String,
}

/// Applies a preseed, if there is one and none was applied before; names the machine.
///
/// # Errors
/// What is wrong with the preseed, or with the configuration.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let root = match arguments.root {
        Some(root) => std::path::absolute(root)?,
        None if appliance::version().is_some() => PathBuf::from("/"),
        None => return Err(format!("this is not the appliance: there is no {}", appliance::MARK).into()),
    };
    let check = |config: &config::Config| network::check(config).err().unwrap_or_default();
    let restore = |file: &Path, state: &Path| match appliance::restore::at_first_boot(file, state) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    let setup = Setup { root, metadata: arguments.metadata, check: &check, restore: &restore };
    let applied = setup.run();
    match &applied {
        Ok(Outcome::Applied(source)) => writeln!(out, "applied the preseed of {source}")?,
        Ok(Outcome::Before) => writeln!(out, "a preseed was applied before")?,
        Ok(Outcome::Over) => writeln!(out, "the cloud has its administrator: no preseed is looked for")?,
        Ok(Outcome::None) => writeln!(out, "there is no preseed")?,
        // The machine gets its name all the same.
        Err(_) => (),
    }
    let file = setup.config_file();
    let config = config::load(file.exists().then_some(file.as_path()), &[])?;
    let named = setup.name_machine(&config);
    if matches!(applied, Ok(Outcome::Applied(_)))
        && setup.root == Path::new("/")
        && let Err(reason) = network::settle(&Places::under("/"), &ThisSystem::default())
    {
        // They are in the configuration: the next boot begins with them.
        writeln!(out, "the network settings are not in force yet: {reason}")?;
    }
    applied.map_err(|reason| format!("the preseed is not applied: {reason}"))?;
    Ok(named?)
}
