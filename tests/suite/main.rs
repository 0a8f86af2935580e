//! The suite: several rooms of the product, in one process.

#[cfg(test)]
mod exports;
#[cfg(test)]
mod fit;
/// What the fuzz targets claim; a package of its own runs them on inputs that it makes up.
#[cfg(test)]
#[path = "../fuzz/lib.rs"]
pub mod fuzz;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod zoo;
