// Operations on rows as plain loops over a number type. See docs/operations.md for the arguments.
#pragma once
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/plain/dense.h"

namespace longer::plain {

template <class T>
void gather_rows(const Call& c) {
  const Tensor &index = c.input(0), &y = c.output(0);
  const int64_t d = y.cols();
  for_rows(c, y.rows(), [&](int64_t r) {
    int64_t at = index.i32()[r];
    T* out = ptr<T>(y) + r * d;
    if (at < 0) {
      std::fill(out, out + d, T(0));
      return;
    }
    for (int s = 1; s < c.ins; ++s) {
      if (at < c.input(s).rows()) {
        std::memcpy(out, ptr<T>(c.input(s)) + at * d, static_cast<size_t>(d) * sizeof(T));
        return;
      }
      at -= c.input(s).rows();
    }
    throw std::runtime_error("gather_rows: an index is past the last source");
  });
}

// Threads split the columns: every destination is summed in ascending output order.
template <class T>
void gather_rows_dx(const Call& c) {
  const Tensor &index = c.input(0), &dy = c.input(1);
  const int64_t d = dy.cols();
  constexpr int64_t kColumns = 16;
  c.pool->parallel_for((d + kColumns - 1) / kColumns, [&](int64_t tile, int) {
    const int64_t from = tile * kColumns, to = std::min(d, from + kColumns);
    for (int s = 0; s < c.outs; ++s)
      if (c.output(s).present())
        for (int64_t r = 0; r < c.output(s).rows(); ++r) std::fill(ptr<T>(c.output(s)) + r * d + from, ptr<T>(c.output(s)) + r * d + to, T(0));
    for (int64_t r = 0; r < index.rows(); ++r) {
      int64_t at = index.i32()[r];
      if (at < 0) continue;
      int s = 0;
      while (s < c.outs && at >= c.output(s).rows()) at -= c.output(s++).rows();
      expect(s < c.outs, "gather_rows_dx: an index is past the last source");
      for (int64_t i = from; i < to; ++i) ptr<T>(c.output(s))[at * d + i] += ptr<T>(dy)[r * d + i];
    }
  });
}

// A request's merged rows are its event rows end to end behind a run of zeros.
template <class T, bool kBackward>
void merge_rows(const Call& c, const Tensor& events, const Tensor& merged, const Tensor& event_offsets, const Tensor& group_offsets) {
  const int64_t k = c.integer(0), d = events.cols();
  expect(merged.cols() == k * d, "merge: the merged width is not K times the event's");
  for_rows(c, event_offsets.rows() - 1, [&](int64_t r) {
    const int64_t e0 = event_offsets.i32()[r], n = event_offsets.i32()[r + 1] - e0;
    const int64_t g0 = group_offsets.i32()[r], groups = group_offsets.i32()[r + 1] - g0;
    const int64_t pad = groups * k - n;
    expect(pad >= 0, "merge: there are too few groups for the events");
    T* m = ptr<T>(merged) + g0 * k * d;
    T* e = ptr<T>(events) + e0 * d;
    if (kBackward) {
      std::memcpy(e, m + pad * d, static_cast<size_t>(n * d) * sizeof(T));
    } else {
      std::fill(m, m + pad * d, T(0));
      std::memcpy(m + pad * d, e, static_cast<size_t>(n * d) * sizeof(T));
    }
  });
}

template <class T>
void merge(const Call& c) { merge_rows<T, false>(c, c.input(0), c.output(0), c.input(1), c.input(2)); }
template <class T>
void merge_dx(const Call& c) { merge_rows<T, true>(c, c.output(0), c.input(0), c.input(1), c.input(2)); }

template <class T>
void segment_pool(const Call& c) {
  const Tensor &x = c.input(0), &offsets = c.input(1), &y = c.output(0);
  const int64_t d = y.cols();
  for_rows(c, y.rows(), [&](int64_t r) {
    const int64_t from = offsets.i32()[r], to = offsets.i32()[r + 1];
    T* out = ptr<T>(y) + r * d;
    std::fill(out, out + d, T(0));
    for (int64_t i = from; i < to; ++i)
      for (int64_t j = 0; j < d; ++j) out[j] += ptr<T>(x)[i * d + j];
    if (c.integer(0) == 1 && to > from)
      for (int64_t j = 0; j < d; ++j) out[j] /= static_cast<T>(to - from);
  });
}

template <class T>
void segment_pool_dx(const Call& c) {
  const Tensor &dy = c.input(0), &offsets = c.input(1), &dx = c.output(0);
  const int64_t d = dy.cols();
  for_rows(c, dy.rows(), [&](int64_t r) {
    const int64_t from = offsets.i32()[r], to = offsets.i32()[r + 1];
    for (int64_t i = from; i < to; ++i)
      for (int64_t j = 0; j < d; ++j)
        ptr<T>(dx)[i * d + j] = c.integer(0) == 1 ? ptr<T>(dy)[r * d + j] / static_cast<T>(to - from) : ptr<T>(dy)[r * d + j];
  });
}

template <class T>
void concat(const Call& c) {
  const Tensor& y = c.output(0);
  for_rows(c, y.rows(), [&](int64_t r) {
    T* out = ptr<T>(y) + r * y.cols();
    for (int s = 0; s < c.ins; ++s) {
      const int64_t w = c.input(s).cols();
      std::memcpy(out, ptr<T>(c.input(s)) + r * w, static_cast<size_t>(w) * sizeof(T));
      out += w;
    }
  });
}

template <class T>
void concat_dx(const Call& c) {
  const Tensor& dy = c.input(0);
  for_rows(c, dy.rows(), [&](int64_t r) {
    const T* in = ptr<T>(dy) + r * dy.cols();
    for (int s = 0; s < c.outs; ++s) {
      const int64_t w = c.output(s).cols();
      std::memcpy(ptr<T>(c.output(s)) + r * w, in, static_cast<size_t>(w) * sizeof(T));
      in += w;
    }
  });
}

// Calls body(pair, candidate, event) for every pair of a request, in order.
struct Pairs {
  const int32_t *candidates, *events, *pairs;
  int64_t requests;
  Pairs(const Tensor& c, const Tensor& e, const Tensor& p) : candidates(c.i32()), events(e.i32()), pairs(p.i32()), requests(c.rows() - 1) {}
  template <class Body>
  void each(int64_t r, Body&& body) const {
    int64_t p = pairs[r];
    for (int64_t c = candidates[r]; c < candidates[r + 1]; ++c)
      for (int64_t e = events[r]; e < events[r + 1]; ++e) body(p++, c, e);
  }
};

template <class T>
void pair_features(const Call& c) {
  const Tensor &cand = c.input(0), &event = c.input(1), &y = c.output(0);
  const Pairs pairs(c.input(2), c.input(3), c.input(4));
  const int64_t d = cand.cols();
  c.pool->parallel_for(pairs.requests, [&](int64_t r, int) {
    pairs.each(r, [&](int64_t p, int64_t ci, int64_t ei) {
      const T *a = ptr<T>(cand) + ci * d, *b = ptr<T>(event) + ei * d;
      T* out = ptr<T>(y) + p * 4 * d;
      for (int64_t i = 0; i < d; ++i) {
        out[i] = a[i];
        out[d + i] = b[i];
        out[2 * d + i] = a[i] - b[i];
        out[3 * d + i] = a[i] * b[i];
      }
    });
  });
}

template <class T>
void pair_features_dx(const Call& c) {
  const Tensor &cand = c.input(0), &event = c.input(1), &dy = c.input(2), &dc = c.output(0), &de = c.output(1);
  const Pairs pairs(c.input(3), c.input(4), c.input(5));
  const int64_t d = cand.cols();
  std::fill(ptr<T>(dc), ptr<T>(dc) + dc.size(), T(0));
  std::fill(ptr<T>(de), ptr<T>(de) + de.size(), T(0));
  c.pool->parallel_for(pairs.requests, [&](int64_t r, int) {
    pairs.each(r, [&](int64_t p, int64_t ci, int64_t ei) {
      const T *a = ptr<T>(cand) + ci * d, *b = ptr<T>(event) + ei * d, *g = ptr<T>(dy) + p * 4 * d;
      for (int64_t i = 0; i < d; ++i) {
        ptr<T>(dc)[ci * d + i] += g[i] + g[2 * d + i] + g[3 * d + i] * b[i];
        ptr<T>(de)[ei * d + i] += g[d + i] - g[2 * d + i] + g[3 * d + i] * a[i];
      }
    });
  });
}

template <class T>
void pair_pool(const Call& c) {
  const Tensor &w = c.input(0), &event = c.input(1), &y = c.output(0);
  const Pairs pairs(c.input(2), c.input(3), c.input(4));
  const int64_t d = event.cols();
  std::fill(ptr<T>(y), ptr<T>(y) + y.size(), T(0));
  c.pool->parallel_for(pairs.requests, [&](int64_t r, int) {
    pairs.each(r, [&](int64_t p, int64_t ci, int64_t ei) {
      const T a = ptr<T>(w)[p];
      for (int64_t i = 0; i < d; ++i) ptr<T>(y)[ci * d + i] += a * ptr<T>(event)[ei * d + i];
    });
  });
}

template <class T>
void pair_pool_dx(const Call& c) {
  const Tensor &w = c.input(0), &event = c.input(1), &dy = c.input(2), &dw = c.output(0), &de = c.output(1);
  const Pairs pairs(c.input(3), c.input(4), c.input(5));
  const int64_t d = event.cols();
  std::fill(ptr<T>(de), ptr<T>(de) + de.size(), T(0));
  c.pool->parallel_for(pairs.requests, [&](int64_t r, int) {
    pairs.each(r, [&](int64_t p, int64_t ci, int64_t ei) {
      T s = 0;
      for (int64_t i = 0; i < d; ++i) {
        s += ptr<T>(dy)[ci * d + i] * ptr<T>(event)[ei * d + i];
        ptr<T>(de)[ei * d + i] += ptr<T>(w)[p] * ptr<T>(dy)[ci * d + i];
      }
      ptr<T>(dw)[p] = s;
    });
  });
}

}  // namespace longer::plain
