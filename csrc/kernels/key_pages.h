// Where key rows lie: row r of their tensor, or, through a page table, row r % page_rows of the page pages[r / page_rows].
#pragma once
#include <cstdint>
#include <string>

#include "kernels/attention_check.h"
#include "kernels/quantised_rows.h"

namespace longer {

struct KeyPages {
  const int32_t* pages = nullptr;  // null as well where a workspace is asked for
  int64_t page_rows = 0;

  bool used() const { return page_rows > 0; }
  int64_t row(int64_t r) const { return used() ? pages[r / page_rows] * page_rows + r % page_rows : r; }

  // How many of the rows r .. r + most - 1 lie one behind the other from r on; at least one.
  int64_t together(int64_t r, int64_t most) const {
    if (!used()) return most;
    int64_t page = r / page_rows, end = (page + 1) * page_rows - r;
    while (end < most && pages[page + 1] == pages[page] + 1) ++page, end += page_rows;
    return end < most ? end : most;
  }
};

// Page tables of keys and values, and for each segment of rows its first key, counted through the tables, and its keys.
struct PagedKeys {
  Tensor k, v;  // the pool that holds the pages, typed: rows of the width, or (i32) such rows in int8
  Tensor k_tables, v_tables, spans;
  int64_t page_rows;

  KeyPages k_pages() const { return {k_tables.i32(), page_rows}; }
  KeyPages v_pages() const { return {v_tables.i32(), page_rows}; }
  int64_t first(int64_t segment) const { return spans.i32()[2 * segment]; }
  int64_t count(int64_t segment) const { return spans.i32()[2 * segment + 1]; }

  bool quantised() const { return k.dtype == DType::i32; }

  void check_shapes(const ShapeCheck& check, int64_t width, int64_t heads, DType dtype, int64_t segments) const {
    check.require(k.rank == 2 && v.rank == 2, "the pools must be matrices");
    if (quantised()) {
      check.require(width % 4 == 0, "rows in int8 have a width that is a multiple of 4");
      width = quantised_words(width, heads);
      dtype = DType::i32;
    }
    check.matrix(k, k.dim[0], width, dtype, "the pool of k differs from q in width or type");
    check.matrix(v, v.dim[0], width, dtype, "the pool of v differs from q in width or type");
    check.indices(k_tables, "the page table of k must be i32");
    check.indices(v_tables, "the page table of v must be i32");
    check.require(k_tables.dim[0] == v_tables.dim[0], "the page tables differ in length");
    check.matrix(spans, segments, 2, DType::i32, "spans must be i32 [segments, 2]");
    check.require(page_rows > 0, "a page must have rows");
  }

  // What is read stays inside the pool.
  void check_values(const ShapeCheck& check, int64_t segments) const {
    const int64_t pages = k_tables.dim[0];
    for (const auto* pair : {&k, &v}) {
      const int32_t* table = (pair == &k ? k_tables : v_tables).i32();
      for (int64_t i = 0; i < pages; ++i)
        check.require(table[i] >= 0 && (table[i] + 1) * page_rows <= pair->dim[0], "a page is outside its pool");
    }
    for (int64_t s = 0; s < segments; ++s)
      check.require(first(s) >= 0 && count(s) >= 0 && first(s) + count(s) <= pages * page_rows, "a span is outside its pages");
  }
};

}  // namespace longer
