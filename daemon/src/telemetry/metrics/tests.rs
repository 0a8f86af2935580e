use super::*;

#[test]
fn every_name_ends_with_its_unit_and_its_position_is_its_number() {
    for (number, counter) in Counter::ALL.into_iter().enumerate() {
        assert_eq!(counter as usize, number);
        assert!(counter.name().family.ends_with("_total"), "{counter:?}");
    }
    for (number, gauge) in Gauge::ALL.into_iter().enumerate() {
        assert_eq!(gauge as usize, number);
        let units = [
            "_bytes",
            "_seconds",
            "_requests",
            "_tasks",
            "_generation",
            "_poisoned",
            "_percent",
        ];
        let family = gauge.name().family;
        assert!(units.iter().any(|unit| family.ends_with(unit)), "{family}");
    }
    for (number, histogram) in Histogram::ALL.into_iter().enumerate() {
        assert_eq!(histogram as usize, number);
        assert!(
            histogram.name().family.ends_with("_seconds"),
            "{histogram:?}"
        );
    }
}

#[tokio::test]
async fn the_process_is_sampled() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    drop(tasks.spawn("waits", std::future::pending::<()>()));
    let clock = edgeward_base::clock::TestClock::at(0);
    clock.advance(Duration::from_secs(90));
    let metrics = Metrics::new();
    metrics.sample_process(clock.as_ref(), &tasks);
    let text = metrics.render();
    assert!(text.contains("\nedgeward_uptime_seconds 90\n"), "{text}");
    assert!(text.contains("\nedgeward_running_tasks 1\n"), "{text}");
    assert!(!text.contains("\nedgeward_resident_bytes 0\n"), "{text}");
}

#[test]
fn numbers_are_printed_as_prometheus_reads_them() {
    let metrics = Metrics::new();
    metrics.add(Counter::ResponsesGood, 2);
    let same = metrics.clone();
    same.add(Counter::ResponsesGood, 1);
    metrics.take_over(Counter::RowsDropped, 9);
    metrics.take_over(Counter::RowsDropped, 8);
    metrics.set(Gauge::StateBytes, 7);
    metrics.set(Gauge::StateBytes, 5);
    for micros in [50, 51, 400_000_000] {
        metrics.observe(Histogram::Invocation, Duration::from_micros(micros));
    }
    let text = metrics.render();
    for expected in [
        "# TYPE edgeward_http_responses_total counter",
        "edgeward_http_responses_total{class=\"good\"} 3",
        "edgeward_http_responses_total{class=\"5xx\"} 0",
        "edgeward_rows_dropped_total 9",
        "edgeward_state_bytes 5",
        "# TYPE edgeward_invocation_seconds histogram",
        "edgeward_invocation_seconds_bucket{le=\"0.00005\"} 1",
        "edgeward_invocation_seconds_bucket{le=\"0.0001\"} 2",
        "edgeward_invocation_seconds_bucket{le=\"300\"} 2",
        "edgeward_invocation_seconds_bucket{le=\"+Inf\"} 3",
        "edgeward_invocation_seconds_sum 400.000101",
        "edgeward_invocation_seconds_count 3",
    ] {
        assert!(
            text.lines().any(|line| line == expected),
            "{expected}\nis not in\n{text}"
        );
    }
    let types = text.lines().filter(|line| line.starts_with("# TYPE"));
    let mut families: Vec<_> = types.collect();
    let count = families.len();
    families.dedup();
    assert_eq!(families.len(), count, "a family is announced once");
}
