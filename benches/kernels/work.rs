//! The kernels, on shapes of models in use. Speed does not depend on what weights say, only on that they are ordinary.
use crate::{Amount, Bench, limits::Limit};
use realm_node::{
    compute::{Phase, Shared},
    gguf::TensorType,
    kernels::{
        CHUNK, InputBuffer, KvFormat, Matmul, Norm, NormKind, Part, Prepare, Weight,
        attention::{Attend, Layout, Span, Tasks},
        page::PageMemory,
        tier,
    },
};

const FORMATS: [TensorType; 6] =
    [TensorType::Q4_K, TensorType::Q6_K, TensorType::Q8_0, TensorType::Q4_0, TensorType::F16, TensorType::IQ4_XS];
const COLS: usize = 4096;
/// Together they are larger than third-level caches.
const WEIGHT_BYTES: usize = 256 << 20;

/// Rows for about so many bytes. Every byte can be the high one of an ordinary half-precision scale.
fn weights(ty: TensorType, bytes: usize) -> (Vec<u8>, usize) {
    let row_bytes = COLS / ty.block_len() * ty.block_bytes();
    let rows = bytes / row_bytes / 32 * 32;
    let mut state = 1_u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        0x28 | (state >> 29) as u8
    };
    ((0..rows * row_bytes).map(byte).collect(), rows)
}

fn activations(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

/// One matrix times some tokens.
fn matmul(bench: &Bench, ty: TensorType, tokens: usize, bytes: usize, name: &str) {
    let (data, rows) = weights(ty, bytes);
    let weight = Weight::new(ty, &data, rows, COLS);
    let (mut x, mut out, mut buffer) = (activations(tokens * COLS), vec![0.0; tokens * rows], InputBuffer::default());
    let inputs = buffer.inputs(tier(), tokens, COLS, weight.needs());
    let prepare = Prepare { tier: tier(), source: Shared::new(&mut x), rows: None, norm: None, inputs };
    let part =
        Part { weight, gate: None, bias: None, out: Shared::new(&mut out), stride: rows, add: false, gelu: false };
    let product = Matmul::new(tier(), inputs, vec![part]);
    let decodes = tokens < 8;
    let amount = if decodes {
        Amount { each: data.len() as f64 / 1e9, limit: Limit::Read }
    } else {
        let limit = if ty == TensorType::F16 { Limit::Float } else { Limit::Integer };
        Amount { each: 2.0 * (rows * COLS * tokens) as f64 / 1e9, limit }
    };
    bench.measure(name, amount, &[&prepare, &product]);
}

pub fn decode(bench: &Bench) {
    for ty in FORMATS {
        for tokens in [1, 4] {
            let name = format!("decode {} {tokens} token{}", ty.name(), if tokens == 1 { "" } else { "s" });
            if bench.wants(&name) {
                matmul(bench, ty, tokens, WEIGHT_BYTES, &name);
            }
        }
    }
}

pub fn prefill(bench: &Bench) {
    for ty in FORMATS {
        for tokens in [128, 512] {
            let name = format!("prompt {} {tokens} tokens", ty.name());
            if bench.wants(&name) {
                matmul(bench, ty, tokens, 2 << 20, &name);
            }
        }
    }
}

const HEADS: usize = 32;
const LAYOUT: Layout = Layout { format: KvFormat::F16, head_dim: 64, kv_heads: 4, layers: 1, state_bytes: 0 };

/// Sequences that each have `rows` new rows, the last at position `end - 1`.
fn attend(bench: &Bench, name: &str, sequences: usize, rows: usize, end: usize, amount: Amount) {
    if !bench.wants(name) {
        return;
    }
    let pages_each = end.div_ceil(CHUNK);
    let memory: Vec<PageMemory> = (0..sequences * pages_each).map(|_| page()).collect();
    let pages: Vec<_> = memory.iter().map(PageMemory::address).collect();
    let span = |i| Span { rows: i * rows..(i + 1) * rows, position: end - rows, origin: 0, first_page: i * pages_each };
    let spans: Vec<Span> = (0..sequences).map(span).collect();
    // Whole tasks, as for one thread: there are enough for many.
    let tasks = Tasks::new(&spans, HEADS, LAYOUT.kv_heads, 1);
    let len = sequences * rows * HEADS * LAYOUT.head_dim;
    let (mut queries, mut out) = (activations(len), vec![0.0; len]);
    let phase = Attend {
        tier: tier(),
        spans: &spans,
        tasks: &tasks,
        pages: &pages,
        layout: LAYOUT,
        layer: 0,
        heads: HEADS,
        window: None,
        softcap: 0.0,
        sinks: None,
        queries: Shared::new(&mut queries),
        out: Shared::new(&mut out),
        sums: Shared::new(&mut []),
    };
    bench.measure(name, amount, &[&phase as &dyn Phase]);
}

/// A page of its own memory: zeros that were never written would all be the same page.
fn page() -> PageMemory {
    let page = PageMemory::new(LAYOUT.page_bytes()).expect("there is memory for a few pages");
    // SAFETY: the page is that long, and nobody else has it yet.
    unsafe { page.address().0.write_bytes(0x28, page.byte_len()) };
    page
}

pub fn attention(bench: &Bench) {
    let (sequences, context) = (16, 4096);
    let bytes = sequences * context * LAYOUT.kv_heads * LAYOUT.head_dim * 2 * 2;
    let amount = Amount { each: bytes as f64 / 1e9, limit: Limit::Read };
    attend(bench, "attention decode context 4096", sequences, 1, context, amount);
    for tokens in [512, 2048] {
        // Query times key and weight times value, for every position that a row sees.
        let operations = 4 * HEADS * LAYOUT.head_dim * tokens * (tokens + 1) / 2;
        let amount = Amount { each: operations as f64 / 1e9, limit: Limit::Float };
        attend(bench, &format!("attention prompt {tokens} tokens"), 1, tokens, tokens, amount);
    }
}

pub fn prepare(bench: &Bench) {
    let norm = vec![1.0; COLS];
    for (ty, name) in [(TensorType::Q4_K, "norm and quantise by 256"), (TensorType::Q8_0, "norm and quantise by 32")] {
        let tokens = 4096;
        let (mut x, mut buffer) = (activations(tokens * COLS), InputBuffer::default());
        let needs = Weight::new(ty, &[], 0, COLS).needs();
        let inputs = buffer.inputs(tier(), tokens, COLS, needs);
        let source = Shared::new(&mut x);
        let norm = Norm { kind: NormKind::Rms, weight: &norm, bias: &[], eps: 1e-5 };
        let phase = Prepare { tier: tier(), source, rows: None, norm: Some(norm), inputs };
        bench.measure(name, Amount { each: (4 * tokens * COLS) as f64 / 1e9, limit: Limit::Read }, &[&phase]);
    }
}
