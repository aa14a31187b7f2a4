//! What an entry of a directory means to this cloud. Pure.

use std::collections::{HashMap, HashSet};

use ldap3::SearchEntry;
use serde_json::{Map, Value};

use super::{
    names,
    options::{Enabled, Kind, Settings},
};
use crate::fields::{NAME_MAX, TEXT_MAX};

/// A user as its directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub id: String,
    pub local_id: String,
    pub dn: String,
    pub name: String,
    pub enabled: bool,
    pub default_project_id: Option<String>,
    pub extra: Map<String, Value>,
}

/// A group as its directory has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Team {
    pub id: String,
    pub local_id: String,
    pub dn: String,
    pub name: String,
    pub description: String,
    pub extra: Map<String, Value>,
    /// Names of entries, or local ids of users.
    pub members: Vec<String>,
}

/// An entry's attributes, by name in lower case.
pub(super) struct Attributes {
    dn: String,
    text: HashMap<String, Vec<String>>,
    bytes: HashMap<String, Vec<Vec<u8>>>,
}

impl From<SearchEntry> for Attributes {
    fn from(entry: SearchEntry) -> Self {
        Self {
            dn: entry.dn,
            text: entry.attrs.into_iter().map(|(name, values)| (name.to_ascii_lowercase(), values)).collect(),
            bytes: entry.bin_attrs.into_iter().map(|(name, values)| (name.to_ascii_lowercase(), values)).collect(),
        }
    }
}

impl Attributes {
    pub(super) fn dn(&self) -> &str {
        &self.dn
    }

    fn all(&self, name: &str) -> &[String] {
        self.text.get(&name.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.all(name).iter().map(String::as_str).find(|value| !value.is_empty())
    }

    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        self.text.remove(&name.to_ascii_lowercase()).unwrap_or_default()
    }

    /// The value that stands for this entry. Of several, the one that the entry is called by; of bytes, a UUID as Active
    /// Directory writes it.
    fn id(&self, attribute: &str) -> Option<String> {
        if let Some([bytes]) = self.bytes.get(&attribute.to_ascii_lowercase()).map(Vec::as_slice) {
            return uuid_text(bytes);
        }
        match self.all(attribute) {
            [] => None,
            [one] if attribute.eq_ignore_ascii_case(GUID) => uuid_text(one.as_bytes()),
            [one] => Some(one.clone()),
            several => {
                let called = names::named_by(&self.dn, attribute)?;
                several.iter().find(|value| value.to_lowercase() == called).cloned()
            }
        }
        .filter(|id| !id.is_empty())
    }

    /// What every kind of entry has: id there, name; or why it cannot be used.
    fn known_by(&self, kind: &Kind) -> Result<(String, String), &'static str> {
        let id = self.id(&kind.id).ok_or("it has no usable id attribute")?;
        let name = self.first(&kind.name).map(str::trim).filter(|name| !name.is_empty()).ok_or("it has no name")?;
        if name.chars().count() > NAME_MAX || id.chars().count() > NAME_MAX {
            return Err("its id or name is longer than 255 characters");
        }
        Ok((id, name.to_owned()))
    }

    fn additional(&self, kind: &Kind, extra: &mut Map<String, Value>) {
        for (there, here) in &kind.additional {
            match self.all(there) {
                [] => {}
                [one] => drop(extra.insert(here.clone(), one.as_str().into())),
                several => drop(extra.insert(here.clone(), several.to_vec().into())),
            }
        }
    }
}

const GUID: &str = "objectGUID";

/// The first three fields are little-endian.
fn uuid_text(bytes: &[u8]) -> Option<String> {
    let b: [u8; 16] = bytes.try_into().ok()?;
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (position, index) in order.into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", b[index]));
    }
    Some(text)
}

/// The bytes behind [`uuid_text`], as a filter writes them.
fn uuid_filter(text: &str) -> Option<String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pair = |index: usize| std::str::from_utf8(&digits[index * 2..index * 2 + 2]).ok();
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    order.into_iter().map(|index| pair(index).map(|pair| format!("\\{pair}"))).collect()
}

/// `(id attribute=value)`.
pub(super) fn has_id(kind: &Kind, local_id: &str) -> String {
    match uuid_filter(local_id).filter(|_| kind.id.eq_ignore_ascii_case(GUID)) {
        Some(bytes) => format!("({}={bytes})", kind.id),
        None => names::equals(&kind.id, local_id),
    }
}

/// Asked of every user's entry.
pub(super) fn person_attributes(settings: &Settings) -> Vec<String> {
    let mut names = common(&settings.users);
    names.extend(settings.mail.clone());
    names.extend(settings.default_project.clone());
    match &settings.enabled {
        Enabled::Attribute { name, .. } | Enabled::Mask { name, .. } => names.push(name.clone()),
        Enabled::Always | Enabled::Members { .. } => {}
    }
    names
}

/// Asked of every group's entry.
pub(super) fn team_attributes(settings: &Settings, members: bool) -> Vec<String> {
    let mut names = common(&settings.groups);
    if members {
        names.push(settings.member.clone());
    }
    names
}

fn common(kind: &Kind) -> Vec<String> {
    let mut names = vec![kind.id.clone(), kind.name.clone()];
    names.extend(kind.description.clone());
    names.extend(kind.additional.iter().map(|(there, _)| there.clone()));
    names
}

/// `members`: who is a member of the entry that enables, as [`names::comparable`] writes names, where there is one.
///
/// # Errors
/// Why the entry is no user here.
pub(super) fn person(
    domain_id: &str,
    settings: &Settings,
    entry: &Attributes,
    members: Option<&HashSet<String>>,
) -> Result<Person, &'static str> {
    let (local_id, name) = entry.known_by(&settings.users)?;
    let mut extra = Map::new();
    for (here, there) in [("description", &settings.users.description), ("email", &settings.mail)] {
        if let Some(value) = there.as_ref().and_then(|there| entry.first(there)) {
            extra.insert(here.into(), value.chars().take(TEXT_MAX).collect::<String>().into());
        }
    }
    entry.additional(&settings.users, &mut extra);
    let enabled = match &settings.enabled {
        Enabled::Always => true,
        Enabled::Attribute { name, inverted, default } => {
            let says = entry.first(name).map_or(*default, truth);
            says != *inverted
        }
        Enabled::Mask { name, mask, default } => match entry.first(name) {
            None => default & mask != *mask,
            // What is no number enables nobody.
            Some(text) => text.trim().parse::<i64>().is_ok_and(|value| value & mask != *mask),
        },
        Enabled::Members { .. } => match (names::comparable(&entry.dn), members) {
            (Some(dn), Some(members)) => members.contains(&dn),
            _ => false,
        },
    };
    Ok(Person {
        id: names::public_id(domain_id, "user", &local_id),
        local_id,
        dn: entry.dn.clone(),
        name,
        enabled,
        default_project_id: settings.default_project.as_ref().and_then(|name| entry.first(name)).map(str::to_owned),
        extra,
    })
}

/// `TRUE` and `FALSE` are LDAP's; people also write numbers and words.
fn truth(text: &str) -> bool {
    rest::parse_bool(text.trim()).unwrap_or_else(|| text.trim().parse::<i64>().is_ok_and(|number| number != 0))
}

/// # Errors
/// Why the entry is no group here.
pub(super) fn team(domain_id: &str, settings: &Settings, mut entry: Attributes) -> Result<Team, &'static str> {
    let (local_id, name) = entry.known_by(&settings.groups)?;
    let mut extra = Map::new();
    entry.additional(&settings.groups, &mut extra);
    let description = settings.groups.description.as_ref().and_then(|name| entry.first(name)).unwrap_or_default();
    Ok(Team {
        id: names::public_id(domain_id, "group", &local_id),
        local_id,
        name,
        description: description.chars().take(TEXT_MAX).collect(),
        extra,
        members: entry.take_all(&settings.member),
        dn: entry.dn,
    })
}

/// Which of these users are in which of these groups: pairs of user and group.
pub(super) fn memberships(settings: &Settings, people: &[Person], teams: &[Team]) -> Vec<(String, String)> {
    let mut by_member: HashMap<String, &str> = HashMap::new();
    for person in people {
        if settings.members_are_ids {
            by_member.insert(person.local_id.to_lowercase(), &person.id);
        } else if let Some(dn) = names::comparable(&person.dn) {
            by_member.insert(dn, &person.id);
        }
    }
    let key = |member: &str| {
        if settings.members_are_ids { Some(member.to_lowercase()) } else { names::comparable(member) }
    };
    let members: Vec<Vec<String>> =
        teams.iter().map(|team| team.members.iter().filter_map(|member| key(member)).collect()).collect();
    let by_dn: HashMap<String, usize> = if settings.nested && !settings.members_are_ids {
        teams.iter().enumerate().filter_map(|(at, team)| Some((names::comparable(&team.dn)?, at))).collect()
    } else {
        HashMap::new()
    };
    let mut pairs = Vec::new();
    for (at, team) in teams.iter().enumerate() {
        // A group may hold itself by way of others.
        let (mut seen, mut open, mut found) = (HashSet::from([at]), vec![at], HashSet::new());
        while let Some(at) = open.pop() {
            for member in &members[at] {
                if let Some(user) = by_member.get(member) {
                    found.insert(*user);
                } else if let Some(inner) = by_dn.get(member)
                    && seen.insert(*inner)
                {
                    open.push(*inner);
                }
            }
        }
        pairs.extend(found.into_iter().map(|user| (user.to_owned(), team.id.clone())));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(options: Value) -> Settings {
        let Value::Object(options) = options else { unreachable!() };
        Settings::read(&options, None).unwrap()
    }

    fn entry(dn: &str, attributes: &[(&str, &[&str])]) -> Attributes {
        let attrs = attributes
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
            .collect();
        Attributes::from(SearchEntry { dn: dn.into(), attrs, bin_attrs: HashMap::new() })
    }

    fn alice(attributes: &[(&str, &[&str])]) -> Attributes {
        let mut all: Vec<(&str, &[&str])> = vec![("CN", &["alice"]), ("SN", &["Alice A."])];
        all.extend_from_slice(attributes);
        entry("cn=alice,ou=Users,dc=corp", &all)
    }

    #[test]
    fn an_entry_becomes_a_user_whatever_the_case_of_its_attributes() {
        let settings = settings(json!({"user_additional_attribute_mapping": ["telephoneNumber:phone"]}));
        let found = person(
            "d",
            &settings,
            &alice(&[("Mail", &["a@corp"]), ("description", &["boss"]), ("telephonenumber", &["1", "2"])]),
            None,
        )
        .unwrap();
        assert_eq!((found.local_id.as_str(), found.name.as_str(), found.enabled), ("alice", "Alice A.", true));
        assert_eq!(found.id, names::public_id("d", "user", "alice"));
        let extra = json!({"description": "boss", "email": "a@corp", "phone": ["1", "2"]});
        assert_eq!(Value::Object(found.extra), extra);
    }

    #[test]
    fn entries_that_cannot_be_told_apart_are_no_users() {
        let settings = settings(json!({}));
        let of = |entry: &Attributes| person("d", &settings, entry, None);
        assert!(of(&entry("cn=a,dc=x", &[("cn", &["a"])])).is_err(), "no name");
        assert!(of(&entry("uid=a,dc=x", &[("sn", &["a"])])).is_err(), "no id");
        assert!(of(&entry("uid=a,dc=x", &[("cn", &["a", "b"]), ("sn", &["a"])])).is_err(), "two ids");
        let called = of(&entry("cn=B,dc=x", &[("cn", &["a", "b"]), ("sn", &["a"])])).unwrap();
        assert_eq!(called.local_id, "b");
        assert!(of(&entry("cn=a,dc=x", &[("cn", &["a"]), ("sn", &[&"n".repeat(256)])])).is_err(), "too long");
    }

    #[test]
    fn enabled_is_said_by_an_attribute_its_contrary_bits_or_membership() {
        let says = |options: Value, attributes: &[(&str, &[&str])]| {
            person("d", &settings(options), &alice(attributes), None).unwrap().enabled
        };
        let on: &[&str] = &["TRUE"];
        let off: &[&str] = &["FALSE"];
        assert!(says(json!({}), &[]) && says(json!({}), &[("enabled", on)]) && !says(json!({}), &[("enabled", off)]));
        assert!(!says(json!({"user_enabled_default": "False"}), &[]));
        let inverted = json!({"user_enabled_attribute": "locked", "user_enabled_invert": true,
            "user_enabled_default": "False"});
        assert!(says(inverted.clone(), &[]) && says(inverted.clone(), &[("locked", off)]));
        assert!(!says(inverted, &[("locked", on)]));
        let mask = json!({"user_enabled_attribute": "userAccountControl", "user_enabled_mask": 2,
            "user_enabled_default": 512});
        assert!(says(mask.clone(), &[]) && says(mask.clone(), &[("userAccountControl", &["512"])]));
        assert!(!says(mask.clone(), &[("userAccountControl", &["514"])]));
        assert!(!says(mask, &[("userAccountControl", &["nonsense"])]));
        assert!(says(json!({"user_attribute_ignore": ["enabled"]}), &[("enabled", off)]));
        let emulated = settings(json!({"user_enabled_emulation": true}));
        let members = HashSet::from([names::comparable("CN=Alice, ou=users,dc=corp").unwrap()]);
        assert!(person("d", &emulated, &alice(&[]), Some(&members)).unwrap().enabled);
        assert!(!person("d", &emulated, &alice(&[]), Some(&HashSet::new())).unwrap().enabled);
    }

    #[test]
    fn ids_of_active_directory_are_bytes() {
        let bytes: Vec<u8> = (0..16).collect();
        let text = "03020100-0504-0706-0809-0a0b0c0d0e0f";
        assert_eq!(uuid_text(&bytes).as_deref(), Some(text));
        let kind = settings(json!({"user_id_attribute": "objectGUID"})).users;
        let want: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        assert_eq!(has_id(&kind, text), format!("(objectGUID={want})"));
        assert_eq!(has_id(&kind, "a*"), "(objectGUID=a\\2a)");
        assert_eq!(uuid_text(&bytes[1..]), None);
    }

    #[test]
    fn members_are_found_by_name_or_id_and_through_groups_where_they_nest() {
        let person = |settings: &Settings, name: &str| {
            let dn = format!("cn={name},ou=Users,dc=corp");
            person("d", settings, &entry(&dn, &[("cn", &[name]), ("sn", &[name])]), None).unwrap()
        };
        let team = |settings: &Settings, name: &str, members: &[&str]| {
            let dn = format!("cn={name},ou=UserGroups,dc=corp");
            team("d", settings, entry(&dn, &[("cn", &[name]), ("ou", &[name]), ("member", members)])).unwrap()
        };
        let flat = settings(json!({}));
        let people = [person(&flat, "a"), person(&flat, "b")];
        let outer = ["CN=a,OU=users,DC=corp", "cn=inner,ou=UserGroups,dc=corp", "cn=stranger,dc=x", "nonsense"];
        let inner = ["cn=b, ou=Users, dc=corp", "cn=outer,ou=UserGroups,dc=corp"];
        let named = |settings: &Settings, teams: &[Team]| {
            let mut pairs: Vec<_> = memberships(settings, &people, teams)
                .into_iter()
                .map(|(user, group)| {
                    let user = people.iter().find(|person| person.id == user).unwrap();
                    let group = teams.iter().find(|team| team.id == group).unwrap();
                    format!("{} in {}", user.name, group.name)
                })
                .collect();
            pairs.sort();
            pairs
        };
        let teams = [team(&flat, "outer", &outer), team(&flat, "inner", &inner)];
        assert_eq!(named(&flat, &teams), ["a in outer", "b in inner"]);
        let nested = settings(json!({"group_ad_nesting": true}));
        assert_eq!(named(&nested, &teams), ["a in inner", "a in outer", "b in inner", "b in outer"]);
        let ids = settings(json!({"group_members_are_ids": true}));
        assert_eq!(named(&ids, &[team(&ids, "posix", &["A", "c"])]), ["a in posix"]);
    }
}
