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
                                   Cost cost, int vector_bytes)
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
        if (__builtin_add_overflow(parameters_, layer.n_out * (layer.n_in + 1), &parameters_)) throw std::bad_alloc();
    }
    network.layers = int64_t(layers_.size());
    network.layer = layers_.data();
    network.cost = cost;
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

// Call move(flat index, w or b, its states, the place in them) for all parameters.
template <class Real>
template <class Move>
void NetworkMemory<Real>::for_parameters(Move move) const {
    int64_t at = 0;
    for (const Layer<Real> &layer : layers_)
        for (int64_t j = 0; j < layer.n_out; j++)
            for (int64_t k = 0; k < layer.n_in; k++, at++) {
                const int64_t place = j / columns_ * layer.panel_stride + k * columns_ + j % columns_;
                move(at, layer.w, layer.state_w, place);
            }
    for (const Layer<Real> &layer : layers_)
        for (int64_t j = 0; j < layer.n_out; j++, at++) move(at, layer.b, layer.state_b, j);
}

template <class Real>
void NetworkMemory<Real>::load(const Real *parameters, const std::vector<const Real *> &states) {
    if (int(states.size()) != states_) place_parameters(int(states.size()));
    for_parameters([&](int64_t at, Real *to, Real *const *state, int64_t place) {
        to[place] = parameters[at];
        for (size_t s = 0; s < states.size(); s++) state[s][place] = states[s][at];
    });
    for (const Layer<Real> &layer : layers_) {
        if (!layer.w_t) continue;
        for (int64_t k = 0; k < layer.n_in; k++)
            for (int64_t j = 0; j < layer.n_out; j++)
                layer.w_t[k / columns_ * layer.panel_stride_t + j * columns_ + k % columns_] =
                    layer.w[j / columns_ * layer.panel_stride + k * columns_ + j % columns_];
    }
}

template <class Real>
void NetworkMemory<Real>::store(Real *parameters, const std::vector<Real *> &states) const {
    for_parameters([&](int64_t at, const Real *from, Real *const *state, int64_t place) {
        parameters[at] = from[place];
        for (size_t s = 0; s < states.size(); s++) states[s][at] = state[s][place];
    });
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
        }
        for (Layer<Real> &layer : layers_) {
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
