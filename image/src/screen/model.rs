//! What the screen shows, as facts: `facts` finds them, `view` draws them.

use crate::network::Nic;

/// Everything that is known of the machine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of the image, or of the program on another host.
    pub version: String,
    pub uptime_min: u64,
    /// It runs from a medium that cannot be written to, and can be installed to a disk.
    pub is_live: bool,
    pub service: Service,
    /// The worst part's, as the program says.
    pub health: Health,
    pub parts: Vec<Part>,
    /// How servers run, and why so.
    pub hypervisor: Option<String>,
    /// Where the dashboard is; the first is drawn as a code.
    pub urls: Vec<String>,
    pub nics: Vec<NicFacts>,
    /// SHA-256, as hexadecimal pairs with colons.
    pub fingerprint: Option<String>,
    /// There as long as nobody has taken the cloud over.
    pub claim: Option<String>,
    pub update: Option<Update>,
    /// `None`: nobody knows.
    pub clock_is_synchronised: Option<bool>,
    /// Of the last change of the network.
    pub network_note: Option<String>,
    /// Seconds left to confirm a change of the network.
    pub network_waits_s: Option<u64>,
}

/// How the program is, as systemd and its socket say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Service {
    #[default]
    Starting,
    Running,
    Stopped,
    /// With the reason.
    Failed(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    #[default]
    Ok,
    Degraded,
    Failed,
}

/// A part of the program that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub health: Health,
    pub reason: String,
    pub advice: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NicFacts {
    pub nic: Nic,
    /// It asked for long enough, and nobody answered.
    pub has_no_dhcp: bool,
}

/// The last update's outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// `good`, `trying` or `returned`.
    pub state: String,
    pub version: String,
    pub from: String,
    pub reason: String,
    pub at: String,
}

/// The one word for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Starting,
    Ready,
    Degraded,
    Failed,
    Updating,
    Stopped,
    Unclaimed,
}

impl Word {
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Ready => "READY",
            Self::Degraded => "DEGRADED",
            Self::Failed => "FAILED",
            Self::Updating => "UPDATING",
            Self::Stopped => "STOPPED",
            Self::Unclaimed => "UNCLAIMED",
        }
    }
}

impl Facts {
    /// What matters most to who stands before the machine.
    #[must_use]
    pub fn word(&self) -> Word {
        if matches!(self.service, Service::Failed(_)) {
            return Word::Failed;
        }
        if self.service == Service::Stopped {
            return Word::Stopped;
        }
        if self.update.as_ref().is_some_and(|update| update.state == "trying") {
            return Word::Updating;
        }
        match (&self.service, self.health, &self.claim) {
            (Service::Starting, _, _) => Word::Starting,
            (_, Health::Failed, _) => Word::Failed,
            (_, _, Some(_)) => Word::Unclaimed,
            (_, Health::Degraded, None) => Word::Degraded,
            (_, Health::Ok, None) => Word::Ready,
        }
    }

    /// One line that says what the word means here.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.word() {
            Word::Starting => "the cloud is starting; this page follows".into(),
            Word::Ready => "the cloud answers".into(),
            Word::Unclaimed => "open the address below and enter the code".into(),
            Word::Stopped => "the cloud is stopped; servers that ran may run on".into(),
            Word::Degraded | Word::Failed => match (&self.service, self.parts.len()) {
                (Service::Failed(reason), _) => reason.clone(),
                (_, 1) => "one part is not well; its reason is below".into(),
                (_, count) => format!("{count} parts are not well; their reasons are below"),
            },
            Word::Updating => match &self.update {
                Some(update) => format!("version {} proves itself; the one before returns if it fails", update.version),
                None => String::new(),
            },
        }
    }
}
