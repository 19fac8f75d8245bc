// One pass of a transformer over new tokens on a CPU: native_decoder.py compiles this file and passes it the model.
//
// A pass over a few tokens reads all weights from memory once and is limited by that; a pass over many is limited by arithmetic. Its
// threads divide the outputs of each matrix product, and the heads of attention. The residual stream and all sums are fp32. For every
// token the order of every sum is fixed, so its results have the same bits beside any other tokens, in a prompt or after it, with
// any number of threads, and whichever thread computes which part.
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
#include "../parallel/matrices.h"

constexpr int UNIT = 32;  // outputs of a product that are computed together; a multiple of LANES
constexpr int TILE = 8;   // tokens of a product that are computed together; a pass over more tokens is large
constexpr int BLOCK = 512;    // tokens of a large pass whose products one thread computes at a time
constexpr int QUERIES = 64;   // tokens of a text whose attention one thread computes at a time

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

// The vectors of a product in the form that its kernel reads, each of pad(columns) numbers. In a pass over a few tokens each thread
// has its own; in a large one they share it.
struct Input {
    std::vector<float> wide, scales;
    std::vector<bf16> narrow;
    std::vector<uint8_t> bytes;  // 8-bit integers plus 128
    bool is_large = false;       // of a large pass: tiles of 16 tokens are in a row

    bool is_tiled(const Linear& linear) const {
        return is_large && has_tiles && (linear.format == BF16_PAIRS || (linear.format == INT8 && linear.columns % 64 == 0));
    }

    bf16* place(const Linear& linear, int64_t token, int64_t column) {  // tiled: [tokens / 16, columns / UNIT, 16, UNIT]
        int64_t stride = pad(linear.columns);
        if (!is_tiled(linear)) return &narrow[token * stride + column];
        return &narrow[token / 16 * 16 * stride + column / UNIT * 16 * UNIT + token % 16 * UNIT + column % UNIT];
    }

    void reserve(const Linear& linear, int64_t tokens) {
        size_t size = (tokens + UNIT - 1) / UNIT * UNIT * pad(linear.columns);
        if (linear.format == BF16_PAIRS) narrow.resize(std::max(narrow.size(), size));
        else if (linear.format == INT8) bytes.resize(std::max(bytes.size(), size)), scales.resize(std::max<size_t>(scales.size(), tokens));
        else wide.resize(std::max(wide.size(), size));
    }

    // Set the vector of a token, which read(token, to) writes, for the product with `linear`.
    template <class Read>
    void set(const Linear& linear, int64_t token, Read read) {
        static thread_local std::vector<float> buffer;
        int64_t stride = pad(linear.columns);
        if (buffer.size() < size_t(stride)) buffer.resize(stride);
        bool is_kept = linear.format != BF16_PAIRS && linear.format != INT8;
        float* row = is_kept ? &wide[token * stride] : buffer.data();
        read(token, row);
        std::fill(row + linear.columns, row + stride, 0.0f);
        if (linear.format == BF16_PAIRS)
            for (int64_t i = 0; i < stride; i += LANES) store(place(linear, token, i), load(row + i));
        if (linear.format != INT8) return;
        Vec largest = {}, broken = {};
        for (int64_t i = 0; i < stride; i += LANES) {
            Vec x = load(row + i), size = x < 0 ? -x : x;
            largest = size > largest ? size : largest;
            broken += x * 0;  // becomes NaN
        }
        float scale = 1e-30f;
        for (int lane = 0; lane < LANES; lane++) scale = std::max(scale, largest[lane]);
        scale /= 127;
        for (int64_t i = 0; i < stride; i++) row[i] = std::nearbyintf(row[i] / scale) + 128;
        if (is_tiled(linear))  // [tokens / 16, columns / 4, 16, 4]
            for (int64_t i = 0; i < stride; i++) bytes[token / 16 * 16 * stride + i / 4 * 64 + token % 16 * 4 + i % 4] = uint8_t(int(row[i]));
        else
            for (int64_t i = 0; i < stride; i++) bytes[token * stride + i] = uint8_t(int(row[i]));
        scales[token] = scale + sum(broken);
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
    const int64_t stride = pad(linear.columns);
    const float* vectors = &x.wide[token * stride];
    int64_t count = std::min<int64_t>(UNIT, linear.rows - output), c = 0;
    constexpr int COLUMNS = R > 4 ? 2 : 4;
    for (; c + COLUMNS <= count; c += COLUMNS)
        multiply_columns<T, R, COLUMNS>(weight + c * linear.columns, linear.columns, vectors, stride, sums + c);
    for (; c < count; c++) multiply_columns<T, R, 1>(weight + c * linear.columns, linear.columns, vectors, stride, sums + c);
}

static void scale_sums(const Linear& linear, float scale, int64_t output, int64_t count, const int32_t* exact, float* sums) {
    for (int64_t i = 0; i < count; i++) sums[i] = float(exact[i] - linear.sums[output + i]) * scale * linear.scales[output + i];
}

template <int R>
static void multiply_bytes(const Linear& linear, const Input& x, int64_t token, int64_t output, float* sums) {
    const int8_t* weight = (const int8_t*)linear.weight + output * linear.columns;
    const int64_t stride = pad(linear.columns);
    const uint8_t* vectors = &x.bytes[token * stride];
    int64_t count = std::min<int64_t>(UNIT, linear.rows - output), c = 0;
    constexpr int COLUMNS = R > 4 ? 2 : 4;
    alignas(64) int32_t exact[TILE * UNIT] = {};
    for (; c + COLUMNS <= count; c += COLUMNS)
        multiply_columns<R, COLUMNS>(weight + c * linear.columns, linear.columns, vectors, stride, exact + c);
    for (; c < count; c++) multiply_columns<R, 1>(weight + c * linear.columns, linear.columns, vectors, stride, exact + c);
    for (int r = 0; r < R; r++) scale_sums(linear, x.scales[token + r], output, count, exact + r * UNIT, sums + r * UNIT);
}

#if defined(__AMX_BF16__)
// The two halves of the columns are read in turn, because prefetchers then follow two places.
static void multiply_tiles(const bf16* weight, int64_t block, int64_t pairs, const bf16* x, int64_t stride, int rows, float* sums) {
    TileShapes shapes;  // 0, 1, 5, 6: sums [rows, 16]. 2: vectors [rows, 32]. 3, 4: weights [16 pairs, 16 outputs, 2].
    for (int tile : {0, 1, 2, 5, 6}) shapes.rows[tile] = uint8_t(rows);
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

// Compute UNIT outputs of UNIT tokens from 8-bit integers: tiles of 16 outputs times 16 tokens.
static void multiply_bytes_in_tiles(const Linear& linear, Input& x, int64_t token, int64_t output, float* sums) {
    int64_t columns = linear.columns, count = std::min<int64_t>(UNIT, linear.rows - output);
    const int8_t* weight = (const int8_t*)linear.weight + output * columns;
    const uint8_t* vectors = &x.bytes[token * columns];
    TileShapes shapes;  // 0 to 3: sums [16 outputs, 16 tokens]. 4, 5: weights [16 outputs, 64]. 6, 7: vectors [16 fours, 16 tokens, 4].
    for (int tile : {0, 1, 4}) shapes.rows[tile] = uint8_t(std::min<int64_t>(16, count));
    for (int tile : {2, 3, 5}) shapes.rows[tile] = uint8_t(std::max<int64_t>(1, count - 16));
    const int8_t* second = count > 16 ? weight + 16 * columns : weight;
    _tile_loadconfig(&shapes);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < columns; i += 64) {
        _tile_loadd(4, weight + i, columns);
        _tile_loadd(6, vectors + 16 * i, 64);
        _tile_loadd(7, vectors + 16 * (columns + i), 64);
        _tile_loadd(5, second + i, columns);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
    }
    alignas(64) int32_t by_output[UNIT * UNIT], exact[UNIT * UNIT];
    _tile_stored(0, by_output, UNIT * 4);
    _tile_stored(1, by_output + 16, UNIT * 4);
    _tile_stored(2, by_output + 16 * UNIT, UNIT * 4);
    _tile_stored(3, by_output + 16 * UNIT + 16, UNIT * 4);
    _tile_release();
    for (int i : {0, 16})
        for (int j : {0, 16}) transpose_rows(by_output + i * UNIT + j, UNIT * 4, exact + j * UNIT + i, UNIT * 4);
    for (int row = 0; row < UNIT && token + row < int64_t(x.scales.size()); row++)
        scale_sums(linear, x.scales[token + row], output, count, exact + row * UNIT, sums + row * UNIT);
}

// Compute UNIT outputs of UNIT tokens, with the sums of multiply_tiles in the same order. `weight` is [pairs, block, 2].
static void multiply_many_tiles(const bf16* weight, int64_t block, int64_t pairs, const bf16* x, float* sums) {
    int64_t half = (pairs + 31) / 32 * 16;
    TileShapes shapes;
    _tile_loadconfig(&shapes);
    alignas(64) float others[UNIT * UNIT];
    for (int64_t begin : {int64_t(0), half}) {
        float* to = begin ? others : sums;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t pair = begin; pair < (begin ? pairs : half); pair += 16) {
            const bf16 *from = weight + pair * block * 2, *first = x + 32 * pair, *second = first + 32 * pairs;
            for (int line = 16; line < 32; line++)  // of the next tiles
                __builtin_prefetch(first + 32 * line), __builtin_prefetch(second + 32 * line);
            _tile_loadd(4, first, 64);
            _tile_loadd(6, from, block * 4);
            _tile_loadd(7, from + 32, block * 4);
            _tile_loadd(5, second, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, to, UNIT * 4);
        _tile_stored(1, to + 16, UNIT * 4);
        _tile_stored(2, to + 16 * UNIT, UNIT * 4);
        _tile_stored(3, to + 16 * UNIT + 16, UNIT * 4);
    }
    for (int i = 0; i < UNIT * UNIT; i += LANES) store(sums + i, load(sums + i) + load(others + i));
    _tile_release();
}
#endif

template <int R>
static void multiply_pairs(const Linear& linear, const Input& x, int64_t token, int64_t output, float* sums) {
    int64_t block = linear.block, stride = pad(linear.columns), pairs = stride / 2;
    const bf16* weight = (const bf16*)linear.weight + output / block * pairs * block * 2 + output % block * 2;
    const bf16* vectors = &x.narrow[token * stride];
#if defined(__AMX_BF16__)
    if (has_tiles) return multiply_tiles(weight, block, pairs, vectors, stride, R, sums);
#endif
#if defined(__AVX512BF16__)
    __m512 total[R][2];
    for (int r = 0; r < R; r++) total[r][0] = total[r][1] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; pair++, weight += block * 2) {
        prefetch(weight), prefetch(weight + 32);
        __m512bh low = (__m512bh)_mm512_loadu_si512(weight), high = (__m512bh)_mm512_loadu_si512(weight + 32);
        for (int r = 0; r < R; r++) {
            int32_t value;
            memcpy(&value, vectors + r * stride + 2 * pair, 4);
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
                sums[r * UNIT + i / 2] = std::fma(widen(weight[i]), widen(vectors[r * stride + 2 * pair + i % 2]), sums[r * UNIT + i / 2]);
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

// Call emit(token, output, sums) for each UNIT outputs of each token that this thread computes, bias included. read(x) sets the
// input when it is needed.
template <class Read, class Emit>
static void multiply_items(Worker& worker, const Linear& linear, Input& x, int64_t tokens, Read read, Emit emit) {
    bool is_ready = false;
    bool is_tiled = x.is_tiled(linear);
    int64_t tile = is_tiled ? UNIT : TILE, blocks = (tokens + BLOCK - 1) / BLOCK;
    std::vector<bf16> panel;
    worker.share((linear.rows + UNIT - 1) / UNIT * blocks, [&](int64_t item) {
        if (!is_ready) read(x), is_ready = true;
        int64_t output = item / blocks * UNIT, begin = item % blocks * BLOCK, end = std::min(tokens, begin + BLOCK);
#if defined(__AMX_BF16__)
        int64_t block = linear.block, pairs = pad(linear.columns) / 2;
        const bf16* weight = (const bf16*)linear.weight;
        if (is_tiled && linear.format == BF16_PAIRS) {
            weight += output / block * pairs * block * 2 + output % block * 2;
            if (block > UNIT && end - begin >= 8 * UNIT) {  // lines that are not in a row share few places of the first cache
                panel.resize(pairs * UNIT * 2);
                for (int64_t pair = 0; pair < pairs; pair++) memcpy(&panel[pair * UNIT * 2], weight + pair * block * 2, UNIT * 4);
                weight = panel.data(), block = UNIT;
            }
        }
#endif
        for (int64_t token = begin; token < end; token += tile) {
            int64_t rows = std::min(tile, end - token);
            alignas(64) float sums[UNIT * UNIT];
#if defined(__AMX_BF16__)
            if (is_tiled && linear.format == INT8) multiply_bytes_in_tiles(linear, x, token, output, sums);
            else if (is_tiled) multiply_many_tiles(weight, block, pairs, x.place(linear, token, 0), sums);
#endif
            if (!is_tiled) {
                std::fill(sums, sums + TILE * UNIT, 0.0f);
                choose_kernel(linear.format, rows)(linear, x, token, output, sums);
            }
            for (int64_t row = 0; row < rows; row++) {
                float* values = sums + row * UNIT;
                if (linear.bias)
                    for (int i = 0; i < UNIT; i += LANES) store(values + i, load(values + i) + load(linear.bias + output + i));
                emit(token + row, output, values);
            }
        }
    });
}

// The inputs of a thread's products.
struct Inputs {
    Input own;
    Input* shared;  // of a large pass, reserved for all of its products; or null
};

// Do the same with an input of which read(token, to) writes the vector of a token. In a large pass this takes a section of its own.
template <class Read, class Emit>
static void multiply(Worker& worker, const Linear& linear, Inputs& inputs, int64_t tokens, Read read, Emit emit) {
    if (inputs.shared) {
        worker.share(tokens, [&](int64_t token) { inputs.shared->set(linear, token, read); });
        return multiply_items(worker, linear, *inputs.shared, tokens, [](Input&) {}, emit);
    }
    auto read_all = [&](Input& x) {
        x.reserve(linear, tokens);
        for (int64_t token = 0; token < tokens; token++) x.set(linear, token, read);
    };
    multiply_items(worker, linear, inputs.own, tokens, read_all, emit);
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

// Memory of a thread for attention.
struct Scratch {
    std::vector<float> scores;                           // [queries, keys]
    std::vector<bf16> weights, queries, keys, pairs, values;
};

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

    // Compute the context of consecutive tokens of a text. Of each token, `fused` and `context` are a stride further.
    void attend(const Token* tokens, int64_t count, float* fused, int64_t fused_stride, int64_t head, Scratch& scratch, float* context,
                int64_t context_stride) const {
        for (int64_t token = 0; token < count; token++)
            prepare(fused + token * fused_stride + query(head), layer.query_norm, tokens[token].position);
#if defined(__AMX_BF16__)
        if constexpr (sizeof(T) == 2)
            if (has_tiles && model.head_dim % 2 == 0)
                return attend_in_tiles(tokens, count, fused + query(head), fused_stride, head, scratch, context, context_stride);
#endif
        for (int64_t token = 0; token < count; token++)
            attend(tokens[token], fused + token * fused_stride + query(head), head, scratch.scores, context + token * context_stride);
    }

    void attend(const Token& token, const float* q, int64_t head, std::vector<float>& scores, float* context) const {
        int64_t width = model.head_dim, length = token.position + 1, group = head / (model.heads / model.groups);
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

#if defined(__AMX_BF16__)
    // The same in tile registers. Queries and probabilities are rounded to bf16. Sums have the same order for any number of tokens.
    void attend_in_tiles(const Token* tokens, int64_t count, const float* queries, int64_t queries_stride, int64_t head, Scratch& scratch,
                         float* context, int64_t context_stride) const {
        int64_t depth = pad(model.head_dim), length = pad(tokens[count - 1].position + 1), group = head / (model.heads / model.groups);
        int64_t rows = count <= TILE ? count : (count + 15) / 16 * 16;
        scratch.queries.assign(rows * depth, 0);
        scratch.scores.resize(rows * length);
        scratch.weights.resize(rows * length);
        for (int64_t row = 0; row < count; row++) copy_head(&scratch.queries[row * depth], queries + row * queries_stride, model.head_dim);
        const bf16 *keys = cached(*tokens, 0, group), *values = cached(*tokens, 1, group);
        if (count <= TILE) score_few(keys, tokens[count - 1].position + 1, count, scratch);
        else score_many(keys, tokens, count, scratch);
        float factors[QUERIES];
        for (int64_t row = 0; row < count; row++) {
            int64_t last = tokens[std::min(row / 16 * 16 + 15, count - 1)].position;
            factors[row] = weigh(tokens[row].position, pad(last + 1), head, &scratch.scores[row * length], &scratch.weights[row * length]);
        }
        add_values_in_tiles(values, tokens, count, factors, scratch, context, context_stride);
        _tile_release();
    }

    // Return UNIT keys, from `first` on, of `length`, where they are or with zeros in the padding; set the distance between them.
    const bf16* find_keys(const bf16* keys, int64_t first, int64_t length, std::vector<bf16>& padded, int64_t& stride) const {
        int64_t width = model.head_dim, depth = pad(width);
        for (int64_t i = 0; i < UNIT * width; i += 32) prefetch(keys + first * width + i);
        stride = width;
        if (first + UNIT <= length && width == depth) return keys + first * width;
        stride = depth;
        padded.assign(UNIT * depth, 0);
        for (int64_t i = 0; i < std::min<int64_t>(UNIT, length - first); i++)
            std::copy(keys + (first + i) * width, keys + (first + i + 1) * width, &padded[i * depth]);
        return padded.data();
    }

    // Compute the products of up to TILE queries with all keys: tiles of 16 keys times queries.
    void score_few(const bf16* keys, int64_t length, int64_t count, Scratch& scratch) const {
        int64_t depth = pad(model.head_dim), stride, row_length = pad(length);
        alignas(64) float found[UNIT * TILE];
        scratch.pairs.resize(depth * count);
        for (int64_t row = 0; row < count; row++)  // [depth / 2, count, 2]
            for (int64_t d = 0; d < depth; d++) scratch.pairs[(d / 2 * count + row) * 2 + d % 2] = scratch.queries[row * depth + d];
        TileShapes shapes;  // 0, 1: sums [16 keys, count]. 2: queries [16 pairs, count, 2]. 3, 4: keys [16, 32].
        for (int tile : {0, 1, 2}) shapes.row_bytes[tile] = uint16_t(4 * count);
        _tile_loadconfig(&shapes);
        for (int64_t key = 0; key < length; key += UNIT) {
            const bf16* from = find_keys(keys, key, length, scratch.keys, stride);
            _tile_zero(0);
            _tile_zero(1);
            for (int64_t d = 0; d < depth; d += 32) {
                _tile_loadd(2, &scratch.pairs[d * count], 4 * count);
                _tile_loadd(3, from + d, stride * 2);
                _tile_loadd(4, from + 16 * stride + d, stride * 2);
                _tile_dpbf16ps(0, 3, 2);
                _tile_dpbf16ps(1, 4, 2);
            }
            float* to = count == 1 ? &scratch.scores[key] : found;
            _tile_stored(0, to, 4 * count);
            _tile_stored(1, to + 16 * count, 4 * count);
            if (count > 1)
                for (int64_t row = 0; row < count; row++)
                    for (int64_t i = 0; i < UNIT; i++) scratch.scores[row * row_length + key + i] = found[i * count + row];
        }
    }

    // Compute the products of queries with the keys up to their own: tiles of 16 queries times 16 keys.
    void score_many(const bf16* keys, const Token* tokens, int64_t count, Scratch& scratch) const {
        int64_t depth = pad(model.head_dim), length = tokens[count - 1].position + 1, row_length = pad(length), stride;
        scratch.pairs.resize(UNIT * depth);
        TileShapes shapes;
        _tile_loadconfig(&shapes);
        for (int64_t key = 0; key < length; key += UNIT) {
            const bf16* from = find_keys(keys, key, length, scratch.keys, stride);
            bf16 *first = scratch.pairs.data(), *second = first + 16 * depth;  // each [depth / 2, 16 keys, 2]
            for (int64_t d = 0; d < depth; d += 32) {
                transpose_rows(from + d, stride * 2, first + 16 * d, 64);
                transpose_rows(from + 16 * stride + d, stride * 2, second + 16 * d, 64);
            }
            for (int64_t row = std::max<int64_t>(0, key - tokens->position) / 16 * 16; row < count; row += 16) {
                _tile_zero(0);
                _tile_zero(1);
                for (int64_t d = 0; d < depth; d += 32) {
                    _tile_loadd(2, &scratch.queries[row * depth + d], depth * 2);
                    _tile_loadd(3, first + 16 * d, 64);
                    _tile_loadd(4, second + 16 * d, 64);
                    _tile_dpbf16ps(0, 2, 3);
                    _tile_dpbf16ps(1, 2, 4);
                }
                _tile_stored(0, &scratch.scores[row * row_length + key], row_length * 4);
                _tile_stored(1, &scratch.scores[row * row_length + key + 16], row_length * 4);
            }
        }
    }

    // Compute the weights exp(score - largest) of the keys up to `position`, with zeros up to `end`; return 1 / their sum.
    float weigh(int64_t position, int64_t end, int64_t head, float* scores, bf16* weights) const {
        const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        float factor = 1 / std::sqrt(float(model.head_dim)), slope = layer.slopes ? layer.slopes[head] : 0;
        Vec largest = Vec{} - INFINITY, total = {};
        for (int64_t i = 0; i <= position; i += LANES) {
            Ints places = lanes + int32_t(i - position);
            Vec score = load(scores + i) * factor;
            if (layer.slopes) score += slope * __builtin_convertvector(places, Vec);
            store(scores + i, score);
            score = places <= 0 ? score : Vec{} - INFINITY;
            largest = score > largest ? score : largest;
        }
        float top = _mm512_reduce_max_ps((__m512)largest);
        for (int64_t i = 0; i < end; i += LANES) {
            Vec weight = lanes + int32_t(i - position) <= 0 ? exponential(load(scores + i) - top) : Vec{};
            total += weight;
            store(weights + i, weight);
        }
        return 1 / sum(total);
    }

    // Compute the sums of values times weights, 64 dimensions at a time: tiles of 16 queries times 16 dimensions.
    void add_values_in_tiles(const bf16* values, const Token* tokens, int64_t count, const float* factors, Scratch& scratch, float* context,
                             int64_t context_stride) const {
        int64_t width = model.head_dim, length = tokens[count - 1].position + 1, row_length = pad(length);
        alignas(64) float found[16 * 64];
        scratch.values.resize((count > 16 ? row_length : UNIT) * 64);
        TileShapes shapes;  // 0 to 3: sums [16, 16]. 4: weights [16, 32 keys]. 5: values [16 pairs of keys, 16 dimensions, 2].
        for (int tile = 0; tile < 5; tile++) shapes.rows[tile] = uint8_t(count <= TILE ? count : 16);
        _tile_loadconfig(&shapes);
        for (int64_t d = 0; d < width; d += 64) {
            int64_t last = (count - 1) / 16 * 16;
            for (int64_t row = last; row >= 0; row -= 16) {  // the last rows read all keys
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
                int64_t queries = std::min<int64_t>(16, count - row);
                for (int64_t key = 0; key <= tokens[row + queries - 1].position; key += UNIT) {
                    bf16* panel = &scratch.values[count > 16 ? key * 64 : 0];
                    if (row == last) interleave(values + key * width + d, length - key, width - d, panel);
                    _tile_loadd(4, &scratch.weights[row * row_length + key], row_length * 2);
                    _tile_loadd(5, panel, 64);
                    _tile_dpbf16ps(0, 4, 5);
                    _tile_loadd(5, panel + 512, 64);
                    _tile_dpbf16ps(1, 4, 5);
                    _tile_loadd(5, panel + 1024, 64);
                    _tile_dpbf16ps(2, 4, 5);
                    _tile_loadd(5, panel + 1536, 64);
                    _tile_dpbf16ps(3, 4, 5);
                }
                _tile_stored(0, found, 256);
                _tile_stored(1, found + 16, 256);
                _tile_stored(2, found + 32, 256);
                _tile_stored(3, found + 48, 256);
                for (int64_t i = 0; i < queries; i++)
                    for (int64_t column = 0; column < std::min<int64_t>(64, width - d); column++)
                        context[(row + i) * context_stride + d + column] = found[i * 64 + column] * factors[row + i];
            }
        }
    }

    // Write up to UNIT values, up to 64 columns of each, as [4, 16 pairs of values, 16 columns, 2], with zeros in the padding.
    void interleave(const bf16* from, int64_t count, int64_t columns, bf16* to) const {
        for (int pair = 0; pair < 16; pair++, from += 2 * model.head_dim)
            for (int part = 0; part < 4; part++) {
                int64_t rest = std::max<int64_t>(0, std::min<int64_t>(16, columns - 16 * part));
                auto read = [&](int64_t row) {
                    const bf16* place = from + row * model.head_dim + 16 * part;
                    prefetch(place);
                    __mmask16 mask = 2 * pair + row < count ? (1u << rest) - 1 : 0;
                    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, place));
                };
                _mm512_storeu_si512(to + part * 512 + pair * 32, _mm512_or_si512(read(0), _mm512_slli_epi32(read(1), 16)));
            }
    }
#endif
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
    std::vector<float> inner;  // [count, up_width]
    std::vector<float> embedded = std::vector<float>(hidden, hidden + count * width);
    std::vector<float> first_values = std::vector<float>(count * model.groups * model.head_dim);  // of the first layer

    bool is_large = count > TILE;
    // Outputs of the up products are written as inputs of the down products.
    bool is_direct = is_large && has_tiles && model.layers->down.format == BF16_PAIRS && !model.is_gated;
    Input shared, activated;
    struct Part { int64_t first, count; };
    std::vector<Part> parts;  // of at most QUERIES consecutive tokens of a text

    Pass(const Model& model, const Token* tokens, int64_t count, float* hidden)
        : model(model), tokens(tokens), count(count), hidden(hidden) {
        if (!is_direct) inner.resize(count * up_width);
        for (int64_t token = 0; token < count; token++) {
            if (!token || tokens[token].cache != tokens[token - 1].cache || parts.back().count == QUERIES) parts.push_back({token, 0});
            parts.back().count++;
        }
        if (!is_large) return;
        shared.is_large = activated.is_large = true;
        if (is_direct) activated.reserve(model.layers->down, count);
        for (int64_t index = 0; index < model.num_layers; index++) {
            const Layer& layer = model.layers[index];
            for (const Linear* linear : {&layer.query_key_value, &layer.dense, &layer.up, &layer.down}) shared.reserve(*linear, count);
        }
    }

    int64_t count_sections() const {
        return model.num_layers * (6 + 4 * is_large - is_direct + model.is_gated + (model.layers->embedding_skip != nullptr)) + 1;
    }

    // Share items that are small in a large pass, `together` at a time.
    template <class Compute>
    void share_small(Worker& worker, int64_t items, int64_t together, Compute compute) const {
        if (!is_large) together = 1;
        worker.share((items + together - 1) / together, [&](int64_t part) {
            for (int64_t item = part * together; item < std::min(items, (part + 1) * together); item++) compute(item);
        });
    }

    auto read_normalized(const float* weight, const float* bias) const {
        return [=](int64_t token, float* to) {
            normalize(hidden + token * width, weight, bias, model.is_rms, model.epsilon, model.hidden, to);
        };
    }

    void add_product(Worker& worker, const Linear& linear, Inputs& x, const std::vector<float>& from, int64_t from_stride) const {
        auto read = [&](int64_t token, float* to) {
            const float* row = &from[token * from_stride];
            std::copy(row, row + linear.columns, to);
        };
        multiply(worker, linear, x, count, read, [&](auto... values) { add_to_hidden(values...); });
    }

    void add_to_hidden(int64_t token, int64_t output, const float* values) const {
        float* to = hidden + token * width + output;
        for (int i = 0; i < UNIT; i += LANES) store(to + i, load(to + i) + load(values + i));
    }

    void compute_up(Worker& worker, const Layer& layer, Inputs& x) {
        int64_t kind = model.is_gated ? int64_t(IDENTITY) : model.activation;
        multiply(worker, layer.up, x, count, read_normalized(layer.second_norm, layer.second_norm_bias), [&](int64_t token, int64_t output, const float* values) {
            if (is_direct) {
                bf16* to = activated.place(layer.down, token, output);
                for (int i = 0; i < UNIT; i += LANES) store(to + i, activate(kind, load(values + i)));
                return;
            }
            float* to = &inner[token * up_width + output];
            for (int i = 0; i < UNIT; i += LANES) store(to + i, activate(kind, load(values + i)));
        });
    }

    void apply_gate(Worker& worker) {
        share_small(worker, count * ((model.inner + LANES - 1) / LANES), 1024, [&](int64_t unit) {
            int64_t token = unit % count, first = unit / count * LANES, size = std::min<int64_t>(LANES, model.inner - first);
            float gate[LANES] = {}, *up = &inner[token * up_width + first];
            std::copy(up + model.inner, up + model.inner + size, gate);
            store(gate, activate(model.activation, load(gate)));
            for (int64_t i = 0; i < size; i++) up[i] *= gate[i];
        });
    }

    template <class T>
    void attend(Worker& worker, const Layer& layer, int64_t index, Scratch& scratch) {
        const Attention<T> attention{model, layer, index};
        share_small(worker, count * model.groups, model.groups, [&](int64_t item) {
            int64_t token = item / model.groups, group = item % model.groups;
            attention.store_key_and_value(tokens[token], &fused[token * fused_width], &first_values[item * model.head_dim], group);
        });
        int64_t count = parts.size();
        worker.share(count * model.heads, [&](int64_t item) {
            int64_t head = is_large ? item / count : item % model.heads;  // in a large pass all of a head's queries in turn
            const Part& part = parts[is_large ? item % count : item / model.heads];
            float* to = &context[part.first * context_width + head * model.head_dim];
            attention.attend(tokens + part.first, part.count, &fused[part.first * fused_width], fused_width, head, scratch, to, context_width);
        });
    }

    template <class T>
    void run(Worker& worker) {
        Inputs x{{}, is_large ? &shared : nullptr};
        Scratch scratch;
        for (int64_t index = 0; index < model.num_layers; index++) {
            const Layer& layer = model.layers[index];
            if (const float* factors = layer.embedding_skip)
                worker.share(count, [&](int64_t token) {
                    for (int64_t i = token * width; i < (token + 1) * width; i++) hidden[i] = factors[0] * hidden[i] + factors[1] * embedded[i];
                });
            auto read = read_normalized(layer.norm, layer.norm_bias);
            multiply(worker, layer.query_key_value, x, count, read, [&](int64_t token, int64_t output, const float* values) {
                std::copy(values, values + UNIT, &fused[token * fused_width + output]);
            });
            if (model.is_parallel) compute_up(worker, layer, x);
            attend<T>(worker, layer, index, scratch);
            add_product(worker, layer.dense, x, context, context_width);
            if (!model.is_parallel) compute_up(worker, layer, x);
            if (model.is_gated) apply_gate(worker);
            auto add = [&](auto... values) { add_to_hidden(values...); };
            if (is_direct) multiply_items(worker, layer.down, activated, count, [](Input&) {}, add);
            else add_product(worker, layer.down, x, inner, up_width);
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
    Pass pass(*model, tokens, count, hidden);
    Helpers::run(threads, pass.count_sections(), [&](Worker& worker) {
        if (model->cache_is_bf16) pass.run<bf16>(worker);
        else pass.run<float>(worker);
    });
}

// Compute outputs[count][linear.rows] = inputs[count][pad(columns)] times the weights.
extern "C" void multiply_vectors(const Linear* linear, const float* inputs, int64_t count, float* outputs, int64_t threads) {
    Input shared;
    bool is_large = count > TILE;
    shared.is_large = is_large;
    if (is_large) shared.reserve(*linear, count);
    Helpers::run(threads, 1 + is_large, [&](Worker& worker) {
        Inputs x{{}, is_large ? &shared : nullptr};
        auto read = [&](int64_t token, float* to) {
            const float* row = inputs + token * pad(linear->columns);
            std::copy(row, row + linear->columns, to);
        };
        multiply(worker, *linear, x, count, read, [&](int64_t token, int64_t output, const float* values) {
            std::copy(values, values + std::min<int64_t>(UNIT, linear->rows - output), outputs + token * linear->rows + output);
        });
    });
}
