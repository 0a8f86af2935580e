use std::io::ErrorKind;
use std::sync::Arc;

use edgeward_base::durable::{FaultFs, RealFs};

use super::super::super::tests::world::World;
use super::*;

/// A boot with sealed rows and rows in its log, taken away; an older version sees nothing of it.
fn away(fs: &Arc<FaultFs>) -> World {
    let mut world = World::new(Arc::clone(fs) as _);
    world.start();
    world.offer(0, 5);
    world.commit();
    world.compact();
    world.offer(0, 3);
    world.commit();
    world.crash();
    let rows = world.rows_folder();
    assert_eq!(put_aside(&RealFs, &rows).unwrap(), Some(rows.join(NEWER)));
    let seen = find(&RealFs, &Folders::of(&rows)).unwrap();
    assert_eq!(seen.boots(), BTreeSet::new());
    world
}

fn no_fault() -> Arc<FaultFs> {
    let fs = FaultFs::failing_once(RealFs::shared(), u64::MAX, ErrorKind::StorageFull);
    Arc::new(fs)
}

#[test]
fn rows_that_a_rollback_took_away_are_all_back_at_the_next_start() {
    let mut world = away(&no_fault());
    world.start();
    world.check();
    let aside = world.rows_folder().join(NEWER);
    assert_eq!(move_files(&RealFs, &aside, &aside.join("x")).unwrap(), 0);
}

#[test]
fn what_cannot_be_brought_back_is_not_taken_for_lost() {
    for operation in 1..=24 {
        let fs = no_fault();
        let mut world = away(&fs);
        fs.fail_in(operation);
        world.start();
        world.crash();
        world.start();
        world.check();
        let verified = world.verify();
        let gaps: u64 = verified
            .boots
            .iter()
            .flat_map(|boot| &boot.tables)
            .map(|table| table.gaps)
            .sum();
        assert_eq!(gaps, 0, "operation {operation}: {verified}");
    }
}
