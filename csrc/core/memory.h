// A caching allocator. A fresh large malloc costs a page fault per 4 KiB at every step, which alone
// can cost more than a small network's arithmetic; here freed blocks are kept and reused: small
// ones by size, large ones cut from regions in which free neighbours grow together.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

constexpr size_t kAlignment = 64;

// 64-byte aligned, contents undefined. Throws Error(memory) when the machine cannot hold it.
void* allocate(size_t bytes);
// `bytes` as given to allocate.
void release(void* block, size_t bytes) noexcept;

struct MemoryStats {
    int64_t in_use;  // bytes handed out now
    int64_t cached;  // bytes kept for reuse
    int64_t peak;    // largest in_use since the start or the last reset
};
MemoryStats memory_stats();
void reset_peak();
// Gives all cached blocks back to the system.
void empty_cache();

// Scratch memory for the life of the object. Make it before a parallel region, not inside.
class Workspace {
  public:
    explicit Workspace(size_t bytes) : bytes_(bytes), data_(allocate(bytes)) {}
    ~Workspace() { release(data_, bytes_); }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    void* data() const { return data_; }
    float* f32() const { return static_cast<float*>(data_); }
    size_t bytes() const { return bytes_; }

  private:
    size_t bytes_;
    void* data_;
};

}  // namespace engine
