// Buffers against guard pages: a kernel that reads or writes one byte outside dies at once, also
// where the address sanitizer does not look (vector intrinsics, masked loads).
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

// Which end of the buffer touches its guard page. The other end has one too, but up to a page away.
enum class Against { end, start };

template <class T>
class Guarded {
  public:
    Guarded(int64_t count, Against side) : count_(count) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        const size_t bytes = static_cast<size_t>(count) * sizeof(T);
        const size_t body = (bytes + page - 1) / page * page + (bytes == 0 ? page : 0);
        size_ = body + 2 * page;
        map_ =
            static_cast<char*>(mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (map_ == MAP_FAILED || mprotect(map_ + page, body, PROT_READ | PROT_WRITE) != 0) {
            std::perror("guarded buffer");
            std::abort();
        }
        std::memset(map_ + page, 0xff, body);  // NaN for floats: an element never written shows
        data_ = reinterpret_cast<T*>(map_ + page + (side == Against::end ? body - bytes : 0));
    }
    ~Guarded() { munmap(map_, size_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    T* data() { return data_; }
    const T* data() const { return data_; }
    operator T*() { return data_; }
    T& operator[](int64_t i) { return data_[i]; }
    const T& operator[](int64_t i) const { return data_[i]; }
    int64_t size() const { return count_; }
    void fill(T value) {
        for (int64_t i = 0; i < count_; ++i) data_[i] = value;
    }
    // From now on, a write dies too.
    void freeze() {
        mprotect(map_ + sysconf(_SC_PAGESIZE), size_ - 2 * sysconf(_SC_PAGESIZE), PROT_READ);
    }

  private:
    int64_t count_;
    size_t size_;
    char* map_;
    T* data_;
};

// Reproducible numbers in [low, high).
class Numbers {
  public:
    explicit Numbers(uint32_t seed = 1) : engine_(seed) {}
    float value(float low = -1.0f, float high = 1.0f) {
        return low + (high - low) * static_cast<float>(engine_() >> 8) * 0x1p-24f;
    }
    int64_t integer(int64_t low, int64_t high) {  // both included
        return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
    }
    void fill(Guarded<float>& buffer, float low = -1.0f, float high = 1.0f) {
        for (int64_t i = 0; i < buffer.size(); ++i) buffer[i] = value(low, high);
    }

  private:
    std::mt19937 engine_;
};

// Rounding error of a sum of `terms` products of numbers up to 1, with room to spare.
inline double sum_tolerance(int64_t terms) {
    return 4e-7 * (4.0 + static_cast<double>(terms) / 4.0);
}
