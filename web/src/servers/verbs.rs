//! What can be done with a server in its state, and why not. The statuses are those of Compute's state machine
//! (`compute/src/servers`): each verb is offered when Compute would take it, and no other time.

use super::model::Server;
use crate::{
    visit::Visit,
    words::{Words, t},
};

/// Whom Compute's own rules let do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Member,
    Admin,
}

/// How a verb is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By one click: the action that Compute is sent.
    Click(&'static str),
    /// On a page of its own: it needs words, or a second thought.
    Page,
}

/// Something that can be done with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verb {
    /// As forms send it.
    pub name: &'static str,
    pub label: &'static str,
    pub how: How,
    /// What `openstack server` calls it.
    pub command: &'static str,
    /// Statuses in which Compute takes it; empty is any.
    pub from: &'static [&'static str],
    whose: Whose,
    /// A locked server still allows it.
    despite_lock: bool,
}

const fn click(
    name: &'static str,
    label: &'static str,
    action: &'static str,
    command: &'static str,
    from: &'static [&'static str],
) -> Verb {
    Verb { name, label, how: How::Click(action), command, from, whose: Whose::Member, despite_lock: false }
}

const fn page(name: &'static str, label: &'static str, command: &'static str, from: &'static [&'static str]) -> Verb {
    Verb { name, label, how: How::Page, command, from, whose: Whose::Member, despite_lock: false }
}

const fn for_admins(verb: Verb) -> Verb {
    Verb { whose: Whose::Admin, ..verb }
}

const fn despite_lock(verb: Verb) -> Verb {
    Verb { despite_lock: true, ..verb }
}

const WITH_DISK: &[&str] = &["ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED"];

/// Every verb, in the order of the menu.
pub const VERBS: &[Verb] = &[
    click("start", t("Start"), "os-start", "server start", &["SHUTOFF"]),
    click("stop", t("Stop"), "os-stop", "server stop", &["ACTIVE", "ERROR"]),
    click("reboot", t("Reboot"), "reboot", "server reboot --soft", &["ACTIVE"]),
    click(
        "hard-reboot",
        t("Hard reboot"),
        "reboot",
        "server reboot --hard",
        &["ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED", "ERROR"],
    ),
    click("pause", t("Pause"), "pause", "server pause", &["ACTIVE"]),
    click("unpause", t("Unpause"), "unpause", "server unpause", &["PAUSED"]),
    click("suspend", t("Suspend"), "suspend", "server suspend", &["ACTIVE"]),
    click("resume", t("Resume"), "resume", "server resume", &["SUSPENDED"]),
    click("shelve", t("Shelve"), "shelve", "server shelve", WITH_DISK),
    for_admins(click("offload", t("Shelve offload"), "shelveOffload", "server shelve --offload", &["SHELVED"])),
    click("unshelve", t("Unshelve"), "unshelve", "server unshelve", &["SHELVED", "SHELVED_OFFLOADED"]),
    despite_lock(page("snapshot", t("Create an image"), "server image create", WITH_DISK)),
    despite_lock(page("backup", t("Back up"), "server backup create", WITH_DISK)),
    page("resize", t("Resize"), "server resize", &["ACTIVE", "SHUTOFF"]),
    click("confirm", t("Confirm the resize"), "confirmResize", "server resize confirm", &["VERIFY_RESIZE"]),
    click("revert", t("Revert the resize"), "revertResize", "server resize revert", &["VERIFY_RESIZE"]),
    page("rebuild", t("Rebuild"), "server rebuild", &["ACTIVE", "SHUTOFF", "ERROR"]),
    page("rescue", t("Rescue"), "server rescue", &["ACTIVE", "SHUTOFF", "ERROR"]),
    click("unrescue", t("Unrescue"), "unrescue", "server unrescue", &["RESCUE"]),
    page("password", t("Change the password"), "server set --password", &["ACTIVE"]),
    page("migrate", t("Migrate"), "server migrate", &["ACTIVE", "SHUTOFF"]),
    despite_lock(page("lock", t("Lock"), "server lock", &[])),
    despite_lock(click("unlock", t("Unlock"), "unlock", "server unlock", &[])),
    despite_lock(for_admins(page("reset-state", t("Reset the state"), "server set --state", &[]))),
    page("delete", t("Delete"), "server delete", &[]),
];

/// What a hard reboot need not wait for.
const OVERTAKEN: &[&str] = &["rebooting", "rebooting_hard", "pausing", "unpausing", "suspending", "resuming"];

/// What a visitor may do as far as the roles of Compute's own rules tell. Roles that those do not know are left to Compute.
#[derive(Clone, Copy, Debug)]
pub struct May {
    change: bool,
    admin: bool,
}

impl May {
    #[must_use]
    pub fn of(visit: &Visit) -> Self {
        let Ok(session) = visit.session() else { return Self { change: false, admin: false } };
        let admin = session.has_role("admin");
        let only_reads = session.roles.iter().all(|role| role.eq_ignore_ascii_case("reader"));
        Self { change: admin || !only_reads, admin }
    }

    #[cfg(test)]
    pub(super) const ALL: Self = Self { change: true, admin: true };

    #[must_use]
    pub fn change(self) -> bool {
        self.change
    }
}

/// A verb for one server.
#[derive(Clone, Debug)]
pub struct Offer {
    pub verb: Verb,
    /// Why it cannot be done, if it cannot.
    pub why: Option<String>,
}

impl Offer {
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.verb.how == How::Page
    }

    #[must_use]
    pub fn is_danger(&self) -> bool {
        matches!(self.verb.name, "delete" | "rebuild")
    }
}

impl Verb {
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        VERBS.iter().find(|verb| verb.name == name).copied()
    }

    /// Why it cannot be done now, if it cannot: the role, the lock, the work under way or the status that is in the way.
    #[must_use]
    pub fn why_not(&self, words: Words, server: &Server, may: May) -> Option<String> {
        if !may.change {
            return Some(words.t("needs the role member").to_owned());
        }
        if self.whose == Whose::Admin && !may.admin {
            return Some(words.t("needs the role admin").to_owned());
        }
        match self.name {
            "unlock" if !server.locked => return Some(words.t("is not locked").to_owned()),
            "migrate" => return Some(words.t("there is no other host").to_owned()),
            _ => {}
        }
        if server.locked && !self.despite_lock && !may.admin {
            return Some(words.t("is locked").to_owned());
        }
        if self.from.is_empty() {
            return None;
        }
        if let Some(task) = &server.task_state {
            let overtaken = self.name == "hard-reboot" && OVERTAKEN.contains(&task.as_str());
            return (!overtaken).then(|| words.fill("waits for {}", &[task]));
        }
        if self.from.contains(&server.status.as_str()) {
            return None;
        }
        Some(words.fill("needs {}, is {}", &[&self.from.join(words.t(" or ")), &server.status]))
    }
}

/// Every verb for a server; of those that undo another, the one that applies.
#[must_use]
pub fn offers(words: Words, server: &Server, may: May) -> Vec<Offer> {
    let shown = |verb: &&Verb| match verb.name {
        "unlock" => server.locked,
        "lock" => !server.locked,
        "unpause" => server.status == "PAUSED",
        "pause" => server.status != "PAUSED",
        "resume" => server.status == "SUSPENDED",
        "suspend" => server.status != "SUSPENDED",
        "unrescue" => server.status == "RESCUE",
        "rescue" => server.status != "RESCUE",
        "unshelve" => server.status.starts_with("SHELVED"),
        "shelve" => !server.status.starts_with("SHELVED"),
        "offload" => server.status == "SHELVED",
        "confirm" | "revert" => server.status == "VERIFY_RESIZE",
        "reset-state" => may.admin,
        _ => true,
    };
    VERBS.iter().filter(shown).map(|verb| Offer { verb: *verb, why: verb.why_not(words, server, may) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(status: &str, task: Option<&str>, locked: bool) -> Server {
        serde_json::from_value(json!({
            "id": "i", "name": "n", "status": status, "OS-EXT-STS:task_state": task, "created": "", "locked": locked,
        }))
        .unwrap()
    }

    fn why(verb: &str, server: &Server, may: May) -> Option<String> {
        Verb::find(verb).unwrap().why_not(Words::named("en").unwrap(), server, may)
    }

    #[test]
    fn a_verb_that_is_impossible_says_why() {
        let may = May { change: true, admin: false };
        let off = server("SHUTOFF", None, false);
        assert_eq!(why("start", &off, may), None);
        assert_eq!(why("stop", &off, may).unwrap(), "needs ACTIVE or ERROR, is SHUTOFF");
        assert_eq!(why("stop", &server("ACTIVE", Some("rebooting"), false), may).unwrap(), "waits for rebooting");
        assert_eq!(why("hard-reboot", &server("REBOOT", Some("rebooting"), false), may), None);
        assert_eq!(why("stop", &server("ACTIVE", None, true), may).unwrap(), "is locked");
        assert_eq!(why("stop", &server("ACTIVE", None, true), May::ALL), None);
        assert_eq!(why("delete", &server("ACTIVE", Some("deleting"), false), may), None);
        assert_eq!(why("delete", &off, May { change: false, admin: false }).unwrap(), "needs the role member");
        assert_eq!(why("reset-state", &off, may).unwrap(), "needs the role admin");
    }

    #[test]
    fn every_verb_has_its_own_name() {
        let mut names: Vec<&str> = VERBS.iter().map(|verb| verb.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VERBS.len());
    }
}
