//! When a directory is asked, and about what.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use db::Tx;
use ldap3::Scope;
use rest::{Error, Result};
use serde_json::{Map, Value};

use super::{
    Directory,
    entries::{self, Attributes, Person, Team},
    mirror::{self, Missing, Seen},
    names,
    options::{self, Enabled, Settings},
};
use crate::{
    App,
    domains::config,
    tokens::{
        request::Ref,
        store::{self as accounts, Account},
    },
};

/// Of one name. More than one is a directory that cannot tell its users apart.
const FEW: usize = 10;
/// Groups of one user.
const GROUPS_MAX: usize = 5_000;
/// Active Directory follows the chain of an attribute's values by this rule.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Users,
    Groups,
}

/// 403: only the directory itself is written to.
pub(crate) fn read_only(domain_id: &str) -> Error {
    crate::errors::refused(format_args!(
        "change users, groups or members of domain {domain_id}: its directory is read only here, change them there"
    ))
}

impl Directory {
    /// Who is enabled, where a group of theirs says that.
    async fn enabled_members(&self, of: Option<&Attributes>) -> Result<Option<HashSet<String>>> {
        let Enabled::Members { dn, attribute } = &self.settings.enabled else { return Ok(None) };
        let filter = match of {
            None => "(objectClass=*)".to_owned(),
            Some(entry) => names::equals(attribute, entry.dn()),
        };
        let hits = self.server.search(dn, Scope::Base, &filter, vec![attribute.clone()], 1).await?;
        Ok(Some(match of {
            // The server compared names itself.
            Some(entry) if !hits.entries.is_empty() => names::comparable(entry.dn()).into_iter().collect(),
            Some(_) => HashSet::new(),
            None => {
                let members = hits.entries.into_iter().flat_map(|mut entry| entry.take_all(attribute));
                members.filter_map(|member| names::comparable(&member)).collect()
            }
        }))
    }

    /// The user of which `filter` holds, if there is exactly one.
    async fn person(&self, filter: &str) -> Result<Option<Person>> {
        let settings = &self.settings;
        let attributes = entries::person_attributes(settings);
        let filter = settings.users.filter(filter);
        let hits = self.server.search(&settings.users.tree_dn, settings.scope(), &filter, attributes, FEW).await?;
        self.based(hits.no_base)?;
        let [entry] = hits.entries.as_slice() else {
            if !hits.entries.is_empty() {
                tracing::warn!(domain.id = self.domain_id, filter, "several entries of a directory answer to one name");
            }
            return Ok(None);
        };
        let members = self.enabled_members(Some(entry)).await?;
        match entries::person(&self.domain_id, settings, entry, members.as_ref()) {
            Ok(person) => Ok(Some(person)),
            Err(why) => {
                tracing::warn!(domain.id = self.domain_id, filter, why, "an entry of a directory is no user");
                Ok(None)
            }
        }
    }

    fn based(&self, no_base: bool) -> Result<()> {
        if !no_base {
            return Ok(());
        }
        let wrong = crate::errors::invalid("user_tree_dn", "there is no such entry");
        Err(options::unusable(&self.domain_id, &wrong))
    }

    /// The groups of which `filter` holds.
    async fn teams(&self, filter: &str, with_members: bool, limit: usize) -> Result<(Vec<Team>, bool)> {
        let settings = &self.settings;
        let attributes = entries::team_attributes(settings, with_members);
        let filter = settings.groups.filter(filter);
        let hits = self.server.search(&settings.groups.tree_dn, settings.scope(), &filter, attributes, limit).await?;
        let teams = hits.entries.into_iter().filter_map(|entry| {
            let team = entries::team(&self.domain_id, settings, entry);
            team.map_err(|why| tracing::debug!(domain.id = self.domain_id, why, "an entry of a directory is no group"))
                .ok()
        });
        Ok((teams.collect(), hits.cut))
    }

    /// One user with all groups.
    async fn look_at(&self, person: Person) -> Result<Seen> {
        let settings = &self.settings;
        let filter = if settings.members_are_ids {
            names::equals(&settings.member, &person.local_id)
        } else if settings.nested {
            names::equals(&format!("{}:{IN_CHAIN}:", settings.member), &person.dn)
        } else {
            names::equals(&settings.member, &person.dn)
        };
        let (teams, cut) = self.teams(&filter, false, GROUPS_MAX).await?;
        let settled = if cut { HashSet::new() } else { HashSet::from([person.id.clone()]) };
        let memberships = teams.iter().map(|team| (person.id.clone(), team.id.clone())).collect();
        Ok(Seen { people: vec![person], teams, memberships, settled, ..Seen::default() })
    }

    async fn look_at_user(&self, id: &str, local_id: &str) -> Result<Seen> {
        match self.person(&entries::has_id(&self.settings.users, local_id)).await? {
            Some(person) if person.id == id => self.look_at(person).await,
            _ => Ok(Seen { missing_users: Missing::These(vec![id.to_owned()]), ..Seen::default() }),
        }
    }

    async fn look_at_everything(&self) -> Result<Seen> {
        let settings = &self.settings;
        let filter = settings.users.filter("");
        let attributes = entries::person_attributes(settings);
        let hits =
            self.server.search(&settings.users.tree_dn, settings.scope(), &filter, attributes, settings.limit).await?;
        self.based(hits.no_base)?;
        let members = self.enabled_members(None).await?;
        let mut people = Vec::with_capacity(hits.entries.len());
        for entry in &hits.entries {
            match entries::person(&self.domain_id, settings, entry, members.as_ref()) {
                Ok(person) => people.push(person),
                Err(why) => tracing::debug!(domain.id = self.domain_id, why, "an entry of a directory is no user"),
            }
        }
        let (teams, groups_cut) = self.teams("", true, settings.limit).await?;
        if hits.cut || groups_cut {
            tracing::warn!(
                domain.id = self.domain_id,
                "a directory answered in part: the server has a limit (see page_size) or list_limit is reached"
            );
        }
        let memberships = entries::memberships(settings, &people, &teams);
        Ok(Seen {
            // Who is not among the people may still be a member: a group that was cut settles nothing.
            settled: if groups_cut { HashSet::new() } else { people.iter().map(|person| person.id.clone()).collect() },
            missing_users: if hits.cut { Missing::Nobody } else { Missing::Others },
            missing_groups: if groups_cut { Missing::Nobody } else { Missing::Others },
            people,
            teams,
            memberships,
        })
    }
}

type Stored = HashMap<String, (Map<String, Value>, Option<Value>)>;

/// The `ldap` options and the list limit of domains (or one domain) that have a directory.
fn stored(app: &App, tx: &Tx<'_>, only: Option<&str>) -> Result<Stored> {
    let rows: Vec<(String, String, String, String)> = tx.list(
        "SELECT o.domain_id, o.section, o.name, o.value FROM identity_domain_option o \
         JOIN identity_domain_option d ON d.domain_id = o.domain_id \
         WHERE d.section = 'identity' AND d.name = 'driver' AND d.value = '\"ldap\"' \
         AND o.domain_id = ifnull(?, o.domain_id)",
        [only],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let mut options = Stored::new();
    for (domain, section, name, value) in rows {
        let entry = options.entry(domain).or_default();
        match (section.as_str(), name.as_str()) {
            ("ldap", _) => {
                let value = config::opened(app, &section, &name, &value)?;
                entry.0.insert(name, value);
            }
            ("identity", "list_limit") => entry.1 = Some(config::opened(app, &section, &name, &value)?),
            _ => {}
        }
    }
    Ok(options)
}

/// After a domain's options were written: what says that users come from a directory must make sense, and what no longer
/// says so takes that directory's users along.
///
/// # Errors
/// 400 naming an option, 403 for a domain that has users or groups of its own.
pub(crate) fn follow_config(app: &App, tx: &Tx<'_>, domain_id: &str) -> Result<()> {
    match stored(app, tx, Some(domain_id))?.remove(domain_id) {
        Some((ldap, limit)) => {
            Settings::read(&ldap, limit.as_ref())?;
            mirror::refuse_locals(tx, domain_id)
        }
        None => Ok(mirror::remove_all(tx, domain_id)?),
    }
}

impl App {
    fn directory_cache(&self) -> Duration {
        Duration::from_secs(self.options.directory_cache_s)
    }

    /// The domain's directory, if its users come from one.
    ///
    /// # Errors
    /// 503 when its options make no sense.
    pub(crate) fn directory_of(&self, domain_id: &str) -> Result<Option<Arc<Directory>>> {
        let generation = self.directories.generation.get();
        {
            let known = self.directories.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.0 == Some(generation) && !known.1.is_empty() {
                if let Some(directory) = known.1.get(domain_id) {
                    return Ok(Some(Arc::clone(directory)));
                }
            } else if known.0 == Some(generation) {
                return Ok(None);
            }
        }
        let options = self.db.read_blocking(|tx| stored(self, tx, None))?;
        let mut wrong = None;
        let mut known = self.directories.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut now = HashMap::new();
        for (domain, (ldap, limit)) in options {
            match Settings::read(&ldap, limit.as_ref()) {
                Ok(settings) => {
                    let same = known.1.get(&domain).filter(|before| *before.settings == settings).map(Arc::clone);
                    now.insert(domain.clone(), same.unwrap_or_else(|| Arc::new(Directory::new(domain, settings))));
                }
                Err(error) if domain == domain_id => wrong = Some(options::unusable(domain_id, &error)),
                Err(_) => {}
            }
        }
        let found = now.get(domain_id).map(Arc::clone);
        if known.1.len() != now.len()
            || now.iter().any(|(id, one)| !known.1.get(id).is_some_and(|was| Arc::ptr_eq(was, one)))
        {
            self.directories.forget();
        }
        *known = (Some(generation), now);
        wrong.map_or(Ok(found), Err)
    }

    /// Writes down what was seen. True when anything was new.
    async fn keep(&self, directory: &Directory, seen: Seen) -> Result<bool> {
        let (domain_id, seen) = (directory.domain_id.clone(), Arc::new(seen));
        let (domain, look) = (domain_id.clone(), Arc::clone(&seen));
        if !self.db.read(move |tx| look.differs(tx, &domain)).await? {
            return Ok(false);
        }
        let now = self.clock.now_text();
        self.db.write(move |tx| -> Result<()> { Ok(seen.write(tx, &domain_id, &now)?) }).await?;
        Ok(true)
    }

    /// Looks at a directory's user again, with all groups, unless that was done a moment ago. True when anything was new. Users
    /// of this cloud's own are left alone.
    ///
    /// # Errors
    /// 503 when the directory does not answer.
    pub(crate) async fn refresh_user(&self, id: &str) -> Result<bool> {
        let (now, cache) = (self.clock.now(), self.directory_cache());
        // Only those of directories have such ids.
        if id.len() != 64 || self.directories.fresh(id, now, cache) {
            return Ok(false);
        }
        let Some((domain_id, local_id)) = self.db.read_blocking(|tx| mirror::local_user(tx, id))? else {
            return Ok(false);
        };
        let Some(directory) = self.directory_of(&domain_id)? else { return Ok(false) };
        let seen = directory.look_at_user(id, &local_id).await?;
        let changed = self.keep(&directory, seen).await?;
        self.directories.note(id, now, cache);
        Ok(changed)
    }

    /// As [`App::refresh_user`] for a group, without its members.
    ///
    /// # Errors
    /// 503 when the directory does not answer.
    pub(crate) async fn refresh_group(&self, id: &str) -> Result<()> {
        if id.len() != 64 {
            return Ok(());
        }
        let Some((domain_id, local_id)) = self.db.read_blocking(|tx| mirror::local_group(tx, id))? else {
            return Ok(());
        };
        let Some(directory) = self.directory_of(&domain_id)? else { return Ok(()) };
        let (now, cache) = (self.clock.now(), self.directory_cache());
        if self.directories.fresh(id, now, cache) {
            return Ok(());
        }
        let (mut teams, _) =
            directory.teams(&entries::has_id(&directory.settings.groups, &local_id), false, FEW).await?;
        teams.retain(|team| team.id == id);
        let missing_groups = if teams.is_empty() { Missing::These(vec![id.to_owned()]) } else { Missing::Nobody };
        self.keep(&directory, Seen { teams, missing_groups, ..Seen::default() }).await?;
        self.directories.note(id, now, cache);
        Ok(())
    }

    /// The members of a group, if it is a directory's: everything of that is looked at.
    ///
    /// # Errors
    /// 503 when the directory does not answer.
    pub(crate) async fn refresh_members(&self, group_id: &str) -> Result<()> {
        if group_id.len() != 64 {
            return Ok(());
        }
        match self.db.read_blocking(|tx| mirror::local_group(tx, group_id))? {
            Some((domain_id, _)) => self.refresh_domain(&domain_id).await,
            None => Ok(()),
        }
    }

    /// Before a list of users or groups of a domain: all of them, or those of one name.
    ///
    /// # Errors
    /// 503 when the directory does not answer.
    pub(crate) async fn refresh_list(&self, what: What, domain_id: &str, name: Option<&str>) -> Result<()> {
        let Some(name) = name else { return self.refresh_domain(domain_id).await };
        let Some(directory) = self.directory_of(domain_id)? else { return Ok(()) };
        // What had the name and has it no longer must not be found by it.
        let table = if what == What::Users { "identity_user" } else { "identity_group" };
        let holder = || -> Result<Option<String>> {
            let sql = format!("SELECT id FROM {table} WHERE domain_id = ? AND name = ? AND local_id IS NOT NULL");
            Ok(self.db.read_blocking(|tx| tx.find(&sql, [domain_id, name], |row| row.get(0)))?)
        };
        if let Some(id) = holder()? {
            match what {
                What::Users => drop(self.refresh_user(&id).await?),
                What::Groups => self.refresh_group(&id).await?,
            }
            if holder()?.is_some() {
                return Ok(());
            }
        }
        let settings = &directory.settings;
        let seen = match what {
            What::Users => match directory.person(&names::equals(&settings.users.name, name)).await? {
                Some(person) => directory.look_at(person).await?,
                None => return Ok(()),
            },
            What::Groups => {
                let filter = names::equals(&settings.groups.name, name);
                Seen { teams: directory.teams(&filter, false, FEW).await?.0, ..Seen::default() }
            }
        };
        let now = self.clock.now();
        for id in seen.people.iter().map(|person| &person.id).chain(seen.teams.iter().map(|team| &team.id)) {
            self.directories.note(id, now, self.directory_cache());
        }
        self.keep(&directory, seen).await.map(|_| ())
    }

    /// Everything of a domain's directory, unless that was done a moment ago.
    ///
    /// # Errors
    /// 503 when the directory does not answer.
    pub(crate) async fn refresh_domain(&self, domain_id: &str) -> Result<()> {
        let Some(directory) = self.directory_of(domain_id)? else { return Ok(()) };
        let mut last = directory.sync.lock().await;
        let (now, cache) = (self.clock.now(), self.directory_cache());
        if last.is_some_and(|at| super::is_fresh(at, now, cache)) {
            return Ok(());
        }
        let seen = directory.look_at_everything().await?;
        let settled: Vec<String> = seen.settled.iter().cloned().collect();
        self.keep(&directory, seen).await?;
        for id in settled {
            self.directories.note(&id, now, cache);
        }
        *last = Some(now);
        Ok(())
    }

    /// Before roles are listed as they act: the members of directories' groups that have some. A directory that does not answer
    /// is left out, its members are those last seen.
    pub(crate) async fn refresh_groups_with_roles(&self) -> Result<()> {
        for domain_id in self.db.read_blocking(mirror::domains_with_roles)? {
            if let Err(error) = self.refresh_domain(&domain_id).await {
                tracing::info!(
                    domain.id = domain_id,
                    why = error.public(),
                    "roles are listed with members as last seen"
                );
            }
        }
        Ok(())
    }

    /// The directory that knows this user, if any does.
    ///
    /// # Errors
    /// 503 when its options make no sense.
    pub(crate) fn directory_for(&self, user: &Ref) -> Result<Option<Arc<Directory>>> {
        let domain_id = self.db.read_blocking(|tx| -> Result<Option<String>> {
            match user {
                Ref::Id(id) if id.len() == 64 => Ok(mirror::local_user(tx, id)?.map(|(domain_id, _)| domain_id)),
                Ref::Id(_) => Ok(None),
                Ref::Name(_, domain) => crate::tokens::authenticate::find_domain(tx, domain),
            }
        })?;
        match domain_id {
            Some(domain_id) => self.directory_of(&domain_id),
            None => Ok(None),
        }
    }

    /// The account behind a password that its directory accepts. `None` is a refusal, whatever the reason.
    ///
    /// # Errors
    /// 503 when the directory does not answer.
    pub(crate) async fn by_directory(
        &self,
        directory: &Directory,
        user: Ref,
        password: &str,
    ) -> Result<Option<Account>> {
        let settings = &directory.settings;
        let filter = match user {
            Ref::Name(name, _) => names::equals(&settings.users.name, name.trim()),
            Ref::Id(id) => match self.db.read_blocking(|tx| mirror::local_user(tx, &id))? {
                Some((_, local_id)) => entries::has_id(&settings.users, &local_id),
                None => return Ok(None),
            },
        };
        if password.is_empty() || password.len() > crate::passwords::PASSWORD_MAX_BYTES || password.contains('\0') {
            return Ok(None);
        }
        let found = directory.person(&filter).await?;
        let (lockout, now) = (&self.rules.lockout, self.clock.now());
        let locked = found.as_ref().is_some_and(|person| lockout.locked(&person.id, now));
        // Who is not there, and whose guessing must not go on there, costs a login too: that of nobody.
        let dn = match &found {
            Some(person) if !locked => person.dn.clone(),
            _ => format!("cn={},{}", rest::new_hex_id(), settings.users.tree_dn),
        };
        let fits = directory.server.bind(&dn, password).await?;
        let Some(person) = found.filter(|_| !locked) else { return Ok(None) };
        let id = person.id.clone();
        if !fits {
            lockout.failed(&id, now);
            return Ok(None);
        }
        lockout.forgive(&id);
        // Only who has proved to be somebody makes this service write.
        let seen = directory.look_at(person).await?;
        self.keep(directory, seen).await?;
        self.directories.note(&id, now, self.directory_cache());
        let account = self.db.read(move |tx| -> Result<_> { Ok(accounts::find_account(tx, &id)?) }).await?;
        Ok(account.filter(|account| account.enabled))
    }
}
