#include "kernels/cpu/flash.h"

#include <algorithm>
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

// Everything a worker holds; the forward pass uses the first part only. Where words are f32, rows serve as words as they are.
struct Flash::Scratch {
  float *q, *q_words, *o, *top, *sum, *gathered, *key_words, *v, *k_turned, *scores, *own_k, *own_v;
  int32_t* counts;
  float *d_o, *d_o_words, *q_summed, *d_o_summed, *lse, *delta, *k, *v_turned, *p, *ds, *dq, *dk, *dv, *own_dk, *own_dv;
  char* forward_end;
  char* backward_end;
};

Flash::Flash(const FlashTensors& tensors)
    : t_(tensors), is_bf16_(t_.q.dtype == DType::bf16), tiles_(attention_tiles(is_bf16_ && t_.scale > 0)), pairs_(tiles_.word == 2) {
  chunk_ = kRowChunk;
  if (t_.rows_each > 0) chunk_ = t_.rows_each > kRowChunk ? t_.rows_each : kRowChunk / t_.rows_each * t_.rows_each;
  cols_ = padded(t_.head_width);
  words_ = word_stride(tiles_, t_.head_width);
  log2_scale_ = static_cast<float>(t_.scale * kLog2e);
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
  s.q_words = pairs_ ? take(rows * words_) : s.q;
  s.o = take(rows * cols_);
  s.top = take(rows);
  s.sum = take(rows * kPad);
  s.gathered = take(t_.k_pages.used() ? kKeyBlock * t_.head_width : 0);
  s.key_words = take(kKeyBlock * words_);
  s.v = take(kKeyBlock * cols_);
  s.k_turned = take(kKeyBlock * words_);
  s.scores = take(2 * kRowTile * kKeyBlock);
  s.own_k = take(own);
  s.own_v = take(own);
  s.counts = reinterpret_cast<int32_t*>(take(rows));
  s.forward_end = at;
  s.d_o = take(rows * cols_);
  s.d_o_words = pairs_ ? take(rows * words_) : s.d_o;
  s.q_summed = pairs_ ? take(rows / 2 * cols_) : s.q;
  s.d_o_summed = pairs_ ? take(rows / 2 * cols_) : s.d_o;
  s.lse = take(rows);
  s.delta = take(rows);
  s.k = pairs_ ? take(kKeyBlock / 2 * cols_) : s.key_words;
  s.v_turned = take(kKeyBlock * words_);
  s.p = take(rows / tiles_.word * kKeyBlock);
  s.ds = take(rows / tiles_.word * kKeyBlock);
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

Flash::Strip Flash::strip(const Tensor& t, int64_t row, int64_t rows, int64_t head) const {
  return {element(t, row, head * t_.head_width), t_.width, rows};
}

// Rows that lie in several pages are brought together in `copy`, rows in int8 as numbers of q's type.
Flash::Strip Flash::key_strip(const Tensor& t, const KeyPages& pages, int64_t row, int64_t rows, int64_t head, void* copy) const {
  if (t.dtype == DType::i32) {
    const QuantisedRows from(t, t_.width, t_.heads);
    const int64_t row_bytes = t_.head_width * dtype_size(t_.q.dtype);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = pages.row(row + r);
      tiles_.widen(from.numbers(at, head), from.scale(at, head), static_cast<char*>(copy) + r * row_bytes, is_bf16_, t_.head_width);
    }
    return {copy, t_.head_width, rows};
  }
  if (pages.together(row, rows) == rows) return strip(t, pages.row(row), rows, head);
  const int64_t bytes = t_.head_width * dtype_size(t.dtype);
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(static_cast<char*>(copy) + r * bytes, element(t, pages.row(row + r), head * t_.head_width), static_cast<size_t>(bytes));
  return {copy, t_.head_width, rows};
}

void Flash::pack_words(const Strip& from, float* dst) const {
  tiles_.pack_words(from.at, is_bf16_, from.stride, from.rows, t_.head_width, dst);
}

void Flash::pack_summed(const Strip& from, float* dst) const {
  tiles_.pack_summed(from.at, is_bf16_, from.stride, from.rows, t_.head_width, dst);
}

// Rows of keys or values, transposed; without a copy where they can be read as they are.
void Flash::turn(const Strip& from, const Scratch& s, float* dst) const {
  const int64_t word = tiles_.word, words = (t_.head_width + word - 1) / word;
  if (is_bf16_ == pairs_ && t_.head_width % (kPad * word) == 0 && from.rows % kPad == 0) {
    tiles_.transpose(static_cast<float*>(from.at), from.stride / word, from.rows, words, dst, kKeyBlock);
  } else {
    pack_words(from, s.key_words);
    tiles_.transpose(s.key_words, words_, from.rows, words, dst, kKeyBlock);
  }
}

// What is read after the block of keys at `key`: the next block, or else what the next head begins with, which is taken to be
// of a request as large as this one. Of keys in pages only those that lie together.
Ahead Flash::ahead_of(const FlashRequest& request, int64_t head, int64_t key, bool backward) const {
  Ahead ahead;
  ahead.stride = t_.width * dtype_size(t_.q.dtype);
  ahead.bytes = t_.head_width * dtype_size(t_.q.dtype);
  int64_t first = request.first, rows = 0, key_first = request.key_first, keys = request.keys;
  if (key + kKeyBlock < request.keys) {
    key_first += key + kKeyBlock;
    keys -= key + kKeyBlock;
  } else {
    rows = request.rows;
    if (++head == t_.heads) {
      if (t_.k_pages.used()) return ahead;
      head = 0;
      first += request.rows;
      key_first += request.keys;
      rows = std::min(rows, t_.q.dim[0] - first);
      keys = std::min(keys, t_.k.dim[0] - key_first);
    }
  }
  rows = std::min(rows, chunk_);
  keys = std::min(keys, kKeyBlock);
  const auto add = [&](const Tensor& t, int64_t row, int64_t count, bool write = false) {
    ahead.add(element(t, row, head * t_.head_width), count, write);
  };
  if (keys > 0 && t_.k.dtype == t_.q.dtype) {
    add(t_.k, t_.k_pages.row(key_first), t_.k_pages.together(key_first, keys));
    add(t_.v, t_.v_pages.row(key_first), t_.v_pages.together(key_first, keys));
  }
  if (rows > 0) {
    add(t_.q, first, rows);
    add(t_.o, first, rows, !backward);
    if (backward) add(t_.d_o, first, rows);
  }
  return ahead;
}

// Few rows do not pay for a copy of v where it can be read as it is.
KeyTile Flash::forward_keys(const FlashRequest& request, int64_t head, int64_t key, int64_t keys, int64_t rows,
                            const Scratch& s) const {
  const int64_t first = request.key_first + key;
  turn(key_strip(t_.k, t_.k_pages, first, keys, head, s.gathered), s, s.k_turned);
  KeyTile tile = {nullptr, s.v, cols_, s.k_turned, nullptr, ahead_of(request, head, key, false)};
  const Strip v = key_strip(t_.v, t_.v_pages, first, keys, head, s.gathered);
  if (!is_bf16_ && t_.head_width % kPad == 0 && rows <= kFewRows) {
    tile.v = static_cast<float*>(v.at);
    tile.v_stride = v.stride;
  } else {
    pack_summed(v, s.v);
  }
  return tile;
}

KeyTile Flash::backward_keys(const FlashRequest& request, int64_t head, int64_t key, int64_t keys, const Scratch& s) const {
  const Strip k = strip(t_.k, request.key_first + key, keys, head);
  turn(strip(t_.v, request.key_first + key, keys, head), s, s.v_turned);
  turn(k, s, s.k_turned);
  pack_summed(k, s.k);
  return {s.k, nullptr, 0, s.k_turned, s.v_turned, ahead_of(request, head, key, true)};
}

void Flash::forward(const FlashRequest& request, int64_t head, int64_t chunk, void* memory) const {
  const Scratch s = carve(memory);
  const int64_t start = chunk * chunk_, row = request.first + start;
  const int64_t rows = request.rows - start < chunk_ ? request.rows - start : chunk_;
  const ForwardRows x = {rows, t_.head_width, s.q, s.q_words, pairs_ ? log2_scale_ : 1.0f, s.o, s.top, s.sum, s.scores};
  if (pairs_) pack_words(strip(t_.q, row, rows, head), s.q_words);
  if (!pairs_ || t_.rows_each > 0) pack(t_.q, row, rows, head, log2_scale_, s.q);
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
  if (pairs_) {
    pack_words(strip(t_.q, row, rows, head), s.q_words);
    pack_words(strip(t_.d_o, row, rows, head), s.d_o_words);
    pack_summed(strip(t_.q, row, rows, head), s.q_summed);
    pack_summed(strip(t_.d_o, row, rows, head), s.d_o_summed);
  }
  if (!pairs_ || t_.rows_each > 0) pack(t_.q, row, rows, head, log2_scale_, s.q);
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
  const BackwardRows whole = {0,      t_.head_width, s.q,     s.d_o,  s.q_words, s.d_o_words, s.q_summed, s.d_o_summed, pairs_ ? log2_scale_ : 1.0f,
                              s.lse,  s.delta,       s.dq,    s.scores, s.p,     s.ds};
  // Words of q are not scaled, its f32 rows are by scale * log2(e).
  const float scale = static_cast<float>(t_.scale), key_scale = pairs_ ? scale : static_cast<float>(kLn2);
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
    unpack(s.dk, key_scale, t_.dk, request.key_first + key, keys, head);
    unpack(s.dv, 1.0f, t_.dv, request.key_first + key, keys, head);
  }

  if (is_bf16_)
    for (int64_t r = 0; r < request.rows; ++r)
      tiles_.unpack(gathered + r * stride, 1.0f, element(t_.dq, request.first + r, head * t_.head_width), true, t_.width, 1,
                    t_.head_width);
}

}  // namespace longer::cpu
