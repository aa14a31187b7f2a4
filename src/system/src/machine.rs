//! What the wiring tells this service about the machine it runs on.

use std::fmt::Debug;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

/// How well a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, with less, or not for long.
    Degraded,
    /// It does not work.
    Failed,
}

/// A part of the machine or of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub name: &'static str,
    pub state: State,
    /// What there is, and why the state is what it is.
    pub reason: String,
    /// What to do about it; null when all is well.
    pub advice: Option<String>,
    /// Numbers behind the words, by name; units in the names.
    pub facts: Map<String, Value>,
}

impl Part {
    /// A part that is well.
    #[must_use]
    pub fn ok(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, state: State::Ok, reason: reason.into(), advice: None, facts: Map::new() }
    }

    /// A part that is not.
    #[must_use]
    pub fn bad(name: &'static str, state: State, reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state, reason: reason.into(), advice: Some(advice.into()), facts: Map::new() }
    }

    /// With a number behind the words.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

/// A file of the support bundle.
#[derive(Debug)]
pub struct Document {
    pub name: &'static str,
    pub content: Vec<u8>,
}

/// The machine and the program, as the wiring knows them.
pub trait Machine: Send + Sync + Debug {
    /// How everything is that this service does not see itself: processor, memory, disk, driver, files of policy.
    fn parts(&self) -> BoxFuture<'_, Vec<Part>>;

    /// Whether users must say which domain they are of.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn several_domains(&self) -> rest::Result<bool>;

    /// What else belongs into a support bundle, without secrets. One after the other: each may take a while.
    fn documents(&self) -> Vec<BoxFuture<'_, Document>>;
}

/// Where a certificate stands in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Leaf,
    Intermediate,
    Root,
}

/// A certificate of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub place: Place,
    pub subject: String,
    pub issuer: String,
    pub names: Vec<String>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// SHA-256, colon hex.
    pub fingerprint: String,
    pub brought: bool,
}

/// What is served, and what vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The leaf first.
    pub certificates: Vec<Certificate>,
    /// Names of this machine that a brought intermediate's constraints exclude.
    pub left_out: Vec<String>,
    /// An intermediate of the operator's signs.
    pub brought: bool,
    /// Why clients may refuse what is served.
    pub problem: Option<String>,
}

/// Why a chain is not changed.
#[derive(Debug)]
pub enum Refused {
    /// In words for who sent it.
    ByReason(String),
    /// Not of the sender's making.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// The authority of this machine. Calls may block on files.
pub trait Certificates: Send + Sync + Debug {
    fn chain(&self) -> Chain;

    /// SHA-256 of what clients must trust.
    fn fingerprint(&self) -> String;

    /// A new leaf, in service when this returns.
    ///
    /// # Errors
    /// When none can be made.
    fn rotate(&self) -> Result<(), Refused>;

    /// The operator's intermediate signs from now on. `root` where it is not in `certificate`.
    ///
    /// # Errors
    /// What is wrong with the chain or the key.
    fn bring(&self, certificate: &str, key: &str, root: Option<&str>) -> Result<(), Refused>;

    /// Back to our own intermediate. False when none was brought.
    ///
    /// # Errors
    /// When the files cannot be changed.
    fn reset(&self) -> Result<bool, Refused>;
}

/// Bytes in the largest unit that leaves a number of at least one.
#[must_use]
pub fn bytes_in_words(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") }
}
