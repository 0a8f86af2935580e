use edgeward_kernels::engine::{LoadModelError, ModelFile, ModelForm, Session};

use super::*;

const README: &str = include_str!("../../../profiles/README.md");

/// A profile with one line replaced.
fn with(key: &str, value: &str) -> Result<Profile, LoadProfileError> {
    let (_, text) = BUILT_IN[0];
    let replaced: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some((found, _)) if found == key => format!("{key} = {value}"),
            _ => line.to_owned(),
        })
        .collect();
    assert_ne!(
        replaced.join("\n"),
        text.trim_end(),
        "{key} is not in the profile"
    );
    Profile::parse("test", &replaced.join("\n"))
}

#[test]
fn built_in_profiles_are_valid_and_named_as_they_say() {
    for (name, _) in BUILT_IN {
        assert_eq!(Profile::load(name).unwrap().name, name);
        assert!(
            README.contains(&format!("| `{name}` |")),
            "{name} is not in the README"
        );
    }
    let cpu = Profile::load("generic-cpu").unwrap();
    let card = Profile::load("generic-sd-card").unwrap();
    assert_eq!(cpu.commit_interval, Duration::from_secs(1));
    assert_eq!(card.commit_interval, Duration::from_secs(5));
    assert!(card.memory_ceiling < cpu.memory_ceiling);
    assert!(Profile::load("generic-gpu").unwrap().has_gpu() && !cpu.has_gpu());
}

#[test]
fn every_file_in_the_folder_is_built_in() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".toml").map(ToOwned::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, BUILT_IN.map(|(name, _)| name));
}

#[test]
fn every_key_is_documented_and_changes_the_profile() {
    let base = Profile::load("generic-cpu").unwrap();
    for (path, value) in [
        ("name", "\"mine\""),
        ("commit_interval", "\"200ms\""),
        ("row_budget", "\"1GB\""),
        ("memory_ceiling", "\"2GiB\""),
        ("scale_to_zero_after", "\"1m\""),
        ("engines", "[\"other\"]"),
        ("workload_sizes.small", "1"),
        ("workload_sizes.medium", "2"),
        ("workload_sizes.large", "3"),
    ] {
        let key = path.rsplit('.').next().unwrap();
        assert_ne!(with(key, value).unwrap(), base, "{path}");
        assert!(
            README.contains(&format!("| `{path}` |")),
            "{path} is not documented"
        );
    }
}

#[test]
fn values_out_of_range_are_named_together() {
    for (key, value) in [
        ("name", "\"\""),
        ("name", "\"a b\""),
        ("commit_interval", "\"1ms\""),
        ("row_budget", "\"1KiB\""),
        ("commit_interval", "5"),
        ("memory_ceiling", "\"1MiB\""),
        ("engines", "[]"),
        ("engines", "[\"tract\", \"tract\"]"),
        ("small", "0"),
        ("large", "101"),
    ] {
        let error = with(key, value).unwrap_err();
        assert!(
            error.to_string().contains(key) || value == "101",
            "{key} = {value}: {error}"
        );
    }
    let text = BUILT_IN[0]
        .1
        .replace("1GiB", "1MiB")
        .replace("[\"tract\", \"trees\"]", "[]");
    let error = Profile::parse("test", &text).unwrap_err().to_string();
    assert!(
        error.contains("memory_ceiling") && error.contains("engines"),
        "{error}"
    );
    let error = Profile::parse("test", &format!("colour = 1\n{}", BUILT_IN[0].1)).unwrap_err();
    assert!(error.to_string().contains("colour"), "{error}");
    let error = Profile::load("generic-toaster").unwrap_err().to_string();
    assert!(
        error.contains("generic-cpu, generic-gpu, generic-sd-card"),
        "{error}"
    );
}

#[test]
fn an_adapter_is_wanted_only_where_its_engine_is() {
    let of = |name: &str, gpu: &str| {
        let (_, text) = BUILT_IN.iter().find(|(found, _)| *found == name).unwrap();
        Profile::parse("test", &format!("{text}\n[gpu]\n{gpu}\n"))
    };
    let profile = of(
        "generic-gpu",
        "kind = \"integrated\"\npci = \"0000:01:00.0\"",
    )
    .unwrap();
    assert_eq!(profile.gpu.pci.as_deref(), Some("0000:01:00.0"));
    let error = of("generic-cpu", "name = \"card\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("gpu: has an effect only"), "{error}");
    let error = of("generic-gpu", "kind = \"fast\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("discrete"), "{error}");
    let error = of("generic-gpu", "colour = \"red\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("colour"), "{error}");
}

#[test]
fn a_file_of_ones_own_is_read_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let text = BUILT_IN[0].1.replace("generic-cpu", "mine");
    std::fs::write(&path, text).unwrap();
    assert_eq!(Profile::load(path.to_str().unwrap()).unwrap().name, "mine");
    let error = Profile::load("/nowhere/mine.toml").unwrap_err();
    assert!(matches!(error, LoadProfileError::Read { .. }), "{error}");
}

#[test]
fn memory_is_shared_out_below_the_ceiling() {
    let profile = Profile::load("generic-sd-card").unwrap();
    assert_eq!(profile.in_flight_bytes(), ByteCount::mib(64));
    assert_eq!(profile.model_bytes(), ByteCount::mib(384));
}

#[test]
fn weights_on_a_device_share_the_memory_of_models_unless_the_device_has_its_own() {
    let gpu = |line: &str| Profile::parse("test", &format!("{}{line}", BUILT_IN[1].1));
    let shared = gpu("").unwrap();
    assert_eq!(shared.model_bytes(), ByteCount::mib(1536));
    assert_eq!(shared.gpu_bytes(), ByteCount::mib(1536));
    let own = gpu("[gpu]\nmemory = \"16GiB\"\n").unwrap();
    assert_eq!(own.model_bytes(), ByteCount::mib(3072));
    assert_eq!(own.gpu_bytes(), ByteCount::mib(16 << 10));
    let small = gpu("[gpu]\nmemory = \"1KiB\"\n").unwrap_err().to_string();
    assert!(
        small.contains("gpu.memory: allowed: 1MiB to 1024GiB"),
        "{small}"
    );
    for key in ["kind", "name", "pci", "memory"] {
        assert!(
            README.contains(&format!("`gpu.{key}`")),
            "{key} is not documented"
        );
    }
}

#[derive(Debug)]
struct Named(&'static str);

impl Engine for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn takes(&self, _: ModelForm) -> bool {
        true
    }

    fn load(&self, _: &ModelFile) -> Result<Arc<dyn Session>, LoadModelError> {
        unreachable!("nothing is loaded here")
    }
}

#[test]
fn engines_come_in_the_order_of_the_profile() {
    let compiled_in: Vec<Arc<dyn Engine>> = vec![Arc::new(Named("a")), Arc::new(Named("b"))];
    let profile = with("engines", "[\"b\", \"a\"]").unwrap();
    let names: Vec<_> = profile
        .choose_engines(&compiled_in)
        .unwrap()
        .iter()
        .map(|engine| engine.name())
        .collect();
    assert_eq!(names, ["b", "a"]);
    let error = with("engines", "[\"c\"]")
        .unwrap()
        .choose_engines(&compiled_in)
        .unwrap_err();
    assert!(error.to_string().contains("compiled in: a, b"), "{error}");
}
