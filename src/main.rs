//! The `tallow` binary.

// A step allocates and frees hundreds of tensors of the same sizes; the system's allocator gives their pages back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tallow::cli::main()
}
