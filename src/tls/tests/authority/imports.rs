//! Bring your own intermediate.

use crate::support::*;

/// A company's certificates, as an operator would bring them.
struct Company {
    root: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

fn authority_params(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::days(30), now + Duration::days(3000));
    params
}

impl Company {
    fn new(name: &str) -> Self {
        Self::with(name, |_| ())
    }
    fn with(name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let mut params = authority_params(name);
        change(&mut params);
        Self { root: rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap() }
    }
    /// Certificate and key of an intermediate of the usual kind, after `change`.
    fn intermediate(
        &self,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
        self.intermediate_with(rcgen::KeyPair::generate().unwrap(), change)
    }
    fn intermediate_with(
        &self,
        key: rcgen::KeyPair,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
        let mut params = authority_params("Company issuing");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        rcgen::CertifiedIssuer::signed_by(params, key, &self.root).unwrap()
    }
}

#[test]
fn a_brought_intermediate_replaces_ours_at_once_and_stays_after_a_restart() {
    let world = World::new();
    let authority = world.open();
    let own = authority.ca_pem();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    // Order in the file does not matter.
    let chain = company.root.pem() + &brought.pem();
    let renewal = authority.import_intermediate(&chain, &brought.key().serialize_pem(), None).unwrap();
    assert!(renewal.leaf && renewal.ca);
    assert_eq!(mode(&world.file("imported.pem")), 0o600);
    for authority in [&authority, &world.open()] {
        let served =
            handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
        assert_eq!(served.len(), 2);
        assert_eq!(&served[1], brought.der());
        assert!(authority.status().imported && authority.status().ca_is_root);
        handshake(authority.server_config(), client(&own, world.hands.now()), "localhost").unwrap_err();
    }
    let ca = std::fs::read_to_string(world.dir.path().join("ca.crt")).unwrap();
    assert_eq!(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap(), *company.root.der());
    // It goes on renewing, and goes back when told.
    world.hands.advance(Duration::hours(7));
    assert!(authority.renew_if_due().unwrap().leaf);
    assert!(Authority::reset_import(&world.setup()).unwrap());
    assert!(authority.renew_if_due().unwrap().ca);
    assert_eq!(authority.ca_pem(), own);
    world.meet(&authority, "localhost").unwrap();
    assert!(!Authority::reset_import(&world.setup()).unwrap());
}

#[test]
fn an_import_by_another_process_is_taken_up_by_the_running_authority() {
    let world = World::new();
    let running = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    let other = world.open();
    other.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    let renewal = running.renew_if_due().unwrap();
    assert!(renewal.leaf && renewal.ca);
    handshake(running.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
    let renewal = running.renew_if_due().unwrap();
    assert!(!renewal.leaf && !renewal.ca);
}

#[test]
fn without_its_root_a_brought_intermediate_serves_clients_that_have_the_root() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), None).unwrap();
    handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
    assert!(!authority.status().ca_is_root);
    assert_eq!(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap(), *brought.der());
    world.open();
}

#[test]
fn a_longer_chain_is_served_whole_without_its_root() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let middle = company.intermediate(|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(1)));
    let mut params = authority_params("Company lab");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let lab = rcgen::CertifiedIssuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &middle).unwrap();
    let file = lab.pem() + &middle.pem();
    authority.import_intermediate(&file, &lab.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    let served =
        handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost").unwrap();
    assert_eq!(served[1..], [lab.der().clone(), middle.der().clone()]);
}

#[test]
fn of_two_roots_of_one_name_the_one_that_signed_is_taken() {
    let world = World::new();
    let authority = world.open();
    let (old, new) = (Company::new("Company root"), Company::new("Company root"));
    let brought = new.intermediate(|_| ());
    let file = brought.pem() + &old.root.pem() + &new.root.pem();
    authority.import_intermediate(&file, &brought.key().serialize_pem(), None).unwrap();
    assert_eq!(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap(), *new.root.der());
}

#[test]
fn a_certificate_with_any_byte_changed_is_refused_or_works() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    let key = brought.key().serialize_pem();
    let (mut refused, mut accepted) = (0, 0);
    let der = brought.der().to_vec();
    for index in 0..der.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = der.clone();
            bytes[index] ^= change;
            let file = pem_of(&bytes);
            match authority.import_intermediate(&file, &key, Some(&company.root.pem())) {
                Err(_) => refused += 1,
                Ok(_) => {
                    accepted += 1;
                    handshake(authority.server_config(), client(&company.root.pem(), world.hands.now()), "localhost")
                        .unwrap();
                }
            }
        }
    }
    // Everything in a certificate is signed, except how the signature itself may be written.
    assert!(refused > 3 * der.len() - 10 && accepted < 10, "{refused} {accepted}");
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[test]
fn a_leaf_never_outlives_a_brought_intermediate_and_its_end_is_said() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let end = world.hands.now() + Duration::hours(5);
    let brought = company.intermediate(|p| p.not_after = end);
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    assert_eq!(authority.leaf_not_after(), end);
    world.hands.advance(Duration::hours(4));
    assert!(!authority.renew_if_due().unwrap().leaf, "nothing to gain");
    world.hands.advance(Duration::hours(2));
    authority.renew_if_due().unwrap();
    assert!(authority.status().problem.unwrap().contains("expired at"));
    // It is still there to be inspected, and to be logged in to with `--insecure`.
    assert!(world.meet(&authority, "localhost").is_err());
    assert!(world.try_open().is_ok());
}

#[test]
fn name_constraints_leave_out_what_they_exclude_and_keep_the_host() {
    let world = World::new();
    let authority = world.open();
    authority.set_names(names("cloud.corp.example", &["localhost"], &["10.1.2.3", "192.0.2.1"])).unwrap();
    let company = Company::new("Company root");
    let brought = company.intermediate(|p| {
        p.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![
                rcgen::GeneralSubtree::DnsName("corp.example".into()),
                rcgen::GeneralSubtree::IpAddress(rcgen::CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8)),
            ],
            excluded_subtrees: vec![],
        });
    });
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    for allowed in ["cloud.corp.example", "10.1.2.3"] {
        world.meet(&authority, allowed).unwrap();
    }
    assert_eq!(authority.status().left_out, ["localhost", "192.0.2.1"]);
    assert!(authority.status().problem.unwrap().contains("localhost, 192.0.2.1"));
}

#[test]
fn every_intermediate_that_cannot_work_is_refused_with_its_reason_and_changes_nothing() {
    let world = World::new();
    let authority = world.open();
    let before = world.leaf(&authority);
    let now = world.hands.now();
    let company = Company::new("Company root");
    let other = Company::new("Other root");
    let fine = company.intermediate(|_| ());
    let key = fine.key().serialize_pem();
    let root = company.root.pem();
    let impostor = Company::new("Company root");

    let with = |change: fn(&mut rcgen::CertificateParams)| {
        let made = company.intermediate(change);
        (made.pem(), made.key().serialize_pem())
    };
    let leaf = with(|p| p.is_ca = rcgen::IsCa::ExplicitNoCa);
    let no_sign = with(|p| p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]);
    let client_only = with(|p| p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]);
    let excluded = with(|p| {
        p.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("corp.example".into())],
            excluded_subtrees: vec![],
        });
    });
    let expired = company.intermediate(|p| p.not_after = now - Duration::MINUTE);
    let future = company.intermediate(|p| p.not_before = now + Duration::HOUR);
    let dead_company = Company::with("Dead root", |p| p.not_after = now - Duration::DAY);
    let of_dead = dead_company.intermediate(|_| ());
    let short_company = Company::with("Short root", |p| {
        p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    });
    let of_short = short_company.intermediate(|_| ());
    let too_deep = {
        let params = authority_params("Company too deep");
        rcgen::CertifiedIssuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &fine).unwrap()
    };
    let foreign_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let (_, p521) = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]);
    let (_, short_rsa) = openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let (_, encrypted) =
        openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:x"]);
    let mut torn = fine.pem();
    torn.truncate(torn.len() / 2);
    let garbage = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n".to_owned();
    let huge = fine.pem() + &"#".repeat(300_000);
    let many = (0..17).map(|_| fine.pem()).collect::<String>();

    let pem = fine.pem();
    let cases: Vec<(&str, &str, &str, Option<&str>, &str)> = vec![
        ("KeyMismatch", &pem, &foreign_key, Some(&root), "does not match the certificate CN=Company issuing"),
        ("NotAuthority", &leaf.0, &leaf.1, Some(&root), "not a certificate authority"),
        ("KeyUsage", &no_sign.0, &no_sign.1, Some(&root), "keyCertSign is missing"),
        ("ExtendedKeyUsage", &client_only.0, &client_only.1, Some(&root), "serverAuth is missing"),
        ("NameConstraints", &excluded.0, &excluded.1, Some(&root), "do not allow the host localhost"),
        ("NoCertificate", "", &key, None, "holds no certificate"),
        ("NoCertificate", &key, &key, None, "holds no certificate"),
        ("NoKey", &pem, &pem, None, "holds no private key"),
        ("NoKey", &pem, "", None, "holds no private key"),
        ("KeyUnsupported", &pem, &p521, None, "P-256"),
        ("KeyUnsupported", &pem, &short_rsa, None, "RSA of 2048"),
        ("KeyEncrypted", &pem, &encrypted, None, "decrypt it first"),
        ("Unparsable", &torn, &key, None, "certificate file"),
        ("Unparsable", &garbage, &key, None, "certificate 1 of the file"),
        ("Unparsable", &pem, &key, Some(&garbage), "root file"),
        ("NoCertificate", &pem, &key, Some(""), "root file"),
        ("TooLarge", &huge, &key, None, "256 KiB"),
        ("TooLarge", &many, &key, None, "16 certificates"),
    ];
    for (kind, cert, key, root, text) in cases {
        let error = authority.import_intermediate(cert, key, root).expect_err(kind);
        assert!(
            format!("{error:?}").starts_with(kind) && error.to_string().contains(text),
            "{kind}: {error:?} {error}"
        );
    }
    let made = |issuer: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>| (issuer.pem(), issuer.key().serialize_pem());
    for (kind, (cert, key), root, text) in [
        ("Expired", made(&expired), root.clone(), "expired at"),
        ("NotYetValid", made(&future), root.clone(), "is not valid before"),
        ("Expired", made(&of_dead), dead_company.root.pem(), "CN=Dead root expired"),
        ("PathLength", (too_deep.pem() + &fine.pem(), too_deep.key().serialize_pem()), root.clone(), "allows 0"),
        ("ChainBroken", made(&fine), other.root.pem(), "is issued by CN=Company root"),
        (
            "ChainBroken",
            (too_deep.pem(), too_deep.key().serialize_pem()),
            root.clone(),
            "is issued by CN=Company issuing",
        ),
        ("ChainSignature", made(&fine), impostor.root.pem(), "was not signed by the key"),
        ("NotRoot", made(&fine), too_deep.pem(), "is not signed by itself"),
        ("SelfSigned", made(&company.root), root.clone(), "is a root"),
    ] {
        let error = authority.import_intermediate(&cert, &key, Some(&root)).expect_err(kind);
        assert!(
            format!("{error:?}").starts_with(kind) && error.to_string().contains(text),
            "{kind}: {error:?} {error}"
        );
    }
    // A root of path length 0 above one intermediate allows none below it but the leaf: that is fine.
    assert!(!world.file("imported.pem").exists());
    assert_eq!(world.leaf(&authority), before);
    let error = authority.import_intermediate(
        &of_short.pem(),
        &of_short.key().serialize_pem(),
        Some(&short_company.root.pem()),
    );
    assert!(matches!(error, Err(ImportError::PathLength { allowed: 0, present: 1, .. })), "{error:?}");
}

#[test]
fn an_intermediate_of_any_usual_key_and_a_windows_style_name_is_accepted() {
    let world = World::new();
    // The certificates below are made later than the clock was set.
    world.hands.advance(Duration::HOUR);
    let authority = world.open();
    let dir = world.dir.path();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let (passed, text) = openssl(arguments);
        assert!(passed, "{arguments:?}: {text}");
    };
    let mut extensions = std::fs::File::create(dir.join("ext")).unwrap();
    writeln!(extensions, "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign").unwrap();
    run(&["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", &path("root.key")]);
    // Two components of one type, as directories of that company have them: every byte of the name must be copied.
    run(&[
        "req",
        "-x509",
        "-new",
        "-key",
        &path("root.key"),
        "-sha384",
        "-days",
        "99",
        "-subj",
        "/DC=example/DC=corp/CN=Corp root",
        "-out",
        &path("root.crt"),
    ]);
    let kinds: [(&str, &[&str]); 5] = [
        ("p256-sec1", &["ecparam", "-name", "prime256v1", "-genkey", "-out"]),
        ("p384", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out"]),
        ("rsa", &["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]),
        ("rsa-pkcs1", &["genrsa", "-traditional", "-out"]),
        ("ed25519", &["genpkey", "-algorithm", "ED25519", "-out"]),
    ];
    for (kind, generate) in kinds {
        let (key, csr, crt) =
            (path(&format!("{kind}.key")), path(&format!("{kind}.csr")), path(&format!("{kind}.crt")));
        run(&[generate, &[key.as_str()]].concat());
        run(&["req", "-new", "-key", &key, "-subj", "/DC=example/DC=corp/OU=a/OU=b/CN=Issuing & more", "-out", &csr]);
        run(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &path("root.crt"),
            "-CAkey",
            &path("root.key"),
            "-CAcreateserial",
            "-sha384",
            "-days",
            "9",
            "-extfile",
            &path("ext"),
            "-out",
            &crt,
        ]);
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        authority
            .import_intermediate(&read(&crt), &read(&key), Some(&read(&path("root.crt"))))
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        let chain = world.meet(&authority, "localhost").unwrap_or_else(|error| panic!("{kind}: {error}"));
        std::fs::write(path("leaf.der"), &chain[0]).unwrap();
        run(&[
            "verify",
            "-CAfile",
            &path("root.crt"),
            "-untrusted",
            &crt,
            "-verify_hostname",
            "localhost",
            &path("leaf.der"),
        ]);
        world.open();
    }
}

#[test]
fn a_damaged_import_keeps_what_is_served_and_is_refused_at_the_next_start() {
    let world = World::new();
    let authority = world.open();
    let company = Company::new("Company root");
    let brought = company.intermediate(|_| ());
    authority.import_intermediate(&brought.pem(), &brought.key().serialize_pem(), Some(&company.root.pem())).unwrap();
    std::fs::write(world.file("imported.pem"), "oops").unwrap();
    assert!(matches!(authority.renew_if_due(), Err(Error::ImportDamaged { .. })));
    assert!(authority.status().problem.unwrap().contains("cannot be used"));
    world.hands.advance(Duration::hours(7));
    assert!(authority.renew_if_due().unwrap().leaf, "renewal goes on");
    assert!(authority.status().problem.is_some(), "and the problem stays visible");
    world.meet(&authority, "localhost").unwrap();
    let error = world.try_open().unwrap_err();
    assert!(error.to_string().contains("solostack ca reset"), "{error}");
    Authority::reset_import(&world.setup()).unwrap();
    world.open();
    authority.renew_if_due().unwrap();
    assert_eq!(authority.status().problem, None);
}
