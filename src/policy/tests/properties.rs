//! Random rules against a second, independent way to decide them; random text against panics.

#![allow(clippy::unwrap_used, reason = "a test may end where its own assumption fails")]

use policy::{Enforcer, rule};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

#[derive(Debug, Clone)]
enum Tree {
    Leaf(usize),
    Not(Box<Tree>),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

/// Checks with the answer they have for the credentials and target below.
const LEAVES: [(&str, bool); 8] = [
    ("@", true),
    ("!", false),
    ("role:member", true),
    ("role:admin", false),
    ("project_id:%(project_id)s", true),
    ("user_id:%(missing)s", false),
    ("True:%(target.enabled)s", true),
    ("rule:no", false),
];

fn tree() -> impl Strategy<Value = Tree> {
    (0..LEAVES.len()).prop_map(Tree::Leaf).prop_recursive(6, 64, 5, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| Tree::Not(Box::new(one))),
            prop::collection::vec(inner.clone(), 2..5).prop_map(Tree::And),
            prop::collection::vec(inner, 2..5).prop_map(Tree::Or),
        ]
    })
}

impl Tree {
    fn truth(&self) -> bool {
        match self {
            Tree::Leaf(n) => LEAVES[*n].1,
            Tree::Not(one) => !one.truth(),
            Tree::And(all) => all.iter().all(Tree::truth),
            Tree::Or(any) => any.iter().any(Tree::truth),
        }
    }

    /// With parentheses only where precedence needs them: 1 `or`, 2 `and`, 3 `not` and single checks.
    fn text(&self, outside: u8) -> String {
        let (own, text) = match self {
            Tree::Leaf(n) => (3, LEAVES[*n].0.to_owned()),
            Tree::Not(one) => (3, format!("not {}", one.text(3))),
            Tree::And(all) => (2, all.iter().map(|one| one.text(3)).collect::<Vec<_>>().join(" and ")),
            Tree::Or(any) => (1, any.iter().map(|one| one.text(2)).collect::<Vec<_>>().join("  or ")),
        };
        if own < outside { format!("({text})") } else { text }
    }
}

fn creds() -> Map<String, Value> {
    json!({"roles": ["member"], "project_id": "p", "user_id": "u"}).as_object().cloned().unwrap()
}

fn target() -> Map<String, Value> {
    json!({"project_id": "p", "target": {"enabled": true}}).as_object().cloned().unwrap()
}

proptest! {
    #[test]
    fn precedence_and_operators_agree_with_the_tree_they_were_printed_from(tree in tree()) {
        let enforcer = Enforcer::new([rule("no", "!", "", &[])]).unwrap();
        let text = tree.text(0);
        prop_assert_eq!(enforcer.allows_check(&text, &creds(), &target()).unwrap(), tree.truth(), "{}", text);
        let yaml = format!("subject: {}", Value::from(text));
        enforcer.load_overrides(&yaml).unwrap();
        prop_assert_eq!(enforcer.allows("subject", &creds(), &target()), tree.truth());
    }

    #[test]
    fn any_text_is_parsed_or_refused_and_never_panics(text in "\\PC{0,80}") {
        let enforcer = Enforcer::new([]).unwrap();
        let _ = enforcer.allows_check(&text, &creds(), &target());
        let _ = enforcer.load_overrides(&text);
    }

    #[test]
    fn text_made_of_the_languages_own_pieces_never_panics(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "(", ")", " ", "and", "or", "not", "@", "!", "role:", "rule:", "%(", ")s", "%", "'", "\"", ":", "a", ".", "é",
            "field:", "=", "~^", "None", "True", "-1",
        ]), 0..24)
    ) {
        let _ = Enforcer::new([]).unwrap().allows_check(&pieces.concat(), &creds(), &target());
    }

    #[test]
    fn whatever_is_quoted_is_compared_as_it_stands(name in "[^'%\\x00]{0,20}") {
        let enforcer = Enforcer::new([]).unwrap();
        let target = json!({"name": name}).as_object().cloned().unwrap();
        let check = format!("'{name}':%(name)s");
        prop_assert!(enforcer.allows_check(&check, &creds(), &target).unwrap());
    }
}
