//! A server group, and what it lets in.

/// How the servers of a group are placed to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Affinity,
    AntiAffinity,
    SoftAffinity,
    SoftAntiAffinity,
}

impl Policy {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Affinity, "affinity"),
        (Self::AntiAffinity, "anti-affinity"),
        (Self::SoftAffinity, "soft-affinity"),
        (Self::SoftAntiAffinity, "soft-anti-affinity"),
    ];

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(policy, _)| *policy)
    }

    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(policy, _)| *policy == self).map_or("", |(_, name)| name)
    }

    /// Since 2.15.
    pub fn is_soft(self) -> bool {
        matches!(self, Self::SoftAffinity | Self::SoftAntiAffinity)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub id: String,
    pub project_id: String,
    pub user_id: String,
    pub name: String,
    pub policy: Policy,
    /// How many servers of an anti-affinity group one host takes (2.64).
    pub max_server_per_host: Option<i64>,
    /// Servers, the oldest first.
    pub members: Vec<String>,
    pub created_at: String,
}

impl Group {
    /// Whether this host takes one more server of the group that has `members` already.
    pub fn has_room(&self, members: i64) -> bool {
        self.policy != Policy::AntiAffinity || members < self.max_server_per_host.unwrap_or(1)
    }

    /// What is said to one more server where there is no room for it.
    pub fn no_room(&self, placed: i64) -> String {
        format!(
            "No valid host was found: server group {} keeps its servers apart, and this is the only host, with {placed} of them.",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_takes_one_server_of_an_anti_affinity_group_unless_its_rule_says_more() {
        let group = |policy, max_server_per_host| Group {
            id: String::new(),
            project_id: String::new(),
            user_id: String::new(),
            name: String::new(),
            policy,
            max_server_per_host,
            members: Vec::new(),
            created_at: String::new(),
        };
        for policy in [Policy::Affinity, Policy::SoftAffinity, Policy::SoftAntiAffinity] {
            assert!(group(policy, None).has_room(100), "{policy:?}");
        }
        assert!(group(Policy::AntiAffinity, None).has_room(0) && !group(Policy::AntiAffinity, None).has_room(1));
        assert!(group(Policy::AntiAffinity, Some(3)).has_room(2) && !group(Policy::AntiAffinity, Some(3)).has_room(3));
    }

    #[test]
    fn every_policy_is_found_by_its_word() {
        for (policy, word) in Policy::ALL {
            assert_eq!((Policy::from_word(word), policy.word()), (Some(policy), word));
        }
        assert_eq!(Policy::from_word("legacy"), None);
    }
}
