//! CUDA's libraries as this program found them when it started; see libraries.c.

#[cfg(tallow_cuda_libraries)]
mod found {
    use std::ffi::{CStr, c_char};

    unsafe extern "C" {
        fn tallow_cuda_problem() -> *const c_char;
    }

    pub fn problem() -> Option<String> {
        // SAFETY: it gives null, or a text that ends with a zero and does not change after the start.
        unsafe {
            let text = tallow_cuda_problem();
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

/// Why CUDA cannot be used on this machine: the driver or one of the libraries that was not found, in the loader's words. None
/// if all are there (which does not say that there is a device), and on platforms where the loader demands them.
pub fn problem() -> Option<String> {
    #[cfg(tallow_cuda_libraries)]
    return found::problem();
    #[cfg(not(tallow_cuda_libraries))]
    None
}
