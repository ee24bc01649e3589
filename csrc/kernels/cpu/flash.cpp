#include "kernels/cpu/flash.h"

#include <cstring>

#include "runtime/arena.h"

namespace longer::cpu {

namespace {

constexpr double kLog2e = 1.4426950408889634;
constexpr double kLn2 = 0.69314718055994531;
constexpr int64_t kFewRows = 12;

void* element(const Tensor& t, int64_t row, int64_t column) {
  return static_cast<char*>(t.data) + (row * t.dim[1] + column) * dtype_size(t.dtype);
}

}  // namespace

// Everything a worker holds; the forward pass uses the first part only.
struct Flash::Scratch {
  float *q, *o, *top, *sum, *k, *v, *k_turned, *p, *own_k, *own_v;
  int32_t* counts;
  float *d_o, *lse, *delta, *v_turned, *ds, *dq, *dk, *dv, *own_dk, *own_dv;
  char* forward_end;
  char* backward_end;
};

Flash::Flash(const FlashTensors& tensors) : tiles_(attention_tiles()), t_(tensors), is_bf16_(t_.q.dtype == DType::bf16) {
  chunk_ = kRowChunk;
  if (t_.rows_each > 0) chunk_ = t_.rows_each > kRowChunk ? t_.rows_each : kRowChunk / t_.rows_each * t_.rows_each;
  cols_ = padded(t_.head_width);
}

Flash::Scratch Flash::carve(void* memory) const {
  Scratch s;
  char* at = static_cast<char*>(memory);
  const auto take = [&at](int64_t floats) {
    char* part = at;
    at += (floats * 4 + 63) / 64 * 64;
    return reinterpret_cast<float*>(part);
  };
  const int64_t rows = padded(chunk_), own = t_.rows_each > 0 ? rows * cols_ : 0;
  s.q = take(rows * cols_);
  s.o = take(rows * cols_);
  s.top = take(rows);
  s.sum = take(rows * kPad);
  s.k = take((kKeyBlock + kPad) * cols_);
  s.v = take((kKeyBlock + kPad) * cols_);
  s.k_turned = take(kKeyBlock * cols_);
  s.p = take(rows * kKeyBlock);
  s.own_k = take(own);
  s.own_v = take(own);
  s.counts = reinterpret_cast<int32_t*>(take(rows));
  s.forward_end = at;
  s.d_o = take(rows * cols_);
  s.lse = take(rows);
  s.delta = take(rows);
  s.v_turned = take(kKeyBlock * cols_);
  s.ds = take(rows * kKeyBlock);
  s.dq = take(rows * cols_);
  s.dk = take(kKeyBlock * cols_);
  s.dv = take(kKeyBlock * cols_);
  s.own_dk = take(own);
  s.own_dv = take(own);
  // bf16 gradients of the query rows are gathered here over the key blocks
  if (is_bf16_) take(t_.q.dim[0] * t_.head_width);
  s.backward_end = at;
  return s;
}

int64_t Flash::forward_bytes(int64_t threads) const { return scratch_size(carve(nullptr).forward_end - static_cast<char*>(nullptr), threads); }
int64_t Flash::backward_bytes(int64_t threads) const { return scratch_size(carve(nullptr).backward_end - static_cast<char*>(nullptr), threads); }

void Flash::pack(const Tensor& t, int64_t row, int64_t rows, int64_t head, float factor, float* dst) const {
  tiles_.pack(element(t, row, head * t_.head_width), is_bf16_, t_.width, rows, t_.head_width, factor, dst);
}

void Flash::unpack(const float* src, float factor, const Tensor& t, int64_t row, int64_t rows, int64_t head) const {
  tiles_.unpack(src, factor, element(t, row, head * t_.head_width), is_bf16_, t_.width, rows, t_.head_width);
}

// Page by page; zero rows up to padded(keys). What a page's padding writes past that is inside the scratch.
void Flash::pack_keys(const Tensor& t, const KeyPages& pages, int64_t first, int64_t keys, int64_t head, float* dst) const {
  for (int64_t done = 0; done < keys;) {
    const int64_t some = pages.together(first + done, keys - done);
    pack(t, pages.row(first + done), some, head, 1.0f, dst + done * cols_);
    done += some;
  }
  std::memset(dst + keys * cols_, 0, (padded(keys) - keys) * cols_ * sizeof(float));
}

// How many keys of the block at `key` each row sees; returns the most.
int64_t Flash::visible(const FlashRequest& request, int64_t row, int64_t rows, int64_t key, int32_t* counts) const {
  int64_t most = 0;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t n = t_.limits ? t_.limits[row + r] : request.keys;
    if (n > request.keys) n = request.keys;
    n -= key;
    n = n < 0 ? 0 : n > kKeyBlock ? kKeyBlock : n;
    counts[r] = static_cast<int32_t>(n);
    if (n > most) most = n;
  }
  return most;
}

// Where the tensor can be read as it is, keys are transposed without a copy, and few rows do not pay for one of v.
KeyTile Flash::forward_keys(const FlashRequest& request, int64_t head, int64_t key, int64_t keys, int64_t rows,
                            const Scratch& s) const {
  const int64_t first = request.key_first + key;
  const bool direct = !is_bf16_ && t_.head_width % kPad == 0;
  if (direct && keys % kPad == 0 && t_.k_pages.together(first, keys) == keys) {
    tiles_.transpose(static_cast<float*>(element(t_.k, t_.k_pages.row(first), head * t_.head_width)), t_.width, keys, t_.head_width,
                     s.k_turned, kKeyBlock);
  } else {
    pack_keys(t_.k, t_.k_pages, first, keys, head, s.k);
    tiles_.transpose(s.k, cols_, keys, t_.head_width, s.k_turned, kKeyBlock);
  }
  if (direct && rows <= kFewRows && t_.v_pages.together(first, keys) == keys)
    return {s.k, static_cast<float*>(element(t_.v, t_.v_pages.row(first), head * t_.head_width)), t_.width, s.k_turned, nullptr};
  pack_keys(t_.v, t_.v_pages, first, keys, head, s.v);
  return {s.k, s.v, cols_, s.k_turned, nullptr};
}

KeyTile Flash::backward_keys(const FlashRequest& request, int64_t head, int64_t key, int64_t keys, const Scratch& s) const {
  pack(t_.k, request.key_first + key, keys, head, 1.0f, s.k);
  pack(t_.v, request.key_first + key, keys, head, 1.0f, s.v);
  tiles_.transpose(s.k, cols_, keys, t_.head_width, s.k_turned, kKeyBlock);
  tiles_.transpose(s.v, cols_, keys, t_.head_width, s.v_turned, kKeyBlock);
  return {s.k, s.v, cols_, s.k_turned, s.v_turned};
}

void Flash::forward(const FlashRequest& request, int64_t head, int64_t chunk, void* memory) const {
  const Scratch s = carve(memory);
  const int64_t start = chunk * chunk_, row = request.first + start;
  const int64_t rows = request.rows - start < chunk_ ? request.rows - start : chunk_;
  const ForwardRows x = {rows, t_.head_width, s.q, s.o, s.top, s.sum, s.p};
  pack(t_.q, row, rows, head, static_cast<float>(t_.scale * kLog2e), s.q);
  tiles_.forward_start(x);
  for (int64_t key = 0; key < request.keys; key += kKeyBlock) {
    const int64_t most = visible(request, row, rows, key, s.counts);
    if (most == 0) break;
    tiles_.forward_keys(x, forward_keys(request, head, key, most, rows, s), s.counts);
  }
  if (t_.rows_each > 0) {
    pack(t_.own_k, row, rows, head, 1.0f, s.own_k);
    pack(t_.own_v, row, rows, head, 1.0f, s.own_v);
    tiles_.forward_own(x, t_.rows_each, s.own_k, s.own_v);
  }
  float* lse = t_.lse.present() ? t_.lse.f32() + row * t_.heads + head : nullptr;
  tiles_.forward_finish(x, lse, t_.heads);
  unpack(s.o, 1.0f, t_.o, row, rows, head);
}

// q, do, delta and lse of a chunk; a row that sees no key has every p masked, its lse only has to be finite.
void Flash::pack_backward_rows(int64_t row, int64_t rows, int64_t head, const Scratch& s) const {
  pack(t_.q, row, rows, head, static_cast<float>(t_.scale * kLog2e), s.q);
  pack(t_.d_o, row, rows, head, 1.0f, s.d_o);
  pack(t_.o, row, rows, head, 1.0f, s.o);
  tiles_.row_dots(s.o, s.d_o, rows, t_.head_width, s.delta);
  const float none = -__builtin_inff();
  for (int64_t r = 0; r < rows; ++r) {
    const float lse = t_.lse.f32()[(row + r) * t_.heads + head];
    s.lse[r] = lse == none ? 0.0f : static_cast<float>(lse * kLog2e);
  }
}

void Flash::backward(const FlashRequest& request, int64_t head, void* memory) const {
  const Scratch s = carve(memory);
  const BackwardRows whole = {0, t_.head_width, s.q, s.d_o, s.lse, s.delta, s.dq, s.p, s.ds};
  const float scale = static_cast<float>(t_.scale);
  float* gathered = is_bf16_ ? reinterpret_cast<float*>(s.backward_end) - (t_.q.dim[0] * t_.head_width + 15) / 16 * 16
                             : t_.dq.f32() + request.first * t_.width + head * t_.head_width;
  const int64_t stride = is_bf16_ ? t_.head_width : t_.width;
  for (int64_t r = 0; r < request.rows; ++r) std::memset(gathered + r * stride, 0, t_.head_width * sizeof(float));

  int64_t packed = -1;  // the chunk whose rows are in the scratch
  for (int64_t start = 0; t_.rows_each > 0 && start < request.rows; start += chunk_) {
    const int64_t rows = request.rows - start < chunk_ ? request.rows - start : chunk_, row = request.first + start;
    pack_backward_rows(row, rows, head, s);
    packed = start;
    pack(t_.own_k, row, rows, head, 1.0f, s.own_k);
    pack(t_.own_v, row, rows, head, 1.0f, s.own_v);
    BackwardRows x = whole;
    x.rows = rows;
    tiles_.backward_own(x, t_.rows_each, s.own_k, s.own_v, s.own_dk, s.own_dv);
    tiles_.unpack_add(s.dq, scale, gathered + start * stride, stride, rows, t_.head_width);
    unpack(s.own_dk, static_cast<float>(kLn2), t_.own_dk, row, rows, head);
    unpack(s.own_dv, 1.0f, t_.own_dv, row, rows, head);
  }

  for (int64_t key = 0; key < request.keys; key += kKeyBlock) {
    const int64_t keys = request.keys - key < kKeyBlock ? request.keys - key : kKeyBlock;
    const KeyTile tile = backward_keys(request, head, key, keys, s);
    std::memset(s.dk, 0, kKeyBlock * cols_ * sizeof(float));
    std::memset(s.dv, 0, kKeyBlock * cols_ * sizeof(float));
    for (int64_t start = 0; start < request.rows; start += chunk_) {
      const int64_t rows = request.rows - start < chunk_ ? request.rows - start : chunk_;
      if (visible(request, request.first + start, rows, key, s.counts) == 0) continue;
      if (packed != start) pack_backward_rows(request.first + start, rows, head, s);
      packed = start;
      BackwardRows x = whole;
      x.rows = rows;
      tiles_.backward_keys(x, tile, keys, s.counts, s.dk, s.dv);
      tiles_.unpack_add(s.dq, scale, gathered + start * stride, stride, rows, t_.head_width);
    }
    unpack(s.dk, static_cast<float>(kLn2), t_.dk, request.key_first + key, keys, head);
    unpack(s.dv, 1.0f, t_.dv, request.key_first + key, keys, head);
  }

  if (is_bf16_)
    for (int64_t r = 0; r < request.rows; ++r)
      tiles_.unpack(gathered + r * stride, 1.0f, element(t_.dq, request.first + r, head * t_.head_width), true, t_.width, 1,
                    t_.head_width);
}

}  // namespace longer::cpu
