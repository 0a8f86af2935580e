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

#[test]
fn a_table_that_stops_does_so_after_its_endpoint_has_gone_or_was_given_another() {
    let budget = |table: &str, retain| TableBudget {
        table: table.parse().unwrap(),
        budget: None,
        priority: 90,
        retain,
    };
    let (first, second) = (
        budget("main.default.first", Retain::Stop),
        budget("main.default.second", Retain::Stop),
    );
    let mut stopping = Stopping::default();
    assert_eq!(
        stopping.with(vec![first.clone()]),
        std::slice::from_ref(&first)
    );
    let both = [second.clone(), first];
    assert_eq!(stopping.with(vec![second.clone()]), both, "another table");
    assert_eq!(stopping.with(Vec::new()).len(), 2, "deleted");
    // Who takes a table over decides.
    let taken = budget("main.default.first", Retain::DropOldest);
    assert_eq!(stopping.with(vec![taken.clone()]), [taken, second.clone()]);
    assert_eq!(stopping.with(Vec::new()), [second]);
}
