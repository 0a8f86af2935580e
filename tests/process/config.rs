//! Mistakes on the command line and in configuration files: said in full, and told apart by exit
//! codes that service managers know.

use std::fs;

use edgeward_harness::edgeward;
use edgeward_harness::process::{Ran, run};

/// `EX_USAGE`: the command line is wrong.
const USAGE: i32 = 64;
/// `EX_CONFIG`: the configuration is wrong; starting again would not help.
const CONFIG: i32 = 78;

const BAD: &str = r#"
[server]
listen = "nowhere"
body_limit = "1"
colour = "blue"
[inference_table]
seal_after = "0s"
[endpoint]
local_edits = "perhaps"
[log]
format = "xml"
[kitchen]
sink = true
"#;

/// Each key that is wrong in [`BAD`], and a word of what is allowed there.
const MISTAKES: [(&str, &str); 7] = [
    ("server.listen", "ADDRESS:PORT"),
    ("server.body_limit", "1KiB"),
    ("server.colour", "known here"),
    ("inference_table.seal_after", "1s"),
    ("endpoint.local_edits", "\"refuse\" or \"allow\""),
    ("log.format", "\"text\" or \"json\""),
    ("kitchen", "known here"),
];

fn with_file(verb: &[&str], text: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edgeward.toml");
    let state = folder.path().join("state");
    let text = format!("state.dir = \"{}\"\n{text}", state.display());
    fs::write(&file, text).unwrap();
    let mut arguments = verb.to_vec();
    arguments.extend(["--config", file.to_str().unwrap()]);
    let ran = run(&edgeward(), &arguments);
    assert!(
        !state.try_exists().unwrap(),
        "{verb:?} left something behind"
    );
    ran
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    for verb in ["serve", "check-config"] {
        let ran = with_file(&[verb], BAD);
        assert_eq!(ran.code, Some(CONFIG), "{verb}: {ran:?}");
        assert_eq!(ran.stdout, "", "{verb}");
        for (key, allowed) in MISTAKES {
            let line = ran.stderr.lines().find(|line| line.contains(key));
            let line = line.unwrap_or_else(|| panic!("{verb}: {key} is not in {}", ran.stderr));
            assert!(line.contains(allowed), "{verb}: {line:?} lacks {allowed:?}");
        }
    }
}

#[test]
fn a_registry_says_what_its_configuration_lacks() {
    let ran = with_file(&["registry", "serve"], "[log]\nformat = \"text\"\n");
    assert_eq!(ran.code, Some(CONFIG), "{ran:?}");
    for wanted in ["registry.fleet", "registry.broker", "state"] {
        assert!(
            ran.stderr.contains(wanted),
            "{wanted} is not in {}",
            ran.stderr
        );
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    for verb in ["serve", "check-config"] {
        let ran = run(
            &edgeward(),
            &[verb, "--config", "no-such-folder/edgeward.toml"],
        );
        assert_eq!(ran.code, Some(CONFIG), "{ran:?}");
        assert!(
            ran.stderr.contains("no-such-folder/edgeward.toml"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_good_configuration_passes() {
    let ran = with_file(&["check-config"], "[server]\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let wrong: [&[&str]; 6] = [
        &["frobnicate"],
        &["serve"],
        &["serve", "--colour", "blue"],
        &["quickstart", "--listen", "nowhere"],
        &["registry", "traffic", "fraud-detection", "champion=101"],
        &[
            "provision",
            "--fleet",
            "no/such name",
            "--device",
            "x",
            "--registry-key",
            "y",
        ],
    ];
    for arguments in wrong {
        let ran = run(&edgeward(), arguments);
        assert_eq!(ran.code, Some(USAGE), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    for arguments in [["--help"], ["--version"]] {
        let ran = run(&edgeward(), &arguments).success();
        assert!(ran.stdout.contains("edgeward"), "{ran:?}");
    }
}
