//! A box that is offline for a week, in simulated time: the real row log on a real disk, with a
//! clock that goes on as rows are offered, and nobody who takes them away.
//!
//! A full run is `EDGEWARD_SOAK=1`: a week at 50 rows a second with 200 MB of disk. Any other run is
//! one hour with 1/168 of that disk, so that it climbs the whole ladder too.
//!
//! The box is a process of its own, this binary once more, so that its memory is that of the row
//! log alone. It is watched from outside, and what it leaves is read as an analyst reads it.

#[cfg(test)]
mod left;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod week;

/// As the product allocates.
#[global_allocator]
static ALLOCATOR: edgeward_kernels::memory::Allocator = edgeward_kernels::memory::Allocator;
