// Attention of one request and one head, block of keys by block of keys: what attention and candidate_attention share.
//
// The score matrix never exists: a worker holds kRowChunk x kKeyBlock scores at most. Rows are taken in chunks
// counted from the request's first row and keys in blocks counted from its first key, so nothing about a request
// depends on where it stands in the batch.
#pragma once
#include "kernels/cpu/attention_tiles.h"
#include "kernels/key_pages.h"
#include "kernels/op.h"

namespace longer::cpu {

// Query rows [first, first + rows), keys [key_first, key_first + keys), counted through the page tables where there are
// any; limits (if any) is indexed by the row. With own rows, each rows_each rows of the request also see their own keys up
// to themselves.
struct FlashRequest {
  int64_t first, rows, key_first, keys;
};

struct FlashTensors {
  Tensor q, k, v, o, lse, d_o, own_k, own_v;
  Tensor dq, dk, dv, own_dk, own_dv;
  const int32_t* limits = nullptr;
  KeyPages k_pages, v_pages;  // forward only
  int64_t heads = 1, width = 0, head_width = 0, rows_each = 0;  // rows_each is 0 without own rows
  double scale = 1;
};

class Flash {
 public:
  explicit Flash(const FlashTensors& tensors);

  int64_t forward_bytes(int64_t threads) const;   // of a worker
  int64_t backward_bytes(int64_t threads) const;  // of a worker
  int64_t chunks(const FlashRequest& request) const { return (request.rows + chunk_ - 1) / chunk_; }

  void forward(const FlashRequest& request, int64_t head, int64_t chunk, void* scratch) const;
  void backward(const FlashRequest& request, int64_t head, void* scratch) const;

 private:
  struct Scratch;
  struct Strip {  // a head's columns of some rows
    void* at;
    int64_t stride, rows;
  };

  Scratch carve(void* memory) const;
  int64_t visible(const FlashRequest& request, int64_t row, int64_t rows, int64_t key, int32_t* counts) const;
  Ahead ahead_of(const FlashRequest& request, int64_t head, int64_t key, bool backward) const;
  KeyTile forward_keys(const FlashRequest& request, int64_t head, int64_t key, int64_t keys, int64_t rows, const Scratch& s) const;
  KeyTile backward_keys(const FlashRequest& request, int64_t head, int64_t key, int64_t keys, const Scratch& s) const;
  Strip strip(const Tensor& t, int64_t row, int64_t rows, int64_t head) const;
  Strip key_strip(const Tensor& t, const KeyPages& pages, int64_t row, int64_t rows, int64_t head, void* copy) const;
  void pack_words(const Strip& from, float* dst) const;
  void pack_summed(const Strip& from, float* dst) const;
  void turn(const Strip& from, const Scratch& s, float* dst) const;
  void pack_backward_rows(int64_t row, int64_t rows, int64_t head, const Scratch& s) const;
  void pack(const Tensor& t, int64_t row, int64_t rows, int64_t head, float factor, float* dst) const;
  void unpack(const float* src, float factor, const Tensor& t, int64_t row, int64_t rows, int64_t head) const;

  FlashTensors t_;
  bool is_bf16_;
  const AttentionTiles& tiles_;
  bool pairs_;             // words are pairs of bf16
  int64_t chunk_, cols_, words_;  // strides of f32 rows and of rows of words
  float log2_scale_;       // scale * log2(e)
};

// Runs body(request, head, part, parts, worker) so that few requests still occupy every thread. The parts of a
// request must not depend on each other.
template <class Body>
void for_each_head(ThreadPool& pool, int64_t requests, int64_t heads, int64_t most_parts, Body body) {
  const int64_t tasks = requests * heads;
  if (tasks == 0) return;
  int64_t parts = (4 * pool.size() + tasks - 1) / tasks;
  if (parts > most_parts) parts = most_parts;
  if (parts < 1 || pool.size() == 1) parts = 1;
  pool.parallel_for(tasks * parts, [&](int64_t task, int worker) {
    body(task / parts / heads, task / parts % heads, task % parts, parts, worker);
  });
}

// The forward pass of every request, request_of(b) being request b. The call's first input is q; its workspace has
// forward_bytes for each worker.
template <class RequestOf>
void forward_all(const Call& call, const Flash& flash, int64_t requests, int64_t heads, RequestOf request_of) {
  const int64_t bytes = flash.forward_bytes(call.pool->size()), most_chunks = call.input(0).dim[0] / kRowChunk + 1;
  for_each_head(*call.pool, requests, heads, most_chunks, [&](int64_t b, int64_t head, int64_t part, int64_t parts, int worker) {
    const FlashRequest request = request_of(b);
    for (int64_t chunk = part; chunk < flash.chunks(request); chunk += parts)
      flash.forward(request, head, chunk, static_cast<char*>(call.workspace) + worker * bytes);
  });
}

}  // namespace longer::cpu
