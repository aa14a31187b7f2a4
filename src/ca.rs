//! `solostack ca`: what clients must trust, and who signs.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::listen;
use crate::place::Where;
use crate::serve::Failure;

/// The certificate authority, from the command line.
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Show what clients must trust, who signs, and for which names.
    Show {
        #[command(flatten)]
        place: Where,
        /// Print only the certificate that clients must trust, as PEM.
        #[arg(long)]
        pem: bool,
    },
    /// Sign with your own intermediate from now on. A running `serve` follows within seconds.
    Import {
        #[command(flatten)]
        place: Where,
        /// The intermediate's certificate, PEM; the rest of its chain may be in the file too.
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// Its private key, PEM, not encrypted.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Its root, PEM, if it is not in the file of `--cert`.
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
    /// Return from an imported intermediate to the built-in one. A running `serve` follows within seconds.
    Reset {
        #[command(flatten)]
        place: Where,
    },
}

/// # Errors
/// What cannot be read, or is refused, in words for the operator.
pub fn run(command: Ca, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Ca::Show { place, pem } => {
            let setup = tls::Setup::in_state_dir(&place.load()?.state_dir);
            if !setup.is_made() {
                return Err(
                    format!("{} holds no authority yet; the first `serve` makes it", setup.dir.display()).into()
                );
            }
            let authority = tls::Authority::open(setup)?;
            if pem { write!(out, "{}", authority.ca_pem())? } else { show(&authority, out)? }
        }
        Ca::Import { place, cert, key, root } => {
            let config = place.load()?;
            let read =
                |path: &PathBuf| read_bounded(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
            let (cert, key) = (read(&cert)?, read(&key)?);
            let root = root.as_ref().map(read).transpose()?;
            let setup = tls::Setup::in_state_dir(&config.state_dir);
            // A brought intermediate that was damaged since must not keep its replacement out.
            if let Err(tls::Error::ImportDamaged { .. }) = tls::Authority::open(setup.clone()) {
                tls::Authority::reset_import(&setup)?;
            }
            let authority = tls::Authority::open(setup)?;
            // Before the first `serve`, nobody has said yet what this machine is called.
            if authority.names() == tls::Names::local() || config.public_host.is_some() {
                authority.set_names(tls::Names::of_this_machine(Some(&listen::public_host(&config)))?)?;
            }
            authority.import_intermediate(&cert, &key, root.as_deref())?;
            writeln!(out, "imported; a running `solostack serve` follows within seconds\n")?;
            show(&authority, out)?;
        }
        Ca::Reset { place } => {
            let setup = tls::Setup::in_state_dir(&place.load()?.state_dir);
            let was_imported = tls::Authority::reset_import(&setup)?;
            if !setup.is_made() || !was_imported {
                return Err("no intermediate was imported; nothing to return from".into());
            }
            let authority = tls::Authority::open(setup)?;
            writeln!(
                out,
                "the built-in intermediate signs again; a running `solostack serve` follows within seconds\n"
            )?;
            show(&authority, out)?;
        }
    }
    Ok(())
}

/// A certificate or key file; the limit is far above any, so that a wrong path cannot fill the memory.
fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(1 << 20).read_to_string(&mut text)?;
    Ok(text)
}

fn show(authority: &tls::Authority, out: &mut dyn Write) -> std::io::Result<()> {
    let status = authority.status();
    let kind = if status.ca_is_root { "" } else { " (not a root: clients must have its root already)" };
    writeln!(out, "clients must trust  {}{kind}", status.ca_subject)?;
    writeln!(out, "  SHA-256           {}", status.ca_fingerprint)?;
    writeln!(out, "  until             {}", status.ca_not_after)?;
    let whose = if status.imported { "imported" } else { "built in" };
    writeln!(out, "signed by           {} ({whose})", status.issuer_subject)?;
    writeln!(out, "  until             {}", status.issuer_not_after)?;
    writeln!(out, "names               {}", status.names.join(" "))?;
    if !status.left_out.is_empty() {
        writeln!(out, "  left out          {} (excluded by name constraints)", status.left_out.join(" "))?;
    }
    if let Some(problem) = status.problem {
        writeln!(out, "problem             {problem}")?;
    }
    Ok(())
}
