#!/usr/bin/env python3
"""Compares realm-node's tokenizers with llama.cpp's on random texts.

  scripts/fuzz-tokenizers.py SHARED [--texts 200000] [--seed 1] [--only NAME ...] [--speed] [--vectors FILE]

SHARED is the folder of the reference data. Needs llama-cpp-python from PyPI and `cargo build --release
--no-default-features --example tokenize`. Covers every vocabulary of the reference data, every name of a pre-tokenizer in
src/tokenizer/styles.rs (put into the byte-level vocabularies), and small vocabularies made here for the other kinds.
Prints each kind of difference with an example, and fails if there is one that is not explained in explain(). --speed
takes the time for a megabyte of text instead; --vectors writes what llama.cpp makes of some texts with the small
vocabularies, for the unit tests (src/tokenizer/tests/vectors.json).
"""
import argparse
import collections
import ctypes
import gzip
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata

import llama_cpp.llama_cpp as C

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BATCH = 2000


# --- llama.cpp ----------------------------------------------------------------------------------------------------------

@C.llama_log_callback
def silent(level, text, _):
    if level >= 4 or os.environ.get("LOG"):
        sys.stderr.write(text.decode("utf-8", "replace"))


UNKNOWN, CONTROL = 1, 8


class Reference:
    def __init__(self, path):
        parameters = C.llama_model_default_params()
        parameters.vocab_only = True
        parameters.n_gpu_layers = 0
        self.model = C.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise RuntimeError("llama.cpp does not load " + path)
        self.vocab = C.llama_model_get_vocab(self.model)
        self.size = C.llama_vocab_n_tokens(self.vocab)
        self.buffer = (C.llama_token * (1 << 16))()
        text = ctypes.create_string_buffer(1 << 16)
        self.pieces = []
        for token in range(self.size):
            length = C.llama_token_to_piece(self.vocab, token, text, len(text), 0, True)
            self.pieces.append(text.raw[:max(0, length)])

    def tokenize(self, text, flags):
        n = C.llama_tokenize(self.vocab, text, len(text), self.buffer, len(self.buffer), bool(flags & 1), bool(flags & 2))
        return list(self.buffer[:n])

    def attribute(self, token):
        return C.llama_vocab_get_attr(self.vocab, token) if 0 <= token < self.size else 0

    def ends(self):
        return [token for token in range(self.size) if C.llama_vocab_is_eog(self.vocab, token)]

    def close(self):
        C.llama_model_free(self.model)


# --- realm-node ---------------------------------------------------------------------------------------------------------

class Ours:
    def __init__(self, path):
        program = os.path.join(ROOT, "target", os.environ.get("PROFILE", "release"), "examples", "tokenize")
        ends = subprocess.run([program, path, "ends"], stdout=subprocess.PIPE, check=True, text=True).stdout
        self.end_ids = [int(line) for line in ends.split()]
        self.process = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tokenize(self, cases):
        data = b"".join(struct.pack("<IB", len(text), flags | 4) + text for text, flags in cases)

        def send():
            self.process.stdin.write(data)
            self.process.stdin.flush()

        sender = threading.Thread(target=send)
        sender.start()
        read = self.process.stdout.read
        answers = []
        for _ in cases:
            (n,) = struct.unpack("<I", read(4))
            ids = list(struct.unpack(f"<{n}I", read(4 * n)))
            (n,) = struct.unpack("<I", read(4))
            answers.append((ids, read(n)))
        sender.join()
        return answers

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# --- texts --------------------------------------------------------------------------------------------------------------

RANGES = [
    (0x20, 0x7f), (0xa0, 0x180), (0x180, 0x250), (0x2b0, 0x300), (0x370, 0x400), (0x400, 0x530), (0x530, 0x590),
    (0x590, 0x600), (0x600, 0x700), (0x900, 0x980), (0x980, 0xa00), (0xb80, 0xc00), (0xe00, 0xe80), (0xe80, 0xf00),
    (0x1000, 0x10a0), (0x10a0, 0x1100), (0x1100, 0x1200), (0x1780, 0x1800), (0x1c80, 0x1cc0), (0x1e00, 0x2000),
    (0x2000, 0x2070), (0x2070, 0x20d0), (0x2100, 0x2200), (0x2200, 0x2300), (0x2460, 0x2500), (0x2580, 0x25a0),
    (0x2c00, 0x2e00), (0x3000, 0x3040), (0x3040, 0x3100), (0x3100, 0x3190), (0x3400, 0x3500), (0x4e00, 0x9fff),
    (0xa640, 0xa830), (0xa9e0, 0xaa80), (0xab70, 0xabc0), (0xac00, 0xd7b0), (0xe000, 0xe010), (0xf900, 0xfb50),
    (0xfb50, 0xfe00), (0xfe00, 0xff00), (0xff00, 0xfff0), (0x10400, 0x104ff), (0x118a0, 0x118e0), (0x1d400, 0x1d7ff),
    (0x1e900, 0x1e960), (0x1f1e6, 0x1f200), (0x1f300, 0x1f650), (0x1f900, 0x1fa00), (0x20000, 0x20100),
    (0x2b700, 0x2b950), (0x2f800, 0x2fa20), (0xe0020, 0xe0080), (0x10fff0, 0x10fffe),
]
SPACES = [" ", " ", " ", "  ", "   ", "    ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x85", "\u00a0", "\u1680",
          "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", " \n", "\n ", " \t", "\u00a0 "]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'lL", "'D", "'", "\u2019s",
                "' s", "'st", "can't", "WE'LL", "I'm", "o'clock", "l'été", "Türkiye'nin"]
MARKS = ["\u0301", "\u0308", "\u0323", "\u093f", "\u064b", "\u05b0", "\u20e3", "\ufe0f", "\u3099", "\u0e34"]
EMOJI = ["\U0001f600", "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "1\ufe0f\u20e3",
         "\U0001f44d\U0001f3fd"]
CONTROLS = ["\0", "\x01", "\x07", "\x1b", "\x1c", "\x1f", "\x7f", "\x80", "\x9f", "\u00ad", "\u200b", "\u200d", "\u2060",
            "\ufeff", "\ufffd", "\ufffe", "\U0010ffff", "\ue000"]
WORDS = ["Hello", "world", "the", "The", "quick", "BROWN", "fOx", "straße", "naïve", "Ångström", "мир", "Привет", "世界",
         "中文字", "ひらがな", "カタカナ", "한국어", "สวัสดี", "नमस्ते", "مرحبا", "שלום", "Ωμέγα", "ǅ", "ŉ", "ſ", "K", "İ", "ﬁ",
         "e\u0301", "function", "camelCase", "snake_case", "HTTPServer2", "x86", "a", "b", "A", "i", "dna", "IMGIMGABCZ",
         "<sentinel:12>", "Ⅷ", "½", "²", "٣", "๔", "一", "〇"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "!?", "->", "!=", "//", "—", "…", "。", "，", "、", "¿", "«",
              "“", "”", "।", "۔", "،", "(", ")|", "```", "€", "±", "©", "▁", "▁▁", "##", "~~"]
LOOKALIKES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<pad>", "<0x0A>", "<0x41>", "<|user|>",
              "<|end|>", "<|assistant|>\n", "<|eot_id|>", "<|begin_of_text|>", "<|", "|>", "<", "[CLS]", "[SEP]", "[UNK]",
              "[MASK]", "<mask>", "<mask", "[EOT]", "<extra>", "<ext", "<|fim_prefix|>", "<eos>", "[PAD151646]"]


class Texts:
    def __init__(self, seed, tokens):
        self.random = random.Random(seed)
        self.characters = [
            [chr(c) for c in range(*span) if unicodedata.category(chr(c)) not in ("Cn", "Cs")] for span in RANGES
        ]
        self.tokens = tokens

    def digits(self):
        digits = self.random.choice(["0123456789", "0123456789", "0123456789", "٠١٢٣", "०१२", "²³", "1²", "１２３"])
        return "".join(self.random.choices(digits, k=self.random.choice([1, 1, 2, 3, 3, 4, 5, 6, 7, 9, 12])))

    def part(self):
        r = self.random
        kind = r.random()
        if kind < 0.22:
            return r.choice(SPACES) * r.choice([1, 1, 1, 1, 1, 2, 3, 5])
        if kind < 0.42:
            return r.choice(WORDS)
        if kind < 0.52:
            return "".join(r.choices(r.choice(self.characters), k=r.choice([1, 1, 2, 3, 5])))
        if kind < 0.62:
            return r.choice(PUNCTUATION)
        if kind < 0.70:
            return self.digits()
        if kind < 0.76:
            return r.choice(CONTRACTIONS)
        if kind < 0.80:
            return r.choice(MARKS)
        if kind < 0.83:
            return r.choice(EMOJI)
        if kind < 0.87:
            return r.choice(CONTROLS)
        if kind < 0.92:
            return r.choice(LOOKALIKES)
        if kind < 0.93:
            return r.choice([" ", "\n", "a", "1", "!", "\u3000"]) * r.choice([7, 16, 33, 70, 520])
        return r.choice(self.tokens)

    def text(self):
        count = self.random.choice([0, 1, 2, 3, 4, 5, 6, 8, 12, 20])
        return "".join(self.part() for _ in range(count)), self.random.randrange(4)


# --- vocabularies -------------------------------------------------------------------------------------------------------

def read_fixture(shared, name):
    sys.path.insert(0, os.path.join(shared, "tools"))
    import gguf_io
    path = os.path.join(shared, "fixtures", "tokenizers", name)
    if name.endswith(".gz"):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(gzip.open(path).read())
            file.flush()
            return gguf_io.Reader(file.name).kv
    return gguf_io.Reader(path).kv


STR, ARR, I32, F32, BOOL, U32, U8 = 8, 9, 5, 6, 7, 4, 0


def byte_level(text):
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    table = {b: chr(b) for b in printable}
    for b in range(256):
        table.setdefault(b, chr(256 + len(table) - len(printable)))
    return "".join(table[b] for b in text.encode())


def learn_merges(words, start, count):
    """Byte pair encoding of some words: the merges, most frequent first."""
    words = [list(word) for word in words]
    merges = []
    for _ in range(count):
        pairs = collections.Counter(pair for word in words for pair in zip(word, word[1:]))
        if not pairs:
            break
        (a, b), _ = max(pairs.items(), key=lambda item: (item[1], item[0]))
        merges.append((a, b))
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == (a, b):
                    word[i:i + 2] = [a + b]
                i += 1
    return merges


SAMPLE = ("the quick brown fox jumps over the lazy dog hello world function return camelCase HTTPServer the there then "
          "they can't won't I'm 世界 中文 世界 中文字 мир Привет naïve naïve straße 12 123 1234 2024 <extra> 한국어 한국 "
          "ab aab bba abab e\u0301 ﬁ fi Ωμέγα").split(" ")


def small_bpe(spelling):
    """A small vocabulary of characters with byte tokens, as Gemma 4 has it."""
    texts = ["\u2581" + word for word in SAMPLE] if spelling == "escaped" else SAMPLE
    merges = learn_merges(texts * 2 + [t[1:] for t in texts], None, 300)
    characters = sorted({c for text in texts for c in text})
    # A character that occurs in merges only, and one in nothing.
    characters = [c for c in characters if c not in "ßq"]
    tokens = ["<pad>", "</s>", "<s>", "<unk>", "<extra>"] + [f"<0x{b:02X}>" for b in range(256)] + characters
    tokens += ["\n", "\n\n", "\n\n\n\n"]
    tokens += [t for t in dict.fromkeys(a + b for a, b in merges) if t not in tokens and "ß" not in t and "q" not in t]
    kinds = [3, 3, 3, 2, 4] + [6] * 256 + [1] * (len(tokens) - 261)
    merges = [(a, b) for a, b in merges if a in tokens and b in tokens and a + b in tokens]
    merges = [" ".join(m) for m in merges]
    return tokens, kinds, merges


def charsmap(rules):
    """The format of src/tokenizer/charsmap.rs."""
    rules = sorted((a.encode(), b.encode()) for a, b in rules.items())
    units, used, blob = [0] * (1 << 16), [False] * (1 << 16), b""
    size = 256
    used[0] = True
    stack = [(0, b"")]
    while stack:
        node, prefix = stack.pop()
        below = [rule for rule in rules if rule[0].startswith(prefix)]
        labels = sorted({(rule[0] + b"\0")[len(prefix)] for rule in below})
        base = next(b for b in range(1, 1 << 15) if all(not used[b ^ label] for label in labels))
        size = max(size, (base | 255) + 1)
        units[node] |= (node ^ base) << 10 | (labels[0] == 0) << 8
        for label in labels:
            used[base ^ label] = True
            if label == 0:
                units[base ^ label] = 1 << 31 | len(blob)
                blob += below[0][1] + b"\0"
            else:
                units[base ^ label] = label
                stack.append((base ^ label, prefix + bytes([label])))
    array = struct.pack(f"<{size}I", *units[:size])
    return struct.pack("<I", len(array)) + array + blob


def charsmap_rules():
    """NFKC of many characters, compositions, and rules that shorten, lengthen and drop."""
    rules = {}
    for span in [(0xa0, 0x250), (0x2000, 0x2070), (0x2100, 0x2190), (0x3000, 0x3010), (0xfb00, 0xfb10), (0xff00, 0xffa0)]:
        for c in map(chr, range(*span)):
            if unicodedata.normalize("NFKC", c) != c:
                rules[c] = unicodedata.normalize("NFKC", c)
    for letter in "aeiounAEIOUN":
        for mark in "\u0301\u0308\u0303":
            composed = unicodedata.normalize("NFC", letter + mark)
            if len(composed) == 1:
                rules[letter + mark] = composed
    rules.update({"\t": " ", "\n": " ", "\r": " ", "\u200b": "", "\x07": "", "\ufeff": "", "<e": "<E"})
    return rules


def unigram(seed, **flags):
    rng = random.Random(seed)
    words = ["\u2581" + word for word in SAMPLE]
    pieces = {word[i:j] for word in words for i in range(len(word)) for j in range(i + 1, min(len(word), i + 7) + 1)}
    pieces = sorted(rng.sample(sorted(pieces), len(pieces) * 2 // 3) + ["\u2581", "a", "b", "e", "1"])
    pieces = list(dict.fromkeys(pieces))
    tokens = ["<pad>", "</s>", "<unk>", "<extra>", "<extra2>", "\u2581the quick"] + [p for p in pieces if p != "<extra>"]
    kinds = [3, 3, 2, 4, 4, 4] + [5 if rng.random() < 0.02 else 1 for _ in tokens[6:]]
    scores = [0.0] * 6 + [round(-rng.random() * 12 - 1 / len(t), 3) for t in tokens[6:]]
    kv = {"tokenizer.ggml.model": (STR, "t5"), "tokenizer.ggml.tokens": (ARR, (STR, tokens)),
          "tokenizer.ggml.token_type": (ARR, (I32, kinds)), "tokenizer.ggml.scores": (ARR, (F32, scores))}
    for key, value in flags.items():
        if key == "precompiled_charsmap":
            kv["tokenizer.ggml." + key] = (ARR, (U8, list(charsmap(charsmap_rules()))))
        else:
            kv["tokenizer.ggml." + key] = (BOOL, value)
    return kv


def small_spm(**flags):
    """SentencePiece BPE. Unlike the published ones, with a token that goes on into the next word."""
    kv = unigram(9)
    tokens = kv["tokenizer.ggml.tokens"][1][1][6:]
    scores = kv["tokenizer.ggml.scores"][1][1][6:]
    tokens = ["<unk>", "<s>", "</s>", "<extra>"] + [f"<0x{b:02X}>" for b in range(256)] + tokens + ["e\u2581", "e\u2581b"]
    kinds = [2, 3, 3, 4] + [6] * 256 + [1] * (len(tokens) - 260)
    kv = {"tokenizer.ggml.model": (STR, "llama"), "tokenizer.ggml.tokens": (ARR, (STR, tokens)),
          "tokenizer.ggml.token_type": (ARR, (I32, kinds)),
          "tokenizer.ggml.scores": (ARR, (F32, [0.0] * 260 + scores + [-5.0, -4.0]))}
    for key, value in flags.items():
        kv["tokenizer.ggml." + key] = (BOOL, value)
    return kv


def word_piece(**flags):
    words = ["the", "quick", "brown", "hello", "world", "fox", "naive", "naïve", "strasse", "straße", "ωμεγα", "мир",
             "привет", "Hello", "I", "i", "a", "b", "世", "界", "中", "1", "12", "123", "can", "t", "'", "!", "?", ".", ",", "-",
             "<", ">", "[", "]", "|", "$", "+", "~", "€", "한", "\u1112", "é", "e", "s", "k", "fi", "ﬁ", "camel"]
    tails = ["s", "ing", "case", "Case", "ello", "a", "b", "ab", "e", "t", "1", "2", "23", "国", "\u0301", "ро", "и", "in"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + ["\u2581" + word for word in words] + tails
    kv = {"tokenizer.ggml.model": (STR, "bert"), "tokenizer.ggml.tokens": (ARR, (STR, tokens)),
          "tokenizer.ggml.token_type": (ARR, (I32, [3] * 5 + [1] * (len(tokens) - 5))),
          "tokenizer.ggml.bos_token_id": (U32, 2), "tokenizer.ggml.seperator_token_id": (U32, 3),
          "tokenizer.ggml.unknown_token_id": (U32, 1), "tokenizer.ggml.padding_token_id": (U32, 0),
          "tokenizer.ggml.mask_token_id": (U32, 4)}
    for key, value in flags.items():
        kv["tokenizer.ggml.normalizer." + key] = (BOOL, value)
    return kv


def characters(model, pre, spelling, **flags):
    tokens, kinds, merges = small_bpe(spelling)
    kv = {"tokenizer.ggml.model": (STR, model), "tokenizer.ggml.pre": (STR, pre),
          "tokenizer.ggml.tokens": (ARR, (STR, tokens)), "tokenizer.ggml.token_type": (ARR, (I32, kinds)),
          "tokenizer.ggml.merges": (ARR, (STR, merges)), "tokenizer.ggml.bos_token_id": (U32, 2),
          "tokenizer.ggml.eos_token_id": (U32, 1), "tokenizer.ggml.unknown_token_id": (U32, 3)}
    for key, value in flags.items():
        kv["tokenizer.ggml." + key] = (BOOL, value)
    return kv


def small_byte_level(pre):
    """A small byte-level vocabulary, for the unit tests: a token or merge only where it shows where pieces begin."""
    words = [byte_level(w) for word in SAMPLE for w in (word, " " + word, word + "'s")]
    words += [byte_level(w) for w in ("  ", "    ", "        ", "\n\n", " \n", "!!", " !", ".\n", "123", "1 ", "\t\t", "中文世界",
                                     "'the", "'the", "中文world", "中文world", " 12", " 12", "a``", "!``", "``", ".\n")]
    merges = learn_merges(words, None, 400)
    tokens = ["<|endoftext|>", "<|start|>", "<mask>"] + [byte_level_character(b) for b in range(256)]
    # The last one is not what the merges lead to.
    tokens += [t for t in dict.fromkeys(a + b for a, b in merges) if t not in tokens] + ["zzz"]
    return {"tokenizer.ggml.model": (STR, "gpt2"), "tokenizer.ggml.pre": (STR, pre),
            "tokenizer.ggml.tokens": (ARR, (STR, tokens)),
            "tokenizer.ggml.token_type": (ARR, (I32, [3, 3, 4] + [1] * (len(tokens) - 3))),
            "tokenizer.ggml.merges": (ARR, (STR, [" ".join(m) for m in merges])),
            "tokenizer.ggml.bos_token_id": (U32, 1), "tokenizer.ggml.eos_token_id": (U32, 0)}


def byte_level_character(b):
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    return chr(b) if b in printable else chr(256 + len([x for x in range(b) if x not in printable]))


def pre_names():
    source = open(os.path.join(ROOT, "src", "tokenizer", "styles.rs"), encoding="utf-8").read()
    lists = re.findall(r"names: &\[(.*?)\]", source, re.S)
    return [name for names in lists for name in re.findall(r'"([^"]+)"', names)]


RAW = {"gemma4": "escaped", "granite-embed-multi-311m": "escaped", "sarvam-moe": "escaped", "whitespace": "plain"}
FIXTURES = ["ggml-vocab-gpt-2.gguf", "ggml-vocab-llama-bpe.gguf.gz", "ggml-vocab-llama-spm.gguf", "ggml-vocab-phi-3.gguf",
            "ggml-vocab-qwen2.gguf.gz"]


def vocabularies(shared):
    """Name, and a function that makes the metadata."""
    for file in FIXTURES:
        yield file.removeprefix("ggml-vocab-").split(".")[0], lambda file=file: read_fixture(shared, file)
    bases = [FIXTURES[0], FIXTURES[1], FIXTURES[4]]
    for i, name in enumerate(pre_names()):
        if name in RAW:
            continue

        def changed(name=name, base=bases[i % len(bases)]):
            return {**read_fixture(shared, base), "tokenizer.ggml.pre": (STR, name)}
        yield "pre=" + name, changed
    yield "spm-no-prefix", lambda: {**read_fixture(shared, FIXTURES[2]), "tokenizer.ggml.add_space_prefix": (BOOL, False),
                                    "tokenizer.ggml.add_eos_token": (BOOL, True)}
    yield from vocabularies_made_here()


def vocabularies_made_here():
    yield "gemma4", lambda: characters("gemma4", "gemma4", "escaped")
    yield "granite-embed-multi-311m", lambda: characters("gpt2", "granite-embed-multi-311m", "escaped")
    yield "sarvam-moe", lambda: characters("gpt2", "sarvam-moe", "escaped", add_bos_token=True)
    yield "whitespace", lambda: characters("whitespace", "whitespace", "plain")
    yield "whitespace-lower", lambda: {**characters("whitespace", "whitespace", "plain"),
                                       "tokenizer.ggml.normalizer.lowercase": (BOOL, True)}
    yield "spm-small", lambda: small_spm()
    yield "spm-small-no-prefix", lambda: small_spm(add_space_prefix=False, add_bos_token=False, add_eos_token=True)
    yield "modern-bert", lambda: {**small_byte_level("modern-bert"), "general.name": (STR, "ModernBERT modern-bert")}
    yield "jina-mask", lambda: small_byte_level("jina-v2-code")
    for prefix in (True, False):
        for merge in (True, False):
            name = f"unigram-{'prefix' if prefix else 'bare'}-{'merge' if merge else 'keep'}"
            yield name, lambda prefix=prefix, merge=merge: unigram(7, add_space_prefix=prefix,
                                                                    remove_extra_whitespaces=merge)
            yield name + "-charsmap", lambda prefix=prefix, merge=merge: unigram(
                8, add_space_prefix=prefix, remove_extra_whitespaces=merge, precompiled_charsmap=True)
    yield "wordpiece", lambda: word_piece()
    yield "wordpiece-cased", lambda: word_piece(lowercase=False)
    yield "wordpiece-accents", lambda: word_piece(lowercase=True, strip_accents=False)


def write(path, kv, shared):
    sys.path.insert(0, os.path.join(shared, "tools"))
    import gguf_io
    pairs = {"general.architecture": (STR, "llama"), **kv}
    gguf_io.write_gguf(path, [(key, type_, value) for key, (type_, value) in pairs.items()], [])


# --- comparison ---------------------------------------------------------------------------------------------------------

def explain(reference, text, flags, theirs, ours):
    """Why the ids are meant to differ, or None."""
    if flags & 2:
        return None
    # Without the mark of the beginning, where there is one.
    added = theirs[bool(flags & 1) and theirs[:1] == ours[:1]:]
    if any(reference.attribute(id) & (UNKNOWN | CONTROL) for id in added):
        return "llama.cpp makes a control token of text that was not to be parsed"
    if any(reference.pieces[id] in MARKS_OF_GPT_OSS for id in added):
        return "llama.cpp takes the marks of gpt-oss out of every text, we only where special tokens are to be parsed"
    return None


MARKS_OF_GPT_OSS = [b"<|channel|>", b"<|message|>", b"<|start|>", b"<|constrain|>", b"<|end|>"]


def run(name, make, args, folder):
    path = os.path.join(folder, name.replace("/", "_") + ".gguf")
    kv = make()
    write(path, kv, args.shared)
    reference, ours = Reference(path), Ours(path)
    differences = collections.Counter()
    examples = {}
    if reference.ends() != ours.end_ids:
        key = f"end tokens: llama.cpp {reference.ends()}, ours {ours.end_ids}"
        differences[key] += 1
    tokens = [piece.decode("utf-8", "ignore") for piece in reference.pieces]
    texts = Texts(f"{args.seed} {name}", tokens)
    adds_prefix = kv["tokenizer.ggml.model"][1] in ("llama", b"llama") and \
        kv.get("tokenizer.ggml.add_space_prefix", (BOOL, True))[1]
    adds_prefix = adds_prefix or kv.get("tokenizer.ggml.add_space_prefix", (BOOL, False))[1]
    done = 0
    while done < args.texts:
        cases = [texts.text() for _ in range(min(BATCH, args.texts - done))]
        cases = [(text.encode(), flags) for text, flags in cases]
        for (text, flags), (ids, decoded) in zip(cases, ours.tokenize(cases)):
            expected = reference.tokenize(text, flags)
            if ids != expected:
                why = explain(reference, text, flags, expected, ids) or "UNEXPLAINED ids"
                differences[why] += 1
                examples.setdefault(why, (text.decode(), flags, expected, ids))
                if why.startswith("UNEXPLAINED") and len(text) < len(examples[why][0].encode()):
                    examples[why] = (text.decode(), flags, expected, ids)
            pieces = b"".join(reference.pieces[id] for id in ids)
            if adds_prefix and pieces.startswith(b" "):
                pieces = pieces[1:]
            # Rust and Python disagree on how many U+FFFD stand for bytes that are not UTF-8.
            if re.sub("\ufffd+", "\ufffd", pieces.decode("utf-8", "replace")) != \
                    re.sub("\ufffd+", "\ufffd", decoded.decode()):
                # Of a vocabulary of characters, those that are also names of bytes.
                garbage = b"[UNK_BYTE_0x" in pieces or \
                    name.startswith("whitespace") and pieces.decode("utf-8", "ignore").encode() != pieces
                why = "llama.cpp reads characters as bytes" if garbage else "UNEXPLAINED decoding"
                differences[why] += 1
                examples.setdefault(why, (ids, pieces, decoded))
        done += len(cases)
    reference.close()
    ours.close()
    os.remove(path)
    unexplained = sum(n for why, n in differences.items() if not why.startswith("llama.cpp"))
    print(f"{name}: {done} texts, {unexplained} unexplained differences", flush=True)
    for why, n in differences.items():
        print(f"    {n} x {why}: {ascii(examples.get(why))}", flush=True)
    return unexplained


def measure(name, make, args, folder):
    """Milliseconds for a megabyte: what the sources of this repository say, and the words above."""
    path = os.path.join(folder, "speed.gguf")
    write(path, make(), args.shared)
    reference, ours = Reference(path), Ours(path)
    sources = [os.path.join(ROOT, file) for file in ("README.md", "CONTRIBUTING.md", "src/tokenizer/styles.rs")]
    text = "".join(open(file, encoding="utf-8").read() for file in sources) + " ".join(WORDS)
    text = (text.encode() * (1 + (1 << 20) // len(text)))[:1 << 20].decode("utf-8", "ignore").encode()
    reference.buffer = (C.llama_token * len(text))()
    times = []
    for tokenize in (lambda: ours.tokenize([(text, 0)]), lambda: reference.tokenize(text, 0)):
        samples = []
        for _ in range(3):
            start = time.perf_counter()
            tokenize()
            samples.append(time.perf_counter() - start)
        times.append(1000 * min(samples))
    print(f"{name}: {times[0]:.0f} ms (tokenize, decode, pipe), llama.cpp {times[1]:.0f} ms (tokenize)", flush=True)
    reference.close()
    ours.close()


def plain(value):
    """A metadata value as src/tokenizer/tests/vectors.rs reads it."""
    type_, value = value
    if type_ != ARR:
        return value
    return {"hex": bytes(value[1]).hex()} if value[0] == U8 else value[1]


def write_vectors(args, folder):
    texts = Texts(args.seed, ["the", " quick", "\u2581the", "<extra>", "<mask>"])
    cases = {}
    while len(cases) < 40:
        text, flags = texts.text()
        if 8 <= len(text) <= 48:
            cases[text] = flags
    # What the rules of the names differ in.
    cases["I'm he'LL  12345 1234 a  b\n\n c\r\n \tx!? (a)...  "] = 0
    cases["\u4e2d\u6587 \u3053\u308c \ud55c\uad6d e\u0301 HTTPServer x/y 1 2\n"] = 1
    cases["'the .\n .\na`` 12 中文world\nzzz the's"] = 0
    cases[" " * 70 + "x" + " " * 5 + "\n"] = 0
    path = os.path.join(folder, "vectors.gguf")

    def ids(kv):
        write(path, kv, args.shared)
        reference = Reference(path)
        answers = [reference.tokenize(text.encode(), flags) for text, flags in cases.items()]
        reference.close()
        return answers

    vocabularies = []

    def add(names, kv, answers):
        vocabularies.append({"names": names, "metadata": {key: plain(value) for key, value in kv.items()}, "ids": answers})

    by_answer = {}
    for name in pre_names():
        if name not in RAW:
            by_answer.setdefault(json.dumps(ids(small_byte_level(name))), []).append(name)
    base = small_byte_level("")
    for answers, names in by_answer.items():
        changed = {} if vocabularies else base
        add(names, changed, json.loads(answers))
    for name, make in vocabularies_made_here():
        kv = make()
        add([name], kv, ids(kv))
    document = {"texts": [[text, flags] for text, flags in cases.items()]}
    with open(args.vectors, "w", encoding="utf-8") as file:
        file.write(json.dumps(document, ensure_ascii=True, separators=(",", ":"))[:-1] + ',"vocabularies":[\n')
        file.write(",\n".join(json.dumps(v, separators=(",", ":")) for v in vocabularies) + "\n]}\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared")
    parser.add_argument("--texts", type=int, default=200000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--vectors")
    args = parser.parse_args()
    C.llama_log_set(silent, ctypes.c_void_p(0))
    C.llama_backend_init()
    unexplained = 0
    with tempfile.TemporaryDirectory() as folder:
        if args.vectors:
            return write_vectors(args, folder)
        for name, make in vocabularies(args.shared):
            if args.only and name not in args.only:
                continue
            if args.speed:
                measure(name, make, args, folder)
            else:
                unexplained += run(name, make, args, folder)
    sys.exit(unexplained > 0)


if __name__ == "__main__":
    main()
