// A network's memory: its parameters, the states of its rule and the batches, in the layout of an instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine.h"

namespace gpunet {

// Aligned memory, all zeros; in large pages where it is large.
class Memory {
   public:
    Memory() = default;
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    ~Memory();
    void reserve(std::size_t bytes);  // forgets what it held; throws std::bad_alloc
    void *at() const { return at_; }

   private:
    void *at_ = nullptr;
};

template <class Real>
class NetworkMemory {
   public:
    // dropout: the shares of the layers' inputs, as far as there are any
    NetworkMemory(const std::vector<int64_t> &sizes, const std::vector<Activation> &activations, Cost cost,
                  double floor, const std::vector<double> &dropout, int vector_bytes);

    int64_t parameters() const { return parameters_; }
    int states() const { return states_; }  // -1: no parameters are loaded
    // From flat arrays: all weights, layer by layer, then all biases.
    void load(const Real *parameters, const std::vector<const Real *> &states);
    void store(Real *parameters, const std::vector<Real *> &states) const;
    // Make room for mini-batches of that many examples and that many threads.
    void reserve(int64_t batch_size, int threads);

    Network<Real> network{};

   private:
    const int64_t columns_;  // of a panel
    int64_t parameters_ = 0;
    int states_ = -1;
    std::vector<Layer<Real>> layers_;
    Memory weights_, batches_, scratch_;
    int threads_ = 0;

    int64_t panels(int64_t n) const { return (n + columns_ - 1) / columns_; }
    int64_t panel_stride(int64_t rows) const;
    int64_t batch_stride(int64_t rows) const;
    void place_parameters(int states);
    template <class Move>
    void for_blocks(Move move) const;
};

extern template class NetworkMemory<float>;
extern template class NetworkMemory<double>;

}  // namespace gpunet
