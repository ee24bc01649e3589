// Dense operations as plain loops over a number type: double is the reference, float the portable CPU version.
// See docs/operations.md for the arguments.
#pragma once
#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/op.h"

namespace longer::plain {

template <class T>
T* ptr(const Tensor& t) { return static_cast<T*>(t.data); }

inline void expect(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(what);
}

inline double activate(int kind, double x) {
  switch (kind) {
    case 1: return 0.5 * x * (1 + std::erf(x * 0.70710678118654752440));
    case 2: return x > 0 ? x : 0;
    case 3: return x / (1 + std::exp(-x));
    case 4: return std::tanh(x);
    case 5: return 1 / (1 + std::exp(-x));
    default: return x;
  }
}

inline double activate_dx(int kind, double x) {
  switch (kind) {
    case 1: return 0.5 * (1 + std::erf(x * 0.70710678118654752440)) + x * 0.39894228040143267794 * std::exp(-0.5 * x * x);
    case 2: return x > 0 ? 1 : 0;
    case 3: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    case 4: {
      const double t = std::tanh(x);
      return 1 - t * t;
    }
    case 5: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 - s);
    }
    default: return 1;
  }
}

// Rows are dealt out in tiles of this many; a row's result never depends on its tile.
constexpr int64_t kRows = 64;

template <class Body>
void for_rows(const Call& c, int64_t rows, Body&& body) {
  const int64_t tiles = (rows + kRows - 1) / kRows;
  c.pool->parallel_for(tiles, [&](int64_t t, int) {
    const int64_t end = rows < (t + 1) * kRows ? rows : (t + 1) * kRows;
    for (int64_t r = t * kRows; r < end; ++r) body(r);
  });
}

template <class T>
void linear(const Call& c) {
  const Tensor &x = c.input(0), &w = c.input(1), &b = c.input(2), &res = c.input(3), &y = c.output(0), &pre = c.output(1);
  const int64_t n = y.rows(), in = w.dim[0], out = w.dim[1];
  expect(x.cols() == in && y.cols() == out && x.rows() == n, "linear: x, w and y do not fit");
  const int kind = static_cast<int>(c.integer(0));
  for_rows(c, n, [&](int64_t r) {
    T* row = ptr<T>(y) + r * out;
    const T* xr = ptr<T>(x) + r * in;
    for (int64_t j = 0; j < out; ++j) row[j] = 0;
    for (int64_t i = 0; i < in; ++i) {
      const T a = xr[i];
      const T* wr = ptr<T>(w) + i * out;
      for (int64_t j = 0; j < out; ++j) row[j] += a * wr[j];
    }
    for (int64_t j = 0; j < out; ++j) {
      T v = row[j] + (b.present() ? ptr<T>(b)[j] : T(0));
      if (pre.present()) ptr<T>(pre)[r * out + j] = v;
      v = static_cast<T>(activate(kind, v));
      row[j] = res.present() ? v + ptr<T>(res)[r * out + j] : v;
    }
  });
}

template <class T>
void linear_dx(const Call& c) {
  const Tensor &dy = c.input(0), &w = c.input(1), &pre = c.input(2), &add = c.input(3), &dx = c.output(0);
  const int64_t n = dx.rows(), in = w.dim[0], out = w.dim[1];
  expect(dy.cols() == out && dx.cols() == in && dy.rows() == n, "linear_dx: dy, w and dx do not fit");
  const int kind = static_cast<int>(c.integer(0));
  for_rows(c, n, [&](int64_t r) {
    const T* g = ptr<T>(dy) + r * out;
    for (int64_t i = 0; i < in; ++i) {
      const T* wr = ptr<T>(w) + i * out;
      T v = 0;
      for (int64_t j = 0; j < out; ++j) v += g[j] * wr[j];
      if (pre.present()) v *= static_cast<T>(activate_dx(kind, ptr<T>(pre)[r * in + i]));
      if (add.present()) v += ptr<T>(add)[r * in + i];
      ptr<T>(dx)[r * in + i] = v;
    }
  });
}

// Each row of dw is one task: a sum over all rows of the batch in ascending order.
template <class T>
void linear_dw(const Call& c) {
  const Tensor &x = c.input(0), &dy = c.input(1), &dw = c.output(0), &db = c.output(1);
  const int64_t n = x.rows(), in = x.cols(), out = dy.cols();
  expect(dy.rows() == n && dw.dim[0] == in && dw.dim[1] == out, "linear_dw: x, dy and dw do not fit");
  c.pool->parallel_for(in + 1, [&](int64_t i, int) {
    if (i == in) {
      if (!db.present()) return;
      for (int64_t j = 0; j < out; ++j) ptr<T>(db)[j] = 0;
      for (int64_t r = 0; r < n; ++r)
        for (int64_t j = 0; j < out; ++j) ptr<T>(db)[j] += ptr<T>(dy)[r * out + j];
      return;
    }
    T* row = ptr<T>(dw) + i * out;
    for (int64_t j = 0; j < out; ++j) row[j] = 0;
    for (int64_t r = 0; r < n; ++r) {
      const T a = ptr<T>(x)[r * in + i];
      const T* g = ptr<T>(dy) + r * out;
      for (int64_t j = 0; j < out; ++j) row[j] += a * g[j];
    }
  });
}

template <class T>
void activation(const Call& c) {
  const Tensor &x = c.input(0), &y = c.output(0);
  const int kind = static_cast<int>(c.integer(0));
  for_rows(c, x.rows(), [&](int64_t r) {
    for (int64_t i = r * x.cols(); i < (r + 1) * x.cols(); ++i) ptr<T>(y)[i] = static_cast<T>(activate(kind, ptr<T>(x)[i]));
  });
}

template <class T>
void activation_dx(const Call& c) {
  const Tensor &x = c.input(0), &dy = c.input(1), &dx = c.output(0);
  const int kind = static_cast<int>(c.integer(0));
  for_rows(c, x.rows(), [&](int64_t r) {
    for (int64_t i = r * x.cols(); i < (r + 1) * x.cols(); ++i)
      ptr<T>(dx)[i] = ptr<T>(dy)[i] * static_cast<T>(activate_dx(kind, ptr<T>(x)[i]));
  });
}

template <class T>
void norm(const Call& c) {
  const Tensor &x = c.input(0), &gamma = c.input(1), &beta = c.input(2), &y = c.output(0), &mean = c.output(1), &rstd = c.output(2);
  const bool layer = c.integer(0) == 0;
  const T eps = static_cast<T>(c.number(1));
  const int64_t d = x.cols();
  for_rows(c, x.rows(), [&](int64_t r) {
    const T* row = ptr<T>(x) + r * d;
    T mu = 0, var = 0;
    if (layer) {
      for (int64_t i = 0; i < d; ++i) mu += row[i];
      mu /= static_cast<T>(d);
    }
    for (int64_t i = 0; i < d; ++i) var += (row[i] - mu) * (row[i] - mu);
    const T rs = 1 / std::sqrt(var / static_cast<T>(d) + eps);
    for (int64_t i = 0; i < d; ++i)
      ptr<T>(y)[r * d + i] = (row[i] - mu) * rs * ptr<T>(gamma)[i] + (beta.present() ? ptr<T>(beta)[i] : T(0));
    if (mean.present()) ptr<T>(mean)[r] = mu;
    if (rstd.present()) ptr<T>(rstd)[r] = rs;
  });
}

template <class T>
void norm_dx(const Call& c) {
  const Tensor &x = c.input(0), &gamma = c.input(1), &mean = c.input(2), &rstd = c.input(3), &dy = c.input(4), &add = c.input(5);
  const Tensor &dx = c.output(0), &dgamma = c.output(1), &dbeta = c.output(2);
  const int64_t d = x.cols(), n = x.rows();
  const auto mu = [&](int64_t r) { return mean.present() ? ptr<T>(mean)[r] : T(0); };
  for_rows(c, n, [&](int64_t r) {
    const T rs = ptr<T>(rstd)[r];
    T a = 0, b = 0;  // means of g and of g * xhat, g = dy * gamma
    for (int64_t i = 0; i < d; ++i) {
      const T g = ptr<T>(dy)[r * d + i] * ptr<T>(gamma)[i];
      a += g;
      b += g * (ptr<T>(x)[r * d + i] - mu(r)) * rs;
    }
    a = mean.present() ? a / static_cast<T>(d) : T(0);
    b /= static_cast<T>(d);
    for (int64_t i = 0; i < d; ++i) {
      const T g = ptr<T>(dy)[r * d + i] * ptr<T>(gamma)[i];
      const T xhat = (ptr<T>(x)[r * d + i] - mu(r)) * rs;
      ptr<T>(dx)[r * d + i] = rs * (g - a - xhat * b) + (add.present() ? ptr<T>(add)[r * d + i] : T(0));
    }
  });
  for (int64_t i = 0; i < d; ++i) {
    ptr<T>(dgamma)[i] = 0;
    if (dbeta.present()) ptr<T>(dbeta)[i] = 0;
  }
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < d; ++i) {
      const T g = ptr<T>(dy)[r * d + i];
      ptr<T>(dgamma)[i] += g * (ptr<T>(x)[r * d + i] - mu(r)) * ptr<T>(rstd)[r];
      if (dbeta.present()) ptr<T>(dbeta)[i] += g;
    }
}

template <class T>
void add(const Call& c) {
  const Tensor& y = c.output(0);
  for_rows(c, y.rows(), [&](int64_t r) {
    for (int64_t i = r * y.cols(); i < (r + 1) * y.cols(); ++i) {
      T v = ptr<T>(c.input(0))[i];
      for (int k = 1; k < c.ins; ++k) v += ptr<T>(c.input(k))[i];
      ptr<T>(y)[i] = v;
    }
  });
}

template <class T>
void swiglu(const Call& c) {
  const Tensor &a = c.input(0), &y = c.output(0);
  const int64_t h = y.cols();
  for_rows(c, y.rows(), [&](int64_t r) {
    const T* row = ptr<T>(a) + r * 2 * h;
    for (int64_t i = 0; i < h; ++i) ptr<T>(y)[r * h + i] = static_cast<T>(activate(3, row[i])) * row[h + i];
  });
}

template <class T>
void swiglu_dx(const Call& c) {
  const Tensor &a = c.input(0), &dy = c.input(1), &da = c.output(0);
  const int64_t h = dy.cols();
  for_rows(c, dy.rows(), [&](int64_t r) {
    const T* row = ptr<T>(a) + r * 2 * h;
    T* out = ptr<T>(da) + r * 2 * h;
    for (int64_t i = 0; i < h; ++i) {
      const T g = ptr<T>(dy)[r * h + i];
      out[i] = g * row[h + i] * static_cast<T>(activate_dx(3, row[i]));
      out[h + i] = g * static_cast<T>(activate(3, row[i]));
    }
  });
}

template <class T>
void gate(const Call& c) {
  const Tensor &x = c.input(0), &g = c.input(1), &y = c.output(0);
  for_rows(c, y.rows(), [&](int64_t r) {
    for (int64_t i = r * y.cols(); i < (r + 1) * y.cols(); ++i) ptr<T>(y)[i] = ptr<T>(x)[i] * static_cast<T>(activate(5, ptr<T>(g)[i]));
  });
}

template <class T>
void gate_dx(const Call& c) {
  const Tensor &x = c.input(0), &g = c.input(1), &dy = c.input(2), &dx = c.output(0), &dg = c.output(1);
  for_rows(c, x.rows(), [&](int64_t r) {
    for (int64_t i = r * x.cols(); i < (r + 1) * x.cols(); ++i) {
      ptr<T>(dx)[i] = ptr<T>(dy)[i] * static_cast<T>(activate(5, ptr<T>(g)[i]));
      ptr<T>(dg)[i] = ptr<T>(dy)[i] * ptr<T>(x)[i] * static_cast<T>(activate_dx(5, ptr<T>(g)[i]));
    }
  });
}

// Philox4x32-10: four 32-bit numbers from a counter and a key.
inline void philox(uint32_t counter[4], uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0], p1 = uint64_t{0xCD9E8D57} * counter[2];
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ k1;
    counter[1] = static_cast<uint32_t>(p1);
    counter[3] = static_cast<uint32_t>(p0);
    counter[0] = n0;
    counter[2] = n2;
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
}

template <class T>
void dropout(const Call& c) {
  const Tensor &x = c.input(0), &seed = c.input(1), &y = c.output(0);
  const double p = c.number(0);
  const uint32_t stream = static_cast<uint32_t>(c.integer(1));
  const T scale = static_cast<T>(1 / (1 - p));
  const uint32_t limit = static_cast<uint32_t>(p * 4294967296.0);
  const int64_t quads = (x.size() + 3) / 4;
  for_rows(c, quads, [&](int64_t q) {
    uint32_t bits[4] = {static_cast<uint32_t>(q), static_cast<uint32_t>(q >> 32), stream, 0};
    philox(bits, static_cast<uint32_t>(seed.i32()[0]), static_cast<uint32_t>(seed.i32()[1]));
    for (int64_t i = 4 * q; i < 4 * q + 4 && i < x.size(); ++i) ptr<T>(y)[i] = bits[i - 4 * q] < limit ? T(0) : ptr<T>(x)[i] * scale;
  });
}

}  // namespace longer::plain
