//! A gated delta net: linear attention with a matrix per head that is corrected token by token.
use super::{
    attention::Span,
    generic::attention::Page,
    norm::{Norm, NormKind},
    scalar::{self, DeltaToken, Glu},
    tier::Tier,
};
use crate::compute::{Lane, Phase, Shared};

/// Heads of a delta net; all have the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    pub head_dim: usize,
    /// Value head h uses query and key head `h % key_heads`.
    pub key_heads: usize,
    pub value_heads: usize,
}

impl DeltaShape {
    /// Numbers in a row of queries, keys and values.
    pub fn qkv_len(&self) -> usize {
        2 * self.key_heads * self.head_dim + self.value_len()
    }

    pub fn value_len(&self) -> usize {
        self.value_heads * self.head_dim
    }

    /// Numbers in the matrices of all heads.
    pub fn state_len(&self) -> usize {
        self.value_len() * self.head_dim
    }
}

/// Phase: each head takes the rows of a sequence one after the other (Qwen3-Next; `qwen35.cpp` and `delta-net-base.cpp` of
/// llama.cpp): queries and keys of length 1, the gated delta rule, a norm, a gate. Heads and sequences are independent of
/// each other, so neither the batch nor the number of threads changes a result.
pub struct DeltaNet<'a> {
    pub tier: &'static Tier,
    pub spans: &'a [Span],
    /// The state of each span's sequence.
    pub states: &'a [Page],
    /// Where the matrices of this layer's heads begin, in numbers: `[value_heads, value, key]`.
    pub state_at: usize,
    pub shape: DeltaShape,
    pub eps: f32,
    /// `[rows, qkv_len]`: queries, keys, values.
    pub qkv: Shared<'a, f32>,
    /// `[rows, value_heads]`: before their functions.
    pub alpha: Shared<'a, f32>,
    pub beta: Shared<'a, f32>,
    /// Per value head: what is added to alpha, and the factor of its softplus.
    pub ssm_dt: &'a [f32],
    pub ssm_a: &'a [f32],
    /// Of a head's result.
    pub norm: Norm<'a>,
    /// `[rows, value_len]`.
    pub gate: Shared<'a, f32>,
    /// `[rows, value_len]`.
    pub out: Shared<'a, f32>,
}

impl Phase for DeltaNet<'_> {
    fn chunks(&self) -> usize {
        self.spans.len() * self.shape.value_heads
    }

    fn run(&self, chunk: usize, lane: &mut Lane) {
        let DeltaShape { head_dim: d, key_heads, value_heads } = self.shape;
        let (span, head) = (chunk / value_heads, chunk % value_heads);
        let state = self.states[span].0.cast::<f32>();
        // SAFETY: the state has room for this layer, and this head's matrix is this chunk's.
        let state = unsafe { std::slice::from_raw_parts_mut(state.add(self.state_at + head * d * d), d * d) };
        let [query, key, result, normed, query_weight, key_weight] = {
            let (a, rest) = lane.rows.get::<f32>(6 * d).split_at_mut(d);
            let mut rest = rest.chunks_exact_mut(d);
            [Some(a), rest.next(), rest.next(), rest.next(), rest.next(), rest.next()]
                .map(|part| part.expect("six parts"))
        };
        // x / sqrt(sum of squares + eps) as a norm; queries are divided by the root of their length beside that.
        key_weight.fill(1.0 / (d as f32).sqrt());
        query_weight.fill(1.0 / d as f32);
        let unit = |weight, x: &[f32], out: &mut [f32]| {
            Norm { kind: NormKind::Rms, weight, bias: &[], eps: self.eps / d as f32 }.apply(self.tier, x, out);
        };
        for row in self.spans[span].rows.clone() {
            let (qkv, own, value) =
                (row * self.shape.qkv_len(), row * value_heads + head, (row * value_heads + head) * d);
            // SAFETY (all): earlier phases wrote what is read; this head's part of the row is this chunk's; the tier was
            // chosen for this processor.
            let part = |index: usize| unsafe { self.qkv.read(qkv + index * d..qkv + (index + 1) * d) };
            let (alpha, beta) = unsafe { (self.alpha.read(own..own + 1)[0], self.beta.read(own..own + 1)[0]) };
            let (gate, out) = unsafe { (self.gate.read(value..value + d), self.out.write(value..value + d)) };
            unit(query_weight, part(head % key_heads), query);
            unit(key_weight, part(key_heads + head % key_heads), key);
            let decay = libm::exp(f64::from(self.ssm_a[head]) * softplus(f64::from(alpha + self.ssm_dt[head]))) as f32;
            let beta = scalar::sigmoid(beta);
            let token = DeltaToken { query, key, value: part(2 * key_heads + head), decay, beta };
            unsafe { (self.tier.delta_rule)(state, &token, result) };
            self.norm.apply(self.tier, result, normed);
            unsafe { (self.tier.glu)(Glu::Silu, gate, normed, out) };
        }
    }
}

/// ln(1 + e^x). libm is the same on every platform.
fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { libm::log1p(libm::exp(x)) }
}
