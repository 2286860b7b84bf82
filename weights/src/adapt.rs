//! Making tensors fit: position embeddings, patches, channels.
