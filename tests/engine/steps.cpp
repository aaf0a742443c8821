// Whole steps by several threads, for a build with the thread sanitizer: the same numbers whatever their number.
#include "../../kernels/cpu/network.h"
#include "../../kernels/cpu/pool.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <vector>

namespace {

using namespace gpunet;

const std::vector<int64_t> SIZES = {70, 300, 260, 10};
const std::vector<Activation> ACTIVATIONS = {TANH, SOFTMAX, SIGMOID};
const std::vector<double> DROPOUT = {0.2, 0.5, 0.4};
constexpr int64_t EXAMPLES = 300, BATCH_SIZE = 97;

std::vector<float> numbers(int64_t count, double scale) {
    std::vector<float> all;
    for (int64_t i = 0; i < count; i++) all.push_back(float(scale * std::sin(0.7 * double(i) * double(i))));
    return all;
}

// What a training leaves: its parameters and its sums.
struct Result {
    std::vector<float> parameters;
    double costs, squares;
    bool operator==(const Result &other) const {
        return parameters == other.parameters && costs == other.costs && squares == other.squares;
    }
};

Result train(const InstructionSet &set, Rule rule, double zeros, int threads) {
    NetworkMemory<float> memory(SIZES, ACTIVATIONS, QUADRATIC, 0, DROPOUT, set.vector_bytes);
    std::vector<float> X = numbers(EXAMPLES * SIZES.front(), 1), Y = numbers(EXAMPLES * SIZES.back(), 1);
    for (size_t i = 0; i < X.size(); i++)
        if (std::fmod(0.37 * double(i / 4), 1) < zeros) X[i] = 0;
    std::vector<float> weights(EXAMPLES), uniform = numbers(EXAMPLES * memory.network.draws, 1);
    for (float &u : uniform) u = std::fabs(u);
    std::vector<int64_t> order;
    for (int64_t i = 0; i < EXAMPLES; i++) {
        weights[size_t(i)] = float(i % 3);
        order.push_back(i * 7 % EXAMPLES);
    }
    std::vector<float> parameters = numbers(memory.parameters(), 0.1), velocity(parameters.size());
    const bool has_state = rule == MOMENTUM;
    memory.load(parameters.data(), has_state ? std::vector<const float *>{velocity.data()} : std::vector<const float *>());
    memory.reserve(BATCH_SIZE, threads);
    Job job{};
    job.X = X.data();
    job.Y = Y.data();
    job.weights = weights.data();
    job.uniform = uniform.data();
    job.order = order.data();
    job.n = EXAMPLES;
    job.batch_size = BATCH_SIZE;
    job.rule = rule;
    job.eta = 0.5;
    job.mu = 0.9;
    job.input_scale = 1;
    job.alpha = 0.1;
    Pool pool;
    pool.run(threads, [&](Team &team, int thread) { set.train_float(memory.network, job, team, thread); });
    memory.store(parameters.data(), has_state ? std::vector<float *>{velocity.data()} : std::vector<float *>());
    return {parameters, job.total, job.squares};
}

}  // namespace

int main() {
    for (const InstructionSet *set : {
#if defined(__x86_64__)
             &avx512, &avx2,
#endif
             &baseline})
        for (Rule rule : {SGD, MOMENTUM})
            for (double zeros : {0.0, 0.8}) {
                if (!set->usable()) continue;
                const Result expected = train(*set, rule, zeros, 1);
                if (!(expected.squares > 0)) {
                    std::printf("%s has summed no squares\n", set->name);
                    return 1;
                }
                for (int threads : {2, 3, 7})
                    if (!(train(*set, rule, zeros, threads) == expected)) {
                        std::printf("%s by %d threads differs from one\n", set->name, threads);
                        return 1;
                    }
            }
}
