//! What is on the disk: modes, damage, interrupted starts.

use crate::support::*;

#[test]
fn keys_are_private_from_the_start_and_again_after_somebody_opened_them() {
    let world = World::new();
    world.open();
    assert_eq!(mode(&world.dir.path().join("tls")), 0o700);
    for key in ["root.pem", "intermediate.pem"] {
        assert_eq!(mode(&world.file(key)), 0o600, "{key}");
        std::fs::set_permissions(world.file(key), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    world.open();
    for key in ["root.pem", "intermediate.pem"] {
        assert_eq!(mode(&world.file(key)), 0o600, "{key}");
    }
    assert_eq!(mode(&world.dir.path().join("ca.crt")), 0o644);
    // No other file of the directory holds a key, and nothing is left over from writing.
    for entry in std::fs::read_dir(world.dir.path().join("tls")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name}");
        let holds_key = std::fs::read_to_string(entry.path()).unwrap().contains("PRIVATE KEY");
        assert_eq!(holds_key, ["root.pem", "intermediate.pem"].contains(&name.as_str()), "{name}");
    }
}

#[test]
fn the_root_survives_restarts_and_the_ca_file_is_put_back() {
    let world = World::new();
    let first = world.open();
    let second = world.open();
    assert_eq!(first.fingerprint(), second.fingerprint());
    let ca = world.dir.path().join("ca.crt");
    assert_eq!(std::fs::read_to_string(&ca).unwrap(), first.ca_pem());
    std::fs::write(&ca, "gone").unwrap();
    first.renew_if_due().unwrap();
    assert_eq!(std::fs::read_to_string(&ca).unwrap(), first.ca_pem());
}

#[test]
fn a_second_root_is_never_made_while_any_trace_of_the_first_is_left() {
    let all = ["root.pem", "root.crt", "intermediate.pem", "names", "../ca.crt"];
    for kept in &all[1..] {
        let world = World::new();
        world.open().set_names(names("a.example", &[], &[])).unwrap();
        for file in all.iter().filter(|file| file != &kept) {
            std::fs::remove_file(world.file(file)).unwrap();
        }
        let error = world.try_open().expect_err(kept);
        assert!(matches!(error, Error::RootLost { .. }), "{kept}: {error}");
        assert!(error.to_string().contains("Restore"), "{error}");
        assert!(!world.file("root.pem").exists(), "{kept}");
    }
}

#[test]
fn a_damaged_root_is_refused_with_the_reason_and_left_as_it_is() {
    let other = World::new();
    other.open();
    let foreign = std::fs::read_to_string(other.file("root.pem")).unwrap();
    let world = World::new();
    world.open();
    let good = std::fs::read_to_string(world.file("root.pem")).unwrap();
    let key_only = good.split("-----BEGIN CERTIFICATE").next().unwrap().to_owned();
    let certificate = &foreign[foreign.find("-----BEGIN CERTIFICATE").unwrap()..];
    let mixed = key_only.clone() + certificate;
    let truncated = good[..good.len() / 2].to_owned();
    for (content, reason) in [
        (String::new(), "no readable private key"),
        ("\0\u{1}garbage".into(), "no readable private key"),
        (key_only, "no certificate"),
        (truncated, ""),
        (mixed, "does not match"),
        (foreign, "another certificate"),
    ] {
        std::fs::write(world.file("root.pem"), &content).unwrap();
        let error = world.try_open().unwrap_err();
        assert!(matches!(error, Error::RootDamaged { .. }) && error.to_string().contains(reason), "{reason}: {error}");
        assert_eq!(std::fs::read_to_string(world.file("root.pem")).unwrap(), content);
    }
    std::fs::write(world.file("root.pem"), good).unwrap();
    world.open();
}

#[test]
fn an_interrupted_first_start_is_finished_by_the_next() {
    let world = World::new();
    std::fs::create_dir(world.dir.path().join("tls")).unwrap();
    std::fs::write(world.file(".root.pem.99.0"), "half").unwrap();
    let authority = world.open();
    for file in ["root.crt", "intermediate.pem", "../ca.crt"] {
        std::fs::remove_file(world.file(file)).unwrap();
    }
    assert_eq!(world.open().fingerprint(), authority.fingerprint());
    assert!(world.file("root.crt").exists());
}

#[test]
fn a_lost_or_damaged_own_intermediate_is_made_again_from_the_root() {
    for damage in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let world = World::new();
        let ca = world.open().ca_pem();
        std::fs::write(world.file("intermediate.pem"), damage).unwrap();
        let authority = world.open();
        assert_eq!(authority.ca_pem(), ca);
        world.meet(&authority, "localhost").unwrap();
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let error = Authority::open(Setup::in_state_dir(Path::new("/proc/solostack"))).unwrap_err();
    assert!(error.to_string().contains("/proc/solostack/tls"), "{error}");
}

// The operator's intermediate.
