use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgeward_base::clock::{SharedClock, SystemClock};
use edgeward_base::digest::Digest;
use edgeward_base::durable::RealFs;
use edgeward_base::names::{BootId, DeviceId, EndpointName, TableName};
use edgeward_base::units::Percent;
use edgeward_sync::ports::{DocumentSource, LandError, LandingProgress, LandingSink, ReportSink};
use edgeward_wire::ack::{Ack, AckState};
use edgeward_wire::chunk::CHUNK_BYTES;
use edgeward_wire::desired::{Address, DesiredDocument, Document};
use edgeward_wire::key::RegistryKey;
use edgeward_wire::ordering::{Generation, Kind};
use edgeward_wire::presence::Presence;
use edgeward_wire::report::{Report, ReportMessage};
use edgeward_wire::segment::{SegmentKind, SegmentManifest, SegmentName};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::input::EndpointInput;
use super::*;
use crate::model::samples::samples;
use crate::model::{ModelRecord, ModelStore, ModelStoreOptions, VerdictRecord};
use crate::store::{Store, StoreOptions};
use crate::tasks::Tasks;

struct Room {
    folder: TempDir,
    publisher: Publisher,
    store: Store,
    tasks: Tasks,
    clock: SharedClock,
}

fn room() -> Room {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::new(Handle::current());
    let clock = SystemClock::shared();
    let fs = RealFs::shared();
    let options = StoreOptions::new(
        folder.path().to_owned(),
        tasks.clone(),
        Arc::clone(&clock),
        Arc::clone(&fs),
    );
    let options = tables(options)
        .with_table::<ModelRecord>()
        .with_table::<VerdictRecord>();
    let (store, _) = Store::open(options).unwrap();
    let models = ModelStore::open(ModelStoreOptions {
        directory: folder.path().join("models"),
        store: store.clone(),
        tasks: tasks.clone(),
        fs,
        clock: Arc::clone(&clock),
        engines: edgeward_kernels::engines(),
    })
    .unwrap();
    let publisher = Publisher::start(PublisherParts {
        store: store.clone(),
        models,
        key: RegistryKey::from_seed(&[7; 32]),
        fleet: "plant".parse().unwrap(),
        clock: Arc::clone(&clock),
        tasks: tasks.clone(),
    });
    Room {
        folder,
        publisher,
        store,
        tasks,
        clock,
    }
}

fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn endpoint() -> EndpointName {
    "fraud-detection".parse().unwrap()
}

async fn publish_sample(room: &Room, reference: &str, to: Option<&str>) {
    let sample = samples()
        .iter()
        .find(|sample| sample.reference == reference)
        .unwrap();
    let folder = room.folder.path().join(reference.replace('/', "-"));
    sample.write_to(&folder).unwrap();
    let model = sample.model().unwrap();
    room.publisher
        .publish_model(&folder, model, to.map(device))
        .await
        .unwrap();
}

fn two_entities() -> EndpointInput {
    serde_json::from_str(
        r#"{"served_entities":[
             {"name":"champion","entity_name":"main.default.fraud","entity_version":"3"},
             {"name":"challenger","entity_name":"main.default.fraud","entity_version":"4"}],
            "traffic_config":{"routes":[
             {"served_model_name":"champion","traffic_percentage":80},
             {"served_entity_name":"challenger","traffic_percentage":20}]}}"#,
    )
    .unwrap()
}

/// The newest document of a kind, verified as the device would.
async fn document(room: &Room, name: &str, kind: Kind) -> (Generation, Document) {
    let documents = room.publisher.documents().documents().await.unwrap();
    let found = documents
        .iter()
        .find(|d| d.device == device(name) && d.kind == kind)
        .unwrap();
    let address = Address {
        fleet: "plant".parse().unwrap(),
        device: device(name),
        kind,
    };
    let verified =
        DesiredDocument::verify(&found.container, &room.publisher.public_key(), &address).unwrap();
    assert_eq!(verified.identity.generation, found.generation);
    (found.generation, verified.document)
}

async fn percentages(room: &Room, name: &str) -> Vec<u8> {
    let (_, Document::Endpoints(document)) = document(room, name, Kind::Endpoints).await else {
        panic!("an endpoints document");
    };
    let routes = &document
        .endpoints
        .get(&endpoint())
        .unwrap()
        .traffic_config
        .routes;
    routes
        .iter()
        .map(|route| route.traffic_percentage.get())
        .collect()
}

#[tokio::test]
async fn what_is_published_to_all_reaches_devices_added_before_and_after() {
    let room = room();
    room.publisher.add_device(device("box-1")).await.unwrap();
    publish_sample(&room, "main.default.fraud/3", None).await;
    publish_sample(&room, "main.default.fraud/4", None).await;
    room.publisher
        .set_endpoint(endpoint(), two_entities(), None)
        .await
        .unwrap();
    room.publisher.add_device(device("box-2")).await.unwrap();
    for name in ["box-1", "box-2"] {
        let (models, Document::Models(catalogue)) = document(&room, name, Kind::Models).await
        else {
            panic!("a models document");
        };
        assert_eq!(catalogue.models.len(), 2, "{name}");
        let (_, Document::Endpoints(endpoints)) = document(&room, name, Kind::Endpoints).await
        else {
            panic!("an endpoints document");
        };
        assert_eq!(endpoints.requires.models, models, "{name}");
        assert_eq!(percentages(&room, name).await, [80, 20], "{name}");
    }
}

#[tokio::test]
async fn a_split_for_one_device_leaves_the_others() {
    let room = room();
    for name in ["box-1", "box-2"] {
        room.publisher.add_device(device(name)).await.unwrap();
    }
    for reference in ["main.default.fraud/3", "main.default.fraud/4"] {
        publish_sample(&room, reference, None).await;
    }
    room.publisher
        .set_endpoint(endpoint(), two_entities(), None)
        .await
        .unwrap();
    let before = document(&room, "box-2", Kind::Endpoints).await;
    let split = vec![
        ("champion".parse().unwrap(), Percent::new(30).unwrap()),
        ("challenger".parse().unwrap(), Percent::new(70).unwrap()),
    ];
    let published = room
        .publisher
        .set_traffic(endpoint(), split, Some(device("box-1")))
        .await
        .unwrap();
    assert_eq!(published.devices.len(), 1);
    assert_eq!(percentages(&room, "box-1").await, [30, 70]);
    assert_eq!(document(&room, "box-2", Kind::Endpoints).await, before);
}

#[tokio::test]
async fn a_command_that_is_refused_changes_nothing() {
    let room = room();
    room.publisher.add_device(device("box-1")).await.unwrap();
    publish_sample(&room, "main.default.fraud/3", None).await;
    let documents = room.publisher.documents();
    let before = documents.documents().await.unwrap();

    let unknown = room
        .publisher
        .set_traffic(endpoint(), Vec::new(), None)
        .await
        .unwrap_err();
    assert!(
        matches!(unknown, PublishError::UnknownEndpoint(_)),
        "{unknown}"
    );
    let unpublished = room
        .publisher
        .set_endpoint(endpoint(), two_entities(), None)
        .await
        .unwrap_err();
    assert!(
        unpublished.to_string().contains("main.default.fraud/4"),
        "{unpublished}"
    );
    let nobody = room
        .publisher
        .set_endpoint(endpoint(), two_entities(), Some(device("box-9")))
        .await
        .unwrap_err();
    assert!(matches!(nobody, PublishError::UnknownDevice(_)), "{nobody}");
    let missing = room
        .publisher
        .publish_model(Path::new("gone.onnx"), "a.b.c/1".parse().unwrap(), None)
        .await
        .unwrap_err();
    assert!(matches!(missing, PublishError::Import { .. }), "{missing}");

    publish_sample(&room, "main.default.fraud/4", None).await;
    room.publisher
        .set_endpoint(endpoint(), two_entities(), None)
        .await
        .unwrap();
    for (split, reason) in [
        (vec![("champion", 80)], "100"),
        (vec![("champion", 80), ("nobody", 20)], "nobody"),
    ] {
        let split = split
            .into_iter()
            .map(|(name, percent)| (name.parse().unwrap(), Percent::new(percent).unwrap()))
            .collect();
        let error = room
            .publisher
            .set_traffic(endpoint(), split, None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(percentages(&room, "box-1").await, [80, 20]);
    assert_ne!(documents.documents().await.unwrap(), before);
}

#[tokio::test]
async fn generations_rise_by_one_and_importing_again_publishes_nothing() {
    let room = room();
    room.publisher.add_device(device("box-1")).await.unwrap();
    let (first, _) = document(&room, "box-1", Kind::Models).await;
    publish_sample(&room, "main.default.fraud/3", None).await;
    publish_sample(&room, "main.default.fraud/3", None).await;
    let (second, _) = document(&room, "box-1", Kind::Models).await;
    assert_eq!(
        (second.epoch, second.generation),
        (first.epoch, first.generation + 1)
    );
}

#[test]
fn the_key_is_drawn_once_kept_private_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let first = open_key(folder.path(), &RealFs).unwrap();
    let again = open_key(folder.path(), &RealFs).unwrap();
    assert_eq!(first.pinned(), again.pinned());
    let path = folder.path().join("secrets/registry.key");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    std::fs::write(&path, "not a key").unwrap();
    assert!(matches!(
        open_key(folder.path(), &RealFs),
        Err(OpenKeyError::Malformed { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), b"not a key");
}

/// A Parquet file with `rows` rows.
fn parquet(rows: usize) -> Vec<u8> {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(
        0..i64::try_from(rows).unwrap(),
    ));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn segment(bytes: &[u8], rows: u64) -> SegmentManifest {
    SegmentManifest {
        name: SegmentName {
            table: TableName::new("main", "default", "fraud").unwrap(),
            kind: SegmentKind::Rows,
            boot: BootId(1),
            first: 1,
            last: rows,
        },
        rows,
        date: "2026-01-02".parse().unwrap(),
        size: bytes.len() as u64,
        digest: Digest::of(bytes),
    }
}

async fn stage(landing: &Landing, segment: &SegmentManifest, bytes: &[u8]) {
    let step = usize::try_from(CHUNK_BYTES).unwrap();
    for (index, chunk) in bytes.chunks(step).enumerate() {
        let index = u32::try_from(index).unwrap();
        landing
            .write(&device("box-1"), segment, index, chunk)
            .await
            .unwrap();
    }
}

fn landing(room: &Room) -> (Landing, PathBuf) {
    let folder = room.folder.path().join("landing");
    let landing = Landing::open(
        room.folder.path(),
        &folder,
        RealFs::shared(),
        room.tasks.clone(),
    )
    .unwrap();
    (landing, folder)
}

/// Every file below `folder`, of whatever name.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder that is gone or not there yet has no file.
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

/// An analyst's tools read a table's folder at any moment, and take every file in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_holds_whole_files_at_every_moment() {
    const SEGMENTS: u64 = 24;
    let room = room();
    let (landing, folder) = landing(&room);
    let bytes = parquet(500_000);
    let name = device("box-1");
    let (done, over) = std::sync::mpsc::channel::<()>();
    let catalog = folder.join("main");
    let (size, looks) = (bytes.len() as u64, room.tasks.clone());
    let looking = looks.run_blocking("look at the table", move || {
        let mut looked = 0;
        while over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for file in files_below(&catalog) {
                assert_eq!(file.extension(), Some("parquet".as_ref()), "{file:?}");
                assert_eq!(std::fs::metadata(&file).unwrap().len(), size, "{file:?}");
            }
            looked += 1;
        }
        looked
    });
    let lands = async {
        for number in 0..SEGMENTS {
            let mut segment = segment(&bytes, 500_000);
            segment.name.boot = BootId(number);
            landing.progress(&name, &segment).await.unwrap();
            stage(&landing, &segment, &bytes).await;
            landing.land(&name, &segment).await.unwrap();
        }
        drop(done);
    };
    let (looked, ()) = tokio::join!(looking, lands);
    assert!(looked.unwrap() > SEGMENTS, "the table was looked at often");
    assert_eq!(files_below(&folder).len() as u64, SEGMENTS);
}

#[tokio::test]
async fn what_never_landed_is_gone_after_a_start() {
    let room = room();
    let (landing, folder) = landing(&room);
    drop(landing);
    std::fs::write(folder.join(".arriving/half"), b"PAR1").unwrap();
    std::fs::write(room.folder.path().join("staging/half.part"), b"PAR1").unwrap();
    let (_landing, folder) = self::landing(&room);
    assert_eq!(files_below(&folder), Vec::<PathBuf>::new());
    assert_eq!(
        files_below(&room.folder.path().join("staging")),
        Vec::<PathBuf>::new()
    );
}

#[tokio::test]
async fn a_segment_lands_once_under_its_name() {
    let room = room();
    let (landing, folder) = landing(&room);
    let bytes = parquet(5);
    let segment = segment(&bytes, 5);
    let name = device("box-1");
    let progress = landing.progress(&name, &segment).await.unwrap();
    assert!(matches!(progress, LandingProgress::Staging(chunks) if chunks.held() == 0));
    stage(&landing, &segment, &bytes).await;
    landing.land(&name, &segment).await.unwrap();
    let landed = folder.join(segment.object(&name));
    assert_eq!(std::fs::read(&landed).unwrap(), bytes);
    assert_eq!(
        landing.progress(&name, &segment).await.unwrap(),
        LandingProgress::Landed
    );
    // The same bytes again, as after a crash before the receipt: still one file, still landed.
    let (again, _) = self::landing(&room);
    assert_eq!(
        again.progress(&name, &segment).await.unwrap(),
        LandingProgress::Landed
    );
    assert_eq!(files_below(&folder), [landed]);
    assert_eq!(
        files_below(&room.folder.path().join("staging")),
        Vec::<PathBuf>::new()
    );
}

#[tokio::test]
async fn what_is_not_what_its_manifest_says_does_not_land() {
    let room = room();
    let (landing, folder) = landing(&room);
    let name = device("box-1");
    let bytes = parquet(5);

    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let honest = segment(&bytes, 5);
    landing.progress(&name, &honest).await.unwrap();
    stage(&landing, &honest, &damaged).await;
    assert!(matches!(
        landing.land(&name, &honest).await,
        Err(LandError::Mismatch)
    ));

    let boastful = segment(&bytes, 6);
    landing.progress(&name, &boastful).await.unwrap();
    stage(&landing, &boastful, &bytes).await;
    let refused = landing.land(&name, &boastful).await.unwrap_err();
    assert!(refused.to_string().contains("5 rows"), "{refused}");

    let text = segment(b"no parquet at all", 5);
    landing.progress(&name, &text).await.unwrap();
    stage(&landing, &text, b"no parquet at all").await;
    assert!(matches!(
        landing.land(&name, &text).await,
        Err(LandError::Refused(_))
    ));
    assert_eq!(files_below(&folder), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn other_bytes_under_a_landed_name_are_refused_and_leave_what_landed() {
    let room = room();
    let (landing, folder) = landing(&room);
    let name = device("box-1");
    let first = parquet(5);
    let segment_one = segment(&first, 5);
    landing.progress(&name, &segment_one).await.unwrap();
    stage(&landing, &segment_one, &first).await;
    landing.land(&name, &segment_one).await.unwrap();
    let mut other = segment(&parquet(5), 5);
    other.digest = Digest::of(b"other");
    assert!(matches!(
        landing.progress(&name, &other).await,
        Err(LandError::Refused(_))
    ));
    assert_eq!(
        std::fs::read(folder.join(segment_one.object(&name))).unwrap(),
        first
    );
}

#[tokio::test]
async fn reports_are_recorded_by_sequence_whatever_order_they_come_in() {
    let room = room();
    let reports = RegistryReports::new(room.store.clone(), Arc::clone(&room.clock));
    let report = |sequence, state| Report {
        device: device("box-1"),
        boot: BootId(1),
        sequence,
        message: ReportMessage::Ack(Ack {
            kind: Kind::Endpoints,
            generation: Some(Generation::new(1, sequence)),
            state,
        }),
    };
    let applied = AckState::Applied {
        effective_hash: Digest::of(b"x"),
    };
    assert_eq!(
        reports
            .record(&report(1, AckState::Accepted))
            .await
            .unwrap(),
        1
    );
    assert_eq!(reports.record(&report(3, applied)).await.unwrap(), 3);
    assert_eq!(
        reports
            .record(&report(2, AckState::Accepted))
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        reports
            .record(&report(3, AckState::Accepted))
            .await
            .unwrap(),
        3
    );
    room.publisher.add_device(device("box-1")).await.unwrap();
    let AdminAnswer::Status(status) = answer(&room.publisher, AdminRequest::Status).await.unwrap()
    else {
        panic!("a status");
    };
    let report = status.devices[&device("box-1")].reports["ack/endpoints"].clone();
    assert_eq!(
        (&report["sequence"], &report["state"]),
        (&3.into(), &"applied".into())
    );
}

#[tokio::test]
async fn an_old_connections_will_does_not_take_a_device_offline() {
    let room = room();
    let reports = RegistryReports::new(room.store.clone(), Arc::clone(&room.clock));
    let said = |online, session| Presence {
        online,
        boot: BootId(1),
        session,
        version: "0.1.0".to_owned(),
    };
    let name = device("box-1");
    reports.presence(&name, &said(true, 2)).await.unwrap();
    assert!(
        reports
            .presence(&name, &said(false, 1))
            .await
            .unwrap()
            .online
    );
    assert!(
        !reports
            .presence(&name, &said(false, 2))
            .await
            .unwrap()
            .online
    );
}
