use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;

async fn device(folder: &TempDir) -> Device {
    let file = folder.path().join("edgeward.toml");
    let state = folder.path().join("state");
    let config = format!(
        "[state]\ndir = \"{}\"\n[server]\nlisten = \"127.0.0.1:0\"\n",
        state.display()
    );
    std::fs::write(&file, config).unwrap();
    let config = Config::load(&file, |_| None).unwrap();
    let manager = ServiceManager::from_env(|_| None).unwrap();
    let means = Means::of_the_system(Handle::current());
    Device::build(config, manager, &means).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_does_not_outlive_what_keeps_its_rows_and_state() {
    for group in ["rows", "store"] {
        let folder = tempfile::tempdir().unwrap();
        let device = device(&folder).await;
        let tasks = match group {
            "rows" => device.groups.rows.clone(),
            _ => device.groups.store.clone(),
        };
        let doomed = tasks.spawn_thread("doomed", || panic!("on purpose"));
        drop(doomed.unwrap());
        let report = device.run(std::future::pending()).await;
        assert_eq!(
            report.problems,
            [format!("task {group}/doomed panicked: on purpose")]
        );
    }
}
