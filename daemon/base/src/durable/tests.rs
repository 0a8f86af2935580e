use super::*;

#[test]
fn appends_go_on_where_they_ended_after_preallocation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segment");
    let mut file = RealFs.create_new(&path).unwrap();
    file.preallocate(4_096).unwrap();
    file.append(b"one").unwrap();
    file.append(b"two").unwrap();
    file.sync_data().unwrap();
    let bytes = RealFs.read(&path).unwrap();
    assert_eq!(bytes.len(), 4_096);
    assert_eq!(bytes.get(..7), Some(b"onetwo\0".as_slice()));
}

#[test]
fn new_files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write_atomic(&RealFs, &path, b"secret").unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn an_atomic_write_that_fails_anywhere_leaves_the_old_or_the_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write_atomic(&RealFs, &path, b"old").unwrap();
    let counting = FaultFs::dying(RealFs::shared(), 0);
    write_atomic(&counting, &path, b"old").unwrap();
    let operations = counting.operations();
    assert!(
        operations >= 5,
        "create, append, sync, rename, sync of the directory"
    );
    for operation in 1..=operations {
        let fs = FaultFs::dying(RealFs::shared(), operation);
        assert!(
            write_atomic(&fs, &path, b"new").is_err(),
            "operation {operation}"
        );
        let found = RealFs.read(&path).unwrap();
        assert!(found == b"old" || found == b"new", "operation {operation}");
        write_atomic(&RealFs, &path, b"old").unwrap();
    }
}

#[test]
fn a_fault_that_passes_lets_the_next_write_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let fs = FaultFs::failing_once(RealFs::shared(), 2, io::ErrorKind::StorageFull);
    let error = write_atomic(&fs, &path, b"bytes").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    write_atomic(&fs, &path, b"bytes").unwrap();
    assert_eq!(RealFs.read(&path).unwrap(), b"bytes");
}

#[test]
fn a_file_that_is_trusted_after_a_failure_is_found() {
    let trusted = |trust: fn(&FaultFs, &Path, &mut dyn DurableFile)| {
        let folder = tempfile::tempdir().unwrap();
        let fs = FaultFs::failing_once(RealFs::shared(), 3, io::ErrorKind::Other);
        let path = folder.path().join("file");
        let mut file = fs.create_new(&path).unwrap();
        file.append(b"bytes").unwrap();
        file.sync_data().unwrap_err();
        trust(&fs, &path, file.as_mut());
        fs.trusted_after_failure().map(|operation| operation.change)
    };
    let again = trusted(|_, _, file| file.sync_data().unwrap());
    assert_eq!(again, Some(Change::SyncData));
    let on = trusted(|_, _, file| file.append(b"more").unwrap());
    assert_eq!(on, Some(Change::Append));
    let reopened = trusted(|fs, path, _| fs.open(path).unwrap().sync_all().unwrap());
    assert_eq!(reopened, Some(Change::SyncAll));
    let replaced = trusted(|fs, path, _| {
        fs.remove(path).unwrap();
        fs.create_new(path).unwrap().append(b"new").unwrap();
    });
    assert_eq!(replaced, None);
}

#[test]
fn directories_are_made_with_those_above_them() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c");
    RealFs.create_dir_all(&deep).unwrap();
    RealFs.create_dir_all(&deep).unwrap();
    assert!(deep.is_dir());
    assert!(
        RealFs
            .list(&folder.path().join("missing"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_disk_has_room_and_a_file_takes_blocks_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let space = RealFs.space(folder.path()).unwrap();
    assert!(space.free <= space.total, "{space:?}");
    assert!(
        space.total > ByteCount(0) && space.free_files > 0,
        "{space:?}"
    );
    let path = folder.path().join("file");
    let mut file = RealFs.create_new(&path).unwrap();
    file.preallocate(1 << 20).unwrap();
    file.sync_all().unwrap();
    assert!(RealFs.size(&path).unwrap() >= ByteCount::mib(1));
    assert!(RealFs.space(&folder.path().join("none")).is_err());

    let fault = FaultFs::failing_once(RealFs::shared(), 0, io::ErrorKind::Other);
    let told = Space {
        total: ByteCount::mib(10),
        free: ByteCount(0),
        free_files: 3,
    };
    fault.set_space(Some(told));
    assert_eq!(fault.space(folder.path()).unwrap(), told);
    fault.set_space(None);
    assert_eq!(fault.space(folder.path()).unwrap().total, space.total);
}

#[test]
fn what_the_disk_cannot_read_is_told_from_what_may_pass() {
    use rustix::io::Errno;
    for errno in [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::NODATA] {
        assert!(is_unreadable(&errno.into()), "{errno}");
    }
    for errno in [Errno::NOENT, Errno::NOMEM, Errno::MFILE, Errno::NOSPC] {
        assert!(!is_unreadable(&errno.into()), "{errno}");
    }
}
