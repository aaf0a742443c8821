// The three products of a step, for operands in panels: w a, the transpose of w times delta, and delta times the
// transpose of a. Each is tiles of at most ROWS rows and one panel, summed in registers.
//
// Every element is one chain of sums over the summed index, in ascending order, however the product is cut into
// blocks and shared among threads: the same bits always.
#pragma once

// a(r, d) lies at a[r * ROW_STEP + d * STEP], and row d of b at b[d * NR].
template <class Real, int WIDTH, int VECTORS, int ROWS_, int STEP, int ROW_STEP>
struct Tile {
    typedef typename VectorOf<Real, WIDTH>::type V;
    V sum[ROWS_][VECTORS];

    INLINE_MEMBER void start(const Real *from, ptrdiff_t stride) {
#pragma GCC unroll 16
        for (int r = 0; r < ROWS_; r++)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) sum[r][v] = *(const V *)(from + r * stride + v * WIDTH);
    }

    INLINE_MEMBER void zero() {
#pragma GCC unroll 16
        for (int r = 0; r < ROWS_; r++)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) sum[r][v] = V{};
    }

    INLINE_MEMBER void add_products(const Real *a, int64_t depth, const Real *b) {
#pragma GCC unroll 2
        for (int64_t d = 0; d < depth; d++) {
            V row[VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) row[v] = *(const V *)(b + v * WIDTH);
#pragma GCC unroll 16
            for (int r = 0; r < ROWS_; r++) {
                const V factor = a[r * ROW_STEP] - V{};
#pragma GCC unroll 2
                for (int v = 0; v < VECTORS; v++) sum[r][v] += factor * row[v];
            }
            a += STEP;
            b += NR<Real>;
        }
    }

    INLINE_MEMBER void finish(Real *to) const {
#pragma GCC unroll 16
        for (int r = 0; r < ROWS_; r++)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) *(V *)(to + r * NR<Real> + v * WIDTH) = sum[r][v];
    }

    INLINE_MEMBER void add_to(Real *to) const {
#pragma GCC unroll 16
        for (int r = 0; r < ROWS_; r++)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) *(V *)(to + r * NR<Real> + v * WIDTH) += sum[r][v];
    }
};

// Bytes of one panel's rows that are worked on together, with what is multiplied with them in the first-level cache,
// and panels that share it in the second level.
constexpr int64_t DEPTH_BYTES = 32768;
constexpr int64_t PANELS_TOGETHER = 8;

// Where what is needed soon lies. A tile takes longer than memory does, but it is too much to wait for at once.
template <class Real>
struct Soon {
    const Real *a, *c;  // a part of the rows of `a` for the next tiles, in the first of a's panels; the next tile of c
};

// Lines for each of a's panels: all of the next tiles' rows, when each of the panels that share them fetches so many.
template <class Real>
constexpr int64_t LINES = (ROWS * NR<Real> * int64_t(sizeof(Real)) / 64 + PANELS_TOGETHER - 1) / PANELS_TOGETHER;
constexpr int64_t LINE = 64;

// c = start + a b over `depth`, where c and a are rows of panels: a's panels lie a_stride apart.
template <class Real, int WIDTH, int VECTORS, int N>
static void rows_times_panel(const Real *a, int64_t a_stride, int64_t depth, const Real *b, const Real *start,
                             ptrdiff_t start_stride, Real *c, Soon<Real> soon) {
    Tile<Real, WIDTH, VECTORS, N, 1, NR<Real>> tile;
    tile.start(start, start_stride);
    for (; depth > 0; depth -= NR<Real>, a += a_stride, b += NR<Real> * NR<Real>) {
        for (int64_t i = 0; i < LINES<Real>; i++) {
            __builtin_prefetch((const char *)soon.a + i * LINE);
            __builtin_prefetch((const char *)soon.c + i * LINE, 1);
        }
        soon.a += a_stride;
        soon.c += LINES<Real> * LINE / sizeof(Real);
        tile.add_products(a, min(depth, NR<Real>), b);
    }
    tile.finish(c);
}

// w += sum over m examples of the outer products of N inputs in a and a panel of delta. The sum starts from 0 and not
// from w, beside which each example's small part would be rounded away.
template <class Real, int WIDTH, int VECTORS, int N>
static void outer_products(const Real *a, int64_t m, const Real *delta, Real *w) {
    Tile<Real, WIDTH, VECTORS, N, NR<Real>, 1> tile;
    tile.zero();
    tile.add_products(a, m, delta);
    tile.add_to(w);
}

template <class Real>
struct Kernels {
    typedef decltype(&rows_times_panel<Real, 1, 1, 1>) RowsTimesPanel;
    typedef decltype(&outer_products<Real, 1, 1, 1>) OuterProducts;
};

// A vector of 16 bytes is not halved: there is nothing narrower to win with.
template <class Real>
constexpr int HALF = VECTOR_BYTES > 16 ? LANES<Real> / 2 : LANES<Real>;

// The kernel of `WIDTH * VECTORS` columns for each number of rows.
#if ROWS == 12
#define BY_ROWS(kernel, W, V)                                                                                     \
    {kernel<Real, W, V, 1>, kernel<Real, W, V, 2>, kernel<Real, W, V, 3>, kernel<Real, W, V, 4>,                  \
     kernel<Real, W, V, 5>, kernel<Real, W, V, 6>, kernel<Real, W, V, 7>, kernel<Real, W, V, 8>,                  \
     kernel<Real, W, V, 9>, kernel<Real, W, V, 10>, kernel<Real, W, V, 11>, kernel<Real, W, V, 12>}
#else
#define BY_ROWS(kernel, W, V)                                                                                     \
    {kernel<Real, W, V, 1>, kernel<Real, W, V, 2>, kernel<Real, W, V, 3>,                                         \
     kernel<Real, W, V, 4>, kernel<Real, W, V, 5>, kernel<Real, W, V, 6>}
#endif
// Half a vector, a vector and two: the last panel of a layer is computed no wider than it has to be.
#define BY_WIDTH(kernel)                                                                                          \
    {BY_ROWS(kernel, HALF<Real>, 1), BY_ROWS(kernel, LANES<Real>, 1), BY_ROWS(kernel, LANES<Real>, 2)}

template <class Real>
static constexpr typename Kernels<Real>::RowsTimesPanel rows_times_panel_of[3][ROWS] = BY_WIDTH(rows_times_panel);
template <class Real>
static constexpr typename Kernels<Real>::OuterProducts outer_products_of[3][ROWS] = BY_WIDTH(outer_products);

// Which of the three widths the panel that begins at column j of n needs.
template <class Real>
INLINE int width_of(int64_t j, int64_t n) {
    const int64_t left = n - j;
    return left > LANES<Real> ? 2 : left > HALF<Real> ? 1 : 0;
}

// The i-th of `pieces` nearly equal pieces of n begins here.
INLINE int64_t cut(int64_t n, int64_t i, int64_t pieces) { return n * i / pieces; }

template <class Real>
struct Operand {
    const Real *at;
    int64_t stride;  // from panel to panel
};

// c = bias + a b for rows [i0, i1) and panels [p0, p1), with n columns and the sum over `depth`. bias null: zero.
template <class Real>
static void product(Operand<Real> a, int64_t depth, Operand<Real> b, int64_t n, const Real *bias, Real *c,
                    int64_t c_stride, int64_t p0, int64_t p1, int64_t i0, int64_t i1) {
    if (i0 >= i1 || p0 >= p1) return;
    alignas(64) static const Real zeros[NR<Real>] = {};
    constexpr int64_t N = NR<Real>;
    const int64_t blocks = (i1 - i0 + ROWS - 1) / ROWS;
    const int64_t most = DEPTH_BYTES / int64_t(N * sizeof(Real));
    const int64_t pieces = (depth + most - 1) / most;
    const int64_t piece = ((depth + pieces - 1) / pieces + N - 1) / N * N;  // whole panels of a
    for (int64_t group = p0; group < p1; group += PANELS_TOGETHER)
        for (int64_t d = 0; d < depth; d += piece)
            for (int64_t block = 0; block < blocks; block++) {
                const int64_t i = i0 + cut(i1 - i0, block, blocks);
                const int64_t rows = i0 + cut(i1 - i0, block + 1, blocks) - i;
                const Real *from = a.at + d / N * a.stride + i * N;
                const int64_t end = min(group + PANELS_TOGETHER, p1);
                for (int64_t p = group; p < end; p++) {
                    Real *to = c + p * c_stride + i * N;
                    const Real *start = d ? to : bias ? bias + p * N : zeros;
                    const Soon<Real> soon = {from + rows * N + (p - group) * LINES<Real> * LINE / int64_t(sizeof(Real)),
                                             p + 1 < end ? to + c_stride : c + group * c_stride + (i + rows) * N};
                    rows_times_panel_of<Real>[width_of<Real>(p * N, n)][rows - 1](
                        from, a.stride, min(piece, depth - d), b.at + p * b.stride + d * N, start, d ? N : 0, to, soon);
                }
            }
}
