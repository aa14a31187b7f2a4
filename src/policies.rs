//! The operator's policy files, `<state>/policy/<service type>.yaml`: read, followed, explained.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use policy::{Enforcer, Rule};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::access;
use crate::cloud::{self, Cloud, Layout};
use crate::place::Where;
use crate::serve::Failure;

/// Who may do what, from the command line.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// List the rules in force, of one service or of all.
    List {
        #[command(flatten)]
        place: Where,
        /// identity, image, placement, network, compute or solostack.
        service: Option<String>,
    },
    /// Show one rule: what it guards, its default, what is in force.
    Show {
        #[command(flatten)]
        place: Where,
        rule: String,
    },
    /// Check the files in `<state>/policy` and say what is wrong with them.
    Check {
        #[command(flatten)]
        place: Where,
    },
    /// Print a file with every rule of a service, its meaning and its default, to start an own file from.
    Sample { service: String },
    /// Say whether a user may, and which sub-check decided. Exit status 0: allowed, 1: denied.
    Explain(Explain),
}

/// A question to the rules.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Explain {
    #[command(flatten)]
    place: Where,
    rule: String,
    /// Id, or a name that only one user has.
    #[arg(long, value_name = "USER")]
    user: String,
    /// The scope of the token: a project by id or name.
    #[arg(long, value_name = "PROJECT", conflicts_with_all = ["domain", "system"])]
    project: Option<String>,
    /// The scope of the token: a domain by id or name.
    #[arg(long, value_name = "DOMAIN", conflicts_with = "system")]
    domain: Option<String>,
    /// The scope of the token: the system.
    #[arg(long)]
    system: bool,
    /// An attribute of what the rule is asked about, as in `project_id=5d1f...` or `target.user.id=...`.
    #[arg(long = "target", value_name = "KEY=VALUE", value_parser = key_and_value)]
    targets: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `false` where the answer is no.
///
/// # Errors
/// What cannot be read, or is wrong, in words for the operator.
pub fn run(command: Policy, out: &mut dyn Write) -> Result<bool, Failure> {
    match command {
        Policy::List { place, service } => {
            list(&Layout::of(&place.load()?).policy(), service.as_deref(), out)?;
        }
        Policy::Show { place, rule } => show(&Layout::of(&place.load()?).policy(), &rule, out)?,
        Policy::Check { place } => check(&Layout::of(&place.load()?).policy(), out)?,
        Policy::Sample { service } => {
            // The defaults alone: of no folder.
            write!(out, "{}", enforcer(Path::new("/nonexistent"), &service)?.sample_yaml())?;
        }
        Policy::Explain(asked) => {
            let config = asked.place.load()?;
            let scope = match (asked.project, asked.domain, asked.system) {
                (Some(project), _, _) => identity::ScopeName::Project(project),
                (_, Some(domain), _) => identity::ScopeName::Domain(domain),
                (_, _, true) => identity::ScopeName::System,
                _ => identity::ScopeName::Unscoped,
            };
            let view =
                cloud::identity(&config)?.policy_view(&asked.user, &scope).map_err(|error| access::explain(&error))?;
            let target = asked.targets.into_iter().map(|(key, value)| (key, Value::String(value)));
            let folder = Layout::of(&config).policy();
            return explain(&folder, &asked.rule, &view, &target.collect(), out);
        }
    }
    Ok(true)
}

/// Every service that has rules, by its type.
pub fn services() -> [(&'static str, Vec<Rule>); 6] {
    [
        ("identity", identity::rules()),
        ("image", images::rules()),
        ("placement", placement::rules()),
        ("network", network::rules()),
        ("compute", compute::rules()),
        ("solostack", system::rules()),
    ]
}

fn file(folder: &Path, kind: &str) -> PathBuf {
    folder.join(format!("{kind}.yaml"))
}

/// The text of each file that is there.
fn read(folder: &Path, kinds: impl IntoIterator<Item = &'static str>) -> HashMap<String, Result<String, String>> {
    let mut texts = HashMap::new();
    for kind in kinds {
        match std::fs::read_to_string(file(folder, kind)) {
            Ok(text) => texts.insert(kind.to_owned(), Ok(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => texts.insert(kind.to_owned(), Err(error.to_string())),
        };
    }
    texts
}

/// What the gateway starts with. A file that cannot be read is as a broken one: logged, and the defaults hold.
pub fn overrides(layout: &Layout) -> HashMap<String, String> {
    let mut texts = HashMap::new();
    for (kind, text) in read(&layout.policy(), services().map(|(kind, _)| kind)) {
        match text {
            Ok(text) => {
                texts.insert(kind, text);
            }
            Err(error) => tracing::error!(service = kind, %error, "policy file not read, the defaults stay"),
        }
    }
    texts
}

/// A row of `solostack doctor`. A broken file keeps the rules in force, which only a log says elsewhere.
pub fn health(config: &config::Config) -> doctor::Row {
    let folder = Layout::of(config).policy();
    let mut found = Vec::new();
    for (kind, _) in services() {
        match enforcer(&folder, kind) {
            Err(error) => {
                let advice = "mend the file; until then the rules before it are in force: solostack policy check";
                return doctor::Row::fail("policy files", error.to_string(), advice).unless(true);
            }
            Ok(enforcer) => {
                found.extend(enforcer.effective().iter().any(|(_, _, overridden)| *overridden).then_some(kind));
            }
        }
    }
    let text = if found.is_empty() { "none: every rule has its default".into() } else { found.join(", ") };
    doctor::Row::ok("policy files", text)
}

/// Looks at the files, and at Identity's keys, `every` so often, until `stop`. A broken file keeps the rules in force; it is logged once.
pub async fn follow(cloud: Arc<Cloud>, layout: Layout, every: Duration, stop: CancellationToken) {
    let kinds = services().map(|(kind, _)| kind);
    let mut before = read(&layout.policy(), kinds);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => (),
        }
        let folder = layout.policy();
        let Ok(now) = tokio::task::spawn_blocking(move || read(&folder, kinds)).await else { continue };
        for kind in kinds.into_iter().filter(|kind| now.get(*kind) != before.get(*kind)) {
            let loaded = match now.get(kind) {
                None => cloud.load_policy(kind, "").map_err(|error| error.to_string()),
                Some(Ok(text)) => cloud.load_policy(kind, text).map_err(|error| error.to_string()),
                Some(Err(error)) => Err(error.clone()),
            };
            match loaded {
                Ok(()) => tracing::info!(service = kind, "policy file loaded"),
                Err(error) => tracing::error!(service = kind, error, "policy file refused, the rules in force stay"),
            }
        }
        before = now;
        if let Err(error) = cloud.follow_keys() {
            tracing::error!(%error, "the keys of tokens cannot be followed, those in use stay");
        }
    }
}

/// A service's rules with the operator's overrides.
///
/// # Errors
/// What is wrong with the file.
pub fn enforcer(folder: &Path, kind: &str) -> Result<Enforcer, Failure> {
    let known = services();
    let (_, rules) = known.iter().find(|(own, _)| *own == kind).ok_or_else(|| {
        let kinds: Vec<&str> = known.iter().map(|(kind, _)| *kind).collect();
        format!("there is no service {kind}; there are {}", kinds.join(", "))
    })?;
    let enforcer = Enforcer::new(rules.iter().copied())?;
    let path = file(folder, kind);
    match std::fs::read_to_string(&path) {
        Ok(text) => enforcer.load_overrides(&text).map_err(|error| format!("{}: {error}", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{}: {error}", path.display()).into()),
    }
    Ok(enforcer)
}

/// The service whose rules have this name.
pub fn service_of(rule: &str) -> Option<&'static str> {
    services().into_iter().find(|(_, rules)| rules.iter().any(|own| own.name == rule)).map(|(kind, _)| kind)
}

/// Every rule in force of one service, or of all.
///
/// # Errors
/// A broken file, an unknown service.
pub fn list(folder: &Path, kind: Option<&str>, out: &mut dyn Write) -> Result<(), Failure> {
    let kinds: Vec<&str> = match kind {
        Some(kind) => vec![kind],
        None => services().map(|(kind, _)| kind).to_vec(),
    };
    for kind in kinds {
        for (name, check, overridden) in enforcer(folder, kind)?.effective() {
            let mark = if overridden { "*" } else { " " };
            writeln!(out, "{mark} {kind:<9}  {name}  {}", if check.is_empty() { "@" } else { &check })?;
        }
    }
    writeln!(out, "\n* is overridden by a file in {}", folder.display())?;
    Ok(())
}

/// One rule: what it guards, its default, what is in force.
///
/// # Errors
/// A broken file, an unknown rule.
pub fn show(folder: &Path, name: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let kind = service_of(name).ok_or_else(|| format!("no service has a rule {name}"))?;
    let known = services();
    let rule = known.iter().flat_map(|(_, rules)| rules).find(|rule| rule.name == name);
    let rule = rule.ok_or_else(|| format!("no service has a rule {name}"))?;
    writeln!(out, "{name} ({kind}): {}", rule.description)?;
    for (method, path) in rule.operations {
        writeln!(out, "  {method} {path}")?;
    }
    writeln!(out, "default   {}", if rule.check.is_empty() { "@" } else { rule.check })?;
    for (own, check, overridden) in enforcer(folder, kind)?.effective() {
        if own == name && overridden {
            writeln!(out, "in force  {check}")?;
        }
    }
    Ok(())
}

/// Reads every file, or one, and says what is wrong.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(folder: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let mut found = false;
    for (kind, _) in services() {
        let path = file(folder, kind);
        if !path.exists() {
            continue;
        }
        found = true;
        let warnings = enforcer(folder, kind)?.warnings();
        writeln!(out, "{}: fine", path.display())?;
        for warning in warnings {
            writeln!(out, "  {warning}")?;
        }
    }
    if !found {
        writeln!(out, "there is no policy file in {}: every rule has its default", folder.display())?;
    }
    Ok(())
}

/// Whether the rule lets these credentials do it to this target, with every sub-check that was asked.
///
/// # Errors
/// A broken file, an unknown rule.
pub fn explain(
    folder: &Path,
    name: &str,
    creds: &Map<String, Value>,
    target: &Map<String, Value>,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let kind = service_of(name).ok_or_else(|| format!("no service has a rule {name}"))?;
    let steps = enforcer(folder, kind)?.explain(name, creds, target).unwrap_or_default();
    let allowed = steps.first().is_some_and(|step| step.allowed);
    writeln!(out, "{name}: {}", if allowed { "allowed" } else { "denied" })?;
    for step in &steps {
        let word = if step.allowed { "yes" } else { "no " };
        writeln!(out, "{word}  {}{}", "  ".repeat(step.depth), step.check)?;
    }
    Ok(allowed)
}
