use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::super::gap::{LossKey, Lost};
use super::super::policy::{Policy, TablePolicy};
use super::*;

const CLOSE: Close = Close {
    complete: true,
    reply: None,
};

/// A channel of 4 KiB that keeps everything it has room for.
fn small() -> (RowSender, RowReceiver) {
    with(&Policies::new(1 << 20))
}

fn with(policies: &Policies) -> (RowSender, RowReceiver) {
    let limits = ChannelLimits {
        most: 4096,
        commit: 2048,
    };
    channel(limits, policies.clone())
}

fn row(endpoint: Option<&str>, payload: usize) -> Row {
    let mut row = Row::new(uuid::Uuid::nil(), 5);
    row.endpoint_name = endpoint.map(|name| name.parse().unwrap());
    row.request = Some(vec![b'x'; payload].into());
    row
}

fn table() -> TableName {
    "main.default.fraud".parse().unwrap()
}

fn taken(receiver: &RowReceiver) -> Vec<(LossKey, Lost)> {
    let mut losses = Losses::default();
    receiver.take_dropped(Take::All, &mut losses, 99);
    losses
        .iter()
        .map(|(key, lost)| (key.clone(), *lost))
        .collect()
}

#[test]
fn what_does_not_fit_is_dropped_and_counted_by_table_and_endpoint() {
    let (sender, receiver) = small();
    assert_eq!(receiver.waiting(), Waiting::Nothing);
    sender.offer(&table(), &row(Some("a"), 1000));
    assert_eq!(receiver.waiting(), Waiting::Some);
    sender.offer(&table(), &row(Some("a"), 1000));
    assert_eq!(receiver.waiting(), Waiting::Commit);
    for endpoint in ["a", "a", "b"] {
        sender.offer(&table(), &row(Some(endpoint), 3500));
    }
    sender.offer(&TableName::unmatched(), &row(Some("invented"), 3500));
    assert_eq!(sender.dropped(&[GapCause::ChannelFull]), 4);
    let counts: Vec<_> = taken(&receiver)
        .into_iter()
        .map(|(key, lost)| {
            (
                key.table,
                key.endpoint.map(|name| name.to_string()),
                lost.rows,
            )
        })
        .collect();
    assert_eq!(
        counts,
        [
            (TableName::unmatched(), None, 1),
            (table(), Some("a".to_owned()), 2),
            (table(), Some("b".to_owned()), 1),
        ]
    );
    assert_eq!(taken(&receiver), []);
    assert!(receiver.take().is_some() && receiver.take().is_some() && receiver.take().is_none());
    assert_eq!(receiver.waiting(), Waiting::Nothing);
}

#[test]
fn a_row_larger_than_the_channel_wakes_the_writer_to_count_it() {
    let (sender, receiver) = small();
    sender.offer(&table(), &row(None, 5000));
    assert_eq!(receiver.waiting(), Waiting::Some);
    let [(key, lost)] = &taken(&receiver)[..] else {
        panic!("one loss")
    };
    assert_eq!(key.cause, GapCause::Oversize);
    assert_eq!((lost.rows, lost.first_us, lost.last_us), (1, 5, 5));
    assert!(lost.bytes >= 5000);
    assert_eq!(receiver.waiting(), Waiting::Nothing);
}

#[test]
fn an_order_makes_a_commit_due_even_when_the_channel_is_full() {
    let (sender, receiver) = small();
    sender.offer(&table(), &row(None, 3500));
    assert!(sender.order(Message::Close(CLOSE)));
    assert_eq!(receiver.waiting(), Waiting::Commit);
    assert!(matches!(receiver.take(), Some(Message::Row(_))));
    assert!(matches!(receiver.take(), Some(Message::Close(_))));
    assert_eq!(receiver.waiting(), Waiting::Nothing);
}

#[test]
fn a_writer_that_is_gone_means_dropped_rows_and_no_harm() {
    let (sender, receiver) = small();
    drop(receiver);
    sender.offer(&table(), &row(None, 10));
    assert_eq!(sender.dropped(&[GapCause::ChannelFull]), 1);
    assert_eq!(sender.offered(), 0, "nobody has it");
    assert!(!sender.order(Message::Close(CLOSE)));
}

#[test]
fn what_the_policy_leaves_out_is_counted_and_wakes_the_writer_for_no_commit() {
    let policies = Policies::new(1 << 20);
    let (sender, receiver) = with(&policies);
    let stopped = TablePolicy {
        stopped: true,
        ..TablePolicy::keep_all(1 << 20)
    };
    let sampled = TablePolicy {
        one_in: u32::MAX,
        ..TablePolicy::keep_all(1 << 20)
    };
    policies.publish(Policy {
        default: sampled,
        tables: HashMap::from([(table(), stopped)]),
    });
    let other: TableName = "main.default.other".parse().unwrap();
    let mut sampled_out = row(Some("a"), 10);
    sampled_out.request_id = uuid::Uuid::from_u128(1);
    sender.offer(&table(), &row(Some("a"), 10));
    sender.offer(&other, &sampled_out);
    assert_eq!(
        (receiver.waiting(), receiver.left_out()),
        (Waiting::Nothing, 2)
    );
    assert_eq!(sender.dropped(&[GapCause::Sampled]), 1);
    let mut urgent = Losses::default();
    receiver.take_dropped(Take::Urgent, &mut urgent, 0);
    assert!(urgent.is_empty());
    let counts: Vec<_> = taken(&receiver)
        .into_iter()
        .map(|(key, lost)| (key.table, key.cause, lost.rows))
        .collect();
    let expected = [
        (table(), GapCause::DiskBudget, 1),
        (other, GapCause::Sampled, 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(receiver.left_out(), 0);
}

#[test]
fn many_senders_lose_no_count() {
    const SENDERS: u64 = 4;
    const ROWS: u64 = 5_000;
    let (sender, receiver) = small();
    let done = AtomicBool::new(false);
    let (mut rows, mut losses) = (0, Losses::default());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SENDERS)
            .map(|number| {
                let sender = &sender;
                let endpoint = format!("e{}", number % 2);
                scope.spawn(move || {
                    for _ in 0..ROWS {
                        sender.offer(&table(), &row(Some(&endpoint), 100));
                    }
                })
            })
            .collect();
        let done = &done;
        scope.spawn(move || {
            workers
                .into_iter()
                .for_each(|worker| worker.join().unwrap());
            done.store(true, Ordering::SeqCst);
        });
        loop {
            let last = done.load(Ordering::SeqCst);
            while receiver.take().is_some() {
                rows += 1;
            }
            receiver.take_dropped(Take::All, &mut losses, 0);
            if last {
                break;
            }
        }
    });
    let lost: u64 = losses.iter().map(|(_, lost)| lost.rows).sum();
    assert_eq!(rows + lost, SENDERS * ROWS);
    assert_eq!(lost, sender.dropped(&[GapCause::ChannelFull]));
    assert_eq!(rows, sender.offered());
}
