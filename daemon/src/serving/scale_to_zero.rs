//! Scale to zero: which models are let go because nobody asks.
//!
//! Owns the decision alone. A model is shared by all served entities of its version, so it goes when
//! each of them has `scale_to_zero_enabled` and none was asked for as long as the profile says. The next
//! request of any of them loads it again and waits for that, on a compute thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Core;
use crate::endpoint::RoutedEntity;
use crate::model::Scorer;

/// A model is looked at so often in the time after which it goes.
const LOOKS: u32 = 8;

/// Nobody notices whether a model goes sooner.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Looks at all models until `shutdown`.
pub(super) async fn watch(core: Arc<Core>, shutdown: CancellationToken) {
    let pause = (core.limits.scale_to_zero_after / LOOKS).min(LONGEST_PAUSE);
    while shutdown
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        look(&core);
    }
}

/// Lets those go whose time is over.
pub(super) fn look(core: &Core) {
    let now = core.clock.monotonic_micros();
    let snapshot = core.endpoints.snapshot();
    let entities = snapshot
        .endpoints()
        .flat_map(|endpoint| endpoint.entities());
    let mut idle: HashMap<*const Scorer, (&RoutedEntity, bool)> = HashMap::new();
    for entity in entities {
        let may = entity.scale_to_zero && is_idle(core, entity, now);
        let known = idle.entry(Arc::as_ptr(&entity.scorer));
        let (_, all) = known.or_insert((entity, true));
        *all &= may;
    }
    for (entity, _) in idle.into_values().filter(|(_, all)| *all) {
        if entity.scorer.scale_to_zero() {
            tracing::info!(model = %entity.model, "scaled to zero");
        }
    }
}

/// Whether nobody has asked the entity for long enough; the first look begins to count.
fn is_idle(core: &Core, entity: &RoutedEntity, now: u64) -> bool {
    let measured = core.measured.of(entity.id.as_str());
    let asked = &measured.asked;
    let first = asked.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
    let Err(asked) = first else { return false };
    let idle = Duration::from_micros(now.saturating_sub(asked));
    idle >= core.limits.scale_to_zero_after
}
