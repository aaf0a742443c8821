// out = w^T delta * f'(z), BP2, for a whole layer.
//
// delta is (S, I), s and out are (J, I) by columns, w is (S, J) by rows: J neurons, S in the following layer, I
// examples. v is what f' is computed from, z or a. Above this text stand the type REAL, the numbers R and DEPTH and the
// expression F_PRIME(v).
#define LEFT(i, s) delta[(i) * S + (s)]
#define RIGHT(s, j) w[(s) * J + (j)]
#define LEFT_ALONG_S true
#define RIGHT_ALONG_S false
extern "C" __global__ void layer_backward(
    const REAL* w, const REAL* delta, const REAL* v, REAL* out, const int I, const int J, const int S) {
#include "tile.cuh"
    for (int r = 0; r < R; r++) {
        for (int c = 0; c < R; c++) {
            const int i = top + threadIdx.y + 16 * r, j = side + threadIdx.x + 16 * c;
            if (i < I && j < J) {
                out[i * J + j] = sum[r][c] * F_PRIME(v[i * J + j]);
            }
        }
    }
}
