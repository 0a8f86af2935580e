use std::path::Path;
use std::time::Duration;

use edgeward_base::durable::RealFs;
use edgeward_base::units::ByteCount;

use super::*;

const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");

fn no_env(_: &str) -> Option<String> {
    None
}

fn write(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("edgeward.toml"), text).unwrap();
    folder
}

fn device(text: &str) -> Result<Config, ConfigErrors> {
    device_with(text, no_env)
}

fn device_with(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    // One folder name, so that two configurations with relative paths can be compared.
    load_text(text, &env, |reader| Some(Config::read(reader)))
}

fn load_text<T>(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let mut reader = Reader::new(text, Path::new("/etc/edgeward"), env).unwrap();
    let value = read(&mut reader);
    let (errors, _) = reader.finish();
    let file = "edgeward.toml".into();
    if errors.is_empty() {
        Ok(value.unwrap())
    } else {
        Err(ConfigErrors { file, errors })
    }
}

fn lines(error: &ConfigErrors) -> Vec<String> {
    error
        .to_string()
        .lines()
        .map(|line| line.replace("edgeward.toml: ", ""))
        .collect()
}

/// Each key of the device's configuration: what it needs beside it, and another value.
const DEVICE_KEYS: [(&str, &str, &str); 33] = [
    ("state.dir", "", "\"elsewhere\""),
    ("server.listen", "", "\"127.0.0.1:0\""),
    ("server.unix_socket", "", "\"off\""),
    ("server.insecure_listen", "", "true"),
    ("server.body_limit", "", "\"1MiB\""),
    ("server.in_flight_bytes", "", "\"64MiB\""),
    ("server.request_timeout", "", "\"10s\""),
    ("server.grace_period", "", "\"5s\""),
    (
        "server.tls.certificate",
        "server.tls.key = \"k.pem\"",
        "\"c.pem\"",
    ),
    (
        "server.tls.key",
        "server.tls.certificate = \"c.pem\"",
        "\"k.pem\"",
    ),
    (
        "server.tls.client_ca",
        "server.tls.key = \"k.pem\"\nserver.tls.certificate = \"c.pem\"",
        "\"ca.pem\"",
    ),
    ("profile.name", "", "\"generic-sd-card\""),
    ("inference_table.commit_interval", "", "\"200ms\""),
    ("inference_table.commit_size", "", "\"128KiB\""),
    ("inference_table.seal_after", "", "\"15s\""),
    ("inference_table.seal_size", "", "\"1MiB\""),
    ("inference_table.channel_size", "", "\"1MiB\""),
    ("inference_table.payload_cap", "", "0"),
    ("inference_table.budget", "", "\"200MB\""),
    ("inference_table.free_floor", "", "\"64MiB\""),
    ("inference_table.shed_payload", "", "\"1KiB\""),
    (
        "inference_table.retention",
        "",
        "[{ endpoint = \"audit\" }]",
    ),
    ("endpoint.batching", "", "[{ endpoint = \"audit\" }]"),
    ("fleet.broker", "", "\"mqtt://broker\""),
    (
        "fleet.ca",
        "fleet.broker = \"mqtts://broker\"",
        "\"ca.pem\"",
    ),
    (
        "fleet.certificate",
        "fleet.broker = \"mqtts://broker\"\nfleet.ca = \"ca.pem\"\nfleet.key = \"k.pem\"",
        "\"c.pem\"",
    ),
    (
        "fleet.key",
        "fleet.broker = \"mqtts://broker\"\nfleet.ca = \"ca.pem\"\nfleet.certificate = \"c.pem\"",
        "\"k.pem\"",
    ),
    (
        "fleet.username",
        "fleet.broker = \"mqtt://broker\"\nfleet.password_file = \"p\"",
        "\"box\"",
    ),
    (
        "fleet.password_file",
        "fleet.broker = \"mqtt://broker\"\nfleet.username = \"box\"",
        "\"p\"",
    ),
    ("endpoint.local_edits", "", "\"allow\""),
    ("log.filter", "", "\"debug\""),
    ("log.format", "", "\"json\""),
    // Twice: a number is a size too.
    ("server.body_limit", "", "4096"),
];

const REGISTRY_KEYS: [&str; 11] = [
    "registry.dir",
    "registry.landing",
    "registry.fleet",
    "registry.broker",
    "registry.ca",
    "registry.certificate",
    "registry.key",
    "registry.username",
    "registry.password_file",
    "log.filter",
    "log.format",
];

fn known_keys(read: impl FnOnce(&mut Reader<'_>)) -> Vec<String> {
    let mut reader = Reader::new("", Path::new("/"), &no_env).unwrap();
    read(&mut reader);
    let mut keys = reader.finish().1;
    keys.sort();
    keys
}

#[test]
fn every_key_changes_the_configuration() {
    let mut tested: Vec<_> = DEVICE_KEYS
        .iter()
        .map(|(key, ..)| (*key).to_owned())
        .collect();
    tested.sort();
    tested.dedup();
    assert_eq!(tested, known_keys(|reader| drop(Config::read(reader))));
    for (key, beside, value) in DEVICE_KEYS {
        let with = device(&format!("{key} = {value}\n{beside}")).unwrap();
        // Without the key: the same, or a mistake where the key beside it needs this one.
        if let Ok(without) = device(beside) {
            assert_ne!(with, without, "{key} has no effect");
        }
    }
}

#[test]
fn every_key_is_documented_with_its_section_and_default() {
    let mut keys = known_keys(|reader| drop(Config::read(reader)));
    keys.extend(known_keys(|reader| drop(RegistryConfig::read(reader))));
    for key in &keys {
        assert!(
            DOCUMENTATION.contains(&format!("| `{key}` |")),
            "{key} is not documented"
        );
    }
    for line in DOCUMENTATION.lines().filter(|line| line.starts_with("| `")) {
        let key = line.split('`').nth(1).unwrap();
        assert!(
            keys.iter().any(|known| known == key),
            "{key} is documented and unknown"
        );
    }
}

#[test]
fn an_empty_file_is_the_documented_defaults() {
    let config = device("").unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/edgeward"));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.body_limit, ByteCount::mib(16));
    assert_eq!(
        config.server.unix_socket.unwrap(),
        Path::new("/var/lib/edgeward/edgeward.sock")
    );
    assert_eq!(config.profile, "generic-cpu");
    assert_eq!(config.inference_table.seal_after, Duration::from_secs(600));
    assert_eq!(config.inference_table.commit_interval, None);
    assert_eq!(config.fleet, None);
    assert_eq!(config.endpoint.local_edits, LocalEdits::Refuse);
}

#[test]
fn all_mistakes_are_told_together_with_path_and_range() {
    let error = device(
        "colour = 1\n[server]\nlisten = \"here\"\nbody_limit = \"2TiB\"\nlisten_port = 1\n\
         request_timeout = 5\n[server.tls]\nkey = \"k.pem\"\n[endpoint]\nlocal_edits = \"yes\"\n\
         [rows]\nseal = 1\n[log]\nfilter = \"a=b=c\"\n",
    )
    .unwrap_err();
    let lines = lines(&error);
    for expected in [
        "server.listen: invalid socket address syntax; allowed: ADDRESS:PORT, such as 127.0.0.1:8080",
        "server.body_limit: \"2TiB\": not a number of bytes: write 8388608, 64KiB, 16MiB, 2GB or the like; allowed: 1KiB to 1GiB",
        "server.request_timeout: of type integer where a text in quotes belongs; allowed: 10ms to 1h",
        "server.tls.certificate: missing; allowed: the path of a PEM file",
        "endpoint.local_edits: unknown word \"yes\"; allowed: \"refuse\" or \"allow\"",
        "rows: unknown key; known here: [endpoint], [fleet], [inference_table], [log], [profile], [server], [state]",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected}\nis not in\n{lines:#?}"
        );
    }
    for prefix in [
        "colour: unknown key",
        "server.listen_port: unknown key",
        "log.filter: ",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(prefix)),
            "{prefix}: {lines:#?}"
        );
    }
    assert_eq!(lines.len(), 9, "{lines:#?}");
}

#[test]
fn the_environment_overrides_the_file_and_is_named_in_errors() {
    let env = |name: &str| match name {
        "EDGEWARD_SERVER_BODY_LIMIT" => Some("2MiB".to_owned()),
        "EDGEWARD_SERVER_INSECURE_LISTEN" => Some("true".to_owned()),
        "EDGEWARD_FLEET_BROKER" => Some("mqtt://[::1]:1884".to_owned()),
        _ => None,
    };
    let config = device_with("server.body_limit = \"1MiB\"", env).unwrap();
    assert_eq!(config.server.body_limit, ByteCount::mib(2));
    assert!(config.server.insecure_listen);
    let broker = config.fleet.unwrap();
    assert_eq!((broker.host.as_str(), broker.port), ("::1", 1884));

    let env = |name: &str| (name == "EDGEWARD_LOG_FORMAT").then(|| "xml".to_owned());
    let error = device_with("", env).unwrap_err();
    let expected = "EDGEWARD_LOG_FORMAT: unknown word \"xml\"; allowed: \"text\" or \"json\"";
    assert_eq!(lines(&error), [expected]);
}

#[test]
fn an_address_that_can_be_reached_from_outside_needs_tls_or_a_word() {
    let error = device("server.listen = \"0.0.0.0:80\"").unwrap_err();
    assert!(lines(&error)[0].starts_with("server.listen: 0.0.0.0:80 can be reached from outside"));
    for allowed in [
        "server.insecure_listen = true",
        "server.tls.key = \"k\"\nserver.tls.certificate = \"c\"",
    ] {
        device(&format!("server.listen = \"0.0.0.0:80\"\n{allowed}")).unwrap();
    }
    device("server.listen = \"[::1]:80\"").unwrap();
}

#[test]
fn the_batching_of_each_endpoint_is_read_with_its_own_mistakes() {
    let config = device(
        "[[endpoint.batching]]\nendpoint = \"wide\"\nrequests = 64\ndelay = \"2ms\"\n\
         [[endpoint.batching]]\nendpoint = \"plain\"\n",
    );
    let batching = |endpoint: &str, requests, delay| BatchingConfig {
        endpoint: endpoint.parse().unwrap(),
        requests,
        delay,
    };
    let expected = [
        batching("wide", 64, Duration::from_millis(2)),
        batching("plain", 16, Duration::ZERO),
    ];
    assert_eq!(config.unwrap().endpoint.batching, expected);

    let error = device(
        "[[endpoint.batching]]\nrequests = 0\ndelay = \"2s\"\nsize = 1\n\
         [[endpoint.batching]]\nendpoint = \"a\"\nrequests = 65\n[[endpoint.batching]]\nendpoint = \"a\"\n",
    );
    let error = error.unwrap_err();
    let lines = lines(&error);
    for expected in [
        "endpoint.batching[1].endpoint: missing; allowed: the name of an endpoint",
        "endpoint.batching[1].requests: 0 is out of range; allowed: 1 to 64",
        "endpoint.batching[1].delay: 2s is out of range; allowed: 0ms to 1s",
        "endpoint.batching[1].size: unknown key; known here: endpoint, requests, delay",
        "endpoint.batching[2].requests: 65 is out of range; allowed: 1 to 64",
        "endpoint.batching[3].endpoint: \"a\" is there twice; allowed: each endpoint once",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected}\nis not in\n{lines:#?}"
        );
    }
}

#[test]
fn the_budget_of_each_endpoint_is_read_with_its_own_mistakes() {
    let config = device(
        "[inference_table]\nbudget = \"200MB\"\n[[inference_table.retention]]\nendpoint = \"audit\"\n\
         budget = \"50MB\"\npriority = 90\nretain = \"stop\"\n[[inference_table.retention]]\n\
         endpoint = \"cache\"\npriority = 0\n",
    );
    let table = config.unwrap().inference_table;
    let retention = |endpoint: &str, budget, priority, retain| RetentionConfig {
        endpoint: endpoint.parse().unwrap(),
        budget,
        priority,
        retain,
    };
    let expected = [
        retention("audit", Some(ByteCount(50_000_000)), 90, Retain::Stop),
        retention("cache", None, 0, Retain::DropOldest),
    ];
    assert_eq!(table.retention, expected);
    assert_eq!(table.budget, Some(ByteCount(200_000_000)));

    let error = device(
        "[[inference_table.retention]]\nbudget = \"1MB\"\npriority = 101\nretain = \"all\"\ncolour = 1\n\
         [[inference_table.retention]]\nendpoint = \"a\"\n[[inference_table.retention]]\nendpoint = \"a\"\n\
         [inference_table]\nbudget = \"32MiB\"\n",
    );
    let error = error.unwrap_err();
    let lines = lines(&error);
    for expected in [
        "inference_table.retention[1].endpoint: missing; allowed: the name of an endpoint",
        "inference_table.retention[1].budget: 1MB is out of range; allowed: 16MiB to 1048576GiB",
        "inference_table.retention[1].priority: 101 is out of range; allowed: 0 to 100",
        "inference_table.retention[1].retain: unknown word \"all\"; allowed: \"drop_oldest\" or \"stop\"",
        "inference_table.retention[1].colour: unknown key; known here: endpoint, budget, priority, retain",
        "inference_table.retention[3].endpoint: \"a\" is there twice; allowed: each endpoint once",
        "inference_table.budget: 32MiB is out of range; allowed: 64MiB to 1048576GiB",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected}\nis not in\n{lines:#?}"
        );
    }
    assert_eq!(lines.len(), 7, "{lines:#?}");
}

#[test]
fn a_list_is_overridden_whole_by_the_environment() {
    let env = |value: &'static str| {
        move |name: &str| (name == "EDGEWARD_INFERENCE_TABLE_RETENTION").then(|| value.to_owned())
    };
    let config = device_with("", env("[{ endpoint = \"audit\", retain = \"stop\" }]"));
    let [retention] = &config.unwrap().inference_table.retention[..] else {
        panic!("one entry")
    };
    assert_eq!(retention.retain, Retain::Stop);
    for wrong in ["[", "7", "[7]"] {
        let error = device_with("", env(wrong)).unwrap_err();
        assert_eq!(lines(&error).len(), 1, "{wrong}: {error}");
    }
}

#[test]
fn brokers_are_read_and_half_given_ones_refused() {
    let broker = device("fleet.broker = \"mqtts://b.example/\"\nfleet.ca = \"ca.pem\"");
    let broker = broker.unwrap().fleet.unwrap();
    assert_eq!((broker.host.as_str(), broker.port), ("b.example", 8883));
    assert_eq!(broker.tls.unwrap().ca, Path::new("/etc/edgeward/ca.pem"));
    for (wrong, key) in [
        ("broker = \"http://b\"", "fleet.broker"),
        ("broker = \"mqtt://\"", "fleet.broker"),
        ("broker = \"mqtt://b:0\"", "fleet.broker"),
        ("broker = \"mqtt://b:x\"", "fleet.broker"),
        ("broker = \"mqtt://b c\"", "fleet.broker"),
        ("broker = \"mqtts://b\"", "fleet.ca"),
        ("broker = \"mqtt://b\"\nca = \"x\"", "fleet.ca"),
        (
            "broker = \"mqtt://b\"\nusername = \"x\"",
            "fleet.password_file",
        ),
        ("ca = \"x\"", "fleet.broker"),
    ] {
        let lines = lines(&device(&format!("[fleet]\n{wrong}")).unwrap_err());
        assert!(
            lines[0].starts_with(&format!("{key}: ")),
            "{wrong}: {lines:?}"
        );
        assert_eq!(lines.len(), 1, "{wrong}: {lines:?}");
    }
}

#[test]
fn sockets_too_deep_for_linux_are_refused() {
    let deep = format!("/{}", "d".repeat(100));
    let error = device(&format!("state.dir = \"{deep}\"")).unwrap_err();
    assert_eq!(lines(&error).len(), 2, "{error}");
}

#[test]
fn files_that_cannot_be_read_or_parsed_are_told() {
    let folder = write("[server\n");
    let path = folder.path().join("edgeward.toml");
    let error = Config::load(&path, no_env).unwrap_err();
    assert!(
        matches!(error.errors[..], [ConfigError::Syntax(_)]),
        "{error}"
    );
    let error = Config::load(&folder.path().join("none"), no_env).unwrap_err();
    assert!(
        matches!(error.errors[..], [ConfigError::Read(_)]),
        "{error}"
    );
    let folder = write("state.dir = \"here\"");
    let config = Config::load(&folder.path().join("edgeward.toml"), no_env).unwrap();
    assert_eq!(config.state_dir, folder.path().join("here"));
}

#[test]
fn a_registry_is_told_its_fleet_and_broker() {
    let read = |text: &str| load_text(text, &no_env, RegistryConfig::read);
    let lines = lines(&read("").unwrap_err());
    assert_eq!(lines.len(), 2, "{lines:?}");
    let config = read("[registry]\nfleet = \"plant\"\nbroker = \"mqtt://b\"\ndir = \"r\"").unwrap();
    assert_eq!(config.landing, Path::new("/etc/edgeward/r/landing"));
    let mut keys = REGISTRY_KEYS.map(ToOwned::to_owned).to_vec();
    keys.sort();
    assert_eq!(
        keys,
        known_keys(|reader| drop(RegistryConfig::read(reader)))
    );
    let base = "[registry]\nfleet = \"plant\"\nbroker = \"mqtts://b\"\nca = \"c\"\n";
    for more in [
        "dir = \"r\"",
        "landing = \"l\"",
        "certificate = \"c\"\nkey = \"k\"",
        "username = \"u\"\npassword_file = \"p\"",
        "[log]\nfilter = \"debug\"",
        "[log]\nformat = \"json\"",
    ] {
        assert_ne!(
            read(base).unwrap(),
            read(&format!("{base}{more}")).unwrap(),
            "{more}"
        );
    }
}

#[test]
fn an_identity_is_read_as_it_was_written_and_never_by_half() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(DeviceIdentity::read(folder.path()).unwrap(), None);
    let key = edgeward_wire::key::RegistryKey::from_seed(&[7; 32]).pinned();
    let membership = FleetMembership {
        fleet: "plant".parse().unwrap(),
        registry_key: key.clone(),
    };
    for fleet in [None, Some(membership)] {
        let identity = DeviceIdentity {
            device: "box-1".parse().unwrap(),
            fleet,
        };
        identity.write(&RealFs, folder.path()).unwrap();
        assert_eq!(DeviceIdentity::read(folder.path()).unwrap(), Some(identity));
    }
    for wrong in [
        String::new(),
        "device = \"a b\"".into(),
        "device = \"box\"\nfleet = \"plant\"".into(),
        format!("device = \"box\"\nregistry_key = \"{key}\""),
        "device = \"box\"\nfleet = \"plant\"\nregistry_key = \"00\"".into(),
        "device = \"box\"\ncolour = \"red\"".into(),
        "device = \"box\"\n# crc32 00000000\n".into(),
    ] {
        std::fs::write(folder.path().join("device.toml"), &wrong).unwrap();
        let error = DeviceIdentity::read(folder.path()).unwrap_err();
        assert!(
            matches!(error, IdentityError::Invalid { .. }),
            "{wrong}: {error}"
        );
    }
}
