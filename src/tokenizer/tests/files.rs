//! Files of every kind: complete, incomplete, damaged.
use super::*;
use crate::gguf::testing::{Owned, Writer};

#[test]
fn damaged_vocabularies_are_errors_that_name_the_key_or_work() {
    let manifest = cases("malformed/manifest.json");
    let files: Vec<_> = manifest["files"].as_array().unwrap().iter().filter(|f| f["category"] == "tokenizer").collect();
    assert!(files.len() >= 17, "{} files", files.len());
    for entry in files {
        let file = entry["file"].as_str().unwrap();
        match open(read_fixture(&format!("malformed/{file}"))) {
            Err(e) => {
                assert!(e.to_string().contains("tokenizer.ggml."), "{file}: {e}");
                assert_ne!(entry["expect"], "accept", "{file}: {e}");
            }
            Ok(tokenizer) => {
                let tokenizer = tokenizer.expect("the file has a vocabulary");
                assert_ne!(entry["expect"], "reject", "{file}");
                let ids = tokenizer.encode("Hello, 世界 <s>\u{0}", true, true);
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{file}");
                tokenizer.decode(&ids, true).unwrap();
            }
        }
    }
}

fn open_written(file: Writer) -> Result<Option<Tokenizer>, Error> {
    open(file.write())
}

pub(super) fn tokenizer(file: Writer) -> Tokenizer {
    open_written(file).unwrap().expect("the file has a vocabulary")
}

fn error(file: Writer) -> String {
    open_written(file).expect_err("accepted").to_string()
}

fn strings(strings: &[&str]) -> Owned {
    Owned::Array(Owned::str("").type_id(), strings.iter().map(|string| Owned::str(string)).collect())
}

fn floats(numbers: &[f32]) -> Owned {
    Owned::Array(Owned::F32(0.0).type_id(), numbers.iter().copied().map(Owned::F32).collect())
}

fn ints(numbers: &[i32]) -> Owned {
    Owned::Array(Owned::I32(0).type_id(), numbers.iter().copied().map(Owned::I32).collect())
}

fn spm(tokens: &[&str], scores: &[f32]) -> Writer {
    Writer::default()
        .pair(keys::MODEL, Owned::str("llama"))
        .pair(keys::TOKENS, strings(tokens))
        .pair(keys::SCORES, floats(scores))
}

fn bpe(pre: &str, tokens: &[&str], merges: &[&str]) -> Writer {
    Writer::default()
        .pair(keys::MODEL, Owned::str("gpt2"))
        .pair(keys::PRE, Owned::str(pre))
        .pair(keys::TOKENS, strings(tokens))
        .pair(keys::MERGES, strings(merges))
}

#[test]
fn a_file_without_a_vocabulary_has_no_tokenizer() {
    assert!(open_written(Writer::default()).unwrap().is_none());
    assert!(open_written(Writer::default().pair(keys::MODEL, Owned::str("no_vocab"))).unwrap().is_none());
}

#[test]
fn incomplete_files_name_what_is_missing() {
    let tokens_only = || Writer::default().pair(keys::TOKENS, strings(&["a"]));
    for (file, expected) in [
        (tokens_only(), "tokenizer.ggml.model is missing"),
        (Writer::default().pair(keys::MODEL, Owned::str("gpt2")), "tokenizer.ggml.tokens is missing"),
        (tokens_only().pair(keys::MODEL, Owned::str("gpt2")), "tokenizer.ggml.merges is missing"),
        (tokens_only().pair(keys::MODEL, Owned::str("llama")), "tokenizer.ggml.scores is missing"),
        (spm(&[], &[]), "tokenizer.ggml.tokens has no elements"),
        (spm(&["a"], &[]), "tokenizer.ggml.scores has 0 elements, expected one for each of the 1 tokens"),
        (spm(&["a"], &[f32::NAN]), "tokenizer.ggml.scores[0] is NaN"),
        (spm(&["a"], &[0.0]).pair(keys::TOKEN_TYPE, ints(&[1, 1])), "tokenizer.ggml.token_type has 2 elements"),
        (spm(&["a"], &[0.0]).pair(keys::TOKEN_TYPE, floats(&[1.0])), "tokenizer.ggml.token_type is an array of f32"),
        (bpe("gpt-2", &["a"], &["aa"]), "tokenizer.ggml.merges[0] is \"aa\""),
    ] {
        let message = error(file);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_this_version_does_not_have_is_named() {
    let model =
        open_written(Writer::default().pair(keys::MODEL, Owned::str("rwkv")).pair(keys::TOKENS, strings(&["a"])));
    assert!(matches!(model, Err(Error::Unsupported(m)) if m.contains("tokenizer.ggml.model is \"rwkv\"")));
    let pre = open_written(bpe("nosuch", &["a"], &[]));
    assert!(matches!(pre, Err(Error::Unsupported(m)) if m.contains("tokenizer.ggml.pre is \"nosuch\"")));
}

#[test]
fn ids_in_the_file_must_be_in_range() {
    for key in [keys::BOS, keys::EOS, keys::EOT, keys::EOM, keys::UNKNOWN] {
        for id in [1, u32::MAX] {
            let message = error(spm(&["a"], &[0.0]).pair(key, Owned::U32(id)));
            assert!(message.contains(&format!("{key} is {id},")), "{message}");
        }
    }
}

#[test]
fn kinds_are_guessed_where_the_file_has_none() {
    let tokenizer = tokenizer(spm(&["<unk>", "<s>", "</s>", "<0x61>", "b"], &[0.0; 5]));
    assert_eq!(tokenizer.encode("abc", true, false), [1, 0, 3, 4, 0]);
    assert_eq!(tokenizer.decode(&[1, 3, 4, 0], false).unwrap(), "ab");
    assert!(tokenizer.is_end_of_generation(2));
}

#[test]
fn keys_of_the_file_win_over_defaults() {
    let spm = || spm(&["<unk>", "<s>", "</s>", "a", "▁"], &[0.0; 5]);
    let default = tokenizer(spm());
    assert_eq!(default.encode("a", true, false), [1, 4, 3]);
    assert_eq!((default.bos(), default.eos()), (Some(1), Some(2)));
    let other = tokenizer(
        spm()
            .pair(keys::ADD_BOS, Owned::Bool(false))
            .pair(keys::ADD_EOS, Owned::Bool(true))
            .pair(keys::ADD_SPACE_PREFIX, Owned::Bool(false)),
    );
    assert_eq!(other.encode("a", true, false), [3, 2]);
    assert_eq!(other.encode("a", false, false), [3]);
    assert_eq!(other.decode(&[4, 3], false).unwrap(), " a");
}

#[test]
fn bos_of_byte_level_bpe_depends_on_the_pre_tokenizer() {
    let encode =
        |pre: &str| tokenizer(bpe(pre, &["<s>", "a"], &[]).pair(keys::BOS, Owned::U32(0))).encode("a", true, false);
    assert_eq!(encode("llama3"), [0, 1]);
    assert_eq!(encode("qwen2"), [1]);
    assert_eq!(encode("default"), [1]);
}

#[test]
fn a_piece_that_is_a_token_is_taken_whole_only_for_llama_bpe() {
    let encode = |pre: &str| tokenizer(bpe(pre, &["a", "b", "ab"], &[])).encode("ab", false, false);
    assert_eq!(encode("llama-bpe"), [2]);
    assert_eq!(encode("gpt-2"), [0, 1]);
}

#[test]
fn empty_tokens_never_match() {
    let file = spm(&["", "a", "", "▁"], &[0.0; 4]).pair(keys::TOKEN_TYPE, ints(&[3, 1, 4, 1]));
    let tokenizer = tokenizer(file);
    assert_eq!(tokenizer.encode("aa", false, true), [3, 1, 1]);
    assert_eq!(tokenizer.decode(&[0, 2, 1], true).unwrap(), "a");
}

#[test]
fn a_well_known_end_is_a_control_token_whatever_the_file_says() {
    let tokens = ["<", "|", "i", "m", "_", "e", "n", "d", ">", "<|im_end|>"];
    let file = bpe("gpt-2", &tokens, &[]).pair(keys::TOKEN_TYPE, ints(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 4]));
    let tokenizer = tokenizer(file);
    assert_eq!(tokenizer.encode("<|im_end|>", false, false).len(), 10);
    assert_eq!(tokenizer.encode("<|im_end|>", false, true), [9]);
    assert!(tokenizer.is_end_of_generation(9));
}

#[test]
fn the_space_between_words_may_lie_inside_a_token() {
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "▁", "a▁", "a▁b"];
    let tokenizer = tokenizer(spm(&tokens, &[0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -2.0, -1.0]));
    assert_eq!(tokenizer.encode("a ba b", false, false), [5, 7, 7]);
}

#[test]
fn bert_always_begins_and_ends_a_text() {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u{2581}hello", "s", "\u{2581}!", "\u{2581}\u{4e16}"];
    let file = Writer::default()
        .pair(keys::MODEL, Owned::str("bert"))
        .pair(keys::TOKENS, strings(&tokens))
        .pair(keys::TOKEN_TYPE, ints(&[3, 3, 3, 3, 1, 1, 1, 1]))
        .pair(keys::UNKNOWN, Owned::U32(1))
        .pair(keys::BOS, Owned::U32(2))
        .pair(keys::SEPARATOR, Owned::U32(3))
        .pair(keys::ADD_BOS, Owned::Bool(false));
    let tokenizer = tokenizer(file);
    assert_eq!(tokenizer.encode("H\u{e9}LLOs!\u{4e16} hell\u{0}o", true, false), [2, 4, 5, 6, 7, 4, 3]);
    assert_eq!(tokenizer.encode("hellos! xhello", false, true), [4, 5, 6, 1]);
    assert_eq!(tokenizer.decode(&[4, 5, 6], false).unwrap(), " hellos !");
}

#[test]
fn marks_of_channels_show_in_text_and_are_no_text() {
    let tokens = ["<", "|", "s", "t", "a", "r", ">", "<|start|>"];
    let tokenizer = tokenizer(bpe("gpt-2", &tokens, &[]));
    assert_eq!(tokenizer.encode("<|start|>", false, false).len(), 9);
    assert_eq!(tokenizer.encode("<|start|>", false, true), [7]);
    assert_eq!(tokenizer.decode(&[7], false).unwrap(), "<|start|>");
}
