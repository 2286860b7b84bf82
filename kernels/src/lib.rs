//! What Tallow's models compute on the CPU, as functions of slices of float32: matrix products, convolutions, norms,
//! activations, softmax, attention, optimiser steps.
//!
//! This crate knows no tensors and no gradients by name: which kernel an operation runs, and what its backward remembers, is said
//! in `tallow-models`. All `unsafe` code of the CPU is here. Everything public is safe to call: it checks the lengths of what it is
//! given, and panics where they do not fit.
//!
//! | Where | What |
//! |---|---|
//! | [`matmul`] | products, for every instruction set: AMX, AVX512-BF16, AVX-512, AVX2, NEON |
//! | [`conv`] | convolutions: directly, by Winograd's filtering, and as products of windows that are laid out; pooling |
//! | [`activation`], [`softmax`], [`cross_entropy`], [`layer_norm`], [`batch_norm`], [`group_norm`], [`residual`] | what works on rows and values |
//! | [`attention`], [`residual_branch`], [`rope`], [`gated`] | parts of a transformer's block |
//! | [`optim`], [`sum_of_squares`], [`column_sums`] | optimisers' steps and reductions |
//! | [`peak`] | the most multiply-adds that the CPU can do, measured |
//! | `simd.rs` | arithmetic that the compiler turns into vector code, and the choice of the instruction set at run time |
//! | [`value`] | values in memory: float32, or bfloat16 |
//! | `memory.rs`, `tasks.rs` | memory that kernels fill, and how they share their work among threads |
//!
//! The same operands give the same digits on the same [kernels](matmul::Kernels), however many threads there are, but for sums over a batch, which depend on how
//! many tasks it is shared out to.

#![deny(missing_docs)]

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod column_sums;
pub mod conv;
pub mod cross_entropy;
pub mod gated;
pub mod group_norm;
pub mod layer_norm;
pub mod matmul;
mod memory;
pub mod optim;
pub mod patches;
pub mod peak;
#[cfg(test)]
mod random;
pub mod residual;
pub mod residual_branch;
pub mod rms_norm;
pub mod rope;
mod rows;
mod simd;
pub mod softmax;
pub mod sum_of_squares;
mod tasks;
mod transpose;
pub mod value;
