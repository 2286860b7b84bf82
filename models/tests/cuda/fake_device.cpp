// A CUDA driver, cuBLAS and cuRAND in which the host plays the device: what calls the kernels, Candle's CUDA backend and Tallow's
// launches, runs as it does on a GPU. Tallow's kernels are the real sources (see emulation.h); of Candle's own kernels and of
// cuBLAS there is what the tests need, written down anew in float64. Built by fake_device.sh into libraries of the names that a
// program looks for. TALLOW_FAKE_BROKEN names a kernel that is to write nothing,
// TALLOW_FAKE_COUNT has launches counted.
#include "kernels.h"

#include <map>
#include <mutex>
#include <random>
#include <string>

namespace {

using Run = std::function<void(dim3, dim3, void**)>;

// A kernel of Tallow's as the driver calls it.
template <typename... Args, size_t... I>
void call(void (*kernel)(Args...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<std::decay_t<Args>*>(args[I])...);
}
template <typename... Args> Run thunk(void (*kernel)(Args...)) {
    return [kernel](dim3 grid, dim3 block, void** args) {
        emulation::launch(grid, block, [&] { call(kernel, args, std::index_sequence_for<Args...>()); });
    };
}

const std::map<std::string, Run>& kernels() {
    static const std::map<std::string, Run> all = {
#define KERNEL(space, name) {#name, thunk(space##_kernels::name)},
#include "registry.h"
    };
    return all;
}

// Values of any type as float64.
enum class Type { F32, BF16, F64, U8, U32, I64 };

Type type_of(const std::string& name) {
    static const std::map<std::string, Type> types = {{"f32", Type::F32}, {"bf16", Type::BF16}, {"f64", Type::F64},
                                                      {"u8", Type::U8},   {"u32", Type::U32},   {"i64", Type::I64}};
    auto found = types.find(name);
    if (found == types.end()) {
        fprintf(stderr, "fake device: no type %s\n", name.c_str());
        exit(1);
    }
    return found->second;
}

double get(Type type, const void* values, size_t i) {
    switch (type) {
        case Type::F32: return static_cast<const float*>(values)[i];
        case Type::BF16: return widen(static_cast<const bf16*>(values)[i]);
        case Type::F64: return static_cast<const double*>(values)[i];
        case Type::U8: return static_cast<const uint8_t*>(values)[i];
        case Type::U32: return static_cast<const uint32_t*>(values)[i];
        case Type::I64: return static_cast<double>(static_cast<const int64_t*>(values)[i]);
    }
    return NAN;
}

void set(Type type, void* values, size_t i, double value) {
    switch (type) {
        case Type::F32: static_cast<float*>(values)[i] = static_cast<float>(value); break;
        case Type::BF16: static_cast<bf16*>(values)[i] = narrow(static_cast<float>(value)); break;
        case Type::F64: static_cast<double*>(values)[i] = value; break;
        case Type::U8: static_cast<uint8_t*>(values)[i] = static_cast<uint8_t>(value); break;
        case Type::U32: static_cast<uint32_t*>(values)[i] = static_cast<uint32_t>(value); break;
        case Type::I64: static_cast<int64_t*>(values)[i] = static_cast<int64_t>(value); break;
    }
}

template <typename T> T arg(void** args, int i) { return *static_cast<T*>(args[i]); }

// Where value i of a strided operand lies; `info` holds the dims, then the strides of one operand after the other.
size_t place(size_t i, size_t rank, const size_t* info, int operand = 0) {
    if (!info) return i;
    const size_t* strides = info + rank * (1 + operand);
    size_t at = 0;
    for (size_t d = rank; d-- > 0; i /= info[d]) at += i % info[d] * strides[d];
    return at;
}

using Unary = double (*)(double);
using Binary = double (*)(double, double);

const std::map<std::string, Unary> unary = {
    {"ucopy", [](double x) { return x; }},
    {"uneg", [](double x) { return -x; }},
    {"urecip", [](double x) { return 1 / x; }},
    {"uexp", [](double x) { return std::exp(x); }},
    {"ulog", [](double x) { return std::log(x); }},
    {"uabs", [](double x) { return std::abs(x); }},
    {"usqr", [](double x) { return x * x; }},
    {"usqrt", [](double x) { return std::sqrt(x); }},
    {"uerf", [](double x) { return std::erf(x); }},
    {"utanh", [](double x) { return std::tanh(x); }},
    {"urelu", [](double x) { return x > 0 ? x : 0; }},
};
const std::map<std::string, Binary> binary = {
    {"badd", [](double x, double y) { return x + y; }},
    {"bsub", [](double x, double y) { return x - y; }},
    {"bmul", [](double x, double y) { return x * y; }},
    {"bdiv", [](double x, double y) { return x / y; }},
    {"bmaximum", [](double x, double y) { return std::max(x, y); }},
    {"bminimum", [](double x, double y) { return std::min(x, y); }},
};
const std::map<std::string, Binary> comparison = {
    {"eq", [](double x, double y) { return double(x == y); }}, {"ne", [](double x, double y) { return double(x != y); }},
    {"lt", [](double x, double y) { return double(x < y); }},  {"le", [](double x, double y) { return double(x <= y); }},
    {"gt", [](double x, double y) { return double(x > y); }},  {"ge", [](double x, double y) { return double(x >= y); }},
};

// A scalar argument of some type.
double scalar(Type type, void* value) { return get(type, value, 0); }

// Sums, maxima and their places over the last values of every output.
void reduce(const std::string& op, Type type, size_t outputs, void** a) {
    const size_t each = arg<size_t>(a, 1), rank = arg<size_t>(a, 2);
    const size_t* info = arg<const size_t*>(a, 3);
    const void* source = arg<const void*>(a, 4);
    void* out = arg<void*>(a, 5);
    for (size_t o = 0; o < outputs; o++) {
        double sum = 0, best = 0;
        size_t at = 0;
        for (size_t j = 0; j < each; j++) {
            const double value = get(type, source, place(o * each + j, rank, info));
            sum += value;
            const bool better = op.find("max") != std::string::npos ? value > best : value < best;
            if (j == 0 || better) {
                best = value;
                at = j;
            }
        }
        const bool index = op.find("arg") != std::string::npos;
        if (index) set(Type::U32, out, o, at);
        else set(type, out, o, op.find("sum") != std::string::npos ? sum : best);
    }
}

// Indexing along a dimension: sizes are those before it, its own, and those after.
void index(const std::string& op, Type ids_type, Type type, void** a) {
    if (op == "is" || op == "gather") {
        const int shift = op == "is" ? 2 : 0;
        const size_t count = arg<size_t>(a, 0), source_dim = arg<size_t>(a, 5 + shift);
        const size_t ids_dim = arg<size_t>(a, 6 + shift), right = arg<size_t>(a, 7 + shift);
        const void *ids = arg<const void*>(a, 1 + shift), *source = arg<const void*>(a, 2 + shift);
        void* out = arg<void*>(a, 3 + shift);
        for (size_t i = 0; i < count; i++) {
            const size_t before = i / right / ids_dim, id = op == "is" ? i / right % ids_dim : i;
            const size_t from = static_cast<size_t>(get(ids_type, ids, id));
            set(type, out, i, get(type, source, (before * source_dim + from) * right + i % right));
        }
        return;
    }
    const bool scatter = op == "sa";
    const void* ids = arg<const void*>(a, 0);
    const int shift = scatter ? 0 : 1;
    const void* source = arg<const void*>(a, 1 + shift);
    void* out = arg<void*>(a, 2 + shift);
    const size_t left = arg<size_t>(a, 3 + shift), source_dim = arg<size_t>(a, 4 + shift);
    const size_t out_dim = arg<size_t>(a, 5 + shift), right = arg<size_t>(a, 6 + shift);
    for (size_t i = 0; i < left * right; i++) {
        for (size_t j = 0; j < source_dim; j++) {
            const size_t from = (i / right * source_dim + j) * right + i % right;
            const size_t to = (i / right * out_dim + size_t(get(ids_type, ids, scatter ? from : j))) * right + i % right;
            set(type, out, to, get(type, out, to) + get(type, source, from));
        }
    }
}

// One of Candle's kernels, by its name.
void candle(const std::string& name, dim3 grid, void** a) {
    const size_t cut = name.rfind('_');
    const std::string op = name.substr(0, cut);
    const Type type = type_of(name.substr(cut + 1));
    const size_t count = arg<size_t>(a, 0), rank = arg<size_t>(a, 1);
    const size_t* info = arg<const size_t*>(a, 2);
    if (auto found = unary.find(op); found != unary.end()) {
        for (size_t i = 0; i < count; i++) {
            set(type, arg<void*>(a, 4), i, found->second(get(type, arg<void*>(a, 3), place(i, rank, info))));
        }
    } else if (op == "affine") {
        const double scale = scalar(type, a[5]), shift = scalar(type, a[6]);
        for (size_t i = 0; i < count; i++) {
            set(type, arg<void*>(a, 4), i, get(type, arg<void*>(a, 3), place(i, rank, info)) * scale + shift);
        }
    } else if (op.rfind("cast_", 0) == 0) {
        const Type from = type_of(op.substr(5));
        for (size_t i = 0; i < count; i++) {
            set(type, arg<void*>(a, 4), i, get(from, arg<void*>(a, 3), place(i, rank, info)));
        }
    } else if (binary.count(op) || comparison.count(op)) {
        const bool compares = comparison.count(op) != 0;
        const Binary f = compares ? comparison.at(op) : binary.at(op);
        for (size_t i = 0; i < count; i++) {
            const double x = get(type, arg<void*>(a, 3), place(i, rank, info));
            const double y = get(type, arg<void*>(a, 4), place(i, rank, info, 1));
            set(compares ? Type::U8 : type, arg<void*>(a, 5), i, f(x, y));
        }
    } else if (op == "fast_sum_small") {
        reduce("fast_sum", type, count, a);
    } else if (op.rfind("fast_", 0) == 0) {
        reduce(op, type, grid.x, a);
    } else if (op == "copy2d") {
        const void* source = arg<const void*>(a, 0);
        void* out = arg<void*>(a, 1);
        const uint32_t rows = arg<uint32_t>(a, 2), width = arg<uint32_t>(a, 3);
        const uint32_t source_stride = arg<uint32_t>(a, 4), out_stride = arg<uint32_t>(a, 5);
        for (size_t r = 0; r < rows; r++) {
            for (size_t c = 0; c < width; c++) set(type, out, r * out_stride + c, get(type, source, r * source_stride + c));
        }
    } else if (op == "const_set") {
        for (size_t i = 0; i < count; i++) set(type, arg<void*>(a, 4), place(i, rank, info), scalar(type, a[3]));
    } else if (op.rfind("where_", 0) == 0) {
        const Type of_ids = type_of(op.substr(6));
        for (size_t i = 0; i < count; i++) {
            const bool yes = get(of_ids, arg<void*>(a, 3), place(i, rank, info)) != 0;
            const double value = get(type, arg<void*>(a, yes ? 4 : 5), place(i, rank, info, yes ? 1 : 2));
            set(type, arg<void*>(a, 6), i, value);
        }
    } else if (const size_t under = op.find('_'); under != std::string::npos) {
        const std::string what = op.substr(0, under);
        if (what != "is" && what != "ia" && what != "gather" && what != "sa") {
            fprintf(stderr, "fake device: no kernel %s\n", name.c_str());
            exit(1);
        }
        index(what, type_of(op.substr(under + 1)), type, a);
    } else {
        fprintf(stderr, "fake device: no kernel %s\n", name.c_str());
        exit(1);
    }
}

std::mutex device;

// With TALLOW_FAKE_COUNT, how often each kernel was launched, each kind of copy made, and memory asked for, at the end.
struct Counts {
    std::map<std::string, size_t> of;
    const bool wanted = getenv("TALLOW_FAKE_COUNT") != nullptr;
    void add(const std::string& name) {
        if (wanted) of[name]++;
    }
    ~Counts() {
        for (const auto& [name, count] : of) fprintf(stderr, "%8zu %s\n", count, name.c_str());
    }
} counts;

int copy(void* to, const void* from, size_t bytes) {
    memmove(to, from, bytes);
    return 0;
}

// Memory that nobody has written holds NaNs.
int allocate(uint64_t* place, size_t bytes) {
    void* memory = aligned_alloc(256, (bytes + 511) / 256 * 256);
    memset(memory, 0xff, bytes);
    *place = reinterpret_cast<uint64_t>(memory);
    return 0;
}

void* at(uint64_t place) { return reinterpret_cast<void*>(place); }

}  // namespace

extern "C" {

// The driver.
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* device, int ordinal) { return ordinal == 0 ? (*device = 0, 0) : 101; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    // Compute capability 9.0, no memory pools.
    *value = attribute == 75 ? 9 : attribute == 76 || attribute == 115 ? 0 : 1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &device, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(void*) { return 0; }
int cuCtxGetCurrent(void** context) { return *context = &device, 0; }
int cuCtxSynchronize() { return 0; }
int cuMemAlloc_v2(uint64_t* place, size_t bytes) { return counts.add("allocation"), allocate(place, bytes); }
int cuMemAllocAsync(uint64_t* place, size_t bytes, void*) { return allocate(place, bytes); }
int cuMemFree_v2(uint64_t place) { return free(at(place)), 0; }
int cuMemFreeAsync(uint64_t place, void*) { return free(at(place)), 0; }
int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    uint64_t place;
    allocate(&place, bytes);
    return *memory = at(place), 0;
}
int cuMemFreeHost(void* memory) { return free(memory), 0; }
int cuMemsetD8Async(uint64_t place, unsigned char value, size_t bytes, void*) {
    return counts.add("zeros"), memset(at(place), value, bytes), 0;
}
int cuMemsetD8_v2(uint64_t place, unsigned char value, size_t bytes) { return memset(at(place), value, bytes), 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) {
    return counts.add("copy to the device"), copy(at(to), from, bytes);
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) {
    return counts.add("copy to the host"), copy(to, at(from), bytes);
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void*) {
    return counts.add("copy on the device"), copy(at(to), at(from), bytes);
}
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) { return copy(at(to), from, bytes); }
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) { return copy(to, at(from), bytes); }
int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) { return copy(at(to), at(from), bytes); }
int cuStreamCreate(void** stream, unsigned) { return *stream = &device, 0; }
int cuStreamDestroy_v2(void*) { return 0; }
int cuStreamSynchronize(void*) { return 0; }
int cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cuStreamIsCapturing(void*, int* status) { return *status = 0, 0; }
int cuEventCreate(void** event, unsigned) { return *event = &device, 0; }
int cuEventRecord(void*, void*) { return 0; }
int cuEventSynchronize(void*) { return 0; }
int cuEventQuery(void*) { return 0; }
int cuEventDestroy_v2(void*) { return 0; }
int cuModuleLoadData(void** module, const void*) { return *module = &device, 0; }
int cuModuleUnload(void*) { return 0; }
int cuModuleGetFunction(void** function, void*, const char* name) { return *function = new std::string(name), 0; }
int cuLaunchKernel(
    void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void*, void** args,
    void**
) {
    const std::lock_guard<std::mutex> guard(device);
    const std::string& name = *static_cast<std::string*>(function);
    // A kernel that writes nothing, to see what becomes of one that is wrong.
    counts.add("kernel " + name);
    const char* broken = getenv("TALLOW_FAKE_BROKEN");
    if (broken && name == broken) return 0;
    const dim3 grid(gx, gy, gz), block(bx, by, bz);
    auto found = kernels().find(name);
    if (found != kernels().end()) found->second(grid, block, args);
    else candle(name, grid, args);
    return 0;
}

// cuBLAS: c [m, n] = alpha op(a) op(b) + beta c, column by column; bf16 (14) or float32 (0).
int cublasCreate_v2(void** handle) { return *handle = &device, 0; }
int cublasDestroy_v2(void*) { return 0; }
int cublasSetStream_v2(void*, void*) { return 0; }
int cublasGemmStridedBatchedEx(
    void*, int transpose_a, int transpose_b, int m, int n, int k, const float* alpha, const void* a, int type_a, int lda,
    long long stride_a, const void* b, int type_b, int ldb, long long stride_b, const float* beta, void* c, int type_c, int ldc,
    long long stride_c, int batch, int, int
) {
    counts.add("product");
    auto type = [](int code) { return code == 0 ? Type::F32 : Type::BF16; };
    for (long long i = 0; i < batch; i++) {
        for (long long column = 0; column < n; column++) {
            for (long long row = 0; row < m; row++) {
                double sum = 0;
                for (long long l = 0; l < k; l++) {
                    const double x = get(type(type_a), a, i * stride_a + (transpose_a ? l + row * lda : row + l * lda));
                    const double y = get(type(type_b), b, i * stride_b + (transpose_b ? column + l * ldb : l + column * ldb));
                    sum += x * y;
                }
                const long long to = i * stride_c + row + column * ldc;
                const double before = *beta == 0 ? 0 : *beta * get(type(type_c), c, to);
                set(type(type_c), c, to, *alpha * sum + before);
            }
        }
    }
    return 0;
}

// cuBLASLt: d [m, n] = alpha op(a) op(b), column by column; plus a bias for every row, or with the sums of the rows of op(b)ᵀ.
struct Described {
    int transpose_a = 0, transpose_b = 0, epilogue = 1;
    void* bias = nullptr;
};
struct Layout {
    int type;
    long long rows, columns, stride;
};
int cublasLtCreate(void** handle) { return *handle = &device, 0; }
int cublasLtMatmulDescCreate(void** description, int, int) { return *description = new Described, 0; }
int cublasLtMatmulDescDestroy(void* description) { return delete static_cast<Described*>(description), 0; }
int cublasLtMatmulDescSetAttribute(void* to, int attribute, const void* value, size_t size) {
    Described& description = *static_cast<Described*>(to);
    switch (attribute) {
        case 3: return memcpy(&description.transpose_a, value, size), size != 4;
        case 4: return memcpy(&description.transpose_b, value, size), size != 4;
        case 7: return memcpy(&description.epilogue, value, size), size != 4;
        case 8: return memcpy(&description.bias, value, size), size != 8;
        default: return 7;
    }
}
int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    return *layout = new Layout{type, (long long)rows, (long long)columns, stride}, 0;
}
int cublasLtMatrixLayoutDestroy(void* layout) { return delete static_cast<Layout*>(layout), 0; }
int cublasLtMatmulPreferenceCreate(void** preference) { return *preference = &device, 0; }
int cublasLtMatmulPreferenceDestroy(void*) { return 0; }
int cublasLtMatmulPreferenceSetAttribute(void*, int attribute, const void*, size_t size) {
    return size != (attribute == 1 ? 8 : 4);
}
int cublasLtMatmulAlgoGetHeuristic(
    void*, void*, void*, void*, void*, void*, void*, int, void* result, int* count
) {
    const char* broken = getenv("TALLOW_FAKE_BROKEN");
    *count = !(broken && std::string(broken) == "cublasLtMatmul");
    // The algorithm, the workspace, the state, waves and what is reserved.
    memset(result, 0, 64 + 8 + 4 + 4 + 16);
    return 0;
}
int cublasLtMatmul(
    void*, void* described, const float* alpha, const void* a, void* layout_a, const void* b, void* layout_b, const float* beta,
    const void*, void*, void* d, void* layout_d, const void*, void*, size_t, void*
) {
    const Described& description = *static_cast<Described*>(described);
    const Layout &la = *static_cast<Layout*>(layout_a), &lb = *static_cast<Layout*>(layout_b);
    const Layout& ld = *static_cast<Layout*>(layout_d);
    const long long k = description.transpose_a ? la.rows : la.columns;
    const bool fits = k == (description.transpose_b ? lb.columns : lb.rows) && *beta == 0 &&
        ld.rows == (description.transpose_a ? la.columns : la.rows) &&
        ld.columns == (description.transpose_b ? lb.rows : lb.columns);
    if (!fits) return 7;
    counts.add("product");
    auto type = [](int code) { return code == 0 ? Type::F32 : Type::BF16; };
    auto of_a = [&](long long row, long long l) {
        return get(type(la.type), a, description.transpose_a ? l + row * la.stride : row + l * la.stride);
    };
    auto of_b = [&](long long l, long long column) {
        return get(type(lb.type), b, description.transpose_b ? column + l * lb.stride : l + column * lb.stride);
    };
    for (long long column = 0; column < ld.columns; column++) {
        for (long long row = 0; row < ld.rows; row++) {
            double sum = 0;
            for (long long l = 0; l < k; l++) sum += of_a(row, l) * of_b(l, column);
            const double bias = description.epilogue == 4 ? get(type(ld.type), description.bias, row) : 0;
            set(type(ld.type), d, row + column * ld.stride, *alpha * sum + bias);
        }
        if (description.epilogue != 512) continue;
        double sum = 0;
        for (long long l = 0; l < k; l++) sum += of_b(l, column);
        set(type(ld.type), description.bias, column, sum);
    }
    return 0;
}

// cuRAND, with noise of its own.
int curandCreateGenerator(void** generator, int) { return *generator = &device, 0; }
int curandDestroyGenerator(void*) { return 0; }
int curandSetStream(void*, void*) { return 0; }
int curandGenerateNormal(void*, float* out, size_t count, float mean, float deviation) {
    static std::mt19937 generator(1);
    std::normal_distribution<float> noise(mean, deviation);
    for (size_t i = 0; i < count; i++) out[i] = noise(generator);
    return 0;
}
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }

}  // extern "C"
