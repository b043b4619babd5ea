//! What a file says about its tokenizer, read and checked, before anything is built from it.
use super::vocabulary::{ByteStrings, TokenKind, parse_byte_token};
use super::{Error, keys};
use crate::gguf::{self, Array, Metadata};

/// The contents of the `tokenizer.*` keys. Lists that go with the tokens have one element per token.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub model: Model,
    pub tokens: ByteStrings,
    pub kinds: Vec<TokenKind>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// Ends of a turn and of a message: like EOS, they end a generation.
    pub other_ends: Vec<u32>,
    pub unknown: Option<u32>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    /// White space after special tokens is dropped.
    pub strip_right: bool,
}

/// The algorithm, with what only it needs.
#[derive(Debug, Clone)]
pub(super) enum Model {
    /// `llama`: SentencePiece BPE.
    Spm { scores: Vec<f32> },
    /// `gpt2`: byte-level BPE.
    Bpe { pre: String, merges: ByteStrings },
}

impl From<gguf::Error> for Error {
    fn from(e: gguf::Error) -> Self {
        Self::Bad(e.to_string())
    }
}

impl Source {
    /// `Ok(None)` when the file has no vocabulary.
    pub fn read(metadata: &Metadata) -> Result<Option<Self>, Error> {
        let Some(model) = metadata.str(keys::MODEL)? else {
            return match metadata.get(keys::TOKENS) {
                None => Ok(None),
                Some(_) => Err(missing(keys::MODEL, "the file has tokens")),
            };
        };
        if matches!(&*model, "none" | "no_vocab") {
            return Ok(None);
        }
        let tokens = read_tokens(metadata)?;
        let count = tokens.len();
        let (model, defaults) = match &*model {
            "llama" => (Model::Spm { scores: read_scores(metadata, count)? }, SPM_DEFAULTS),
            "gpt2" => (read_bpe(metadata)?, Defaults::default()),
            other => {
                return Err(Error::Unsupported(format!(
                    "{} is {other:?}, a tokenizer this version does not have (it has llama, gpt2)",
                    keys::MODEL
                )));
            }
        };
        let id = |key: &str, default: Option<u32>| read_id(metadata, key, default, count);
        let (bos, eos) = (id(keys::BOS, defaults.bos)?, id(keys::EOS, defaults.eos)?);
        let unknown = id(keys::UNKNOWN, defaults.unknown)?;
        Ok(Some(Self {
            kinds: read_kinds(metadata, &tokens, [bos, eos], unknown)?,
            model,
            tokens,
            bos,
            eos,
            other_ends: [id(keys::EOT, None)?, id(keys::EOM, None)?].into_iter().flatten().collect(),
            unknown,
            add_bos: metadata.bool(keys::ADD_BOS)?,
            add_eos: metadata.bool(keys::ADD_EOS)?,
            add_space_prefix: metadata.bool(keys::ADD_SPACE_PREFIX)?,
            strip_right: is_phi3(metadata),
        }))
    }
}

/// The ids that special tokens have where the file does not say.
#[derive(Default)]
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
}

/// SentencePiece trains its models with `<unk> <s> </s>` first.
const SPM_DEFAULTS: Defaults = Defaults { bos: Some(1), eos: Some(2), unknown: Some(0) };

fn missing(key: &str, but: &str) -> Error {
    Error::Bad(format!("the metadata key {key} is missing, but {but}"))
}

fn read_tokens(metadata: &Metadata) -> Result<ByteStrings, Error> {
    let tokens = read_strings(metadata, keys::TOKENS, "the file names a tokenizer")?;
    match tokens.len() {
        0 => Err(Error::Bad(format!("{} has no elements", keys::TOKENS))),
        // Symbols that are no tokens get the ids above them (see `bpe`), and the highest id means none.
        count if count >= 1 << 31 => Err(Error::Bad(format!("{} has {count} elements", keys::TOKENS))),
        _ => Ok(tokens),
    }
}

fn read_strings(metadata: &Metadata, key: &str, but: &str) -> Result<ByteStrings, Error> {
    let array = metadata.array(key)?.ok_or_else(|| missing(key, but))?;
    let Some(strings) = array.byte_strings() else {
        return Err(wrong_element_type(key, "string", array));
    };
    let mut copied = ByteStrings::with_capacity(array.len());
    for string in strings {
        copied.push(string)?;
    }
    Ok(copied)
}

fn wrong_element_type(key: &str, expected: &str, array: Array) -> Error {
    Error::Bad(format!("{key} is an array of {}, expected an array of {expected}", array.element_type()))
}

fn check_len(key: &str, found: usize, tokens: usize) -> Result<(), Error> {
    if found == tokens {
        return Ok(());
    }
    Err(Error::Bad(format!("{key} has {found} elements, expected one for each of the {tokens} tokens")))
}

/// Scores decide every merge, so a file without proper ones would tokenise text into something else.
fn read_scores(metadata: &Metadata, tokens: usize) -> Result<Vec<f32>, Error> {
    let array =
        metadata.array(keys::SCORES)?.ok_or_else(|| missing(keys::SCORES, "a llama tokenizer merges by them"))?;
    check_len(keys::SCORES, array.len(), tokens)?;
    let Some(scores) = array.f32s() else {
        return Err(wrong_element_type(keys::SCORES, "numbers", array));
    };
    let scores: Vec<f32> = scores.collect();
    match scores.iter().position(|score| score.is_nan()) {
        None => Ok(scores),
        Some(index) => Err(Error::Bad(format!("{}[{index}] is NaN, expected a number", keys::SCORES))),
    }
}

fn read_bpe(metadata: &Metadata) -> Result<Model, Error> {
    let pre = metadata.str(keys::PRE)?.unwrap_or_default().into_owned();
    Ok(Model::Bpe { pre, merges: read_strings(metadata, keys::MERGES, "a gpt2 tokenizer merges by them")? })
}

/// A default that the vocabulary is too short for does not count; an id from the file must be in range.
fn read_id(metadata: &Metadata, key: &str, default: Option<u32>, tokens: usize) -> Result<Option<u32>, Error> {
    let in_range = |id: u32| (id as usize) < tokens;
    match metadata.u32(key)? {
        None => Ok(default.filter(|&id| in_range(id))),
        Some(id) if in_range(id) => Ok(Some(id)),
        Some(id) => Err(Error::Bad(format!("{key} is {id}, but the vocabulary has {tokens} tokens"))),
    }
}

fn read_kinds(
    metadata: &Metadata,
    tokens: &ByteStrings,
    controls: [Option<u32>; 2],
    unknown: Option<u32>,
) -> Result<Vec<TokenKind>, Error> {
    let Some(array) = metadata.array(keys::TOKEN_TYPE)? else {
        return Ok(guess_kinds(tokens, controls, unknown));
    };
    check_len(keys::TOKEN_TYPE, array.len(), tokens.len())?;
    let Some(types) = array.ints() else {
        return Err(wrong_element_type(keys::TOKEN_TYPE, "integers", array));
    };
    let kind_of = |(value, token): (i64, &[u8])| match TokenKind::from_gguf(value) {
        // A byte token that names no byte can only be text.
        TokenKind::Byte if parse_byte_token(token).is_none() => TokenKind::Normal,
        kind => kind,
    };
    Ok(types.zip(tokens.iter()).map(kind_of).collect())
}

/// Kinds for a file that does not give them: from the texts of bytes and the ids of special tokens.
fn guess_kinds(tokens: &ByteStrings, controls: [Option<u32>; 2], unknown: Option<u32>) -> Vec<TokenKind> {
    let is_byte = |token| parse_byte_token(token).is_some();
    let mut kinds: Vec<TokenKind> =
        tokens.iter().map(|token| if is_byte(token) { TokenKind::Byte } else { TokenKind::Normal }).collect();
    unknown.into_iter().for_each(|id| kinds[id as usize] = TokenKind::Unknown);
    controls.into_iter().flatten().for_each(|id| kinds[id as usize] = TokenKind::Control);
    kinds
}

/// Files do not carry the stripping of white space that Phi-3's tokenizer asks for; its name is all there is to go by.
fn is_phi3(metadata: &Metadata) -> bool {
    let name = metadata.str(keys::NAME).ok().flatten().unwrap_or_default().to_lowercase();
    name.contains("phi-3") || name.contains("phi3")
}
