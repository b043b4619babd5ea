//! The layer API and `generate` are the same code: their logits are equal, bit for bit.
use realm_node::{
    engine::{self, GenerateOptions, KvCache, KvType, Prompt, Source, Take},
    sampling::{Sampler, SamplingParams},
};
use std::path::Path;

/// A log probability is a strictly growing function of a logit, computed in f64 and rounded once: all of a vocabulary's
/// are the same bits only if the logits are.
#[test]
fn layers_give_the_logits_that_generate_uses() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/realm-tiny/realm-tiny-q8_0.gguf");
    let id = engine::store(Source::Path(path), None, &mut |_| (), &|| false).unwrap();
    let model = engine::get(&id).unwrap();
    let prompt = model.tokenizer().unwrap().encode("Monday, Tuesday, Wednesday, Thursday,", true, false);
    let size = model.info.vocabulary_size;

    let cache = KvCache::new(&model, None, KvType::default()).unwrap();
    let mut hidden = engine::embed_tokens(&model, &prompt).unwrap();
    for layer in 0..model.info.layer_count {
        hidden = engine::forward_layer(&model, layer, hidden, 0, Some(&cache)).unwrap();
    }
    let last = hidden.split_off(hidden.len() - model.info.embedding_length);
    let mut logits = engine::compute_logits(&model, last).unwrap();
    let mut sampler = Sampler::new(SamplingParams {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        penalty_last_n: Some(0),
        logit_bias: Vec::new(),
        seed: 0,
    });
    let (token, expected) = sampler.sample(&mut logits, Some(size));

    let options = GenerateOptions {
        temperature: Some(0.0),
        max_tokens: Some(1),
        logprobs: Some(size),
        ..GenerateOptions::default()
    };
    let stream = engine::submit(model, Prompt::Tokens(prompt), options).unwrap();
    let chunk = match stream.take() {
        Take::Now(chunk) => chunk.unwrap(),
        Take::Later(chunk) => chunk.blocking_recv().unwrap().unwrap(),
        Take::End => panic!("the stream ended without a chunk"),
    };
    let found = &chunk.logprobs.unwrap()[0];
    assert_eq!(chunk.tokens, [token]);
    let bits = |top: &[(u32, f32)]| -> Vec<(u32, u32)> { top.iter().map(|&(id, p)| (id, p.to_bits())).collect() };
    assert_eq!(found.top.len(), size);
    assert_eq!(bits(&found.top), bits(&expected.unwrap().top));
    assert!(engine::remove(&id).unwrap());
}
