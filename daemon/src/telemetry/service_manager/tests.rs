use tokio::runtime::Handle;

use super::*;
use crate::tasks::Tasks;

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn without_a_service_manager_nothing_is_sent() {
    let manager = ServiceManager::from_env(|_| None).unwrap();
    manager.ready();
    assert!(manager.address.is_none());
}

#[test]
fn states_arrive_at_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let manager = ServiceManager::from_env(|name| {
        (name == "NOTIFY_SOCKET").then(|| path.to_str().unwrap().to_owned())
    })
    .unwrap();
    manager.ready();
    manager.status("serving\n2 endpoints");
    manager.stopping();
    assert_eq!(receive(&socket), "READY=1");
    assert_eq!(receive(&socket), "STATUS=serving 2 endpoints");
    assert_eq!(receive(&socket), "STOPPING=1");
}

#[test]
fn abstract_sockets_work_too() {
    let name = format!("edgeward-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    let manager =
        ServiceManager::from_env(|key| (key == "NOTIFY_SOCKET").then(|| format!("@{name}")));
    manager.unwrap().ready();
    assert_eq!(receive(&socket), "READY=1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_watchdog_is_fed_until_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let env = |name: &str| match name {
        "NOTIFY_SOCKET" => Some(path.to_str().unwrap().to_owned()),
        "WATCHDOG_USEC" => Some("20000".to_owned()),
        "WATCHDOG_PID" => Some(std::process::id().to_string()),
        _ => None,
    };
    let manager = ServiceManager::from_env(env).unwrap();
    let tasks = Tasks::new(Handle::current());
    let feeding = tasks.spawn("watchdog", manager.feed_watchdog(tasks.shutdown_token()));
    let fed = tasks
        .run_blocking("reader", move || [receive(&socket), receive(&socket)])
        .await;
    assert_eq!(fed.unwrap(), ["WATCHDOG=1", "WATCHDOG=1"]);
    tasks.begin_shutdown();
    feeding.join().await.unwrap();
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let env = |name: &str| match name {
        "NOTIFY_SOCKET" => Some("/run/notify".to_owned()),
        "WATCHDOG_USEC" => Some("1000".to_owned()),
        "WATCHDOG_PID" => Some("1".to_owned()),
        _ => None,
    };
    assert_eq!(ServiceManager::from_env(env).unwrap().watchdog, None);
}
