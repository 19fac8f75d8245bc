// Causal attention of a training step on a CPU: native_attention.py compiles this file and calls its functions.
//
// Queries, keys and values are read from the rows of the fused projection, normalized and rotated on the way, and the backward pass
// writes the gradient of these rows. Scores are computed in blocks of queries and keys, never stored whole, and computed again by
// the backward pass from the logarithm of each query's sum of exponentials (Dao 2023, FlashAttention-2).
//
// Products have bf16 factors and fp32 sums; all else is fp32. Results do not depend on the number of threads. Scores lie transposed,
// [keys, queries]: a vector has one key and several queries, so maxima and sums of a query need no operations across a vector.
//
// Shape letters of comments: Q queries of a block, K keys of a block, W head dimensions, padded to a multiple of EDGE.
#include <cmath>
#include <memory>

#include "matrices.h"

#if !defined(_OPENMP)
#error "without OpenMP all functions would use one thread"
#endif

constexpr int64_t QUERIES = 64, KEYS = 128;  // of a block of scores: a multiple of each other, and of EDGE

// Values that native_attention.py passes; it has the same structure.
struct Attention {
    const bf16* fused;      // [batch, length, (heads + 2 groups) * head_dim], with batch_stride and row_stride
    const bf16 *query_scale, *key_scale;  // of the norm of heads [head_dim], or null
    const bf16 *cos, *sin;  // [length, half], or with angle_stride [batch, length, half]; null without rotation
    const int32_t* starts;  // [batch, length]: first key of each query, never decreasing; or null
    const float* slopes;    // of ALiBi for each head, or null
    bf16* context;          // [batch, length, heads * head_dim]
    float* log_sums;        // [batch, heads, length]
    const bf16* upstream;   // gradient of the context
    bf16* gradient;         // of `fused`, contiguous
    float* scale_gradients;  // [batch, groups, 2, head_dim]: parts of the gradients of query_scale and key_scale; or null
    int64_t batch_stride, row_stride, angle_stride, half, batch, length, heads, groups, head_dim;
    int64_t query_step, key_step, key_offset, value_offset;  // from head to head in a row, and from the row's begin
    double epsilon;

    int64_t rows() const { return (length + EDGE - 1) / EDGE * EDGE; }
    int64_t width() const { return (head_dim + EDGE - 1) / EDGE * EDGE; }
    int64_t context_stride() const { return heads * head_dim; }
    float factor() const { return 1 / std::sqrt(float(head_dim)); }
    float slope(int64_t head) const { return slopes ? slopes[head] : 0; }
};

// Memory without initial values, aligned for vectors.
template <class T>
struct Array {
    std::unique_ptr<Words[]> words;
    explicit Array(int64_t count) : words(new Words[(count * sizeof(T) + sizeof(Words) - 1) / sizeof(Words)]) {}
    operator T*() const { return (T*)words.get(); }
};

static void clear(float* numbers, int64_t count) { std::fill(numbers, numbers + count, 0.0f); }

// ---- Rows of heads

// Turn the pairs of numbers i and i + half by their angles.
static void rotate(const Attention& a, int64_t batch, int64_t position, bool is_back, float* x) {
    int64_t offset = batch * a.angle_stride + position * a.half;
    for (int64_t i = 0; a.cos && i < a.half; i += LANES) {
        int64_t left = a.half - i;
        Vec cos = load_part(a.cos + offset + i, left), sin = load_part(a.sin + offset + i, left);
        Vec first = load_part(x + i, left), second = load_part(x + a.half + i, left);
        if (is_back) sin = -sin;
        store_part(x + i, first * cos - second * sin, left);
        store_part(x + a.half + i, second * cos + first * sin, left);
    }
}

// Read a head's numbers and pad them with zeros: x [W]. Return the factor of the norm, 1 / sqrt(mean of squares + epsilon).
static float read_head(const Attention& a, const bf16* from, float* x) {
    Vec squares = {};
    for (int64_t i = 0; i < a.width(); i += LANES) {
        Vec value = i < a.head_dim ? load_part(from + i, a.head_dim - i) : Vec{};
        squares += value * value;
        store(x + i, value);
    }
    return 1 / std::sqrt(sum(squares) / a.head_dim + float(a.epsilon));
}

// Fetch a head of a later row: processors foresee no reads that are pages apart.
static void prefetch_head(const Attention& a, const bf16* row, int64_t stride) {
    for (int64_t i = 0; i < a.head_dim; i += 32) __builtin_prefetch(row + 12 * stride + i);
}

// Copy a head of `count` rows from `row` on, normalized by `scale` if there is one, and rotated: to [count, W], with zeros as padding.
static void prepare(const Attention& a, const bf16* from, const bf16* scale, int64_t batch, int64_t row, int64_t count, bf16* to) {
    int64_t width = a.width();
    Array<float> x(width);
    for (int64_t r = row; r < row + count; r++, to += width) {
        if (r >= a.length) {
            std::fill(to, to + width, bf16(0));
            continue;
        }
        prefetch_head(a, from + r * a.row_stride, a.row_stride);
        float norm = read_head(a, from + r * a.row_stride, x);
        for (int64_t i = 0; scale && i < a.head_dim; i += LANES)
            store(x + i, load(x + i) * norm * load_part(scale + i, a.head_dim - i));
        rotate(a, batch, r, false, x);
        for (int64_t i = 0; i < width; i += LANES) store(to + i, load(x + i));
    }
}

// Copy a head of rows with this stride: to [count, W], with zeros as padding.
static void copy_rows(const Attention& a, const bf16* from, int64_t stride, int64_t row, int64_t count, bf16* to) {
    for (int64_t r = row; r < row + count; r++, to += a.width()) {
        int64_t filled = r < a.length ? a.head_dim : 0;
        prefetch_head(a, from + r * stride, stride);
        memcpy(to, from + r * stride, filled * sizeof(bf16));
        std::fill(to + filled, to + a.width(), bf16(0));
    }
}

// Write the gradient of `prepare`: x [W] is the gradient of a prepared row. Add to `sums` [head_dim] the gradient of the norm's scale.
static void write_gradient(const Attention& a, const bf16* from, const bf16* scale, int64_t batch, int64_t row, float* x, float* sums,
                           bf16* to) {
    rotate(a, batch, row, true, x);
    if (scale) {
        Array<float> raw(a.width());
        float norm = read_head(a, from, raw);
        Vec products = {};
        for (int64_t i = 0; i < a.head_dim; i += LANES) {
            int64_t left = a.head_dim - i;
            Vec given = load(x + i), scaled = given * load_part(scale + i, left), normal = load(raw + i) * norm;
            store_part(sums + i, load_part(sums + i, left) + given * normal, left);
            products += scaled * normal;
            store(x + i, scaled);
            store(raw + i, normal);
        }
        float mean = sum(products) / a.head_dim;
        for (int64_t i = 0; i < a.head_dim; i += LANES) store(x + i, (load(x + i) - load(raw + i) * mean) * norm);
    }
    for (int64_t i = 0; i < a.head_dim; i += LANES) store_part(to + i, load(x + i), a.head_dim - i);
}

// ---- Blocks of scores

// The queries of a block, as vectors: what the scores of a key need besides the products.
struct QueryBlock {
    int32_t positions[KEYS], starts[KEYS];
    float shifts[KEYS];  // added to the scores

    // `log_sums` are subtracted from the scores, or null.
    QueryBlock(const Attention& a, int64_t batch, int64_t head, int64_t row, int64_t count, const float* log_sums) {
        for (int64_t i = 0; i < count; i++) {
            bool is_there = row + i < a.length;
            positions[i] = int32_t(row + i);
            starts[i] = is_there && a.starts ? a.starts[batch * a.length + row + i] : 0;
            shifts[i] = -a.slope(head) * (row + i) - (is_there && log_sums ? log_sums[row + i] : 0);
        }
    }
};

// True if scores are the products alone: there is no ALiBi, and the `count` queries from `row` on attend to all keys of the block.
static bool is_plain(const Attention& a, int64_t batch, int64_t row, int64_t count, int64_t key, int64_t keys) {
    int64_t last = std::min(row + count, a.length) - 1;
    return !a.slopes && key + keys - 1 <= row && (!a.starts || a.starts[batch * a.length + last] <= key);
}

// `score` where the queries attend to the key, and `other` elsewhere.
static inline Vec select_visible(const QueryBlock& block, int64_t column, int64_t key, Vec score, float other) {
    Ints positions, starts, at = Ints{} + int32_t(key);
    memcpy(&positions, block.positions + column, sizeof positions);
    memcpy(&starts, block.starts + column, sizeof starts);
    return ((positions >= at) & (starts <= at)) ? score : Vec{} + other;
}

// scores [keys, QUERIES], products of keys from `key` on with `count` queries -> pairs [keys / 2, QUERIES, 2], exponentials of the
// scores minus the highest one of each query so far. Update `highest`, in units of the products, and `totals` [Q]; multiply the sums
// [W, QUERIES] by the factor that a higher maximum means.
template <bool PLAIN>
static void exponentiate(const Attention& a, const QueryBlock& block, int64_t head, int64_t count, int64_t key, int64_t keys,
                         float* scores, bf16* pairs, float* highest, float* totals, float* sums) {
    float factor = a.factor(), slope = a.slope(head);
    for (int64_t c = 0; c < count; c += LANES) {
        Vec shift = load(block.shifts + c), before = load(highest + c), most = before;
        for (int64_t r = 0; r < keys; r++) {
            float* at = scores + r * QUERIES + c;
            Vec score = load(at);
            if (!PLAIN) store(at, score = select_visible(block, c, key + r, score + (shift + slope * (key + r)) / factor, -INFINITY));
            most = score > most ? score : most;
        }
        Vec falls = exponential((before - most) * factor), total = load(totals + c) * falls, base = most * factor;
        for (int64_t r = 0; r < keys; r += 2) {
            const float* at = scores + r * QUERIES + c;
            Vec even = exponential(load(at) * factor - base), odd = exponential(load(at + QUERIES) * factor - base);
            total += even + odd;
            Bits both = narrow(even) | narrow(odd) << 16;
            memcpy(pairs + r * QUERIES + 2 * c, &both, sizeof both);
        }
        store(highest + c, most);
        store(totals + c, total);
        if (sum(falls) == LANES) continue;  // no maximum has changed
        for (int64_t d = 0; d < a.width(); d++) store(sums + d * QUERIES + c, load(sums + d * QUERIES + c) * falls);
    }
}

// Products of EDGE keys from `key` on with the queries from column `first` on, and of values with the gradient of the context, both
// [EDGE, KEYS] -> probabilities and gradients of scores, both [EDGE, KEYS] in bf16, and these gradients in pairs [EDGE / 2, KEYS, 2].
template <bool PLAIN>
static void differentiate(const Attention& a, const QueryBlock& block, int64_t head, int64_t first, int64_t count, int64_t key,
                          const float* scores, const float* products, const float* means, bf16* probabilities, bf16* gradients,
                          bf16* pairs) {
    float factor = a.factor(), slope = a.slope(head);
    for (int64_t c = first; c < count; c += LANES) {
        Vec shift = load(block.shifts + c), mean = load(means + c);
        for (int64_t r = 0; r < EDGE; r += 2) {
            Vec change[2];
            for (int i = 0; i < 2; i++) {
                int64_t at = (r + i) * KEYS + c;
                Vec share = exponential(load(scores + at) * factor + (PLAIN ? shift : shift + slope * (key + r + i)));
                if (!PLAIN) share = select_visible(block, c, key + r + i, share, 0);
                change[i] = share * (load(products + at) - mean);
                store(probabilities + at, share);
                store(gradients + at, change[i]);
            }
            Bits both = narrow(change[0]) | narrow(change[1]) << 16;
            memcpy(pairs + r * KEYS + 2 * c, &both, sizeof both);
        }
    }
}

// ---- The two passes

// Attention of one head and the `count` queries from `row` on. `keys` [rows, W], `values` in blocks [W, K] are those of its group.
static void attend_block(const Attention& a, int64_t batch, int64_t head, int64_t row, int64_t count, const bf16* keys,
                         const bf16* values) {
    int64_t width = a.width();
    Array<bf16> prepared(QUERIES * width), query(QUERIES * width), pairs(KEYS * QUERIES);
    Array<float> scores(KEYS * QUERIES), sums(QUERIES * width), turned(QUERIES * width);
    alignas(64) float highest[QUERIES], totals[QUERIES] = {};
    std::fill(highest, highest + QUERIES, -1e30f);
    clear(sums, QUERIES * width);
    QueryBlock block(a, batch, head, row, count, nullptr);
    prepare(a, a.fused + batch * a.batch_stride + head * a.query_step, a.query_scale, batch, row, count, prepared);
    transpose_pairs(prepared, count, width, query);
    for (int64_t key = block.starts[0] / KEYS * KEYS; key < row + count; key += KEYS) {
        int64_t in_block = std::min(KEYS, a.rows() - key), used = std::min(in_block, row + count - key);
        multiply(keys + key * width, width, query, count, scores, QUERIES, used, count, width, false);
        auto function = is_plain(a, batch, row, count, key, used) ? exponentiate<true> : exponentiate<false>;
        function(a, block, head, count, key, used, scores, pairs, highest, totals, sums);
        multiply(values + key * width, in_block, pairs, QUERIES, sums, QUERIES, width, count, used, true);
    }
    transpose_floats(sums, width, QUERIES, turned);
    for (int64_t i = 0; i < count && row + i < a.length; i++) {
        bf16* to = a.context + (batch * a.length + row + i) * a.context_stride() + head * a.head_dim;
        for (int64_t d = 0; d < a.head_dim; d += LANES) store_part(to + d, load(turned + i * width + d) / totals[i], a.head_dim - d);
        a.log_sums[(batch * a.heads + head) * a.length + row + i] = highest[i] * a.factor() + std::log(totals[i]);
    }
}

// Gradients of one group of heads.
static void differentiate_group(const Attention& a, int64_t batch, int64_t group) {
    int64_t rows = a.rows(), width = a.width(), size = rows * width, shared = a.heads / a.groups;
    int64_t fused_stride = (a.heads + 2 * a.groups) * a.head_dim;
    const bf16* fused = a.fused + batch * a.batch_stride;
    const bf16 *key_rows = fused + a.key_offset + group * a.key_step, *value_rows = fused + a.value_offset + group * a.key_step;
    bf16* gradient = a.gradient + batch * a.length * fused_stride;
    float* scale_sums = a.scale_gradients ? a.scale_gradients + (batch * a.groups + group) * 2 * a.head_dim : nullptr;
    if (scale_sums) clear(scale_sums, 2 * a.head_dim);
    // Blocks of KEYS rows follow each other. `turned`: transposed. `query` and `upstream`: [W / 2, Q, 2]. `..._pairs`: [Q / 2, W, 2].
    Array<bf16> keys(size), turned(size), values(size), query(size), query_pairs(size), upstream(size), upstream_pairs(size);
    Array<bf16> block_rows(KEYS * width), probabilities(KEYS * KEYS), gradients(KEYS * KEYS), pairs(KEYS * KEYS);
    Array<float> query_sums(size), key_sums(size), value_sums(size), row_sums(KEYS * width);
    Array<float> means(rows), scores(EDGE * KEYS), products(EDGE * KEYS);
    prepare(a, key_rows, a.key_scale, batch, 0, rows, keys);
    copy_rows(a, value_rows, a.row_stride, 0, rows, values);
    for (int64_t row = 0; row < rows; row += KEYS)
        transpose_matrix(keys + row * width, std::min(KEYS, rows - row), width, turned + row * width);
    clear(key_sums, size);
    clear(value_sums, size);
    for (int64_t head = group * shared; head < (group + 1) * shared; head++) {
        const bf16* query_rows = fused + head * a.query_step;
        int64_t offset = batch * a.length * a.context_stride() + head * a.head_dim;
        clear(query_sums, size);
        for (int64_t row = 0; row < rows; row += KEYS) {
            int64_t count = std::min(KEYS, rows - row), place = row * width;
            prepare(a, query_rows, a.query_scale, batch, row, count, block_rows);
            transpose_pairs(block_rows, count, width, query + place);
            pair_rows(block_rows, count, width, query_pairs + place);
            copy_rows(a, a.upstream + offset, a.context_stride(), row, count, block_rows);
            transpose_pairs(block_rows, count, width, upstream + place);
            pair_rows(block_rows, count, width, upstream_pairs + place);
            for (int64_t i = 0; i < count; i++) {
                Vec total = {};
                const bf16* context = a.context + offset + (row + i) * a.context_stride();
                for (int64_t d = 0; row + i < a.length && d < a.head_dim; d += LANES)
                    total += load_part(context + d, a.head_dim - d) * load(block_rows + i * width + d);
                means[row + i] = sum(total);
            }
        }
        for (int64_t row = 0; row < rows; row += KEYS) {
            int64_t count = std::min(KEYS, rows - row), place = row * width;
            QueryBlock block(a, batch, head, row, count, a.log_sums + (batch * a.heads + head) * a.length);
            for (int64_t key = block.starts[0] / KEYS * KEYS; key <= row; key += KEYS) {
                int64_t used = std::min(KEYS, rows - key);
                auto function = is_plain(a, batch, row, count, key, used) ? differentiate<true> : differentiate<false>;
                for (int64_t strip = 0; strip < used; strip += EDGE) {
                    int64_t first = std::max<int64_t>(0, key + strip - row), line = strip * KEYS, at = (key + strip) * width;
                    int64_t columns = count - first, pair = place + first * width;
                    multiply(keys + at, width, query + place + first * 2, count, scores + first, KEYS, EDGE, columns, width, false);
                    multiply(values + at, width, upstream + place + first * 2, count, products + first, KEYS, EDGE, columns, width, false);
                    function(a, block, head, first, count, key + strip, scores, products, means + row, probabilities + line,
                             gradients + line, pairs + line);
                    multiply(probabilities + line + first, KEYS, upstream_pairs + pair, width, value_sums + at, width, EDGE, width,
                             columns, true);
                    multiply(gradients + line + first, KEYS, query_pairs + pair, width, key_sums + at, width, EDGE, width, columns, true);
                }
                for (int64_t column = 0; column < count; column += EDGE)
                    multiply(turned + key * width, used, pairs + column * 2, KEYS, query_sums + place + column, count, width, EDGE,
                             std::min(used, row + column + EDGE - key), true);
            }
            transpose_floats(query_sums + place, width, count, row_sums);
            for (int64_t i = 0; i < count && row + i < a.length; i++) {
                float* x = row_sums + i * width;
                for (int64_t d = 0; d < width; d += LANES) store(x + d, load(x + d) * a.factor());
                write_gradient(a, query_rows + (row + i) * a.row_stride, a.query_scale, batch, row + i, x, scale_sums,
                               gradient + (row + i) * fused_stride + head * a.query_step);
            }
        }
    }
    for (int64_t row = 0; row < a.length; row++) {
        bf16* to = gradient + row * fused_stride + group * a.key_step;
        float *x = key_sums + row * width, *value = value_sums + row * width;
        for (int64_t d = 0; d < width; d += LANES) store(x + d, load(x + d) * a.factor());
        write_gradient(a, key_rows + row * a.row_stride, a.key_scale, batch, row, x, scale_sums + a.head_dim, to + a.key_offset);
        for (int64_t d = 0; d < a.head_dim; d += LANES) store_part(to + a.value_offset + d, load(value + d), a.head_dim - d);
    }
}

extern "C" {

// True if this processor has instructions for the products. Without them torch's products of fp32 copies are faster.
int64_t is_fast() {
#if defined(__AVX512BF16__)
    return 1;
#else
    return 0;
#endif
}

// Write the context and the logarithms of the sums.
void attend(const Attention* attention, int64_t threads) {
    const Attention& a = *attention;
    int64_t rows = a.rows(), width = a.width(), key_blocks = (rows + KEYS - 1) / KEYS, query_blocks = (rows + QUERIES - 1) / QUERIES;
    Array<bf16> keys(a.batch * a.groups * rows * width), values(a.batch * a.groups * rows * width);
#pragma omp parallel num_threads(threads)
    {
        Tiles tiles;
        Array<bf16> block_rows(KEYS * width);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < a.batch * a.groups * key_blocks; i++) {
            int64_t group = i / key_blocks, row = i % key_blocks * KEYS, count = std::min(KEYS, rows - row);
            int64_t place = (group * rows + row) * width;
            const bf16* from = a.fused + group / a.groups * a.batch_stride + group % a.groups * a.key_step;
            prepare(a, from + a.key_offset, a.key_scale, group / a.groups, row, count, keys + place);
            copy_rows(a, from + a.value_offset, a.row_stride, row, count, block_rows);
            transpose_matrix(block_rows, count, width, values + place);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < a.batch * a.heads * query_blocks; i++) {
            int64_t head = i / query_blocks, row = (query_blocks - 1 - i % query_blocks) * QUERIES;  // the longest first
            int64_t batch = head / a.heads, group = batch * a.groups + head % a.heads / (a.heads / a.groups), place = group * rows * width;
            attend_block(a, batch, head % a.heads, row, std::min(QUERIES, rows - row), keys + place, values + place);
        }
    }
}

// Write the gradient of the fused projection.
void differentiate_attention(const Attention* attention, int64_t threads) {
    const Attention& a = *attention;
#pragma omp parallel num_threads(threads)
    {
        Tiles tiles;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < a.batch * a.groups; i++) differentiate_group(a, i / a.groups, i % a.groups);
    }
}
}
