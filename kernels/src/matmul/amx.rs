//! Blocks of a product on the tile registers of AMX.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::cell::UnsafeCell;

use super::bfloat16::{Line, ROWS, Sums, TILE};

/// Whether the CPU has tiles for bfloat16 and the kernel lets this process use them.
pub fn amx_is_allowed() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    // SAFETY: every x86-64 CPU has the instruction.
    #[allow(unused_unsafe, reason = "safe in newer compilers, not in the oldest that is supported")]
    let (most, features) = unsafe { (__cpuid(0).eax, __cpuid_count(7, 0).edx) };
    if most < 7 || features & (AMX_BF16 | AMX_TILE) != AMX_BF16 | AMX_TILE {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XFEATURE_XTILEDATA: u64 = 18;
        let result: i64;
        // SAFETY: a system call that only changes what this process may use; it says so if it does not know the question.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA, out("rcx") _, out("r11") _);
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// One piece of assembly from the sums' start to their store, so that no sum is ever in a tile register where the compiler could
/// touch it: zeros, or what rows at `from` hold; then `steps`, which add to the tiles 0 to 3; then rows at `to`.
macro_rules! from_start_to_store {
    ([$($step:literal),* $(,)?], ($from:expr, $from_stride:expr) => ($to:expr, $to_stride:expr), $($operands:tt)*) => {
        asm!(
            "test {from}, {from}", "jnz 6f",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", "jmp 7f",
            "6:",
            "tileloadd tmm0, [{from} + {from_stride}*1]", "tileloadd tmm1, [{from} + {from_stride}*1 + 64]",
            "tileloadd tmm2, [{from_lower} + {from_stride}*1]", "tileloadd tmm3, [{from_lower} + {from_stride}*1 + 64]",
            "7:",
            $($step,)*
            "tilestored [{to} + {to_stride}*1], tmm0", "tilestored [{to} + {to_stride}*1 + 64], tmm1",
            "tilestored [{to_lower} + {to_stride}*1], tmm2", "tilestored [{to_lower} + {to_stride}*1 + 64], tmm3",
            $($operands)*
            from = in(reg) $from, from_lower = in(reg) $from.wrapping_add(ROWS * $from_stride),
            from_stride = in(reg) 4 * $from_stride, to = in(reg) $to, to_lower = in(reg) $to.wrapping_add(ROWS * $to_stride),
            to_stride = in(reg) 4 * $to_stride, out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _, options(nostack)
        )
    };
}

/// The tile registers while they are set up: 8 tiles of 16 rows of 64 bytes. 0 to 3 hold sums, 4 and 5 the left operand, 6 and
/// 7 the right one.
pub struct Tiles {
    /// Where a store goes that nobody reads.
    idle: UnsafeCell<[Line; TILE / 64]>,
}

impl Tiles {
    /// # Safety
    /// The process must be allowed to use them.
    pub unsafe fn configure() -> Self {
        #[repr(align(64))]
        struct Config([u8; 64]);
        static CONFIG: Config = Config({
            let mut config = [0; 64];
            config[0] = 1;
            let mut tile = 0;
            while tile < 8 {
                config[16 + 2 * tile] = 64;
                config[48 + tile] = ROWS as u8;
                tile += 1;
            }
            config
        });
        // SAFETY: the caller's.
        unsafe { asm!("ldtilecfg [{}]", in(reg) CONFIG.0.as_ptr(), options(nostack, readonly)) };
        Self { idle: UnsafeCell::new([Line([0; 64]); TILE / 64]) }
    }

    /// The sums of a whole block.
    ///
    /// # Safety
    /// `a` and `b` must be tiles of `steps` steps, one at least; the sums' places valid for a block.
    #[inline]
    pub(super) unsafe fn block<const PARTS: usize>(&self, a: *const u8, b: *const u8, steps: usize, sums: Sums) {
        let Sums { from, from_stride, to, to_stride } = sums;
        // SAFETY: the caller's; all tile registers are declared to be written.
        unsafe {
            if PARTS == 3 {
                // The parts in an order in which every piece loads one pair of tiles only, small products first. Four steps,
                // then a store that nobody reads: measured on a Xeon with AMX, the stores at the end of a block hold up the
                // next one for two steps' time if more than five steps passed without a store.
                from_start_to_store!(
                    [
                        ".macro tallow_step a, b, row",
                        "tileloadd tmm4, [\\a + \\row + 4096]", "tileloadd tmm6, [\\b + \\row]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [\\b + \\row + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [\\a + \\row + 5120]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                        "tileloadd tmm4, [\\a + \\row + 2048]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [\\a + \\row + 3072]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                        "tileloadd tmm6, [\\b + \\row + 2048]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6",
                        "tileloadd tmm7, [\\b + \\row + 3072]", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm3, tmm5, tmm7",
                        "tileloadd tmm4, [\\a + \\row]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [\\a + \\row + 1024]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                        "tileloadd tmm6, [\\b + \\row + 4096]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6",
                        "tileloadd tmm7, [\\b + \\row + 5120]", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm3, tmm5, tmm7",
                        "tileloadd tmm6, [\\b + \\row]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6",
                        "tileloadd tmm7, [\\b + \\row + 1024]", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm3, tmm5, tmm7",
                        "add \\a, 6144", "add \\b, 6144",
                        ".endm",
                        "test {fours}, {fours}", "jz 3f",
                        "2:", ".rept 4", "tallow_step {a}, {b}, {row}", ".endr",
                        "tilestored [{idle} + {row}], tmm0", "dec {fours}", "jnz 2b",
                        "3:", "test {rest}, {rest}", "jz 5f",
                        "4:", "tallow_step {a}, {b}, {row}", "dec {rest}", "jnz 4b",
                        "5:", ".purgem tallow_step",
                    ],
                    (from, from_stride) => (to, to_stride),
                    a = inout(reg) a => _, b = inout(reg) b => _, fours = inout(reg) steps / 4 => _,
                    rest = inout(reg) steps % 4 => _, row = in(reg) 64_usize, idle = in(reg) self.idle.get(),
                );
            } else if PARTS == 2 {
                // As above.
                from_start_to_store!(
                    [
                        "2:",
                        "tileloadd tmm4, [{a} + {row} + 2048]", "tileloadd tmm6, [{b} + {row}]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [{b} + {row} + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{a} + {row} + 3072]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                        "tileloadd tmm4, [{a} + {row}]", "tileloadd tmm6, [{b} + {row} + 2048]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [{b} + {row} + 3072]", "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{a} + {row} + 1024]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                        "tileloadd tmm6, [{b} + {row}]", "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6",
                        "tileloadd tmm7, [{b} + {row} + 1024]", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm3, tmm5, tmm7",
                        "add {a}, 4096", "add {b}, 4096", "dec {steps}", "jnz 2b",
                    ],
                    (from, from_stride) => (to, to_stride),
                    a = inout(reg) a => _, b = inout(reg) b => _, steps = inout(reg) steps => _, row = in(reg) 64_usize,
                );
            } else {
                from_start_to_store!(
                    [
                        "2:",
                        "tileloadd tmm4, [{a} + {row}]", "tileloadd tmm6, [{b} + {row}]",
                        "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [{b} + {row} + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{a} + {row} + 1024]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                        "add {a}, 2048", "add {b}, 2048", "dec {steps}", "jnz 2b",
                    ],
                    (from, from_stride) => (to, to_stride),
                    a = inout(reg) a => _, b = inout(reg) b => _, steps = inout(reg) steps => _, row = in(reg) 64_usize,
                );
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they were set up. Released, they need not be saved when threads take turns.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
