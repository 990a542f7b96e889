// SPDX-License-Identifier: Apache-2.0
// Many tokens times a packed matrix. Included after gemv_int8.inl and panel.inl. 16 (or 32) rows of up to 2048
// inputs are decoded to bytes in a panel on the stack (at most 65 KB), which every tile of tokens then multiplies
// with: decoding is shared by all tokens, the panel stays in the second level of cache, and pruned blocks are not
// in it.

/// Lines of memory that are asked for a few at a time while something else is computed: if all are asked for at once,
/// the queue of the cache is full and the computation waits behind it.
struct line_queue {
  /// Streams of two registers of rows: planes of codes and of places, scales, zeros.
  static constexpr int most = 2 * (3 + 2 + 2);
  const std::byte* at[most];
  std::size_t lines[most];
  std::size_t total = 0, steps = 1, due = 0;
  int first = 0, ranges = 0;

  inline void add(const std::byte* from, std::size_t bytes) {
    if (bytes == 0) return;
    at[ranges] = from;
    lines[ranges++] = (bytes + 63) / 64;
    total += (bytes + 63) / 64;
  }
  /// One of `steps` steps in which everything is asked for.
  inline void step() {
    for (due += total; due >= steps && first < ranges; due -= steps) {
      prefetch(at[first]);
      at[first] += 64;
      if (--lines[first] == 0) ++first;
    }
  }
};

/// MR tokens times a panel: y += .. . Weighted: every segment has scales of its own; Grouped: so have the
/// inputs. Asks: asks for lines ahead.
template <int MR, int Vectors, bool Weighted, bool Grouped, bool Offset, bool Asks, class Panel>
[[gnu::noinline]] inline void multiply_panel(const Panel& w, int words, const std::int8_t* codes,
                                             std::size_t stride, const int* sums, const float* scales,
                                             std::size_t group, line_queue& ahead,
                                             f32x16 (&out)[MR][Vectors]) {
  constexpr bool floats = Weighted || Grouped || Offset;
  i32x16 a[MR][Vectors];
  f32x16 f[MR][Vectors];
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) f[m][v] = zero();
  const std::size_t inputs = static_cast<std::size_t>(words) * 4;
  if constexpr (!floats) {
    int total[lanes] = {};
    if constexpr (dot_takes_bytes) {
      i32x16 sum = zero_int();
      for (int s = 0; s < w.segments; ++s) sum = add(sum, load(sums + w.start[s] / inputs * stride));
      store(total, sum);
    }
#pragma GCC unroll 12
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) a[m][v] = broadcast(total[m]);
  }
  const int(*word)[Vectors][lanes] = w.word;
  for (int s = 0; s < w.segments; ++s) {
    const std::int8_t* x = codes + w.start[s] * stride;
    const int* const sum = sums + w.start[s] / inputs * stride;
    if constexpr (Asks) ahead.step();
    if constexpr (floats) {
#pragma GCC unroll 12
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) a[m][v] = dot_takes_bytes ? broadcast(sum[m]) : zero_int();
    }
    for (int k = 0; k < words; ++k, ++word, x += 4 * stride) {
      i32x16 b[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) b[v] = load((*word)[v]);
#pragma GCC unroll 12
      for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) a[m][v] = dot_broadcast(a[m][v], b[v], x + 4 * m);
      }
    }
    if constexpr (floats) {
      const float* const scale = scales + w.start[s] / group * stride;
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) {
        f32x16 by = broadcast(1.0f), offset = zero();
        if constexpr (Weighted) by = load(w.scale[s][v]);
        if constexpr (Offset) offset = load(w.offset[s][v]);
#pragma GCC unroll 12
        for (int m = 0; m < MR; ++m) {
          f32x16 value = to_float(a[m][v]);
          if constexpr (Offset) {
            if constexpr (Weighted) value = multiply(value, by);
            value = multiply_add(offset, to_float(broadcast(sum[m])), value);
            f[m][v] = Grouped ? multiply_add(value, broadcast(scale[m]), f[m][v]) : add(f[m][v], value);
          } else if constexpr (Weighted && Grouped) {
            f[m][v] = multiply_add(value, multiply(by, broadcast(scale[m])), f[m][v]);
          } else {
            f[m][v] = multiply_add(value, Weighted ? by : broadcast(scale[m]), f[m][v]);
          }
        }
      }
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) out[m][v] = floats ? f[m][v] : to_float(a[m][v]);
}

template <class P, class Q, class A>
struct int8_batch : panel_decoder<P, Q, A> {
  using decoder = panel_decoder<P, Q, A>;
  using typename decoder::l;
  using typename decoder::plan;
  template <int V>
  using panel_type = typename decoder::template panel_type<V>;
  using decoder::w;
  static constexpr bool weighted = decoder::weighted, grouped = decoder::grouped, offset = decoder::offset;
  static constexpr bool integers = !weighted && !grouped && !offset;
  /// Registers of 16 rows: two where they share their columns and their sums are integers.
  static constexpr int vectors =
      integers && (P::kind != survivors::listed || P::unit_rows % 32 == 0) ? batch_vectors : 1;
  /// Slots of a tile that fill a panel.
  static constexpr int slots = panel_inputs / l::cell_cols;

  const activation_view<A>& a;
  const span2<float>& y;
  const std::size_t token_tiles = [this] {
    std::size_t n = 0;
    for (std::size_t t = 0; t < a.tokens(); t += tile_tokens(a.tokens(), t)) ++n;
    return n;
  }();
  /// Of many tokens a wait for memory is a small part, and counting lines costs the innermost loop as much.
  const bool asks = token_tiles <= 8;
  line_queue ahead{};

  /// Asks for the codes and scales of cells [first, first + cells), as far as there are any, while the batch
  /// multiplies with the last ones.
  inline void prefetch_cells(std::size_t first, std::size_t cells) {
    if (!asks) return;
    const std::size_t left = w.cells() > first ? w.cells() - first : 0;
    if (cells > left) cells = left;
    const auto fields = [&](const std::byte* from, int bits) {
      const auto n = static_cast<std::size_t>(bits);
      ahead.add(from + first * n / 8, cells * n / 8);
    };
    for (int i = 0; i < plane_count(Q::bits); ++i)
      fields(w[static_cast<stream>(static_cast<int>(stream::codes) + i)],
             l::cell_codes * plane_width(Q::bits, i));
    if constexpr (l::params_in_cells) {
      fields(w[stream::scale], Q::scale_bits * l::runs_per_cell);
      if constexpr (Q::zero_bits > 0) fields(w[stream::zero], Q::zero_bits * l::runs_per_cell);
    }
    if constexpr (P::kind == survivors::positions)
      for (int i = 0; i < plane_count(l::position_bits); ++i)
        fields(w[stream::index] + matrix_view<P, Q>::position_plane(w.cells(), i),
               l::cell_codes * plane_width(l::position_bits, i));
  }

  /// All tokens times the panel; `more`: y holds the sums of earlier panels.
  template <bool Asks, int V>
  inline void multiply_tokens(const panel_type<V>& p, std::size_t tile, bool more) {
    ahead.steps = static_cast<std::size_t>(p.segments) * token_tiles;
    for (std::size_t t = 0; t < a.tokens();) {
      const std::size_t mr = tile_tokens(a.tokens(), t);
      for (std::size_t m = 0; m < mr && t + m < a.tokens();) {
        if (batch_tokens >= 12 && mr - m >= 12)
          part<12, Asks>(p, tile, t, m, mr, more), m += 12;
        else if (batch_tokens >= 8 && mr - m >= 8)
          part<8, Asks>(p, tile, t, m, mr, more), m += 8;
        else
          part<4, Asks>(p, tile, t, m, mr, more), m += 4;
      }
      t += mr;
    }
  }
  template <int MR, bool Asks, int V>
  inline void part(const panel_type<V>& p, std::size_t tile, std::size_t first, std::size_t m0,
                   std::size_t mr, bool more) {
    if constexpr (MR <= batch_tokens) {
      f32x16 out[MR][V];
      multiply_panel<MR, V, weighted, grouped, offset, Asks>(
          p, plan::batch_segment / 4, a.tile(first) + 4 * m0, mr, a.tile_sums(plan::batch_level, first) + m0,
          a.tile_scales(first) + m0, static_cast<std::size_t>(plan::group), ahead, out);
      for (int v = 0; v < V; ++v) {
        const std::size_t row = (tile + static_cast<std::size_t>(v)) * lanes;
        if (row >= w.rows()) break;
        f32x16 row_scale = broadcast(1.0f);
        if constexpr (Q::row_scaled) row_scale = load_half(w[stream::row_scale] + row * 2);
        for (int m = 0; m < MR; ++m) {
          const std::size_t t = first + m0 + static_cast<std::size_t>(m);
          if (t >= a.tokens()) break;
          f32x16 value = out[m][v];
          if constexpr (Q::row_scaled) value = multiply(value, row_scale);
          if constexpr (A::group == 0) value = multiply(value, broadcast(a.scales(t)[0]));
          if (more) value = add(value, load_rows(&y(t, row), w.rows() - row));
          store_rows(&y(t, row), value, w.rows() - row);
        }
      }
    }
  }

  /// V tiles that share their columns.
  template <int V>
  inline void tiles(std::size_t tile) {
    panel_type<V> p;
    const auto multiply_now = [&](bool more) {
      if (asks)
        multiply_tokens<true>(p, tile, more);
      else
        multiply_tokens<false>(p, tile, more);
    };
    if constexpr (P::kind == survivors::listed) {
      constexpr std::size_t parts = static_cast<std::size_t>(P::unit_rows) / lanes;
      const std::size_t begin = w.begin(tile / parts), end = w.begin(tile / parts + 1);
      constexpr int per_cell = l::cell_cols / plan::batch_segment;
      std::size_t j = begin;
      do {
        const std::size_t stop = end - j < slots ? end : j + slots;
        p.segments = static_cast<int>(stop - j) * per_cell;
        for (std::size_t i = j; i < stop; ++i) {
          const int n = static_cast<int>(i - j);
          for (int v = 0; v < V; ++v)
            this->decode_shared(p, v, (i * parts + tile % parts + static_cast<std::size_t>(v)) * lanes,
                                n * l::cell_codes / 4);
          for (int s = 0; s < per_cell; ++s)
            p.start[n * per_cell + s] = static_cast<std::uint32_t>(
                w.block_column(i) * l::cell_cols + static_cast<std::size_t>(s * plan::batch_segment));
        }
        ahead = {};
        // Blocks follow each other, in the next rows, too. Where a tile has a part of their rows, the first one
        // brings them for all.
        const std::size_t place = tile % parts;
        if (stop < end ? place == 0 : place + V == parts)
          prefetch_cells(stop * P::unit_rows, slots * P::unit_rows);
        multiply_now(j != begin);
        j = stop;
      } while (j < end);
    } else {
      const std::size_t units = l::cells_per_row(w.cols());
      std::size_t first[V];  // cells that are decoded next
      for (int v = 0; v < V; ++v) {
        const std::size_t t = tile + static_cast<std::size_t>(v);
        if constexpr (P::kind == survivors::masked)
          first[v] = l::uniform ? t * lanes * l::uniform_cells(w.cols()) : w.begin(t);
        else
          first[v] = t * units * lanes;
      }
      for (std::size_t u = 0; u < units; u += slots) {
        const std::size_t stop = units - u < slots ? units : u + slots;
        const std::size_t inputs = (stop - u) * l::cell_cols;
        p.segments = static_cast<int>((inputs + plan::batch_segment - 1) / plan::batch_segment);
        for (int s = 0; s < p.segments; ++s)
          p.start[s] = static_cast<std::uint32_t>(u * l::cell_cols) +
                       static_cast<std::uint32_t>(s * plan::batch_segment);
        std::size_t decoded = 0;
        for (int v = 0; v < V; ++v) {
          const std::size_t t = tile + static_cast<std::size_t>(v), before = first[v];
          if constexpr (P::kind == survivors::masked) {
            this->decode_masked(p, v, t, u / 16, (stop + 15) / 16, first[v]);
          } else {
            for (std::size_t i = u; i < stop; ++i) {
              const int at = static_cast<int>(i - u) * l::cell_cols / 4;
              if constexpr (P::kind == survivors::positions)
                this->decode_positions(p, v, t, i, at);
              else
                this->decode_shared(p, v, before + (i - u) * lanes, at);
            }
            first[v] += (stop - u) * lanes;
          }
          decoded = first[v] - before;
        }
        ahead = {};
        for (std::size_t v = 0; v < V; ++v)
          prefetch_cells(stop < units ? first[v] : first[V - 1] + v * decoded, decoded);
        multiply_now(u != 0);
      }
    }
  }
};

/// Tiles [begin, end) for any number of tokens.
template <class P, class Q, class A>
inline void multiply_int8(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                          const activation_view<A>& a, const span2<float>& y) {
  if constexpr (int8_plan<P, Q, A::group>::batches) {
    if (a.shape.tiled() && w.cols() > 0) {
      using batch = int8_batch<P, Q, A>;
      batch b{{w}, a, y};
      for (std::size_t tile = begin; tile < end;) {
        if (batch::vectors == 2 && tile + 2 <= end && (P::kind != survivors::listed || tile % 2 == 0)) {
          b.template tiles<batch::vectors>(tile);
          tile += 2;
        } else {
          b.template tiles<1>(tile);
          ++tile;
        }
      }
      return;
    }
  }
  multiply_vectors(w, begin, end, a, y);
}
