# Attention over pages in int8, rows written in int8 and the probabilities of attention, with one mistake each (mutants.cmake), for
# planted_int8_test.
begin_mutants(INT8_MUTANTS)

macro(int8_mutant name)
  mutant(${name} Bf16)
  edit(flash_forward.cu [[    if (t.page_rows == 0) return run(InOrder{});]] [[]])
  edit(flash_forward.cu [[    else run(pages);]] [[]])
endmacro()

int8_mutant(int8_nothing)

int8_mutant(int8_tile_in_use)
edit(flash_forward.cu [[      finish(key + kKeys, s ^ 1);]] [[      finish(key + kKeys, s);]])

int8_mutant(int8_before_products)
edit(flash_forward.cu [[      load(key + kKeys, s ^ 1);
]] [[      load(key + kKeys, s ^ 1), finish(key + kKeys, s);
]])

int8_mutant(int8_no_barrier)
edit(flash_forward.cu [[      __syncthreads();  // stage s is there, and the other is done with]] [[]])

int8_mutant(int8_own_keys_from_pages)
edit(flash_forward.cu [[if (kQuantised && part == 0) {]] [[if (kQuantised) {]])
edit(flash_forward.cu [[        if (part == 0 && key < all.end)]] [[        if (key < all.end)]])

int8_mutant(int8_scale_of_another_row)
edit(quantised_tile.cuh [[row * row_words + head]] [[(row ^ 1) * row_words + head]])

int8_mutant(int8_without_sign)
edit(quantised_tile.cuh [[(word ^ 0x80808080u)]] [[word]])

end_mutants()

begin_mutants(ROWS_MUTANTS)

add_mutant(rows_nothing)
edit(write_quantised_rows.cu [[kInfinity = 0x7f800000u]] [[kInfinity = 0x7f800000u]])
edit(attention_probabilities.cu [[namespace {]] [[namespace {]])

# ---- rows that are written

add_mutant(write_cut_off)
edit(write_quantised_rows.cu [[rintf(]] [[truncf(]])

add_mutant(write_ties_away)
edit(write_quantised_rows.cu [[rintf(]] [[roundf(]])

add_mutant(write_largest_of_a_thread)
edit(write_quantised_rows.cu [[    most = team.most(most);
]] [[]])

add_mutant(write_infinite_scale)
edit(write_quantised_rows.cu [[const bool finite = most < kInfinity]] [[const bool finite = most <= kInfinity]])

# ---- probabilities

add_mutant(probabilities_sum_of_a_team)
edit(attention_probabilities.cu [[for (int by = team.size; by < 32; by *= 2)]] [[for (int by = 2 * team.size; by < 32; by *= 2)]])

add_mutant(probabilities_of_the_last_head)
edit(attention_probabilities.cu [[head == 0 ? weight : to[column] + weight]] [[weight]])

add_mutant(probabilities_own_keys_first)
edit(attention_probabilities.cu [[part == 1)]] [[part == 0)]])

add_mutant(probabilities_left_behind)
edit(attention_probabilities.cu [[column = seen + lane]] [[column = seen + 1 + lane]])

end_mutants()
