// Shows that the device compiles and runs a kernel before "auto" picks it: y[i] = a * x[i] + y[i].
extern "C" __global__ void probe(const float a, const float* x, float* y, const int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = a * x[i] + y[i];
    }
}
