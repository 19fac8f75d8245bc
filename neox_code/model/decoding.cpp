// One pass of a transformer over a few tokens on a CPU: native_decoder.py compiles this file and passes it the model.
//
// A pass reads all weights from memory once and is limited by that. Its threads divide the outputs of each matrix product, and the
// heads of attention. The residual stream and all sums are fp32. For every token the order of every sum is fixed, so its results
// have the same bits beside any other tokens, with any number of threads, and whichever thread computes which part.
//
// Buffers of several tokens have a stride that is a multiple of UNIT, and zeros in the padding.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#endif
#include "../parallel/vectors.h"

constexpr int UNIT = 32;  // outputs of a product that are computed together; a multiple of LANES
constexpr int TILE = 8;   // tokens of a product that are computed together

enum Format { FP32, BF16, BF16_PAIRS, INT8 };
enum Activation { IDENTITY, GELU, TANH_GELU, RELU, SILU, SIGMOID, SOFTSIGN, MISH };

// ---- Values that native_decoder.py passes; it has the same structures.

struct Linear {
    const void* weight;    // FP32, BF16, INT8: [rows, columns]. BF16_PAIRS: [rows / block, columns / 2, block, 2], padded with zeros
    const float* bias;     // of each row, padded to UNIT
    const float* scales;   // INT8: of each row, padded to UNIT
    const int32_t* sums;   // INT8: 128 times the sum of each row
    int64_t rows, columns, format, block;
};

struct Layer {
    const float *norm, *norm_bias, *second_norm, *second_norm_bias, *query_norm, *key_norm;  // biases, query_norm, key_norm: or null
    const float* slopes;  // of ALiBi for each head, or null
    const float *embedding_skip, *value_residual;  // two factors each, or null
    Linear query_key_value, dense, up, down;
};

struct Model {
    int64_t num_layers, hidden, heads, groups, head_dim, inner, rotary_dim, activation;
    int64_t is_gated, is_rms, is_parallel, cache_is_bf16;
    double epsilon, head_epsilon;
    const float *cos, *sin;  // [positions, rotary_dim / 2]
    const float *norm, *norm_bias;
    const Layer* layers;
};

struct Token {
    void* cache;  // of its text: [layers, 2, groups, capacity, head_dim]
    int64_t capacity, position;
};

// ---- Threads

static void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

constexpr int SPINS = 300;         // of a thread that waits for another, before it yields its core
constexpr int IDLE_SPINS = 2000;   // of a helper without work, before it sleeps

struct Ended {};  // thrown in a helper whose pass has ended without it

// The work of one pass. It is a sequence of sections, and a section consists of items that do not depend on each other. A section
// begins when all items of the section before are done, whichever threads have come: on a busy machine a thread can lose its core
// at any time, and the others then do its items.
struct Work {
    struct alignas(64) Counter {
        std::atomic<int64_t> value{0};
    };
    int64_t threads, sections;
    std::vector<Counter> counters;  // [sections, threads + 1]: items taken of each thread's share, then items done
    std::vector<Counter> is_inside;  // of each thread: 1 while it may read or write the pass's memory
    std::atomic<bool> has_ended{false};

    Work(int64_t threads, int64_t sections)
        : threads(threads), sections(sections), counters(sections * (threads + 1)), is_inside(threads) {}
};

// A thread's way through the sections of a pass.
struct Worker {
    Work& work;
    int64_t number, section = 0, totals[2] = {};  // totals: items of the last two sections

    Worker(Work& work, int64_t number) : work(work), number(number) {}

    // Call compute(item) for items of this section that no other thread has taken: those of this thread's share in ascending
    // order, since memory is fastest read in order, then those that are left of the others' shares.
    template <class Compute>
    void share(int64_t items, Compute compute) {
        if (section) wait_for_section(section - 1);
        Work::Counter* counters = &work.counters[section * (work.threads + 1)];
        int64_t count = 0;
        for (int64_t k = 0; k < work.threads; k++) {
            int64_t owner = (number + k) % work.threads, begin = items * owner / work.threads, end = items * (owner + 1) / work.threads;
            if (k && begin + counters[owner].value.load(std::memory_order_relaxed) >= end) continue;
            for (int64_t item; (item = begin + counters[owner].value.fetch_add(1, std::memory_order_relaxed)) < end; count++) compute(item);
        }
        if (count) counters[work.threads].value.fetch_add(count, std::memory_order_release);
        totals[section % 2] = items;
        section++;
    }

    void enter() {
        work.is_inside[number].value.store(1);
        if (number && work.has_ended.load()) {
            leave();
            throw Ended();
        }
    }

    void leave() { work.is_inside[number].value.store(0); }

    // Return when all items of a section are done.
    void wait_for_section(int64_t index) {
        const std::atomic<int64_t>& done = work.counters[(index + 1) * (work.threads + 1) - 1].value;
        int64_t items = totals[index % 2];
        if (done.load(std::memory_order_acquire) == items) return;
        leave();
        for (int spins = 0; done.load(std::memory_order_acquire) != items; spins++) {
            if (work.has_ended.load()) break;
            if (spins < SPINS) pause_briefly();
            else sched_yield();
        }
        enter();
    }
};

typedef std::function<void(Worker&)> Job;

// Threads that help with passes. They sleep between passes.
class Helpers {
    std::mutex mutex;
    std::condition_variable wake;
    std::shared_ptr<Work> work;
    std::shared_ptr<Job> job;
    std::atomic<int64_t> round{0};
    int64_t started = 0;
    pid_t process = getpid();

    void help(int64_t number) {
        for (int64_t seen = 0;;) {
            for (int spins = 0; spins < IDLE_SPINS && round.load() == seen; spins++) pause_briefly();
            std::shared_ptr<Work> current;
            std::shared_ptr<Job> function;
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return round.load() != seen; });
                seen = round.load(), current = work, function = job;
            }
            if (!current || number >= current->threads) continue;
            Worker worker{*current, number};
            try {
                worker.enter();
                (*function)(worker);
                worker.leave();
            } catch (const Ended&) {
            }
        }
    }

   public:
    // Compute the sections of a job with this thread and helpers.
    static void run(int64_t threads, int64_t sections, Job job) {
        static Helpers* helpers = new Helpers;  // threads outlive the end of main()
        if (helpers->process != getpid()) helpers = new Helpers;  // a forked process has none of its parent's threads
        auto work = std::make_shared<Work>(threads, sections);
        auto shared = std::make_shared<Job>(std::move(job));
        if (threads > 1) {
            std::lock_guard<std::mutex> lock(helpers->mutex);
            for (; helpers->started < threads - 1; helpers->started++)
                std::thread(&Helpers::help, helpers, helpers->started + 1).detach();
            helpers->work = work, helpers->job = shared;
            helpers->round++;
        }
        if (threads > 1) helpers->wake.notify_all();
        Worker worker{*work, 0};
        worker.enter();
        (*shared)(worker);
        worker.wait_for_section(sections - 1);
        worker.leave();
        work->has_ended.store(true);
        for (int64_t number = 1; number < threads; number++)
            for (int spins = 0; work->is_inside[number].value.load(); spins++)
                if (spins < SPINS) pause_briefly();
                else sched_yield();
    }
};

// ---- Vectors

constexpr int STREAMS = LANES == 16 ? 4 : 1;  // places of the cache that are read in turn: prefetchers follow each of them
constexpr int AHEAD = 4096;  // bytes: processors prefetch within a page only

template <class T>
static void prefetch(const T* from) { __builtin_prefetch((const char*)from + AHEAD, 0, 2); }

static Vec activate(int64_t kind, Vec x) {
    switch (kind) {
        case GELU: return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
        case TANH_GELU: return x * logistic(1.59576912f * (x + 0.044715f * x * x * x));
        case RELU: return x < 0 ? x * 0 : x;
        case SILU: return x * logistic(x);
        case SIGMOID: return logistic(x);
        case SOFTSIGN: return x / (1.0f + (x < 0 ? -x : x));
        case MISH: {
            Vec e = exponential(x > 20.0f ? x * 0 + 20.0f : x), square = e * e + 2.0f * e;
            return x * (square / (square + 2.0f));
        }
    }
    return x;
}

template <class T>
static float dot(const T* first, const float* second, int64_t count) {
    Vec total = {};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) total += load(first + i) * load(second + i);
    float rest = 0;
    for (; i < count; i++) rest += widen(first[i]) * second[i];
    return sum(total) + rest;
}

static int64_t pad(int64_t count) { return (count + UNIT - 1) / UNIT * UNIT; }

// ---- Matrix products

// The vectors of a product in the form that its kernel reads. Each thread has its own.
struct Input {
    int64_t stride = 0;
    std::vector<float> wide, scales;
    std::vector<bf16> narrow;
    std::vector<uint8_t> bytes;  // 8-bit integers plus 128

    float* resize(int64_t tokens, int64_t width) {
        stride = pad(width);
        wide.assign(tokens * stride, 0.0f);
        return wide.data();
    }

    // Convert the vectors in `wide` for the product with `linear`.
    void convert(const Linear& linear, int64_t tokens) {
        if (linear.format == BF16_PAIRS) {
            narrow.resize(tokens * stride);
            for (int64_t i = 0; i < tokens * stride; i += LANES) store(&narrow[i], load(&wide[i]));
        }
        if (linear.format != INT8) return;
        bytes.resize(tokens * stride);
        scales.resize(tokens);
        for (int64_t token = 0; token < tokens; token++) {
            const float* row = &wide[token * stride];
            Vec largest = {}, broken = {};
            for (int64_t i = 0; i < stride; i += LANES) {
                Vec x = load(row + i), size = x < 0 ? -x : x;
                largest = size > largest ? size : largest;
                broken += x * 0;  // becomes NaN
            }
            float scale = 1e-30f;
            for (int lane = 0; lane < LANES; lane++) scale = std::max(scale, largest[lane]);
            scale /= 127;
            for (int64_t i = 0; i < stride; i++) bytes[token * stride + i] = uint8_t(int(std::nearbyintf(row[i] / scale)) + 128);
            scales[token] = scale + sum(broken);
        }
    }
};

// A kernel computes UNIT outputs, from `output` on, of R tokens: sums[R][UNIT].
typedef void (*Kernel)(const Linear&, const Input&, int64_t token, int64_t output, float* sums);

template <class T, int R, int COLUMNS>
static void multiply_columns(const T* weight, int64_t columns, const float* x, int64_t stride, float* sums) {
    Vec total[COLUMNS][R] = {};
    float rest[COLUMNS][R] = {};
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES) {
        Vec w[COLUMNS];
        for (int c = 0; c < COLUMNS; c++) prefetch(weight + c * columns + i), w[c] = load(weight + c * columns + i);
        for (int r = 0; r < R; r++) {
            Vec value = load(x + r * stride + i);
            for (int c = 0; c < COLUMNS; c++) total[c][r] += w[c] * value;
        }
    }
    for (; i < columns; i++)
        for (int c = 0; c < COLUMNS; c++)
            for (int r = 0; r < R; r++)  // not left to the compiler, whose choice can depend on R
                rest[c][r] = std::fma(widen(weight[c * columns + i]), x[r * stride + i], rest[c][r]);
    for (int c = 0; c < COLUMNS; c++)
        for (int r = 0; r < R; r++) sums[r * UNIT + c] = sum(total[c][r]) + rest[c][r];
}

template <int R, int COLUMNS>
static void multiply_columns(const int8_t* weight, int64_t columns, const uint8_t* x, int64_t stride, int32_t* sums) {
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
    __m512i total[COLUMNS][R];
    for (int c = 0; c < COLUMNS; c++)
        for (int r = 0; r < R; r++) total[c][r] = _mm512_setzero_si512();
    for (int64_t i = 0; i < columns; i += 64) {
        __mmask64 mask = columns - i >= 64 ? ~0ull : (1ull << (columns - i)) - 1;
        __m512i w[COLUMNS];
        for (int c = 0; c < COLUMNS; c++)
            prefetch(weight + c * columns + i), w[c] = _mm512_maskz_loadu_epi8(mask, weight + c * columns + i);
        for (int r = 0; r < R; r++) {
            __m512i value = _mm512_maskz_loadu_epi8(mask, x + r * stride + i);
            for (int c = 0; c < COLUMNS; c++) total[c][r] = _mm512_dpbusd_epi32(total[c][r], value, w[c]);
        }
    }
    for (int c = 0; c < COLUMNS; c++)
        for (int r = 0; r < R; r++) sums[r * UNIT + c] = _mm512_reduce_add_epi32(total[c][r]);
#else
    for (int c = 0; c < COLUMNS; c++)
        for (int r = 0; r < R; r++) {
            int32_t total = 0;
            for (int64_t i = 0; i < columns; i++) total += int32_t(weight[c * columns + i]) * int32_t(x[r * stride + i]);
            sums[r * UNIT + c] = total;
        }
#endif
}

template <class T, int R>
static void multiply_plain(const Linear& linear, const Input& x, int64_t token, int64_t output, float* sums) {
    const T* weight = (const T*)linear.weight + output * linear.columns;
    const float* vectors = &x.wide[token * x.stride];
    int64_t count = std::min<int64_t>(UNIT, linear.rows - output), c = 0;
    constexpr int COLUMNS = R > 4 ? 2 : 4;
    for (; c + COLUMNS <= count; c += COLUMNS)
        multiply_columns<T, R, COLUMNS>(weight + c * linear.columns, linear.columns, vectors, x.stride, sums + c);
    for (; c < count; c++) multiply_columns<T, R, 1>(weight + c * linear.columns, linear.columns, vectors, x.stride, sums + c);
}

template <int R>
static void multiply_bytes(const Linear& linear, const Input& x, int64_t token, int64_t output, float* sums) {
    const int8_t* weight = (const int8_t*)linear.weight + output * linear.columns;
    const uint8_t* vectors = &x.bytes[token * x.stride];
    int64_t count = std::min<int64_t>(UNIT, linear.rows - output), c = 0;
    constexpr int COLUMNS = R > 4 ? 2 : 4;
    alignas(64) int32_t exact[TILE * UNIT] = {};
    for (; c + COLUMNS <= count; c += COLUMNS)
        multiply_columns<R, COLUMNS>(weight + c * linear.columns, linear.columns, vectors, x.stride, exact + c);
    for (; c < count; c++) multiply_columns<R, 1>(weight + c * linear.columns, linear.columns, vectors, x.stride, exact + c);
    for (int r = 0; r < R; r++)
        for (int i = 0; i < count; i++)
            sums[r * UNIT + i] = float(exact[r * UNIT + i] - linear.sums[output + i]) * x.scales[token + r] * linear.scales[output + i];
}

#if defined(__AMX_BF16__)
// Linux lends the tile registers to a process that asks for them: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
static const bool has_tiles = syscall(SYS_arch_prctl, 0x1023, 18) == 0;

struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {};
    // Tiles 0, 1, 5, 6: sums [R, 16]. 2: vectors [R, 32]. 3, 4: weights [16 pairs, 16 outputs, 2].
    explicit TileShapes(int r) { rows[0] = rows[1] = rows[2] = rows[5] = rows[6] = uint8_t(r), rows[3] = rows[4] = 16; }
};

// The two halves of the columns are read in turn, because prefetchers then follow two places.
static void multiply_tiles(const bf16* weight, int64_t block, int64_t pairs, const bf16* x, int64_t stride, int rows, float* sums) {
    TileShapes shapes(rows);
    _tile_loadconfig(&shapes);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(5);
    _tile_zero(6);
    int64_t half = (pairs + 31) / 32 * 16;
    auto load_tiles = [=](int64_t pair) {
        const bf16* from = weight + pair * block * 2;
        for (int line = 0; line < 16; line++) prefetch(from + line * block * 2), prefetch(from + line * block * 2 + 32);
        _tile_loadd(2, x + 2 * pair, stride * 2);
        _tile_loadd(3, from, block * 4);
        _tile_loadd(4, from + 32, block * 4);
    };
    for (int64_t pair = 0; pair < half; pair += 16) {
        load_tiles(pair);
        _tile_dpbf16ps(0, 2, 3);
        _tile_dpbf16ps(1, 2, 4);
        if (half + pair >= pairs) break;
        load_tiles(half + pair);
        _tile_dpbf16ps(5, 2, 3);
        _tile_dpbf16ps(6, 2, 4);
    }
    alignas(64) float others[TILE * UNIT];
    _tile_stored(0, sums, UNIT * 4);
    _tile_stored(1, sums + 16, UNIT * 4);
    _tile_stored(5, others, UNIT * 4);
    _tile_stored(6, others + 16, UNIT * 4);
    for (int i = 0; i < rows * UNIT; i += LANES) store(sums + i, load(sums + i) + load(others + i));
    _tile_release();
}
#endif

template <int R>
static void multiply_pairs(const Linear& linear, const Input& x, int64_t token, int64_t output, float* sums) {
    int64_t block = linear.block, pairs = x.stride / 2;
    const bf16* weight = (const bf16*)linear.weight + output / block * pairs * block * 2 + output % block * 2;
    const bf16* vectors = &x.narrow[token * x.stride];
#if defined(__AMX_BF16__)
    if (has_tiles) return multiply_tiles(weight, block, pairs, vectors, x.stride, R, sums);
#endif
#if defined(__AVX512BF16__)
    __m512 total[R][2];
    for (int r = 0; r < R; r++) total[r][0] = total[r][1] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; pair++, weight += block * 2) {
        prefetch(weight), prefetch(weight + 32);
        __m512bh low = (__m512bh)_mm512_loadu_si512(weight), high = (__m512bh)_mm512_loadu_si512(weight + 32);
        for (int r = 0; r < R; r++) {
            int32_t value;
            memcpy(&value, vectors + r * x.stride + 2 * pair, 4);
            __m512bh both = (__m512bh)_mm512_set1_epi32(value);
            total[r][0] = _mm512_dpbf16_ps(total[r][0], low, both);
            total[r][1] = _mm512_dpbf16_ps(total[r][1], high, both);
        }
    }
    for (int r = 0; r < R; r++) {
        _mm512_storeu_ps(sums + r * UNIT, total[r][0]);
        _mm512_storeu_ps(sums + r * UNIT + 16, total[r][1]);
    }
#else
    for (int64_t pair = 0; pair < pairs; pair++, weight += block * 2)
        for (int r = 0; r < R; r++)
            for (int i = 0; i < 2 * UNIT; i++)
                sums[r * UNIT + i / 2] = std::fma(widen(weight[i]), widen(vectors[r * x.stride + 2 * pair + i % 2]), sums[r * UNIT + i / 2]);
#endif
}

template <int R>
static Kernel choose_kernel(int64_t format) {
    const Kernel kernels[] = {multiply_plain<float, R>, multiply_plain<bf16, R>, multiply_pairs<R>, multiply_bytes<R>};
    return kernels[format];
}

static Kernel choose_kernel(int64_t format, int64_t tokens) {
    Kernel (*const choices[TILE])(int64_t) = {choose_kernel<1>, choose_kernel<2>, choose_kernel<3>, choose_kernel<4>,
                                              choose_kernel<5>, choose_kernel<6>, choose_kernel<7>, choose_kernel<8>};
    return choices[tokens - 1](format);
}

// Call emit(token, output, sums) for each UNIT outputs of each token that this thread computes, bias included. `read` fills the
// input when it is needed.
template <class Read, class Emit>
static void multiply(Worker& worker, const Linear& linear, Input& x, int64_t tokens, Read read, Emit emit) {
    bool is_ready = false;
    worker.share((linear.rows + UNIT - 1) / UNIT, [&](int64_t unit) {
        if (!is_ready) read(), x.convert(linear, tokens), is_ready = true;
        int64_t output = unit * UNIT;
        for (int64_t token = 0; token < tokens; token += TILE) {
            int64_t rows = std::min<int64_t>(TILE, tokens - token);
            alignas(64) float sums[TILE * UNIT] = {};
            choose_kernel(linear.format, rows)(linear, x, token, output, sums);
            for (int64_t row = 0; row < rows; row++) {
                float* values = sums + row * UNIT;
                if (linear.bias)
                    for (int i = 0; i < UNIT; i += LANES) store(values + i, load(values + i) + load(linear.bias + output + i));
                emit(token + row, output, values);
            }
        }
    });
}

// ---- Norms, positions and attention

// Sum a function of the values, with a fixed order of additions for each count.
template <class Function>
static float add_up(const float* from, int64_t count, Function function) {
    Vec total = {};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) total += function(load(from + i));
    Vec rest = {};
    for (int64_t lane = 0; i + lane < count; lane++) rest[lane] = function(Vec{} + from[i + lane])[0];
    return sum(total + rest);
}

static void normalize(const float* from, const float* weight, const float* bias, bool is_rms, double epsilon, int64_t width, float* to) {
    float mean = is_rms ? 0 : add_up(from, width, [](Vec x) { return x; }) / float(width);
    float squares = add_up(from, width, [mean](Vec x) { return (x - mean) * (x - mean); });
    float factor = 1 / std::sqrt(squares / float(width) + float(epsilon));
    for (int64_t i = 0; i < width; i++) to[i] = (from[i] - mean) * factor * weight[i] + (bias ? bias[i] : 0);
}

static void rotate(const Model& model, int64_t position, float* head) {
    int64_t half = model.rotary_dim / 2;
    const float *cos = model.cos + position * half, *sin = model.sin + position * half;
    for (int64_t i = 0; i < half; i++) {
        float first = head[i], second = head[i + half];
        head[i] = first * cos[i] - second * sin[i];
        head[i + half] = second * cos[i] + first * sin[i];
    }
}

template <class T>
static void copy_head(T* to, const float* from, int64_t width) {
    float padded[LANES] = {};
    for (int64_t i = 0; i < width; i += LANES) {
        int64_t count = std::min<int64_t>(LANES, width - i);
        T rounded[LANES];
        std::copy(from + i, from + i + count, padded);
        store(rounded, load(padded));
        std::copy(rounded, rounded + count, to + i);
    }
}

template <class T>
struct Attention {
    const Model& model;
    const Layer& layer;
    int64_t layer_index;
    bool is_grouped = model.groups < model.heads;

    // Of a token's fused projection: [q k v of each head], or if heads share keys [all q, all k, all v].
    int64_t query(int64_t head) const { return (is_grouped ? head : 3 * head) * model.head_dim; }
    int64_t key(int64_t group) const { return (is_grouped ? model.heads + group : 3 * group + 1) * model.head_dim; }
    int64_t value(int64_t group) const { return (is_grouped ? model.heads + model.groups + group : 3 * group + 2) * model.head_dim; }

    T* cached(const Token& token, int64_t which, int64_t group) const {
        return (T*)token.cache + ((layer_index * 2 + which) * model.groups + group) * token.capacity * model.head_dim;
    }

    void prepare(float* head, const float* norm, int64_t position) const {
        if (norm) normalize(head, norm, nullptr, true, model.head_epsilon, model.head_dim, head);
        rotate(model, position, head);
    }

    // `first` is the group's value of the first layer, which this layer sets or reads.
    void store_key_and_value(const Token& token, float* fused, float* first, int64_t group) const {
        prepare(fused + key(group), layer.key_norm, token.position);
        float* own = fused + value(group);
        if (layer_index == 0) std::copy(own, own + model.head_dim, first);
        if (const float* factors = layer.value_residual)
            for (int64_t d = 0; d < model.head_dim; d++) own[d] = factors[0] * own[d] + factors[1] * first[d];
        copy_head(cached(token, 0, group) + token.position * model.head_dim, fused + key(group), model.head_dim);
        copy_head(cached(token, 1, group) + token.position * model.head_dim, fused + value(group), model.head_dim);
    }

    void attend(const Token& token, float* fused, int64_t head, std::vector<float>& scores, float* context) const {
        int64_t width = model.head_dim, length = token.position + 1, group = head / (model.heads / model.groups);
        float* q = fused + query(head);
        prepare(q, layer.query_norm, token.position);
        const T *keys = cached(token, 0, group), *values = cached(token, 1, group);
        scores.resize(pad(length));
        float factor = 1 / std::sqrt(float(width)), largest = -INFINITY;
        auto score = [&](int64_t i) {
            for (int64_t d = 0; d < width; d += 64 / int64_t(sizeof(T))) prefetch(keys + i * width + d);
            scores[i] = dot(keys + i * width, q, width) * factor;
            if (layer.slopes) scores[i] += layer.slopes[head] * float(i - token.position);
            largest = std::max(largest, scores[i]);
        };
        int64_t part = length / STREAMS;
        for (int64_t i = 0; i < part; i++)
            for (int64_t stream = 0; stream < STREAMS; stream++) score(stream * part + i);
        for (int64_t i = STREAMS * part; i < length; i++) score(i);
        for (int64_t i = 0; i < length; i += LANES) store(&scores[i], exponential(load(&scores[i]) - largest));
        float total = add_up(scores.data(), length, [](Vec x) { return x; });
        int64_t d = 0;
        for (; d + 4 * LANES <= width; d += 4 * LANES) add_values<4>(values + d, scores.data(), length, 1 / total, context + d);
        for (; d + LANES <= width; d += LANES) add_values<1>(values + d, scores.data(), length, 1 / total, context + d);
        for (; d < width; d++) {
            float sum = 0;
            for (int64_t i = 0; i < length; i++) sum += scores[i] * widen(values[i * width + d]);
            context[d] = sum / total;
        }
    }

    template <int VECTORS>
    void add_values(const T* values, const float* weights, int64_t length, float factor, float* context) const {
        Vec sums[STREAMS][VECTORS] = {};
        auto add = [&](int64_t i, int64_t stream) {
            for (int v = 0; v < VECTORS; v++) {
                prefetch(values + i * model.head_dim + v * LANES);
                sums[stream][v] += weights[i] * load(values + i * model.head_dim + v * LANES);
            }
        };
        int64_t part = length / STREAMS;
        for (int64_t i = 0; i < part; i++)
            for (int64_t stream = 0; stream < STREAMS; stream++) add(stream * part + i, stream);
        for (int64_t i = STREAMS * part; i < length; i++) add(i, 0);
        for (int v = 0; v < VECTORS; v++) {
            Vec total = {};
            for (int stream = 0; stream < STREAMS; stream++) total += sums[stream][v];
            store(context + v * LANES, total * factor);
        }
    }
};

// ---- The pass

struct Pass {
    const Model& model;
    const Token* tokens;
    int64_t count;
    float* hidden;  // [count, pad(hidden)]
    int64_t width = pad(model.hidden), fused_width = pad((model.heads + 2 * model.groups) * model.head_dim);
    int64_t context_width = pad(model.heads * model.head_dim), up_width = pad(model.inner * (1 + model.is_gated));
    std::vector<float> fused = std::vector<float>(count * fused_width), context = std::vector<float>(count * context_width);
    std::vector<float> inner = std::vector<float>(count * up_width);
    std::vector<float> embedded = std::vector<float>(hidden, hidden + count * width);
    std::vector<float> first_values = std::vector<float>(count * model.groups * model.head_dim);  // of the first layer

    int64_t count_sections() const { return model.num_layers * (6 + model.is_gated + (model.layers->embedding_skip != nullptr)) + 1; }

    void read_normalized(Input& x, const float* weight, const float* bias) const {
        float* to = x.resize(count, model.hidden);
        for (int64_t token = 0; token < count; token++)
            normalize(hidden + token * width, weight, bias, model.is_rms, model.epsilon, model.hidden, to + token * x.stride);
    }

    void add_product(Worker& worker, const Linear& linear, Input& x, const std::vector<float>& from, int64_t from_stride) const {
        auto read = [&] {
            float* to = x.resize(count, linear.columns);
            for (int64_t token = 0; token < count; token++) {
                const float* row = &from[token * from_stride];
                std::copy(row, row + linear.columns, to + token * x.stride);
            }
        };
        multiply(worker, linear, x, count, read, [&](int64_t token, int64_t output, const float* values) {
            float* to = hidden + token * width + output;
            for (int i = 0; i < UNIT; i += LANES) store(to + i, load(to + i) + load(values + i));
        });
    }

    void compute_up(Worker& worker, const Layer& layer, Input& x) {
        int64_t kind = model.is_gated ? int64_t(IDENTITY) : model.activation;
        auto read = [&] { read_normalized(x, layer.second_norm, layer.second_norm_bias); };
        multiply(worker, layer.up, x, count, read, [&](int64_t token, int64_t output, const float* values) {
            float* to = &inner[token * up_width + output];
            for (int i = 0; i < UNIT; i += LANES) store(to + i, activate(kind, load(values + i)));
        });
    }

    void apply_gate(Worker& worker) {
        worker.share(count * ((model.inner + LANES - 1) / LANES), [&](int64_t unit) {
            int64_t token = unit % count, first = unit / count * LANES, size = std::min<int64_t>(LANES, model.inner - first);
            float gate[LANES] = {}, *up = &inner[token * up_width + first];
            std::copy(up + model.inner, up + model.inner + size, gate);
            store(gate, activate(model.activation, load(gate)));
            for (int64_t i = 0; i < size; i++) up[i] *= gate[i];
        });
    }

    template <class T>
    void attend(Worker& worker, const Layer& layer, int64_t index, std::vector<float>& scores) {
        const Attention<T> attention{model, layer, index};
        worker.share(count * model.groups, [&](int64_t item) {
            int64_t token = item / model.groups, group = item % model.groups;
            attention.store_key_and_value(tokens[token], &fused[token * fused_width], &first_values[item * model.head_dim], group);
        });
        worker.share(count * model.heads, [&](int64_t item) {
            int64_t token = item / model.heads, head = item % model.heads;
            float* to = &context[token * context_width + head * model.head_dim];
            attention.attend(tokens[token], &fused[token * fused_width], head, scores, to);
        });
    }

    template <class T>
    void run(Worker& worker) {
        Input x;
        std::vector<float> scores;
        for (int64_t index = 0; index < model.num_layers; index++) {
            const Layer& layer = model.layers[index];
            if (const float* factors = layer.embedding_skip)
                worker.share(count, [&](int64_t token) {
                    for (int64_t i = token * width; i < (token + 1) * width; i++) hidden[i] = factors[0] * hidden[i] + factors[1] * embedded[i];
                });
            auto read = [&] { read_normalized(x, layer.norm, layer.norm_bias); };
            multiply(worker, layer.query_key_value, x, count, read, [&](int64_t token, int64_t output, const float* values) {
                std::copy(values, values + UNIT, &fused[token * fused_width + output]);
            });
            if (model.is_parallel) compute_up(worker, layer, x);
            attend<T>(worker, layer, index, scores);
            add_product(worker, layer.dense, x, context, context_width);
            if (!model.is_parallel) compute_up(worker, layer, x);
            if (model.is_gated) apply_gate(worker);
            add_product(worker, layer.down, x, inner, up_width);
        }
        worker.share(count, [&](int64_t token) {
            float* row = hidden + token * width;
            normalize(row, model.norm, model.norm_bias, model.is_rms, model.epsilon, model.hidden, row);
        });
    }
};

// Read `count` tokens: replace their embeddings hidden[count][pad(hidden)] by the states before the head, and add their keys and
// values to the caches. The tokens of one text have consecutive positions.
extern "C" void read_tokens(const Model* model, const Token* tokens, int64_t count, float* hidden, int64_t threads) {
    Pass pass{*model, tokens, count, hidden};
    Helpers::run(threads, pass.count_sections(), [&](Worker& worker) {
        if (model->cache_is_bf16) pass.run<bf16>(worker);
        else pass.run<float>(worker);
    });
}

// Compute outputs[count][linear.rows] = inputs[count][pad(columns)] times the weights.
extern "C" void multiply_vectors(const Linear* linear, const float* inputs, int64_t count, float* outputs, int64_t threads) {
    Helpers::run(threads, 1, [&](Worker& worker) {
        Input x;
        auto read = [&] {
            float* to = x.resize(count, linear->columns);
            std::copy(inputs, inputs + count * x.stride, to);
        };
        multiply(worker, *linear, x, count, read, [&](int64_t token, int64_t output, const float* values) {
            std::copy(values, values + std::min<int64_t>(UNIT, linear->rows - output), outputs + token * linear->rows + output);
        });
    });
}
