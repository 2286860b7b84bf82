// Every CUDA kernel on the host (see emulation.h): outputs against the formula in float64, gradients against central
// differences of it. Prints a line a check, and fails if one is off. Built and run by emulate.sh.
#include "emulation.h"

#include <random>
#include <string>

#include "kernels.h"

using emulation::launch;
using Vector = std::vector<double>;

static int failures = 0;
static std::mt19937 generator(1);

// Random values that both storage types hold exactly.
static Vector random_values(size_t count, double low = -2, double high = 2) {
    std::uniform_real_distribution<float> uniform(low, high);
    Vector values(count);
    for (double& value : values) value = widen(narrow(uniform(generator)));
    return values;
}

// Values in a storage type, at an address whose distance from a multiple of 16 is `offset` values.
template <typename T> struct Stored {
    std::vector<T> room;
    size_t offset, count;
    explicit Stored(const Vector& values, size_t offset = 0) : room(values.size() + offset + 8), offset(offset), count(values.size()) {
        for (size_t i = 0; i < count; i++) data()[i] = from_float<T>(values[i]);
    }
    // Not yet written: no value is right by chance.
    explicit Stored(size_t count) : Stored(Vector(count, NAN)) {}
    T* data() {
        const size_t past = reinterpret_cast<uintptr_t>(room.data()) % 16 / sizeof(T);
        return room.data() + (past ? 16 / sizeof(T) - past : 0) % 8 + offset;
    }
    Vector values() {
        Vector out(count);
        for (size_t i = 0; i < count; i++) out[i] = to_float(data()[i]);
        return out;
    }
};

template <typename T> constexpr double tolerance() { return sizeof(T) == 4 ? 1e-5 : 6e-3; }
template <typename T> const char* type_name() { return sizeof(T) == 4 ? "f32" : "bf16"; }

static void verdict(const std::string& what, double worst, double allowed) {
    const bool fine = worst <= allowed;  // false for NaN
    printf("%-64s %9.2e  %s\n", what.c_str(), worst, fine ? "ok" : "WRONG");
    failures += !fine;
}

static double worse(double worst, double difference) { return std::isnan(difference) || difference > worst ? difference : worst; }

static double largest_of(const Vector& values) {
    double largest = 1e-3;
    for (double value : values) largest = std::max(largest, std::abs(value));
    return largest;
}

// The largest difference over the largest value.
static void check(const std::string& what, const Vector& got, const Vector& expected, double allowed) {
    double worst = got.size() == expected.size() ? 0 : NAN;
    for (size_t i = 0; i < expected.size(); i++) worst = worse(worst, std::abs(got[i] - expected[i]));
    verdict(what, worst / largest_of(expected), allowed);
}

// Every `every`-th coordinate of a gradient against central differences of `loss`, which reads `x`.
static void check_slope(
    const std::string& what, const Vector& got, Vector& x, const std::function<double()>& loss, double allowed, size_t every = 1
) {
    const double step = 1e-5;
    Vector differences, picked;
    for (size_t i = 0; i < x.size(); i += every) {
        const double before = x[i];
        x[i] = before + step;
        const double up = loss();
        x[i] = before - step;
        const double down = loss();
        x[i] = before;
        differences.push_back((up - down) / (2 * step));
        picked.push_back(got[i]);
    }
    check(what, picked, differences, allowed);
}

static double dot(const Vector& a, const Vector& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += a[i] * b[i];
    return sum;
}

static std::string sizes(std::initializer_list<long long> numbers) {
    std::string text;
    for (long long number : numbers) text += (text.empty() ? "" : "x") + std::to_string(number);
    return " " + text;
}

// The second half of a sum over rows.
static Vector add_up(std::vector<float>& partials, int parts, int width) {
    Stored<float> out(width);
    launch((width + 255) / 256, 256, [&] { column_sums_kernels::add_up_f32(partials.data(), out.data(), parts, width); });
    return out.values();
}

constexpr int PARTS = 3;

static dim3 column_grid(int dim) { return dim3((dim + COLUMNS - 1) / COLUMNS, PARTS); }
static const dim3 COLUMN_BLOCK(COLUMNS, ROWS);

template <typename T> static void test_column_sums(long long rows, int dim) {
    Vector x = random_values(rows * dim), expected(dim);
    for (size_t i = 0; i < x.size(); i++) expected[i % dim] += x[i];
    Stored<T> x_(x);
    std::vector<float> partials(PARTS * dim);
    launch(column_grid(dim), COLUMN_BLOCK, [&] { column_sums_kernels::column_sums(x_.data(), partials.data(), rows, dim); });
    check(std::string("column_sums ") + type_name<T>() + sizes({rows, dim}), add_up(partials, PARTS, dim), expected, 1e-5);
}

template <typename T, typename W> static void test_layer_norm(long long rows, int dim, size_t offset = 0) {
    const double eps = 1e-6;
    Vector x = random_values(rows * dim), w = random_values(dim), b = random_values(dim), dy = random_values(rows * dim);
    auto forward = [&] {
        Vector y(rows * dim);
        for (long long r = 0; r < rows; r++) {
            double mean = 0, var = 0;
            for (int i = 0; i < dim; i++) mean += x[r * dim + i] / dim;
            for (int i = 0; i < dim; i++) var += (x[r * dim + i] - mean) * (x[r * dim + i] - mean) / dim;
            for (int i = 0; i < dim; i++) y[r * dim + i] = (x[r * dim + i] - mean) / std::sqrt(var + eps) * w[i] + b[i];
        }
        return y;
    };
    const std::string name =
        std::string("layer_norm ") + type_name<T>() + " " + type_name<W>() + sizes({rows, dim}) + (offset ? " unaligned" : "");
    Stored<T> x_(x, offset), y_(rows * dim), dy_(dy), dx_(rows * dim);
    Stored<W> w_(w), b_(b);
    std::vector<float> statistics(2 * rows), partials(PARTS * 2 * dim);
    const dim3 grid((rows + 3) / 4);
    launch(grid, 128, [&] {
        layer_norm_kernels::layer_norm_forward(x_.data(), w_.data(), b_.data(), y_.data(), statistics.data(), rows, dim, float(eps));
    });
    check(name, y_.values(), forward(), tolerance<T>());
    launch(grid, 128, [&] {
        layer_norm_kernels::layer_norm_backward(x_.data(), w_.data(), dy_.data(), statistics.data(), dx_.data(), rows, dim);
    });
    launch(column_grid(dim), COLUMN_BLOCK, [&] {
        layer_norm_kernels::layer_norm_parameters(x_.data(), dy_.data(), statistics.data(), partials.data(), rows, dim);
    });
    const Vector sums = add_up(partials, PARTS, 2 * dim);
    auto loss = [&] { return dot(forward(), dy); };
    check_slope(name + " dx", dx_.values(), x, loss, tolerance<T>());
    check_slope(name + " dweight", Vector(sums.begin(), sums.begin() + dim), w, loss, 1e-5);
    check_slope(name + " dbias", Vector(sums.begin() + dim, sums.end()), b, loss, 1e-5);
}

static double gelu_erf(double x) { return x * (1 + std::erf(x / std::sqrt(2))) / 2; }
static double gelu_tanh(double x) { return x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) / 2; }
static double gelu_quick(double x) { return x / (1 + std::exp(-1.702 * x)); }

template <typename Act, typename T, typename W>
static void test_activation(const char* form, double (*act)(double), long long rows, int dim, bool biased) {
    Vector x = random_values(rows * dim, -5, 5), b = random_values(dim), dy = random_values(rows * dim);
    auto forward = [&] {
        Vector y(rows * dim);
        for (size_t i = 0; i < y.size(); i++) y[i] = act(x[i] + (biased ? b[i % dim] : 0));
        return y;
    };
    const std::string name = std::string("activation ") + form + " " + type_name<T>() + " " + type_name<W>() + sizes({rows, dim}) +
                             (biased ? "" : " no bias");
    Stored<T> x_(x), y_(rows * dim), dy_(dy), dx_(rows * dim);
    Stored<W> b_(b);
    const W* bias = biased ? b_.data() : nullptr;
    std::vector<float> partials(PARTS * dim);
    launch(2, 64, [&] { activation_kernels::bias_act_forward<Act>(x_.data(), bias, y_.data(), rows, dim); });
    check(name, y_.values(), forward(), tolerance<T>());
    launch(column_grid(dim), COLUMN_BLOCK, [&] {
        activation_kernels::bias_act_backward<Act>(x_.data(), bias, dy_.data(), dx_.data(), partials.data(), rows, dim);
    });
    auto loss = [&] { return dot(forward(), dy); };
    check_slope(name + " dx", dx_.values(), x, loss, tolerance<T>());
    if (biased) check_slope(name + " dbias", add_up(partials, PARTS, dim), b, loss, 1e-5);
}

template <typename T> static void test_cross_entropy(long long rows, int classes, double smoothing) {
    Vector x = random_values(rows * classes);
    std::vector<uint32_t> labels(rows);
    for (long long r = 0; r < rows; r++) labels[r] = r * 7 % classes;
    auto loss = [&] {
        double sum = 0;
        for (long long r = 0; r < rows; r++) {
            double total = 0;
            for (int i = 0; i < classes; i++) total += std::exp(x[r * classes + i]);
            for (int i = 0; i < classes; i++) {
                const double target = smoothing / classes + (labels[r] == uint32_t(i) ? 1 - smoothing : 0);
                sum -= target * (x[r * classes + i] - std::log(total));
            }
        }
        return sum / rows;
    };
    const std::string name =
        std::string("cross_entropy ") + type_name<T>() + sizes({rows, classes}) + " smoothing " + std::to_string(smoothing).substr(0, 3);
    Stored<T> x_(x), dx_(rows * classes);
    std::vector<float> losses(rows), statistics(2 * rows);
    float out, dloss = 3;
    const dim3 grid((rows + 3) / 4);
    launch(grid, 128, [&] {
        cross_entropy_kernels::cross_entropy_forward(
            x_.data(), labels.data(), losses.data(), statistics.data(), rows, classes, float(smoothing)
        );
    });
    launch(1, 256, [&] { cross_entropy_kernels::cross_entropy_mean_f32(losses.data(), &out, rows); });
    check(name, {out}, {loss()}, 1e-5);
    launch(grid, 128, [&] {
        cross_entropy_kernels::cross_entropy_backward(
            x_.data(), labels.data(), statistics.data(), &dloss, dx_.data(), rows, classes, float(smoothing)
        );
    });
    check_slope(name + " dlogits", dx_.values(), x, [&] { return 3 * loss(); }, tolerance<T>());
}

// Logits as large as float32 goes, and a label that names no class.
static void test_cross_entropy_extremes() {
    std::vector<float> x = {1e30f, -1e30f, 0, -1e30f, -1e30f, -1e30f}, losses(2), statistics(4), dx(6);
    std::vector<uint32_t> labels = {0, 2};
    float dloss = 1;
    auto forward = [&] {
        launch(1, 64, [&] {
            cross_entropy_kernels::cross_entropy_forward(x.data(), labels.data(), losses.data(), statistics.data(), 2, 3, 0.f);
        });
    };
    forward();
    check("cross_entropy of huge logits", {losses[0], losses[1]}, {0, std::log(3)}, 1e-5);
    launch(1, 64, [&] {
        cross_entropy_kernels::cross_entropy_backward(x.data(), labels.data(), statistics.data(), &dloss, dx.data(), 2, 3, 0.f);
    });
    check("cross_entropy of huge logits, dlogits", Vector(dx.begin(), dx.end()), {0, 0, 0, 1. / 6, 1. / 6, -1. / 3}, 1e-5);
    labels[1] = 3;
    forward();
    verdict("cross_entropy of a label that names no class is NaN", std::isnan(losses[1]) ? 0 : 1, 0);
}

template <typename T, typename W> static void test_residual(int batch, int rows_per_sample, int dim, bool scaled, bool dropped) {
    const long long rows = batch * rows_per_sample;
    Vector x = random_values(rows * dim), y = random_values(rows * dim), gamma = random_values(dim), dout = random_values(rows * dim);
    std::vector<float> keep(batch);
    for (int i = 0; i < batch; i++) keep[i] = i % 2 ? 1.25f : 0;
    auto forward = [&] {
        Vector out(rows * dim);
        for (size_t i = 0; i < out.size(); i++) {
            out[i] = x[i] + (dropped ? keep[i / dim / rows_per_sample] : 1) * (scaled ? gamma[i % dim] : 1) * y[i];
        }
        return out;
    };
    const std::string name = std::string("residual ") + type_name<T>() + " " + type_name<W>() + sizes({batch, rows_per_sample, dim}) +
                             (scaled ? " gamma" : "") + (dropped ? " keep" : "");
    Stored<T> x_(x), y_(y), out_(rows * dim), dout_(dout), dy_(rows * dim);
    Stored<W> gamma_(gamma);
    const W* g = scaled ? gamma_.data() : nullptr;
    const float* k = dropped ? keep.data() : nullptr;
    std::vector<float> partials(PARTS * dim);
    launch(2, 64, [&] { residual_kernels::scale_add(x_.data(), y_.data(), g, k, out_.data(), rows, dim, rows_per_sample); });
    check(name, out_.values(), forward(), tolerance<T>());
    const T* none = nullptr;
    launch(2, 64, [&] { residual_kernels::scale_add(none, dout_.data(), g, k, dy_.data(), rows, dim, rows_per_sample); });
    launch(column_grid(dim), COLUMN_BLOCK, [&] {
        residual_kernels::scale_add_gamma(dout_.data(), y_.data(), k, partials.data(), rows, dim, rows_per_sample);
    });
    auto loss = [&] { return dot(forward(), dout); };
    check_slope(name + " dy", dy_.values(), y, loss, tolerance<T>());
    if (scaled) check_slope(name + " dgamma", add_up(partials, PARTS, dim), gamma, loss, 1e-5);
}

template <typename T> static void test_max_pool(int kernel, int stride, int padding, int height, int width) {
    const long long planes = 3;
    const int out_height = (height + 2 * padding - kernel) / stride + 1, out_width = (width + 2 * padding - kernel) / stride + 1;
    // No two values are closer than the step of the differences.
    Vector x(planes * height * width);
    for (size_t i = 0; i < x.size(); i++) x[i] = widen(narrow(float(i % 250) - 125));
    std::shuffle(x.begin(), x.end(), generator);
    // Of equal values the first is the maximum, which central differences do not show: the gradient's sum does.
    const Vector dy = random_values(planes * out_height * out_width);
    auto forward = [&] {
        Vector y(dy.size(), -INFINITY);
        for (size_t i = 0; i < y.size(); i++) {
            const int c = i % out_width, r = i / out_width % out_height, plane = i / out_width / out_height;
            for (int row = r * stride - padding; row < r * stride - padding + kernel; row++) {
                for (int column = c * stride - padding; column < c * stride - padding + kernel; column++) {
                    if (row < 0 || column < 0 || row >= height || column >= width) continue;
                    y[i] = std::max(y[i], x[(plane * height + row) * width + column]);
                }
            }
        }
        return y;
    };
    const std::string name = std::string("max_pool ") + type_name<T>() + sizes({kernel, stride, padding}) + " on" + sizes({height, width});
    Stored<T> x_(x), y_(dy.size()), dy_(dy), dx_(x.size());
    std::vector<uint32_t> maxima(dy.size());
    launch(2, 64, [&] {
        max_pool_kernels::max_pool_forward(
            x_.data(), y_.data(), maxima.data(), planes, {height, width, out_height, out_width, kernel, stride, padding}
        );
    });
    check(name, y_.values(), forward(), tolerance<T>());
    launch(2, 64, [&] {
        max_pool_kernels::max_pool_backward(
            dy_.data(), maxima.data(), dx_.data(), planes, {height, width, out_height, out_width, kernel, stride, padding}
        );
    });
    check_slope(name + " dx", dx_.values(), x, [&] { return dot(forward(), dy); }, tolerance<T>());
}

static void test_max_pool_ties() {
    std::vector<float> x = {1, 1, 1, 1, 1, 1, NAN, 1}, y(2), dy = {1, 1}, dx(8);
    std::vector<uint32_t> maxima(2);
    const max_pool_kernels::PoolSizes s = {2, 4, 1, 2, 2, 2, 0};
    launch(1, 32, [&] { max_pool_kernels::max_pool_forward(x.data(), y.data(), maxima.data(), 1, s); });
    launch(1, 32, [&] { max_pool_kernels::max_pool_backward(dy.data(), maxima.data(), dx.data(), 1, s); });
    check("max_pool: the first of equal maxima, or the NaN, gets the gradient", Vector(dx.begin(), dx.end()), {1, 0, 0, 0, 0, 0, 1, 0}, 0);
    verdict("max_pool lets a NaN through", std::isnan(y[1]) ? 0 : 1, 0);
}

template <typename T> static void test_windows(int kernel_height, int kernel_width, int stride, int padding) {
    const int batch = 2, channels = 3, height = 7, width = 6;
    const int out_height = (height + 2 * padding - kernel_height) / stride + 1;
    const int out_width = (width + 2 * padding - kernel_width) / stride + 1;
    const int windows = out_height * out_width, pixels = kernel_height * kernel_width, depth = channels * pixels;
    Vector x = random_values(batch * channels * height * width), drows = random_values(batch * windows * depth);
    auto forward = [&] {
        Vector rows;
        for (int b = 0; b < batch; b++)
            for (int window = 0; window < windows; window++)
                for (int c = 0; c < channels; c++)
                    for (int pixel = 0; pixel < pixels; pixel++) {
                        const int row = window / out_width * stride - padding + pixel / kernel_width;
                        const int column = window % out_width * stride - padding + pixel % kernel_width;
                        const bool inside = row >= 0 && column >= 0 && row < height && column < width;
                        rows.push_back(inside ? x[((b * channels + c) * height + row) * width + column] : 0);
                    }
        return rows;
    };
    const windows_kernels::WindowSizes s = {channels, height, width, out_height, out_width, kernel_height, kernel_width, stride, padding};
    const std::string name = std::string("windows ") + type_name<T>() + sizes({kernel_height, kernel_width, stride, padding});
    Stored<T> x_(x), rows_(drows.size()), drows_(drows), dx_(x.size());
    launch(2, 64, [&] { windows_kernels::unfold(x_.data(), rows_.data(), (long long)batch, s); });
    check(name, rows_.values(), forward(), 0);
    launch(2, 64, [&] { windows_kernels::fold(drows_.data(), dx_.data(), (long long)batch, s); });
    check_slope(name + " dx", dx_.values(), x, [&] { return dot(forward(), drows); }, tolerance<T>());
}

template <typename G> static void test_optimizers() {
    using optimizer_kernels::Entry;
    const std::vector<size_t> counts = {1, 5000, 4096, 33, 9000};
    std::vector<Vector> p, m, v, g;
    std::vector<Stored<float>> p_, m_, v_, sgd_p, sgd_b;
    std::vector<Stored<G>> g_;
    for (size_t count : counts) {
        p.push_back(random_values(count));
        m.push_back(random_values(count));
        v.push_back(random_values(count, 0, 2));
        g.push_back(random_values(count));
        for (auto* list : {&p_, &sgd_p}) list->emplace_back(p.back());
        for (auto* list : {&m_, &sgd_b}) list->emplace_back(m.back());
        v_.emplace_back(v.back());
        g_.emplace_back(g.back());
    }
    const double lr = 0.01, beta1 = 0.9, beta2 = 0.99, eps = 1e-6, decay = 0.1, scale = 0.5, momentum = 0.9;
    const int step = 3, tensors = counts.size();
    std::vector<Entry> adamw, sgd;
    long long blocks = 0;
    for (int i = 0; i < tensors; i++) {
        Entry entry = {p_[i].data(), g_[i].data(), m_[i].data(), v_[i].data(), (long long)counts[i], blocks, 0, 0, 0, sizeof(G) == 2};
        entry.lr = lr / (1 - std::pow(beta1, step));
        entry.decay = 1 - lr * decay;
        entry.root = std::sqrt(1 - std::pow(beta2, step));
        adamw.push_back(entry);
        entry.param = sgd_p[i].data();
        entry.first = i == 3 ? nullptr : sgd_b[i].data();
        entry.lr = lr;
        entry.decay = decay;
        sgd.push_back(entry);
        blocks += (counts[i] + optimizer_kernels::BLOCK - 1) / optimizer_kernels::BLOCK;
    }
    // The factor comes from clipping to half of the norm, and there is no step for a norm that is not finite.
    const double norm = 3, not_finite = INFINITY, square = norm * norm;
    for (const double* squares : {&not_finite, &square}) {
        launch(blocks, 256, [&] {
            optimizer_kernels::adamw_f32(
                adamw.data(), tensors, beta1, 1 - beta1, beta2, 1 - beta2, eps, 1, squares, norm / 2
            );
        });
    }
    launch(blocks, 256, [&] { optimizer_kernels::sgd_f32(sgd.data(), tensors, momentum, 1, scale, &square, 2 * norm); });
    launch(blocks, 256, [&] { optimizer_kernels::sgd_f32(sgd.data(), tensors, momentum, 1, 1, &not_finite, 0); });
    Vector got, expected, sgd_got, sgd_expected;
    auto append = [](Vector& to, const Vector& values) { to.insert(to.end(), values.begin(), values.end()); };
    for (int t = 0; t < tensors; t++) {
        for (auto* list : {&p_, &m_, &v_}) append(got, (*list)[t].values());
        append(sgd_got, sgd_p[t].values());
        append(sgd_got, sgd_b[t].values());
        Vector next_p, next_m, next_v, next_sgd, next_b;
        for (size_t i = 0; i < counts[t]; i++) {
            const double gradient = g[t][i] * scale, m1 = beta1 * m[t][i] + (1 - beta1) * gradient;
            const double v1 = beta2 * v[t][i] + (1 - beta2) * gradient * gradient;
            const double m_hat = m1 / (1 - std::pow(beta1, step)), v_hat = v1 / (1 - std::pow(beta2, step));
            next_m.push_back(m1);
            next_v.push_back(v1);
            next_p.push_back(p[t][i] * (1 - lr * decay) - lr * m_hat / (std::sqrt(v_hat) + eps));
            const double d = gradient + decay * p[t][i], b = momentum * m[t][i] + d;
            next_b.push_back(t == 3 ? m[t][i] : b);
            next_sgd.push_back(p[t][i] - lr * (t == 3 ? d : d + momentum * b));
        }
        for (auto* values : {&next_p, &next_m, &next_v}) append(expected, *values);
        append(sgd_expected, next_sgd);
        append(sgd_expected, next_b);
    }
    check(std::string("adamw over 5 tensors, gradients ") + type_name<G>(), got, expected, 1e-6);
    check(std::string("sgd over 5 tensors, gradients ") + type_name<G>(), sgd_got, sgd_expected, 1e-6);
    std::vector<double> partials(blocks), sums(tensors + 1);
    launch(blocks, 256, [&] { optimizer_kernels::sum_of_squares_f64(adamw.data(), tensors, partials.data()); });
    launch(1, 64, [&] {
        optimizer_kernels::sum_of_squares_by_tensor_f64(adamw.data(), tensors, partials.data(), sums.data(), blocks);
    });
    Vector squares;
    double all = 0;
    for (const Vector& gradient : g) all += squares.emplace_back(dot(gradient, gradient));
    squares.push_back(all);
    check(std::string("sums of squares of 5 tensors, ") + type_name<G>(), sums, squares, 1e-12);
}

// The reference is Pillow's: see resize_reference.py.
struct Resized {
    int height, width, channels, out_height, out_width, taps_across, taps_down;
    std::vector<uint8_t> image, levels;
    std::vector<uint32_t> starts_across, counts_across, starts_down, counts_down;
    std::vector<int> weights_across, weights_down;
};
#include "resize_reference.h"

// A grey image becomes as many channels as there are scales.
template <typename T> static void test_grey() {
    std::vector<uint8_t> lines = {1, 2, 3, 4, 5, 6, 7, 8};  // two images of 2 x 2
    std::vector<uint32_t> starts = {0, 1}, counts = {1, 1};
    std::vector<int> weights = {1 << 22, 1 << 22};
    std::vector<float> scale = {1, 2, 0.5}, shift = {0, 1, -3};
    Stored<T> out(size_t(2) * 3 * 2 * 2);
    launch(2, 64, [&] {
        resize_kernels::resize_down(
            lines.data(), out.data(), starts.data(), counts.data(), weights.data(), 1, scale.data(), shift.data(), 2LL, 2, 2, 2, 1, 3
        );
    });
    Vector expected;
    for (int image = 0; image < 2; image++) {
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < 4; i++) expected.push_back(lines[image * 4 + i] * double(scale[c]) + shift[c]);
        }
    }
    check(std::string("grey to colour ") + type_name<T>(), out.values(), expected, sizeof(T) == 4 ? 0 : 4e-3);
}

template <typename T> static void test_resize() {
    for (Resized& r : resized()) {
        const int batch = 2;
        std::vector<uint8_t> images(r.image), lines(batch * r.height * r.out_width * r.channels);
        images.insert(images.end(), r.image.rbegin(), r.image.rend());
        std::vector<float> scale = {1, 2, 0.5}, shift = {0, 1, -3};
        Stored<T> out(size_t(batch) * r.channels * r.out_height * r.out_width);
        launch(2, 64, [&] {
            resize_kernels::resize_across_u8(
                images.data(), lines.data(), r.starts_across.data(), r.counts_across.data(), r.weights_across.data(), r.taps_across,
                batch * r.height, r.width, r.out_width, r.channels
            );
        });
        launch(2, 64, [&] {
            resize_kernels::resize_down(
                lines.data(), out.data(), r.starts_down.data(), r.counts_down.data(), r.weights_down.data(), r.taps_down,
                scale.data(), shift.data(), (long long)batch, r.height, r.out_height, r.out_width, r.channels, r.channels
            );
        });
        Vector expected, got = out.values();
        got.resize(r.levels.size());
        for (int c = 0; c < r.channels; c++) {
            for (int i = 0; i < r.out_height * r.out_width; i++) {
                expected.push_back(r.levels[i * r.channels + c] * double(scale[c]) + shift[c]);
            }
        }
        check(
            std::string("resize ") + type_name<T>() + sizes({r.height, r.width, r.channels}) + " to" + sizes({r.out_height, r.out_width}),
            got, expected, sizeof(T) == 4 ? 0 : 4e-3
        );
    }
}

// Packed self-attention, or q and k, v of their own lengths.
struct AttentionCase {
    int batch, queries, keys, heads, d;
    bool packed;
};

template <typename T, typename Forward, typename BackwardQ, typename BackwardKv>
static void test_attention(
    const std::string& kind, AttentionCase a, Forward forward_kernel, BackwardQ backward_q, BackwardKv backward_kv, double allowed
) {
    const int width = a.heads * a.d, stride = a.packed ? 3 * width : width;
    const double scale = 1 / std::sqrt(double(a.d));
    const size_t q_count = size_t(a.batch) * a.queries * width, k_count = size_t(a.batch) * a.keys * width;
    Vector q = random_values(q_count), k = random_values(k_count), v = random_values(k_count), dy = random_values(q_count);
    // The forward of one head of one image.
    auto head_loss = [&](int b, int h, Vector* y) {
        double loss = 0;
        Vector p(a.keys);
        for (int i = 0; i < a.queries; i++) {
            const size_t row = (size_t(b) * a.queries + i) * width + h * a.d;
            double sum = 0;
            for (int j = 0; j < a.keys; j++) {
                const size_t key = (size_t(b) * a.keys + j) * width + h * a.d;
                double score = 0;
                for (int c = 0; c < a.d; c++) score += q[row + c] * k[key + c];
                sum += p[j] = std::exp(score * scale);
            }
            for (int c = 0; c < a.d; c++) {
                double value = 0;
                for (int j = 0; j < a.keys; j++) value += p[j] * v[(size_t(b) * a.keys + j) * width + h * a.d + c] / sum;
                if (y) (*y)[row + c] = value;
                loss += value * dy[row + c];
            }
        }
        return loss;
    };
    // Where q, k and v lie: behind one another in every row, or apart.
    auto place = [&](const Vector& values, Vector& packed, int part) {
        for (size_t i = 0; i < values.size(); i++) packed[i / width * stride + i % width + part * width] = values[i];
    };
    Vector qkv(a.packed ? 3 * q_count : 0);
    if (a.packed) {
        place(q, qkv, 0);
        place(k, qkv, 1);
        place(v, qkv, 2);
    }
    Stored<T> packed(qkv), q_(q), k_(k), v_(v), dpacked(qkv.size()), dq_(q_count), dk_(k_count), dv_(k_count), y_(q_count), dy_(dy);
    auto of = [&](Stored<T>& all, Stored<T>& alone, int part) { return a.packed ? all.data() + part * width : alone.data(); };
    const T *qp = of(packed, q_, 0), *kp = of(packed, k_, 1), *vp = of(packed, v_, 2);
    T *dqp = of(dpacked, dq_, 0), *dkp = of(dpacked, dk_, 1), *dvp = of(dpacked, dv_, 2);
    std::vector<float> log_sums(size_t(a.batch) * a.heads * a.queries), along(log_sums.size());
    forward_kernel(qp, kp, vp, y_.data(), log_sums.data(), stride, width, float(scale));
    Vector y(q_count);
    for (int b = 0; b < a.batch; b++) {
        for (int h = 0; h < a.heads; h++) head_loss(b, h, &y);
    }
    const std::string name =
        kind + " " + type_name<T>() + sizes({a.batch, a.queries, a.keys, a.heads, a.d}) + (a.packed ? " packed" : "");
    check(name, y_.values(), y, allowed);
    launch((log_sums.size() + 3) / 4, 128, [&] {
        attention_plain_kernels::attention_along(
            y_.data(), dy_.data(), along.data(), (long long)log_sums.size(), {a.queries, a.keys, a.heads, a.d, stride, width}
        );
    });
    backward_q(qp, kp, vp, dy_.data(), log_sums.data(), along.data(), dqp, stride, width, float(scale));
    backward_kv(qp, kp, vp, dy_.data(), log_sums.data(), along.data(), dkp, dvp, stride, width, float(scale));
    auto gradient = [&](Stored<T>& alone, size_t count, int part) {
        if (!a.packed) return alone.values();
        const Vector all = dpacked.values();
        Vector out(count);
        for (size_t i = 0; i < count; i++) out[i] = all[i / width * stride + i % width + part * width];
        return out;
    };
    // A head of an image depends on nothing else, so its own loss is enough for the differences.
    auto check_part = [&](const char* what, const Vector& got, Vector& x, int tokens, size_t every) {
        const double step = 1e-5;
        Vector picked, slopes;
        for (size_t i = 0; i < x.size(); i += every) {
            const int b = i / width / tokens, h = i % width / a.d;
            const double before = x[i];
            x[i] = before + step;
            const double up = head_loss(b, h, nullptr);
            x[i] = before - step;
            const double down = head_loss(b, h, nullptr);
            x[i] = before;
            slopes.push_back((up - down) / (2 * step));
            picked.push_back(got[i]);
        }
        check(name + " " + what, picked, slopes, allowed);
        for (double value : got) {
            if (std::isnan(value)) return verdict(name + " " + what + " holds a NaN", NAN, 0);
        }
    };
    const size_t every = std::max<size_t>(1, q_count / 150) | 1;
    check_part("dq", gradient(dq_, q_count, 0), q, a.queries, every);
    check_part("dk", gradient(dk_, k_count, 1), k, a.keys, every);
    check_part("dv", gradient(dv_, k_count, 2), v, a.keys, every);
}

static dim3 attention_grid(int rows, int side, const AttentionCase& a) { return dim3((rows + side - 1) / side, a.heads, a.batch); }

template <int D> static void test_tensor_core_attention(AttentionCase a) {
    using namespace attention_kernels;
    a.d = D;
    auto s = [&](long long stride, long long out_stride) { return AttentionSizes{a.queries, a.keys, a.heads, stride, out_stride}; };
    test_attention<bf16>(
        "attention", a,
        [&](auto q, auto k, auto v, auto y, auto sums, auto stride, auto out, float scale) {
            launch(attention_grid(a.queries, 64, a), THREADS, [&] { attention_forward<D>(q, k, v, y, sums, s(stride, out), scale); });
        },
        [&](auto q, auto k, auto v, auto dy, auto sums, auto along, auto dq, auto stride, auto out, float scale) {
            launch(attention_grid(a.queries, 64, a), THREADS, [&] {
                attention_backward_q<D>(q, k, v, dy, sums, along, dq, s(stride, out), scale);
            });
        },
        [&](auto q, auto k, auto v, auto dy, auto sums, auto along, auto dk, auto dv, auto stride, auto out, float scale) {
            launch(attention_grid(a.keys, 64, a), THREADS, [&] {
                attention_backward_kv<D>(q, k, v, dy, sums, along, dk, dv, s(stride, out), scale);
            });
        },
        1.5e-2
    );
}

template <typename T> static void test_plain_attention(AttentionCase a) {
    using namespace attention_plain_kernels;
    const dim3 block(SIDE, SIDE);
    auto s = [&](long long stride, long long out_stride) { return AttentionSizes{a.queries, a.keys, a.heads, a.d, stride, out_stride}; };
    test_attention<T>(
        "attention_plain", a,
        [&](auto q, auto k, auto v, auto y, auto sums, auto stride, auto out, float scale) {
            launch(attention_grid(a.queries, SIDE, a), block, [&] { attention_forward(q, k, v, y, sums, s(stride, out), scale); });
        },
        [&](auto q, auto k, auto v, auto dy, auto sums, auto along, auto dq, auto stride, auto out, float scale) {
            launch(attention_grid(a.queries, SIDE, a), block, [&] {
                attention_backward_q(q, k, v, dy, sums, along, dq, s(stride, out), scale);
            });
        },
        [&](auto q, auto k, auto v, auto dy, auto sums, auto along, auto dk, auto dv, auto stride, auto out, float scale) {
            launch(attention_grid(a.keys, SIDE, a), block, [&] {
                attention_backward_kv(q, k, v, dy, sums, along, dk, dv, s(stride, out), scale);
            });
        },
        sizeof(T) == 4 ? 1e-5 : 1.5e-2
    );
}

template <typename T, typename W> static void test_rows() {
    test_layer_norm<T, W>(5, 40);
    test_layer_norm<T, W>(3, 17);
    test_layer_norm<T, W>(9, 132);
    test_layer_norm<T, W>(4, 40, 1);
    for (bool biased : {true, false}) {
        test_activation<activation_kernels::Erf, T, W>("erf", gelu_erf, 7, 36, biased);
        test_activation<activation_kernels::Tanh, T, W>("tanh", gelu_tanh, 7, 36, biased);
        test_activation<activation_kernels::Quick, T, W>("quick", gelu_quick, 30, 7, biased);
        test_activation<activation_kernels::HyperbolicTangent, T, W>("tanh", [](double x) { return std::tanh(x); }, 5, 8, biased);
    }
    // Without a bias, whose sum with x may be 0, where there is no slope.
    test_activation<activation_kernels::Relu, T, W>("relu", [](double x) { return std::max(x, 0.); }, 5, 8, false);
    for (bool scaled : {true, false}) {
        for (bool dropped : {true, false}) test_residual<T, W>(3, 5, 36, scaled, dropped);
    }
    test_residual<T, W>(2, 3, 7, true, true);
}

template <typename T> static void test_type() {
    test_column_sums<T>(100, 40);
    test_column_sums<T>(3, 7);
    for (double smoothing : {0., 0.1, 1.}) test_cross_entropy<T>(9, 10, smoothing);
    test_cross_entropy<T>(5, 100, 0.1);
    test_cross_entropy<T>(1, 1, 0);
    test_max_pool<T>(2, 2, 0, 6, 8);
    test_max_pool<T>(3, 2, 1, 7, 5);
    test_max_pool<T>(2, 3, 1, 9, 8);
    test_max_pool<T>(3, 1, 1, 5, 4);
    test_windows<T>(5, 3, 1, 2);
    test_windows<T>(2, 2, 2, 0);
    test_windows<T>(3, 3, 3, 1);
    test_optimizers<T>();
    test_resize<T>();
    test_grey<T>();
    test_plain_attention<T>({2, 17, 17, 2, 32, true});
    test_plain_attention<T>({1, 5, 33, 3, 20, false});
    test_plain_attention<T>({1, 1, 1, 1, 7, true});
    test_plain_attention<T>({1, 16, 48, 1, 128, false});
}

int main() {
    test_rows<float, float>();
    test_rows<bf16, bf16>();
    test_rows<bf16, float>();
    test_type<float>();
    test_type<bf16>();
    test_cross_entropy_extremes();
    test_max_pool_ties();
    for (AttentionCase a : std::vector<AttentionCase>{
             {1, 17, 17, 2, 0, true}, {2, 70, 70, 1, 0, true}, {1, 1, 130, 1, 0, false}, {1, 64, 64, 1, 0, true}, {1, 90, 5, 1, 0, false}
         }) {
        test_tensor_core_attention<32>(a);
        test_tensor_core_attention<64>(a);
        test_tensor_core_attention<96>(a);
        test_tensor_core_attention<128>(a);
    }
    if (failures) printf("%d checks failed\n", failures);
    return failures != 0;
}
