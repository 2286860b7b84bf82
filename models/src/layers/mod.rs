//! Layers: parameters and the operations that use them.
