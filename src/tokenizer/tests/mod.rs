//! The tokenizer as a whole: reference vectors, damaged files, and properties that must hold for every text.
mod files;
mod vectors;

use super::*;
use crate::gguf::Gguf;
use proptest::prelude::*;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const VOCABULARIES: [&str; 5] = ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"];

static TOKENIZERS: LazyLock<HashMap<&str, Tokenizer>> =
    LazyLock::new(|| VOCABULARIES.into_iter().map(|name| (name, load(name))).collect());

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures").join(path)
}

fn read_fixture(path: &str) -> Vec<u8> {
    let path = fixture(path);
    std::fs::read(&path).unwrap_or_else(|e| {
        panic!("{} is needed for this test (see the developers' reference data): {e}", path.display())
    })
}

fn cases(path: &str) -> serde_json::Value {
    serde_json::from_slice(&read_fixture(path)).unwrap()
}

fn gguf(name: &str) -> Gguf {
    let file = cases(&format!("tokenizers/{name}.json"))["vocab"].as_str().unwrap().to_owned();
    let mut bytes = read_fixture(&format!("tokenizers/{file}"));
    if file.ends_with(".gz") {
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).unwrap();
        bytes = unpacked;
    }
    Gguf::from_bytes(bytes).unwrap()
}

fn load(name: &str) -> Tokenizer {
    Tokenizer::from_metadata(gguf(name).metadata()).unwrap().expect("the file has a vocabulary")
}

fn open(bytes: Vec<u8>) -> Result<Option<Tokenizer>, Error> {
    Tokenizer::from_metadata(Gguf::from_bytes(bytes).unwrap().metadata())
}

#[test]
fn every_reference_case_matches() {
    for name in VOCABULARIES {
        let (tokenizer, document) = (&TOKENIZERS[name], cases(&format!("tokenizers/{name}.json")));
        assert_eq!(tokenizer.vocab_size() as u64, document["n_tokens"].as_u64().unwrap());
        assert_eq!(tokenizer.bos().map(u64::from), document["bos"].as_u64(), "{name}");
        assert_eq!(tokenizer.eos().map(u64::from), document["eos"].as_u64(), "{name}");
        let cases = document["cases"].as_array().unwrap();
        assert!(cases.len() > 200, "{name} has {} cases", cases.len());
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let flag = |key: &str| case[key].as_bool().unwrap();
            let expected: Vec<u32> =
                case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            let ids = tokenizer.encode(text, flag("add_special"), flag("parse_special"));
            assert_eq!(ids, expected, "{name}: {text:?} {case}");
            if let Some(detokenized) = case["detokenized"].as_str() {
                assert_eq!(tokenizer.decode(&ids, true).unwrap(), detokenized, "{name}: {ids:?}");
            }
        }
    }
}

#[test]
fn decoding_leaves_control_tokens_out_unless_asked() {
    let spm = &TOKENIZERS["llama-spm"];
    let ids = spm.encode("Hello", true, false);
    assert_eq!(spm.decode(&ids, false).unwrap(), "Hello");
    assert_eq!(spm.decode(&ids, true).unwrap(), "<s> Hello");
    let bpe = &TOKENIZERS["llama-bpe"];
    let ids = bpe.encode("<|start_header_id|> x<|eot_id|>", true, true);
    assert_eq!(bpe.decode(&ids, false).unwrap(), " x");
    assert_eq!(bpe.decode(&ids, true).unwrap(), "<|begin_of_text|><|start_header_id|> x<|eot_id|>");
}

#[test]
fn ids_out_of_range_are_errors() {
    let tokenizer = &TOKENIZERS["gpt-2"];
    assert!(matches!(tokenizer.decode(&[1, 50257], true), Err(Error::TokenOutOfRange { id: 50257, size: 50257 })));
    assert_eq!(tokenizer.token_text(u32::MAX), None);
    assert!(!tokenizer.is_end_of_generation(u32::MAX));
    assert_eq!(tokenizer.stream_decoder().push(tokenizer, u32::MAX), "");
}

#[test]
fn ends_of_generation() {
    for (name, ends, others) in [
        ("gpt-2", vec!["<|endoftext|>"], vec!["a"]),
        ("llama-bpe", vec!["<|end_of_text|>", "<|eot_id|>"], vec!["<|begin_of_text|>", "<|start_header_id|>"]),
        ("llama-spm", vec!["</s>"], vec!["<s>", "<unk>"]),
        ("phi-3", vec!["<|endoftext|>", "<|end|>", "</s>"], vec!["<|user|>"]),
        ("qwen2", vec!["<|endoftext|>", "<|im_end|>"], vec!["<|im_start|>"]),
    ] {
        let tokenizer = &TOKENIZERS[name];
        let is_end = |text: &&str| tokenizer.is_end_of_generation(tokenizer.vocabulary.find(text.as_bytes()).unwrap());
        assert!(ends.iter().all(is_end), "{name}");
        assert!(!others.iter().any(is_end), "{name}");
    }
}

#[test]
fn token_texts_are_as_stored() {
    let text = |name: &str, id| TOKENIZERS[name].token_text(id).unwrap();
    assert_eq!(text("llama-spm", 1), "<s>");
    assert_eq!(text("llama-spm", 15043), "▁Hello");
    assert_eq!(text("llama-bpe", 128009), "<|eot_id|>");
}

#[test]
fn a_stream_continues_a_text() {
    let tokenizer = &TOKENIZERS["llama-spm"];
    let mut stream = tokenizer.stream_decoder();
    // "▁Hello", then the four bytes of an emoji, then one byte of it without the rest.
    let ids = [15043, 2, 243, 162, 155, 131, 243, 15043, 243];
    let pushed: Vec<String> = ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
    assert_eq!(pushed, [" Hello", "", "", "", "", "😀", "", "\u{fffd} Hello", ""]);
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.finish(), "");
}

fn any_text() -> impl Strategy<Value = String> {
    let fragments = prop::sample::select(vec![
        "<|",
        "|>",
        "<s>",
        "</s>",
        "<|eot_id|>",
        "<|im_start|>",
        "<|endoftext",
        "<0x0A>",
        "▁",
        " ",
        "\n",
        "<",
        "[PAD151646]",
        "\u{0}",
        "\u{10ffff}",
        "'ll",
        "123",
        "<|user|>",
        "e\u{301}",
        "  \t",
    ]);
    let piece = prop_oneof![any::<String>(), fragments.prop_map(str::to_owned), "[ \\t\\r\\n]{0,5}", "[a-z']{0,9}"];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn encoding_any_text_gives_ids_of_the_vocabulary(text in any_text(), add in any::<bool>(), parse in any::<bool>()) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text, add, parse);
            prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{}", name);
            prop_assert!(tokenizer.decode(&ids, true).is_ok());
        }
    }

    #[test]
    fn text_is_never_taken_for_control_tokens(text in any_text()) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text, false, false);
            prop_assert!(ids.iter().all(|&id| tokenizer.vocabulary.kind(id) != TokenKind::Control), "{}", name);
        }
    }

    #[test]
    fn text_comes_back(text in any_text()) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text, true, false);
            // SentencePiece cannot tell U+2581 from a space.
            let expected = match tokenizer.algorithm {
                Algorithm::Spm(_) => text.replace('▁', " "),
                _ => text.clone(),
            };
            prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), expected, "{}", name);
        }
    }

    #[test]
    fn a_stream_is_the_lossy_decoding_of_all_bytes(seed in prop::collection::vec(any::<u32>(), 0..40), low in any::<bool>()) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            // Low ids are single bytes: sequences of them are rarely UTF-8.
            let size = if low { 300 } else { tokenizer.vocab_size() as u32 };
            let (mut bytes, mut text, mut stream) = (Vec::new(), String::new(), tokenizer.stream_decoder());
            for id in seed.iter().map(|seed| seed % size) {
                tokenizer.append_bytes(id, false, &mut bytes);
                text += &stream.push(tokenizer, id);
                // Everything but the beginning of a character is out at once.
                let valid = String::from_utf8_lossy(&bytes);
                let complete = valid.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(&valid).len();
                prop_assert!(complete <= text.len());
            }
            text += &stream.finish();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes), "{}", name);
        }
    }
}

/// Nothing here may be quadratic: these take milliseconds, and would take hours if it were.
#[test]
fn a_megabyte_of_anything_is_quick() {
    let megabyte = |unit: &str| unit.repeat((1 << 20) / unit.len());
    let units = [
        "a",
        " ",
        "\n",
        "1",
        "!",
        "▁",
        "你",
        "\u{301}",
        "😀",
        "<",
        "<|",
        "<|im_start|>",
        "[PAD151646]",
        " \n",
        "'ll",
        "a ",
        "The quick brown fox jumps over the lazy dog, 1234 times.\n",
        "\0",
        "</s>",
        "ab",
        "\t ",
    ];
    for (name, tokenizer) in TOKENIZERS.iter() {
        for unit in units {
            let text = megabyte(unit);
            let start = Instant::now();
            let ids = tokenizer.encode(&text, true, true);
            tokenizer.decode(&ids, true).unwrap();
            let taken = start.elapsed();
            assert!(taken < Duration::from_secs(10), "{name}: 1 MB of {unit:?} took {taken:?}");
        }
    }
}

/// Milliseconds where it is done right; the bound is wide because test machines are busy.
#[test]
fn a_large_vocabulary_is_built_quickly() {
    let source = Source::read(gguf("qwen2").metadata()).unwrap().unwrap();
    let start = Instant::now();
    Tokenizer::new(source).unwrap();
    let taken = start.elapsed();
    assert!(taken < Duration::from_secs(2), "{taken:?}");
}
