//! Scale to zero: which models are let go because nobody asks.
//!
//! Owns the decision alone. A model is shared by all served entities of its version, so it goes when
//! each of them has `scale_to_zero_enabled` and none was asked for as long as the profile says. The next
//! request of any of them loads it again and waits for that, on a compute thread. Letting go gives the
//! memory back to the machine, which takes a while: it happens on a thread for blocking work.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edgeward_kernels::memory;

use super::Core;
use crate::endpoint::{EndpointId, RoutedEndpoint, RoutedEntity};
use crate::model::Scorer;
use crate::tasks::Tasks;

/// A model is looked at so often in the time after which it goes.
const LOOKS: u32 = 8;

/// Nobody notices whether a model goes sooner.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Looks at all models until the tasks shut down.
pub(super) async fn watch(core: Arc<Core>, tasks: Tasks) {
    let pause = (core.limits.scale_to_zero_after / LOOKS).min(LONGEST_PAUSE);
    let shutdown = tasks.shutdown_token();
    while shutdown
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        let idle = idle(&core);
        if !idle.is_empty() {
            let_go(&tasks, idle).await;
        }
    }
}

/// The loaded models whose time is over.
fn idle(core: &Core) -> Vec<Arc<Scorer>> {
    let now = core.clock.monotonic_micros();
    all_of(core, |_, entity| {
        entity.scale_to_zero && is_idle(core, entity, now)
    })
}

/// The loaded models of an endpoint that no other endpoint keeps.
pub(super) fn own(core: &Core, endpoint: &RoutedEndpoint) -> Vec<Arc<Scorer>> {
    let of_endpoint =
        |id: &EndpointId, entity: &RoutedEntity| *id == endpoint.id || entity.scale_to_zero;
    let own = |scorer: &Arc<Scorer>| {
        let mut entities = endpoint.entities().iter();
        entities.any(|entity| Arc::ptr_eq(&entity.scorer, scorer))
    };
    let mut models = all_of(core, of_endpoint);
    models.retain(own);
    models
}

/// The loaded models all of whose served entities `may` be let go.
fn all_of(core: &Core, may: impl Fn(&EndpointId, &RoutedEntity) -> bool) -> Vec<Arc<Scorer>> {
    let snapshot = core.endpoints.snapshot();
    let mut models: HashMap<*const Scorer, (&Arc<Scorer>, bool)> = HashMap::new();
    for endpoint in snapshot.endpoints() {
        for entity in endpoint.entities() {
            let may = may(&endpoint.id, entity);
            let known = models.entry(Arc::as_ptr(&entity.scorer));
            known.or_insert((&entity.scorer, true)).1 &= may;
        }
    }
    let wanted = models.into_values().filter(|(_, all)| *all);
    wanted
        .map(|(scorer, _)| Arc::clone(scorer))
        .filter(|scorer| !scorer.is_at_zero())
        .collect()
}

/// Lets models go, and gives their memory back.
pub(super) async fn let_go(tasks: &Tasks, models: Vec<Arc<Scorer>>) {
    let job = move || {
        for scorer in models {
            if scorer.scale_to_zero() {
                tracing::info!(model = %scorer.model(), "scaled to zero");
            }
        }
        // A box that does nothing else would keep what the allocator keeps for the next call.
        memory::give_back();
    };
    if let Err(error) = tasks.run_blocking("scale to zero", job).await {
        tracing::warn!(%error, "a model was not let go");
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
