"""Writes families.json: small models of families and their corners, and the logits that llama.cpp computes for them.

    pip install gguf==0.19.0 numpy llama-cpp-python==0.3.36 && python3 make.py

The document holds no weights: element i of a tensor is mean + spread * u, u in [-1, 1) from a hash of the tensor's name
and i (`weights` below, and its twin in ../tests.rs). A `*` in a tensor's name stands for the number of each layer.
llama.cpp runs with one thread, an F32 cache, no flash attention and no repacked weights.
"""

import ctypes
import json
import math
import os
import pathlib
import tempfile

import gguf
import llama_cpp.llama_cpp as C
import numpy as np

TOKENS, VOCABULARY, CONTEXT = 90, 37, 256
ROWS = [0, 37, TOKENS - 1]


def weights(name: str, count: int, mean: float, spread: float) -> np.ndarray:
    """FNV-1a of the name, then splitmix64 of the index."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (mean + spread * ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1)).astype(np.float32)


class Case:
    """A model in the making. `mixers`: a letter for each layer, `a` for attention, another for a recurrent one."""

    def __init__(self, name, arch, n=24, layers=2, heads=4, kv_heads=2, head_dim=None, ff=40, eps=1e-3, mixers=None, **keys):
        layers = len(mixers) if mixers else layers
        self.name, self.arch, self.layers, self.keys, self.tensors = name, arch, layers, [], []
        self.mixers, self.only = mixers, None
        self.n, self.ff, self.d, self.heads, self.kv_heads = n, ff, head_dim or n // heads, heads, kv_heads
        for key, value in dict(context_length=CONTEXT, embedding_length=n, block_count=layers, feed_forward_length=ff).items():
            self.key(key, value)
        self.key("attention.head_count", heads)
        self.key("attention.head_count_kv", [kv_heads * (kind == "a") for kind in mixers] if arch.startswith("lfm2") else kv_heads)
        if head_dim:
            self.key("attention.key_length", head_dim)
            self.key("attention.value_length", head_dim)
        layer_norm = arch in ("phi2", "stablelm", "command-r", "cohere2", "starcoder2")
        self.key("attention.layer_norm_epsilon" if layer_norm else "attention.layer_norm_rms_epsilon", eps)
        self.key("vocab_size", VOCABULARY)
        for key, value in keys.items():
            self.key(key.replace("__", "."), value)
        self.tensor("token_embd.weight", VOCABULARY, n)
        self.norm("token_embd_norm" if arch.startswith("lfm2") else "output_norm", n, bias=arch in ("phi2", "stablelm", "starcoder2"))

    def key(self, name, value):
        self.keys.append([f"{self.arch}.{name}", value])

    def on(self, only):
        """What follows is of the layers with this letter, or with these numbers; of all again after `None`."""
        self.only = [i for i, mixer in enumerate(self.mixers) if mixer == only] if isinstance(only, str) else only
        return self

    def tensor(self, name, *shape):
        if "*" in name and self.only:
            for layer in self.only:
                self.tensor(name.replace("*", str(layer)), *shape)
            return
        if "_norm.weight" in name:
            mean, spread = 1, 0.4
        elif name == "token_embd.weight":
            mean, spread = 0, 1.5
        elif name.endswith("ssm_a"):
            mean, spread = -0.6, 0.5
        elif name.endswith(".bias") or "sinks" in name:
            mean, spread = 0.1, 0.5
        else:
            mean, spread = 0, round(3 / math.sqrt(shape[-1]), 3)
        self.tensors.append([name, list(shape), mean, spread])

    def norm(self, name, *shape, bias=False):
        self.tensor(f"{name}.weight", *shape)
        if bias:
            self.tensor(f"{name}.bias", *shape)

    def linear(self, name, rows, cols, bias=False):
        self.tensor(f"{name}.weight", rows, cols)
        if bias:
            self.tensor(f"{name}.bias", rows)

    def output(self, bias=False):
        self.linear("output", VOCABULARY, self.n, bias)
        return self

    def attention(self, bias=False, out_bias=False, fused=False, qk_norm=None, gated=False):
        queries, keys = self.heads * self.d, self.kv_heads * self.d
        if fused:
            self.linear("blk.*.attn_qkv", queries + 2 * keys, self.n, bias)
        else:
            for part, rows in (("q", queries), ("k", keys), ("v", keys)):
                self.linear(f"blk.*.attn_{part}", rows * (2 if gated and part == "q" else 1), self.n, bias)
        shapes = {"heads": [(self.d,)] * 2, "rows": [(queries,), (keys,)],
                  "each": [(self.heads, self.d), (self.kv_heads, self.d)]}.get(qk_norm, [])
        for part, shape in zip("qk", shapes):
            self.norm(f"blk.*.attn_{part}_norm", *shape)
        self.linear("blk.*.attn_output", self.n, queries, out_bias)
        return self

    def norms(self, *names, bias=False):
        for name in names:
            self.norm(f"blk.*.{name}", self.n, bias=bias)
        return self

    def dense(self, gate=True, bias=False, fused=False):
        if gate and not fused:
            self.linear("blk.*.ffn_gate", self.ff, self.n, bias)
        self.linear("blk.*.ffn_up", self.ff * (2 if fused else 1), self.n, bias)
        self.linear("blk.*.ffn_down", self.n, self.ff, bias)
        return self

    def experts(self, count, used, ff, shared=0, shared_gate=False, bias=False):
        self.key("expert_count", count)
        self.key("expert_used_count", used)
        self.linear("blk.*.ffn_gate_inp", count, self.n, bias)
        for part, shape in (("gate", (ff, self.n)), ("up", (ff, self.n)), ("down", (self.n, ff))):
            self.tensor(f"blk.*.ffn_{part}_exps.weight", count, *shape)
            if bias:
                self.tensor(f"blk.*.ffn_{part}_exps.bias", count, shape[0])
        if shared:
            self.key("expert_shared_feed_forward_length", shared)
            for part, shape in (("gate", (shared, self.n)), ("up", (shared, self.n)), ("down", (self.n, shared))):
                self.tensor(f"blk.*.ffn_{part}_shexp.weight", *shape)
            if shared_gate:
                self.tensor("blk.*.ffn_gate_inp_shexp.weight", self.n)
        return self

    def shortconv(self, kernel):
        self.key("shortconv.l_cache", kernel)
        self.linear("blk.*.shortconv.in_proj", 3 * self.n, self.n)
        self.tensor("blk.*.shortconv.conv.weight", self.n, kernel)
        self.linear("blk.*.shortconv.out_proj", self.n, self.n)
        return self

    def delta_net(self, kernel, dim, key_heads, value_heads):
        values = dim * value_heads
        qkv = 2 * dim * key_heads + values
        for key, value in (("conv_kernel", kernel), ("state_size", dim), ("group_count", key_heads),
                           ("time_step_rank", value_heads), ("inner_size", values)):
            self.key(f"ssm.{key}", value)
        self.linear("blk.*.attn_qkv", qkv, self.n)
        self.linear("blk.*.attn_gate", values, self.n)
        self.tensor("blk.*.ssm_conv1d.weight", qkv, kernel)
        self.tensor("blk.*.ssm_dt.bias", value_heads)
        self.tensor("blk.*.ssm_a", value_heads)
        self.linear("blk.*.ssm_alpha", value_heads, self.n)
        self.linear("blk.*.ssm_beta", value_heads, self.n)
        self.norm("blk.*.ssm_norm", dim)
        self.linear("blk.*.ssm_out", self.n, values)
        return self

    def sinks(self):
        self.tensor("blk.*.attn_sinks.weight", self.heads)
        return self


PRE, POST = ("attn_norm", "ffn_norm"), ("post_attention_norm", "post_ffw_norm")
ALL = PRE + POST


def cases():
    yield Case("llama, biases, wide heads", "llama", head_dim=10).norms(*PRE).attention(True, True).dense(bias=True)
    yield Case("llama, seven experts", "llama").norms(*PRE).attention().experts(7, 3, 40).output()
    yield Case("mistral3", "mistral3", layers=2, head_dim=8, attention__temperature_scale=0.3, rope__scaling__type="yarn",
               rope__scaling__factor=4.0, rope__scaling__original_context_length=16,
               rope__scaling__yarn_log_multiplier=0.5, rope__scaling__yarn_beta_fast=20.0).norms(*PRE).attention().dense()
    yield Case("qwen2", "qwen2", kv_heads=1).norms(*PRE).attention(True).dense().output(True)
    yield (Case("qwen2moe", "qwen2moe", expert_feed_forward_length=12).norms(*PRE).attention(True)
           .experts(6, 4, 12, 20, True).output())
    yield (Case("olmoe", "olmoe", kv_heads=4, ff=14).norms(*PRE).attention(qk_norm="rows").experts(10, 3, 14).output())
    yield Case("qwen3, narrow heads", "qwen3", head_dim=4).norms(*PRE).attention(qk_norm="heads").dense()
    yield (Case("qwen3moe", "qwen3moe", head_dim=10, expert_feed_forward_length=9).norms(*PRE).attention(qk_norm="heads")
           .experts(11, 5, 9).output())
    yield Case("gemma", "gemma", head_dim=10).norms(*PRE).attention().dense()
    yield (Case("gemma2 of 46 layers", "gemma2", n=12, layers=46, ff=16, head_dim=8, attention__sliding_window=7,
                attn_logit_softcapping=3.0, final_logit_softcapping=9.0).norms(*ALL).attention().dense())
    yield (Case("gemma3, listed windows", "gemma3", layers=4, head_dim=8, attention__sliding_window=13, rope__freq_base=5e4,
                rope__freq_base_swa=50.0, rope__scaling__type="linear", rope__scaling__factor=8.0,
                attention__sliding_window_pattern=[False, True, True, False], final_logit_softcapping=5.0)
           .norms(*ALL).attention(qk_norm="heads").dense())
    yield (Case("gemma3 of 62 layers", "gemma3", n=12, layers=62, ff=16, head_dim=8, attention__sliding_window=70)
           .norms(*ALL).attention(qk_norm="heads").dense())
    yield (Case("phi2", "phi2", kv_heads=4, rope__dimension_count=4).norms("attn_norm", bias=True)
           .attention(True, True, fused=True).dense(False, True).output(True))
    yield Case("phi3, shared keys", "phi3", rope__dimension_count=4).norms(*PRE).attention(fused=True).dense(fused=True).output()
    yield (Case("granite, not rotated", "granite", rope__scaling__finetuned=False, embedding_scale=3.0, residual_scale=0.4,
                attention__scale=0.3, logit_scale=2.0).norms(*PRE).attention().dense())
    yield (Case("granitemoe", "granitemoe", embedding_scale=2.0, residual_scale=0.5, attention__scale=0.5, logit_scale=1.5)
           .norms(*PRE).attention().experts(5, 2, 40, 14))
    yield Case("olmo2", "olmo2", kv_heads=2).norms(*POST).attention(qk_norm="rows").dense().output()
    yield (Case("olmo2, windows", "olmo2", layers=5, attention__sliding_window=66, rope__scaling__type="yarn",
                rope__scaling__factor=8.0, rope__scaling__original_context_length=32, rope__scaling__attn_factor=1.1)
           .norms(*POST).attention(qk_norm="rows").dense().output())
    yield Case("smollm3", "smollm3", layers=5).norms(*PRE).attention().dense()
    yield (Case("gpt-oss", "gpt-oss", head_dim=8, expert_feed_forward_length=18, attention__sliding_window=3)
           .norms("attn_norm", "post_attention_norm").attention(True, True).experts(5, 3, 18, bias=True).sinks().output())
    yield (Case("starcoder2", "starcoder2", kv_heads=1).norms(*PRE, bias=True).attention(True, True).dense(False, True))
    yield (Case("stablelm", "stablelm", rope__dimension_count=2, use_parallel_residual=False).norms(*PRE, bias=True)
           .attention(True).dense().output())
    yield (Case("stablelm, side by side", "stablelm", rope__dimension_count=4, use_parallel_residual=True)
           .norms("attn_norm", bias=True).attention(qk_norm="each").dense().output())
    yield Case("command-r", "command-r", logit_scale=0.3).norms("attn_norm").attention().dense()
    yield (Case("command-r of 64 layers", "command-r", n=12, layers=64, heads=3, kv_heads=3, ff=16, logit_scale=0.3)
           .norms("attn_norm").attention(qk_norm="each").dense())
    yield (Case("cohere2", "cohere2", layers=5, attention__sliding_window=5, logit_scale=0.5).norms("attn_norm")
           .attention().dense())
    yield Case("exaone4", "exaone4", n=24).norms(*POST).attention(qk_norm="heads").dense()
    yield (Case("exaone4 of 64 layers", "exaone4", n=12, layers=64, heads=3, kv_heads=1, ff=16, attention__sliding_window=9)
           .norms(*POST).attention(qk_norm="heads").dense().output())
    yield (Case("glm4", "glm4", head_dim=12, rope__dimension_count=6).norms(*ALL).attention(True).dense(fused=True).output())

    yield (Case("lfm2", "lfm2", mixers="ccacca").norms(*PRE).on("c").shortconv(3).on("a").attention(qk_norm="heads")
           .on(None).dense())
    yield (Case("lfm2, a long convolution", "lfm2", n=130, heads=5, kv_heads=5, mixers="acac", rope__freq_base=1e3)
           .norms(*PRE).on("c").shortconv(5).on("a").attention(qk_norm="heads").on(None).dense().output())
    yield (Case("lfm2, two inputs", "lfm2", n=30, heads=3, kv_heads=1, mixers="ccca")
           .norms(*PRE).on("c").shortconv(2).on("a").attention(qk_norm="heads").on(None).dense())

    moe = (Case("lfm2moe", "lfm2moe", mixers="cacca", leading_dense_block_count=2, expert_gating_func=2,
                expert_feed_forward_length=12)
           .norms(*PRE).on("c").shortconv(3).on("a").attention(qk_norm="heads").on([0, 1]).dense().on([2, 3, 4])
           .experts(7, 3, 12))
    moe.tensor("blk.*.exp_probs_b.bias", 7)
    yield moe
    post = ("attn_norm", "post_attention_norm")
    yield (Case("qwen35", "qwen35", mixers="dddadd", head_dim=12, rope__dimension_count=8, rope__dimension_sections=[2, 1, 1, 0])
           .norms(*post).on("d").delta_net(4, 8, 2, 4).on("a").attention(qk_norm="heads", gated=True).on(None).dense())
    yield (Case("qwen35, odd heads", "qwen35", n=33, heads=3, kv_heads=1, head_dim=10, mixers="adaad",
                rope__dimension_sections=[2, 2, 1, 0], attention__recurrent_layers=[False, True, False, False, True])
           .norms(*post).on("d").delta_net(3, 19, 1, 3).on("a").attention(qk_norm="heads", gated=True).on(None).dense()
           .output())
    yield (Case("qwen35, every other layer", "qwen35", mixers="dada", head_dim=16, full_attention_interval=2,
                rope__dimension_sections=[3, 3, 2, 0])
           .norms(*post).on("d").delta_net(2, 32, 3, 6).on("a").attention(qk_norm="heads", gated=True).on(None).dense())
    yield (Case("qwen35moe", "qwen35moe", mixers="ddda", head_dim=8, rope__dimension_sections=[2, 1, 1, 0],
                expert_feed_forward_length=12)
           .norms(*post).on("d").delta_net(4, 16, 2, 2).on("a").attention(qk_norm="heads", gated=True).on(None)
           .experts(6, 4, 12, 20, True).output())


def write(case: Case, path: str) -> None:
    writer = gguf.GGUFWriter(path, case.arch)
    writer.add_string("tokenizer.ggml.model", "none")
    for key, value in case.keys:
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
               list: writer.add_array}[type(value)]
        add(key, value)
    for name, shape, mean, spread in case.tensors:
        for layer in range(case.layers) if "*" in name else [0]:
            full = name.replace("*", str(layer))
            writer.add_tensor(full, weights(full, math.prod(shape), mean, spread).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(path: str, ids: list[int]) -> np.ndarray:
    params = C.llama_model_default_params()
    params.n_gpu_layers, params.use_extra_bufts = 0, False
    model = C.llama_model_load_from_file(path.encode(), params)
    assert model, f"llama.cpp does not load {path}"
    params = C.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type, params.type_k, params.type_v, params.swa_full = 0, 0, 0, True
    context = C.llama_init_from_model(model, params)
    batch = C.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    assert C.llama_decode(context, batch) == 0
    row = lambda i: np.ctypeslib.as_array(C.llama_get_logits_ith(context, i), (VOCABULARY,)).copy()
    found = np.stack([row(i) for i in range(len(ids))])
    C.llama_batch_free(batch)
    C.llama_free(context)
    C.llama_model_free(model)
    return found


@C.llama_log_callback
def log(level, text, _):
    if level >= 4:
        print(text.decode(), end="")


def main():
    C.llama_log_set(log, ctypes.c_void_p(0))
    C.llama_backend_init()
    ids = [(i * i * 7 + i * 3) % VOCABULARY for i in range(TOKENS)]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            path = os.path.join(folder, "model.gguf")
            write(case, path)
            found = logits(path, ids)
            print(f"{case.name}: logits of {found.std():.2f}, rows {np.abs(found[ROWS[1]] - found[ROWS[2]]).mean():.2f} apart")
            lines.append(json.dumps({
                "name": case.name, "architecture": case.arch, "layers": case.layers, "keys": case.keys,
                "tensors": case.tensors, "logits": [[float(f"{x:.7g}") for x in found[row]] for row in ROWS],
            }))
    document = json.dumps({"ids": ids, "context": CONTEXT, "rows": ROWS})[:-1] + ', "models": [\n' + ",\n".join(lines) + "\n]}\n"
    pathlib.Path(__file__).with_name("families.json").write_text(document)


if __name__ == "__main__":
    main()
