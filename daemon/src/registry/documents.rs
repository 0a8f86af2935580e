//! The signed documents, for the agent that publishes them.

use async_trait::async_trait;
use edgeward_sync::ports::{DocumentSource, PortError, PublishedDocument};
use tokio::sync::watch;

use super::record::DocumentRecord;
use crate::store::Store;

/// Reads the signed documents from the store; the publisher says when they have changed.
#[derive(Debug)]
pub struct RegistryDocuments {
    store: Store,
    changed: tokio::sync::Mutex<watch::Receiver<u64>>,
}

impl RegistryDocuments {
    pub(super) fn new(store: Store, changed: watch::Receiver<u64>) -> Self {
        Self {
            store,
            changed: tokio::sync::Mutex::new(changed),
        }
    }
}

#[async_trait]
impl DocumentSource for RegistryDocuments {
    async fn documents(&self) -> Result<Vec<PublishedDocument>, PortError> {
        let records = self
            .store
            .list::<DocumentRecord>()
            .map_err(|error| PortError::new("list signed documents", error))?;
        Ok(records
            .into_iter()
            .map(
                |DocumentRecord {
                     device,
                     kind,
                     generation,
                     container,
                 }| PublishedDocument {
                    device,
                    kind,
                    generation,
                    container,
                },
            )
            .collect())
    }

    async fn changed(&self) {
        if self.changed.lock().await.changed().await.is_err() {
            // The publisher is gone: nothing will change any more.
            std::future::pending::<()>().await;
        }
    }
}
