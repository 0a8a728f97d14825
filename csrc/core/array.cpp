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

Array destination(const char* op, const Array* out, const Dims& shape, DType dtype, Walk walk) {
    if (!out) return empty(shape, dtype);
    ENGINE_CHECK(out->dtype() == dtype, Kind::type, "[", op, "] expected out of dtype ",
                 name_of(dtype), ", got ", name_of(out->dtype()), ": allocate it with this dtype");
    ENGINE_CHECK(out->shape() == shape, Kind::value, "[", op, "] expected out of shape ",
                 to_string(shape), ", got ", to_string(out->shape()),
                 ": give it the shape of the result");
    const bool fits =
        out->numel() == 0 || pixel_stride(*out) >= 0 || (walk == Walk::elements && out->is_dense());
    ENGINE_CHECK(fits, Kind::value, "[", op, "] expected out as pixels of adjacent channels",
                 walk == Walk::elements ? " or dense" : "", ", got shape ", to_string(out->shape()),
                 " with strides ", to_string(out->strides()),
                 ": use a new array or a slice of the channels of a wider one");
    return *out;
}

namespace {

// The bytes from the first to behind the last element.
std::pair<uintptr_t, uintptr_t> reach(const Array& a) {
    int64_t low = 0, high = 1;
    for (int i = 0; i < a.rank(); ++i)
        (a.stride(i) < 0 ? low : high) += (a.dim(i) - 1) * a.stride(i);
    const auto start = reinterpret_cast<uintptr_t>(a.raw());
    const auto size = static_cast<int64_t>(size_of(a.dtype()));
    return {start + static_cast<uintptr_t>(low * size),
            start + static_cast<uintptr_t>(high * size)};
}

// Whether two arrays of pixels as far apart take channels that do not meet.
bool different_channels(const Array& a, const Array& b) {
    const int64_t pixel = pixel_stride(a), size = static_cast<int64_t>(size_of(a.dtype()));
    if (pixel <= 0 || pixel != pixel_stride(b) || a.dtype() != b.dtype()) return false;
    const int64_t bytes = static_cast<char*>(b.raw()) - static_cast<char*>(a.raw());
    if (bytes % size) return false;
    const int64_t distance = (bytes / size % pixel + pixel) % pixel;
    return distance >= a.dim(1) && distance + b.dim(1) <= pixel;
}

}  // namespace

void expect_apart(const char* op, const char* name, const Array& source, const Array& out,
                  Aliasing allowed) {
    if (source.numel() == 0 || out.numel() == 0) return;
    const auto [begin, end] = reach(source);
    const auto [out_begin, out_end] = reach(out);
    if (end <= out_begin || out_end <= begin || different_channels(source, out)) return;
    if (allowed == Aliasing::same_view && source.raw() == out.raw() &&
        source.shape() == out.shape() && source.strides() == out.strides() &&
        source.dtype() == out.dtype())
        return;
    fail(Kind::value, "[", op, "] expected out apart from ", name,
         ", got two that share memory (shapes ", to_string(out.shape()), " and ",
         to_string(source.shape()), "): write to another array or to other channels");
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
