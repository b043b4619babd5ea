//! Block formats of GGUF: layout, dequantise a row, quantise activations.
