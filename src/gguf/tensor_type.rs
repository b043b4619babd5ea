/// Writes the enum and its facts from one table, so that no type can be forgotten in one of them.
macro_rules! tensor_types {
    ($($name:ident = $id:literal, $block_len:literal, $block_bytes:literal;)*) => {
        /// Element or block type of a tensor; the discriminant is the type id in the file.
        #[allow(non_camel_case_types)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum TensorType {
            $($name = $id,)*
        }

        impl TensorType {
            /// Every type, by id.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type with this id, or `None` for ids that are unknown or were removed from the format.
            pub fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Elements per block: 1 for plain numbers, 32 or 256 for most quantised types.
            pub const fn block_len(self) -> usize {
                match self {
                    $(Self::$name => $block_len,)*
                }
            }

            /// Bytes per block.
            pub const fn block_bytes(self) -> usize {
                match self {
                    $(Self::$name => $block_bytes,)*
                }
            }

            /// The name used by the GGUF tools, e.g. `Q4_K`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

// Ids from the GGUF specification, sizes from the block layouts in ggml. The gaps (4, 5, 31 to 33, 36 to 38) are types
// that were removed from the format.
tensor_types! {
//  name   = id, elements per block, bytes per block
    F32     =  0,   1,   4;
    F16     =  1,   1,   2;
    Q4_0    =  2,  32,  18;
    Q4_1    =  3,  32,  20;
    Q5_0    =  6,  32,  22;
    Q5_1    =  7,  32,  24;
    Q8_0    =  8,  32,  34;
    Q8_1    =  9,  32,  36;
    Q2_K    = 10, 256,  84;
    Q3_K    = 11, 256, 110;
    Q4_K    = 12, 256, 144;
    Q5_K    = 13, 256, 176;
    Q6_K    = 14, 256, 210;
    Q8_K    = 15, 256, 292;
    IQ2_XXS = 16, 256,  66;
    IQ2_XS  = 17, 256,  74;
    IQ3_XXS = 18, 256,  98;
    IQ1_S   = 19, 256,  50;
    IQ4_NL  = 20,  32,  18;
    IQ3_S   = 21, 256, 110;
    IQ2_S   = 22, 256,  82;
    IQ4_XS  = 23, 256, 136;
    I8      = 24,   1,   1;
    I16     = 25,   1,   2;
    I32     = 26,   1,   4;
    I64     = 27,   1,   8;
    F64     = 28,   1,   8;
    IQ1_M   = 29, 256,  56;
    BF16    = 30,   1,   2;
    TQ1_0   = 34, 256,  54;
    TQ2_0   = 35, 256,  66;
    MXFP4   = 39,  32,  17;
    NVFP4   = 40,  64,  36;
    Q1_0    = 41, 128,  18;
    Q2_0    = 42,  64,  18;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_back_to_their_types() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty as u32), Some(ty));
        }
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(TensorType::from_id(id), None, "{id}");
        }
    }

    #[test]
    fn facts_are_those_of_the_format() {
        let facts = |ty: TensorType| (ty as u32, ty.block_len(), ty.block_bytes(), ty.name());
        assert_eq!(facts(TensorType::F32), (0, 1, 4, "F32"));
        assert_eq!(facts(TensorType::Q4_K), (12, 256, 144, "Q4_K"));
        assert_eq!(facts(TensorType::IQ2_XXS), (16, 256, 66, "IQ2_XXS"));
        assert_eq!(facts(TensorType::Q2_0), (42, 64, 18, "Q2_0"));
    }
}
