// CUDA's libraries, looked for when the program starts. Linked in the usual way, a binary does not even start where one of them
// is missing; this one runs, on the CPU, and can say which it is.
//
// Every function that is called is a jump through a slot. Slots are filled before anything else runs; what is not found stays a
// function that gives an error of its library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

#include "libraries.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define VERSION TEXT(TALLOW_CUDA_MAJOR)

// CUDA_ERROR_NO_DEVICE and cudaErrorNoDevice, CUBLAS_STATUS_NOT_INITIALIZED, CURAND_STATUS_INITIALIZATION_FAILED,
// NVRTC_ERROR_INTERNAL_ERROR.
static int no_device(void) { return 100; }
static int no_cublas(void) { return 1; }
static int no_curand(void) { return 203; }
static int no_nvrtc(void) { return 11; }

#if defined(__x86_64__)
#define JUMP(name) "    jmp *tallow_slot_" #name "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(name)                                                                                                      \
    "    adrp x16, tallow_slot_" #name "\n    ldr x16, [x16, :lo12:tallow_slot_" #name "]\n    br x16\n"
#endif

// A slot, and the function that jumps through it.
#define SLOT(name, otherwise)                                                                                          \
    __attribute__((visibility("hidden"))) void *tallow_slot_##name = (void *)otherwise;                                \
    __asm__(".text\n.globl " #name "\n.type " #name ", %function\n" #name ":\n" JUMP(name) ".size " #name ", . - " #name "\n");
#define OF_DRIVER(name) SLOT(name, no_device)
#define OF_CUBLAS(name) SLOT(name, no_cublas)
#define OF_CURAND(name) SLOT(name, no_curand)
#define OF_NVRTC(name) SLOT(name, no_nvrtc)
DRIVER(OF_DRIVER)
RUNTIME(OF_DRIVER)
CUBLAS(OF_CUBLAS)
CUBLASLT(OF_CUBLAS)
CURAND(OF_CURAND)
NVRTC(OF_NVRTC)

struct Slot {
    const char *name;
    void **slot;
};
#define ENTRY(name) {#name, &tallow_slot_##name},
static const struct Slot driver[] = {DRIVER(ENTRY)};
static const struct Slot runtime[] = {RUNTIME(ENTRY)};
static const struct Slot cublas[] = {CUBLAS(ENTRY)};
static const struct Slot cublas_lt[] = {CUBLASLT(ENTRY)};
static const struct Slot curand[] = {CURAND(ENTRY)};
static const struct Slot nvrtc[] = {NVRTC(ENTRY)};

static char problem[512];

// What is missing for CUDA to be used, or null.
const char *tallow_cuda_problem(void) { return problem[0] ? problem : NULL; }

// Fills slots from the first of the files that is there; gives whether there is one.
static int fill(const char *const *files, const struct Slot *slots, size_t count) {
    void *library = NULL;
    for (; *files && !library; files++) {
        library = dlopen(*files, RTLD_LAZY | RTLD_GLOBAL);
        if (!library && !problem[0]) snprintf(problem, sizeof problem, "%s", dlerror());
    }
    if (!library) return 0;
    problem[0] = 0;
    for (size_t i = 0; i < count; i++) {
        void *found = dlsym(library, slots[i].name);
        if (found) *slots[i].slot = found;
    }
    return 1;
}

#define FILL(slots, ...) fill((const char *const[]){__VA_ARGS__, NULL}, slots, sizeof slots / sizeof slots[0])

// Before the constructors of CUDA's own objects, which register kernels.
__attribute__((constructor(101))) static void find_libraries(void) {
    // Without a driver the others are of no use, and take long to load.
    if (!FILL(driver, "libcuda.so.1")) return;
    if (!FILL(runtime, "libcudart.so." VERSION, "libcudart.so")) return;
    if (!FILL(cublas_lt, "libcublasLt.so." VERSION, "libcublasLt.so")) return;
    if (!FILL(cublas, "libcublas.so." VERSION, "libcublas.so")) return;
    if (!FILL(curand, "libcurand.so.10", "libcurand.so")) return;
    // Only for kernels that are compiled at run time, of which there are none.
    if (!FILL(nvrtc, "libnvrtc.so." VERSION, "libnvrtc.so")) problem[0] = 0;
}
