// w = alpha delta a^T + beta_w w and b = alpha (sum of delta's columns) + beta_b b: BP4 and, as BP4 with a = 1, BP3.
//
// delta is (I, S) and a is (J - 1, S) by columns, w is (I, J - 1) by rows, b is (I, 1): I neurons, S examples. b is the
// last of J columns. With beta 0 what w or b held is not read. Above this text stand the type REAL and the numbers R
// and DEPTH.
#define LEFT(i, s) delta[(s) * I + (i)]
#define RIGHT(s, j) ((j) < J - 1 ? a[(s) * (J - 1) + (j)] : REAL(1))
#define LEFT_ALONG_S false
#define RIGHT_ALONG_S false
extern "C" __global__ void layer_gradient(
    const REAL* delta, const REAL* a, REAL* b, REAL* w, const REAL alpha, const REAL beta_b, const REAL beta_w,
    const int I, const int J, const int S) {
#include "tile.cuh"
    for (int r = 0; r < R; r++) {
        for (int c = 0; c < R; c++) {
            const int i = top + threadIdx.y + 16 * r, j = side + threadIdx.x + 16 * c;
            if (i < I && j < J) {
                REAL* to = j < J - 1 ? w + i * (J - 1) + j : b + i;
                const REAL beta = j < J - 1 ? beta_w : beta_b;
                const REAL before = beta == REAL(0) ? REAL(0) : beta * *to;
                *to = alpha * sum[r][c] + before;
            }
        }
    }
}
