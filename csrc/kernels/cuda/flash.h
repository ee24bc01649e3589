// Attention by tiles, without the matrix of scores (FlashAttention): what attention.h, candidate_attention.h and, for large
// groups, group_attention.h have in common. Heads are up to 128 wide.
#pragma once
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/tile_list.h"

namespace longer::cuda {

// Which keys a row sees.
enum class Sight {
  prefix,  // the first limits[row] of its request; all where limits is null
  own,     // those of its candidate up to itself; rows and keys are the same
  group,   // those of its group; rows and keys are the same
};

struct FlashTensors {
  Tensor q, k, v, own_k, own_v, o, lse;
  Tensor delta;  // o . do, [rows of q, heads] f32; where present the forward pass writes it instead of o, and the backward pass reads it
  Tensor d_o, dq, dk, dv, down_k, down_v;  // backward only
  Tensor q_offsets, k_offsets, limits;     // q_offsets count units
  // Where keys lie in pages, of k and of v: forward only. k_offsets then are pairs, the first key, counted through the tables, and how many.
  Tensor k_tables, v_tables;               // pools of i32 hold rows in int8 (kernels/quantised_rows.h)
  int64_t page_rows = 0;
  int64_t unit = 1;                        // rows of q: the m of a candidate, or 1
  int64_t group = 0;                       // of events, where sight is group
  Sight sight = Sight::prefix;             // of k and v
  int64_t requests, heads, width, head_width;
  double scale;
};

int64_t flash_forward_workspace(const FlashTensors& t);
void flash_forward(const char* name, const FlashTensors& t, void* workspace, const Queue& queue);
int64_t flash_backward_workspace(const FlashTensors& t);
void flash_backward(const char* name, const FlashTensors& t, void* workspace, const Queue& queue);

}  // namespace longer::cuda
