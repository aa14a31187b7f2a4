use super::file::nearest;
use super::*;

fn problems(text: &str) -> Vec<String> {
    let problems = resolve(text, &[]).expect_err(text);
    problems.into_iter().map(|p| format!("{}: {}", p.line.map_or("-".into(), |l| l.to_string()), p.text)).collect()
}

#[test]
fn an_empty_file_is_every_default_and_every_default_is_allowed() {
    assert_eq!(resolve("", &[]).unwrap(), Config::default());
    for key in KEYS {
        if let Some(default) = key.kind.default() {
            assert_eq!(key.kind.accept(default.clone()), Ok(default), "{}", key.name);
        }
    }
    let config = Config::default();
    assert_eq!(config.state_dir, Path::new("/var/lib/solostack"));
    assert_eq!((config.https_port, config.http_port, config.service_ports), (443, Some(80), true));
    assert_eq!(config.network.external_subnet.to_string(), "172.24.4.0/24");
    assert_eq!(config.scheduling.cpu_allocation_ratio, 4.0);
    assert_eq!(config.quota.ram_mib, 51200);
}

#[test]
fn every_key_changes_the_configuration() {
    for key in KEYS {
        let other = match &key.kind {
            Kind::Bool(default) => (!default).to_string(),
            Kind::Int { default, min, max } => if default == max { min } else { max }.to_string(),
            Kind::Float { max, .. } => format!("{max:?}"),
            Kind::Choice { default, of } => format!("{:?}", of.iter().find(|v| *v != default).unwrap()),
            Kind::Text { .. } => {
                let sha256 = "5f".repeat(32);
                let candidates = ["/elsewhere", "192.0.2.0/24", "192.0.2.1", &sha256, "x.test:1", "Europe/Berlin"];
                let fits = candidates.iter().find(|v| key.kind.accept(Value::Text(v.to_string())).is_ok());
                format!("{:?}", fits.unwrap())
            }
            Kind::List { check, .. } => {
                let fits = ["192.0.2.1", "https://x.test/", "192.0.2.0/24", "8080", "example.org"]
                    .into_iter()
                    .find(|text| check(text).is_ok());
                format!("[{:?}]", fits.unwrap())
            }
        };
        // These say something about another key alone.
        let with = if key.name.starts_with("log.syslog.") && key.name != "log.syslog.address" {
            "log.syslog.address = \"x.test:1\"\n"
        } else {
            ""
        };
        let base = resolve(with, &[]).unwrap();
        let config =
            resolve(&format!("{with}{} = {other}", key.name), &[]).unwrap_or_else(|e| panic!("{}: {e:?}", key.name));
        assert_ne!(config, base, "{} is read", key.name);
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    for (text, problem) in [
        ("https-port = 1", "1: unknown key https-port; the nearest known key is https_port"),
        ("\n# x\nHTTPS_port = 1", "3: unknown key HTTPS_port; the nearest known key is https_port"),
        (
            "[network]\nexternal_subnt = 1",
            "2: unknown key network.external_subnt; the nearest known key is network.external_subnet",
        ),
        (
            "[netwrok]\ndns_servers = []",
            "2: unknown key netwrok.dns_servers; the nearest known key is network.dns_servers",
        ),
        ("[network]\nregion = \"x\"", "2: unknown key network.region; the nearest known key is region"),
        ("loglevel = \"info\"", "1: unknown key loglevel; the nearest known key is log.level"),
        ("state = \"/x\"", "1: unknown key state; the nearest known key is state_dir"),
        ("[quota]\nram = 3", "2: unknown key quota.ram; the nearest known key is quota.ram_mib"),
        ("[quotas]", "1: unknown key quotas; the nearest known key is quota."),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].starts_with(problem), "{found:?}");
    }
}

#[test]
fn wrong_types_and_values_out_of_range_are_refused_with_what_is_expected() {
    for (text, problem) in [
        (
            "https_port = \"443\"",
            "https_port: expected a whole number from 0 to 65535 (without quotes), found the text \"443\"",
        ),
        ("https_port = 65536", "https_port: 65536 is not between 0 and 65535"),
        ("https_port = -1", "https_port: -1 is not between 0 and 65535"),
        ("https_port = 99999999999999999999", "https_port: 99999999999999999999 is out of range"),
        ("https_port = 1.5", "https_port: expected a whole number"),
        ("service_ports = \"on\"", "service_ports: expected true or false (without quotes), found the text \"on\""),
        ("driver = \"vmware\"", "driver: \"vmware\" is not one of auto, kvm, tcg, fake"),
        ("driver = true", "driver: expected one of \"auto\", \"kvm\", \"tcg\", \"fake\", found true or false"),
        ("listen = \"localhost\"", "listen: \"localhost\" is not an IP address"),
        ("state_dir = \"here\"", "state_dir: \"here\" is not an absolute path"),
        ("state_dir = \"/\"", "state_dir: \"/\" is the root directory"),
        ("public_host = \"https://x\"", "public_host: \"https://x\" is neither"),
        ("public_host = \"*.x.org\"", "public_host: \"*.x.org\" is neither"),
        ("public_host = \"\"", "public_host: \"\" is neither"),
        ("region = \"a b\"", "region: \"a b\" is not 1 to 255"),
        ("network.external_subnet = \"10.0.0.1/24\"", "network.external_subnet: \"10.0.0.1/24\" has bits set"),
        ("network.external_subnet = \"10.0.0.0/30\"", "network.external_subnet: \"10.0.0.0/30\" does not have"),
        (
            "network.external_subnet = \"224.0.0.0/24\"",
            "network.external_subnet: \"224.0.0.0/24\" is no subnet for hosts",
        ),
        ("network.dns_servers = \"1.1.1.1\"", "network.dns_servers: expected a list"),
        (
            "network.dns_servers = [1]",
            "network.dns_servers: expected a list of texts in quotes, found a whole number in it",
        ),
        ("network.dns_servers = [\"x\"]", "network.dns_servers: \"x\" is not an IP address"),
        (
            "network.dns_servers = [\"::1\",\"::1\",\"::1\",\"::1\",\"::1\",\"::1\"]",
            "network.dns_servers: holds 6 entries",
        ),
        ("scheduling.cpu_allocation_ratio = 0", "scheduling.cpu_allocation_ratio: 0 is not between 0.1 and 100"),
        ("scheduling.cpu_allocation_ratio = nan", "scheduling.cpu_allocation_ratio: NaN is not between"),
        ("quota.cores = -2", "quota.cores: -2 is not between -1 and 2147483647"),
        ("network = 3", "network: expected a section [network], found a whole number"),
        ("[https_port]", "https_port: found a section"),
        ("log = 2020-01-01", "log: expected a section [log], found a date"),
        ("a = ", "not TOML: "),
        ("driver = \"kvm\"\ndriver = \"tcg\"", "not TOML: duplicate key"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(problem), "{text}: {found:?}");
    }
    let config = resolve("scheduling.cpu_allocation_ratio = 8\nlimits.image_bytes = 0x1_000_000", &[]).unwrap();
    assert_eq!((config.scheduling.cpu_allocation_ratio, config.limits.image_bytes), (8.0, 0x100_0000));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let found = problems("htps_port = 1\ndriver = 3\n\n[log]\nlevel = \"loud\"\n");
    assert_eq!(found.iter().map(|text| &text[..2]).collect::<Vec<_>>(), ["1:", "2:", "5:"]);
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    for (text, problem) in [
        ("https_port = 80", "http_port and https_port are both 80"),
        ("https_port = 5000", "https_port is 5000, which service_ports takes"),
        ("[network]\nprivate_subnet = \"172.24.0.0/16\"", "2: network.private_subnet 172.24.0.0/16 and"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
    }
    resolve("https_port = 5000\nservice_ports = false", &[]).unwrap();
    resolve("https_port = 0\nhttp_port = 0", &[]).unwrap();
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let flag = |value| [Override { key: "https_port", flag: "--https-port", value: Value::Int(value) }];
    assert_eq!(resolve("https_port = 8443", &[]).unwrap().https_port, 8443);
    assert_eq!(resolve("https_port = 8443", &flag(9443)).unwrap().https_port, 9443);
    let refused = resolve("", &flag(70000)).unwrap_err();
    assert_eq!(refused[0].text, "--https-port: 70000 is not between 0 and 65535");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    for (path, text) in [("/nowhere/x.toml", "/nowhere/x.toml: cannot be read: "), ("/", "/: is not a file")] {
        let error = load(Some(Path::new(path)), &[]).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"driver = \"\xff\"").unwrap();
    assert!(load(Some(file.path()), &[]).unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(file.path(), "x = 1").unwrap();
    let error = load(Some(file.path()), &[]).unwrap_err().to_string();
    assert_eq!(error, format!("{}:1: unknown key x; the nearest known key is {}", file.path().display(), nearest("x")));
}

/// An empty text would not do for these.
const WITHOUT_DEFAULT: [&str; 7] =
    ["public_host", "ca_file", "web_download_ca_file", "address", "token_sha256", "hostname", "timezone"];

#[test]
fn the_sample_documents_every_key_and_means_the_defaults() {
    let sample = sample();
    assert_eq!(resolve(&sample, &[]).unwrap(), Config::default());
    // Uncommented, it is still the defaults; only a key without a default has none to show.
    let live: Vec<_> = sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .filter(|line| !WITHOUT_DEFAULT.iter().any(|key| line.starts_with(&format!("{key} = "))))
        .collect();
    assert_eq!(resolve(&live.join("\n"), &[]).unwrap(), Config::default());
    let shown = live.iter().filter(|line| !line.starts_with(['#', '[']) && line.contains(" = ")).count();
    // `ca_file` is there twice.
    assert_eq!(shown, KEYS.len() - WITHOUT_DEFAULT.len() - 1);
    assert!(sample.lines().all(|line| line.len() <= 120));
}

#[test]
fn the_sample_in_the_documentation_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/solostack.toml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
        std::fs::write(path, sample()).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == sample(), "docs/solostack.toml is old; run this test with UPDATE_GOLDEN=1");
}

#[test]
fn hostile_text_never_breaks_the_reader() {
    for text in [
        "\u{feff}",
        "\0",
        "a.b.c.d.e = 1",
        "[[network]]\n",
        "[a]\n[a]",
        "'' = 1",
        "\"\\u0000\" = 1",
        "= 1",
        "[",
        "🦀 = 1",
    ] {
        let _ = resolve(text, &[]);
    }
    let deep = format!("a = {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(resolve(&deep, &[]).is_err());
    let deep = format!("a = {}1{}", "{a=".repeat(5000), "}".repeat(5000));
    assert!(resolve(&deep, &[]).is_err());
    let dotted = format!("{}a = 1", "a.".repeat(20_000));
    assert!(resolve(&dotted, &[]).is_err());
}

#[test]
fn sections_with_an_id_are_read_and_their_mistakes_named() {
    let text = r#"
        [identity.oidc.acme]
        issuer = "https://idp.test/realm"
        client_id = "cloud"
        client_secret = "s3cret"
        introspection = "all"
        algorithms = ["ES256"]
        [identity.oidc."my.idp"]
        issuer = "http://127.0.0.1:9000"
        audience = ["a"]
    "#;
    let config = resolve(text, &[]).unwrap();
    let acme = &config.identity.oidc["acme"];
    assert_eq!((acme.issuer.as_str(), acme.introspection), ("https://idp.test/realm", Introspection::All));
    assert_eq!(config.identity.oidc["my.idp"].audience, ["a"]);
    assert!(!format!("{config:?}").contains("s3cret"));
    let head = "[identity.oidc.a]\nissuer = \"https://x.test\"\n";
    for (text, problem) in [
        ("[identity.oidc.a]\nclient_id = \"x\"".to_owned(), "1: identity.oidc.a: the key issuer is missing"),
        (
            format!("{head}client = \"x\""),
            "3: unknown key identity.oidc.a.client; the nearest known key is identity.oidc.a.client_id",
        ),
        (head.to_owned(), "1: identity.oidc.a: neither client_id nor audience"),
        (format!("{head}client_id = \"x\"\nintrospection = \"all\""), "1: identity.oidc.a: introspection needs"),
        (
            format!("{head}client_id = \"x\"\nalgorithms = [\"HS256\"]"),
            "4: identity.oidc.a.algorithms: \"HS256\" is not",
        ),
        (format!("{head}client_id = 3"), "3: identity.oidc.a.client_id: expected a text"),
        (
            "[identity.oidc]\na = 1".to_owned(),
            "2: identity.oidc.a: expected a section [identity.oidc.a], found a whole number",
        ),
        (
            "[identity.oidc.a]\nissuer = \"http://x.test\"\nclient_id = \"x\"".to_owned(),
            "2: identity.oidc.a.issuer: \"http://x.test\" is not",
        ),
        ("[identity]\ntrusted_dashboards = [\"x\"]".to_owned(), "2: identity.trusted_dashboards: \"x\" is not"),
    ] {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].starts_with(problem), "{found:?}");
    }
}

#[test]
fn network_settings_are_read_whole() {
    let text = r#"
        [network_settings]
        dns_servers = ["192.0.2.53", "2001:db8::53"]
        search_domains = ["example.org"]
        ntp_servers = ["ntp.example.org"]
        [network_settings.interface."52:54:00:12:34:56"]
        dhcp = "ipv6"
        addresses = ["192.0.2.10/24"]
        gateways = ["192.0.2.1"]
        mtu = 9000
        [network_settings.bond.bond0]
        members = ["eno1", "eno2"]
        mode = "802.3ad"
        [network_settings.vlan."eno3.20"]
        parent = "eno3"
        id = 20
    "#;
    let settings = resolve(text, &[]).unwrap().network_settings;
    let link = &settings.interfaces["52:54:00:12:34:56"];
    assert_eq!((link.dhcp, link.mtu, link.addresses[0].to_string()), (Dhcp::Ipv6, Some(9000), "192.0.2.10/24".into()));
    let bond = &settings.bonds["bond0"];
    assert_eq!((bond.mode, bond.lacp_rate, bond.hash, bond.monitor_ms), ("802.3ad", "slow", "layer2+3", 100));
    assert_eq!((bond.link.mtu, settings.vlans["eno3.20"].id), (None, 20));
    assert_eq!(Config::default().network_settings, NetworkSettings::default());
}

#[test]
fn network_settings_that_no_nic_can_have_are_refused_by_name() {
    let interface = "[network_settings.interface.eno1]\n";
    let vlan = "[network_settings.vlan.v]\nparent = \"eno1\"\n";
    for (text, problem) in [
        (
            format!("{interface}addresses = [\"192.0.2.10\"]"),
            "2: network_settings.interface.eno1.addresses: \"192.0.2.10\" is not an address with",
        ),
        (
            format!("{interface}addresses = [\"192.0.2.0/24\"]"),
            "2: network_settings.interface.eno1.addresses: \"192.0.2.0/24\" is the address of the network",
        ),
        (
            format!("{interface}addresses = [\"192.0.2.255/24\"]"),
            "2: network_settings.interface.eno1.addresses: \"192.0.2.255/24\" is the broadcast",
        ),
        (
            format!("{interface}addresses = [\"127.0.0.2/8\"]"),
            "2: network_settings.interface.eno1.addresses: \"127.0.0.2/8\" is no address",
        ),
        (
            format!("{interface}addresses = [\"10.0.0.1/0\"]"),
            "2: network_settings.interface.eno1.addresses: \"10.0.0.1/0\" has a prefix of 0",
        ),
        (format!("{interface}mtu = 100"), "2: network_settings.interface.eno1.mtu: 100 is not between 1280 and 9216"),
        (
            format!("{interface}adress = []"),
            "2: unknown key network_settings.interface.eno1.adress; the nearest known key is network_settings.interface.eno1.addresses",
        ),
        (format!("{vlan}id = 4095"), "3: network_settings.vlan.v.id: 4095 is not between 1 and 4094"),
        (vlan.to_owned(), "1: network_settings.vlan.v: the key id is missing"),
        ("[network_settings.bond.b]".to_owned(), "1: network_settings.bond.b: the key members is missing"),
        (
            "[network_settings]\nsearch_domains = [\"a b\"]".to_owned(),
            "2: network_settings.search_domains: \"a b\" is not a domain",
        ),
        (
            "[network_settings]\nntp_servers = [\"a\\nNTP=b\"]".to_owned(),
            "2: network_settings.ntp_servers: \"a\\nNTP=b\" is neither",
        ),
    ] {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].starts_with(problem), "{found:?}");
    }
}
