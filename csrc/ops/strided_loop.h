// Elementwise iteration over strided and broadcast operands. The axes are sorted by the output's
// strides and merged where all operands allow it; what is left is rows of contiguous elements,
// which are split over the threads.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "core/array.h"
#include "core/parallel.h"

namespace engine {

// Elements per thread below which a second thread costs more than it brings.
constexpr int64_t kCheapGrain = 32768;
constexpr int64_t kHeavyGrain = 4096;
// Rows and flat runs are cut at multiples of this (a multiple of every vector length), so that an
// element meets the same instructions whatever the number of threads.
constexpr int64_t kBlock = 2048;

// f(begin, end) over [0, n), cut at multiples of kBlock.
template <class F>
void run_flat(int64_t n, int64_t grain, F f) {
    if (n <= grain) {
        if (n > 0) f(int64_t{0}, n);
        return;
    }
    const int64_t blocks = (n + kBlock - 1) / kBlock;
    parallel_for(blocks, grain / kBlock, [&](int64_t begin, int64_t end, int) {
        f(begin * kBlock, end * kBlock < n ? end * kBlock : n);
    });
}

// Loop over `shape` with N operands; operand 0 is the output and has exactly that shape, the others
// broadcast to it. A null operand is a scalar.
template <int N>
class StridedLoop {
  public:
    StridedLoop(const Dims& shape, const Array* const (&operands)[N]) {
        for (int axis = 0; axis < shape.n; ++axis) {
            total_ *= shape[axis];
            if (shape[axis] == 1) continue;
            int64_t strides[N];
            for (int k = 0; k < N; ++k) strides[k] = stride_of(operands[k], axis, shape.n);
            insert(shape[axis], strides);
        }
        merge();
    }

    // Distance between an operand's neighbours in a row: 1, 0, or another number.
    int64_t step(int operand) const { return rank_ > 0 ? stride_[operand][0] : 1; }
    // Elements of a row.
    int64_t size() const { return rank_ > 0 ? size_[0] : 1; }
    // Distance between an operand's rows.
    int64_t row(int operand) const { return rank_ > 1 ? stride_[operand][1] : 0; }

    // f(offsets, n, rows): offsets of the first element per operand, in elements.
    template <class F>
    void run(int64_t grain, F f) const {
        if (total_ == 0) return;
        const int64_t n = rank_ > 0 ? size_[0] : 1;
        const int64_t rows = rank_ > 1 ? size_[1] : 1;
        const int64_t pieces = n > 4 * kBlock ? (n + kBlock - 1) / kBlock : 1;
        const int64_t units = total_ / n * pieces;
        const int64_t unit_size = pieces > 1 ? kBlock : n;
        parallel_for(units, grain / unit_size, [&](int64_t begin, int64_t end, int) {
            int64_t offsets[N];
            while (begin < end) {
                const int64_t line = begin / pieces, piece = begin - line * pieces;
                const int64_t outer = line / rows, r = line - outer * rows;
                locate(outer, r, offsets);
                if (pieces > 1) {
                    const int64_t last =
                        piece + (end - begin) < pieces ? piece + (end - begin) : pieces;
                    const int64_t from = piece * kBlock, to = last * kBlock < n ? last * kBlock : n;
                    for (int k = 0; k < N; ++k) offsets[k] += from * stride_[k][0];
                    f(static_cast<const int64_t*>(offsets), to - from, int64_t{1});
                    begin += last - piece;
                } else {
                    const int64_t count = rows - r < end - begin ? rows - r : end - begin;
                    f(static_cast<const int64_t*>(offsets), n, count);
                    begin += count;
                }
            }
        });
    }

  private:
    static int64_t stride_of(const Array* a, int axis, int rank) {
        if (!a) return 0;
        const int own = axis - (rank - a->rank());
        return own < 0 || a->dim(own) == 1 ? 0 : a->stride(own);
    }

    void insert(int64_t size, const int64_t (&strides)[N]) {
        int at = rank_++;
        for (; at > 0 && std::llabs(stride_[0][at - 1]) > std::llabs(strides[0]); --at) {
            size_[at] = size_[at - 1];
            for (int k = 0; k < N; ++k) stride_[k][at] = stride_[k][at - 1];
        }
        size_[at] = size;
        for (int k = 0; k < N; ++k) stride_[k][at] = strides[k];
    }

    void merge() {
        int last = 0;
        for (int axis = 1; axis < rank_; ++axis) {
            bool joined = true;
            for (int k = 0; k < N; ++k)
                joined &= stride_[k][axis] == stride_[k][last] * size_[last];
            if (joined) {
                size_[last] *= size_[axis];
                continue;
            }
            ++last;
            size_[last] = size_[axis];
            for (int k = 0; k < N; ++k) stride_[k][last] = stride_[k][axis];
        }
        if (rank_ > 0) rank_ = last + 1;
    }

    void locate(int64_t outer, int64_t r, int64_t (&offsets)[N]) const {
        for (int k = 0; k < N; ++k) offsets[k] = rank_ > 1 ? r * stride_[k][1] : 0;
        for (int axis = 2; axis < rank_ && outer > 0; ++axis) {
            const int64_t next = outer / size_[axis], index = outer - next * size_[axis];
            for (int k = 0; k < N; ++k) offsets[k] += index * stride_[k][axis];
            outer = next;
        }
    }

    int rank_ = 0;
    int64_t total_ = 1;
    int64_t size_[Dims::kMaxRank];
    int64_t stride_[N][Dims::kMaxRank];
};

}  // namespace engine
