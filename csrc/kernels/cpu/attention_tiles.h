// The inner loops of attention, one table of functions an instruction set.
//
// Matrix operands are tiles of words of 4 bytes: an f32, or a pair of bf16 that are neighbours in the reduction. Rows that
// are multiplied along their columns lie as rows of words with a stride of word_stride(); rows that are summed over lie as
// rows of `width` words with a stride of padded(width), row by row or pair by pair. Sums, scores and statistics are f32;
// probabilities and their gradients are rounded to bf16 where words are pairs. There is nothing but zeros in the padding.
//
// Every output element is one chain of operations over its own row's keys in ascending order, whatever the tile
// sizes, the position in the tile and the other rows are; masked keys add exact zeros or are skipped.
#pragma once
#include <cstdint>

namespace longer::cpu {

constexpr int64_t kPad = 16;        // columns are padded to a multiple of this; the widest vector of any instruction set
constexpr int64_t kKeyBlock = 64;   // keys taken at a time, and the stride of transposed tiles
constexpr int64_t kRowChunk = 120;  // query rows that share one packing of the keys
constexpr int64_t kRowTile = 6;     // query rows in registers; even, so that pairs of rows do not part

inline constexpr int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// Online softmax state of a chunk of query rows.
struct ForwardRows {
  int64_t rows, width;
  const float* q;        // f32, multiplied by scale * log2(e)
  const float* q_words;  // times score_factor the same; q itself where words are f32
  float score_factor;
  float* o;    // sum of p v, relative to the running maximum
  float* top;  // running maximum of log2(e) * score
  float* sum;  // kPad partial sums a row
  float* p;    // scratch: kRowTile x kKeyBlock
};

// Rows of tensors that are needed soon: brought near, some with every tile of query rows. The strips of a head lie so far
// apart that the hardware does not see them coming.
struct Ahead {
  static constexpr int kMost = 5;
  struct Strip {
    const char* at;
    int64_t rows;
    bool write;
  };
  Strip strips[kMost];
  int count = 0;
  int64_t stride = 0, bytes = 0;  // from row to row, of a row

  void add(const void* at, int64_t rows, bool write = false) { strips[count++] = {static_cast<const char*>(at), rows, write}; }
};

struct KeyTile {
  const float* k;             // summed over in the backward pass; the forward pass has none
  const float* v;             // summed over in the forward pass; the backward pass has none
  int64_t v_stride;
  const float* k_transposed;  // words x kKeyBlock, zeros beyond the keys
  const float* v_transposed;  // backward only
  Ahead ahead;
};

struct BackwardRows {
  int64_t rows, width;
  const float* q;            // f32, multiplied by scale * log2(e)
  const float* d_o;          // f32
  const float* q_words;      // times score_factor the same as q
  const float* d_o_words;
  const float* q_summed;
  const float* d_o_summed;
  float score_factor;
  const float* lse;          // in units of log2
  const float* delta;
  float* dq;                 // to be multiplied by scale
  float* scores;             // scratch: 2 x kRowTile x kKeyBlock
  float* p;                  // scratch, to be summed over the rows: rows x kKeyBlock, each
  float* ds;
};

// One head of one group of events: `stride` elements from event to event. scratch has group_scratch() floats.
struct GroupTile {
  int64_t events, width, stride;
  float scale;
  const float *q, *k, *v, *d_o;
  float *o, *dq, *dk, *dv;
  float* scratch;
};

inline constexpr int64_t group_scratch(int64_t group, int64_t width) {
  return 6 * padded(group) * padded(width) + 2 * padded(group) * padded(group);
}

struct AttentionTiles {
  int64_t word;  // elements a word: 1 f32, or 2 bf16

  // dst[rows x padded] = factor * src; zero columns up to the padding and zero rows up to padded(rows)
  void (*pack)(const void* src, bool is_bf16, int64_t stride, int64_t rows, int64_t width, float factor, float* dst);
  // dst = scale * src, in f32 or rounded to bf16
  void (*widen)(const int8_t* src, float scale, void* dst, bool is_bf16, int64_t width);
  // Words along the columns; src is bf16 where words are pairs. Zeros as in pack.
  void (*pack_words)(const void* src, bool is_bf16, int64_t stride, int64_t rows, int64_t width, float* dst);
  // Words to be summed over; the last one holds a zero where rows are odd.
  void (*pack_summed)(const void* src, bool is_bf16, int64_t stride, int64_t rows, int64_t width, float* dst);
  void (*unpack)(const float* src, float factor, void* dst, bool is_bf16, int64_t stride, int64_t rows, int64_t width);
  void (*unpack_add)(const float* src, float factor, float* dst, int64_t stride, int64_t rows, int64_t width);
  // whole squares of kPad words: src has padded(rows) rows and padded(width) columns
  void (*transpose)(const float* src, int64_t src_stride, int64_t rows, int64_t width, float* dst, int64_t dst_stride);

  void (*forward_start)(const ForwardRows&);
  void (*forward_keys)(const ForwardRows&, const KeyTile&, const int32_t* visible);
  // rows_each rows belong together and see their own keys up to themselves, which are f32
  void (*forward_own)(const ForwardRows&, int64_t rows_each, const float* own_k, const float* own_v);
  // divides o by the sum; lse may be null
  void (*forward_finish)(const ForwardRows&, float* lse, int64_t lse_stride);

  void (*row_dots)(const float* a, const float* b, int64_t rows, int64_t width, float* dots);
  // writes dq, adds to dk and dv (kKeyBlock x padded width)
  void (*backward_keys)(const BackwardRows&, const KeyTile&, int64_t keys, const int32_t* visible, float* dk, float* dv);
  // writes dq, own_dk and own_dv
  void (*backward_own)(const BackwardRows&, int64_t rows_each, const float* own_k, const float* own_v, float* own_dk,
                       float* own_dv);

  void (*group_forward)(const GroupTile&);
  void (*group_backward)(const GroupTile&);
};

inline int64_t word_stride(const AttentionTiles& tiles, int64_t width) { return padded((width + tiles.word - 1) / tiles.word); }

const AttentionTiles& attention_tiles_generic();
const AttentionTiles& attention_tiles_avx2();
const AttentionTiles& attention_tiles_avx512();
const AttentionTiles& attention_tiles_avx512bf16();  // words are pairs

// Those of active_isa(); words are pairs only where `pairs` allows it and the CPU multiplies them.
const AttentionTiles& attention_tiles(bool pairs);

}  // namespace longer::cpu
