//! The GPU engine in the real binary: what is found out about adapters, and what happens without one.
//!
//! A software rasteriser stands for the card where the machine has none. A box takes one only when its
//! profile names nothing else.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use edgeward_harness::device::{Device, DeviceOptions};
use edgeward_harness::{edgeward as edgeward_binary, floors, skip};
use serde_json::{Value, json};

use crate::samples::{Golden, folder, serve_digits, serve_digits_with};

/// The loader reads its drivers from this file alone.
const DRIVERS: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

fn profile(engines: &str, gpu: &str) -> String {
    format!(
        "name = \"gpu\"\ncommit_interval = \"1s\"\nrow_budget = \"256MB\"\n\
         memory_ceiling = \"1GiB\"\nscale_to_zero_after = \"30m\"\nengines = {engines}\n\
         [workload_sizes]\nsmall = 25\nmedium = 50\nlarge = 100\n{gpu}"
    )
}

/// A box of that profile that serves the convolutional network of the samples.
fn serving(profile: &str, drivers: Option<&Path>) -> Device {
    let mut device = serving_nothing(profile, drivers);
    serve_digits(&mut device);
    device
}

/// A box of that profile.
fn serving_nothing(profile: &str, drivers: Option<&Path>) -> Device {
    let options = DeviceOptions {
        config: "[profile]\nname = \"./gpu.toml\"\n".to_owned(),
        ..DeviceOptions::default()
    };
    let mut device = Device::new(&options);
    if let Some(drivers) = drivers {
        for variable in DRIVERS {
            device.set_environment(variable, drivers);
        }
    }
    fs::write(device.folder().join("gpu.toml"), profile).unwrap();
    device.start();
    device
}

/// Why the network is not taken.
fn refused(device: &mut Device) -> String {
    let path = folder("digits", 1);
    let import = ["model", "import", path.to_str().unwrap(), "--name"];
    let version = ["main.default.digits", "--version", "1"];
    let refused = device.edgeward(&[&import[..], &version[..]].concat());
    assert_ne!(refused.code, Some(0));
    refused.stderr
}

fn logs(device: &mut Device) -> String {
    let route = "/api/2.0/serving-endpoints/digits/served-models/reader/build-logs";
    let logs = device.client().get(route);
    assert_eq!(logs.status, 200, "{}", logs.text());
    logs.json()["logs"].as_str().unwrap().to_owned()
}

fn answers(device: &mut Device) {
    let golden = Golden::of("digits", 1);
    let reply = device
        .client()
        .post("/serving-endpoints/digits/invocations", &golden.body);
    golden.assert_answers_in_single_precision(&reply);
}

/// What the machine's adapters are good for, with these drivers.
fn probe(drivers: Option<&Path>) -> Value {
    let mut command = Command::new(edgeward_binary());
    command.args(["device", "probe", "--output", "json"]);
    for variable in DRIVERS {
        command.envs(drivers.map(|drivers| (variable, drivers)));
    }
    let printed = command.output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    serde_json::from_slice(&printed.stdout).unwrap()
}

#[test]
fn a_model_is_served_on_the_adapter_that_the_profile_names() {
    let report = probe(None);
    let adapters = report["adapters"].as_array().unwrap();
    let Some(usable) = adapters.iter().find(|adapter| adapter["fault"].is_null()) else {
        return skip(
            "process.gpu",
            "no Vulkan driver of this machine has an adapter to use",
        );
    };
    let kind = format!("[gpu]\nkind = {}\n", usable["kind"]);
    let mut device = serving(&profile("[\"burn-wgpu\"]", &kind), None);
    answers(&mut device);
    let logs = logs(&mut device);
    assert!(
        logs.contains("engine burn-wgpu, verified: Framework"),
        "{logs}"
    );
    assert!(!logs.contains("on the CPU beside the device"), "{logs}");
}

#[test]
fn without_a_driver_there_is_no_adapter_and_the_processor_serves() {
    let nowhere = Path::new("/nonexistent/driver.json");
    let engines = "[\"burn-wgpu\", \"tract\", \"trees\"]";
    let mut device = serving(&profile(engines, ""), Some(nowhere));
    assert_eq!(probe(Some(nowhere)), json!({"adapters": []}));
    answers(&mut device);
    let logs = logs(&mut device);
    assert!(logs.contains("engine tract"), "{logs}");
}

#[test]
fn a_box_that_may_only_use_a_card_it_does_not_have_says_so() {
    let only = profile(
        "[\"burn-wgpu\"]",
        "[gpu]\nname = \"a card of the future\"\n",
    );
    let said = refused(&mut serving_nothing(&only, None));
    assert!(
        said.contains("burn-wgpu") && said.contains("not what the profile wants"),
        "{said}"
    );
}

/// A driver that crashes as soon as the loader speaks to it.
const CRASHING: &str = "#include <signal.h>\n\
    int vk_icdNegotiateLoaderICDInterfaceVersion(unsigned *version) {\n\
        (void)version;\n\
        return raise(SIGSEGV);\n\
    }\n";

/// A driver made of C, as the loader is told of one.
fn driver(source: &str, folder: &Path) -> Option<PathBuf> {
    let (code, library) = (folder.join("driver.c"), folder.join("libdriver.so"));
    fs::write(&code, source).unwrap();
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &code])
        .status();
    if !compiler.is_ok_and(|status| status.success()) {
        skip("process.gpu.crash", "there is no C compiler");
        return None;
    }
    let manifest = json!({
        "file_format_version": "1.0.0",
        "ICD": {"library_path": library, "api_version": "1.3.0"},
    });
    let path = folder.join("driver.json");
    fs::write(&path, manifest.to_string()).unwrap();
    Some(path)
}

#[test]
fn a_driver_that_crashes_takes_no_process_with_it_but_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let Some(crashing) = driver(CRASHING, folder.path()) else {
        return;
    };
    let mut command = Command::new(edgeward_binary());
    command.args(["device", "probe", "--output", "json"]);
    command.envs(DRIVERS.map(|variable| (variable, &crashing)));
    let tried = command.output().unwrap();
    assert_eq!(tried.status.signal(), Some(11), "{tried:?}");
    let engines = "[\"burn-wgpu\", \"tract\", \"trees\"]";
    let mut device = serving(&profile(engines, ""), Some(&crashing));
    answers(&mut device);
    let said = logs(&mut device);
    assert!(said.contains("engine tract"), "{said}");
    // A box that may use nothing else says why it cannot.
    let mut only = serving_nothing(&profile("[\"burn-wgpu\"]", ""), Some(&crashing));
    let said = refused(&mut only);
    assert!(
        said.contains("its driver crashed when it was tried: signal: 11"),
        "{said}"
    );
}

/// A driver that is another one, until a file is there: then every submission finds the device lost.
fn losing(library: &str, lost: &Path) -> String {
    format!(
        r#"#include <dlfcn.h>
#include <string.h>
#include <unistd.h>
typedef void (*Function)(void);
typedef Function (*Find)(void *, const char *);
typedef int (*Submit)(void *, unsigned, const void *, void *);
static Find of_device;
static Submit submit;
static void *symbol(const char *name) {{
    static void *real;
    if (!real) real = dlopen("{library}", RTLD_NOW | RTLD_LOCAL);
    return real ? dlsym(real, name) : 0;
}}
static int submit_or_lose(void *queue, unsigned count, const void *work, void *fence) {{
    if (access("{lost}", F_OK) == 0) return -4; /* VK_ERROR_DEVICE_LOST */
    return submit(queue, count, work, fence);
}}
static Function find_of_device(void *device, const char *name) {{
    Function found = of_device(device, name);
    if (!found || strcmp(name, "vkQueueSubmit")) return found;
    submit = (Submit)found;
    return (Function)submit_or_lose;
}}
Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {{
    Find find = (Find)symbol("vk_icdGetInstanceProcAddr");
    Function found = find ? find(instance, name) : 0;
    if (!found || strcmp(name, "vkGetDeviceProcAddr")) return found;
    of_device = (Find)found;
    return (Function)find_of_device;
}}
Function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {{
    Find find = (Find)symbol("vk_icdGetPhysicalDeviceProcAddr");
    return find ? find(instance, name) : 0;
}}
int vk_icdNegotiateLoaderICDInterfaceVersion(unsigned *version) {{
    int (*negotiate)(unsigned *) = (int (*)(unsigned *))symbol("vk_icdNegotiateLoaderICDInterfaceVersion");
    return negotiate ? negotiate(version) : -1;
}}
"#,
        lost = lost.display()
    )
}

/// The library of Mesa's software rasteriser, as its manifest names it.
fn rasteriser() -> Option<String> {
    let manifests = fs::read_dir("/usr/share/vulkan/icd.d").ok()?;
    let mut paths = manifests.filter_map(|entry| Some(entry.ok()?.path()));
    let path = paths.find(|path| path.to_string_lossy().contains("lvp_icd"))?;
    let manifest: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(manifest["ICD"]["library_path"].as_str()?.to_owned())
}

/// Callers at the same time, and how many requests each makes.
const CALLERS: u64 = 4;
const REQUESTS: u64 = 60;

#[test]
fn a_device_that_is_lost_under_load_costs_no_request() {
    let Some(library) = rasteriser() else {
        return skip(
            "process.gpu.loss",
            "Mesa's software rasteriser is not installed",
        );
    };
    let made = tempfile::tempdir().unwrap();
    let lost = made.path().join("lost");
    let Some(manifest) = driver(&losing(&library, &lost), made.path()) else {
        return skip("process.gpu.loss", "there is no C compiler");
    };
    let engines = "[\"burn-wgpu\", \"tract\"]";
    let mut device = serving_nothing(&profile(engines, ""), Some(&manifest));
    serve_digits_with(&mut device, &json!({"workload_type": "GPU_SMALL"}));
    assert!(logs(&mut device).contains("engine burn-wgpu"));
    let golden = Golden::of("digits", 1);
    let answered = AtomicU64::new(0);
    let clients: Vec<_> = (0..CALLERS).map(|_| device.client()).collect();
    std::thread::scope(|scope| {
        for mut client in clients {
            let (golden, answered, lost) = (&golden, &answered, &lost);
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    let route = "/serving-endpoints/digits/invocations";
                    golden.assert_answers_in_single_precision(&client.post(route, &golden.body));
                    let so_far = answered.fetch_add(1, Ordering::SeqCst) + 1;
                    if so_far == CALLERS * REQUESTS / 3 {
                        fs::write(lost, "").unwrap();
                    }
                }
            });
        }
    });
    let logs = logs(&mut device);
    assert!(logs.contains("engine tract took over: "), "{logs}");
    let view = device.client().get("/api/2.0/serving-endpoints/digits");
    let state = &view.json()["config"]["served_entities"][0]["state"];
    assert_eq!(state["edgeward"]["engine"], json!("tract"), "{state}");
    let said = device.process().output();
    assert!(
        !said.iter().any(|line| line.contains("panicked")),
        "{said:?}"
    );
    floors::reached("process.gpu.loss", answered.into_inner());
}
