#include "network.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gpunet {

namespace {

constexpr size_t LINE = 64, LARGE_PAGE = size_t(1) << 21;
//: Of the widest instruction set's panels of floats.
constexpr int64_t MOST_COLUMNS = 32;
//: Inputs that are moved together: a line of floats.
constexpr int64_t BLOCK = 16;

// Hands out pieces of one block of memory: first to count, then to place.
class Pieces {
   public:
    explicit Pieces(void *at) : at_(static_cast<char *>(at)) {}

    template <class T>
    T *take(int64_t count) {
        T *piece = at_ ? reinterpret_cast<T *>(at_ + bytes_) : nullptr;
        if (count < 0 || size_t(count) > (std::numeric_limits<size_t>::max() / 2 - bytes_) / sizeof(T))
            throw std::bad_alloc();
        bytes_ += (size_t(count) * sizeof(T) + LINE - 1) / LINE * LINE;
        return piece;
    }

    size_t bytes() const { return bytes_; }

   private:
    char *at_;
    size_t bytes_ = 0;
};

}  // namespace

Memory::~Memory() { std::free(at_); }

void Memory::reserve(size_t bytes) {
    std::free(at_);
    at_ = nullptr;
    const size_t alignment = bytes >= LARGE_PAGE ? LARGE_PAGE : LINE;
    bytes = std::max(bytes + alignment - 1, alignment) / alignment * alignment;
    if (posix_memalign(&at_, alignment, bytes) != 0) {
        at_ = nullptr;
        throw std::bad_alloc();
    }
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == LARGE_PAGE) madvise(at_, bytes, MADV_HUGEPAGE);  // if not, it is slower and nothing else
#endif
    std::memset(at_, 0, bytes);
}

template <class Real>
NetworkMemory<Real>::NetworkMemory(const std::vector<int64_t> &sizes, const std::vector<Activation> &activations,
                                   Cost cost, double floor, const std::vector<double> &dropout, int vector_bytes)
    : columns_(2 * vector_bytes / int64_t(sizeof(Real))), layers_(activations.size()) {
    for (size_t l = 0; l < layers_.size(); l++) {
        Layer<Real> &layer = layers_[l];
        layer.n_in = sizes[l];
        layer.n_out = sizes[l + 1];
        layer.panels = panels(layer.n_out);
        layer.panels_t = panels(layer.n_in);
        layer.panel_stride = panel_stride((layer.n_in + GROUP - 1) / GROUP * GROUP);  // inputs are skipped in groups
        layer.panel_stride_t = panel_stride(layer.n_out);
        layer.activation = activations[l];
        layer.dropout = l < dropout.size() ? dropout[l] : 0;
        layer.draws = network.draws;
        if (layer.dropout > 0) network.draws += layer.n_in;
        if (__builtin_add_overflow(parameters_, layer.n_out * (layer.n_in + 1), &parameters_)) throw std::bad_alloc();
    }
    network.layers = int64_t(layers_.size());
    network.layer = layers_.data();
    network.cost = cost;
    network.floor = std::max(Real(floor), std::numeric_limits<Real>::min());
    network.words = (sizes[0] + GROUP * WORD - 1) / (GROUP * WORD);
    network.scratch_stride = columns_ * columns_;
}

// Panels whose distance is a large power of two would share few of the cache's sets.
template <class Real>
int64_t NetworkMemory<Real>::panel_stride(int64_t rows) const {
    int64_t bytes = rows * columns_ * int64_t(sizeof(Real));
    if (bytes % 65536 == 0) bytes += 8192;
    return bytes / int64_t(sizeof(Real));
}

// Twelve rows of eight successive panels fill the first-level cache's sets evenly at this distance.
template <class Real>
int64_t NetworkMemory<Real>::batch_stride(int64_t rows) const {
    int64_t bytes = (rows * columns_ * int64_t(sizeof(Real)) + 63) / 64 * 64;
    if (bytes >= 4096) bytes += (4096 + 1536 - bytes % 4096) % 4096;
    return bytes / int64_t(sizeof(Real));
}

template <class Real>
void NetworkMemory<Real>::place_parameters(int states) {
    const auto place = [&](Pieces &pieces) {
        for (size_t l = 0; l < layers_.size(); l++) {
            Layer<Real> &layer = layers_[l];
            const int64_t weights = layer.panels * layer.panel_stride, biases = layer.panels * columns_;
            layer.w = pieces.template take<Real>(weights);
            layer.w_t = l ? pieces.template take<Real>(layer.panels_t * layer.panel_stride_t) : nullptr;
            layer.b = pieces.template take<Real>(biases);
            for (int s = 0; s < MOST_STATES; s++) {
                layer.state_w[s] = s < states ? pieces.template take<Real>(weights) : nullptr;
                layer.state_b[s] = s < states ? pieces.template take<Real>(biases) : nullptr;
            }
            layer.squares = pieces.template take<double>(layer.panels * layer.panels_t);
        }
    };
    states_ = -1;
    Pieces count(nullptr);
    place(count);
    weights_.reserve(count.bytes());
    Pieces pieces(weights_.at());
    place(pieces);
    states_ = states;
}

// Call move(layer, flat, place, n, count) for all weights, in blocks of n neurons and `count` inputs that begin at `flat`
// in the flat array and at `place` in the layer's panels: few enough that both sides of the transpose stay in the cache.
template <class Real>
template <class Move>
void NetworkMemory<Real>::for_blocks(Move move) const {
    int64_t flat = 0;
    for (const Layer<Real> &layer : layers_) {
        for (int64_t p = 0; p < layer.panels; p++)
            for (int64_t k = 0; k < layer.n_in; k += BLOCK)
                move(layer, flat + p * columns_ * layer.n_in + k, p * layer.panel_stride + k * columns_,
                     std::min(columns_, layer.n_out - p * columns_), std::min(BLOCK, layer.n_in - k));
        flat += layer.n_in * layer.n_out;
    }
}

namespace {

// to[k * columns + j] = from[j * n_in + k] for j < n, k < count
template <class Real>
void into_panel(const Real *from, int64_t n_in, int64_t n, int64_t count, int64_t columns, Real *to) {
    Real block[BLOCK * MOST_COLUMNS];
    for (int64_t j = 0; j < n; j++)
        for (int64_t k = 0; k < count; k++) block[k * MOST_COLUMNS + j] = from[j * n_in + k];
    for (int64_t k = 0; k < count; k++) std::memcpy(to + k * columns, block + k * MOST_COLUMNS, size_t(n) * sizeof(Real));
}

template <class Real>
void out_of_panel(const Real *from, int64_t n_in, int64_t n, int64_t count, int64_t columns, Real *to) {
    for (int64_t j = 0; j < n; j++)
        for (int64_t k = 0; k < count; k++) to[j * n_in + k] = from[k * columns + j];
}

}  // namespace

template <class Real>
void NetworkMemory<Real>::load(const Real *parameters, const std::vector<const Real *> &states) {
    if (int(states.size()) != states_) place_parameters(int(states.size()));
    for_blocks([&](const Layer<Real> &layer, int64_t flat, int64_t place, int64_t n, int64_t count) {
        into_panel(parameters + flat, layer.n_in, n, count, columns_, layer.w + place);
        for (size_t s = 0; s < states.size(); s++)
            into_panel(states[s] + flat, layer.n_in, n, count, columns_, layer.state_w[s] + place);
    });
    const Real *weights = parameters;
    for (const Layer<Real> &layer : layers_) {
        for (int64_t q = 0; layer.w_t && q < layer.panels_t; q++)
            for (int64_t j = 0; j < layer.n_out; j++)
                std::memcpy(layer.w_t + q * layer.panel_stride_t + j * columns_, weights + j * layer.n_in + q * columns_,
                            size_t(std::min(columns_, layer.n_in - q * columns_)) * sizeof(Real));
        weights += layer.n_in * layer.n_out;
    }
    int64_t flat = weights - parameters;
    for (const Layer<Real> &layer : layers_) {
        std::copy_n(parameters + flat, layer.n_out, layer.b);
        for (size_t s = 0; s < states.size(); s++) std::copy_n(states[s] + flat, layer.n_out, layer.state_b[s]);
        flat += layer.n_out;
    }
}

template <class Real>
void NetworkMemory<Real>::store(Real *parameters, const std::vector<Real *> &states) const {
    for_blocks([&](const Layer<Real> &layer, int64_t flat, int64_t place, int64_t n, int64_t count) {
        out_of_panel(layer.w + place, layer.n_in, n, count, columns_, parameters + flat);
        for (size_t s = 0; s < states.size(); s++)
            out_of_panel(layer.state_w[s] + place, layer.n_in, n, count, columns_, states[s] + flat);
    });
    int64_t flat = 0;
    for (const Layer<Real> &layer : layers_) flat += layer.n_in * layer.n_out;
    for (const Layer<Real> &layer : layers_) {
        std::copy_n(layer.b, layer.n_out, parameters + flat);
        for (size_t s = 0; s < states.size(); s++) std::copy_n(layer.state_b[s], layer.n_out, states[s] + flat);
        flat += layer.n_out;
    }
}

template <class Real>
void NetworkMemory<Real>::reserve(int64_t batch_size, int threads) {
    if (threads > threads_) {
        threads_ = 0;
        Pieces pieces(nullptr);
        pieces.take<Real>(threads * network.scratch_stride);
        scratch_.reserve(pieces.bytes());
        network.scratch = static_cast<Real *>(scratch_.at());
        threads_ = threads;
    }
    if (batch_size <= network.batch_capacity) return;
    network.batch_capacity = 0;
    network.batch_stride = batch_stride(batch_size);
    network.example_words = (batch_size + WORD - 1) / WORD;
    const auto place = [&](Pieces &pieces) {
        const int64_t stride = network.batch_stride;
        for (Batch<Real> &batch : network.batch) {
            batch.x = pieces.template take<Real>(layers_[0].panels_t * stride);
            batch.y = pieces.template take<Real>(layers_.back().panels * stride);
            batch.masks = pieces.template take<uint32_t>(batch_size * network.words);
            batch.weights = pieces.template take<Real>(batch_size);
        }
        for (size_t l = 0; l < layers_.size(); l++) {
            Layer<Real> &layer = layers_[l];
            if (l) layer.x = layer.dropout > 0 ? pieces.template take<Real>(layer.panels_t * stride) : layers_[l - 1].a;
            layer.a = pieces.template take<Real>(layer.panels * stride);
            layer.delta = pieces.template take<Real>(layer.panels * stride);
        }
        network.examples = pieces.template take<uint32_t>(network.words * WORD * network.example_words);
        network.costs = pieces.template take<double>(batch_size);
    };
    Pieces count(nullptr);
    place(count);
    batches_.reserve(count.bytes());
    Pieces pieces(batches_.at());
    place(pieces);
    network.batch_capacity = batch_size;
}

template class NetworkMemory<float>;
template class NetworkMemory<double>;

}  // namespace gpunet
