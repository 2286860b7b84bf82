//! Whose names a checkpoint uses, and what they are in timm's.
