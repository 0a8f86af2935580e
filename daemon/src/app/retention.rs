//! Which tables the retention of endpoints is about: the configuration names endpoints, and an
//! endpoint may be given another table, or come and go, while the box runs.
//!
//! A table that an endpoint captured into once keeps what was configured for it: whoever deletes an
//! audited endpoint, or gives it another table, must not thereby give up the rows of its audit.

use std::collections::BTreeMap;

use edgeward_base::names::{EndpointName, TableName};
use tokio_util::sync::CancellationToken;

use crate::config::{Retain, RetentionConfig};
use crate::endpoint::{EndpointViews, Endpoints};
use crate::inference_table::{InferenceTables, TableBudget};

#[cfg(test)]
mod tests;

/// Gives the row log its budgets whenever an endpoint changes, until `shutdown`.
pub(super) async fn follow(
    retention: Vec<RetentionConfig>,
    endpoints: Endpoints,
    tables: InferenceTables,
    shutdown: CancellationToken,
) {
    let mut views = endpoints.watch();
    let mut stopping = Stopping::default();
    loop {
        let current = views.borrow_and_update().clone();
        let budgets = budgets(&retention, |name| table_of(&current, name));
        tables.set_budgets(stopping.with(budgets));
        match shutdown.run_until_cancelled(views.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// The table that an endpoint captures into, if it captures.
fn table_of(endpoints: &EndpointViews, name: &EndpointName) -> Option<TableName> {
    let config = endpoints.get(name.as_str())?.config.as_ref()?;
    let capture = config.auto_capture.as_ref()?;
    capture.enabled.then(|| capture.table.clone())
}

/// The budget of each table that a configured endpoint captures into. Of two endpoints with one
/// table, the one that is configured first decides.
fn budgets(
    retention: &[RetentionConfig],
    table_of: impl Fn(&EndpointName) -> Option<TableName>,
) -> Vec<TableBudget> {
    let mut budgets: Vec<TableBudget> = Vec::new();
    for one in retention {
        let table = table_of(&one.endpoint);
        let taken = |table: &TableName| budgets.iter().any(|other| other.table == *table);
        if let Some(table) = table.filter(|table| !taken(table)) {
            budgets.push(TableBudget {
                table,
                budget: one.budget,
                priority: one.priority,
                retain: one.retain,
            });
        }
    }
    budgets
}

/// The tables that would rather stop than lose rows, since the process started.
#[derive(Debug, Default)]
struct Stopping(BTreeMap<TableName, TableBudget>);

impl Stopping {
    /// The budgets, and those of tables that no endpoint captures into any more.
    fn with(&mut self, mut budgets: Vec<TableBudget>) -> Vec<TableBudget> {
        for budget in &budgets {
            match budget.retain {
                Retain::Stop => drop(self.0.insert(budget.table.clone(), budget.clone())),
                // Another endpoint took the table over, and says otherwise.
                Retain::DropOldest => drop(self.0.remove(&budget.table)),
            }
        }
        let named = |table: &TableName| budgets.iter().any(|budget| budget.table == *table);
        let others = self.0.values().filter(|budget| !named(&budget.table));
        let others: Vec<_> = others.cloned().collect();
        budgets.extend(others);
        budgets
    }
}

/// The configured endpoints that have no effect, because none of that name captures its requests.
pub(super) fn without_table<'a>(
    retention: &'a [RetentionConfig],
    endpoints: &EndpointViews,
) -> Vec<&'a EndpointName> {
    let names = retention.iter().map(|one| &one.endpoint);
    names
        .filter(|name| table_of(endpoints, name).is_none())
        .collect()
}
