//! kernels
pub mod scalar;
