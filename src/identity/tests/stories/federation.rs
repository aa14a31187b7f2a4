//! Identity providers, mappings, protocols, service providers; a domain's configuration; policies of endpoints.

use serde_json::{Value, json};

use crate::cloud::{Answer, Cloud};

const FED: &str = "/v3/OS-FEDERATION";

impl Cloud {
    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, &self.admin, body).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, &self.admin, body).await
    }

    async fn drop(&self, path: &str) -> Answer {
        self.send("DELETE", path, &self.admin, Value::Null).await
    }

    async fn read(&self, path: &str) -> Answer {
        self.get(path, &self.admin).await
    }
}

#[tokio::test]
async fn an_identity_provider_has_a_domain_of_its_own_and_ids_that_nobody_else_has() {
    let cloud = Cloud::new().await;
    let path = format!("{FED}/identity_providers/acme");
    let body = json!({"identity_provider": {"description": "people", "enabled": true,
        "remote_ids": ["https://acme.example", "acme_id"], "authorization_ttl": 60}});
    let made = cloud.put(&path, body.clone()).await.expect(201);
    let provider = &made["identity_provider"];
    let domain_id = provider["domain_id"].as_str().unwrap().to_owned();
    assert_eq!(
        *provider,
        json!({"id": "acme", "domain_id": domain_id, "enabled": true, "description": "people",
            "authorization_ttl": 60, "remote_ids": ["https://acme.example", "acme_id"],
            "links": {"self": format!("https://cloud:8443/identity{path}"),
                      "protocols": format!("https://cloud:8443/identity{path}/protocols")}})
    );
    let domain = cloud.read(&format!("/v3/domains/{domain_id}")).await.expect(200);
    assert_eq!(domain["domain"]["description"], "Auto generated federated domain for Identity Provider: acme");
    cloud.put(&path, body).await.expect(409);

    let other = format!("{FED}/identity_providers/other");
    let taken = json!({"identity_provider": {"remote_ids": ["acme_id"]}});
    cloud.put(&other, taken).await.expect(409);
    cloud.read(&other).await.expect(404);
    let named = cloud.put(&other, json!({"identity_provider": {"domain_id": "default"}})).await.expect(201);
    assert_eq!(named["identity_provider"]["domain_id"], "default");
    assert_eq!(named["identity_provider"]["enabled"], false);

    let list = async |query: &str| {
        let body = cloud.read(&format!("{FED}/identity_providers{query}")).await.expect(200);
        body["identity_providers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list("").await, ["acme", "other"]);
    assert_eq!(list("?enabled=true").await, ["acme"]);
    assert_eq!(list("?id=other").await, ["other"]);

    let changed = cloud
        .patch(
            &path,
            json!({"identity_provider": {"enabled": false, "remote_ids": ["acme_id"], "authorization_ttl": null}}),
        )
        .await
        .expect(200);
    assert_eq!(changed["identity_provider"]["remote_ids"], json!(["acme_id"]));
    assert_eq!(changed["identity_provider"]["authorization_ttl"], Value::Null);
    for wrong in [
        json!({"identity_provider": {}}),
        json!({"identity_provider": {"domain_id": "default"}}),
        json!({"identity_provider": {"enabled": "yes"}}),
        json!({"identity_provider": {"remote_ids": ["a", "a"]}}),
        json!({"identity_provider": {"authorization_ttl": -1}}),
        json!({"identity_provider": {"color": "red"}}),
    ] {
        cloud.patch(&path, wrong.clone()).await.expect(400);
    }
    cloud
        .put(&format!("{FED}/identity_providers/x"), json!({"identity_provider": {"domain_id": "none"}}))
        .await
        .expect(404);
    cloud.drop(&path).await.expect(204);
    cloud.drop(&path).await.expect(404);
}

#[tokio::test]
async fn a_protocol_binds_a_provider_to_a_mapping_that_is_then_kept() {
    let cloud = Cloud::new().await;
    let rules = json!([{"local": [{"user": {"name": "{0}"}}, {"group": {"id": "0cd5e9"}}],
        "remote": [{"type": "UserName"}, {"type": "orgPersonType", "not_any_of": ["Contractor"]}]}]);
    let mapping = format!("{FED}/mappings/people");
    let made = cloud.put(&mapping, json!({"mapping": {"rules": rules}})).await.expect(201);
    assert_eq!(
        made["mapping"],
        json!({"id": "people", "rules": rules, "schema_version": "1.0",
            "links": {"self": format!("https://cloud:8443/identity{mapping}")}})
    );
    cloud.put(&mapping, json!({"mapping": {"rules": rules}})).await.expect(409);
    cloud.put(&format!("{FED}/mappings/bad"), json!({"mapping": {"rules": []}})).await.expect(400);
    cloud.put(&format!("{FED}/mappings/bad"), json!({"mapping": {}})).await.expect(400);
    cloud
        .patch(
            &mapping,
            json!({"mapping": {"rules": [{"local": [{"user": {"name": "{9}"}}],
        "remote": [{"type": "a"}]}]}}),
        )
        .await
        .expect(400);
    let unchosen = cloud.patch(&mapping, json!({"mapping": {"schema_version": null}})).await.expect(200);
    assert_eq!(unchosen["mapping"]["schema_version"], "1.0");
    cloud.patch(&mapping, json!({"mapping": {"schema_version": "2.0"}})).await.expect(200);

    cloud.put(&format!("{FED}/identity_providers/acme"), json!({"identity_provider": {}})).await.expect(201);
    let protocol = format!("{FED}/identity_providers/acme/protocols/openid");
    cloud.put(&protocol, json!({"protocol": {"mapping_id": "none"}})).await.expect(400);
    cloud.put(&protocol, json!({"protocol": {}})).await.expect(400);
    let made = cloud.put(&protocol, json!({"protocol": {"mapping_id": "people"}})).await.expect(201);
    assert_eq!(made["protocol"]["mapping_id"], "people");
    assert_eq!(
        made["protocol"]["links"]["identity_provider"],
        format!("https://cloud:8443/identity{FED}/identity_providers/acme")
    );
    cloud.put(&protocol, json!({"protocol": {"mapping_id": "people"}})).await.expect(409);
    cloud
        .put(&format!("{FED}/identity_providers/none/protocols/x"), json!({"protocol": {"mapping_id": "people"}}))
        .await
        .expect(404);
    cloud.patch(&protocol, json!({"protocol": {"remote_id_attribute": "HTTP_OIDC_ISS"}})).await.expect(200);
    let shown = cloud.read(&protocol).await.expect(200);
    assert_eq!(shown["protocol"]["remote_id_attribute"], "HTTP_OIDC_ISS");
    let list = cloud.read(&format!("{FED}/identity_providers/acme/protocols")).await.expect(200);
    assert_eq!(list["protocols"].as_array().unwrap().len(), 1);

    cloud.drop(&mapping).await.expect(409);
    cloud.drop(&protocol).await.expect(204);
    cloud.read(&protocol).await.expect(404);
    cloud.drop(&mapping).await.expect(204);
}

#[tokio::test]
async fn a_service_provider_is_kept_with_its_addresses() {
    let cloud = Cloud::new().await;
    let path = format!("{FED}/service_providers/beta");
    let body =
        json!({"service_provider": {"auth_url": "https://beta.example/v3/auth", "sp_url": "https://beta.example/sp"}});
    let made = cloud.put(&path, body.clone()).await.expect(201);
    assert_eq!(
        made["service_provider"],
        json!({"id": "beta", "auth_url": "https://beta.example/v3/auth", "sp_url": "https://beta.example/sp",
            "description": null, "enabled": false, "relay_state_prefix": "ss:mem:",
            "links": {"self": format!("https://cloud:8443/identity{path}")}})
    );
    cloud.put(&path, body).await.expect(409);
    cloud
        .put(&format!("{FED}/service_providers/c"), json!({"service_provider": {"auth_url": "https://c"}}))
        .await
        .expect(400);
    cloud.patch(&path, json!({"service_provider": {"sp_url": "not a url"}})).await.expect(400);
    let changed = cloud.patch(&path, json!({"service_provider": {"enabled": true}})).await.expect(200);
    assert_eq!(changed["service_provider"]["enabled"], true);
    let list = cloud.read(&format!("{FED}/service_providers?enabled=true")).await.expect(200);
    assert_eq!(list["service_providers"].as_array().unwrap().len(), 1);
    cloud.drop(&path).await.expect(204);
    cloud.read(&path).await.expect(404);
}

#[tokio::test]
async fn a_domain_has_options_of_its_own_and_never_shows_a_secret() {
    let cloud = Cloud::new().await;
    let domain = cloud.domain("corp").await;
    let path = format!("/v3/domains/{domain}/config");
    cloud.read(&path).await.expect(404);
    let config = json!({"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://corp", "user_tree_dn": "ou=u"}});
    let mut body = json!({"config": config});
    body["config"]["ldap"]["password"] = json!("tell-nobody");
    let made = cloud.put(&path, body.clone()).await.expect(201);
    assert_eq!(made, json!({"config": config}));
    assert_eq!(cloud.put(&path, body).await.expect(200), json!({"config": config}));
    assert_eq!(cloud.read(&format!("{path}/ldap")).await.expect(200), json!({"config": {"ldap": config["ldap"]}}));
    assert_eq!(cloud.read(&format!("{path}/ldap/url")).await.expect(200), json!({"config": {"url": "ldap://corp"}}));
    cloud.read(&format!("{path}/ldap/password")).await.expect(404);
    cloud.read(&format!("{path}/ldap/suffix")).await.expect(404);
    cloud.read(&format!("{path}/assignment")).await.expect(403);
    cloud.read(&format!("{path}/ldap/color")).await.expect(403);
    for file in
        std::fs::read_dir(cloud.folder.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(11).any(|bytes| bytes == b"tell-nobody"), "{}", file.display());
    }

    let whole = cloud.patch(&format!("{path}/ldap/url"), json!({"config": {"url": "ldap://new"}})).await.expect(200);
    assert_eq!(whole["config"]["ldap"]["url"], "ldap://new");
    let whole = cloud.patch(&format!("{path}/ldap"), json!({"config": {"ldap": {"use_tls": true}}})).await.expect(200);
    assert_eq!(whole["config"]["ldap"]["use_tls"], true);
    cloud.patch(&format!("{path}/ldap/url"), json!({"config": {"suffix": "x"}})).await.expect(403);
    cloud.patch(&format!("{path}/ldap"), json!({"config": {"identity": {"driver": "sql"}}})).await.expect(403);
    cloud.patch(&format!("{path}/ldap/suffix"), json!({"config": {"suffix": "x"}})).await.expect(404);
    cloud.put(&path, json!({"config": {"token": {"provider": "x"}}})).await.expect(403);
    cloud.put(&path, json!({"config": {}})).await.expect(403);
    cloud.put("/v3/domains/none/config", json!({"config": {"identity": {"driver": "sql"}}})).await.expect(404);

    cloud.drop(&format!("{path}/ldap/url")).await.expect(204);
    cloud.drop(&format!("{path}/ldap/url")).await.expect(404);
    cloud.drop(&format!("{path}/ldap")).await.expect(204);
    assert_eq!(cloud.read(&path).await.expect(200), json!({"config": {"identity": {"driver": "ldap"}}}));
    cloud.drop(&path).await.expect(204);

    let defaults = cloud.read("/v3/domains/config/default").await.expect(200);
    assert_eq!(defaults["config"]["identity"]["driver"], "sql");
    assert!(defaults["config"]["ldap"].get("password").is_none());
    let one = cloud.read("/v3/domains/config/ldap/url/default").await.expect(200);
    assert_eq!(one, json!({"config": {"url": "ldap://localhost"}}));
    cloud.read("/v3/domains/config/ldap/default").await.expect(200);
    cloud.read("/v3/domains/config/other/default").await.expect(403);

    let rules = cloud.read("/v3/domains/default/config/security_compliance").await.expect(200);
    assert_eq!(rules["config"]["security_compliance"]["password_regex"], Value::Null);
    cloud.read(&format!("{path}/security_compliance")).await.expect(403);
}

#[tokio::test]
async fn the_nearest_policy_of_an_endpoint_wins() {
    let cloud = Cloud::new().await;
    let policy = async |blob: &str| {
        let body = json!({"policy": {"type": "text/plain", "blob": blob}});
        crate::cloud::id(cloud.send("POST", "/v3/policies", &cloud.admin, body).await.expect(201), "policy")
    };
    let (far, near, nearest) = (policy("far").await, policy("near").await, policy("nearest").await);
    let endpoints = cloud.read("/v3/endpoints?interface=public").await.expect(200);
    let endpoint = &endpoints["endpoints"][0];
    let (id, service) = (endpoint["id"].as_str().unwrap(), endpoint["service_id"].as_str().unwrap());
    let region = endpoint["region_id"].as_str().unwrap();
    let in_force = async || {
        let answer = cloud.read(&format!("/v3/endpoints/{id}/OS-ENDPOINT-POLICY/policy")).await;
        answer.body["policy"]["blob"].as_str().map(str::to_owned)
    };
    assert_eq!(in_force().await, None);
    let below = |policy: &str, place: &str| format!("/v3/policies/{policy}/OS-ENDPOINT-POLICY/{place}");
    let places = [
        (&far, format!("services/{service}"), "far"),
        (&near, format!("services/{service}/regions/{region}"), "near"),
        (&nearest, format!("endpoints/{id}"), "nearest"),
    ];
    for (policy, place, blob) in &places {
        cloud.read(&below(policy, place)).await.expect(404);
        cloud.put(&below(policy, place), Value::Null).await.expect(204);
        cloud.read(&below(policy, place)).await.expect(204);
        assert_eq!(in_force().await.as_deref(), Some(*blob));
        let list = cloud.read(&below(policy, "endpoints")).await.expect(200);
        let ids: Vec<_> = list["endpoints"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap()).collect();
        assert!(ids.contains(&id), "{blob}: {ids:?}");
    }
    // A policy takes the place of another.
    cloud.put(&below(&far, &format!("endpoints/{id}")), Value::Null).await.expect(204);
    assert_eq!(in_force().await.as_deref(), Some("far"));
    cloud.drop(&below(&nearest, &format!("endpoints/{id}"))).await.expect(404);
    cloud.drop(&below(&far, &format!("endpoints/{id}"))).await.expect(204);
    assert_eq!(in_force().await.as_deref(), Some("near"));
    cloud.put(&below(&far, "endpoints/none"), Value::Null).await.expect(404);
    cloud.put(&below("none", &format!("endpoints/{id}")), Value::Null).await.expect(404);
}

#[tokio::test]
async fn a_revoked_token_is_an_event() {
    let cloud = Cloud::new().await;
    let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
    let other = cloud.login("admin", crate::cloud::PASSWORD, scope).await;
    let shown =
        cloud.raw("GET", "/v3/auth/tokens", &[("x-auth-token", &other), ("x-subject-token", &other)], None).await;
    let audit_id = shown.expect(200)["token"]["audit_ids"][0].clone();
    assert_eq!(cloud.read("/v3/OS-REVOKE/events").await.expect(200)["events"], json!([]));
    let headers = [("x-auth-token", cloud.admin.as_str()), ("x-subject-token", &other)];
    cloud.raw("DELETE", "/v3/auth/tokens", &headers, None).await.expect(204);
    let events = cloud.read("/v3/OS-REVOKE/events").await.expect(200);
    assert_eq!(events["events"][0]["audit_chain_id"], audit_id);
    assert_eq!(cloud.read("/v3/OS-REVOKE/events?since=2200-01-01T00:00:00Z").await.expect(200)["events"], json!([]));
    cloud.read("/v3/OS-REVOKE/events?since=yesterday").await.expect(400);
}
