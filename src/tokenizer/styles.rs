//! How text is split before byte-level BPE merges, under the names that files call it by (`tokenizer.ggml.pre`).
//!
//! Each model's authors publish their pattern; llama.cpp gave them the names, and its files depend on what it makes of them.
//! Where the two differ the names mean what llama.cpp does: `\p{Lu}` and its like stand for any letter there, digits are
//! counted in its own way. `scripts/fuzz-tokenizers.py` compares every name with it.
use super::Error;

/// One splitting of every piece.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass {
    /// At the matches of a pattern: they are pieces, and so is what lies between two of them.
    Matches { pattern: &'static str, spaces: Spaces },
    /// A run of numbers (`\p{N}`) into threes counted from its end. What stands before a run belongs to its first piece.
    NumbersFromTheRight,
    /// Before every digit (0 to 9) whose distance to the end of its run of digits is a multiple of three.
    DigitsFromTheRight,
}

/// What becomes of white space that ends a match.
///
/// The published patterns end in `\s+(?!\S)|\s+`, their only look-ahead. Here they end in `\s+`, an ordinary regular
/// expression, which matches in linear time whatever the text; the look-ahead is this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spaces {
    /// The pattern has no such end.
    AsMatched,
    /// Of a run that something follows, the last character is left for the next match.
    LeaveLast,
    /// The same unless that character ends a line: then an earlier alternative, `\s*[\r\n]+`, has matched.
    LeaveLastOfLine,
    /// Runs are cut to lengths that are powers of two, the last character apart (`\s{512}(?!\S)|…|\s{1,2}(?!\S)|\s`).
    PowersOfTwo,
}

/// How pieces are written in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In the byte-level alphabet.
    Bytes,
    /// As they are; what is no token becomes `<0xNN>` tokens.
    Characters,
    /// The same, with U+2581 for a space.
    EscapedCharacters,
}

/// A way to prepare text for BPE.
#[derive(Debug)]
pub(super) struct Style {
    pub names: &'static [&'static str],
    pub passes: &'static [Pass],
    pub spelling: Spelling,
    /// A piece that is a token is taken whole, even where the merges do not lead to it.
    pub ignore_merges: bool,
    /// The same for pieces of line ends alone.
    pub whole_line_ends: bool,
    /// Does a text begin with BOS when the file does not say?
    pub add_bos: bool,
    /// Does it even when the file says that it does not?
    pub always_bos: bool,
}

const PLAIN: Style = Style {
    names: &[],
    passes: &[],
    spelling: Spelling::Bytes,
    ignore_merges: false,
    whole_line_ends: false,
    add_bos: false,
    always_bos: false,
};

const fn matches(pattern: &'static str) -> Pass {
    Pass::Matches { pattern, spaces: Spaces::AsMatched }
}

/// A pattern whose last alternative is `\s+`, without an alternative that takes line ends.
const fn words(pattern: &'static str) -> Pass {
    Pass::Matches { pattern, spaces: Spaces::LeaveLast }
}

/// A pattern whose last alternatives are `\s*[\r\n]+` and `\s+`.
const fn lines(pattern: &'static str) -> Pass {
    Pass::Matches { pattern, spaces: Spaces::LeaveLastOfLine }
}

/// English contractions, in either case.
macro_rules! contraction {
    () => {
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
    };
}

/// ASCII punctuation and the Latin word after it, or a word of letters and marks, or punctuation and symbols.
macro_rules! deepseek_words {
    () => {
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
            r"| ?[\p{P}\p{S}]+"
        )
    };
}

/// Words of capitals and small letters, with the contraction after them.
macro_rules! gpt4o_words {
    ($letters:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[",
            $letters,
            r"--a-z]*[",
            $letters,
            r"--A-Z]+(?:",
            contraction!(),
            r")?",
            r"|[^\r\n\p{L}\p{N}]?[",
            $letters,
            r"--a-z]+[",
            $letters,
            r"--A-Z]*(?:",
            contraction!(),
            r")?"
        )
    };
}

/// Chinese, Japanese kana, and Hangul in the way of DeepSeek's first models.
const DEEPSEEK_CJK: Pass = matches(r"[[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]--\s]+");
/// Chinese and Japanese kana.
const CJK: Pass = matches(r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+");

const NUMBERS: Pass = matches(r"\p{N}+");
const NUMBER: Pass = matches(r"\p{N}");
const NUMBERS_BY_THREE: Pass = matches(r"\p{N}{1,3}");
const THREE_DIGITS: Pass = matches("[0-9][0-9][0-9]");
const LINE_END: Pass = matches(r"[\r\n]");
const LINES: Pass = matches(r"[^\n]+|\n+");

/// Letters, digits and the rest apart, each with the space before it (Radford et al. 2019).
const GPT2: Pass = words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+");

/// Llama 3: line ends stay together, digits come in threes.
const LLAMA3: Pass =
    lines(concat!(contraction!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"));

/// Qwen 2: as Llama 3, every digit alone.
const QWEN2: Pass =
    lines(concat!(contraction!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"));

const DEEPSEEK3: Pass = lines(concat!(deepseek_words!(), r"[\r\n]*|\s*[\r\n]+|\s+"));

/// Everything but white space and the sentence marks of several scripts.
const BLOOM: Pass = matches(r" ?[^(\s|.,!?\u{2026}\u{3002}\u{FF0C}\u{3001}\u{964}\u{6D4}\u{60C})]+");

/// Letters with a case, as DeepSeek's first models list them.
const DEEPSEEK_CASED: Pass = matches(concat!(
    r"\s?[",
    r"A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}",
    r"\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}",
    r"\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}",
    r"\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}",
    r"\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}",
    r"\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}",
    r"\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}",
    r"\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}",
    r"\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}",
    r"\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}",
    r"\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}",
    r"\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}",
    r"\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}",
    r"\u{1E900}-\u{1E943}",
    r"]+"
));

/// Han characters, by the blocks that llama.cpp names.
macro_rules! han {
    () => {
        r"\u{3400}-\u{4DBF}\u{4E00}-\u{9FFF}\u{F900}-\u{FAFF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2EBEF}\u{2F800}-\u{2FA1F}"
    };
}

pub(super) const STYLES: &[Style] = &[
    Style { names: &["default", ""], passes: &[matches(r"[\p{P}$+<=>^~|]+"), GPT2, NUMBERS, THREE_DIGITS], ..PLAIN },
    Style {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        passes: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Style { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], passes: &[LLAMA3], ..PLAIN },
    Style { names: &["glm4", "glm5"], passes: &[LLAMA3], ignore_merges: true, ..PLAIN },
    Style {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "trillion",
            "granite-docling",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "modern-bert",
        ],
        passes: &[GPT2],
        ..PLAIN
    },
    Style {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
        passes: &[NUMBER, GPT2],
        ..PLAIN
    },
    Style {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        passes: &[QWEN2],
        ..PLAIN
    },
    Style {
        names: &["qwen35"],
        passes: &[lines(concat!(
            contraction!(),
            r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
        ))],
        ..PLAIN
    },
    Style { names: &["laguna"], passes: &[LINES, QWEN2], ..PLAIN },
    // Without contractions, so that Turkish suffixes stay together with their apostrophe.
    Style {
        names: &["ufakzeka"],
        passes: &[lines(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+")],
        ..PLAIN
    },
    Style { names: &["bailingmoe", "bailingmoe2", "llada-moe"], passes: &[QWEN2], ..PLAIN },
    Style {
        names: &["seed-coder"],
        passes: &[lines(concat!(
            contraction!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+"
        ))],
        ..PLAIN
    },
    // Words with single spaces between them are one piece.
    Style {
        names: &["exaone-moe"],
        passes: &[lines(concat!(
            contraction!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}\p{M}*(?: ?\p{L}\p{M}*)*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+"
        ))],
        ..PLAIN
    },
    Style {
        names: &["minicpm5"],
        passes: &[
            NUMBERS_BY_THREE,
            lines(concat!(
                contraction!(),
                r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
            )),
        ],
        ignore_merges: true,
        ..PLAIN
    },
    Style {
        names: &["jais-2"],
        passes: &[Pass::Matches {
            pattern: concat!(
                contraction!(),
                r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
            ),
            spaces: Spaces::PowersOfTwo,
        }],
        ..PLAIN
    },
    Style {
        names: &["deepseek-llm"],
        passes: &[
            LINE_END,
            DEEPSEEK_CASED,
            matches(r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3001}\u{3002}]+"),
            matches(r"\s+$"),
            DEEPSEEK_CJK,
            NUMBERS,
        ],
        ..PLAIN
    },
    Style {
        names: &["deepseek-coder"],
        passes: &[LINE_END, matches(r"\s?\p{L}+"), matches(r"\s?\p{P}+"), DEEPSEEK_CJK, NUMBER],
        ..PLAIN
    },
    Style {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        passes: &[NUMBERS_BY_THREE, CJK, DEEPSEEK3],
        ..PLAIN
    },
    Style {
        names: &["spark2_5"],
        passes: &[NUMBERS_BY_THREE, CJK, words(concat!(deepseek_words!(), r"|[\r\n]|\s+")), NUMBER],
        ..PLAIN
    },
    Style {
        names: &["afmoe"],
        passes: &[
            Pass::NumbersFromTheRight,
            matches(concat!(
                r"[\u{3400}-\u{4DBF}\u{4E00}-\u{9FFF}\u{8C48}-\u{FAFF}\u{3040}-\u{30FF}\u{FF65}-\u{FF9F}\u{2F00}-\u{2FDF}",
                r"\u{E40}-\u{EFF}\u{1000}-\u{109F}\u{1100}-\u{11FF}\u{1780}-\u{17FF}]+"
            )),
            DEEPSEEK3,
        ],
        ..PLAIN
    },
    Style {
        names: &["youtu"],
        passes: &[
            matches(concat!(
                r"[\u{AC00}-\u{D7A3}\u{3131}-\u{318E}]+",
                r"|[\u{FF01}\u{2026}\u{201C}\u{201D}\u{2018}\u{2019}\u{2014}\u{FF1A}\u{FF1B}\u{FF0C}\u{3001}-\u{303F}",
                r"\u{FE30}-\u{FE4F}]+|[\u{3105}-\u{312F}]+|[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+"
            )),
            lines(concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:",
                contraction!(),
                r")?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
            )),
        ],
        ignore_merges: true,
        ..PLAIN
    },
    Style {
        names: &["tiny_aya", "cohere2moe"],
        passes: &[
            Pass::NumbersFromTheRight,
            lines(concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:",
                contraction!(),
                r")?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
            )),
        ],
        ..PLAIN
    },
    Style { names: &["falcon"], passes: &[matches(r"[\p{P}$+<=>^~|`]+"), GPT2, THREE_DIGITS], ..PLAIN },
    Style { names: &["poro-chat", "bloom", "gpt3-finnish"], passes: &[BLOOM], ..PLAIN },
    Style { names: &["viking"], passes: &[BLOOM, NUMBER], ..PLAIN },
    Style {
        names: &["tekken"],
        passes: &[lines(concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{L}--a-z]*[\p{L}--A-Z]+|[^\r\n\p{L}\p{N}]?[\p{L}--a-z]+[\p{L}--A-Z]*",
            r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
        ))],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    Style {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        passes: &[lines(concat!(gpt4o_words!(r"\p{L}"), r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"))],
        ..PLAIN
    },
    Style {
        names: &["granite-embed-multi-97m"],
        passes: &[lines(concat!(
            gpt4o_words!(r"\p{L}\p{M}"),
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+"
        ))],
        ignore_merges: true,
        ..PLAIN
    },
    Style {
        names: &["chameleon"],
        passes: &[
            matches("<sentinel:[0-9]+>"),
            matches("IMGIMG[A-I]{1,4}Z"),
            matches(r"[\t\n]|    |  "),
            NUMBER,
            matches(r"[\p{P}!-/:-@\[-`{-~]"),
            GPT2,
        ],
        add_bos: true,
        ..PLAIN
    },
    Style {
        names: &["kimi-k2"],
        passes: &[lines(concat!(
            r"[",
            han!(),
            r"]+|[^\r\n\p{L}\p{N}]?[\p{L}--[",
            han!(),
            r"]]+(?:",
            contraction!(),
            r")?",
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
        ))],
        ..PLAIN
    },
    Style { names: &["superbpe"], passes: &[NUMBERS, Pass::DigitsFromTheRight], ..PLAIN },
    Style {
        names: &["gemma4", "granite-embed-multi-311m"],
        passes: &[LINES],
        spelling: Spelling::EscapedCharacters,
        whole_line_ends: true,
        always_bos: true,
        ..PLAIN
    },
    Style { names: &["sarvam-moe"], passes: &[LINES], spelling: Spelling::EscapedCharacters, ..PLAIN },
    Style { names: &["whitespace"], passes: &[matches(r"\S+")], spelling: Spelling::Characters, ..PLAIN },
];

/// The style that a file names.
pub(super) fn style(name: &str) -> Result<&'static Style, Error> {
    STYLES.iter().find(|style| style.names.contains(&name)).ok_or_else(|| {
        let known: Vec<_> =
            STYLES.iter().flat_map(|style| style.names).filter(|name| !name.is_empty()).copied().collect();
        let shown: String = name.chars().take(60).collect();
        Error::Unsupported(format!(
            "tokenizer.ggml.pre is {shown:?}, a pre-tokenizer this version does not have (it has {})",
            known.join(", ")
        ))
    })
}
