//! A preseed: keys of `solostack.toml` as everywhere, and one section that is for the first boot alone.
//!
//! ```toml
//! public_host = "cloud.example.org"
//! [machine]
//! hostname = "cloud"
//! [first_boot]
//! admin_password_hash = "$argon2id$v=19$m=65536,t=3,p=4$..."
//! ```

use std::{fmt::Write, path::Path};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use toml::Spanned;

use super::Check;

const SECTION: &str = "first_boot";
const SHORTEST: usize = 8;
const LONGEST: usize = 4096;
/// 256 MiB and 64 passes: more would only stop the machine at each login.
const MEMORY_KIB_MAX: u32 = 1 << 18;
const PASSES_MAX: u32 = 64;

/// What a preseed says, checked.
#[derive(Debug)]
pub(super) struct Preseed {
    /// Without the section of the first boot.
    pub config: toml::Table,
    pub admin_hash: Option<String>,
    /// A file on the same medium.
    pub restore: Option<String>,
}

#[derive(Deserialize)]
struct Whole {
    #[serde(default)]
    first_boot: Section,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    admin_password_hash: Option<Spanned<String>>,
    admin_password: Option<Spanned<String>>,
    restore: Option<Spanned<String>>,
}

/// Everything that is wrong with a preseed, each with its line.
pub(super) fn check(bytes: &[u8], root: &Path, check: &Check<'_>) -> Result<Preseed, Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|_| vec!["it is no UTF-8 text".to_owned()])?;
    let mut problems = Vec::new();
    match config::resolve_beside(text, SECTION) {
        Ok(config) => {
            problems.extend(check(&config));
            if config.state_dir != config::Config::default().state_dir {
                problems.push("state_dir: in the appliance it is where it is".to_owned());
            }
            if let Some(zone) = &config.machine.timezone {
                let zones = root.join("usr/share/zoneinfo");
                if zones.is_dir() && !zones.join(zone).is_file() {
                    problems.push(format!("machine.timezone: there is no time zone {zone}"));
                }
            }
        }
        Err(found) => problems.extend(found.into_iter().map(|problem| match problem.line {
            Some(line) => format!("line {line}: {}", problem.text),
            None => problem.text,
        })),
    }
    // What is no TOML was said above.
    let Ok(mut config) = text.parse::<toml::Table>() else { return Err(problems) };
    config.remove(SECTION);
    let section = match toml::from_str::<Whole>(text) {
        Ok(whole) => whole.first_boot,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            problems.push(format!("line {}: {SECTION}: {}", line(text, at), error.message().trim()));
            Section::default()
        }
    };
    let mut refuse = |key: &str, at: &Spanned<String>, reason: &str| {
        problems.push(format!("line {}: {SECTION}.{key}: {reason}", line(text, at.span().start)));
    };
    if let Some(hash) = &section.admin_password_hash {
        if let Some(plain) = &section.admin_password {
            refuse("admin_password", plain, "admin_password_hash is there too; one of them says it");
        }
        if let Err(reason) = check_hash(hash.get_ref()) {
            refuse("admin_password_hash", hash, reason);
        }
    }
    if let Some(plain) = &section.admin_password
        && !(plain.get_ref().chars().count() >= SHORTEST && plain.get_ref().len() <= LONGEST)
    {
        refuse("admin_password", plain, "it has fewer than 8 characters, or more than 4096 bytes");
    }
    if let Some(file) = &section.restore
        && !is_below(file.get_ref())
    {
        refuse("restore", file, "it is no path on the same medium, such as solostack.backup");
    }
    if let (Some(file), true) =
        (&section.restore, section.admin_password_hash.is_some() || section.admin_password.is_some())
    {
        refuse("restore", file, "the restored cloud has its administrator already: leave the password out");
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let admin_hash = match (section.admin_password_hash, section.admin_password) {
        (Some(hash), _) => Some(hash.into_inner()),
        (None, Some(plain)) => Some(hash_of(plain.get_ref()).map_err(|reason| vec![reason])?),
        (None, None) => None,
    };
    Ok(Preseed { config, admin_hash, restore: section.restore.map(Spanned::into_inner) })
}

fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn is_below(file: &str) -> bool {
    use std::path::Component;
    !file.is_empty()
        && !file.contains('\0')
        && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

/// As Identity reads it: `$argon2id$v=19$m=..,t=..,p=..$salt$32 bytes`.
fn check_hash(hash: &str) -> Result<(), &'static str> {
    const FORM: &str = "it is no argon2id hash such as $argon2id$v=19$m=65536,t=3,p=4$<salt>$<32 bytes>";
    let mut parts = hash.split('$');
    let mut next = || parts.next().ok_or(FORM);
    if (next()?, next()?, next()?) != ("", "argon2id", "v=19") {
        return Err(FORM);
    }
    let mut numbers = next()?.split(',').map(|pair| pair.split_once('='));
    let mut number = |name: &str| numbers.next()?.filter(|(key, _)| *key == name)?.1.parse::<u32>().ok();
    let (memory, passes, lanes) = (number("m").ok_or(FORM)?, number("t").ok_or(FORM)?, number("p").ok_or(FORM)?);
    let salt = STANDARD_NO_PAD.decode(next()?).map_err(|_| FORM)?;
    let output = STANDARD_NO_PAD.decode(next()?).map_err(|_| FORM)?;
    if output.len() != 32 || salt.len() < 8 || next().is_ok() {
        return Err(FORM);
    }
    Params::new(memory, passes, lanes, Some(32)).map_err(|_| FORM)?;
    if memory > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > 64 {
        return Err("it asks for more than 256 MiB, 64 passes or 64 lanes");
    }
    Ok(())
}

/// With Identity's own parameters.
fn hash_of(password: &str) -> Result<String, String> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| "there are no random numbers")?;
    let params = Params::new(19_456, 2, 1, Some(32)).map_err(|error| error.to_string())?;
    let mut output = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), &salt, &mut output)
        .map_err(|error| error.to_string())?;
    let mut hash = String::from("$argon2id$v=19$m=19456,t=2,p=1$");
    let _ = write!(hash, "{}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
    Ok(hash)
}
