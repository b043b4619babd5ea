//! The instruction-set tiers: which there are, and which one this process uses.
use super::{
    generic::{
        attention::{self, Heads, KvFormat, QueryRow},
        panel::{GROUP_ROWS, Tile32, Tile256},
    },
    scalar::{self, DeltaToken, Glu, Rotation},
};
use crate::{
    gguf::TensorType,
    quant::{self, Act32x8, Act256},
};
use std::sync::OnceLock;

/// The kernels of one instruction set, as function pointers chosen once. All tiers give the same bits.
///
/// # Safety
/// The functions may be called only on processors that have the tier's features (so only through [`tier`] and
/// [`available`]), with pointers valid for what their generic twins read and write.
pub struct Tier {
    pub name: &'static str,
    /// Does this processor have its features?
    pub detected: fn() -> bool,
    /// [`super::generic::batch::rows_256`].
    pub rows_256: unsafe fn(TensorType, *const u8, usize, usize, &[*const Act256], *mut f32, usize),
    /// [`super::generic::batch::rows_32`] (the fourth argument is the number of blocks in a row).
    pub rows_32: unsafe fn(TensorType, *const u8, usize, usize, &[*const Act32x8], *mut f32, usize),
    /// [`super::generic::float::rows`].
    pub rows_float: RowsFloat,
    /// Whether many tokens go through panels; otherwise the functions above do them all.
    pub panels: Option<Panels>,
    pub rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    /// [`scalar::layer_norm`].
    pub layer_norm: LayerNorm,
    pub glu: unsafe fn(Glu, &[f32], &[f32], &mut [f32]),
    pub gelu: unsafe fn(&mut [f32]),
    pub soft_cap: unsafe fn(f32, &mut [f32]),
    /// [`scalar::add_scaled`].
    pub add_scaled: unsafe fn(f32, &[f32], &mut [f32]),
    /// [`scalar::rotate`].
    pub rotate: unsafe fn(Rotation, &mut [f32], &[f32], &[f32]),
    /// [`scalar::delta_rule`].
    pub delta_rule: unsafe fn(&mut [f32], &DeltaToken, &mut [f32]),
    pub quantize_256: unsafe fn(&[f32], &mut [Act256]),
    pub quantize_32: unsafe fn(&[f32], &mut [Act32x8]),
    /// [`attention::attend`].
    pub attend: unsafe fn(&Heads, &[QueryRow], Option<usize>, *mut f32),
    /// [`attention::join`].
    pub join: unsafe fn(&[QueryRow], usize, usize, *const f32),
    /// [`attention::append`].
    pub append: unsafe fn(KvFormat, usize, *const f32, *const f32, usize, *mut u8, *mut u8),
}

type LayerNorm = unsafe fn(&[f32], &[f32], &[f32], f32, &mut [f32]);
type RowsFloat = unsafe fn(TensorType, *const u8, usize, usize, *const f32, usize, *mut f32, *mut f32, usize);

/// [`super::generic::panel::group_256`] and `group_32`, and [`super::generic::columns::group`].
pub struct Panels {
    /// [`Simd::TILED_FROM`](super::simd::Simd::TILED_FROM).
    pub from: usize,
    /// [`Simd::WIDE_TILED_FROM`](super::simd::Simd::WIDE_TILED_FROM).
    pub wide_from: usize,
    pub group_256: Group<Tile256>,
    pub group_32: Group<Tile32>,
    pub group_float: GroupFloat,
    /// [`super::generic::panel::pack_256`].
    pub pack_256: unsafe fn(&[&[Act256]], &mut [Tile256]),
    /// [`super::generic::panel::pack_32`].
    pub pack_32: unsafe fn(&[&[Act32x8]], &mut [Tile32]),
}

type GroupFloat = unsafe fn(TensorType, &[*const u8; GROUP_ROWS], usize, &[(*const f32, usize)], *mut f32, *mut f32);
type Group<T> = unsafe fn(TensorType, &[*const u8; GROUP_ROWS], usize, &[(*const T, usize)], *mut u8, *mut f32);

/// The tier this process uses: [`requested`], or the best one if that is not available.
pub fn tier() -> &'static Tier {
    static CHOSEN: OnceLock<&'static Tier> = OnceLock::new();
    CHOSEN.get_or_init(|| requested().unwrap_or_else(|_| available()[0]))
}

/// The tier that the environment variable `REALM_ISA` names, the best one if it is empty or not set. Names, best first:
/// `avx512-vnni`, `avx512`, `avx2-vnni`, `avx2` (x86-64), `neon-i8mm`, `neon-dotprod`, `neon` (64-bit Arm) and `scalar`. The error says which ones there are here; loading
/// a model fails with it.
pub fn requested() -> Result<&'static Tier, String> {
    by_name(&std::env::var("REALM_ISA").unwrap_or_default())
}

fn by_name(name: &str) -> Result<&'static Tier, String> {
    let all = available();
    if name.is_empty() {
        return Ok(all[0]);
    }
    all.iter().find(|tier| tier.name == name).copied().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|tier| tier.name).collect();
        format!("REALM_ISA is {name:?}, this processor has {}", names.join(", "))
    })
}

/// The tiers that this processor can run, best first.
pub fn available() -> Vec<&'static Tier> {
    let mut tiers: Vec<&'static Tier> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    tiers.extend(super::x86_64::TIERS);
    #[cfg(target_arch = "aarch64")]
    tiers.extend(super::aarch64::TIERS);
    tiers.push(&SCALAR);
    tiers.retain(|tier| (tier.detected)());
    tiers
}

/// The [`Tier`] that runs the generic kernels on a vector machine: compiles them with the features (all that the machine
/// uses, and what else the compiler may use), and detects the same ones. `$rows` are its `rows_256` and `rows_32`. Used where the names in it are imported.
macro_rules! generic_tier {
    ($detected:ident, $name:literal, $Machine:ty, $rows:expr, $($feature:tt)+) => {{
        #[allow(unused_imports)] // what the module imports itself
        use $crate::kernels::{
            formats::{Format32, Format256, with_class_256, with_format_32, with_format_256, with_vector_format},
            generic::{columns, lone},
            simd::Simd,
        };
        let (rows_256, rows_32) = $rows;
        // SAFETY (of all these): the caller's promise is the kernel's.
        $(#[target_feature(enable = $feature)])+
        #[allow(clippy::too_many_arguments)]
        unsafe fn rows_float(ty: TensorType, weights: *const u8, rows: usize, cols: usize, x: *const f32, tokens: usize,
            scratch: *mut f32, out: *mut f32, stride: usize) {
            unsafe { float::rows::<$Machine>(ty, weights, rows, cols, x, tokens, scratch, out, stride) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn group_256(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
            tiles: &[(*const panel::Tile256, usize)], scratch: *mut u8, out: *mut f32) {
            $(#[target_feature(enable = $feature)])+
            unsafe fn lone_tile<W: Format256, const T: usize>(rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
                tile: *const panel::Tile256, scratch: *mut u8, out: *mut f32) {
                unsafe { lone::group_256::<$Machine, W, T>(rows, blocks, tile, scratch, out) }
            }
            if const { <$Machine>::HAS_WORDS } && <$Machine>::has_words_256(ty) && let &[(tile, count)] = tiles {
                with_vector_format!(ty, W => if unsafe { lone::may_use::<$Machine, W>(tile, blocks) } {
                    return lone::with_lone_count!(count, T => unsafe { lone_tile::<W, T>(rows, blocks, tile, scratch, out) });
                }, unreachable!("no words of {}", ty.name()));
            }
            $(#[target_feature(enable = $feature)])+
            unsafe fn unpack<W: Format256>(blocks: [*const u8; panel::PANEL_ROWS], out: &mut panel::Panel256) {
                unsafe { panel::unpack_256::<$Machine, W>(blocks, out) }
            }
            $(#[target_feature(enable = $feature)])+
            unsafe fn multiply<W: Format256>(panels: &mut [panel::Panel256; panel::PANELS],
                tiles: &[(*const panel::Tile256, usize)], b: usize, bytes: usize, out: *mut f32,
                ahead: &mut panel::Ahead) {
                unsafe { panel::tiles_256::<$Machine, W>(panels, tiles, b, bytes, out, ahead) }
            }
            let unpack = with_format_256!(ty, W => unpack::<W> as panel::Unpack);
            let multiply = with_class_256!(ty, W => multiply::<W> as panel::Tiles);
            unsafe { panel::group_256((unpack, multiply), ty.block_bytes(), rows, blocks, tiles, scratch, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn group_32(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
            tiles: &[(*const panel::Tile32, usize)], scratch: *mut u8, out: *mut f32) {
            $(#[target_feature(enable = $feature)])+
            unsafe fn lone_tile<W: Format32, const T: usize>(rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
                tile: *const panel::Tile32, out: *mut f32) {
                unsafe { lone::group_32::<$Machine, W, T>(rows, blocks, tile, out) }
            }
            if const { <$Machine>::HAS_WORDS } && let &[(tile, count)] = tiles {
                with_format_32!(ty, W => lone::with_lone_count!(count, T => {
                    unsafe { lone_tile::<W, T>(rows, blocks, tile, out) }
                }));
                return;
            }
            $(#[target_feature(enable = $feature)])+
            unsafe fn group<W: Format32>(rows: &[*const u8; panel::GROUP_ROWS], blocks: usize,
                tiles: &[(*const panel::Tile32, usize)], scratch: *mut u8, out: *mut f32) {
                unsafe { panel::group_32::<$Machine, W>(rows, blocks, tiles, scratch, out) }
            }
            with_format_32!(ty, W => unsafe { group::<W>(rows, blocks, tiles, scratch, out) })
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn group_float(ty: TensorType, rows: &[*const u8; panel::GROUP_ROWS], cols: usize,
            tiles: &[(*const f32, usize)], scratch: *mut f32, out: *mut f32) {
            unsafe { columns::group::<$Machine>(ty, rows, cols, tiles, scratch, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn pack_256(rows: &[&[Act256]], out: &mut [panel::Tile256]) {
            unsafe { panel::pack_256::<$Machine>(rows, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn pack_32(rows: &[&[Act32x8]], out: &mut [panel::Tile32]) {
            unsafe { panel::pack_32::<$Machine>(rows, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
            unsafe { vector::rms_norm::<$Machine>(x, weight, eps, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
            unsafe { vector::layer_norm::<$Machine>(x, weight, bias, eps, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn glu(kind: $crate::kernels::scalar::Glu, gate: &[f32], up: &[f32], out: &mut [f32]) {
            unsafe { vector::glu::<$Machine>(kind, gate, up, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn gelu(x: &mut [f32]) {
            unsafe { vector::gelu::<$Machine>(x) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn soft_cap(cap: f32, x: &mut [f32]) {
            unsafe { vector::soft_cap::<$Machine>(cap, x) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn add_scaled(scale: f32, x: &[f32], out: &mut [f32]) {
            $crate::kernels::scalar::add_scaled(scale, x, out)
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn rotate(rotation: $crate::kernels::scalar::Rotation, head: &mut [f32], cos: &[f32], sin: &[f32]) {
            $crate::kernels::scalar::rotate(rotation, head, cos, sin)
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn delta_rule(state: &mut [f32], token: &$crate::kernels::scalar::DeltaToken, out: &mut [f32]) {
            unsafe { vector::delta_rule::<$Machine>(state, token, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn quantize_256(row: &[f32], out: &mut [Act256]) {
            unsafe { vector::quantize_256::<$Machine>(row, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn quantize_32(row: &[f32], out: &mut [Act32x8]) {
            unsafe { vector::quantize_32::<$Machine>(row, out) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn attend(
            heads: &attention::Heads,
            rows: &[attention::QueryRow],
            segment: Option<usize>,
            scratch: *mut f32,
        ) {
            unsafe { attention::attend::<$Machine>(heads, rows, segment, scratch) }
        }
        $(#[target_feature(enable = $feature)])+
        unsafe fn join(rows: &[attention::QueryRow], head_dim: usize, segments: usize, sums: *const f32) {
            unsafe { attention::join(rows, head_dim, segments, sums) }
        }
        Tier {
            name: $name,
            detected: || $($detected!($feature))&&+,
            rows_256,
            rows_32,
            rows_float,
            panels: Some(Panels {
                from: <$Machine as $crate::kernels::simd::Simd>::TILED_FROM,
                wide_from: <$Machine as $crate::kernels::simd::Simd>::WIDE_TILED_FROM,
                group_256,
                group_32,
                group_float,
                pack_256,
                pack_32,
            }),
            rms_norm,
            layer_norm,
            glu,
            gelu,
            soft_cap,
            add_scaled,
            rotate,
            delta_rule,
            quantize_256,
            quantize_32,
            attend,
            join,
            append: attention::append,
        }
    }};
}

#[allow(unused_imports)] // on processors without tiers
pub(super) use generic_tier;

/// The definition itself, for processors without a tier of their own and for tests.
pub static SCALAR: Tier = Tier {
    name: "scalar",
    detected: || true,
    rows_256: scalar_rows_256,
    rows_32: scalar_rows_32,
    rows_float: scalar_rows_float,
    panels: None,
    rms_norm: |x, weight, eps, out| scalar::rms_norm(x, weight, eps, out),
    layer_norm: |x, weight, bias, eps, out| scalar::layer_norm(x, weight, bias, eps, out),
    glu: |kind, gate, up, out| scalar::glu(kind, gate, up, out),
    gelu: |x| x.iter_mut().for_each(|x| *x = scalar::gelu(*x)),
    soft_cap: |cap, x| scalar::soft_cap(cap, x),
    add_scaled: |scale, x, out| scalar::add_scaled(scale, x, out),
    rotate: |rotation, head, cos, sin| scalar::rotate(rotation, head, cos, sin),
    delta_rule: |state, token, out| scalar::delta_rule(state, token, out),
    quantize_256: |row, out| quant::quantize_256(row, out),
    quantize_32: |row, out| quant::quantize_32(row, out),
    attend: |heads, rows, segment, scratch| {
        // SAFETY: plain arrays need no instruction set; the rest is the caller's promise.
        unsafe { attention::attend::<super::portable::Portable>(heads, rows, segment, scratch) }
    },
    join: attention::join,
    append: attention::append,
};

unsafe fn scalar_rows_256(
    ty: TensorType,
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act256],
    out: *mut f32,
    stride: usize,
) {
    let blocks = row_bytes / ty.block_bytes();
    for r in 0..rows {
        for (t, &token) in tokens.iter().enumerate() {
            // SAFETY: rows, tokens and output are as large as the caller promised.
            unsafe {
                let row = std::slice::from_raw_parts(weights.add(r * row_bytes), row_bytes);
                *out.add(t * stride + r) = scalar::dot_256(ty, row, std::slice::from_raw_parts(token, blocks));
            }
        }
    }
}

unsafe fn scalar_rows_32(
    ty: TensorType,
    weights: *const u8,
    row_bytes: usize,
    rows: usize,
    tokens: &[*const Act32x8],
    out: *mut f32,
    stride: usize,
) {
    let blocks = row_bytes / ty.block_bytes();
    for r in 0..rows {
        for (t, &token) in tokens.iter().enumerate() {
            // SAFETY: rows, tokens and output are as large as the caller promised.
            unsafe {
                let row = std::slice::from_raw_parts(weights.add(r * row_bytes), row_bytes);
                let token = std::slice::from_raw_parts(token, blocks.div_ceil(8));
                *out.add(t * stride + r) = scalar::dot_32(ty, row, token, blocks);
            }
        }
    }
}

#[allow(clippy::too_many_arguments)] // those of all tiers
unsafe fn scalar_rows_float(
    ty: TensorType,
    weights: *const u8,
    rows: usize,
    cols: usize,
    x: *const f32,
    tokens: usize,
    _: *mut f32,
    out: *mut f32,
    stride: usize,
) {
    let row_bytes = cols / ty.block_len() * ty.block_bytes();
    for r in 0..rows {
        for t in 0..tokens {
            // SAFETY: rows, tokens and output are as large as the caller promised.
            unsafe {
                let row = std::slice::from_raw_parts(weights.add(r * row_bytes), row_bytes);
                *out.add(t * stride + r) = scalar::dot_f32(ty, row, std::slice::from_raw_parts(x.add(t * cols), cols));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_is_found_by_name_and_an_unknown_one_is_an_error() {
        assert_eq!(by_name("").unwrap().name, available()[0].name);
        assert_eq!(by_name("scalar").unwrap().name, "scalar");
        let error = by_name("mmx").err().unwrap();
        assert!(error.starts_with("REALM_ISA is \"mmx\", this processor has ") && error.ends_with("scalar"), "{error}");
    }
}
