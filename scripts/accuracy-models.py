#!/usr/bin/env python3
"""Compares the errors of realm-node and llama.cpp on random models that the reference data do not hold.

  scripts/accuracy-models.py SHARED [--models 400] [--seed 1] [--only NAME ...]

SHARED is the folder of the reference data; its tools make the models (random shapes, families, block formats, weights)
and compute their exact logits: float64 on the dequantised weights. Families that these tools do not know come from
src/model/testdata/make.py, and are judged by llama.cpp on the dequantised weights in F32, whose own error is
thousands of times smaller than that of a quantised file. Needs `npm run build`, and gguf, numpy and llama-cpp-python
from PyPI.

llama.cpp runs twice: by its defaults (F16 cache, repacked weights, flash attention where it chooses) and "tight" (F32
cache, no flash attention, no repacking). The rule is that of the reference data: with an F16 cache our error may be that
of the worse of the two and a tenth, with an F32 cache that of the tight one and a tenth, for the relative L2 error over
all positions, the median of the positions' and the mean KL divergence.

Prints every model beyond the rule, and by format and family: the share of models where we are closer to exact, geometric
means of ours / theirs for each error, the worst of two, and the mean with an F32 cache. Two engines that round
differently differ by chance on a single model, the more so where a router stands between two experts or attention
between two positions: judge by means and medians, and look at what is listed. Fails when the geometric mean of all
relative L2 errors is above 1, or when we refuse a model that llama.cpp runs.
"""
import argparse
import collections
import functools
import importlib.util
import json
import math
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile

import gguf
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONTEXT = 512
METRICS = ["rel_l2", "rel_l2_median_position", "kl_mean"]
# Formats that the tools do not write: where the block's F16 scale stands; None where there is none.
BITWISE = {"iq1_s": 0, "iq1_m": None, "iq2_xxs": 0, "iq2_xs": 0, "iq2_s": 0, "iq3_xxs": 0, "iq3_s": 0, "tq1_0": 52,
           "tq2_0": 64, "nvfp4": None}
FLOATS = ["f32", "f16", "bf16"]
FORMATS = [*FLOATS, "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m", "q5_k_s",
           "q5_k_m", "q6_k", "iq4_nl", "iq4_xs", "mxfp4", *BITWISE, *["mixed"] * 4]
# What a matrix of a mixed file may be.
TYPES = [*FLOATS, "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "mxfp4",
         *BITWISE]
MIXTURES = ["qwen2moe", "qwen3moe", "granitemoe", "olmoe", "gpt-oss", "mixtral", "lfm2moe", "qwen35moe"]


# --- models of the tools ------------------------------------------------------------------------------------------------

SYNTHETIC = ["llama", "mixtral", "mistral3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3",
             "granite", "granitemoe", "olmo2", "olmoe", "smollm3", "gpt-oss", "starcoder2", "stablelm", "cohere2", "exaone4"]


# What llama.cpp takes for granted.
WIDTH_OF_HEADS = ["qwen2", "qwen2moe", "phi3", "olmo2", "olmoe", "starcoder2", "stablelm", "cohere2", "exaone4", "phi2",
                  "command-r", "lfm2", "lfm2moe"]
UNTIED, TIED = ["olmo2", "olmoe", "qwen2moe", "gpt-oss", "stablelm"], ["gemma", "gemma2", "gemma3", "cohere2"]
ROTATES_A_PART = ["phi3", "stablelm"]


def heads_and_width(rnd, family):
    """Heads, key/value heads, head_dim and n_embd: mostly not those of published models."""
    kv_heads = rnd.choice([1, 1, 2, 3, 5])
    heads = kv_heads * rnd.choice([1, 2, 3, 4, 5, 7, 8])
    kv_heads = heads if family == "olmoe" else kv_heads
    head_dim = rnd.choice([8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256])
    if family not in WIDTH_OF_HEADS:
        return heads, kv_heads, head_dim, rnd.choice([32, 64, 96, 160, 256, 256, 288, 320, 512, 512, 544, 768])
    while heads * head_dim > 1280:
        head_dim = head_dim // 2 // 8 * 8 or 8
    return heads, kv_heads, head_dim, heads * head_dim


def shape(rnd, family):
    """Hyper-parameters for synth_gguf.py."""
    heads, kv_heads, head_dim, n = heads_and_width(rnd, family)
    hp = dict(n_embd=n, n_layer=rnd.choice([1, 2, 3, 5]), n_head=heads, n_head_kv=kv_heads, head_dim=head_dim,
              n_ff=rnd.choice([32, 96, 224, 256, 416, 512, 768]), n_vocab=rnd.choice([257, 331, 512, 1000, 1023]),
              n_ctx=CONTEXT, eps=rnd.choice([1e-6, 1e-5, 0.02]), rope_base=rnd.choice([1e4, 5e5, 1e6]),
              tie=family not in UNTIED and (family in TIED or rnd.random() < 0.5))
    if family in ROTATES_A_PART and head_dim >= 16 and rnd.random() < 0.7:
        hp["rope_dim"] = head_dim // 4 * 2
    if family in ("gemma2", "gemma3", "gpt-oss", "cohere2", "olmo2"):
        hp["swa"] = rnd.choice([1, 3, 7, 17, 33, 64, 65, 100])
        if family != "gemma2" and rnd.random() < 0.5:
            hp["swa_pattern"] = rnd.choice([2, 3, 4])
    if family == "olmo2" and rnd.random() < 0.5:
        hp["swa"] = 0
    if family == "gemma3" and rnd.random() < 0.5:
        hp["rope_base_swa"] = 5000.0
    if family in MIXTURES:
        experts = rnd.choice([2, 3, 5, 7, 8, 12, 33])
        hp.update(n_expert=experts, n_expert_used=rnd.randint(1, min(experts, 6)))
        if family in ("qwen2moe", "qwen3moe", "gpt-oss"):
            hp["n_ff_exp"] = rnd.choice([32, 96, 160, 256])
        if family == "qwen2moe" or family == "granitemoe" and rnd.random() < 0.5:
            hp["n_ff_shexp"] = rnd.choice([32, 96, 256])
    if family == "gpt-oss":
        hp["bias"] = True
    if family == "stablelm":
        hp["parallel"] = rnd.random() < 0.5
    if family == "llama":
        scaling = rnd.choice(["", "linear", "yarn", "freqs"])
        if scaling == "freqs" and "rope_dim" not in hp:
            hp.update(rope_freqs=True, rope_orig_ctx=rnd.choice([64, 8192]))
        elif scaling in ("linear", "yarn"):
            hp.update(rope_scaling=scaling, rope_factor=rnd.choice([2.0, 4.0]), rope_orig_ctx=rnd.choice([64, 128]))
    if family == "phi3" and rnd.random() < 0.5:
        hp.update(rope_scaling="longrope", rope_orig_ctx=rnd.choice([128, 2048]))
    return hp


def synthetic(rnd, family, ftype, path):
    """Writes a model of synth_gguf.py; its hyper-parameters, and a function of ids for the exact logits."""
    import exact, synth_gguf
    hp = {**synth_gguf.DEF, **shape(rnd, family)}
    arch = "llama" if family == "mixtral" else family
    base = tool_format(ftype)
    builder = synth_gguf.build(arch, hp, base, rnd.randrange(10**6))
    keys = [("general.architecture", synth_gguf.STR, arch), *builder.kvs, ("tokenizer.ggml.model", synth_gguf.STR, "none")]
    tensors = builder.tensors if ftype == base else [in_format(rnd, ftype, *tensor) for tensor in builder.tensors]
    synth_gguf.write_gguf(path, keys, tensors)
    changed = {key: value for key, value in hp.items() if value != synth_gguf.DEF[key]}
    return changed, lambda ids: exact.Exact(path, CONTEXT).forward(ids)[0]


def tool_format(ftype):
    """The format in which the tools write a model whose matrices then get another."""
    return "iq4_xs" if ftype in BITWISE or ftype == "mixed" else ftype


def block(type_):
    """A type's number in files, and the elements and bytes of its blocks."""
    kind = gguf.GGMLQuantizationType[type_.upper()]
    return kind, *gguf.GGML_QUANT_SIZES[kind]


def random_blocks(rng, type_, elements, std):
    """Blocks of random bits with one scale, such that their values have this standard deviation."""
    kind, size, length = block(type_)
    blocks = rng.integers(0, 256, (elements // size, length), dtype=np.uint8)
    if type_ == "tq2_0":  # Its codes of two bits are 0 to 2.
        codes = rng.integers(0, 3, (len(blocks), 64, 4), dtype=np.uint8)
        blocks[:, :64] = np.bitwise_or.reduce(codes << np.arange(0, 8, 2, dtype=np.uint8), axis=-1)

    def scale(value):
        if type_ == "nvfp4":  # Scales are unsigned floats with four bits of exponent.
            blocks[:, :4] = np.clip(np.round(8 * math.log2(value) + 56), 1, 126) + rng.integers(0, 2, (len(blocks), 4))
            return
        bits = np.frombuffer(np.float16(value).tobytes(), np.uint8)
        if type_ == "iq1_m":  # Its scale lies in the upper quarters of four words.
            for i in range(4):
                nibble = bits[i // 2] >> 4 * (i % 2) & 15
                blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | nibble << 4
        else:
            blocks[:, BITWISE[type_]:BITWISE[type_] + 2] = bits

    scale(1.0)
    scale(std / float(np.sqrt(np.mean(np.square(gguf.quants.dequantize(blocks, kind), dtype=np.float64)))))
    return blocks


def in_format(rnd, ftype, name, ne, type_, make):
    """The tensor in a format that the tools don't choose, if it is one that may be quantised and its rows are whole blocks:
    one of BITWISE, or with `mixed` any."""
    import gguf_io, quant_blocks
    if type_ == "f32" or ftype != "mixed" and name in ("output.weight", "token_embd.weight"):
        return name, ne, type_, make
    if ftype == "mixed":
        ftype = rnd.choice([new for new in TYPES if ne[0] % block(new)[1] == 0])
    kind, size, length = block(ftype)
    if ne[0] % size:
        return name, ne, type_, make
    std = root_mean_square(name, ne, type_, make)
    seed = rnd.randrange(2**32)
    if ftype not in BITWISE:
        ftype = next(known for known in gguf_io.GGML if known.lower() == ftype)
        return name, ne, ftype, lambda: quant_blocks.chunks(ftype, math.prod(ne), std, np.random.default_rng(seed))
    gguf_io.GGML[ftype] = (int(kind), size, length)
    gguf_io.GGML_BY_ID[int(kind)] = (ftype, size, length)
    return name, ne, ftype, lambda: [random_blocks(np.random.default_rng(seed), ftype, math.prod(ne), std).tobytes()]


def root_mean_square(name, ne, type_, make):
    import exact, gguf_io
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        gguf_io.write_gguf(file.name, [], [(name, ne, type_, make)])
        return float(np.sqrt(np.mean(np.square(exact.dequant(gguf_io.Reader(file.name), name), dtype=np.float64))))


# --- models of src/model/testdata/make.py -------------------------------------------------------------------------------

def small_cases():
    path = os.path.join(ROOT, "src", "model", "testdata", "make.py")
    spec = importlib.util.spec_from_file_location("make", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mixers(rnd, letter):
    kinds = rnd.choices("a" + letter, [1, 2], k=rnd.choice([2, 3, 5]))
    kinds[rnd.randrange(len(kinds))] = letter
    return "".join(kinds) if "a" in kinds else "a" + "".join(kinds)


def sections(pairs):
    """Every third pair of the rotation for each of three axes: of a text, all have the same position."""
    return [(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3, 0]


def other(make, rnd, family):
    """A model of a family or corner that synth_gguf.py doesn't know."""
    make.VOCABULARY = rnd.choice([37, 257, 1000])
    heads, kv_heads, head_dim, n = heads_and_width(rnd, family)
    common = dict(n=n, heads=heads, kv_heads=kv_heads, ff=rnd.choice([96, 256, 416, 512]), eps=rnd.choice([1e-6, 1e-5, 1e-3]))
    wide = dict(common, head_dim=head_dim, layers=rnd.choice([1, 2, 3, 5]))
    part = rnd.choice([head_dim, head_dim // 4 * 2])
    experts, used = (count := rnd.choice([3, 6, 7, 12])), rnd.randint(1, min(count, 4))
    Case, PRE, POST = make.Case, make.PRE, make.POST
    if family == "mistral3":
        return Case(family, family, **wide, attention__temperature_scale=0.3, rope__scaling__type="yarn",
                    rope__scaling__factor=4.0, rope__scaling__original_context_length=32,
                    rope__scaling__yarn_log_multiplier=0.5).norms(*PRE).attention().dense()
    if family == "llama":
        return Case(family, family, **wide).norms(*PRE).attention(True, True).dense(bias=True).output()
    if family == "phi2":
        return (Case(family, family, **wide, rope__dimension_count=part).norms("attn_norm", bias=True)
                .attention(True, True, fused=True).dense(False, True).output(True))
    if family == "command-r":
        return Case(family, family, **wide, logit_scale=0.3).norms("attn_norm").attention().dense()
    if family == "stablelm":
        return (Case(family, family, **wide, rope__dimension_count=part, use_parallel_residual=True)
                .norms("attn_norm", bias=True).attention(qk_norm="each").dense().output())
    if family == "glm4":
        return (Case(family, family, **wide, rope__dimension_count=part).norms(*make.ALL)
                .attention(rnd.random() < 0.5).dense(fused=True).output())
    if family == "gemma3":
        wide["layers"] = 4
        return (Case(family, family, **wide, attention__sliding_window=rnd.choice([5, 13, 70]), rope__freq_base=5e4,
                     rope__freq_base_swa=50.0, attention__sliding_window_pattern=[False, True, True, False],
                     final_logit_softcapping=5.0).norms(*make.ALL).attention(qk_norm="heads").dense())
    if family == "granite":
        return (Case(family, family, **wide, rope__scaling__finetuned=False, embedding_scale=3.0, residual_scale=0.4,
                     attention__scale=0.3, logit_scale=2.0).norms(*PRE).attention().dense())
    if family == "lfm2":
        return (Case(family, family, **common, mixers=mixers(rnd, "c")).norms(*PRE).on("c").shortconv(rnd.randint(2, 5))
                .on("a").attention(qk_norm="heads").on(None).dense())
    if family == "lfm2moe":
        layers = mixers(rnd, "c") + "c"
        ff = rnd.choice([32, 96, 256])
        case = (Case(family, family, **common, mixers=layers, leading_dense_block_count=1, expert_gating_func=2,
                     expert_feed_forward_length=ff).norms(*PRE).on("c").shortconv(3).on("a").attention(qk_norm="heads")
                .on([0]).dense().on(range(1, len(layers))).experts(experts, used, ff))
        case.tensor("blk.*.exp_probs_b.bias", experts)
        return case
    keys = rnd.choice([1, 2, 3])
    net = (rnd.randint(2, 4), rnd.choice([16, 32, 64, 128]), keys, keys * rnd.choice([1, 2, 3]))
    layers = mixers(rnd, "d")
    part = max(part, 8)
    case = Case(family, family, **common, head_dim=head_dim, mixers=layers, rope__dimension_count=part,
                rope__dimension_sections=sections(part // 2), expert_feed_forward_length=96,
                attention__recurrent_layers=[kind == "d" for kind in layers])
    case = (case.norms("attn_norm", "post_attention_norm").on("d").delta_net(*net).on("a")
            .attention(qk_norm="heads", gated=True).on(None))
    return case.experts(experts, used, 96, 160, True).output() if family == "qwen35moe" else case.dense()


OTHER = ["mistral3", "llama", "phi2", "command-r", "stablelm", "glm4", "gemma3", "granite", "lfm2", "lfm2moe", "qwen35",
         "qwen35moe"]


def write_case(make, rnd, case, ftype, path):
    """Writes a case with its matrices in a block format; a function of ids for the reference's logits."""
    import gguf_io, lcpp, quant_blocks, reference, synth_gguf
    numbers = {bool: gguf_io.BOOL, int: gguf_io.U32, float: gguf_io.F32, str: gguf_io.STR}
    keys = [("general.architecture", gguf_io.STR, case.arch), ("tokenizer.ggml.model", gguf_io.STR, "none")]
    for key, value in case.keys:
        many = isinstance(value, list)
        keys.append((key, gguf_io.ARR, (numbers[type(value[0])], value)) if many else (key, numbers[type(value)], value))
    experts = dict(case.keys).get(f"{case.arch}.expert_count", 0)
    hp = dict(n_layer=case.layers, n_expert=experts, n_head=case.heads, n_head_kv=case.kv_heads,
              tie=all(name != "output.weight" for name, *_ in case.tensors))
    seed, base, tensors = rnd.randrange(10**6), tool_format(ftype), []
    for pattern, dims, mean, spread in case.tensors:
        for layer in range(case.layers) if "*" in pattern else [0]:
            name, ne = pattern.replace("*", str(layer)), tuple(reversed(dims))
            small = "conv" in name and "proj" not in name or "ssm_a" == name.rsplit(".", 1)[-1]
            type_ = "f32" if small else synth_gguf.pick_type(base, name, ne, hp)
            blocks = functools.partial(quant_blocks.chunks, type_, math.prod(ne), spread / math.sqrt(3),
                                       mean=mean if type_ == "f32" else 0.0)
            tensor = (name, ne, type_, lambda blocks=blocks, name=name: blocks(rng=quant_blocks.make_rng(seed, name)))
            tensors.append(tensor if ftype == base else in_format(rnd, ftype, *tensor))
    gguf_io.write_gguf(path, keys, tensors)

    def reference_logits(ids):
        reference.to_f32(path, path + ".f32")
        model = lcpp.Model(path + ".f32")
        logits = model.context(CONTEXT).eval(ids).astype(np.float64)
        model.close()
        os.unlink(path + ".f32")
        return logits

    return {"n_vocab": make.VOCABULARY, "n_embd": case.n, "head_dim": case.d, **dict(case.keys)}, reference_logits


# --- comparison ---------------------------------------------------------------------------------------------------------

class Ours:
    def __init__(self, folder):
        self.output = os.path.join(folder, "logits")
        self.process = subprocess.Popen(["node", os.path.join(ROOT, "scripts", "logits.mjs")], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def logits(self, model, ids, cache):
        question = {"model": model, "ids": ids, "cache": cache, "context": CONTEXT, "output": self.output}
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if not isinstance(answer, int):
            raise ValueError(answer["error"])
        return np.fromfile(self.output, "<f4").reshape(len(ids), -1)


def reference_errors(path, ids, exact_logits):
    """The exact logits, and llama.cpp's errors: tight and by its defaults. It may end the process: call it in another."""
    import lcpp, reference
    exact = exact_logits(ids)
    model = lcpp.Model(path)
    tight = reference.errors(model.context(CONTEXT).eval(ids), exact)
    model.close()
    return exact, tight, reference.errors(reference.default_logits(path, ids), exact)


def in_child(function, *arguments):
    """The result of a function that may end its process."""
    def run(pipe):
        try:
            pipe.send(function(*arguments))
        except RuntimeError as error:
            pipe.send(error)

    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=run, args=(there,))
    child.start()
    there.close()
    try:
        result = here.recv()
    except EOFError:
        result = RuntimeError("llama.cpp ended its process")
    child.join()
    if isinstance(result, RuntimeError):
        raise result
    return result


def compare(ours, path, ids, exact_logits):
    """For both caches and each metric: our error, and llama.cpp's, or that of plain F32 arithmetic in another order."""
    import reference
    exact, tight, default = in_child(reference_errors, path, ids, exact_logits)
    floor = {k: v / 1.1 for k, v in reference.tolerance(dict.fromkeys(tight, 0.0)).items() if k in METRICS}
    theirs = {"f16": {k: max(tight[k], default[k], floor[k]) for k in METRICS},
              "f32": {k: max(tight[k], floor[k]) for k in METRICS}}
    found = {cache: reference.errors(ours.logits(path, ids, cache), exact) for cache in theirs}
    return {cache: {k: (found[cache][k], theirs[cache][k]) for k in METRICS} for cache in theirs}


COLUMNS = ["models", "closer", "rel_l2", "median", "KL", "worst rel_l2", "worst median", "rel_l2, F32 cache"]


def mean(results, cache, metric):
    """Geometric mean of ours / theirs."""
    return math.exp(np.mean([math.log(max(r[cache][metric][0] / r[cache][metric][1], 1e-9)) for r in results]))


def table(title, groups):
    print("\n" + title.ljust(26) + " ".join(column.rjust(max(7, len(column))) for column in COLUMNS))
    for name, results in groups.items():
        ratios = {k: [r["f16"][k][0] / r["f16"][k][1] for r in results] for k in METRICS}
        closer = sum(ratio < 1 for ratio in ratios["rel_l2"]) / len(results)
        values = [len(results), f"{closer:.0%}", *(mean(results, "f16", k) for k in METRICS),
                  *(max(ratios[k]) for k in METRICS[:2]), mean(results, "f32", "rel_l2")]
        texts = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]
        print(name.ljust(26) + " ".join(text.rjust(max(7, len(column))) for text, column in zip(texts, COLUMNS)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared")
    parser.add_argument("--models", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="families or formats")
    args = parser.parse_args()
    sys.path.insert(0, os.path.join(args.shared, "tools"))
    make = small_cases()
    families = [(family, True) for family in SYNTHETIC] + [(family, False) for family in OTHER]
    results, beyond, left_out, refused = [], 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        ours, path = Ours(folder), os.path.join(folder, "model.gguf")
        for i in range(args.models):
            rnd = random.Random(f"{args.seed} {i}")
            family, known = families[i % len(families)]
            ftype = rnd.choice(FORMATS if known else FORMATS[len(FLOATS):])
            if args.only and not {family, ftype} & set(args.only):
                continue
            if known:
                hp, exact = synthetic(rnd, family, ftype, path)
            else:
                hp, exact = write_case(make, rnd, other(make, rnd, family), ftype, path)
            ids = [rnd.randrange(hp["n_vocab"]) for _ in range(rnd.choice([33, 70, 131, 300]))]
            name = f"{i} {family} {ftype}, {len(ids)} tokens"
            try:
                result = compare(ours, path, ids, exact)
            except RuntimeError as error:
                print(f"{name}: not compared, {error}; {hp}", flush=True)
                left_out += 1
                continue
            except ValueError as error:
                print(f"{name}: REFUSED by us alone, {error}; {hp}", flush=True)
                refused += 1
                continue
            kind = "float" if ftype in FLOATS else "mixture" if family in MIXTURES else "dense"
            results.append((kind, family if known else family + " *", ftype, result))
            over = [f"{cache} {k} {a:.2e} of {b:.2e}" for cache in result for k, (a, b) in result[cache].items() if a > 1.1 * b]
            if over:
                beyond += 1
                print(f"{name}: {', '.join(over)}; {hp}", flush=True)
    for title, key in (("kind", 0), ("format", 2), ("family (* F32 reference)", 1)):
        groups = collections.defaultdict(list)
        for result in sorted(results, key=lambda result: result[key]):
            groups[result[key]].append(result[3])
        table(title, groups)
    print(f"\n{len(results)} models, {beyond} beyond the rule; {left_out} not loaded by llama.cpp, {refused} by us alone")
    sys.exit(refused > 0 or mean([result[3] for result in results], "f16", "rel_l2") > 1)


if __name__ == "__main__":
    main()
