//! The real binary, from outside: its command line, sockets, signals and files.
//!
//! Every test starts processes of its own in folders of its own, on ports that the system chose,
//! and ends them. Rounds that kill run against `EDGEWARD_BIN` where that is set, so that a full run
//! kills the release build.

#[cfg(test)]
mod clock;
#[cfg(test)]
mod config;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod full;
#[cfg(test)]
mod gpu;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod landing;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod powercut;
#[cfg(test)]
mod quickstart;
#[cfg(test)]
mod rounds;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod upgrade;
