// z = w x + b and a = f(z), equation (25), for a whole layer; z may be a.
//
// x is (S, I), z and a are (J, I) by columns, w is (J, S) by rows, b is (J, 1): J neurons, I examples. Above this text
// stand the type REAL, the numbers R and DEPTH, the expression F(z), and BIAS(j), which is b[j] or nothing.
#define LEFT(i, s) x[(i) * S + (s)]
#define RIGHT(s, j) w[(j) * S + (s)]
#define LEFT_ALONG_S true
#define RIGHT_ALONG_S true
extern "C" __global__ void layer_forward(
    const REAL* w, const REAL* x, const REAL* b, REAL* z, REAL* a, const int I, const int J, const int S) {
#include "tile.cuh"
    for (int r = 0; r < R; r++) {
        for (int c = 0; c < R; c++) {
            const int i = top + threadIdx.y + 16 * r, j = side + threadIdx.x + 16 * c;
            if (i < I && j < J) {
                const REAL weighted = sum[r][c] + BIAS(j);
                z[i * J + j] = weighted;
                a[i * J + j] = F(weighted);
            }
        }
    }
}
