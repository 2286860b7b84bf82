//! Operations with a correct backward: a fused CPU kernel, and a composition of Candle's own differentiable ops that serves
//! every other device and type and is what the kernels are tested against.
//!
//! Every function chooses by itself: float32 on the CPU runs the kernel, all else the composition (`composed` in each file).
//! The backward works only for the operands that need a gradient.
