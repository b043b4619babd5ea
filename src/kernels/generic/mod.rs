//! The kernels, written once over the vector machine of [`super::simd`].
//!
//! All functions are inlined into functions of a tier that enable its features (see [`super::tier`]).
//!
//! # Safety
//! As for [`super::simd::Simd`]: the tier's instruction set must be enabled where they are inlined, and pointers must be
//! valid for what their documentation says is read or written.
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments, clippy::needless_range_loop)]

pub mod ahead;
pub mod attention;
pub mod batch;
pub mod columns;
pub mod float;
pub mod lone;
pub mod panel;
pub mod vector;
