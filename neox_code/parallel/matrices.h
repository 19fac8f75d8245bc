// Small bf16 matrices for compiled code: transposition, and products with fp32 sums.
//
// The second factor of a product has its rows in pairs, [rows / 2, columns, 2]. This is the order of processors' bf16 instructions.
#pragma once
#include <utility>

#include "vectors.h"
#if defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

constexpr int EDGE = 32;  // rows and columns of matrices are multiples of this

typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Line __attribute__((vector_size(64)));

// ---- Transposition

template <int N, size_t... J>
static inline void exchange(Words* rows, std::index_sequence<J...>) {  // swap blocks of N words between rows that are N apart
    for (int i = 0; i < 16; i++)
        if (!(i & N)) {
            Words a = rows[i], b = rows[i + N];
            rows[i] = __builtin_shuffle(a, b, Words{uint32_t(J & N ? 16 + J - N : J)...});
            rows[i + N] = __builtin_shuffle(a, b, Words{uint32_t(J & N ? 16 + J : J + N)...});
        }
}

static inline void transpose_words(Words* rows) {
    constexpr auto lanes = std::make_index_sequence<16>();
    exchange<1>(rows, lanes);
    exchange<2>(rows, lanes);
    exchange<4>(rows, lanes);
    exchange<8>(rows, lanes);
}

// Two lines of 32 numbers -> the pairs of their first 16 columns, and of their last 16.
template <size_t... J>
static inline void pair_lines(Line a, Line b, Words& low, Words& high, std::index_sequence<J...>) {
    low = (Words)__builtin_shuffle(a, b, Line{uint16_t(J % 2 * 32 + J / 2)...});
    high = (Words)__builtin_shuffle(a, b, Line{uint16_t(J % 2 * 32 + J / 2 + 16)...});
}

static inline void pair_lines(const bf16* first, const bf16* second, Words& low, Words& high) {
    Line a, b;
    memcpy(&a, first, 64);
    memcpy(&b, second, 64);
    pair_lines(a, b, low, high, std::make_index_sequence<32>());
}

// Lines of a block [EDGE, EDGE] -> the lines of the transposed block.
static inline void transpose_block(const bf16* from, int64_t stride, Words* lines) {
    for (int i = 0; i < 16; i++) pair_lines(from + 2 * i * stride, from + (2 * i + 1) * stride, lines[i], lines[16 + i]);
    transpose_words(lines);
    transpose_words(lines + 16);
}

// from [rows, columns] -> to [columns, rows]
static void transpose_matrix(const bf16* from, int64_t rows, int64_t columns, bf16* to) {
    Words lines[EDGE];
    for (int64_t row = 0; row < rows; row += EDGE)
        for (int64_t column = 0; column < columns; column += EDGE) {
            transpose_block(from + row * columns + column, columns, lines);
            for (int i = 0; i < EDGE; i++) memcpy(to + (column + i) * rows + row, &lines[i], 64);
        }
}

// from [rows, columns] -> to [rows / 2, columns, 2]
static void pair_rows(const bf16* from, int64_t rows, int64_t columns, bf16* to) {
    Words low, high;
    for (int64_t row = 0; row < rows; row += 2, from += 2 * columns)
        for (int64_t column = 0; column < columns; column += EDGE, to += 2 * EDGE) {
            pair_lines(from + column, from + columns + column, low, high);
            memcpy(to, &low, 64);
            memcpy(to + EDGE, &high, 64);
        }
}

// 16 rows of 16 words -> the transposed rows. Distances between rows are in bytes.
static inline void transpose_rows(const void* from, int64_t from_stride, void* to, int64_t to_stride) {
    Words words[16];
    for (int i = 0; i < 16; i++) memcpy(&words[i], (const char*)from + i * from_stride, 64);
    transpose_words(words);
    for (int i = 0; i < 16; i++) memcpy((char*)to + i * to_stride, &words[i], 64);
}

// from [rows, columns] -> the transposed matrix with its rows in pairs, to [columns / 2, rows, 2]
static void transpose_pairs(const bf16* from, int64_t rows, int64_t columns, bf16* to) {
    for (int64_t row = 0; row < rows; row += 16)
        for (int64_t column = 0; column < columns; column += EDGE)
            transpose_rows(from + row * columns + column, columns * 2, to + column * rows + row * 2, rows * 4);
}

// from [rows, columns] -> to [columns, rows], fp32
static void transpose_floats(const float* from, int64_t rows, int64_t columns, float* to) {
    for (int64_t row = 0; row < rows; row += 16)
        for (int64_t column = 0; column < columns; column += 16)
            transpose_rows(from + row * columns + column, columns * 4, to + column * rows + row, rows * 4);
}

// ---- Products

#if defined(__AMX_BF16__)
// Linux lends the tile registers to a process that asks for them: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
static const bool has_tiles = syscall(SYS_arch_prctl, 0x1023, 18) == 0;

// Shapes of the eight tile registers: numbers of rows, and bytes of a row.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
#else
static const bool has_tiles = false;
#endif

// Reserve the tile registers of this thread for `multiply`.
struct Tiles {
#if defined(__AMX_BF16__)
    Tiles() {
        TileShapes shapes;
        if (has_tiles) _tile_loadconfig(&shapes);
    }
    ~Tiles() {
        if (has_tiles) _tile_release();
    }
#endif
};

// sums [EDGE, EDGE] = first [EDGE, depth] times second [depth / 2, EDGE, 2], plus the former sums if `adds`. Strides are in numbers;
// that of `second` is the number of columns of its matrix.
static inline void multiply_block(const bf16* first, int64_t first_stride, const bf16* second, int64_t columns, float* sums,
                                  int64_t sums_stride, int64_t depth, bool adds) {
#if defined(__AMX_BF16__)
    if (has_tiles) {
        if (adds) {
            _tile_loadd(0, sums, sums_stride * 4);
            _tile_loadd(1, sums + 16, sums_stride * 4);
            _tile_loadd(2, sums + 16 * sums_stride, sums_stride * 4);
            _tile_loadd(3, sums + 16 * sums_stride + 16, sums_stride * 4);
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (int64_t k = 0; k < depth; k += 32) {
            _tile_loadd(4, first + k, first_stride * 2);
            _tile_loadd(6, second + k * columns, columns * 4);
            _tile_loadd(7, second + k * columns + 32, columns * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, first + 16 * first_stride + k, first_stride * 2);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, sums, sums_stride * 4);
        _tile_stored(1, sums + 16, sums_stride * 4);
        _tile_stored(2, sums + 16 * sums_stride, sums_stride * 4);
        _tile_stored(3, sums + 16 * sums_stride + 16, sums_stride * 4);
        return;
    }
#endif
    constexpr int ROWS = LANES == 16 ? 8 : 4;
    for (int row = 0; row < EDGE; row += ROWS, first += ROWS * first_stride)
        for (int column = 0; column < EDGE; column += 2 * LANES) {
            float* to = sums + row * sums_stride + column;
            Vec total[ROWS][2] = {};
            for (int r = 0; adds && r < ROWS; r++)
                for (int c = 0; c < 2; c++) total[r][c] = load(to + r * sums_stride + c * LANES);
            for (int64_t k = 0; k < depth; k += 2) {
                Bits pairs[2], both;
                memcpy(pairs, second + k * columns + column * 2, sizeof pairs);
                for (int r = 0; r < ROWS; r++) {
                    uint32_t word;
                    memcpy(&word, first + r * first_stride + k, 4);
                    both = Bits{} + word;
                    for (int c = 0; c < 2; c++) {
#if defined(__AVX512BF16__)
                        total[r][c] = (Vec)_mm512_dpbf16_ps((__m512)total[r][c], (__m512bh)both, (__m512bh)pairs[c]);
#else
                        total[r][c] += (Vec)(both << 16) * (Vec)(pairs[c] << 16);
                        total[r][c] += (Vec)(both & 0xffff0000u) * (Vec)(pairs[c] & 0xffff0000u);
#endif
                    }
                }
            }
            for (int r = 0; r < ROWS; r++)
                for (int c = 0; c < 2; c++) store(to + r * sums_stride + c * LANES, total[r][c]);
        }
}

// sums [rows, width] = first [rows, depth] times second [depth / 2, columns, 2], of which the first `width` columns are used.
static inline void multiply(const bf16* first, int64_t first_stride, const bf16* second, int64_t columns, float* sums,
                            int64_t sums_stride, int64_t rows, int64_t width, int64_t depth, bool adds) {
    for (int64_t row = 0; row < rows; row += EDGE)
        for (int64_t column = 0; column < width; column += EDGE)
            multiply_block(first + row * first_stride, first_stride, second + column * 2, columns,
                           sums + row * sums_stride + column, sums_stride, depth, adds);
}
