//! The suite: several rooms of the product, in one process.

#[cfg(test)]
mod exports;
#[cfg(test)]
mod fit;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod zoo;
