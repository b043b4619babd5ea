//! The worker team: fork-join over cores. Knows nothing of what it computes.
//!
//! A [`Team`] runs lists of [`Phase`]s. A phase is a number of independent chunks; all of a phase's chunks are finished
//! before the first of the next one starts. Chunks are handed out one at a time, so a slow or busy core simply does
//! fewer of them, and a worker that lost its core is given another's (`seat.rs`). Start at [`Team::run`].
mod bell;
mod cores;
mod lane;
mod os;
mod seat;
mod shared;
mod sync;
mod team;

pub use cores::available_cores;
pub use lane::{Aligned, Lane};
pub use shared::Shared;
pub use team::{Phase, Stopped, Team};
