//! A whole model: a prompt of 512 tokens and the tokens after it, as shares of the same limits. For dense models.
use crate::{Amount, Bench, limits::Limit};
use realm_node::{
    gguf::Gguf,
    kernels::{CHUNK, KvFormat, Page, TILE, TILES_TOGETHER, attention::Span, page::PageMemory},
    model::{Batch, Network, Scratch},
};
use std::{path::Path, sync::Arc};

const PROMPT: usize = 512;

pub fn measure(bench: &Bench, path: &str) {
    let gguf = Arc::new(Gguf::open(Path::new(path)).unwrap_or_else(|e| panic!("--model: {e}")));
    let network = Network::new(gguf.clone()).unwrap_or_else(|e| panic!("--model: {e}"));
    let output = if gguf.tensor("output.weight").is_some() { "output.weight" } else { "token_embd.weight" };
    // What a token of a prompt is multiplied with, and what is read for one that is written.
    let (mut products, mut bytes) = (0, 0);
    for tensor in gguf.tensors().iter().filter(|tensor| tensor.shape.len() == 2) {
        if tensor.name.starts_with("blk.") {
            products += tensor.shape.iter().product::<usize>();
        }
        if tensor.name.starts_with("blk.") || tensor.name == output {
            bytes += tensor.byte_len;
        }
    }
    let layout = network.layout(KvFormat::F16);
    let memory: Vec<PageMemory> =
        (0..=PROMPT / CHUNK).map(|_| PageMemory::new(layout.page_bytes()).expect("there is memory")).collect();
    let pages: Vec<Page> = memory.iter().map(PageMemory::address).collect();
    let mut scratch = Scratch::default();
    let mut rows = |from: usize, to: usize| {
        let ids: Vec<u32> = (from..to).map(|i| (i * 7 % network.vocabulary_size()) as u32).collect();
        let spans = [Span { rows: 0..to - from, position: from, origin: 0, first_page: 0 }];
        let context = network.params.context_length;
        let batch = Batch { spans: &spans, pages: &pages, states: &[], layout, first_layer: 0, context };
        network.embed(&bench.team, &ids, &mut scratch).expect("no kernel panics");
        network
            .layers(&bench.team, &batch, 0..network.params.layers, &mut scratch, &|| false)
            .expect("no kernel panics");
        network.logits(&bench.team, &[(to - from) as u32 - 1], to - from, &mut scratch).expect("no kernel panics");
    };
    let amount = Amount { each: 2.0 * (products * PROMPT) as f64 / 1e9, limit: Limit::Integer };
    bench.measure_runs("model, prompt of 512", amount, &mut || {
        // In pieces that are as even as can be, as the engine computes it.
        let pieces = PROMPT.div_ceil(TILES_TOGETHER * TILE);
        (0..pieces).for_each(|i| rows(i * PROMPT / pieces, (i + 1) * PROMPT / pieces));
    });
    let amount = Amount { each: bytes as f64 / 1e9, limit: Limit::Read };
    bench.measure_runs("model, a token after it", amount, &mut || rows(PROMPT, PROMPT + 1));
}
