//! Storing, verifying, downloading.

use std::sync::Arc;

use edgeward_base::durable::{FaultFs, RealFs};
use tempfile::TempDir;

use super::*;

fn open(models: &TempDir) -> Artifacts {
    Artifacts::open(models.path(), RealFs::shared()).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Names in the directories of complete artifacts.
fn visible(models: &TempDir) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(models.path().join("artifacts")).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.ends_with("parts") {
            found.extend(
                std::fs::read_dir(folder)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found
}

#[test]
fn a_file_is_stored_once_under_its_digest() {
    let models = folder();
    let artifacts = open(&models);
    let source = models.path().join("source");
    let bytes = vec![5; COPY_BYTES + 17];
    std::fs::write(&source, &bytes).unwrap();
    let stored = artifacts.put_file(&source).unwrap();
    assert_eq!(
        stored,
        StoredFile {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64
        }
    );
    assert_eq!(artifacts.put_bytes(&bytes).unwrap(), stored);
    assert_eq!(visible(&models), [artifacts.path(&stored.digest)]);
    assert_eq!(artifacts.read_whole(&stored.digest).unwrap(), bytes);
    assert_eq!(
        artifacts
            .read(&stored.digest, COPY_BYTES as u64, 100)
            .unwrap(),
        [5; 17]
    );
    assert!(
        artifacts
            .read(&stored.digest, 1 << 40, 100)
            .unwrap()
            .is_empty()
    );
    artifacts.remove(&stored.digest).unwrap();
    artifacts.remove(&stored.digest).unwrap();
    assert!(matches!(
        artifacts.verify(&stored.digest),
        Err(ArtifactError::Missing { .. })
    ));
    assert!(matches!(
        artifacts.read(&stored.digest, 0, 1),
        Err(ArtifactError::Missing { .. })
    ));
}

#[test]
fn damage_is_seen_and_mended() {
    let models = folder();
    let artifacts = open(&models);
    let stored = artifacts.put_bytes(b"weights").unwrap();
    std::fs::write(artifacts.path(&stored.digest), b"Weights").unwrap();
    let damaged = artifacts.verify(&stored.digest).unwrap_err();
    assert!(matches!(damaged, ArtifactError::Damaged { .. }) && damaged.is_lost());
    assert!(artifacts.read_whole(&stored.digest).is_err());
    artifacts.put_bytes(b"weights").unwrap();
    artifacts.verify(&stored.digest).unwrap();
}

#[test]
fn nothing_half_written_is_ever_visible() {
    let bytes = vec![1; 1000];
    let digest = Digest::of(&bytes);
    for failing in 1.. {
        let models = folder();
        open(&models);
        let faulty = FaultFs::dying(RealFs::shared(), 0);
        let artifacts = Artifacts::open(models.path(), Arc::new(faulty.clone())).unwrap();
        faulty.fail_in(failing);
        let stored = artifacts.put_bytes(&bytes);
        for path in visible(&models) {
            assert_eq!(
                Digest::of_file(&path).unwrap(),
                digest,
                "operation {failing}"
            );
        }
        if stored.is_ok() {
            assert!(failing > 5, "{failing}");
            break;
        }
        open(&models).put_bytes(&bytes).unwrap();
    }
}

#[test]
fn a_copy_that_was_cut_short_goes() {
    let models = folder();
    drop(open(&models));
    let parts = models.path().join("artifacts/parts");
    let stray = parts.join(format!("{}.tmp", Digest::of(b"a")));
    std::fs::write(&stray, "half").unwrap();
    let artifacts = open(&models);
    assert!(!stray.try_exists().unwrap());
    // One that fails takes itself away.
    let fault = FaultFs::failing_once(RealFs::shared(), 3, io::ErrorKind::StorageFull);
    let failing = Artifacts::open(models.path(), Arc::new(fault)).unwrap();
    assert!(failing.put_bytes(b"b").is_err());
    assert_eq!(std::fs::read_dir(&parts).unwrap().count(), 0);
    drop(artifacts);
}

#[test]
fn a_download_goes_on_where_it_was() {
    let models = folder();
    let artifacts = open(&models);
    let bytes: Vec<u8> = (0..=255).collect();
    let digest = Digest::of(&bytes);
    let mut first = artifacts.writer(&digest, 256).unwrap();
    assert!(!first.resumed());
    first.write_at(128, &bytes[128..]).unwrap();
    first.sync().unwrap();
    drop(first);
    assert!(matches!(
        artifacts.verify(&digest),
        Err(ArtifactError::Missing { .. })
    ));
    let mut second = artifacts.writer(&digest, 256).unwrap();
    assert!(second.resumed());
    for (offset, length) in [(256, 1), (200, 57), (u64::MAX, 2)] {
        let refused = second.write_at(offset, &vec![0; length]).unwrap_err();
        assert!(matches!(refused, ArtifactError::Range { .. }));
    }
    second.write_at(0, &bytes[..128]).unwrap();
    assert_eq!(second.finish().unwrap(), FinishedArtifact::Complete);
    assert_eq!(artifacts.read_whole(&digest).unwrap(), bytes);
    assert!(!artifacts.writer(&digest, 256).unwrap().resumed());
}

#[test]
fn a_download_with_the_wrong_bytes_starts_again() {
    let models = folder();
    let artifacts = open(&models);
    let digest = Digest::of(b"right");
    let mut writer = artifacts.writer(&digest, 5).unwrap();
    writer.write_at(0, b"wrong").unwrap();
    assert_eq!(writer.finish().unwrap(), FinishedArtifact::Mismatch);
    assert_eq!(visible(&models), Vec::<PathBuf>::new());
    assert!(!artifacts.writer(&digest, 5).unwrap().resumed());
}

#[test]
fn a_part_of_another_length_is_no_download() {
    let models = folder();
    let artifacts = open(&models);
    let digest = Digest::of(b"right");
    drop(artifacts.writer(&digest, 3).unwrap());
    assert!(!artifacts.writer(&digest, 5).unwrap().resumed());
}

#[test]
fn no_room_for_the_whole_is_known_before_the_first_chunk() {
    let models = folder();
    let artifacts = open(&models);
    let digest = Digest::of(b"huge");
    assert!(matches!(
        artifacts.writer(&digest, 1 << 60),
        Err(ArtifactError::Io { .. })
    ));
    assert_eq!(
        std::fs::read_dir(models.path().join("artifacts/parts"))
            .unwrap()
            .count(),
        0
    );
}
