//! Downloads from the Hugging Face hub: cache, revisions, tokens, progress, verification.
