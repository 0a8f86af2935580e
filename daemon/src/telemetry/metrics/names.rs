//! The names of the metrics: family with its unit, label, meaning.

/// How a metric is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// With the unit at its end. Variants of one family stand beside each other.
    pub(super) family: &'static str,
    pub(super) label: Option<(&'static str, &'static str)>,
    pub(super) help: &'static str,
}

const fn plain(family: &'static str, help: &'static str) -> Name {
    Name {
        family,
        label: None,
        help,
    }
}

const fn of(
    family: &'static str,
    key: &'static str,
    word: &'static str,
    help: &'static str,
) -> Name {
    Name {
        family,
        label: Some((key, word)),
        help,
    }
}

/// What only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// HTTP answers with a status of 1xx to 3xx.
    ResponsesGood,
    /// HTTP answers with a status of 4xx.
    ResponsesClientError,
    /// HTTP answers with a status of 5xx.
    ResponsesServerError,
    /// Inference-table rows made durable.
    RowsCommitted,
    /// Inference-table rows dropped; each is in a counted gap.
    RowsDropped,
    /// Changes of the state acknowledged.
    StateChanges,
    /// Tasks that panicked.
    TaskFailures,
    /// Writes and syncs of the state that failed.
    StateFailures,
    /// State databases rebuilt at start, because what was there did not hold.
    StateRebuilds,
    /// State databases replaced while the process runs, because one failed or had grown.
    StateReopens,
    /// Writes and syncs of the row log that failed.
    RowLogFailures,
    /// Inference-table rows left out by sampling, because the disk was short.
    RowsSampled,
    /// Inference-table rows refused, because nothing could be given up for them.
    RowsRefused,
    /// Inference-table rows written without a payload, because the disk was short.
    PayloadsShed,
    /// Inference-table rows given up to make room.
    RowsEvicted,
    /// Files of them.
    SegmentsEvicted,
}

/// What goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Requests in flight.
    InFlightRequests,
    /// Bytes of request bodies in flight.
    InFlightBytes,
    /// Bytes of the state database on disk.
    StateBytes,
    /// The generation of the state.
    StateGeneration,
    /// Whether the state store refuses changes.
    StatePoisoned,
    /// Running tasks.
    RunningTasks,
    /// Memory of the process.
    ResidentBytes,
    /// Age of the process.
    UptimeSeconds,
    /// Bytes of the disk that are held for the state.
    StateBallastBytes,
    /// Bytes of inference tables on disk.
    RowsDiskBytes,
    /// Share of all processors that the process used lately, in per cent.
    ProcessorPercent,
}

/// How durations are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    /// Invocations, from the head of the request to the last byte of the answer.
    Invocation,
    /// Commits of the state: transaction, fsync and export.
    StateCommit,
}

const RESPONSES: &str = "edgeward_http_responses_total";
const RESPONSES_HELP: &str = "HTTP answers by class of status.";

impl Counter {
    /// All counters, in the order in which they are printed.
    pub const ALL: [Self; 16] = [
        Self::ResponsesGood,
        Self::ResponsesClientError,
        Self::ResponsesServerError,
        Self::RowsCommitted,
        Self::RowsDropped,
        Self::StateChanges,
        Self::TaskFailures,
        Self::StateFailures,
        Self::StateRebuilds,
        Self::StateReopens,
        Self::RowLogFailures,
        Self::RowsSampled,
        Self::RowsRefused,
        Self::PayloadsShed,
        Self::RowsEvicted,
        Self::SegmentsEvicted,
    ];

    pub(super) const fn name(self) -> Name {
        match self {
            Self::ResponsesGood => of(RESPONSES, "class", "good", RESPONSES_HELP),
            Self::ResponsesClientError => of(RESPONSES, "class", "4xx", RESPONSES_HELP),
            Self::ResponsesServerError => of(RESPONSES, "class", "5xx", RESPONSES_HELP),
            Self::RowsCommitted => plain(
                "edgeward_rows_committed_total",
                "Inference-table rows made durable.",
            ),
            Self::RowsDropped => plain(
                "edgeward_rows_dropped_total",
                "Inference-table rows dropped and counted.",
            ),
            Self::StateChanges => plain(
                "edgeward_state_changes_total",
                "Changes of the state acknowledged.",
            ),
            Self::TaskFailures => plain("edgeward_task_failures_total", "Tasks that panicked."),
            Self::StateFailures => plain(
                "edgeward_state_failures_total",
                "Writes and syncs of the state that failed.",
            ),
            Self::RowLogFailures => plain(
                "edgeward_row_log_failures_total",
                "Writes and syncs of the row log that failed.",
            ),
            Self::StateRebuilds => plain(
                "edgeward_state_rebuilds_total",
                "State databases rebuilt at start.",
            ),
            Self::StateReopens => plain(
                "edgeward_state_reopens_total",
                "State databases replaced while running.",
            ),
            Self::RowsSampled => plain(
                "edgeward_rows_sampled_total",
                "Inference-table rows left out by sampling: the disk is short.",
            ),
            Self::RowsRefused => plain(
                "edgeward_rows_refused_total",
                "Inference-table rows refused: nothing may be given up for them.",
            ),
            Self::PayloadsShed => plain(
                "edgeward_rows_shed_total",
                "Inference-table rows without a large payload: the disk is short.",
            ),
            Self::RowsEvicted => plain(
                "edgeward_rows_evicted_total",
                "Inference-table rows given up to make room.",
            ),
            Self::SegmentsEvicted => plain(
                "edgeward_row_segments_evicted_total",
                "Files of inference-table rows given up to make room.",
            ),
        }
    }
}

impl Gauge {
    /// All gauges, in the order in which they are printed.
    pub const ALL: [Self; 11] = [
        Self::InFlightRequests,
        Self::InFlightBytes,
        Self::StateBytes,
        Self::StateGeneration,
        Self::StatePoisoned,
        Self::RunningTasks,
        Self::ResidentBytes,
        Self::UptimeSeconds,
        Self::StateBallastBytes,
        Self::RowsDiskBytes,
        Self::ProcessorPercent,
    ];

    pub(super) const fn name(self) -> Name {
        match self {
            Self::InFlightRequests => plain("edgeward_in_flight_requests", "Requests in flight."),
            Self::InFlightBytes => plain(
                "edgeward_in_flight_bytes",
                "Bytes of request bodies in flight.",
            ),
            Self::StateBytes => plain("edgeward_state_bytes", "The state database on disk."),
            Self::StateGeneration => plain(
                "edgeward_state_generation",
                "Generation of the newest change.",
            ),
            Self::StatePoisoned => plain(
                "edgeward_state_poisoned",
                "1 when the state store refuses changes.",
            ),
            Self::RunningTasks => plain("edgeward_running_tasks", "Running tasks."),
            Self::ResidentBytes => plain("edgeward_resident_bytes", "Resident memory."),
            Self::UptimeSeconds => plain("edgeward_uptime_seconds", "Age of the process."),
            Self::StateBallastBytes => plain(
                "edgeward_state_ballast_bytes",
                "The disk that is held for the state.",
            ),
            Self::RowsDiskBytes => plain(
                "edgeward_rows_disk_bytes",
                "Inference tables on disk, the log and what is set aside included.",
            ),
            Self::ProcessorPercent => plain(
                "edgeward_processor_percent",
                "Share of all processors that the process used in the last ten seconds.",
            ),
        }
    }
}

impl Histogram {
    /// All histograms, in the order in which they are printed.
    pub const ALL: [Self; 2] = [Self::Invocation, Self::StateCommit];

    pub(super) const fn name(self) -> Name {
        match self {
            Self::Invocation => plain(
                "edgeward_invocation_seconds",
                "Invocations, from head to last byte.",
            ),
            Self::StateCommit => plain(
                "edgeward_state_commit_seconds",
                "Commits of the state: transaction, fsync, export.",
            ),
        }
    }
}
