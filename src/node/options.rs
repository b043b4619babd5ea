//! `GenerateOptions`: what may be asked of a generation, and the checks.
use super::{
    args::{Arg, MAX_SAFE_INTEGER, Options},
    cache::KV_TYPES,
    errors::{Checked, Failure},
};
use crate::engine::{self, Overflow};
use napi::{
    ValueType,
    bindgen_prelude::{Object, Unknown},
};
use napi_derive::napi;

const KNOWN: [&str; 19] = [
    "maxTokens",
    "temperature",
    "topK",
    "topP",
    "minP",
    "seed",
    "repeatPenalty",
    "frequencyPenalty",
    "presencePenalty",
    "penaltyLastN",
    "stop",
    "logitBias",
    "ignoreEos",
    "logprobs",
    "overflow",
    "kvType",
    "priority",
    "cachePrompt",
    "signal",
];

/// Options of `generate` and `generateStream`. Where no default is given, the model's own (`general.sampling.*` in its
/// file) counts before the one that is written here.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `generate_options`.
pub struct GenerateOptions {
    /// The most tokens to generate. Default: until an end token or until the context is full.
    pub max_tokens: Option<f64>,
    /// 0 always takes the likeliest token, ties going to the lower id. Default: the model's, else 0.8.
    pub temperature: Option<f64>,
    /// Keeps the k likeliest tokens; 0 keeps all. Default: the model's, else 40.
    pub top_k: Option<f64>,
    /// Keeps the likeliest tokens that together have this probability, 0 to 1. Default: the model's, else 0.95.
    pub top_p: Option<f64>,
    /// Keeps tokens at least this likely relative to the likeliest, 0 to 1. Default: the model's, else 0.05.
    pub min_p: Option<f64>,
    /// An integer from 0 to 2^53 - 1. The same seed gives the same tokens. Default: a random one, told in the result.
    pub seed: Option<f64>,
    /// Divides (or multiplies, where negative) the logits of tokens that occurred; 1 does nothing.
    pub repeat_penalty: Option<f64>,
    /// Subtracted from a token's logit for each time that it occurred.
    pub frequency_penalty: Option<f64>,
    /// Subtracted once from the logit of each token that occurred.
    pub presence_penalty: Option<f64>,
    /// How many of the last tokens, the prompt's included, the penalties look at; -1 for all.
    pub penalty_last_n: Option<f64>,
    /// Text that ends the generation; it is not part of the result.
    #[napi(ts_type = "string | string[]")]
    pub stop: Option<()>,
    /// Added to the logits of these tokens; `-Infinity` bans one.
    #[napi(ts_type = "Record<number, number>")]
    pub logit_bias: Option<()>,
    /// Goes on after an end token. Default: `false`.
    pub ignore_eos: Option<bool>,
    /// Reports log probabilities: 0 of the chosen tokens only, n also of the n likeliest at each place.
    pub logprobs: Option<f64>,
    /// What to do when prompt and answer do not fit into the context: refuse before any work, or go on without the middle.
    /// The first sixteenth of the context and the latest half stay; their keys are moved to their new positions (and with
    /// `kvType` `'f16'` or `'q8_0'` rounded once more), so what was dropped keeps its influence on them. A request that has
    /// dropped something holds its memory until it ends. `'shift'` is an `ERR_REALM_UNSUPPORTED` error for models with
    /// recurrent layers (LFM2, Qwen3.5), whose state cannot be moved. Default: `'error'`.
    #[napi(ts_type = "'error' | 'shift'")]
    pub overflow: Option<()>,
    /// How keys and values are stored. Default: what `storeModel` was told, else `'f16'`.
    #[napi(ts_type = "'f32' | 'f16' | 'q8_0'")]
    pub kv_type: Option<()>,
    /// Among waiting requests, higher ones go first, and memory that is short goes to them. Default: 0.
    pub priority: Option<f64>,
    /// Begins where other requests with the same first tokens have been, and leaves its own keys and values to later ones
    /// as long as nothing else needs the memory. The answer does not depend on it. Default: `true`.
    pub cache_prompt: Option<bool>,
    /// Ends the request; it rejects with `signal.reason`.
    #[napi(ts_type = "AbortSignal")]
    pub signal: Option<()>,
}

pub fn options<'env>(value: Unknown<'env>) -> Checked<Options<'env>> {
    Options::new("options", value, &KNOWN)
}

/// Everything but `signal`.
pub fn generate_options(options: &Options) -> Checked<engine::GenerateOptions> {
    let fraction = |arg: Arg| Ok(arg.number("a number from 0 to 1", |x| (0.0..=1.0).contains(&x))? as f32);
    let finite = |arg: Arg| Ok(arg.number("a finite number", |x| (x as f32).is_finite())? as f32);
    let above =
        |arg: Arg, least: f64, expected| Ok(arg.number(expected, |x| x >= least && (x as f32).is_finite())? as f32);
    Ok(engine::GenerateOptions {
        max_tokens: options.read("maxTokens", |arg| arg.integer(0..=u32::MAX.into()))?,
        temperature: options.read("temperature", |arg| above(arg, 0.0, "a finite number that is not negative"))?,
        top_k: options.read("topK", |arg| arg.integer(0..=u32::MAX.into()))?,
        top_p: options.read("topP", fraction)?,
        min_p: options.read("minP", fraction)?,
        seed: options.read("seed", |arg| arg.integer(0..=MAX_SAFE_INTEGER))?,
        repeat_penalty: options
            .read("repeatPenalty", |arg| above(arg, f32::MIN_POSITIVE.into(), "a finite number above 0"))?,
        frequency_penalty: options.read("frequencyPenalty", finite)?,
        presence_penalty: options.read("presencePenalty", finite)?,
        penalty_last_n: options.read("penaltyLastN", penalty_last_n)?,
        stop: options.read("stop", stop)?.unwrap_or_default(),
        logit_bias: options.read("logitBias", logit_bias)?.unwrap_or_default(),
        ignore_eos: options.bool("ignoreEos", false)?,
        logprobs: options.read("logprobs", |arg| arg.integer(0..=u32::MAX.into()))?,
        overflow: options
            .read("overflow", |arg| arg.one_of(&[("error", Overflow::Error), ("shift", Overflow::Shift)]))?
            .unwrap_or_default(),
        kv_type: options.read("kvType", |arg| arg.one_of(&KV_TYPES))?,
        cache_prompt: options.bool("cachePrompt", true)?,
        whole: false,
        priority: options.read("priority", |arg| arg.integer(i32::MIN.into()..=i32::MAX.into()))?.unwrap_or(0),
    })
}

/// -1 is the whole text.
fn penalty_last_n(arg: Arg) -> Checked<Option<u32>> {
    let n: i64 = arg.integer(-1..=u32::MAX.into())?;
    Ok(u32::try_from(n).ok())
}

fn stop(arg: Arg) -> Checked<Vec<String>> {
    let text = |arg: &Arg| {
        let text = arg.string()?;
        if text.is_empty() { Err(arg.out_of_range("a string that is not empty")) } else { Ok(text) }
    };
    if arg.is(ValueType::String)? {
        return Ok(vec![text(&arg)?]);
    }
    arg.elements("a string or an array of strings")?.map(|element| text(&element?)).collect()
}

fn logit_bias(arg: Arg) -> Checked<Vec<(u32, f32)>> {
    let object = arg.object()?;
    let bias = |key: String| {
        let token = key
            .parse()
            .map_err(|_| Failure::Range(format!("the keys of {} must be token ids, got {key:?}", arg.name())))?;
        let value = object.get::<Unknown>(&key)?;
        let value = value.ok_or_else(|| Failure::Type(format!("{}.{key} must be a number", arg.name())))?;
        let value = Arg::new(format!("{}.{key}", arg.name()), value);
        let bias = value.number("a number below Infinity", |x| x < f64::INFINITY)? as f32;
        // What a float cannot hold is as good as infinite; the sampler wants no +Infinity.
        Ok((token, bias.min(f32::MAX)))
    };
    Object::keys(&object)?.into_iter().map(bias).collect()
}
