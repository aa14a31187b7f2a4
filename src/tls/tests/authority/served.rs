//! What a client meets: chain, names, protocols, renewal.

use crate::support::*;

#[test]
fn a_client_that_trusts_the_root_alone_accepts_every_name_and_no_other() {
    let world = World::new();
    let authority = world.open();
    authority
        .set_names(names("cloud.example", &["localhost", "*.apps.example"], &["192.0.2.7", "2001:db8::7"]))
        .unwrap();
    for name in ["cloud.example", "localhost", "a.apps.example", "192.0.2.7", "2001:db8::7"] {
        let chain = world.meet(&authority, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(chain.len(), 2, "leaf, then intermediate, and no root");
    }
    for name in ["other.example", "192.0.2.8", "apps.example"] {
        world.meet(&authority, name).unwrap_err();
    }
}

#[test]
fn the_three_certificates_say_what_the_design_says() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.example", &["localhost"], &["192.0.2.7"])).unwrap();
    let chain = world.meet(&authority, "cloud.example").unwrap();
    let root_der = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap();
    let now = world.hands.now();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let (_, intermediate) = X509Certificate::from_der(&chain[1]).unwrap();
    let (_, root) = X509Certificate::from_der(&root_der).unwrap();

    for (certificate, days_at_least, days_at_most) in [(&root, 3650, 3654), (&intermediate, 364, 367)] {
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert_eq!(usage.value.flags.count_ones(), 2);
        let days = (certificate.validity().not_after.to_datetime() - now).whole_days();
        assert!((days_at_least - 2..=days_at_most).contains(&days), "{days}");
        assert!(certificate.is_ca());
    }
    assert_eq!(intermediate.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(0));

    let validity = leaf.validity();
    assert_eq!(validity.not_after.to_datetime(), now + Duration::hours(12));
    for certificate in [&root, &intermediate, &leaf] {
        assert_eq!(certificate.validity().not_before.to_datetime(), now - Duration::DAY);
        assert_eq!(certificate.public_key().algorithm.algorithm.to_id_string(), "1.2.840.10045.2.1");
        assert!(certificate.raw_serial().len() == 16 && certificate.raw_serial()[0] < 0x80);
    }
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap();
    assert!(usage.value.server_auth && !usage.value.client_auth && !usage.value.any);
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.value.general_names.contains(&GeneralName::DNSName("cloud.example")));
    assert!(san.value.general_names.contains(&GeneralName::IPAddress(&[192, 0, 2, 7])));

    // Each names its issuer's key by the issuer's own identifier.
    let id = |certificate: &X509Certificate<'_>, own: bool| {
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) if own => Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) if !own => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        })
    };
    assert_eq!(id(&leaf, false), id(&intermediate, true));
    assert_eq!(id(&intermediate, false), id(&root, true));
    assert!(id(&leaf, true).is_some() && id(&root, true).is_some());
}

#[test]
fn alpn_offers_http_2_and_1_1_and_tls_1_2_is_spoken() {
    let world = World::new();
    let authority = world.open();
    let config = authority.server_config();
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap()).unwrap();
    let old = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    handshake(config, Arc::new(old), "localhost").unwrap();
}

#[test]
fn openssl_accepts_the_chain_with_the_root_alone() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.example", &["localhost"], &["127.0.0.1"])).unwrap();
    let chain = world.meet(&authority, "localhost").unwrap();
    let write = |name: &str, der: &[u8]| {
        let path = world.dir.path().join(name);
        std::fs::write(&path, der).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (leaf, intermediate) = (write("leaf.der", &chain[0]), write("intermediate.der", &chain[1]));
    let ca = world.dir.path().join("ca.crt");
    let ca = ca.to_str().unwrap();
    for check in [["-verify_hostname", "cloud.example"], ["-verify_ip", "127.0.0.1"]] {
        let (passed, text) = openssl(
            &[
                &["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca][..],
                &check,
                &["-untrusted", &intermediate, &leaf],
            ]
            .concat(),
        );
        assert!(passed, "{text}");
    }
    let (_, text) = openssl(&["x509", "-in", ca, "-noout", "-fingerprint", "-sha256"]);
    assert!(text.trim().ends_with(&authority.fingerprint()), "{text} {}", authority.fingerprint());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_s_client_verifies_a_live_server_by_name_and_by_address() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.example", &[], &["127.0.0.1"])).unwrap();
    let (port, stop) = echo_server(&authority).await;
    let ca = world.dir.path().join("ca.crt").to_str().unwrap().to_owned();
    for (flag, name) in [("-verify_hostname", "cloud.example"), ("-verify_ip", "127.0.0.1")] {
        for version in ["-tls1_2", "-tls1_3"] {
            let (ca, port) = (ca.clone(), format!("127.0.0.1:{port}"));
            let (passed, text) = tokio::task::spawn_blocking(move || {
                openssl(&["s_client", "-connect", &port, "-CAfile", &ca, "-verify_return_error", flag, name, version])
            })
            .await
            .unwrap();
            assert!(passed && text.contains("Verify return code: 0 (ok)"), "{flag} {version}: {text}");
        }
    }
    let port = format!("127.0.0.1:{port}");
    let (passed, text) = tokio::task::spawn_blocking(move || {
        openssl(&[
            "s_client",
            "-connect",
            &port,
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-verify_hostname",
            "other.example",
        ])
    })
    .await
    .unwrap();
    assert!(!passed, "{text}");
    stop.store(true, Ordering::SeqCst);
}

// Renewal.

#[test]
fn the_leaf_is_renewed_at_half_its_life_and_not_before() {
    let world = World::new();
    let authority = world.open();
    let first = world.leaf(&authority);
    world.hands.advance(Duration::minutes(359));
    assert!(!authority.renew_if_due().unwrap().leaf);
    assert_eq!(world.leaf(&authority), first);
    world.hands.advance(Duration::minutes(1));
    let renewal = authority.renew_if_due().unwrap();
    assert!(renewal.leaf && !renewal.ca);
    assert_eq!(renewal.leaf_not_after, world.hands.now() + Duration::hours(12));
    assert_ne!(world.leaf(&authority), first);
}

#[test]
fn a_change_of_names_makes_a_new_leaf_and_the_same_names_do_not() {
    let world = World::new();
    let authority = world.open();
    assert!(authority.set_names(names("a.example", &["localhost"], &[])).unwrap().leaf);
    let first = world.leaf(&authority);
    assert!(!authority.set_names(names("A.example", &["localhost", "LOCALHOST."], &[])).unwrap().leaf);
    assert_eq!(world.leaf(&authority), first);
    assert!(authority.set_names(names("a.example", &["localhost"], &["192.0.2.9"])).unwrap().leaf);
    world.meet(&authority, "192.0.2.9").unwrap();
    // And the next start begins with them.
    world.meet(&world.open(), "192.0.2.9").unwrap();
}

#[test]
fn a_handshake_never_meets_a_leaf_that_is_not_valid_now() {
    let world = World::new();
    let authority = world.open();
    let year = Duration::days(365);
    for jump in [Duration::hours(13), Duration::days(40), year, -year, -year, year, year, Duration::days(-2)] {
        let before = world.leaf(&authority);
        world.hands.advance(jump);
        // No timer ran.
        let after = world.leaf(&authority);
        assert_ne!(before, after, "{jump}");
        let (_, parsed) = X509Certificate::from_der(&after).unwrap();
        assert_eq!(parsed.validity().not_after.to_datetime(), world.hands.now() + Duration::hours(12), "{jump}");
    }
    // What handshakes made without touching the disk is saved by the timer, and the next start continues with it.
    authority.renew_if_due().unwrap();
    let intermediate = world.meet(&authority, "localhost").unwrap().remove(1);
    assert_eq!(world.meet(&world.open(), "localhost").unwrap()[1], intermediate);
}

#[test]
fn our_own_intermediate_is_replaced_at_half_its_life_under_the_same_root() {
    let world = World::new();
    let authority = world.open();
    let (ca, first) = (authority.ca_pem(), world.meet(&authority, "localhost").unwrap().remove(1));
    world.hands.advance(Duration::days(170));
    authority.renew_if_due().unwrap();
    assert_eq!(world.meet(&authority, "localhost").unwrap()[1], first);
    world.hands.advance(Duration::days(15));
    assert!(!authority.renew_if_due().unwrap().ca);
    assert_ne!(world.meet(&authority, "localhost").unwrap()[1], first);
    assert_eq!(authority.ca_pem(), ca);
}

#[test]
fn a_wrong_clock_is_said_and_does_not_stop_the_service() {
    let world = World::new();
    let authority = world.open();
    assert_eq!(authority.status().problem, None);
    world.hands.advance(Duration::days(-400));
    authority.renew_if_due().unwrap();
    assert!(authority.status().problem.unwrap().contains("is not valid before"));
    world.meet(&authority, "localhost").unwrap();
    world.hands.advance(Duration::days(4500));
    authority.renew_if_due().unwrap();
    assert!(authority.status().problem.unwrap().contains("expired at"));
}

#[test]
fn a_first_boot_with_a_dead_clock_makes_a_root_that_lasts() {
    let world = World::new();
    world.hands.0.store(946_684_800, Ordering::SeqCst); // 2000-01-01
    let authority = world.open();
    world.meet(&authority, "localhost").unwrap();
    world.hands.0.store(Hands::at_real_time().0.load(Ordering::SeqCst), Ordering::SeqCst);
    authority.renew_if_due().unwrap();
    world.meet(&authority, "localhost").unwrap();
    assert_eq!(authority.status().problem, None);
    assert!(authority.status().ca_not_after > world.hands.now() + Duration::days(3000));
}
