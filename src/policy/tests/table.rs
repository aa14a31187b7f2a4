//! Each line of the language as a table: the check, who asks, about what, and the answer.

#![allow(clippy::unwrap_used, reason = "a test may end where its own assumption fails")]

use policy::{Enforcer, OverrideError, RegistryError, Rule, rule};
use serde_json::{Map, Value, json};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn member() -> Value {
    json!({
        "user_id": "u1", "project_id": "p1", "domain_id": null, "is_admin": false, "roles": ["Member", "reader"],
        "system_scope": null, "age": 20, "flat.key": "f",
        "token": {"project": {"domain": {"id": "d1"}}, "roles": [{"name": "member"}, {"name": "reader"}]},
        "service_roles": ["service"],
    })
}

fn decide(check: &'static str, creds: Value, target: Value) -> bool {
    Enforcer::new([
        rule("subject", check, "", &[]),
        rule("admin", "role:admin", "", &[]),
        rule("reader", "role:reader", "", &[]),
    ])
    .unwrap()
    .allows("subject", &map(creds), &map(target))
}

#[test]
fn every_kind_of_check_is_decided_as_documented() {
    let target = json!({
        "project_id": "p1", "user_id": "u2", "enabled": true, "off": false, "nothing": null, "number": 20, "name": "x y",
        "target.project.domain_id": "d1", "target": {"user": {"id": "u1"}, "role": {"domain_id": null}},
        "role_name": "MEMBER", "list": ["p1"], "text_none": "None", "word": "Member", "router:external": true,
        "shared": false, "device_owner": "network:dhcp", "percent": "50%",
    });
    let table: &[(&str, bool)] = &[
        ("", true),
        ("@", true),
        ("!", false),
        ("role:member", true),
        ("role:MEMBER", true),
        ("role:admin", false),
        ("role:%(role_name)s", true),
        ("role:%(missing)s", false),
        ("rule:reader", true),
        ("rule:admin", false),
        ("project_id:%(project_id)s", true),
        ("user_id:%(user_id)s", false),
        ("user_id:%(target.user.id)s", true),
        ("user_id:%(missing)s", false),
        ("not user_id:%(missing)s", true),
        ("project_id:p1", true),
        ("project_id:'p1'", true),
        ("project_id:\"p1\"", true),
        ("project_id:p2", false),
        ("missing:p1", false),
        ("age:20", true),
        ("age:%(number)s", true),
        ("is_admin:False", true),
        ("is_admin:True", false),
        ("is_admin:false", false),
        ("True:%(enabled)s", true),
        ("True:%(off)s", false),
        ("False:%(off)s", true),
        ("None:%(nothing)s", true),
        ("None:%(target.role.domain_id)s", true),
        ("None:%(text_none)s", false),
        ("None:%(missing)s", false),
        ("20:%(number)s", true),
        ("'Member':%(word)s", true),
        ("\"Member\":%(word)s", true),
        ("'member':%(word)s", false),
        ("'x y':%(name)s", true),
        ("'a:b':%(name)s", false),
        ("token.project.domain.id:%(target.project.domain_id)s", true),
        ("token.project.domain.id:d2", false),
        ("token.roles.name:reader", true),
        ("token.roles.name:admin", false),
        ("service_roles:service", true),
        ("flat.key:f", true),
        ("domain_id:None", true),
        ("domain_id:%(nothing)s", false),
        ("project_id:%(list)s", false),
        ("user_id:u%(n)s", false),
        ("project_id:p%%1", false),
        ("'50%%':%(percent)s", false),
        ("'50%':%(percent)s", true),
        ("field:networks:router:external=True", true),
        ("field:networks:shared=True", false),
        ("field:networks:missing=True", false),
        ("field:port:device_owner=~^network:", true),
        ("field:port:device_owner=~^compute:", false),
        ("role:admin or role:member", true),
        ("role:admin and role:member", false),
        ("not role:admin", true),
        ("not not role:member", true),
        ("NOT role:admin AND role:member", true),
        ("role:member or role:admin and role:admin", true),
        ("(role:member or role:admin) and role:admin", false),
        ("not role:member or role:reader", true),
        ("not (role:member or role:reader)", false),
        ("((role:member))", true),
        ("(role:admin)or(role:member)", true),
        ("  role:member\tand\n role:reader  ", true),
        ("(project_id:%(project_id)s)", true),
        ("( project_id:%(project_id)s and role:member )", true),
    ];
    for (check, expected) in table {
        assert_eq!(decide(check, member(), target.clone()), *expected, "{check:?}");
    }
}

#[test]
fn an_unset_credential_does_not_own_what_belongs_to_nobody() {
    let creds = json!({"roles": ["reader"], "project_id": null});
    assert!(!decide("project_id:%(project_id)s", creds.clone(), json!({"project_id": null})));
    assert!(!decide("project_id:%(project_id)s", creds, json!({"project_id": "None"})));
}

#[test]
fn a_scope_that_is_left_out_is_none() {
    let of_project = json!({"roles": ["manager"], "project_id": "p"});
    assert!(!decide("role:manager and not domain_id:None", of_project.clone(), json!({})));
    assert!(decide("domain_id:None and system_scope:None", of_project.clone(), json!({})));
    assert!(!decide("project_id:None", of_project.clone(), json!({})));
    assert!(!decide("unheard_of:None", of_project.clone(), json!({})));
    assert!(!decide("domain_id:%(domain_id)s", of_project, json!({"domain_id": "None"})));
    let of_domain = json!({"roles": ["manager"], "domain_id": "d"});
    assert!(decide("role:manager and not domain_id:None", of_domain, json!({})));
}

#[test]
fn credentials_without_roles_or_with_odd_ones_are_denied() {
    for creds in [json!({}), json!({"roles": null}), json!({"roles": "admin"}), json!({"roles": [1, null, {}]})] {
        assert!(!decide("role:admin", creds, json!({})));
    }
}

#[test]
fn malformed_checks_are_refused_with_a_reason() {
    let table = [
        ("   ", "only blanks"),
        ("role", "is no check"),
        ("role:", "both sides"),
        (":admin", "both sides"),
        ("'string'", "is no check"),
        ("role:admin role:member", "expected \"and\" or \"or\""),
        ("role:admin and", "ends where another check"),
        ("and role:admin", "an operator where"),
        ("role:admin or or role:member", "an operator where"),
        ("(role:admin", "not closed"),
        ("role:admin)", "too many"),
        ("()", "closing parenthesis where"),
        ("not", "ends where another check"),
        ("project_id:%(project_id", "not closed"),
        ("project_id:%(project_id)d", "expected an \"s\""),
        ("project_id:%(project_id)", "expected an \"s\""),
        ("project_id:%s", "expected \"%(key)s\""),
        ("project_id:%()s", "target key"),
        ("project_id:'p1", "not closed"),
        ("rule:%(name)s", "cannot depend"),
        ("http://127.0.0.1/check", "not offered"),
        ("https://127.0.0.1/check", "not offered"),
        ("%(x)s:y", "may not stand"),
        ("role:a(b)", "opening parenthesis inside"),
        ("field:networks", "field:resource"),
        ("field:networks:shared", "field:resource"),
        ("field:port:x=~.*", "plain prefix"),
        ("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q:1", "dotted parts"),
    ];
    for (check, reason) in table {
        let error = Enforcer::new([rule("subject", check, "", &[])]).unwrap_err().to_string();
        assert!(error.contains("subject") && error.contains(reason), "{check:?} gave {error}");
    }
}

#[test]
fn nesting_is_bounded_and_does_not_overflow_the_stack() {
    let enforcer = Enforcer::new([]).unwrap();
    for text in ["(".repeat(30_000), "not ".repeat(15_000), format!("{}@{}", "(".repeat(20_000), ")".repeat(20_000))] {
        let yaml = format!("\"x\": {}", Value::from(text));
        assert!(enforcer.load_overrides(&yaml).unwrap_err().to_string().contains("nested more than"));
    }
    let long = format!("\"x\": \"{}\"", vec!["role:a"; 20_000].join(" or "));
    assert!(enforcer.load_overrides(&long).unwrap_err().to_string().contains("at most"));
}

#[test]
fn unknown_rules_are_the_default_rule_or_denied() {
    let creds = map(member());
    assert!(!Enforcer::new([]).unwrap().allows("x", &creds, &Map::new()));
    let with_default = Enforcer::new([rule("default", "role:member", "", &[])]).unwrap();
    assert!(with_default.allows("x", &creds, &Map::new()));
}

#[test]
fn the_same_rule_twice_is_one_and_a_contradiction_is_an_error() {
    let one = rule("a", "role:x", "first", &[]);
    assert_eq!(Enforcer::new([one, one]).unwrap().effective().len(), 1);
    let error = Enforcer::new([one, rule("a", "role:y", "", &[])]).unwrap_err();
    assert!(matches!(error, RegistryError::Duplicate { name, .. } if name == "a"));
}

#[test]
fn cycles_and_unknown_references_are_refused() {
    let error = Enforcer::new([rule("a", "rule:b", "", &[]), rule("b", "not (role:x and rule:a)", "", &[])]);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("a -> b -> a") || text.contains("b -> a -> b"), "{text}");
    let text = Enforcer::new([rule("a", "rule:a", "", &[])]).unwrap_err().to_string();
    assert!(text.contains("a -> a"), "{text}");
    let text = Enforcer::new([rule("a", "not rule:typo", "", &[])]).unwrap_err().to_string();
    assert!(text.contains("\"typo\""), "{text}");
}

#[test]
fn long_chains_and_exploding_references_are_refused_quickly() {
    let enforcer = Enforcer::new([]).unwrap();
    let chain: String = (0..10_000).map(|n| format!("r{n}: rule:r{}\n", n + 1)).collect();
    let text = enforcer.load_overrides(&format!("{chain}r10000: '@'\n")).unwrap_err().to_string();
    assert!(text.contains("deep"), "{text}");
    let doubling: String = (0..60).map(|n| format!("r{n}: rule:r{0} and rule:r{0}\n", n + 1)).collect();
    let text = enforcer.load_overrides(&format!("{doubling}r60: '@'\n")).unwrap_err().to_string();
    assert!(text.contains("100000 checks"), "{text}");
}

const RULES: [Rule; 3] = [
    rule("context_is_admin", "role:admin", "Who is an administrator.", &[]),
    rule(
        "servers:show",
        "rule:context_is_admin or project_id:%(project_id)s",
        "Show a server.",
        &[("GET", "/servers/{id}")],
    ),
    rule("servers:delete", "rule:context_is_admin", "Delete a server.", &[("DELETE", "/servers/{id}")]),
];

#[test]
fn an_override_changes_the_rule_and_every_rule_that_refers_to_it() {
    let enforcer = Enforcer::new(RULES).unwrap();
    let creds = map(member());
    assert!(!enforcer.allows("servers:delete", &creds, &Map::new()));
    enforcer.load_overrides("context_is_admin: role:member\n").unwrap();
    assert!(enforcer.allows("servers:delete", &creds, &Map::new()));
    assert_eq!(enforcer.effective()[0], ("context_is_admin".to_owned(), "role:member".to_owned(), true));
    assert!(!enforcer.effective()[1].2);
    enforcer.load_overrides("").unwrap();
    assert!(!enforcer.allows("servers:delete", &creds, &Map::new()));
}

#[test]
fn lists_of_lists_are_an_or_of_ands() {
    let enforcer = Enforcer::new(RULES).unwrap();
    let creds = map(member());
    for (yaml, expected) in [
        ("servers:delete: []", true),
        ("servers:delete: [[]]", false),
        ("servers:delete: [[\"role:admin\"], [\"role:member\", \"project_id:p1\"]]", true),
        ("servers:delete: [[\"role:admin\"], [\"role:member\", \"project_id:p2\"]]", false),
        ("servers:delete: [\"role:admin\", \"role:member\"]", true),
        ("servers:delete:\n- - role:admin\n- - role:reader\n", true),
        ("servers:delete: [[\"!\"]]", false),
    ] {
        enforcer.load_overrides(yaml).unwrap();
        assert_eq!(enforcer.allows("servers:delete", &creds, &Map::new()), expected, "{yaml}");
    }
}

#[test]
fn a_file_with_any_mistake_keeps_the_rules_in_force() {
    let enforcer = Enforcer::new(RULES).unwrap();
    enforcer.load_overrides("servers:delete: role:member\nhelper: role:x\n").unwrap();
    assert_eq!(enforcer.warnings().len(), 1);
    assert!(enforcer.warnings()[0].contains("helper"));
    let before = enforcer.effective();
    for (yaml, reason) in [
        ("servers:delete: [", "YAML"),
        ("- servers:delete", "a list"),
        ("just text", "a single value"),
        ("1: role:x", "no text"),
        ("servers:delete:\n", "no check"),
        ("servers:delete: true\n", "text or a list"),
        ("servers:delete: [[1]]\n", "inner list"),
        ("servers:delete: [[\"role:a or role:b\"]]\n", "without operators"),
        ("servers:delete: {a: b}\n", "text or a list"),
        ("servers:delete: rule:missing\n", "\"missing\""),
        ("servers:show: role:x\nservers:delete: role:a and\n", "servers:delete"),
        ("servers:delete: http://h/\n", "not offered"),
        ("servers:delete: rule:servers:delete\n", "itself"),
        ("servers:delete: role:x\nservers:delete: role:y\n", "duplicate"),
    ] {
        let error = enforcer.load_overrides(yaml).unwrap_err();
        assert!(error.to_string().contains(reason), "{yaml:?} gave {error}");
        assert_eq!(enforcer.effective(), before);
    }
    assert!(matches!(
        enforcer.load_overrides(&"#".repeat(2 * 1024 * 1024)),
        Err(OverrideError::Shape(text)) if text.contains("larger")
    ));
}

#[test]
fn names_of_no_service_serve_as_aliases_for_others() {
    let enforcer = Enforcer::new(RULES).unwrap();
    enforcer.load_overrides("team: project_id:p1\nservers:delete: rule:team and role:reader\n").unwrap();
    assert!(enforcer.allows("servers:delete", &map(member()), &Map::new()));
    assert!(enforcer.effective().contains(&("team".to_owned(), "project_id:p1".to_owned(), true)));
}

#[test]
fn of_several_files_the_last_counts() {
    let enforcer = Enforcer::new(RULES).unwrap();
    enforcer.load_override_files(["servers:delete: '!'", "servers:delete: '@'"]).unwrap();
    assert!(enforcer.allows("servers:delete", &Map::new(), &Map::new()));
}

#[test]
fn the_sample_file_changes_nothing_and_shows_every_default_when_uncommented() {
    let enforcer = Enforcer::new(RULES).unwrap();
    let sample = enforcer.sample_yaml();
    enforcer.load_overrides(&sample).unwrap();
    assert!(enforcer.effective().iter().all(|(_, _, overridden)| !overridden));
    assert!(sample.contains("# GET  /servers/{id}"));
    let uncommented: String =
        sample.lines().filter_map(|line| line.strip_prefix("#\"")).map(|l| format!("\"{l}\n")).collect();
    enforcer.load_overrides(&uncommented).unwrap();
    for (rule, (name, check, overridden)) in RULES.iter().zip(enforcer.effective()) {
        assert_eq!((rule.name, rule.check, true), (name.as_str(), check.as_str(), overridden));
    }
}

#[test]
fn an_explanation_names_what_decided_and_leaves_out_what_was_not_asked() {
    let enforcer = Enforcer::new([
        rule("admin", "role:admin", "", &[]),
        rule("owner", "project_id:%(project_id)s", "", &[]),
        rule("edit", "rule:admin or (rule:owner and not role:reader)", "", &[]),
    ])
    .unwrap();
    let target = map(json!({"project_id": "p"}));
    let lines = |creds: Value| -> Vec<String> {
        let steps = enforcer.explain("edit", &map(creds), &target).unwrap();
        steps.iter().map(|step| format!("{}{} {}", "  ".repeat(step.depth), step.check, step.allowed)).collect()
    };
    assert_eq!(
        lines(json!({"roles": ["member"], "project_id": "p"})),
        [
            "rule:admin or (rule:owner and not role:reader) true",
            "  rule:admin false",
            "    role:admin false",
            "  rule:owner and not role:reader true",
            "    rule:owner true",
            "      project_id:%(project_id)s true",
            "    not role:reader true",
            "      role:reader false",
        ]
    );
    assert_eq!(
        lines(json!({"roles": ["admin"]})),
        ["rule:admin or (rule:owner and not role:reader) true", "  rule:admin true", "    role:admin true"]
    );
    assert!(enforcer.explain("unknown", &map(json!({})), &target).is_none());
}
