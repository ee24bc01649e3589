#include "kernels/cpu/id_sort.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cpu/split.h"
#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr int64_t kChunk = 16384;  // sources
constexpr int64_t kBuckets = 1024;
constexpr int64_t kFew = 48;       // pairs that are sorted by insertion

int64_t chunks(int64_t sources) { return (sources + kChunk - 1) / kChunk; }

void sort_by_insertion(uint64_t* keys, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const uint64_t key = keys[i];
    int64_t j = i;
    for (; j > 0 && keys[j - 1] > key; --j) keys[j] = keys[j - 1];
    keys[j] = key;
  }
}

// Sorts by `bits` bits of the id, least significant byte first; the sources are in order already.
void sort_bucket(uint64_t* keys, uint64_t* spare, int64_t n, int bits) {
  if (n <= kFew) return sort_by_insertion(keys, n);
  uint64_t *from = keys, *to = spare;
  for (int done = 0; done < bits; done += 8) {
    int32_t next[257] = {};
    for (int64_t i = 0; i < n; ++i) ++next[(from[i] >> (32 + done) & 0xff) + 1];
    for (int b = 0; b < 256; ++b) next[b + 1] += next[b];
    for (int64_t i = 0; i < n; ++i) to[next[from[i] >> (32 + done) & 0xff]++] = from[i];
    std::swap(from, to);
  }
  if (from != keys) std::memcpy(keys, from, static_cast<size_t>(n) * 8);
}

}  // namespace

int64_t id_sort_bytes(int64_t sources) {
  return 2 * align_up(sources * 8) + align_up((sources + 1) * 4) + align_up((chunks(sources) + 1) * kBuckets * 4) +
         3 * align_up((kBuckets + 1) * 4);
}

SortedIds sort_ids(const int32_t* ids, int64_t sources, void* memory, ThreadPool& pool) {
  char* at = static_cast<char*>(memory);
  const auto take = [&at](int64_t bytes) {
    char* part = at;
    at += align_up(bytes);
    return part;
  };
  uint64_t* keys = reinterpret_cast<uint64_t*>(take(sources * 8));
  uint64_t* spare = reinterpret_cast<uint64_t*>(take(sources * 8));
  int32_t* starts = reinterpret_cast<int32_t*>(take((sources + 1) * 4));
  int32_t* next = reinterpret_cast<int32_t*>(take((chunks(sources) + 1) * kBuckets * 4));  // a row a chunk
  int32_t* bucket_starts = reinterpret_cast<int32_t*>(take((kBuckets + 1) * 4));
  int32_t* unique = reinterpret_cast<int32_t*>(take((kBuckets + 1) * 4));
  int32_t* most = next;  // of each chunk, until the bucket width is known

  split(pool, sources, kChunk, [&](int64_t begin, int64_t end) {
    int32_t largest = -1;
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, ids[i]);
    most[begin / kChunk * kBuckets] = largest;
  });
  int32_t largest = -1;
  for (int64_t c = 0; c < chunks(sources); ++c) largest = std::max(largest, most[c * kBuckets]);
  if (largest < 0) {
    starts[0] = 0;
    return {keys, starts, 0, 0};
  }
  int shift = 0;
  while ((largest >> shift) >= kBuckets) ++shift;
  const int64_t buckets = (largest >> shift) + 1;

  split(pool, sources, kChunk, [&](int64_t begin, int64_t end) {
    int32_t* count = next + begin / kChunk * kBuckets;
    std::memset(count, 0, static_cast<size_t>(buckets) * 4);
    for (int64_t i = begin; i < end; ++i)
      if (ids[i] >= 0) ++count[ids[i] >> shift];
  });
  int32_t total = 0;
  for (int64_t b = 0; b < buckets; ++b) {
    bucket_starts[b] = total;
    for (int64_t c = 0; c < chunks(sources); ++c) {
      const int32_t n = next[c * kBuckets + b];
      next[c * kBuckets + b] = total;
      total += n;
    }
  }
  bucket_starts[buckets] = total;
  split(pool, sources, kChunk, [&](int64_t begin, int64_t end) {
    int32_t* to = next + begin / kChunk * kBuckets;
    for (int64_t i = begin; i < end; ++i)
      if (ids[i] >= 0) keys[to[ids[i] >> shift]++] = static_cast<uint64_t>(ids[i]) << 32 | static_cast<uint64_t>(i);
  });

  const int64_t step = std::max<int64_t>(1, buckets * kChunk / std::max<int64_t>(1, sources));
  const auto begins = [&](int64_t i, int64_t first) { return i == first || keys[i] >> 32 != keys[i - 1] >> 32; };
  split(pool, buckets, step, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; ++b) {
      const int64_t first = bucket_starts[b], last = bucket_starts[b + 1];
      if (shift > 0) sort_bucket(keys + first, spare + first, last - first, shift);
      int32_t n = 0;
      for (int64_t i = first; i < last; ++i) n += begins(i, first);
      unique[b] = n;
    }
  });
  int32_t all = 0;
  for (int64_t b = 0; b < buckets; ++b) all += std::exchange(unique[b], all);
  split(pool, buckets, step, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; ++b) {
      const int64_t first = bucket_starts[b], last = bucket_starts[b + 1];
      int32_t* out = starts + unique[b];
      for (int64_t i = first; i < last; ++i)
        if (begins(i, first)) *out++ = static_cast<int32_t>(i);
    }
  });
  starts[all] = total;
  return {keys, starts, total, all};
}

}  // namespace longer::cpu
