//! A request's logits are the same bits, whoever else is there and wherever its prompt was cut.
use realm_node::engine::{self, Chunk, Error, GenerateOptions, KvType, Loaded, Prompt, Source, Stream, Take};
use std::{path::Path, sync::Arc};

fn model() -> Arc<Loaded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/realm-tiny/realm-tiny-q8_0.gguf");
    let id = engine::store(Source::Path(path), None, &mut |_| (), &|| false).unwrap();
    engine::get(&id).unwrap()
}

fn collect(stream: &Stream) -> Result<Chunk, Error> {
    let mut answer = Chunk::default();
    loop {
        let next = match stream.take() {
            Take::Now(item) => item,
            Take::Later(item) => match item.blocking_recv() {
                Ok(item) => item,
                Err(_) => return Ok(answer),
            },
            Take::End => return Ok(answer),
        };
        answer.append(next?);
    }
}

fn prompt(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|i| 300 + (seed * 101 + i * 37) % 1700).collect()
}

fn ask(model: &Arc<Loaded>, tokens: Vec<u32>, options: GenerateOptions) -> Stream {
    engine::submit(model.clone(), Prompt::Tokens(tokens), options).unwrap()
}

/// A number that every bit of every logit of every step goes into: a log probability is a strictly growing function of
/// its logit.
fn hash(answer: &Chunk, vocabulary: usize) -> u64 {
    let steps = answer.logprobs.as_ref().unwrap();
    let mut bytes = Vec::new();
    for step in steps {
        assert_eq!(step.top.len(), vocabulary);
        let mut by_token = step.top.clone();
        by_token.sort_unstable_by_key(|&(token, _)| token);
        bytes.extend(by_token.iter().flat_map(|(_, logprob)| logprob.to_bits().to_le_bytes()));
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

#[test]
fn logits_do_not_depend_on_company_cache_cuts_or_threads() {
    let model = model();
    let vocabulary = model.info.vocabulary_size;
    let options = |kv_type, cache_prompt| GenerateOptions {
        temperature: Some(0.0),
        ignore_eos: true,
        max_tokens: Some(6),
        logprobs: Some(vocabulary),
        kv_type: Some(kv_type),
        cache_prompt,
        ..GenerateOptions::default()
    };
    for kv_type in [KvType::F16, KvType::F32, KvType::Q8_0] {
        let alone = || {
            let answer = collect(&ask(&model, prompt(1, 300), options(kv_type, false))).unwrap();
            hash(&answer, vocabulary)
        };
        engine::configure(Some(1), None, None).unwrap();
        let expected = alone();
        engine::configure(Some(3), None, None).unwrap();
        assert_eq!(alone(), expected, "{kv_type:?}, 3 threads");

        // Others that write their answers: the prompt comes in small pieces between theirs.
        let others: Vec<Stream> = (2..18)
            .map(|seed| {
                let long =
                    GenerateOptions { max_tokens: Some(200), whole: true, logprobs: None, ..options(kv_type, true) };
                ask(&model, prompt(seed, seed * 4), long)
            })
            .collect();
        // As soon as one of them writes, all do or soon will.
        let first = ask(&model, prompt(18, 3), GenerateOptions { max_tokens: Some(1), ..options(KvType::F16, false) });
        collect(&first).unwrap();
        let first_use = collect(&ask(&model, prompt(1, 300), options(kv_type, true))).unwrap();
        assert_eq!(hash(&first_use, vocabulary), expected, "{kv_type:?}, beside others");
        assert_eq!(first_use.finish.unwrap().usage.cached_tokens, 0);
        let again = collect(&ask(&model, prompt(1, 300), options(kv_type, true))).unwrap();
        assert_eq!(hash(&again, vocabulary), expected, "{kv_type:?}, cached");
        assert_eq!(again.finish.unwrap().usage.cached_tokens, 299);
        for other in others {
            assert_eq!(collect(&other).unwrap().tokens.len(), 200);
        }
    }
    assert!(engine::remove(&model.info.id).unwrap());
}
