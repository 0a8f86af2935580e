//! How the engines' turns print.

use std::fmt;

use edgeward_benches::median;

use crate::peer::{Load, Peer};

/// What stands over the rows.
pub(crate) const HEAD: &str = "\
ours: wall us, CPU us, load CPU ms, KiB; the others: our wall / theirs, our CPU / theirs, load, memory
| model | batch | threads | ours | onnxruntime | tract alone | openvino |
|---|---|---|---|---|---|---|";

/// One model, batch and number of threads.
pub(crate) struct Row {
    name: String,
    batch: usize,
    threads: usize,
    cells: Vec<String>,
}

impl Row {
    /// Of engines that had their turns, ours first.
    pub(crate) fn new(name: &str, batch: usize, threads: usize, peers: &[Load]) -> Self {
        let ours = peers.first().map(Load::as_ref);
        let cells = peers
            .iter()
            .enumerate()
            .map(|(place, peer)| match (peer, ours) {
                (Err(no), _) => format!("no: {}", short(no)),
                (Ok(peer), _) if place == 0 => own(peer),
                (Ok(peer), Some(Ok(ours))) => beside(ours, peer),
                (Ok(_), _) => String::from("-"),
            });
        Self {
            name: name.to_owned(),
            batch,
            threads,
            cells: cells.collect(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.cells.join(" | ");
        write!(
            f,
            "| {} | {} | {} | {cells} |",
            self.name, self.batch, self.threads
        )
    }
}

fn own(peer: &Peer) -> String {
    let wall = peer
        .turns
        .iter()
        .map(|turn| turn.wall)
        .fold(f64::INFINITY, f64::min);
    let mut cpu: Vec<f64> = peer.turns.iter().map(|turn| turn.cpu).collect();
    format!(
        "{wall:.1}, {:.1}, {:.0}, {}",
        median(&mut cpu),
        peer.load_ms,
        peer.memory_kib
    )
}

/// The ratios of each round, of which the middle one counts: what disturbs a round disturbs all its turns.
fn beside(ours: &Peer, peer: &Peer) -> String {
    let rounds = || ours.turns.iter().zip(&peer.turns);
    let mut wall: Vec<f64> = rounds()
        .map(|(ours, theirs)| ours.wall / theirs.wall)
        .collect();
    let mut cpu: Vec<f64> = rounds()
        .map(|(ours, theirs)| ours.cpu / theirs.cpu)
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "KiB of a process")]
    let memory = ours.memory_kib as f64 / (peer.memory_kib as f64).max(1.0);
    format!(
        "{:.2}, {:.2}, {:.2}, {memory:.2}",
        median(&mut wall),
        median(&mut cpu),
        ours.load_ms / peer.load_ms
    )
}

/// The first words of a reason.
fn short(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    line.chars()
        .take(60)
        .map(|c| if c == '|' { '/' } else { c })
        .collect()
}
