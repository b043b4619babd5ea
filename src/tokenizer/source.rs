//! What a file says about its tokenizer, read and checked, before anything is built from it.
use super::charsmap::Charsmap;
use super::end_markers::ROLES;
use super::special::Strip;
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
    pub separator: Option<u32>,
    /// Ends of a turn and of a message: like EOS, they end a generation.
    pub other_ends: Vec<u32>,
    /// One for each of [`ROLES`].
    pub roles: Vec<Option<u32>>,
    pub unknown: Option<u32>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub strip: Strip,
}

/// The algorithm, with what only it needs.
#[derive(Debug, Clone)]
pub(super) enum Model {
    /// `llama`: SentencePiece BPE.
    Spm { scores: Vec<f32> },
    /// `gpt2`: byte-level BPE, and its kin.
    Bpe { pre: String, merges: ByteStrings, words: Option<Words> },
    /// `t5`: SentencePiece unigram.
    Unigram { scores: Vec<f32>, charsmap: Charsmap, merges_spaces: bool },
    /// `bert`: WordPiece.
    WordPiece { lowercase: bool, strip_accents: bool },
}

/// `whitespace`: white space separates words and is no part of any token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    pub lowercase: bool,
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
            "gpt2" | "gemma4" | "whitespace" => (read_bpe(metadata, &model)?, Defaults::default()),
            "t5" => (read_unigram(metadata, count)?, UNIGRAM_DEFAULTS),
            "bert" => (read_word_piece(metadata)?, WORD_PIECE_DEFAULTS),
            other => {
                let shown: String = other.chars().take(60).collect();
                return Err(Error::Unsupported(format!(
                    "{} is {shown:?}, a tokenizer this version does not have (it has llama, gpt2, gemma4, whitespace, t5, bert)",
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
            separator: id(keys::SEPARATOR, defaults.separator)?,
            other_ends: [id(keys::EOT, None)?, id(keys::EOM, None)?].into_iter().flatten().collect(),
            roles: ROLES.iter().map(|role| id(role.key, None)).collect::<Result<_, _>>()?,
            unknown,
            add_bos: metadata.bool(keys::ADD_BOS)?,
            add_eos: metadata.bool(keys::ADD_EOS)?,
            add_space_prefix: metadata.bool(keys::ADD_SPACE_PREFIX)?,
            strip: strip(metadata),
        }))
    }
}

/// The ids that special tokens have where the file does not say.
#[derive(Default)]
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    separator: Option<u32>,
}

/// SentencePiece trains its models with `<unk> <s> </s>` first.
const SPM_DEFAULTS: Defaults = Defaults { bos: Some(1), eos: Some(2), unknown: Some(0), separator: None };

/// T5 begins with `<pad> </s> <unk>`.
const UNIGRAM_DEFAULTS: Defaults = Defaults { bos: None, eos: Some(1), unknown: Some(2), separator: None };

/// BERT's `[UNK] [CLS] [SEP]`.
const WORD_PIECE_DEFAULTS: Defaults = Defaults { bos: Some(101), eos: None, unknown: Some(100), separator: Some(102) };

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
    let array = metadata.array(keys::SCORES)?.ok_or_else(|| missing(keys::SCORES, "its tokenizer goes by them"))?;
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

fn read_bpe(metadata: &Metadata, model: &str) -> Result<Model, Error> {
    let pre = match model {
        // The only one that goes with it.
        "gemma4" => model.to_owned(),
        _ => metadata.str(keys::PRE)?.unwrap_or_default().into_owned(),
    };
    let words = match model {
        "whitespace" => Some(Words { lowercase: metadata.bool(keys::LOWERCASE)?.unwrap_or(pre != model) }),
        _ => None,
    };
    Ok(Model::Bpe { merges: read_strings(metadata, keys::MERGES, "its tokenizer merges by them")?, pre, words })
}

fn read_unigram(metadata: &Metadata, tokens: usize) -> Result<Model, Error> {
    let charsmap = match metadata.array(keys::CHARSMAP)? {
        None => Charsmap::default(),
        Some(array) => {
            let Some(bytes) = array.ints() else {
                return Err(wrong_element_type(keys::CHARSMAP, "bytes", array));
            };
            // Signed and unsigned bytes both occur.
            Charsmap::read(&bytes.map(|byte| byte as u8).collect::<Vec<_>>())?
        }
    };
    Ok(Model::Unigram {
        scores: read_scores(metadata, tokens)?,
        charsmap,
        merges_spaces: metadata.bool(keys::REMOVE_EXTRA_SPACES)?.unwrap_or(false),
    })
}

fn read_word_piece(metadata: &Metadata) -> Result<Model, Error> {
    let lowercase = metadata.bool(keys::LOWERCASE)?.unwrap_or(true);
    Ok(Model::WordPiece { lowercase, strip_accents: metadata.bool(keys::STRIP_ACCENTS)?.unwrap_or(lowercase) })
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

/// Files do not carry the stripping of white space that some tokenizers ask for; names are all there is to go by.
fn strip(metadata: &Metadata) -> Strip {
    let text = |key| metadata.str(key).ok().flatten().unwrap_or_default();
    let (pre, architecture, name) = (text(keys::PRE), text(keys::ARCHITECTURE), text(keys::NAME).to_lowercase());
    let is_any = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if is_any(&pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code"])
        || is_any(&architecture, &["nomic-bert-moe", "jina-bert-v3"])
    {
        Strip::LeftOf("<mask>")
    } else if is_any(&name, &["phi-3", "phi3"]) {
        Strip::RightOfMost
    } else if name.contains("modern-bert") {
        Strip::LeftOf("[MASK]")
    } else {
        Strip::None
    }
}
