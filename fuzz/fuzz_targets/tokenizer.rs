//! Any vocabulary and any text: building gives an error or a tokenizer whose ids are all in the vocabulary and decode.
//!
//! Input: two bytes of flags, then three sections separated by 0xFE (a byte that is not in UTF-8): tokens and merges, each
//! separated by 0xFF, and text. The first byte of a token gives its kind and score.
#![no_main]
use libfuzzer_sys::fuzz_target;
use realm_node::gguf::Gguf;
use realm_node::tokenizer::Tokenizer;

const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 6;
const I32: u32 = 5;
const BOOL: u32 = 7;
const U8: u32 = 0;

/// One name for each set of rules that has a pass of its own kind.
const PRE: [&str; 12] = [
    "default", "gpt-2", "llama-bpe", "qwen2", "jais-2", "deepseek-llm", "afmoe", "superbpe", "spark2_5", "gpt-4o", "kimi-k2",
    "gemma4",
];

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, kind], rest)) = input.split_first_chunk() else { return };
    let mut sections = rest.splitn(3, |&byte| byte == 0xfe);
    let (tokens, merges) = (sections.next().unwrap_or_default(), sections.next().unwrap_or_default());
    let text = String::from_utf8_lossy(sections.next().unwrap_or_default());
    let gguf = Gguf::from_bytes(file(flags, kind, tokens, merges)).expect("the file is well-formed");
    let Ok(Some(tokenizer)) = Tokenizer::from_metadata(gguf.metadata()) else { return };
    for (add_special, parse_special) in [(false, false), (true, true)] {
        check(&tokenizer, &tokenizer.encode(&text, add_special, parse_special));
    }
    let every_id: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
    check(&tokenizer, &every_id);
});

fn check(tokenizer: &Tokenizer, ids: &[u32]) {
    tokenizer.decode(ids, true).expect("ids are in the vocabulary");
    let whole = tokenizer.decode(ids, false).expect("ids are in the vocabulary");
    let mut stream = tokenizer.stream_decoder();
    let mut streamed: String = ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
    streamed += &stream.finish();
    assert!(streamed == whole || streamed.strip_prefix(' ') == Some(&whole));
}

/// A GGUF file (version 3) of metadata alone.
fn file(flags: u8, kind: u8, tokens: &[u8], merges: &[u8]) -> Vec<u8> {
    let tokens: Vec<&[u8]> = tokens.split(|&byte| byte == 0xff).collect();
    let first = |token: &[u8]| token.first().copied().unwrap_or(0);
    let names: Vec<_> = tokens.iter().map(|token| string(token.get(1..).unwrap_or_default())).collect();
    let kinds: Vec<_> = tokens.iter().map(|token| i32::from(first(token) >> 5).to_le_bytes().to_vec()).collect();
    let scores: Vec<_> = tokens.iter().map(|token| f32::from(first(token) & 31).to_le_bytes().to_vec()).collect();
    let merges: Vec<_> = merges.split(|&byte| byte == 0xff).filter(|merge| !merge.is_empty()).map(string).collect();
    let model: &[u8] = [&b"llama"[..], b"gpt2", b"t5", b"bert", b"gemma4", b"whitespace"][usize::from(kind & 7) % 6];
    let pre = PRE[usize::from(kind >> 3) % PRE.len()].as_bytes();
    // The rest of a normaliser: a double array of one unit without children, and the replacements.
    let charsmap: Vec<_> = [&[4, 0, 0, 0, 0, 0, 0, 0][..], &merges.concat(), &[0]].concat();
    let charsmap: Vec<_> = charsmap.into_iter().map(|byte| vec![byte]).collect();
    let pairs = [
        pair("general.name", STRING, string(if flags & 8 == 0 { b"" } else { b"phi-3" })),
        pair("tokenizer.ggml.model", STRING, string(model)),
        pair("tokenizer.ggml.pre", STRING, string(pre)),
        pair("tokenizer.ggml.tokens", ARRAY, array(STRING, &names)),
        pair("tokenizer.ggml.token_type", ARRAY, array(I32, &kinds)),
        pair("tokenizer.ggml.scores", ARRAY, array(F32, &scores)),
        pair("tokenizer.ggml.merges", ARRAY, array(STRING, &merges)),
        pair("tokenizer.ggml.precompiled_charsmap", ARRAY, array(U8, &charsmap)),
        pair("tokenizer.ggml.add_space_prefix", BOOL, vec![flags & 1]),
        pair("tokenizer.ggml.remove_extra_whitespaces", BOOL, vec![flags >> 1 & 1]),
        pair("tokenizer.ggml.normalizer.lowercase", BOOL, vec![flags >> 2 & 1]),
    ];
    let header = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes(), &(pairs.len() as u64).to_le_bytes()];
    [header.concat(), pairs.concat()].concat()
}

fn pair(key: &str, ty: u32, value: Vec<u8>) -> Vec<u8> {
    [string(key.as_bytes()), ty.to_le_bytes().to_vec(), value].concat()
}

fn array(element: u32, values: &[Vec<u8>]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &values.concat()].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}
