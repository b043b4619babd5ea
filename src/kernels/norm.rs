//! Norms, and the phases that work on whole rows or single numbers.
use super::{scalar::Glu, tier::Tier};
use crate::compute::{Lane, Phase, Shared};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    Rms,
    Layer,
}

/// A norm with its learned weight.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    pub kind: NormKind,
    pub weight: &'a [f32],
    /// Of a LayerNorm; empty: none.
    pub bias: &'a [f32],
    pub eps: f32,
}

impl<'a> Norm<'a> {
    /// `out` = the norm of `x`; all of the weight's length.
    pub fn apply(&self, tier: &Tier, x: &[f32], out: &mut [f32]) {
        // SAFETY (both): the tier was chosen for this processor.
        match self.kind {
            NormKind::Rms => unsafe { (tier.rms_norm)(x, self.weight, self.eps, out) },
            NormKind::Layer => unsafe { (tier.layer_norm)(x, self.weight, self.bias, self.eps, out) },
        }
    }

    /// Replaces every `width` elements of `x` by their norm. The weight goes along, and begins again where it ends.
    pub fn apply_to_each(&self, tier: &Tier, width: usize, x: &mut [f32], scratch: &mut [f32]) {
        for (i, piece) in x.chunks_exact_mut(width).enumerate() {
            let at = i * width % self.weight.len();
            let norm: Norm<'a> = Norm { weight: &self.weight[at..at + width], ..*self };
            norm.apply(tier, piece, &mut scratch[..width]);
            piece.copy_from_slice(&scratch[..width]);
        }
    }
}

/// Phase: `out += scale * norm(branch)`, row by row.
pub struct Residual<'a> {
    pub tier: &'static Tier,
    /// `[rows, cols]`, as `out`.
    pub branch: Shared<'a, f32>,
    pub norm: Option<Norm<'a>>,
    pub scale: f32,
    pub out: Shared<'a, f32>,
    pub cols: usize,
}

impl Phase for Residual<'_> {
    fn chunks(&self) -> usize {
        self.branch.len() / self.cols
    }

    fn run(&self, row: usize, lane: &mut Lane) {
        let at = row * self.cols..(row + 1) * self.cols;
        // SAFETY: an earlier phase wrote the branch; this row of the output is this chunk's.
        let (branch, out) = unsafe { (self.branch.read(at.clone()), self.out.write(at)) };
        let normed = lane.rows.get::<f32>(self.cols);
        match self.norm {
            Some(norm) => norm.apply(self.tier, branch, normed),
            None => normed.copy_from_slice(branch),
        }
        // SAFETY: the tier was chosen for this processor.
        unsafe { (self.tier.add_scaled)(self.scale, normed, out) };
    }
}

/// Phase: `values *= sigmoid(gate)`, row by row.
pub struct GateRows<'a> {
    pub tier: &'static Tier,
    /// `[rows, cols]`, as the values.
    pub gate: Shared<'a, f32>,
    pub values: Shared<'a, f32>,
    pub cols: usize,
}

impl Phase for GateRows<'_> {
    fn chunks(&self) -> usize {
        self.values.len() / self.cols
    }

    fn run(&self, row: usize, lane: &mut Lane) {
        let at = row * self.cols..(row + 1) * self.cols;
        // SAFETY: an earlier phase wrote the gate; this row of the values is this chunk's.
        let (gate, values) = unsafe { (self.gate.read(at.clone()), self.values.write(at)) };
        let ungated = lane.rows.get::<f32>(self.cols);
        ungated.copy_from_slice(values);
        // SAFETY: the tier was chosen for this processor.
        unsafe { (self.tier.glu)(Glu::Sigmoid, gate, ungated, values) };
    }
}

/// Phase: scales numbers, and keeps them within ±`cap` unless that is 0.
pub struct ScaleAndCap<'a> {
    pub tier: &'static Tier,
    pub scale: f32,
    pub cap: f32,
    pub values: Shared<'a, f32>,
}

/// Numbers in a chunk of [`ScaleAndCap`].
const CHUNK: usize = 8192;

impl Phase for ScaleAndCap<'_> {
    fn chunks(&self) -> usize {
        self.values.len().div_ceil(CHUNK)
    }

    fn run(&self, chunk: usize, _: &mut Lane) {
        let at = chunk * CHUNK..self.values.len().min((chunk + 1) * CHUNK);
        // SAFETY: these numbers are this chunk's.
        let values = unsafe { self.values.write(at) };
        values.iter_mut().for_each(|x| *x *= self.scale);
        if self.cap != 0.0 {
            // SAFETY: the tier was chosen for this processor.
            unsafe { (self.tier.soft_cap)(self.cap, values) };
        }
    }
}
