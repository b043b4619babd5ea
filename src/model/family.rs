//! What differs between families of models. The forward pass is written once; a family is a table entry.
use crate::kernels::attention::Rotation;

pub struct Family {
    /// `general.architecture` in the file, and prefix of its hyper-parameters' keys.
    pub architecture: &'static str,
    /// Which elements of a head are rotated together. Files of the llama family have their query and key rows permuted
    /// for interleaved pairs.
    pub rotation: Rotation,
}

/// Families that run.
pub static FAMILIES: &[Family] = &[Family { architecture: "llama", rotation: Rotation::Interleaved }];

impl Family {
    pub fn of(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.architecture == architecture)
    }
}
