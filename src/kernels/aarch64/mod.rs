//! 64-bit Arm instruction sets.
mod neon;
#[cfg(test)]
mod tests;

use super::{
    formats::{with_format_32, with_format_256},
    generic::{attention, batch, float, panel, vector},
    tier::{Panels, Tier, generic_tier},
};
use crate::{
    gguf::TensorType,
    quant::{Act32x8, Act256},
};
use neon::Neon;
use std::arch::is_aarch64_feature_detected;

/// All of them, best first.
pub static TIERS: [&Tier; 2] = [&NEON_DOTPROD, &NEON];

/// With byte dot products (Armv8.2 and later: Cortex-A55 and A76, Graviton 2, all of Apple's M).
pub static NEON_DOTPROD: Tier =
    generic_tier!(is_aarch64_feature_detected, "neon-dotprod", Neon<true>, "neon" "dotprod");

/// What every 64-bit Arm processor has.
pub static NEON: Tier = generic_tier!(is_aarch64_feature_detected, "neon", Neon<false>, "neon");
