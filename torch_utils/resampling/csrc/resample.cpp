// Resizes 8-bit pictures in fixed point: along the rows and along the columns, rounded to 8 bits in between.
//
// To the bit what Pillow computes: weights in double, divided by their sum, rounded to 22 bits; sums in 32 bits that
// start with one half. Integer sums are the same in any order, so that 16 of them are made side by side: along the
// columns for 16 bytes of a row, along the rows for 16 rows, whose bytes are transposed before and after.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace {

using std::ptrdiff_t;
using std::size_t;

constexpr int kBits = 22;  // of the weights, behind the point
constexpr int kLanes = 16;
constexpr int kTables = 4;  // kept for each thread: pictures of a set often have the same size


#ifdef __AVX2__
constexpr int kInVector = 8;  // sums; 16 are no faster where there is AVX-512
#else
constexpr int kInVector = 4;
#endif

typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
typedef int32_t Sums __attribute__((vector_size(4 * kInVector)));

// 1. Weights

double sinc(double x) {
    if (x == 0) return 1;
    x *= M_PI;
    return std::sin(x) / x;
}

double box(double x) { return x > -0.5 && x <= 0.5; }

double bicubic(double x) {  // Keys' cubic convolution
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

struct Filter {
    double (*weight)(double);
    double support;  // no weight further than this from the centre
};

constexpr Filter kFilters[] = {{box, 0.5}, {bicubic, 2}, {lanczos, 3}};

// What each output element is made of: `count` inputs from `first` on, with weights from `offset` on.
struct Span {
    int first, count;
    size_t offset;
};

struct Table {
    int filter, in, out;
    std::vector<Span> spans;
    std::vector<int32_t> weights;
};

std::shared_ptr<const Table> made_table(int filter, int in, int out) {
    const auto table = std::make_shared<Table>(Table{filter, in, out, {}, {}});
    const auto [weight, width] = kFilters[filter];
    const double step = double(in) / out;
    const double scale = std::max(step, 1.0);  // a picture that shrinks is blurred as much, one that grows is not
    const double support = width * scale, inverse = 1 / scale;
    std::vector<double> exact;
    for (int i = 0; i < out; i++) {
        const double center = (i + 0.5) * step;
        const int first = std::max(int(center - support + 0.5), 0);
        const int last = std::min(int(center + support + 0.5), in);
        exact.clear();
        double sum = 0;
        for (int j = first; j < last; j++) {
            exact.push_back(weight((j - center + 0.5) * inverse));
            sum += exact.back();
        }
        table->spans.push_back({first, last - first, table->weights.size()});
        for (double value : exact) {
            if (sum != 0) value /= sum;
            table->weights.push_back(int32_t((value < 0 ? -0.5 : 0.5) + value * (1 << kBits)));
        }
    }
    return table;
}

std::shared_ptr<const Table> table_of(int filter, int in, int out) {
    static thread_local std::shared_ptr<const Table> tables[kTables];
    static thread_local int oldest = 0;
    for (const auto& table : tables)
        if (table && table->filter == filter && table->in == in && table->out == out) return table;
    const auto table = made_table(filter, in, out);
    tables[oldest] = table;
    oldest = (oldest + 1) % kTables;
    return table;
}

// 2. Sums of 16 things side by side

inline Bytes load(const uint8_t* from) {
    Bytes value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline void store(uint8_t* to, Bytes value) { std::memcpy(to, &value, sizeof value); }

// As many bytes as there are sums in a vector.
inline Sums wide(const uint8_t* from) {
#ifdef __AVX2__
    return Sums(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
    int32_t four;
    std::memcpy(&four, from, sizeof four);
    const __m128i zero = _mm_setzero_si128();
    return Sums(_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero), zero));
#endif
}

// Sums of 16 bytes without the bits behind the point, cut off at 0 and 255.
inline Bytes rounded(const Sums* sums) {
    __m128i four[4];
    std::memcpy(four, sums, sizeof four);
    for (__m128i& value : four) value = _mm_srai_epi32(value, kBits);
    return Bytes(_mm_packus_epi16(_mm_packs_epi32(four[0], four[1]), _mm_packs_epi32(four[2], four[3])));
}

// `blocks` times 16 bytes of `to`, each the sum of `count` bytes that lie `stride` apart.
template <int blocks>
inline void weigh(const uint8_t* from, ptrdiff_t stride, const int32_t* weights, int count, uint8_t* to) {
    constexpr int kInBlock = kLanes / kInVector;
    Sums sums[blocks * kInBlock];
    for (Sums& sum : sums) sum = Sums{} + (1 << (kBits - 1));
    for (int i = 0; i < count; i++, from += stride)
        for (int v = 0; v < blocks * kInBlock; v++) sums[v] += wide(from + v * kInVector) * weights[i];
    for (int block = 0; block < blocks; block++) store(to + block * kLanes, rounded(sums + block * kInBlock));
}

// 3. Transposition

#if defined(__clang__) || __GNUC__ >= 12
inline Bytes low(Bytes a, Bytes b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Bytes high(Bytes a, Bytes b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#else
inline Bytes low(Bytes a, Bytes b) {
    return __builtin_shuffle(a, b, Bytes{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
}
inline Bytes high(Bytes a, Bytes b) {
    return __builtin_shuffle(a, b, Bytes{8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
}
#endif

// 16 by 16 bytes. Numbered in order, a byte has four bits of row and four of column; each step rotates them by one.
inline void transpose(Bytes (&square)[kLanes]) {
    for (int step = 0; step < 4; step++) {
        Bytes next[kLanes];
        for (int i = 0; i < 8; i++) {
            next[2 * i] = low(square[i], square[i + 8]);
            next[2 * i + 1] = high(square[i], square[i + 8]);
        }
        std::memcpy(square, next, sizeof next);
    }
}

// `size` bytes of 16 rows -> `size` columns of 16 bytes.
void rows_to_columns(const uint8_t* const (&rows)[kLanes], ptrdiff_t size, uint8_t* columns) {
    ptrdiff_t x = 0;
    for (; x + kLanes <= size; x += kLanes) {
        Bytes square[kLanes];
        for (int r = 0; r < kLanes; r++) square[r] = load(rows[r] + x);
        transpose(square);
        std::memcpy(columns + x * kLanes, square, sizeof square);
    }
    for (; x < size; x++)
        for (int r = 0; r < kLanes; r++) columns[x * kLanes + r] = rows[r][x];
}

// `size` columns of 16 bytes -> `size` bytes of each of `count` rows, which lie `size` apart.
void columns_to_rows(const uint8_t* columns, ptrdiff_t size, int count, uint8_t* rows) {
    ptrdiff_t x = 0;
    for (; x + kLanes <= size; x += kLanes) {
        Bytes square[kLanes];
        std::memcpy(square, columns + x * kLanes, sizeof square);
        transpose(square);
        for (int r = 0; r < count; r++) store(rows + r * size + x, square[r]);
    }
    for (; x < size; x++)
        for (int r = 0; r < count; r++) rows[r * size + x] = columns[x * kLanes + r];
}

// 4. The two passes

struct Size {
    int width, height;
};

// Rows of `table.in` pixels, `stride` bytes apart -> rows of `table.out` pixels, close together.
template <int channels>
void along_rows(const Table& table, const uint8_t* from, ptrdiff_t stride, int height, uint8_t* to) {
    const ptrdiff_t begin = ptrdiff_t(table.spans.front().first) * channels;
    const ptrdiff_t end = ptrdiff_t(table.spans.back().first + table.spans.back().count) * channels;
    const ptrdiff_t size = ptrdiff_t(table.out) * channels;
    std::vector<uint8_t> read((end - begin) * kLanes), made(size * kLanes);
    for (int y = 0; y < height; y += kLanes) {
        const int count = std::min(kLanes, height - y);
        const uint8_t* rows[kLanes];
        for (int r = 0; r < kLanes; r++) rows[r] = from + stride * (y + std::min(r, count - 1)) + begin;
        rows_to_columns(rows, end - begin, read.data());
        uint8_t* place = made.data();
        for (const Span& span : table.spans) {
            weigh<channels>(read.data() + (ptrdiff_t(span.first) * channels - begin) * kLanes, channels * kLanes,
                            table.weights.data() + span.offset, span.count, place);
            place += channels * kLanes;
        }
        columns_to_rows(made.data(), size, count, to + y * size);
    }
}

// `table.in` rows of `size` bytes, `stride` bytes apart, the first being row `top` -> `table.out` rows.
void along_columns(const Table& table, const uint8_t* from, ptrdiff_t stride, int top, ptrdiff_t size, uint8_t* to) {
    constexpr int kWide = 4 * kLanes;
    for (const Span& span : table.spans) {
        const uint8_t* first = from + (span.first - top) * stride;
        const int32_t* weights = table.weights.data() + span.offset;
        ptrdiff_t x = 0;
        for (; x + kWide <= size; x += kWide) weigh<4>(first + x, stride, weights, span.count, to + x);
        for (; x + kLanes <= size; x += kLanes) weigh<1>(first + x, stride, weights, span.count, to + x);
        for (; x < size; x++) {
            int32_t sum = 1 << (kBits - 1);
            for (int i = 0; i < span.count; i++) sum += first[x + i * stride] * weights[i];
            to[x] = uint8_t(std::clamp(sum >> kBits, 0, 255));
        }
        to += size;
    }
}

template <int channels>
void resample(const uint8_t* from, ptrdiff_t stride, Size in, int filter, Size out, bool rows_first, uint8_t* to) {
    const auto across = in.width == out.width ? nullptr : table_of(filter, in.width, out.width);
    const auto down = in.height == out.height ? nullptr : table_of(filter, in.height, out.height);
    const ptrdiff_t in_size = ptrdiff_t(in.width) * channels, out_size = ptrdiff_t(out.width) * channels;
    if (!down) return along_rows<channels>(*across, from, stride, in.height, to);
    if (!across) return along_columns(*down, from, stride, 0, in_size, to);
    if (rows_first) {
        const int top = down->spans.front().first, bottom = down->spans.back().first + down->spans.back().count;
        std::vector<uint8_t> between((bottom - top) * out_size);
        along_rows<channels>(*across, from + top * stride, stride, bottom - top, between.data());
        along_columns(*down, between.data(), out_size, top, out_size, to);
    } else {
        std::vector<uint8_t> between(out.height * in_size);
        along_columns(*down, from, stride, 0, in_size, between.data());
        along_rows<channels>(*across, between.data(), in_size, out.height, to);
    }
}

}  // namespace

// from: rows of width x channels bytes that begin `stride` bytes apart; to: to_height rows without gaps; filter: in
// kFilters; rows_first: which pass is the first. One of the two sides differs, at the least. Returns 0, or 1 where
// there is not enough memory.
extern "C" __attribute__((visibility("default"))) int stylegan2_resample(
    const uint8_t* from, std::ptrdiff_t stride, int width, int height, int channels, int filter, int to_width,
    int to_height, int rows_first, uint8_t* to) {
    const auto run = channels == 1 ? resample<1> : channels == 3 ? resample<3> : resample<4>;
    try {
        run(from, stride, {width, height}, filter, {to_width, to_height}, rows_first, to);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
