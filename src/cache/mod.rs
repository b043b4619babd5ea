//! Keys and values of sequences, in pages of 64 positions, within one byte budget for the process.
//!
//! A [`Sequence`] is a list of pages. Forking shares them; a page is copied when one of its owners writes to it. The
//! [`Prefixes`] of a model remember which tokens lead to which pages, so that a request begins where another has been; the
//! [`Budget`] makes them forget what nobody uses when memory is short. The recurrent state of a hybrid model, which holds
//! all positions in one, lies beside the pages; prefixes keep copies of it from some positions.
mod budget;
mod page;
mod prefixes;
mod sequence;
pub mod snapshot;

pub use budget::{Budget, OutOfMemory, Wake};
pub use prefixes::{Counts, Prefixes};
pub use sequence::{Sequence, State};
