//! Arithmetic: matrix products, attention, norms. Knows nothing of models.
//!
//! `scalar.rs` is the definition of every result; `simd.rs` is the vector machine, `generic/` the kernels written on it,
//! and a folder per architecture says what its instruction sets are. `tier.rs` chooses one at start. Models use the
//! phases of `matmul.rs` and `attention.rs`, and of `short_conv.rs` and `delta_net.rs` where a layer is recurrent.
#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod attention;
mod delta_net;
mod formats;
mod generic;
mod matmul;
pub mod mixture;
mod norm;
pub mod page;
mod portable;
mod rerotate;
pub mod scalar;
mod short_conv;
mod simd;
#[cfg(test)]
mod tests;
mod tier;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use delta_net::{DeltaNet, DeltaShape};
pub use generic::{
    attention::{CHUNK, KvFormat, Page},
    panel::TILE,
};
pub use matmul::{Gate, Gather, InputBuffer, Inputs, Lookup, Matmul, Needs, Part, Prepare, TILES_TOGETHER, Weight};
pub use norm::{GateRows, Norm, NormKind, Residual, ScaleAndCap};
pub use rerotate::Rerotate;
pub use scalar::{DeltaToken, Glu, Rotation};
pub use short_conv::{Around, ShortConv};
pub use tier::{Tier, available, requested, tier};
