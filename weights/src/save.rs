//! Writing weights for others: timm's layout, GGUF.
