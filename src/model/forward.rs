//! The forward pass: a transformer, read top to bottom (Vaswani et al. 2017; Touvron et al. 2023 for the llama family).
//!
//! A batch is rows of several sequences. Each layer is one job of the team: a list of phases over all rows. The layer
//! API of the package calls the same functions one layer at a time.
use super::{
    Network,
    weights::{Experts, FeedForward, Layer, Linear, Matrix},
};
use crate::{
    compute::{Aligned, Phase, Shared, Team, TeamPanic},
    kernels::{
        InputBuffer, Inputs, KvFormat, Lookup, Matmul, Needs, Page, Part, Prepare, Tier,
        attention::{Attend, Layout, RotationTable, Span, Store, Task, tasks},
        mixture::{self, Combine},
        tier,
    },
};
use std::ops::Range;

/// Why a forward pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Panic(#[from] TeamPanic),
}

/// What the rows are: where in which sequence, and where those sequences' pages are.
pub struct Batch<'a> {
    /// Cover the rows in order.
    pub spans: &'a [Span],
    pub pages: &'a [Page],
    pub layout: Layout,
    /// Layer of the model that the pages' first layer is.
    pub first_layer: usize,
}

impl Batch<'_> {
    fn rows(&self) -> usize {
        self.spans.last().map_or(0, |span| span.rows.end)
    }
}

/// Memory of a forward pass, kept from step to step. `hidden` is the residual stream, `[rows, embedding_length]`.
#[derive(Default)]
pub struct Scratch {
    pub hidden: Aligned,
    queries: Aligned,
    keys: Aligned,
    values: Aligned,
    attended: Aligned,
    inner: Aligned,
    rotations: Aligned,
    inputs: [InputBuffer; 4],
    router_logits: Aligned,
    expert_results: Aligned,
    pub logits: Aligned,
}

impl Network {
    /// The layout of the cache's pages for this model.
    pub fn layout(&self, format: KvFormat) -> Layout {
        let params = &self.params;
        Layout { format, head_dim: params.head_dim, kv_heads: params.kv_heads, layers: params.layers }
    }

    /// `scratch.hidden` = embedding rows of the tokens.
    pub fn embed(&self, team: &Team, tokens: &[u32], scratch: &mut Scratch) -> Result<(), Stopped> {
        let out = Shared::new(scratch.hidden.get(tokens.len() * self.params.embedding_length));
        team.run(&[&Lookup { table: self.weights.token_embedding.view(&self.gguf), rows: tokens, out }])?;
        Ok(())
    }

    /// Runs `scratch.hidden` through some layers; keys and values go to the batch's pages. `stop` is asked before each.
    pub fn layers(
        &self,
        team: &Team,
        batch: &Batch,
        layers: Range<usize>,
        scratch: &mut Scratch,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Stopped> {
        let pairs = self.rope.frequencies.len();
        let table = Shared::new(scratch.rotations.get(batch.rows() * 2 * pairs));
        let (frequencies, magnitude) = (&self.rope.frequencies[..], self.rope.magnitude);
        team.run(&[&RotationTable { spans: batch.spans, frequencies, magnitude, table }])?;
        let tasks = tasks(batch.spans, self.params.heads, self.params.kv_heads);
        for index in layers {
            if stop() {
                return Err(Stopped::Cancelled);
            }
            self.layer(team, batch, index, &tasks, scratch)?;
        }
        Ok(())
    }

    /// One layer: `x += attention(norm(x))`, then `x += feed_forward(norm(x))`.
    fn layer(
        &self,
        team: &Team,
        batch: &Batch,
        index: usize,
        tasks: &[Task],
        scratch: &mut Scratch,
    ) -> Result<(), TeamPanic> {
        let (tier, params, weights) = (tier(), &self.params, &self.weights.layers[index]);
        let (rows, n) = (batch.rows(), params.embedding_length);
        let (query_len, kv_len) = (params.heads * params.head_dim, params.kv_heads * params.head_dim);
        let Scratch { hidden, queries, keys, values, attended, inner, rotations, inputs, .. } = scratch;
        let [attention_in, attention_out, ffn_in, ffn_inner] = inputs;
        let x = Shared::new(hidden.get(rows * n));
        let queries = Shared::new(queries.get(rows * query_len));
        let keys = Shared::new(keys.get(rows * kv_len));
        let values = Shared::new(values.get(rows * kv_len));
        let attended = Shared::new(attended.get(rows * query_len));
        let pairs = self.rope.frequencies.len();
        let table = Shared::new(rotations.get(rows * 2 * pairs));
        let layer = index - batch.first_layer;

        let needs = self.needs(&[&weights.attn_q.weight, &weights.attn_k.weight, &weights.attn_v.weight]);
        let normed = attention_in.inputs(tier, rows, n, needs);
        let norm = prepare(tier, x, Some((&weights.attn_norm, params.rms_norm_eps)), normed);
        let qkv = Matmul::new(
            tier,
            normed,
            vec![
                self.linear(&weights.attn_q, queries),
                self.linear(&weights.attn_k, keys),
                self.linear(&weights.attn_v, values),
            ],
        );
        let store = Store {
            tier,
            spans: batch.spans,
            pages: batch.pages,
            layout: batch.layout,
            layer,
            heads: params.heads,
            queries,
            keys,
            values,
            norms: weights.qk_norm.as_ref().map(|[q, k]| (&q[..], &k[..], params.rms_norm_eps)),
            rotation: self.rotation(),
            table,
            pairs,
            query_scale: 1.0 / (params.head_dim as f32).sqrt(),
        };
        let attend = Attend {
            tier,
            spans: batch.spans,
            tasks,
            pages: batch.pages,
            layout: batch.layout,
            layer,
            heads: params.heads,
            window: None,
            softcap: 0.0,
            sinks: None,
            queries,
            out: attended,
        };
        let mixed = attention_out.inputs(tier, rows, query_len, self.needs(&[&weights.attn_output.weight]));
        let quantise = prepare(tier, attended, None, mixed);
        let project = Matmul::new(tier, mixed, vec![Part { add: true, ..self.linear(&weights.attn_output, x) }]);
        let attention: [&dyn Phase; 6] = [&norm, &qkv, &store, &attend, &quantise, &project];

        let FeedForward::Dense { gate, up, down } = &weights.ffn else {
            team.run(&attention)?;
            return self.experts(team, rows, weights, scratch);
        };
        let ff = params.feed_forward_length;
        let inner = Shared::new(inner.get(rows * ff));
        let normed = ffn_in.inputs(tier, rows, n, self.needs(&[gate, up]));
        let norm = prepare(tier, x, Some((&weights.ffn_norm, params.rms_norm_eps)), normed);
        let gated = Part { gate: Some(gate.view(&self.gguf)), ..self.part(up, inner) };
        let gate_up = Matmul::new(tier, normed, vec![gated]);
        let shrunk = ffn_inner.inputs(tier, rows, ff, self.needs(&[down]));
        let quantise = prepare(tier, inner, None, shrunk);
        let project = Matmul::new(tier, shrunk, vec![Part { add: true, ..self.part(down, x) }]);
        let feed_forward: [&dyn Phase; 4] = [&norm, &gate_up, &quantise, &project];
        team.run(&[&attention[..], &feed_forward].concat())
    }

    /// The feed-forward half of a layer with experts: every row goes to the few that its router prefers.
    fn experts(&self, team: &Team, rows: usize, weights: &Layer, scratch: &mut Scratch) -> Result<(), TeamPanic> {
        let FeedForward::Experts { router, gate, up, down } = &weights.ffn else {
            unreachable!("called for layers with experts")
        };
        let (tier, params) = (tier(), &self.params);
        let (n, ff, used) = (params.embedding_length, params.feed_forward_length, params.experts_used);
        let Scratch { hidden, inner, inputs, router_logits, expert_results, .. } = scratch;
        let [router_in, _, ffn_in, ffn_inner] = inputs;
        let x = Shared::new(hidden.get(rows * n));
        let norm = Some((&weights.ffn_norm[..], params.rms_norm_eps));

        let logits = router_logits.get::<f32>(rows * params.experts);
        let normed = router_in.inputs(tier, rows, n, self.needs(&[router]));
        let route = Matmul::new(tier, normed, vec![self.part(router, Shared::new(logits))]);
        team.run(&[&prepare(tier, x, norm, normed), &route])?;

        // Rows grouped by expert; `places` says where in the groups each row's results are.
        let mut groups: Vec<Vec<u32>> = vec![Vec::new(); params.experts];
        let chosen: Vec<(u32, f32)> =
            logits.chunks(params.experts).flat_map(|logits| mixture::choose(logits, used)).collect();
        for (i, &(expert, _)) in chosen.iter().enumerate() {
            groups[expert as usize].push((i / used) as u32);
        }
        let mut next: Vec<u32> =
            groups.iter().scan(0, |start, group| Some(std::mem::replace(start, *start + group.len() as u32))).collect();
        let starts = next.clone();
        let places: Vec<(u32, f32)> = chosen
            .iter()
            .map(|&(expert, weight)| {
                let place = &mut next[expert as usize];
                *place += 1;
                (*place - 1, weight)
            })
            .collect();

        let results = expert_results.get::<f32>(rows * used * n);
        for (expert, group) in groups.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
            let start = starts[expert] as usize;
            let view = |experts: &Experts| experts.view(&self.gguf, expert);
            let inner = Shared::new(inner.get(group.len() * ff));
            let out = Shared::new(&mut results[start * n..(start + group.len()) * n]);
            let normed = ffn_in.inputs(tier, group.len(), n, view(gate).needs().and(view(up).needs()));
            let gather = Prepare { rows: Some(group), ..prepare(tier, x, norm, normed) };
            let gated = Part { gate: Some(view(gate)), ..part(view(up), inner) };
            let gate_up = Matmul::new(tier, normed, vec![gated]);
            let shrunk = ffn_inner.inputs(tier, group.len(), ff, view(down).needs());
            let quantise = prepare(tier, inner, None, shrunk);
            let project = Matmul::new(tier, shrunk, vec![part(view(down), out)]);
            team.run(&[&gather, &gate_up, &quantise, &project])?;
        }
        let combine = Combine { slots: used, places: &places, results: Shared::new(results), out: x, cols: n };
        team.run(&[&combine])
    }

    /// `scratch.logits` = logits of some rows of `scratch.hidden`, `[rows.len(), vocabulary]`.
    pub fn logits(&self, team: &Team, rows: &[u32], of: usize, scratch: &mut Scratch) -> Result<(), Stopped> {
        let (tier, n) = (tier(), self.params.embedding_length);
        let Scratch { hidden, logits, inputs: [normed, ..], .. } = scratch;
        let x = Shared::new(hidden.get(of * n));
        let logits = Shared::new(logits.get(rows.len() * self.vocabulary_size()));
        let normed = normed.inputs(tier, rows.len(), n, self.needs(&[&self.weights.output]));
        let norm = Some((&self.weights.output_norm[..], self.params.rms_norm_eps));
        let norm = Prepare { rows: Some(rows), ..prepare(tier, x, norm, normed) };
        let output = Matmul::new(tier, normed, vec![self.part(&self.weights.output, logits)]);
        team.run(&[&norm, &output])?;
        Ok(())
    }

    fn needs(&self, matrices: &[&Matrix]) -> Needs {
        matrices.iter().fold(Needs::default(), |needs, matrix| needs.and(matrix.view(&self.gguf).needs()))
    }

    fn part<'a>(&'a self, matrix: &Matrix, out: Shared<'a, f32>) -> Part<'a> {
        part(matrix.view(&self.gguf), out)
    }

    fn linear<'a>(&'a self, linear: &'a Linear, out: Shared<'a, f32>) -> Part<'a> {
        Part { bias: linear.bias.as_deref(), ..self.part(&linear.weight, out) }
    }
}

/// A whole matrix whose output rows lie one after the other.
fn part<'a>(weight: crate::kernels::Weight<'a>, out: Shared<'a, f32>) -> Part<'a> {
    Part { stride: weight.rows(), weight, gate: None, bias: None, out, add: false }
}

fn prepare<'a>(
    tier: &'static Tier,
    source: Shared<'a, f32>,
    norm: Option<(&'a [f32], f32)>,
    inputs: Inputs<'a>,
) -> Prepare<'a> {
    Prepare { tier, source, rows: None, norm, inputs }
}
