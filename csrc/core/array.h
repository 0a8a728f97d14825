// Array: a strided view of shared memory. The law of layout: rank 4 is logically (N, C, H, W) and
// physically channels-last; every other rank is row-major. Such an array is called canonical.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/memory.h"
#include "core/types.h"

namespace engine {

// A private repacked copy of a weight, valid while the storage's version has not moved.
struct Pack {
    uint64_t key;      // what it is: op, view and packing parameters
    uint64_t version;  // of the storage when packed
    std::shared_ptr<Workspace> data;
};

class Storage {
  public:
    explicit Storage(size_t bytes) : data_(allocate(bytes)), bytes_(bytes) {}
    // Foreign memory; `give_back` runs when the last view is gone.
    Storage(void* data, size_t bytes, std::function<void()> give_back)
        : data_(data), bytes_(bytes), give_back_(std::move(give_back)), shared_outside_(true) {}
    ~Storage();
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    void* data() const { return data_; }
    size_t bytes() const { return bytes_; }

    // Every op that writes into an existing array must call this.
    void mark_written() { version_.fetch_add(1, std::memory_order_release); }
    uint64_t version() const { return version_.load(std::memory_order_acquire); }
    // Somebody outside (NumPy, DLPack) can write to the memory unseen: packs are not kept.
    void share_outside() { shared_outside_ = true; }
    bool shared_outside() const { return shared_outside_; }

    // The pack for `key`, made by `make` when there is none of the present version. It is kept from
    // the second request on: in training weights change after every step, and copies of all of
    // them, transformed ones four times as large, would only fill the memory.
    std::shared_ptr<Workspace> pack(uint64_t key,
                                    const std::function<std::shared_ptr<Workspace>()>& make);

  private:
    void* data_;
    size_t bytes_;
    std::function<void()> give_back_;
    std::atomic<uint64_t> version_{0};
    std::atomic<bool> shared_outside_{false};
    std::mutex packs_mutex_;
    std::vector<Pack> packs_;
};

class Array {
  public:
    Array() = default;
    Array(std::shared_ptr<Storage> storage, int64_t offset, Dims shape, Dims strides, DType dtype)
        : storage_(std::move(storage)),
          offset_(offset),
          shape_(shape),
          strides_(strides),
          dtype_(dtype) {}

    bool defined() const { return storage_ != nullptr; }
    const Dims& shape() const { return shape_; }
    const Dims& strides() const { return strides_; }  // in elements
    int rank() const { return shape_.n; }
    int64_t dim(int axis) const { return shape_[axis]; }
    int64_t stride(int axis) const { return strides_[axis]; }
    DType dtype() const { return dtype_; }
    int64_t numel() const;
    int64_t offset() const { return offset_; }  // of element (0, ..., 0), in elements
    const std::shared_ptr<Storage>& storage() const { return storage_; }

    void* raw() const {
        return static_cast<char*>(storage_->data()) +
               offset_ * static_cast<int64_t>(size_of(dtype_));
    }
    template <class T>
    T* ptr() const {
        return static_cast<T*>(raw());
    }
    float* f32() const { return ptr<float>(); }

    bool is_canonical() const;
    // Elements fill a contiguous range without gap or overlap, in whatever order of axes.
    bool is_dense() const;
    // The same memory seen with another shape and strides.
    Array view(Dims shape, Dims strides, int64_t offset) const {
        return {storage_, offset, shape, strides, dtype_};
    }
    void mark_written() const { storage_->mark_written(); }

  private:
    std::shared_ptr<Storage> storage_;
    int64_t offset_ = 0;
    Dims shape_, strides_;
    DType dtype_ = DType::f32;
};

// Strides of the canonical layout.
Dims canonical_strides(const Dims& shape);
// New canonical array, contents undefined.
Array empty(const Dims& shape, DType dtype = DType::f32);
// New array with the strides of `a` when those are dense, else canonical.
Array empty_like(const Array& a);
Array empty_like(const Array& a, DType dtype);
// `a` itself when canonical, else a canonical copy.
Array contiguous(const Array& a);
// Distance between neighbouring pixels of a rank-4 array whose channels are adjacent and whose rows
// and images follow without gap; -1 for any other array.
int64_t pixel_stride(const Array& a);
// `a` itself when it has a pixel stride, else a canonical copy.
Array as_pixels(const Array& a);

// Where an op writes: a new canonical array when `out` is null; else `out`, which must be of this
// shape and dtype and have a pixel stride (or be dense, for an op that walks elements in any
// order).
enum class Walk { pixels, elements };
Array destination(const char* op, const Array* out, const Dims& shape, DType dtype = DType::f32,
                  Walk walk = Walk::pixels);
// Throws Error(value) when what is written to `out` could change what is yet to be read from
// `source`. Channel slices of one array lie apart when they share no channel; the very same view is
// allowed to ops that read an element before they write it.
enum class Aliasing { none, same_view };
void expect_apart(const char* op, const char* name, const Array& source, const Array& out,
                  Aliasing allowed = Aliasing::none);

// Throws Error(type) "[op] expected float32 ..." unless `a` is float32.
void expect_f32(const char* op, const char* name, const Array& a);
// Throws Error(value) unless `a` has this rank.
void expect_rank(const char* op, const char* name, const Array& a, int rank);

}  // namespace engine
