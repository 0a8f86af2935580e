//! Policies: who may do what with an endpoint, and how often.
//!
//! One record for each endpoint whose policy somebody set; any other has the one that
//! [`Policy::default`] describes. Kept by the endpoint's name, and written before a new endpoint is made
//! and after one is deleted, so that no endpoint ever serves without the policy that it was made with.
//! The request path reads an immutable map by an atomic pointer: no lock, no disk.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use edgeward_base::names::EndpointName;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::caller::{Grant, Grantee, PermissionLevel, USERS};
use super::limit::{Limits, RateLimit};
use crate::store::{Change, ChangeError, CommitStoreError, ReadStoreError, Record, Store};

#[cfg(test)]
mod tests;

/// What the store keeps of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The key.
    pub endpoint: EndpointName,
    /// Who may do what; `None` as long as nobody said.
    pub grants: Option<Vec<Grant>>,
    /// How often it may be asked.
    pub limits: Vec<RateLimit>,
}

impl Record for PolicyRecord {
    const TABLE: &'static str = "policies";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.endpoint.to_string()
    }
}

/// The policy of one endpoint.
#[derive(Debug)]
pub struct Policy {
    /// Who may do what, beside administrators and whoever made the endpoint.
    pub grants: Vec<Grant>,
    /// Whether somebody set the grants.
    set: bool,
    /// How often it may be asked.
    pub limits: Limits,
}

impl Default for Policy {
    /// Whoever has a token may ask the endpoint, without limits.
    fn default() -> Self {
        Self {
            grants: everybody_asks(),
            set: false,
            limits: Limits::default(),
        }
    }
}

fn everybody_asks() -> Vec<Grant> {
    // `users` is a valid name.
    let users = USERS.parse().ok().map(|users| Grant {
        to: Grantee::Group(users),
        level: PermissionLevel::Query,
    });
    users.into_iter().collect()
}

impl Policy {
    fn of(record: &PolicyRecord, before: Option<&Self>) -> Self {
        Self {
            set: record.grants.is_some(),
            grants: record.grants.clone().unwrap_or_else(everybody_asks),
            limits: Limits::renewed(&record.limits, before.map(|before| &before.limits)),
        }
    }

    fn record(&self, endpoint: &EndpointName) -> PolicyRecord {
        PolicyRecord {
            endpoint: endpoint.clone(),
            grants: self.set.then(|| self.grants.clone()),
            limits: self.limits.iter().cloned().collect(),
        }
    }
}

/// Why the stored policies could not be read at start.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the stored policies of endpoints")]
pub struct LoadPoliciesError(#[source] ReadStoreError);

/// Why a policy could not be changed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangePolicyError {
    /// It cannot be written as a record.
    #[error("the policy cannot be stored")]
    Record(#[from] ChangeError),
    /// The store did not take it.
    #[error("the policy was not stored")]
    Store(#[source] CommitStoreError),
}

/// The policies of all endpoints. A clone is another handle to the same ones.
#[derive(Clone, Debug)]
pub struct Policies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    known: ArcSwap<HashMap<EndpointName, Arc<Policy>>>,
    default: Arc<Policy>,
    /// One change at a time, so that the map is what the store holds.
    changing: Mutex<()>,
}

impl Policies {
    /// Reads the policies from the store.
    ///
    /// # Errors
    /// [`LoadPoliciesError`].
    pub fn load(store: Store) -> Result<Self, LoadPoliciesError> {
        let records: Vec<PolicyRecord> = store.list().map_err(LoadPoliciesError)?;
        let known = records
            .iter()
            .map(|record| (record.endpoint.clone(), Arc::new(Policy::of(record, None))));
        Ok(Self(Arc::new(Inner {
            known: ArcSwap::from_pointee(known.collect()),
            default: Arc::default(),
            changing: Mutex::new(()),
            store,
        })))
    }

    /// The policy of an endpoint. Takes no lock.
    #[must_use]
    pub fn of(&self, endpoint: &str) -> Arc<Policy> {
        let known = self.0.known.load();
        known.get(endpoint).unwrap_or(&self.0.default).clone()
    }

    /// Says who may do what with an endpoint.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn set_grants(
        &self,
        endpoint: &EndpointName,
        grants: Vec<Grant>,
    ) -> Result<(), ChangePolicyError> {
        self.change(endpoint, |record| record.grants = Some(grants))
            .await
    }

    /// Says how often an endpoint may be asked; from the next request on.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn set_limits(
        &self,
        endpoint: &EndpointName,
        limits: Vec<RateLimit>,
    ) -> Result<(), ChangePolicyError> {
        self.change(endpoint, |record| record.limits = limits).await
    }

    /// Forgets the policies of endpoints that `exists` does not know: those that were deleted, and those
    /// that were never made.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn retain(
        &self,
        exists: impl Fn(&EndpointName) -> bool,
    ) -> Result<(), ChangePolicyError> {
        let _changing = self.0.changing.lock().await;
        let mut known = HashMap::clone(&self.0.known.load());
        let mut change = Change::new();
        known.retain(|endpoint, _| {
            let kept = exists(endpoint);
            if !kept {
                change = std::mem::take(&mut change).delete::<PolicyRecord>(endpoint.as_str());
            }
            kept
        });
        if change.is_empty() {
            return Ok(());
        }
        self.commit(change).await?;
        self.0.known.store(Arc::new(known));
        Ok(())
    }

    /// Forgets the policy of an endpoint.
    ///
    /// # Errors
    /// [`ChangePolicyError`].
    pub async fn forget(&self, endpoint: &EndpointName) -> Result<(), ChangePolicyError> {
        self.retain(|known| known != endpoint).await
    }

    async fn change(
        &self,
        endpoint: &EndpointName,
        edit: impl FnOnce(&mut PolicyRecord),
    ) -> Result<(), ChangePolicyError> {
        let _changing = self.0.changing.lock().await;
        let before = self.of(endpoint.as_str());
        let mut record = before.record(endpoint);
        edit(&mut record);
        self.commit(Change::new().put(&record)?).await?;
        let policy = Arc::new(Policy::of(&record, Some(&before)));
        let mut known = HashMap::clone(&self.0.known.load());
        known.insert(endpoint.clone(), policy);
        self.0.known.store(Arc::new(known));
        Ok(())
    }

    async fn commit(&self, change: Change) -> Result<(), ChangePolicyError> {
        let committed = self.0.store.commit(change).await;
        committed.map(drop).map_err(ChangePolicyError::Store)
    }
}
