// Passes over large tensors in a training step on a CPU: native_kernels.py compiles this file and calls its functions.
//
// Each function reads and writes its tensors once, where torch's operators make several passes or convert bf16 to fp32 in memory.
// Arithmetic is in fp32. Results do not depend on the number of threads.
#include <algorithm>
#include <cmath>

#include "matrices.h"

#if !defined(_OPENMP)
#error "without OpenMP all functions would use one thread"
#endif

constexpr int64_t BLOCK = 1 << 14;  // elements that a thread takes at once

// Call function(begin, end) for consecutive ranges of `total` elements, in parallel.
template <class Function>
static void divide(int64_t total, int threads, Function function) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t begin = 0; begin < total; begin += BLOCK) function(begin, std::min(begin + BLOCK, total));
}

static inline void copy_line(bf16* to, const void* from, int64_t count) {
    count == 32 ? memcpy(to, from, 64) : memcpy(to, from, count * 2);  // a constant size needs no call
}

extern "C" {

// out [columns, rows] = the transposed matrix of `from` [rows, columns]; `sums` [columns] = the sums of its columns, or null.
void transpose(const bf16* from, int64_t rows, int64_t columns, bf16* out, bf16* sums, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t column = 0; column < columns; column += 32) {
        int64_t width = std::min<int64_t>(32, columns - column);
        Vec totals[32 / LANES] = {};
        alignas(64) bf16 tile[32][32] = {};
        for (int64_t row = 0; row < rows; row += 32) {
            int64_t height = std::min<int64_t>(32, rows - row);
            for (int r = 0; r < height; r++) {
                const bf16* line = from + (row + r) * columns + column;
                __builtin_prefetch(line + 32 * columns);
                copy_line(tile[r], line, width);
            }
            for (int r = 0; r < height; r++)
                for (int c = 0; c < 32 / LANES; c++) totals[c] += load(tile[r] + c * LANES);
            Words lines[32];
            transpose_block(tile[0], 32, lines);
            for (int c = 0; c < width; c++) copy_line(out + (column + c) * rows + row, &lines[c], height);
        }
        for (int64_t c = 0; sums && c < width; c += LANES) store_part(sums + column + c, totals[c / LANES], width - c);
    }
}

// ---- Cross entropy

// Of each row of logits [rows, stride]: the maximum of the first `count` numbers, and the sum of their exponentials minus it.
void sum_exponentials(const bf16* logits, int64_t rows, int64_t stride, int64_t count, float* highest, float* sums, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const bf16* from = logits + row * stride;
        Vec most = Vec{} - INFINITY, total = {};
        int64_t i = 0;
        for (; i + LANES <= count; i += LANES) {
            Vec x = load(from + i);
            most = x > most ? x : most;
        }
        float largest = -INFINITY, rest = 0;
        for (int lane = 0; lane < LANES; lane++) largest = std::max(largest, most[lane]);
        for (; i < count; i++) largest = std::max(largest, widen(from[i]));
        for (i = 0; i + LANES <= count; i += LANES) total += exponential(load(from + i) - largest);
        for (; i < count; i++) rest += std::exp(widen(from[i]) - largest);
        highest[row] = largest;
        sums[row] = sum(total) + rest;
    }
}

// Replace logits by their gradient: factor * (exp(x - highest) / total - one-hot), and 0 from column `count` on. `labels` are
// columns, or -1.
void replace_by_gradients(bf16* logits, int64_t rows, int64_t stride, int64_t count, const float* highest, const float* totals,
                          const float* factors, const int64_t* labels, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        bf16* line = logits + row * stride;
        float scale = factors[row] / totals[row], most = highest[row];
        int64_t label = labels[row];
        bool is_here = label >= 0 && label < count;
        float at_label = is_here ? widen(line[label]) : 0;
        for (int64_t i = 0; i < count; i += LANES)
            store_part(line + i, exponential(load_part(line + i, count - i) - most) * scale, count - i);
        std::fill(line + count, line + stride, bf16(0));
        if (is_here) store_part(line + label, exponential(Vec{} + at_label - most) * scale - factors[row], 1);
    }
}

// ---- GELU by its tanh approximation: x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3)))

static Vec gelu_share(Vec x) { return logistic(1.59576912f * (x + 0.044715f * x * x * x)); }

void gelu_forward(const bf16* from, bf16* to, int64_t count, int64_t threads) {
    divide(count, threads, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES) {
            Vec x = load_part(from + i, end - i);
            store_part(to + i, x * gelu_share(x), end - i);
        }
    });
}

void gelu_backward(const bf16* from, const bf16* upstream, bf16* to, int64_t count, int64_t threads) {
    divide(count, threads, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES) {
            Vec x = load_part(from + i, end - i), s = gelu_share(x);
            Vec slope = s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
            store_part(to + i, load_part(upstream + i, end - i) * slope, end - i);
        }
    });
}

// ---- SwiGLU: rows [2 width] of up and gate -> up * gate / (1 + exp(-gate))

void swiglu_forward(const bf16* from, bf16* to, int64_t rows, int64_t width, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i += LANES) {
            const bf16* up = from + row * 2 * width + i;
            Vec gate = load_part(up + width, width - i);
            store_part(to + row * width + i, load_part(up, width - i) * gate * logistic(gate), width - i);
        }
}

void swiglu_backward(const bf16* from, const bf16* upstream, bf16* to, int64_t rows, int64_t width, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t left = width - i, at = row * 2 * width + i;
            Vec up = load_part(from + at, left), gate = load_part(from + at + width, left), given = load_part(upstream + row * width + i, left);
            Vec s = logistic(gate);
            store_part(to + at, given * gate * s, left);
            store_part(to + at + width, given * up * s * (1.0f + gate * (1.0f - s)), left);
        }
}

// Multiply numbers by a factor.
void scale(bf16* numbers, const float* factor, int64_t count, int64_t threads) {
    divide(count, threads, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES) store_part(numbers + i, load_part(numbers + i, end - i) * *factor, end - i);
    });
}

// ---- The optimizer

struct AdamW {
    double rate, beta1, beta2, epsilon, decay, scale;  // gradients are divided by `scale`
    double correction1, correction2;                   // 1 - beta^updates
};
}

template <class T>
static void update(const AdamW& s, float* master, float* moment, float* square, const T* gradient, bf16* weights, int64_t count,
                   int64_t threads) {
    const float kept = 1 - s.rate * s.decay, rate = s.rate / s.correction1, root = 1 / std::sqrt(s.correction2), inverse = 1 / s.scale;
    const float rest1 = 1 - s.beta1, beta2 = s.beta2, rest2 = 1 - s.beta2, epsilon = s.epsilon;
    divide(count, threads, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES) {
            int64_t left = end - i;
            Vec g = load_part(gradient + i, left) * inverse, p = load_part(master + i, left) * kept;
            Vec m = load_part(moment + i, left), v = load_part(square + i, left), deviation;
            m += (g - m) * rest1;
            v = v * beta2 + g * g * rest2;
            for (int lane = 0; lane < LANES; lane++) deviation[lane] = std::sqrt(v[lane]);
            p -= rate * m / (deviation * root + epsilon);
            store_part(moment + i, m, left);
            store_part(square + i, v, left);
            store_part(master + i, p, left);
            if (weights) store_part(weights + i, p, left);
        }
    });
}

// The sum of squares of every BLOCK elements.
template <class T>
static void sum_squares(const T* from, int64_t count, double* sums, int64_t threads) {
    divide(count, threads, [=](int64_t begin, int64_t end) {
        double total = 0;
        for (int64_t part = begin; part < end; part += 64 * LANES) {
            Vec squares = {};
            for (int64_t i = part; i < std::min(part + 64 * LANES, end); i += LANES) {
                Vec x = load_part(from + i, end - i);
                squares += x * x;
            }
            total += sum(squares);
        }
        sums[begin / BLOCK] = total;
    });
}

extern "C" {
void update_adamw(const AdamW* settings, float* master, float* moment, float* square, const void* gradient, int64_t is_bf16, bf16* weights,
                  int64_t count, int64_t threads) {
    if (is_bf16)
        update(*settings, master, moment, square, (const bf16*)gradient, weights, count, threads);
    else
        update(*settings, master, moment, square, (const float*)gradient, weights, count, threads);
}

void sum_squares_of_blocks(const void* from, int64_t is_bf16, int64_t count, double* sums, int64_t threads) {
    if (is_bf16)
        sum_squares((const bf16*)from, count, sums, threads);
    else
        sum_squares((const float*)from, count, sums, threads);
}
}
