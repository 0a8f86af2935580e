//! One list of cases, run against every engine compiled in.

#[cfg(test)]
mod boosted;
#[cfg(test)]
mod edges;
#[cfg(test)]
#[cfg(feature = "wgpu")]
mod gpu;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod subject;
