use std::fs;
use std::sync::Arc;

use edgeward_base::clock::{SharedClock, TestClock};
use edgeward_base::durable::RealFs;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::store::StoreOptions;
use crate::tasks::Tasks;

/// A state directory and what a start of the device finds out in it.
struct Box {
    state: TempDir,
    means: Means,
}

impl Box {
    fn new() -> Self {
        let tasks = Tasks::new(Handle::current());
        let clock: SharedClock = TestClock::at(1_700_000_000_000_000);
        let means = Means {
            tasks,
            clock,
            fs: RealFs::shared(),
        };
        let state = TempDir::new().unwrap();
        Self { state, means }
    }

    async fn start(&self) -> Result<DeviceIdentity, BuildDeviceError> {
        let options = StoreOptions::new(
            self.state.path().to_path_buf(),
            self.means.tasks.clone(),
            Arc::clone(&self.means.clock),
            RealFs::shared(),
        );
        let (store, _) = Store::open(options.with_table::<IdentityRecord>()).unwrap();
        let identity = identify(self.state.path(), &store, &self.means).await;
        store.close().await.unwrap();
        identity
    }

    fn file(&self) -> std::path::PathBuf {
        DeviceIdentity::path(self.state.path())
    }

    fn provision(&self, device: &str) -> DeviceIdentity {
        let key = edgeward_wire::key::RegistryKey::from_seed(&[7; 32]).pinned();
        let identity = DeviceIdentity {
            device: device.parse().unwrap(),
            fleet: Some(FleetMembership {
                fleet: "plant".parse().unwrap(),
                registry_key: key,
            }),
        };
        identity.write(&RealFs, self.state.path()).unwrap();
        identity
    }
}

#[tokio::test]
async fn a_drawn_name_is_kept_and_provisioning_replaces_it() {
    let device = Box::new();
    let drawn = device.start().await.unwrap();
    assert_eq!(device.start().await.unwrap(), drawn);
    let provisioned = device.provision("box-1");
    assert_eq!(device.start().await.unwrap(), provisioned);
    fs::remove_file(device.file()).unwrap();
    assert_eq!(device.start().await.unwrap(), provisioned);
    let again = device.provision("box-2");
    assert_eq!(device.start().await.unwrap(), again);
}

#[tokio::test]
async fn no_damage_to_the_file_makes_another_device() {
    let device = Box::new();
    let identity = device.provision("box-1");
    assert_eq!(device.start().await.unwrap(), identity);
    let sound = fs::read(device.file()).unwrap();
    let mut wrecks: Vec<Vec<u8>> = vec![Vec::new(), vec![0; 4096], b"device = \"box-7\"\n".into()];
    for at in (0..sound.len()).step_by(5) {
        for bit in [0, 6, 7] {
            let mut flipped = sound.clone();
            flipped[at] ^= 1 << bit;
            wrecks.push(flipped);
        }
        wrecks.push(sound[..at].to_vec());
    }
    for wreck in wrecks {
        fs::write(device.file(), &wreck).unwrap();
        let text = String::from_utf8_lossy(&wreck).into_owned();
        let known = IdentityRecord::of(&identity);
        let found = DeviceIdentity::find(device.state.path());
        assert!(!matches!(found, FoundIdentity::Sealed(_)), "{text}");
        let kept = known.identity().unwrap();
        repair(&RealFs, device.state.path(), &found, &kept).unwrap();
        assert_eq!(fs::read(device.file()).unwrap(), sound, "{text}");
    }
    fs::write(device.file(), "device = \"box-7\"\n").unwrap();
    assert_eq!(device.start().await.unwrap(), identity);
    let aside = device.state.path().join("device.toml.corrupt");
    assert_eq!(fs::read(aside).unwrap(), b"device = \"box-7\"\n");
}

#[tokio::test]
async fn a_file_of_an_older_version_is_taken_and_sealed() {
    let device = Box::new();
    fs::write(device.file(), "device = \"box-1\"\n").unwrap();
    assert_eq!(device.start().await.unwrap().device.as_str(), "box-1");
    let found = DeviceIdentity::find(device.state.path());
    assert!(matches!(found, FoundIdentity::Sealed(_)), "{found:?}");
}

#[tokio::test]
async fn a_damaged_file_without_a_record_is_refused_by_name() {
    let device = Box::new();
    fs::write(device.file(), "device = \"box-1\"\n# crc32 00000000\n").unwrap();
    let error = device.start().await.unwrap_err();
    assert!(error.is_configuration());
}
