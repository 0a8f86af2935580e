use edgeward_base::units::ByteCount;

use super::*;
use crate::config::Retain;

#[test]
fn an_endpoint_s_retention_holds_for_the_table_that_it_captures_into() {
    let retention = |endpoint: &str, retain| RetentionConfig {
        endpoint: endpoint.parse().unwrap(),
        budget: Some(ByteCount::mib(50)),
        priority: 90,
        retain,
    };
    let configured = [
        retention("audit", Retain::Stop),
        retention("not-there", Retain::Stop),
        retention("same-table", Retain::DropOldest),
    ];
    let table: TableName = "main.default.audit".parse().unwrap();
    let table_of = |name: &EndpointName| (name.as_str() != "not-there").then(|| table.clone());
    let expected = TableBudget {
        table: table.clone(),
        budget: Some(ByteCount::mib(50)),
        priority: 90,
        retain: Retain::Stop,
    };
    assert_eq!(budgets(&configured, table_of), [expected]);
}
