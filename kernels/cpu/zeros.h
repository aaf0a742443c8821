// What is left of layer 1's products when the zeros of the inputs are skipped. Images such as MNIST's are four fifths
// zeros. 0 * w adds nothing to a sum, so the results are those of product.h to the last bit, unless w is not finite.
#pragma once

// A group of inputs by the words of memory that it fills: bit g of the result is whether words [g * SIZE, ...) are not 0.
template <int SIZE>
struct GroupBits {
    alignas(64) uint32_t of[WORD * SIZE];
    constexpr GroupBits() : of() {
        for (int i = 0; i < WORD * SIZE; i++) of[i] = uint32_t(1) << (i / SIZE);
    }
};

// The bits that any of the words has.
INLINE uint32_t any_of(VectorOf<uint32_t, VECTOR_BYTES / 4>::type words) {
#if VECTOR_BYTES >= 64
    const VectorOf<uint64_t, 4>::type *halves = (const VectorOf<uint64_t, 4>::type *)&words;
    const VectorOf<uint64_t, 4>::type half = halves[0] | halves[1];
#elif VECTOR_BYTES >= 32
    const VectorOf<uint64_t, 4>::type half = (VectorOf<uint64_t, 4>::type)words;
#endif
#if VECTOR_BYTES >= 32
    const VectorOf<uint64_t, 2>::type *quarters = (const VectorOf<uint64_t, 2>::type *)&half;
    const VectorOf<uint64_t, 2>::type quarter = quarters[0] | quarters[1];
#else
    const VectorOf<uint64_t, 2>::type quarter = (VectorOf<uint64_t, 2>::type)words;
#endif
    const uint64_t pair = quarter[0] | quarter[1];
    return uint32_t(pair | pair >> 32);
}

// Set the mask of one example's n inputs.
template <class Source>
static void mark_groups(const Source *x, int64_t n, uint32_t *mask) {
    constexpr int SIZE = GROUP * sizeof(Source) / 4;  // words of 4 bytes a group
    static constexpr GroupBits<SIZE> bits;
    typedef VectorOf<uint32_t, VECTOR_BYTES / 4>::type V;
    typedef uint32_t Unaligned __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(1)));
    int64_t j = 0;
    for (; j + WORD * GROUP <= n; j += WORD * GROUP) {
        V set{};
#pragma GCC unroll 8
        for (int i = 0; i < WORD * SIZE; i += VECTOR_BYTES / 4) {
            const V words = *(const Unaligned *)((const char *)(x + j) + 4 * i);
            set |= (V)(words != 0) & *(const V *)(bits.of + i);
        }
        *mask++ = any_of(set);
    }
    if (j < n) {
        uint32_t word = 0;
        for (int64_t i = 0; j + i < n; i++) word |= uint32_t(x[j + i] != 0) << (i / GROUP);
        *mask = word;
    }
}

// How many groups of n inputs are not all zero.
template <class Source>
static int64_t count_groups(const Source *x, int64_t n) {
    int64_t count = 0;
    for (int64_t j = 0; j < n; j += GROUP) {
        bool any = false;
        for (int64_t k = j; k < min(j + GROUP, n); k++) any |= x[k] != 0;
        count += any;
    }
    return count;
}

// Where group g of example 0's inputs lies in a batch.
template <class Real>
INLINE const Real *group_of(Operand<Real> x, int64_t g) {
    const uint64_t k = uint64_t(g) * GROUP;  // divided by shifts
    return x.at + int64_t(k / NR<Real>) * x.stride + k % NR<Real>;
}

// c = bias + x w for rows [i0, i1) of PANELS panels.
template <class Real, int WIDTH, int VECTORS, int PANELS>
static void sparse_rows_times_panels(Operand<Real> x, const uint32_t *masks, int64_t words, Operand<Real> w,
                                     const Real *bias, Real *c, int64_t c_stride, int64_t i0, int64_t i1) {
    typedef typename VectorOf<Real, WIDTH>::type V;
    for (int64_t word = 0; word < words; word++) {  // the part of w that belongs to a word stays in the cache
        const Real *of_word = w.at + word * WORD * GROUP * NR<Real>;
        for (int64_t i = i0; i < i1; i++) {
            Real *to = c + i * NR<Real>;
            V sum[PANELS][VECTORS];
            for (int p = 0; p < PANELS; p++)
                for (int v = 0; v < VECTORS; v++)
                    sum[p][v] = *(const V *)((word ? to + p * c_stride : bias + p * NR<Real>) + v * WIDTH);
            for (uint32_t left = masks[i * words + word]; left; left &= left - 1) {
                const int64_t g = __builtin_ctz(left);
                const Real *a = group_of(x, word * WORD + g) + i * NR<Real>, *row = of_word + g * GROUP * NR<Real>;
#pragma GCC unroll 4
                for (int k = 0; k < GROUP; k++)
                    for (int p = 0; p < PANELS; p++)
                        for (int v = 0; v < VECTORS; v++)
                            sum[p][v] += a[k] * *(const V *)(row + p * w.stride + k * NR<Real> + v * WIDTH);
            }
            for (int p = 0; p < PANELS; p++)
                for (int v = 0; v < VECTORS; v++) *(V *)(to + p * c_stride + v * WIDTH) = sum[p][v];
        }
    }
}

// w += sum of the outer products of a whole group of inputs with a panel of delta, for the examples in the mask.
template <class Real, int WIDTH, int VECTORS>
static void sparse_outer_products(const Real *a, const uint32_t *examples, int64_t words, const Real *delta, Real *w) {
    Tile<Real, WIDTH, VECTORS, GROUP, NR<Real>, 1> tile;
    tile.zero();
    for (int64_t word = 0; word < words; word++)
        for (uint32_t left = examples[word]; left; left &= left - 1) {
            const int64_t i = word * WORD + __builtin_ctz(left);
            tile.add_products(a + i * NR<Real>, 1, delta + i * NR<Real>);
        }
    tile.add_to(w);
}

// For half a vector, a vector and two.
template <class Real>
static constexpr decltype(&sparse_rows_times_panels<Real, 1, 1, 1>) sparse_rows_times_panels_of[3] = {
    sparse_rows_times_panels<Real, HALF<Real>, 1, 1>, sparse_rows_times_panels<Real, LANES<Real>, 1, 1>,
    sparse_rows_times_panels<Real, LANES<Real>, 2, 1>};
template <class Real>
static constexpr decltype(&sparse_outer_products<Real, 1, 1>) sparse_outer_products_of[3] = {
    sparse_outer_products<Real, HALF<Real>, 1>, sparse_outer_products<Real, LANES<Real>, 1>,
    sparse_outer_products<Real, LANES<Real>, 2>};

// c = bias + x w for rows [i0, i1) and panels [p0, p1) of n columns: two panels at a time, so that there are sums enough
// to work on while one waits for the one before.
template <class Real>
static void sparse_product(Operand<Real> x, const uint32_t *masks, int64_t words, Operand<Real> w, int64_t n,
                           const Real *bias, Real *c, int64_t c_stride, int64_t p0, int64_t p1, int64_t i0,
                           int64_t i1) {
    while (p0 < p1) {
        const auto multiply = sparse_rows_times_panels_of<Real>[width_of<Real>(p0 * NR<Real>, n)];
        const bool pair = p0 + 1 < p1 && width_of<Real>((p0 + 1) * NR<Real>, n) == 2;
        (pair ? sparse_rows_times_panels<Real, LANES<Real>, 2, 2> : multiply)(
            x, masks, words, {w.at + p0 * w.stride, w.stride}, bias + p0 * NR<Real>, c + p0 * c_stride, c_stride, i0, i1);
        p0 += pair ? 2 : 1;
    }
}
