//! What differs between families of models. The forward pass is written once; a family is a table entry.
use crate::kernels::attention::Rotation;

pub struct Family {
    /// `general.architecture` in the file, and prefix of its hyper-parameters' keys.
    pub architecture: &'static str,
    /// Which elements of a head are rotated together. Files of the llama family have their query and key rows permuted
    /// for interleaved pairs.
    pub rotation: Rotation,
    /// Every head of queries and keys passes an RMSNorm before it is rotated.
    pub qk_norm: bool,
}

/// Families that run.
pub static FAMILIES: &[Family] = &[
    Family { architecture: "llama", rotation: Rotation::Interleaved, qk_norm: false },
    Family { architecture: "qwen2", rotation: Rotation::Halves, qk_norm: false },
    Family { architecture: "qwen3", rotation: Rotation::Halves, qk_norm: true },
];

impl Family {
    pub fn of(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.architecture == architecture)
    }
}
