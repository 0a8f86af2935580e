//! Both ends together: over a simulated broker with hazards, over Mosquitto, and through a proxy
//! that delays and cuts.

mod chaos;
mod counts;
mod hazards;
mod hostile;
mod memory;
mod mosquitto;
mod simulated;
mod story;
mod world;
