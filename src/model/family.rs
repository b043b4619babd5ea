//! What differs between families of models. The forward pass is written once; a family is a table entry.
use crate::kernels::{Glu, NormKind, Rotation};

pub struct Family {
    /// `general.architecture` in the file, and prefix of its hyper-parameters' keys.
    pub architecture: &'static str,
    /// Of every norm; says which key holds epsilon.
    pub norm: NormKind,
    pub block: Block,
    /// The tensor of the norm before the feed-forward network.
    pub ffn_norm: &'static str,
    /// Norm of queries and keys before they are rotated.
    pub qk_norm: QkNorm,
    /// Which elements of a head are rotated together. Files of the llama family have their query and key rows permuted
    /// for interleaved pairs.
    pub rotation: Rotation,
    pub rotated: Rotated,
    /// Angles in layers with a window.
    pub local_rope: LocalRope,
    pub window: Window,
    pub activation: Activation,
    /// The weights of the chosen experts are scaled to sum to 1.
    pub weights_sum_to_one: bool,
    /// Experts are chosen by their sigmoid and a learned bias, not by softmax.
    pub choice_bias: bool,
    /// Attention sinks: a learned logit per head.
    pub sinks: bool,
    /// Embeddings are multiplied by the root of their length.
    pub root_embedding: bool,
    /// The file gives scales of embeddings, residuals, attention and logits (Granite's multipliers).
    pub multipliers: bool,
    pub logit_scale: LogitScale,
    /// Defaults of the soft caps of attention and final logits; `None`: this family has no such thing.
    pub soft_caps: [Option<f32>; 2],
    /// The size whose attention is scaled by embedding length / heads instead of the head dimension, by its number of
    /// layers: nothing in the file says so (27B of Gemma 2 and 3, `query_pre_attn_scalar` of the published configuration).
    pub scaled_by_width: Option<usize>,
    /// Queries may grow with their position (key `attention.temperature_scale`).
    pub temperature: bool,
    /// What layers without attention have in its place.
    pub recurrent: Recurrent,
    /// Each head's query comes with a gate for what the head attends to.
    pub gated_attention: bool,
    /// Rotations come in interleaved sections for images and text, which turn alike where there is only text.
    pub rope_sections: bool,
    /// The tensor of the norm before the output matrix.
    pub output_norm: &'static str,
}

/// Layers that keep a state of fixed size instead of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recurrent {
    None,
    /// A gated short convolution, in layers that the file gives no key/value heads.
    ShortConv,
    /// A gated delta net, in all layers but every n-th (key `full_attention_interval`) or those that the file lists.
    DeltaNet,
}

/// Where a layer's norms are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Before attention and feed-forward network.
    Before,
    /// After them, before their result is added.
    After,
    Both,
    /// One norm, before both, which run side by side (Wang and Komatsuzaki 2021, GPT-J).
    Parallel,
    /// As `Before`, or as `Parallel` in files without the second norm.
    BeforeOrParallel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// One weight for every head.
    Heads,
    /// One weight for the whole row.
    Rows,
    /// A weight for each head, in files that have it.
    EachHeadIfPresent,
}

/// Layers whose queries and keys are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    All,
    /// Those with a window, where there are windows at all.
    Windowed,
    /// All but every n-th.
    AllBut(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalRope {
    /// As everywhere, but key `rope.freq_base_swa` may give another base.
    Same,
    /// Without the scaling of the others.
    Unscaled,
    /// Of a base of its own (key `rope.freq_base_swa`, default 10000), without scaling.
    Own,
}

/// Sliding windows of attention (key `attention.sliding_window`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    None,
    /// All layers but every n-th (0: all) have one, if the file says nothing else.
    AllBut(usize),
    /// As `AllBut`, of 4096 positions if the file says nothing else.
    AllButDefault4096(usize),
    /// As `AllBut`, in models of this many layers.
    OfLayers {
        layers: usize,
        all_but: usize,
    },
}

/// What is between the two matrices of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Two inner products.
    Gated(Glu),
    /// GELU of one.
    Gelu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitScale {
    None,
    Multiply,
    Divide,
}

impl Family {
    pub fn of(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.architecture == architecture)
    }

    /// Queries and keys are normed row by row, not head by head.
    pub fn norms_rows(&self) -> bool {
        self.qk_norm == QkNorm::Rows
    }
}

const LLAMA: Family = Family {
    architecture: "llama",
    norm: NormKind::Rms,
    block: Block::Before,
    ffn_norm: "ffn_norm",
    qk_norm: QkNorm::None,
    rotation: Rotation::Interleaved,
    rotated: Rotated::All,
    local_rope: LocalRope::Same,
    window: Window::None,
    activation: Activation::Gated(Glu::Silu),
    weights_sum_to_one: true,
    choice_bias: false,
    sinks: false,
    root_embedding: false,
    multipliers: false,
    logit_scale: LogitScale::None,
    soft_caps: [None; 2],
    scaled_by_width: None,
    temperature: false,
    recurrent: Recurrent::None,
    gated_attention: false,
    rope_sections: false,
    output_norm: "output_norm",
};

const QWEN2: Family = Family { architecture: "qwen2", rotation: Rotation::Halves, ..LLAMA };

const QWEN3: Family = Family { architecture: "qwen3", qk_norm: QkNorm::Heads, ..QWEN2 };

const GEMMA: Family = Family {
    architecture: "gemma",
    rotation: Rotation::Halves,
    activation: Activation::Gated(Glu::Gelu),
    root_embedding: true,
    ..LLAMA
};

const GRANITE: Family = Family { architecture: "granite", multipliers: true, logit_scale: LogitScale::Divide, ..LLAMA };

const STARCODER2: Family = Family {
    architecture: "starcoder2",
    norm: NormKind::Layer,
    rotation: Rotation::Halves,
    activation: Activation::Gelu,
    ..LLAMA
};

const COMMAND_R: Family = Family {
    architecture: "command-r",
    norm: NormKind::Layer,
    block: Block::Parallel,
    qk_norm: QkNorm::EachHeadIfPresent,
    logit_scale: LogitScale::Multiply,
    ..LLAMA
};

const LFM2: Family = Family {
    architecture: "lfm2",
    qk_norm: QkNorm::Heads,
    rotation: Rotation::Halves,
    window: Window::AllBut(0),
    recurrent: Recurrent::ShortConv,
    output_norm: "token_embd_norm",
    ..LLAMA
};

const QWEN35: Family = Family {
    architecture: "qwen35",
    ffn_norm: "post_attention_norm",
    recurrent: Recurrent::DeltaNet,
    gated_attention: true,
    rope_sections: true,
    ..QWEN3
};

/// Families that run.
pub static FAMILIES: &[Family] = &[
    LLAMA,
    Family { architecture: "mistral3", temperature: true, ..LLAMA },
    QWEN2,
    Family { architecture: "qwen2moe", weights_sum_to_one: false, ..QWEN2 },
    Family { architecture: "olmoe", qk_norm: QkNorm::Rows, weights_sum_to_one: false, ..QWEN2 },
    QWEN3,
    Family { architecture: "qwen3moe", ..QWEN3 },
    GEMMA,
    Family {
        architecture: "gemma2",
        block: Block::Both,
        window: Window::AllButDefault4096(2),
        soft_caps: [Some(50.0), Some(30.0)],
        scaled_by_width: Some(46),
        ..GEMMA
    },
    Family {
        architecture: "gemma3",
        block: Block::Both,
        qk_norm: QkNorm::Heads,
        window: Window::AllBut(6),
        local_rope: LocalRope::Own,
        soft_caps: [None, Some(0.0)],
        scaled_by_width: Some(62),
        ..GEMMA
    },
    Family { architecture: "phi2", block: Block::Parallel, ..STARCODER2 },
    Family { architecture: "phi3", rotation: Rotation::Halves, ..LLAMA },
    GRANITE,
    Family { architecture: "granitemoe", ..GRANITE },
    Family {
        architecture: "olmo2",
        block: Block::After,
        qk_norm: QkNorm::Rows,
        rotation: Rotation::Halves,
        window: Window::AllBut(4),
        local_rope: LocalRope::Unscaled,
        ..LLAMA
    },
    Family { architecture: "smollm3", rotated: Rotated::AllBut(4), ..LLAMA },
    Family {
        architecture: "gpt-oss",
        ffn_norm: "post_attention_norm",
        rotation: Rotation::Halves,
        window: Window::AllBut(2),
        activation: Activation::Gated(Glu::Oai),
        sinks: true,
        ..LLAMA
    },
    STARCODER2,
    Family {
        architecture: "stablelm",
        norm: NormKind::Layer,
        block: Block::BeforeOrParallel,
        qk_norm: QkNorm::EachHeadIfPresent,
        rotation: Rotation::Halves,
        ..LLAMA
    },
    COMMAND_R,
    Family {
        architecture: "cohere2",
        qk_norm: QkNorm::None,
        rotated: Rotated::Windowed,
        window: Window::AllBut(4),
        ..COMMAND_R
    },
    Family {
        architecture: "exaone4",
        block: Block::After,
        qk_norm: QkNorm::Heads,
        rotation: Rotation::Halves,
        rotated: Rotated::Windowed,
        window: Window::OfLayers { layers: 64, all_but: 4 },
        ..LLAMA
    },
    Family { architecture: "glm4", block: Block::Both, ..LLAMA },
    LFM2,
    Family { architecture: "lfm2moe", choice_bias: true, ..LFM2 },
    QWEN35,
    Family { architecture: "qwen35moe", ..QWEN35 },
];
