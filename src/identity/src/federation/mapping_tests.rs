use serde_json::json;

use super::*;

fn said(pairs: &[(&str, &[&str])]) -> Assertion {
    pairs.iter().map(|(name, values)| ((*name).to_owned(), values.iter().map(|v| (*v).to_owned()).collect())).collect()
}

/// User name, group ids, group names.
fn short(mapped: &Mapped) -> (String, Vec<&str>, Vec<&str>) {
    (
        mapped.user.name.clone().or_else(|| mapped.user.id.clone()).unwrap_or_default(),
        mapped.group_ids.iter().map(String::as_str).collect(),
        mapped.groups.iter().map(|(name, _)| name.as_str()).collect(),
    )
}

struct Case {
    what: &'static str,
    rules: Value,
    said: Assertion,
    /// `None`: nobody comes in.
    want: Option<(&'static str, &'static [&'static str], &'static [&'static str])>,
}

fn check(cases: Vec<Case>) {
    for case in cases {
        super::super::rules::check(&case.rules).unwrap_or_else(|error| panic!("{}: {error:?}", case.what));
        let got = apply(&case.rules, "1.0", &case.said);
        match (&got, case.want) {
            (Err(_), None) => {}
            (Ok(mapped), Some((name, ids, groups))) => {
                assert_eq!(short(mapped), (name.to_owned(), ids.to_vec(), groups.to_vec()), "{}", case.what);
            }
            _ => panic!("{}: {got:?}", case.what),
        }
    }
}

#[test]
fn rules_do_what_the_documentation_says() {
    let employee = json!([{
        "local": [{"user": {"name": "{0}"}}, {"group": {"id": "staff"}}],
        "remote": [{"type": "UserName"}, {"type": "orgPersonType", "not_any_of": ["Contractor", "SubContractor"]}],
    }]);
    let by_name = json!([{
        "local": [{"user": {"name": "{0} {1}", "email": "{2}"}},
                  {"group": {"name": "{3}", "domain": {"name": "d"}}}],
        "remote": [{"type": "First"}, {"type": "Last"}, {"type": "Email"}, {"type": "Team"}],
    }]);
    let any = json!([{
        "local": [{"user": {"name": "{0}"}, "group": {"id": "g"}}],
        "remote": [{"type": "UserName"}, {"type": "mail", "any_one_of": [".*@example.com$"], "regex": true}],
    }]);
    // The condition comes first: it hands nothing over, so that {0} is the name behind it.
    let counted = json!([{
        "local": [{"user": {"name": "{0}"}}],
        "remote": [{"type": "kind", "any_one_of": ["person"]}, {"type": "UserName"}],
    }]);
    let white = json!([{
        "local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"name": "d"}}],
        "remote": [{"type": "UserName"}, {"type": "teams", "whitelist": ["dev", "ops"]}],
    }]);
    let black = json!([{
        "local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"name": "d"}}],
        "remote": [{"type": "UserName"}, {"type": "teams", "blacklist": ["^secret-"], "regex": true}],
    }]);
    let ids = json!([{
        "local": [{"user": {"name": "{0}"}, "group_ids": "{1}"}],
        "remote": [{"type": "UserName"}, {"type": "ids"}],
    }]);
    let merged = json!([
        {"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "UserName"}]},
        {"local": [{"user": {"name": "second"}}, {"group": {"id": "all"}}], "remote": [{"type": "UserName"}]},
        {"local": [{"group": {"id": "never"}}], "remote": [{"type": "absent"}]},
        {"local": [{"group": {"id": "dev"}}], "remote": [{"type": "teams", "any_one_of": ["dev"]}]},
    ]);
    let nameless = json!([{"local": [{"group": {"id": "g"}}], "remote": [{"type": "teams", "any_one_of": ["dev"]}]}]);
    let bo = said(&[("UserName", &["bo"]), ("orgPersonType", &["Employee"]), ("teams", &["dev", "x", "secret-a"])]);
    check(vec![
        Case { what: "not_any_of", rules: employee.clone(), said: bo.clone(), want: Some(("bo", &["staff"], &[])) },
        Case {
            what: "not_any_of refuses one of several values",
            rules: employee.clone(),
            said: said(&[("UserName", &["bo"]), ("orgPersonType", &["Employee", "Contractor"])]),
            want: None,
        },
        Case { what: "an absent attribute", rules: employee, said: said(&[("UserName", &["bo"])]), want: None },
        Case {
            what: "several places in a text",
            rules: by_name,
            said: said(&[("First", &["Bo"]), ("Last", &["Ek"]), ("Email", &["bo@x"]), ("Team", &["dev"])]),
            want: Some(("Bo Ek", &[], &["dev"])),
        },
        Case {
            what: "any_one_of by pattern",
            rules: any.clone(),
            said: said(&[("UserName", &["bo"]), ("mail", &["bo@other.test", "bo@example.com"])]),
            want: Some(("bo", &["g"], &[])),
        },
        Case {
            what: "any_one_of by pattern does not match",
            rules: any,
            said: said(&[("UserName", &["bo"]), ("mail", &["bo@example.com.test"])]),
            want: None,
        },
        Case {
            what: "conditions are not counted",
            rules: counted,
            said: said(&[("UserName", &["bo"]), ("kind", &["person"])]),
            want: Some(("bo", &[], &[])),
        },
        Case { what: "whitelist", rules: white.clone(), said: bo.clone(), want: Some(("bo", &[], &["dev"])) },
        Case {
            what: "whitelist that leaves nothing",
            rules: white,
            said: said(&[("UserName", &["bo"]), ("teams", &["x"])]),
            want: Some(("bo", &[], &[])),
        },
        Case { what: "blacklist by pattern", rules: black, said: bo.clone(), want: Some(("bo", &[], &["dev", "x"])) },
        Case {
            what: "group_ids",
            rules: ids,
            said: said(&[("UserName", &["bo"]), ("ids", &["b", "a", "b"])]),
            want: Some(("bo", &["a", "b"], &[])),
        },
        Case {
            what: "several rules: the first user, all groups",
            rules: merged,
            said: bo,
            want: Some(("bo", &["all", "dev"], &[])),
        },
        Case {
            what: "without a user the web server's name stands in",
            rules: nameless.clone(),
            said: said(&[("teams", &["dev"]), (REMOTE_USER, &["bo@idp"])]),
            want: Some(("bo@idp", &["g"], &[])),
        },
        Case { what: "and without that nobody", rules: nameless, said: said(&[("teams", &["dev"])]), want: None },
    ]);
}

#[test]
fn what_a_provider_says_is_never_read_as_a_rule() {
    let plain = json!([{
        "local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"id": "d"}}],
        "remote": [{"type": "UserName"}, {"type": "teams"}],
    }]);
    let long = "x".repeat(256);
    let many: Vec<String> = (0..=GROUPS_MAX).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(vec![
        Case {
            what: "places in values stay text",
            rules: plain.clone(),
            said: said(&[("UserName", &["{1}"]), ("teams", &["{0}", "a;admin", "['admin']"])]),
            want: Some(("{1}", &[], &["{0}", "a;admin", "['admin']"])),
        },
        Case {
            what: "a name is one name",
            rules: plain.clone(),
            said: said(&[("UserName", &["bo", "admin"]), ("teams", &["a"])]),
            want: None,
        },
        Case {
            what: "names have a length",
            rules: plain.clone(),
            said: said(&[("UserName", &[&long]), ("teams", &["a"])]),
            want: None,
        },
        Case {
            what: "names are printable",
            rules: plain.clone(),
            said: said(&[("UserName", &["bo\n"]), ("teams", &["a"])]),
            want: None,
        },
        Case {
            what: "an empty name is none",
            rules: plain.clone(),
            said: said(&[("UserName", &[""]), ("teams", &["a"])]),
            want: None,
        },
        Case {
            what: "groups are bounded",
            rules: plain,
            said: said(&[("UserName", &["bo"]), ("teams", &many)]),
            want: None,
        },
        Case {
            what: "a pattern that would explode elsewhere",
            rules: json!([{"local": [{"user": {"name": "{0}"}}],
                "remote": [{"type": "UserName"}, {"type": "x", "any_one_of": ["^(a+)+$"], "regex": true}]}]),
            said: said(&[("UserName", &["bo"]), ("x", &[&format!("{}!", "a".repeat(50_000))])]),
            want: None,
        },
    ]);
    for refused in ["(?=x)", "(a)\\1", "a{1000}{1000}{1000}"] {
        assert!(pattern(refused).is_err(), "{refused}");
    }
}

#[test]
fn domains_of_ephemeral_users_and_projects_count_from_schema_2() {
    let rules = json!([{
        "local": [
            {"user": {"name": "{0}", "domain": {"name": "elsewhere"}}},
            {"projects": [{"name": "of-{0}", "roles": [{"name": "member"}, {"name": "reader"}]},
                          {"name": "shared", "roles": [{"name": "reader"}], "domain": {"id": "x"}}],
             "domain": {"name": "beside"}},
        ],
        "remote": [{"type": "UserName"}],
    }]);
    super::super::rules::check(&rules).unwrap();
    let said = said(&[("UserName", &["bo"])]);
    let one = apply(&rules, "1.0", &said).unwrap();
    assert!(one.user.domain.is_none() && one.projects.iter().all(|project| project.domain.is_none()));
    assert_eq!((one.projects[0].name.as_str(), one.projects[0].roles.len()), ("of-bo", 2));
    let two = apply(&rules, "2.0", &said).unwrap();
    assert!(matches!(&two.user.domain, Some(DomainRef::Name(name)) if name == "elsewhere"));
    assert!(matches!(&two.projects[0].domain, Some(DomainRef::Name(name)) if name == "beside"));
    assert!(matches!(&two.projects[1].domain, Some(DomainRef::Id(id)) if id == "x"));
    let local = json!([{"local": [{"user": {"name": "{0}", "type": "local", "domain": {"id": "default"}}}],
        "remote": [{"type": "UserName"}]}]);
    let local = apply(&local, "1.0", &said).unwrap();
    assert_eq!(local.user.kind, UserKind::Local);
    assert!(matches!(&local.user.domain, Some(DomainRef::Id(id)) if id == "default"));
}

#[test]
fn claims_have_the_names_that_mappings_use() {
    let claims = json!({
        "sub": "1", "email_verified": true, "groups": ["a", "b;c", 3, null, {"x": 1}],
        "realm_access": {"roles": ["r"]}, "OIDC-sub": "eve", "HTTP_OIDC_SUB": "eve", "deep": {"a": {"b": {"c": {"d": {"e": 1}}}}}, "nothing": null,
    });
    let assertion = of_claims(claims.as_object().unwrap());
    assert_eq!(assertion["sub"], ["1"]);
    assert_eq!(assertion["OIDC-sub"], ["1"]);
    assert_eq!(assertion["HTTP_OIDC_EMAIL_VERIFIED"], ["true"]);
    assert_eq!(assertion["OIDC-groups"], ["a", "b;c", "3"]);
    assert_eq!(assertion["OIDC-realm_access.roles"], ["r"]);
    assert_eq!(assertion["HTTP_OIDC_REALM_ACCESS_ROLES"], ["r"]);
    assert!(!assertion.contains_key("nothing") && !assertion.keys().any(|name| name.contains("deep.a.b.c.d.e")));
}
