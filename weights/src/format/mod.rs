//! File formats: safetensors, GGUF, npz, PyTorch.
