//! The block formats as types, so that a kernel is compiled for each with everything known about it.
use crate::{
    gguf::TensorType,
    quant::{self, Expanded32, Expanded256},
};

/// A format with super-blocks of 256 elements.
pub trait Format256 {
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const TYPE: TensorType;
    const BYTES: usize;
    /// Codes are centred around zero (and there are no minima); otherwise they are 0..=31 and there are minima.
    const SIGNED: bool;
    /// One scale per 32 elements instead of 16.
    const SCALE_PER_32: bool;
    /// No code is larger in magnitude.
    const LARGEST: usize;
    /// # Safety
    /// `block` must point to `BYTES` readable bytes.
    unsafe fn expand(block: *const u8) -> Expanded256;
}

/// A format with blocks of 32 elements.
pub trait Format32 {
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const TYPE: TensorType;
    const BYTES: usize;
    const HAS_MIN: bool;
    /// What makes the codes unsigned when it is added, and the largest they are then.
    const BIAS: u8;
    const LARGEST: usize;
    /// # Safety
    /// `block` must point to `BYTES` readable bytes.
    unsafe fn expand(block: *const u8) -> Expanded32;
}

macro_rules! formats_256 {
    ($($name:ident $ty:ident $bytes:literal $expand:ident signed $signed:literal per_32 $per_32:literal largest $largest:literal;)*) => {$(
        pub struct $name;
        impl Format256 for $name {
            const TYPE: TensorType = TensorType::$ty;
            const BYTES: usize = $bytes;
            const SIGNED: bool = $signed;
            const SCALE_PER_32: bool = $per_32;
            const LARGEST: usize = $largest;
            #[inline(always)]
            unsafe fn expand(block: *const u8) -> Expanded256 {
                // SAFETY: as many bytes are there, by the caller's promise; a byte array has no alignment.
                quant::$expand(unsafe { &*block.cast::<[u8; $bytes]>() })
            }
        }
    )*};
}
formats_256! {
    Q2K Q2_K 84 expand_q2_k signed false per_32 false largest 3;
    Q3K Q3_K 110 expand_q3_k signed true per_32 false largest 4;
    Q4K Q4_K 144 expand_q4_k signed false per_32 true largest 15;
    Q5K Q5_K 176 expand_q5_k signed false per_32 true largest 31;
    Q6K Q6_K 210 expand_q6_k signed true per_32 false largest 32;
    Iq4Xs IQ4_XS 136 expand_iq4_xs signed true per_32 true largest 127;
    Iq1S IQ1_S 50 expand_iq1_s signed true per_32 true largest 9;
    Iq1M IQ1_M 56 expand_iq1_m signed true per_32 false largest 9;
    Iq2Xxs IQ2_XXS 66 expand_iq2_xxs signed true per_32 true largest 43;
    Iq2Xs IQ2_XS 74 expand_iq2_xs signed true per_32 false largest 43;
    Iq2S IQ2_S 82 expand_iq2_s signed true per_32 false largest 43;
    Iq3Xxs IQ3_XXS 98 expand_iq3_xxs signed true per_32 true largest 62;
    Iq3S IQ3_S 110 expand_iq3_s signed true per_32 true largest 15;
    Tq10 TQ1_0 54 expand_tq1_0 signed true per_32 true largest 1;
    Tq20 TQ2_0 66 expand_tq2_0 signed true per_32 true largest 2;
}

macro_rules! formats_32 {
    ($($name:ident $ty:ident $bytes:literal $expand:ident has_min $has_min:literal bias $bias:literal largest $largest:literal;)*) => {$(
        pub struct $name;
        impl Format32 for $name {
            const TYPE: TensorType = TensorType::$ty;
            const BYTES: usize = $bytes;
            const HAS_MIN: bool = $has_min;
            const BIAS: u8 = $bias;
            const LARGEST: usize = $largest;
            #[inline(always)]
            unsafe fn expand(block: *const u8) -> Expanded32 {
                // SAFETY: as many bytes are there, by the caller's promise; a byte array has no alignment.
                quant::$expand(unsafe { &*block.cast::<[u8; $bytes]>() })
            }
        }
    )*};
}
formats_32! {
    Q40 Q4_0 18 expand_q4_0 has_min false bias 8 largest 15;
    Q41 Q4_1 20 expand_q4_1 has_min true bias 0 largest 15;
    Q50 Q5_0 22 expand_q5_0 has_min false bias 16 largest 31;
    Q51 Q5_1 24 expand_q5_1 has_min true bias 0 largest 31;
    Q80 Q8_0 34 expand_q8_0 has_min false bias 128 largest 255;
    Iq4Nl IQ4_NL 18 expand_iq4_nl has_min false bias 128 largest 255;
    Mxfp4 MXFP4 17 expand_mxfp4 has_min false bias 12 largest 24;
}

/// Runs `$body` with `$F` standing for the format type of `$ty`; the other types never get here.
macro_rules! with_format_256 {
    ($ty:expr, $F:ident => $body:expr) => {
        $crate::kernels::formats::with_vector_format!($ty, $F => $body, $crate::kernels::formats::with_expanded_format!($ty, $F => $body))
    };
}
/// As [`with_format_256`], but one format stands for all that look the same once they are unpacked: signed or not, as many
/// elements to a scale, codes small enough for narrow sums or not.
macro_rules! with_class_256 {
    ($ty:expr, $F:ident => $body:expr) => {{
        use $crate::gguf::TensorType as Ty;
        use $crate::kernels::formats as f;
        match $ty {
            Ty::Q2_K => {
                type $F = f::Q2K;
                $body
            }
            Ty::Q4_K => {
                type $F = f::Q4K;
                $body
            }
            Ty::Q5_K => {
                type $F = f::Q5K;
                $body
            }
            Ty::Q3_K | Ty::Q6_K | Ty::IQ1_M => {
                type $F = f::Q6K;
                $body
            }
            Ty::IQ1_S | Ty::IQ3_S | Ty::TQ1_0 | Ty::TQ2_0 => {
                type $F = f::Iq3S;
                $body
            }
            Ty::IQ2_XS | Ty::IQ2_S => {
                type $F = f::Iq2Xs;
                $body
            }
            Ty::IQ2_XXS | Ty::IQ3_XXS | Ty::IQ4_XS => {
                type $F = f::Iq4Xs;
                $body
            }
            other => unreachable!("{} has no super-blocks", other.name()),
        }
    }};
}
/// The formats that tiers may unpack by vectors, with kernels of their own. `$rest` is for the others.
macro_rules! with_vector_format {
    ($ty:expr, $F:ident => $body:expr, $rest:expr) => {{
        use $crate::gguf::TensorType as Ty;
        use $crate::kernels::formats as f;
        match $ty {
            Ty::Q2_K => {
                type $F = f::Q2K;
                $body
            }
            Ty::Q3_K => {
                type $F = f::Q3K;
                $body
            }
            Ty::Q4_K => {
                type $F = f::Q4K;
                $body
            }
            Ty::Q5_K => {
                type $F = f::Q5K;
                $body
            }
            Ty::Q6_K => {
                type $F = f::Q6K;
                $body
            }
            Ty::IQ4_XS => {
                type $F = f::Iq4Xs;
                $body
            }
            Ty::IQ1_S => {
                type $F = f::Iq1S;
                $body
            }
            Ty::IQ2_XXS => {
                type $F = f::Iq2Xxs;
                $body
            }
            Ty::IQ2_XS => {
                type $F = f::Iq2Xs;
                $body
            }
            Ty::IQ2_S => {
                type $F = f::Iq2S;
                $body
            }
            Ty::IQ3_XXS => {
                type $F = f::Iq3Xxs;
                $body
            }
            Ty::IQ3_S => {
                type $F = f::Iq3S;
                $body
            }
            Ty::TQ2_0 => {
                type $F = f::Tq20;
                $body
            }
            _ => $rest,
        }
    }};
}
/// The formats that are unpacked by their definition on every tier.
macro_rules! with_expanded_format {
    ($ty:expr, $F:ident => $body:expr) => {{
        use $crate::gguf::TensorType as Ty;
        use $crate::kernels::formats as f;
        match $ty {
            Ty::IQ1_M => {
                type $F = f::Iq1M;
                $body
            }
            Ty::TQ1_0 => {
                type $F = f::Tq10;
                $body
            }
            other => unreachable!("{} has no super-blocks", other.name()),
        }
    }};
}
macro_rules! with_format_32 {
    ($ty:expr, $F:ident => $body:expr) => {{
        use $crate::gguf::TensorType as Ty;
        use $crate::kernels::formats as f;
        match $ty {
            Ty::Q4_0 => {
                type $F = f::Q40;
                $body
            }
            Ty::Q4_1 => {
                type $F = f::Q41;
                $body
            }
            Ty::Q5_0 => {
                type $F = f::Q50;
                $body
            }
            Ty::Q5_1 => {
                type $F = f::Q51;
                $body
            }
            Ty::Q8_0 => {
                type $F = f::Q80;
                $body
            }
            Ty::IQ4_NL => {
                type $F = f::Iq4Nl;
                $body
            }
            Ty::MXFP4 => {
                type $F = f::Mxfp4;
                $body
            }
            other => unreachable!("{} has no blocks of 32", other.name()),
        }
    }};
}
/// Runs `$body` with the constant `$N` equal to `$n`, which is one of the counts: a kernel is compiled for each.
macro_rules! with_count {
    ([$($count:literal)+] $n:expr, $N:ident => $body:expr) => {
        match $n {
            $($count => {
                const $N: usize = $count;
                $body
            })+
            other => unreachable!("no kernel for {other} tokens"),
        }
    };
}
pub(crate) use {
    with_class_256, with_count, with_expanded_format, with_format_32, with_format_256, with_vector_format,
};
