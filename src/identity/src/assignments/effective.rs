//! Rows as granted become rows as they act. Pure.

use std::collections::{HashMap, HashSet};

use super::store::{Assignment, Target};

/// Where an effective row came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub group_id: Option<String>,
    /// The domain or project that it was inherited from.
    pub above: Option<(Target, String)>,
    /// The role that implied this one.
    pub prior_role_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub role_id: String,
    pub user_id: Option<String>,
    pub group_id: Option<String>,
    pub target: Target,
    pub target_id: String,
    pub inherited: bool,
    pub origin: Origin,
}

impl From<Assignment> for Row {
    fn from(a: Assignment) -> Self {
        Self {
            role_id: a.role_id,
            user_id: a.user_id,
            group_id: a.group_id,
            target: a.target,
            target_id: a.target_id,
            inherited: a.inherited,
            origin: Origin::default(),
        }
    }
}

/// What expansion needs to know.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Group to its users.
    pub members: HashMap<String, Vec<String>>,
    /// Project or domain to the projects directly below.
    pub children: HashMap<String, Vec<String>>,
    /// Role to the roles that it implies directly.
    pub implied: HashMap<String, Vec<String>>,
    pub domain_roles: HashSet<String>,
}

/// A target, and what it was inherited from.
type Reach = (Target, String, Option<(Target, String)>);

/// Which rows are wanted; expansion skips the others early.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub user_id: Option<String>,
    /// Only these projects, when given.
    pub projects: Option<HashSet<String>>,
    /// `Some(true)`: only what is inherited; `Some(false)`: nothing inherited.
    pub inherited: Option<bool>,
}

impl World {
    pub(crate) fn expand(&self, granted: Vec<Assignment>, wanted: &Wanted) -> Vec<Row> {
        let mut seen = HashSet::new();
        let mut rows = Vec::new();
        for assignment in granted {
            if wanted.inherited.is_some_and(|inherited| inherited != assignment.inherited) {
                continue;
            }
            let roles = self.roles_from(&assignment.role_id);
            let targets = self.targets_from(&assignment);
            let actors = self.actors_from(&assignment);
            for (target, target_id, above) in &targets {
                if let Some(projects) = &wanted.projects
                    && !(*target == Target::Project && projects.contains(target_id))
                {
                    continue;
                }
                for (user_id, group_id) in &actors {
                    if wanted.user_id.as_ref().is_some_and(|wanted| wanted != user_id) {
                        continue;
                    }
                    for (role_id, prior) in &roles {
                        if self.domain_roles.contains(role_id) {
                            continue;
                        }
                        let row = Row {
                            role_id: role_id.clone(),
                            user_id: Some(user_id.clone()),
                            group_id: None,
                            target: *target,
                            target_id: target_id.clone(),
                            inherited: false,
                            origin: Origin {
                                group_id: group_id.clone(),
                                above: above.clone(),
                                prior_role_id: prior.clone(),
                            },
                        };
                        if seen.insert(row.clone()) {
                            rows.push(row);
                        }
                    }
                }
            }
        }
        rows
    }

    /// The role itself and what it implies, each with the role that led there.
    fn roles_from(&self, role_id: &str) -> Vec<(String, Option<String>)> {
        let mut seen: HashSet<&str> = HashSet::from([role_id]);
        let mut roles = vec![(role_id.to_owned(), None)];
        let mut at = 0;
        while at < roles.len() {
            let prior = roles[at].0.clone();
            for implied in self.implied.get(&prior).into_iter().flatten() {
                if seen.insert(implied) {
                    roles.push((implied.clone(), Some(prior.clone())));
                }
            }
            at += 1;
        }
        roles
    }

    fn targets_from(&self, a: &Assignment) -> Vec<Reach> {
        if !a.inherited {
            return vec![(a.target, a.target_id.clone(), None)];
        }
        let mut found = Vec::new();
        let mut open = vec![a.target_id.as_str()];
        while let Some(id) = open.pop() {
            for child in self.children.get(id).into_iter().flatten() {
                found.push((Target::Project, child.clone(), Some((a.target, a.target_id.clone()))));
                open.push(child);
            }
        }
        found
    }

    fn actors_from(&self, a: &Assignment) -> Vec<(String, Option<String>)> {
        match (&a.user_id, &a.group_id) {
            (Some(user_id), _) => vec![(user_id.clone(), None)],
            (None, Some(group_id)) => self
                .members
                .get(group_id)
                .into_iter()
                .flatten()
                .map(|user_id| (user_id.clone(), Some(group_id.clone())))
                .collect(),
            (None, None) => Vec::new(),
        }
    }

    /// The project and everything below it.
    pub(crate) fn subtree(&self, project_id: &str) -> HashSet<String> {
        let mut all = HashSet::from([project_id.to_owned()]);
        let mut open = vec![project_id];
        while let Some(id) = open.pop() {
            for child in self.children.get(id).into_iter().flatten() {
                if all.insert(child.clone()) {
                    open.push(child);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let map = |pairs: &[(&str, &[&str])]| {
            pairs
                .iter()
                .map(|(key, values)| ((*key).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
                .collect()
        };
        World {
            members: map(&[("g", &["u1", "u2"])]),
            children: map(&[("d", &["p"]), ("p", &["q"]), ("q", &["r"])]),
            implied: map(&[("admin", &["member"]), ("member", &["reader"]), ("local", &["reader"])]),
            domain_roles: HashSet::from(["local".to_owned()]),
        }
    }

    fn row(role: &str, user: Option<&str>, group: Option<&str>, target: (Target, &str), inherited: bool) -> Assignment {
        Assignment {
            role_id: role.into(),
            user_id: user.map(Into::into),
            group_id: group.map(Into::into),
            target: target.0,
            target_id: target.1.into(),
            inherited,
        }
    }

    fn short(rows: &[Row]) -> Vec<(String, String, String)> {
        let mut short: Vec<_> = rows
            .iter()
            .map(|row| (row.role_id.clone(), row.user_id.clone().unwrap_or_default(), row.target_id.clone()))
            .collect();
        short.sort();
        short
    }

    #[test]
    fn a_role_inherited_from_a_project_reaches_below_it_but_not_the_project_itself() {
        let rows =
            world().expand(vec![row("reader", Some("u"), None, (Target::Project, "p"), true)], &Wanted::default());
        let targets: HashSet<_> = rows.iter().map(|row| row.target_id.as_str()).collect();
        assert_eq!(targets, HashSet::from(["q", "r"]));
        assert!(rows.iter().all(|row| row.origin.above == Some((Target::Project, "p".into()))));
    }

    #[test]
    fn groups_become_their_users_and_roles_bring_what_they_imply() {
        let rows =
            world().expand(vec![row("admin", None, Some("g"), (Target::Domain, "d"), false)], &Wanted::default());
        assert_eq!(rows.len(), 6);
        let reader = rows.iter().find(|row| row.role_id == "reader").unwrap();
        assert_eq!(reader.origin.prior_role_id.as_deref(), Some("member"));
        assert_eq!(reader.origin.group_id.as_deref(), Some("g"));
    }

    #[test]
    fn a_role_of_a_domain_is_replaced_by_what_it_implies() {
        let rows =
            world().expand(vec![row("local", Some("u"), None, (Target::Project, "p"), false)], &Wanted::default());
        assert_eq!(short(&rows), [("reader".to_owned(), "u".to_owned(), "p".to_owned())]);
    }

    #[test]
    fn filters_cut_users_and_projects() {
        let wanted = Wanted {
            user_id: Some("u2".into()),
            projects: Some(HashSet::from(["r".to_owned()])),
            inherited: Some(true),
        };
        let granted = vec![
            row("reader", None, Some("g"), (Target::Domain, "d"), true),
            row("admin", Some("u2"), None, (Target::Project, "r"), false),
        ];
        assert_eq!(short(&world().expand(granted, &wanted)), [("reader".to_owned(), "u2".to_owned(), "r".to_owned())]);
    }
}
