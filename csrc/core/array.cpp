#include "core/array.h"

#include <algorithm>

#include "core/status.h"

namespace engine {

Storage::~Storage() {
    if (give_back_)
        give_back_();
    else
        release(data_, bytes_);
}

std::shared_ptr<Workspace> Storage::pack(uint64_t key,
                                         const std::function<std::shared_ptr<Workspace>()>& make) {
    if (shared_outside_) return make();
    const uint64_t now = version();
    bool asked_before = false;
    {
        std::lock_guard<std::mutex> lock(packs_mutex_);
        for (const Pack& pack : packs_)
            if (pack.key == key && pack.version == now) {
                if (pack.data) return pack.data;
                asked_before = true;
            }
    }
    std::shared_ptr<Workspace> made = make();
    std::lock_guard<std::mutex> lock(packs_mutex_);
    packs_.erase(
        std::remove_if(packs_.begin(), packs_.end(),
                       [&](const Pack& pack) { return pack.version != now || pack.key == key; }),
        packs_.end());
    packs_.push_back({key, now, asked_before ? made : nullptr});
    return made;
}

int64_t Array::numel() const {
    int64_t product = 1;
    for (int64_t size : shape_) product *= size;
    return product;
}

Dims canonical_strides(const Dims& shape) {
    Dims strides;
    strides.n = shape.n;
    if (shape.n == 4) {
        strides[1] = 1;
        strides[3] = shape[1];
        strides[2] = shape[1] * shape[3];
        strides[0] = shape[1] * shape[3] * shape[2];
    } else {
        int64_t step = 1;
        for (int i = shape.n - 1; i >= 0; --i) {
            strides[i] = step;
            step *= shape[i];
        }
    }
    return strides;
}

bool Array::is_canonical() const {
    const Dims wanted = canonical_strides(shape_);
    for (int i = 0; i < shape_.n; ++i)
        if (shape_[i] != 1 && strides_[i] != wanted[i]) return numel() == 0;
    return true;
}

bool Array::is_dense() const {
    if (numel() == 0) return true;
    int axes[Dims::kMaxRank];
    int n = 0;
    for (int i = 0; i < shape_.n; ++i) {
        if (shape_[i] == 1) continue;
        int at = n++;  // insertion sort by stride
        for (; at > 0 && strides_[axes[at - 1]] > strides_[i]; --at) axes[at] = axes[at - 1];
        axes[at] = i;
    }
    int64_t step = 1;
    for (int i = 0; i < n; ++i) {
        if (strides_[axes[i]] != step) return false;
        step *= shape_[axes[i]];
    }
    return true;
}

Array empty(const Dims& shape, DType dtype) {
    const int64_t count = numel(shape);
    ENGINE_CHECK(count < (int64_t{1} << 58), Kind::memory, "shape ", to_string(shape), " has ",
                 count, " elements, more than any machine holds");
    auto storage = std::make_shared<Storage>(static_cast<size_t>(count) * size_of(dtype));
    return {std::move(storage), 0, shape, canonical_strides(shape), dtype};
}

Array empty_like(const Array& a, DType dtype) {
    Array out = empty(a.shape(), dtype);
    if (!a.is_canonical() && a.is_dense()) return out.view(a.shape(), a.strides(), 0);
    return out;
}

Array empty_like(const Array& a) { return empty_like(a, a.dtype()); }

int64_t pixel_stride(const Array& a) {
    if (a.rank() != 4) return -1;
    const int64_t n = a.dim(0), c = a.dim(1), h = a.dim(2), w = a.dim(3);
    // Axes of size 1 say nothing: the distance is taken from the first axis that does.
    int64_t ld = w > 1 ? a.stride(3) : h > 1 ? a.stride(2) : n > 1 ? a.stride(0) : c;
    if (c > 1 && a.stride(1) != 1) return -1;
    if (ld < c) return -1;
    if (h > 1 && a.stride(2) != ld * w) return -1;
    if (n > 1 && a.stride(0) != ld * w * h) return -1;
    return ld;
}

Array as_pixels(const Array& a) { return pixel_stride(a) >= 0 ? a : contiguous(a); }

void expect_f32(const char* op, const char* name, const Array& a) {
    ENGINE_CHECK(a.dtype() == DType::f32, Kind::type, "[", op, "] expected ", name,
                 " of dtype float32, got ", name_of(a.dtype()), ": convert it with .float()");
}

void expect_rank(const char* op, const char* name, const Array& a, int rank) {
    ENGINE_CHECK(
        a.rank() == rank, Kind::value, "[", op, "] expected ", name, " with ", rank, " axes",
        rank == 4 ? " (N, C, H, W)" : "", ", got shape ", to_string(a.shape()),
        rank == 4 && a.rank() == 3 ? ": add the batch axis with unsqueeze(0)" : ": reshape it");
}

}  // namespace engine
