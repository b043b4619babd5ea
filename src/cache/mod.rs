//! Keys and values of sequences, in pages of 64 positions, within one byte budget for the process.
//!
//! A [`Sequence`] is a list of pages. Forking shares them; a page is copied when one of its owners writes to it.
mod budget;
mod sequence;

pub use budget::{Budget, OutOfMemory};
pub use sequence::Sequence;
