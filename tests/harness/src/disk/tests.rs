use super::*;

#[test]
fn a_cut_keeps_what_was_synced_and_loses_the_rest() {
    let Some(disk) = LoopDisk::ext4("harness.disk.cut", ByteCount::mib(16)) else {
        return;
    };
    let synced = disk.path().join("synced");
    let mut file = File::create(&synced).unwrap();
    file.write_all(b"durable").unwrap();
    file.sync_all().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    let before = disk.written();
    assert!(before > 0, "the device counts what is written");
    let lost = disk.path().join("lost");
    fs::write(&lost, "never synced").unwrap();
    disk.cut_power();
    assert!(
        file.write_all(b"after").is_err(),
        "a dead disk takes nothing"
    );
    assert!(file.sync_all().is_err());
    drop(file);
    disk.restore();
    assert_eq!(fs::read(&synced).unwrap(), b"durable");
    assert!(!lost.try_exists().unwrap(), "what was not synced is gone");
    fs::write(disk.path().join("again"), "alive").unwrap();
}

#[test]
fn a_full_disk_is_full_until_it_is_freed() {
    let Some(disk) = FullDisk::tmpfs("harness.disk.full", ByteCount::mib(1)) else {
        return;
    };
    let file = disk.path().join("file");
    disk.fill();
    let refused = fs::write(&file, [1; 8192]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    disk.free(ByteCount::kib(64));
    fs::write(&file, [1; 8192]).unwrap();
    disk.fill();
    disk.empty();
    fs::write(&file, [1; 65536]).unwrap();
}

#[test]
fn a_dropped_disk_leaves_no_mount() {
    let Some(disk) = LoopDisk::ext4("harness.disk.dropped", ByteCount::mib(8)) else {
        return;
    };
    let path = disk.path();
    let held = File::create(path.join("held")).unwrap();
    drop(disk);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(path.to_str().unwrap()), "{mounts}");
    drop(held);
}
