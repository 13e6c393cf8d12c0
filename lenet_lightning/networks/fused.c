/* A 5x5 convolution, 2x2 max-pooling and an optional ReLU or absolute value as one layer, forward
 * and backward, and the gradients of LeNet-5 as one call.
 *
 * On a handful of channels the layer beats convolution and pooling as separate calls because
 *   - the convolution's full map is never written: the four sums of a pooled cell stay in vector
 *     registers, and only the largest and its position reach memory;
 *   - the forward pass fills its vectors with whatever there is most of: output channels, or, where
 *     they are few, the cells of a row;
 *   - the backward pass visits only the window that won each cell, a quarter of the map. Patches
 *     are laid out so that each is contiguous, and so are kernels: its vectors run along them.
 * The network beats its layers as separate calls because there are some forty of those, and as many
 * when gradients flow back: for a small batch they take as long as the arithmetic.
 *
 * Images of a layer are [batch, height, width, channels]. Weights are [out, channels, 5, 5].
 * `winner` holds for each pooled cell the window (2 * down + right) of its maximum, plus NEGATIVE
 * where an absolute value changed its sign, or SILENT where nothing flows back: ReLU returned zero,
 * or the largest absolute value is zero.
 * The batch is cut into chunks, whose gradients are added in order: results do not depend on the
 * number of threads. All entry points return 0, or 1 when memory ran out.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#define LANES 8
#elif defined(__aarch64__)
#define LANES 4
#else
#error "this processor has neither AVX2 nor Neon"
#endif

enum {
    K = 5,      /* side of a kernel */
    RIGHT = 1, DOWN = 2, SILENT = 4, NEGATIVE = 8,  /* bits of a winner */
    CHUNK = 8,  /* images that a thread takes at a time */
    ROW = 16,   /* output channels that forward_many computes together, in */
    PARTS = ROW / LANES,
    FEW = LANES == 8 ? 2 : 6,    /* those that forward_few does */
    /* As many sums as registers hold: */
    TILE = LANES == 16 ? 8 : 4,  /* windows of forward_many */
    BLOCK = 2,  /* vectors of a row of the input's gradient */
    PIECE = 5,  /* vectors of a patch of the weights' gradient */
};

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
/* Known to fused.py. A layer knows those up to ABSOLUTE, the network the others too. */
enum { NONE, RELU, ABSOLUTE, LEAKY_RELU, ELU, TANH, SILU };

/* The same vector anywhere in an array of floats. */
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct layer {
    const float *x, *weight, *bias, *dy;
    float *y, *dx, *dweight, *dbias, *packed, *partial;
    float *slope;       /* of the activation at each y; NULL where `winner` says it all */
    uint8_t *winner;
    int *offset;        /* forward, of each tap from a patch's first; backward, of each patch */
    int batch, channels, height, width, out, activation;
    int rows, columns;  /* of the pooled map */
    int pitch;          /* floats in a row of every other column */
    int slot, patch;    /* floats in a row of a contiguous patch and in all of it, rounded up */
    int gradient;       /* floats of `partial` that one chunk takes */
    int failed;         /* whether any thread ran out of memory */
    void (*chunk)(struct layer *, int);
} layer;

/* Threads are borrowed from the OpenMP runtime that torch has loaded, so that there is never a
 * second pool of them on the same cores; without one, the caller does all the work. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));

static int blocks_of(int count, int unit) { return (count + unit - 1) / unit; }

static int whole(int count, int unit) { return blocks_of(count, unit) * unit; }

static int chunks_of(const layer *l) { return blocks_of(l->batch, CHUNK); }

/* Work in pieces, and the next one to take. */
typedef struct {
    void (*piece)(void *, int);
    void *of;
    int pieces, next;
} job;

static void work(void *task)
{
    job *j = task;
    int i;
    while ((i = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < j->pieces)
        j->piece(j->of, i);
}

static void share(void (*piece)(void *, int), void *of, int pieces, int threads)
{
    job j = {piece, of, pieces, 0};
    if (threads > pieces)
        threads = pieces;
    if (threads > 1 && GOMP_parallel)
        GOMP_parallel(work, &j, threads, 0);
    else
        work(&j);
}

static void layer_chunk(void *task, int chunk)
{
    layer *l = task;
    l->chunk(l, chunk);
}

static int min(int a, int b) { return a < b ? a : b; }

/* A chunk's images: first, and one past the last. */
typedef struct { size_t first, end; } range;

static range images_of(const layer *l, int chunk)
{
    return (range){chunk * CHUNK, min((chunk + 1) * CHUNK, l->batch)};
}

/* Aligned to cache lines, which loads of whole vectors should not straddle. */
static float *floats(size_t count)
{
    return aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
}

static float *zeros(size_t count)
{
    float *array = floats(count);
    return array ? memset(array, 0, count * sizeof *array) : NULL;
}

/* ---- forward ------------------------------------------------------------------------------- */

/* Pools up to ROW cells, whose four sums lie `count` apart. `absolute` is a constant where it is
 * called, so that each has code of its own. */
static inline __attribute__((always_inline)) void
pool(const float *restrict sums, const int count, int relu, const int absolute, float *restrict y,
     uint8_t *restrict winner)
{
    int where[ROW];
    for (int i = 0; i < count; i++) {
        /* As in torch, the first of equals wins and NaN beats every number. */
        float best = absolute ? __builtin_fabsf(sums[i]) : sums[i];
        int at = absolute & (sums[i] < 0) ? NEGATIVE : 0;
        for (int window = 1; window < 4; window++) {
            float sum = sums[window * count + i];
            float value = absolute ? __builtin_fabsf(sum) : sum;
            int better = (value > best) | (value != value);
            best = better ? value : best;
            at = better ? window + (absolute & (sum < 0) ? NEGATIVE : 0) : at;
        }
        int silent = (relu & (best <= 0)) | (absolute & (best == 0));
        y[i] = silent ? 0 : best;
        where[i] = silent ? SILENT : at;
    }
    for (int i = 0; i < count; i++)
        winner[i] = where[i];
}

/* Allocates weights as [block][1 + taps][block's channels], the first row for the biases, and an
 * offset for each tap. */
static int allocate_forward(layer *l, int block, int taps)
{
    l->packed = zeros(blocks_of(l->out, block) * (1 + taps) * block);
    l->offset = malloc(2 * taps * sizeof(int));
    return !l->packed || !l->offset;
}

/* Where the weights of an output channel begin in `packed`. */
static float *packed_channel(const layer *l, int o, int block, int taps)
{
    return l->packed + o / block * (1 + taps) * block + o % block;
}

static int pack_many(layer *l)
{
    const int run = K * l->channels, taps = K * run;
    if (allocate_forward(l, ROW, taps))
        return 1;
    for (int i = 0; i < taps; i++)
        l->offset[i] = i / run * l->width * l->channels + i % run;
    for (int o = 0; o < l->out; o++) {
        float *to = packed_channel(l, o, ROW, taps);
        *to = l->bias ? l->bias[o] : 0;
        for (int c = 0; c < l->channels; c++)
            for (int t = 0; t < K * K; t++)
                to[(1 + t * l->channels + c) * ROW] = l->weight[(o * l->channels + c) * K * K + t];
    }
    return 0;
}

/* Lanes run over output channels. */
static inline __attribute__((always_inline)) void
forward_many(const layer *l, size_t image, int first, const int absolute)
{
    enum { CELLS = TILE / 4 };
    const int used = min(ROW, l->out - first), cells = l->rows * l->columns;
    const int stride = l->width * l->channels, taps = K * K * l->channels;
    const float *packed = l->packed + first * (1 + taps);
    const float *x = l->x + image * l->height * stride;
    for (int begin = 0; begin < cells; begin += CELLS) {
        const float *from[TILE];
        vec sum[TILE][PARTS];
        for (int n = 0; n < TILE; n++) {
            /* Beyond the last cell the tile repeats it. */
            int cell = min(begin + n / 4, cells - 1), window = n % 4;
            from[n] = x + (2 * (cell / l->columns) + window / 2) * stride
                        + (2 * (cell % l->columns) + window % 2) * l->channels;
            for (int part = 0; part < PARTS; part++)
                sum[n][part] = *(const loose *)(packed + part * LANES);
        }
        const float *w = packed + ROW;
        for (int i = 0; i < taps; i++, w += ROW) {
            vec row[PARTS];
            /* Volatile: read once and kept, where gcc would read it again for each sum. */
            for (int part = 0; part < PARTS; part++)
                row[part] = *(const volatile loose *)(w + part * LANES);
            for (int n = 0; n < TILE; n++)
                for (int part = 0; part < PARTS; part++)
                    sum[n][part] += row[part] * from[n][l->offset[i]];
        }

        float sums[TILE * ROW], largest[ROW];
        uint8_t where[ROW];
        memcpy(sums, sum, sizeof sums);
        for (int cell = begin; cell < min(begin + CELLS, cells); cell++) {
            pool(sums + (cell - begin) * 4 * ROW, ROW, l->activation == RELU, absolute, largest,
                 where);
            /* Whole vectors are quicker to write; what spills over is overwritten in turn. */
            int to = cell * l->out + first;
            float *y = l->y + image * cells * l->out + to;
            uint8_t *winner = l->winner + image * cells * l->out + to;
            if (to + ROW <= cells * l->out) {
                memcpy(y, largest, sizeof largest);
                memcpy(winner, where, sizeof where);
            } else {
                memcpy(y, largest, used * sizeof *y);
                memcpy(winner, where, used);
            }
        }
    }
}

static void many_chunk(layer *l, int chunk)
{
    range images = images_of(l, chunk);
    /* The last block, which may spill over, comes first. */
    for (int first = (l->out - 1) / ROW * ROW; first >= 0; first -= ROW)
        for (size_t image = images.first; image < images.end; image++)
            l->activation == ABSOLUTE ? forward_many(l, image, first, 1)
                                      : forward_many(l, image, first, 0);
}

/* The offset of each tap in the windows on the left and on the right; see split_columns. */
static int pack_few(layer *l)
{
    const int taps = l->channels * K * K;
    if (allocate_forward(l, FEW, taps))
        return 1;
    for (int i = 0; i < 2 * taps; i++) {
        int c = i / 2 / (K * K), t = i / 2 % (K * K), column = t % K + i % 2;
        l->offset[i] = ((t / K * 2 + column % 2) * l->channels + c) * l->pitch + column / 2;
    }
    for (int o = 0; o < l->out; o++) {
        float *to = packed_channel(l, o, FEW, taps);
        *to = l->bias ? l->bias[o] : 0;
        for (int i = 0; i < taps; i++)
            to[(1 + i) * FEW] = l->weight[o * taps + i];
    }
    return 0;
}

/* Writes an image as [row][odd][channel][pitch], even columns and odd ones apart: what the cells of
 * a row multiply with a tap is then contiguous. `pixel` is the number of channels, a constant where
 * it is usual. */
static inline __attribute__((always_inline)) void
split_columns(const layer *l, const float *x, const int pixel, float *to)
{
    for (int row = 0; row < l->height; row++, x += l->width * pixel)
        for (int odd = 0; odd < 2; odd++)
            for (int c = 0; c < pixel; c++, to += l->pitch)
                for (int i = 0; i < l->columns + K / 2; i++)
                    to[i] = x[(2 * i + odd) * pixel + c];
}

/* Lanes run over the cells of a row; x is from split_columns. */
static inline __attribute__((always_inline)) void
forward_few(const layer *l, const float *x, size_t image, int first, const int absolute)
{
    const int taps = l->channels * K * K, below = 2 * l->channels * l->pitch;
    const int used = min(FEW, l->out - first);
    const float *packed = l->packed + first * (1 + taps);
    for (int row = 0; row < l->rows; row++)
        for (int begin = 0; begin < l->columns; begin += LANES) {
            const float *from = x + 2 * row * below + begin, *w = packed;
            const int *offset = l->offset;
            vec sum[FEW][4];
            for (int o = 0; o < FEW; o++)
                for (int window = 0; window < 4; window++)
                    sum[o][window] = w[o] - (vec){0};
            for (int i = 0; i < taps; i++, offset += 2) {
                vec pixels[4];
                for (int window = 0; window < 4; window++)
                    pixels[window] =
                        *(const loose *)(from + offset[window % 2] + window / 2 * below);
                w += FEW;
                for (int o = 0; o < FEW; o++)
                    for (int window = 0; window < 4; window++)
                        sum[o][window] += pixels[window] * w[o];
            }

            float sums[FEW][4 * LANES], largest[FEW][LANES];
            uint8_t where[FEW][LANES];
            memcpy(sums, sum, sizeof sums);
            for (int o = 0; o < FEW; o++)
                pool(sums[o], LANES, l->activation == RELU, absolute, largest[o], where[o]);
            size_t to = ((image * l->rows + row) * l->columns + begin) * l->out + first;
            for (int i = 0; i < min(LANES, l->columns - begin); i++, to += l->out)
                for (int o = 0; o < used; o++) {
                    l->y[to + o] = largest[o][i];
                    l->winner[to + o] = where[o][i];
                }
        }
}

static void few_chunk(layer *l, int chunk)
{
    const int pixels = l->height * l->width * l->channels;
    range images = images_of(l, chunk);
    float *split = zeros(l->height * 2 * l->channels * l->pitch);
    if (!split) {
        l->failed = 1;
        return;
    }
    for (size_t image = images.first; image < images.end; image++) {
        const float *x = l->x + image * pixels;
        switch (l->channels) {
        case 1: split_columns(l, x, 1, split); break;
        case 3: split_columns(l, x, 3, split); break;
        default: split_columns(l, x, l->channels, split);
        }
        for (int first = 0; first < l->out; first += FEW)
            l->activation == ABSOLUTE ? forward_few(l, split, image, first, 1)
                                      : forward_few(l, split, image, first, 0);
    }
    free(split);
}

static layer new_layer(const float *x, const float *weight, int batch, int channels, int height,
                       int width, int out)
{
    return (layer){.x = x, .weight = weight, .batch = batch, .channels = channels,
                   .height = height, .width = width, .out = out,
                   .rows = (height - K + 1) / 2, .columns = (width - K + 1) / 2};
}

static void prepare_forward(layer *l)
{
    int few = l->out <= ROW / 2;
    l->pitch = whole(l->columns, LANES) + K / 2;
    l->chunk = few ? few_chunk : many_chunk;
    l->failed = few ? pack_few(l) : pack_many(l);
}

static void release(layer *l)
{
    free(l->partial);
    free(l->packed);
    free(l->offset);
    l->partial = l->packed = NULL;
    l->offset = NULL;
}

int conv_pool_forward(const float *x, const float *weight, const float *bias, float *y,
                      uint8_t *winner, int batch, int channels, int height, int width, int out,
                      int activation, int threads)
{
    layer l = new_layer(x, weight, batch, channels, height, width, out);
    l.bias = bias;
    l.y = y;
    l.winner = winner;
    l.activation = activation;
    prepare_forward(&l);
    if (!l.failed)
        share(layer_chunk, &l, chunks_of(&l), threads);
    release(&l);
    return l.failed;
}

/* ---- backward ------------------------------------------------------------------------------ */

typedef struct { int at; float dy; } term;  /* `dy` times the kernel that lies `at` */

/* What a chunk needs for one image at a time. */
typedef struct {
    float *x;        /* the image, with room to read whole vectors at its end */
    float *patches;  /* the same, unfolded */
    int *at;         /* for each cell and channel, where in `patches` the winner lies */
    float *dy;       /* and the gradient of its sum */
    float *dx;       /* the image's gradient, with room to write whole vectors */
    term *terms;     /* two lists of channels */
} scratch;

/* Writes each row of K pixels, those below one another first: patches are then contiguous. */
static void unfold(const layer *l, const float *x, float *to)
{
    const int pixel = l->channels;
    for (int column = 0; column + K <= l->width; column++)
        for (int row = 0; row < l->height; row++, to += l->slot)
            for (int v = 0; v < K * pixel; v += LANES)
                /* Volatile: gcc would call memcpy. What spills over is overwritten in turn. */
                *(loose *)(to + v) =
                    *(const volatile loose *)(x + (row * l->width + column) * pixel + v);
}

static void find_winners(const layer *l, size_t image, scratch *s)
{
    const int count = l->rows * l->columns * l->out, right = l->height * l->slot;
    const uint8_t *winner = l->winner + image * count;
    const float *dy = l->dy + image * count;
    for (int i = 0; i < count; i++) {
        float signed_dy = winner[i] & NEGATIVE ? -dy[i] : dy[i];
        s->dy[i] = winner[i] & SILENT ? 0 : signed_dy;
        s->at[i] =
            l->offset[i] + (winner[i] & RIGHT ? right : 0) + (winner[i] & DOWN ? l->slot : 0);
    }
}

/* Adds the patches that won a channel's cells, each times its gradient, to a piece of its weights'
 * gradient; returns the bias's. Two sums take turns, so that neither waits for itself. */
static inline __attribute__((always_inline)) float
add_patches(const layer *l, const float *patches, const int *at, const float *dy, float *dw,
            const int vectors)
{
    vec sum[2][PIECE] = {{{0}}};
    float bias[2] = {0};
    const int cells = l->rows * l->columns;
    for (int cell = 0; cell < cells; cell += 2)
        for (int turn = 0; turn < 2; turn++, at += l->out, dy += l->out) {
            if (turn && cell + 1 == cells)
                break;
            for (int v = 0; v < vectors; v++)
                sum[turn][v] += *(const loose *)(patches + *at + v * LANES) * *dy;
            bias[turn] += *dy;
        }
    for (int v = 0; v < vectors; v++)
        *(loose *)(dw + v * LANES) += sum[0][v] + sum[1][v];
    return bias[0] + bias[1];
}

/* Adds the gradients of one image to the weights' [out][patch] and the biases' [out]. */
static void weight_gradient(const layer *l, const scratch *s, float *dw)
{
    float *db = dw + l->out * l->patch;
    for (int o = 0; o < l->out; o++, dw += l->patch) {
        const int *at = s->at + o;
        const float *dy = s->dy + o;
        float bias = 0;
        for (int v = 0; v < l->patch; v += PIECE * LANES) {
            const float *x = s->patches + v;
            switch (min(PIECE, (l->patch - v) / LANES)) {
            case 1: bias = add_patches(l, x, at, dy, dw + v, 1); break;
            case 2: bias = add_patches(l, x, at, dy, dw + v, 2); break;
            case 3: bias = add_patches(l, x, at, dy, dw + v, 3); break;
            case 4: bias = add_patches(l, x, at, dy, dw + v, 4); break;
            default: bias = add_patches(l, x, at, dy, dw + v, PIECE);
            }
        }
        db[o] += bias;
    }
}

/* Adds kernels, each times its gradient, to K + 1 rows of dx. */
static inline __attribute__((always_inline)) void
add_kernels(const float *packed, const term *terms, int count, float *dx, int stride)
{
    vec sum[K + 1][BLOCK] = {{{0}}};
    for (int i = 0; i < count; i++)
        for (int row = 0; row <= K; row++)
            for (int n = 0; n < BLOCK; n++)
                sum[row][n] += *(const vec *)(packed + terms[i].at + (row * BLOCK + n) * LANES)
                             * terms[i].dy;
    for (int row = 0; row <= K; row++)
        for (int n = 0; n < BLOCK; n++)
            *(loose *)(dx + row * stride + n * LANES) += sum[row][n];
}

/* Writes the gradient of one image, a pooled cell's 6x6 pixels at a time. */
static void input_gradient(const layer *l, size_t image, scratch *s)
{
    const int pixel = l->channels, stride = l->width * pixel, unit = BLOCK * LANES;
    const uint8_t *winner = l->winner + image * l->rows * l->columns * l->out;
    const float *dy = s->dy;
    term *left = s->terms, *right = left + l->out + 1;
    memset(s->dx, 0, l->height * stride * sizeof *s->dx);
    for (int row = 0; row < l->rows; row++)
        for (int column = 0; column < l->columns; column++, winner += l->out, dy += l->out) {
            int lefts = 0, rights = 0;
            for (int o = 0; o < l->out; o++) {
                /* Written to both lists, kept in one or none: quicker than a branch. */
                term t = {(o * (K + 1) + !(winner[o] & DOWN)) * unit, dy[o]};
                left[lefts] = t;
                right[rights] = t;
                lefts += (winner[o] & (SILENT | RIGHT)) == 0;
                rights += (winner[o] & (SILENT | RIGHT)) == RIGHT;
            }
            float *dx = s->dx + 2 * (row * stride + column * pixel);
            const float *kernels = l->packed;
            for (int v = 0; v < K * pixel; v += unit) {
                add_kernels(kernels, left, lefts, dx + v, stride);
                add_kernels(kernels, right, rights, dx + v + pixel, stride);
                kernels += (l->out * (K + 1) + 1) * unit;
            }
        }
    memcpy(l->dx + image * l->height * stride, s->dx, l->height * stride * sizeof *s->dx);
}

static void backward_chunk(layer *l, int chunk)
{
    const int pixels = l->height * l->width * l->channels, count = l->rows * l->columns * l->out;
    float *dw = l->partial + (size_t)chunk * l->gradient;
    range images = images_of(l, chunk);
    scratch s = {
        .x = zeros(pixels + LANES),
        .patches = zeros((l->width - K + 1) * l->height * l->slot + LANES),
        .at = malloc(count * sizeof *s.at),
        .dy = malloc(count * sizeof *s.dy),
        .dx = zeros(pixels + BLOCK * LANES),
        .terms = malloc(2 * (l->out + 1) * sizeof *s.terms),
    };
    if (!s.x || !s.patches || !s.at || !s.dy || !s.dx || !s.terms)
        l->failed = 1;
    else
        for (size_t image = images.first; image < images.end; image++) {
            memcpy(s.x, l->x + image * pixels, pixels * sizeof *s.x);
            unfold(l, s.x, s.patches);
            find_winners(l, image, &s);
            weight_gradient(l, &s, dw);
            if (l->dx)
                input_gradient(l, image, &s);
        }
    free(s.x);
    free(s.patches);
    free(s.at);
    free(s.dy);
    free(s.dx);
    free(s.terms);
}

/* Weights for the input's gradient: [block][out][1 + K rows][BLOCK vectors], with a row of zeros
 * above each kernel and below the last. K + 1 rows from the zeros are the kernel of a lower
 * window, K + 1 rows after them that of an upper one. */
static void pack_backward(layer *l)
{
    const int unit = BLOCK * LANES;
    for (int o = 0; o < l->out; o++) {
        float *to = l->packed + (o * (K + 1) + 1) * unit;
        for (int c = 0; c < l->channels; c++)
            for (int t = 0; t < K * K; t++) {
                int v = t % K * l->channels + c;
                to[v / unit * (l->out * (K + 1) + 1) * unit + t / K * unit + v % unit] =
                    l->weight[(o * l->channels + c) * K * K + t];
            }
    }
}

/* Where each cell's first patch lies. */
static void place_patches(layer *l)
{
    int *to = l->offset;
    for (int row = 0; row < l->rows; row++)
        for (int column = 0; column < l->columns; column++)
            for (int o = 0; o < l->out; o++)
                *to++ = 2 * (column * l->height + row) * l->slot;
}

static void prepare_backward(layer *l)
{
    const int run = K * l->channels;
    l->chunk = backward_chunk;
    /* Loads of whole vectors should not straddle cache lines, unless that makes them many more. */
    l->slot = 8 * whole(run, LANES) <= 9 * run ? whole(run, LANES) : run;
    l->patch = whole((K - 1) * l->slot + run, LANES);
    l->gradient = whole(l->out * (l->patch + 1), LANES);
    l->partial = zeros((size_t)(chunks_of(l) + 1) * l->gradient);
    l->packed = l->dx ? zeros(whole(run, BLOCK * LANES) * (l->out * (K + 1) + 1)) : NULL;
    l->offset = malloc((size_t)l->rows * l->columns * l->out * sizeof(int));
    l->failed = !l->partial || (l->dx && !l->packed) || !l->offset;
    if (l->failed)
        return;
    if (l->dx)
        pack_backward(l);
    place_patches(l);
}

/* Adds up the gradients of the chunks and puts them in the weights' order. */
static void finish_backward(const layer *l)
{
    const int chunks = chunks_of(l), kernel = l->channels * K * K;
    float *total = l->partial + (size_t)chunks * l->gradient;
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int i = 0; i < l->gradient; i++)
            total[i] += l->partial[(size_t)chunk * l->gradient + i];
    if (l->dbias)
        memcpy(l->dbias, total + l->out * l->patch, l->out * sizeof *l->dbias);
    for (int o = 0; o < l->out; o++)
        for (int c = 0; c < l->channels; c++)
            for (int t = 0; t < K * K; t++)
                l->dweight[o * kernel + c * K * K + t] =
                    total[o * l->patch + t / K * l->slot + t % K * l->channels + c];
}

/* `dx` and `dbias` may be NULL. */
int conv_pool_backward(const float *x, const float *weight, const uint8_t *winner, const float *dy,
                       float *dx, float *dweight, float *dbias, int batch, int channels, int height,
                       int width, int out, int threads)
{
    layer l = new_layer(x, weight, batch, channels, height, width, out);
    l.winner = (uint8_t *)winner;
    l.dy = dy;
    l.dx = dx;
    l.dweight = dweight;
    l.dbias = dbias;
    prepare_backward(&l);
    if (!l.failed) {
        share(layer_chunk, &l, chunks_of(&l), threads);
        finish_backward(&l);
    }
    release(&l);
    return l.failed;
}

/* ---- activations --------------------------------------------------------------------------- */

static inline vec choose(ints which, vec yes, vec no)
{
    return (vec)(((ints)yes & which) | ((ints)no & ~which));
}

/* Returns e ** x - 1 to a few units in the last place, also near 0; beyond `least` and `most`, what
 * it is there, which activations cannot tell from its limits. With n the whole number nearest
 * to x / ln 2 and r = x - n ln 2 it is 2 ** n (e ** r - 1) + 2 ** n - 1; Taylor's series of e ** r
 * is short, for r lies within 0.35 of 0. */
static inline vec exponential_minus_1(vec x)
{
    const vec zero = {0}, least = zero - 87, most = zero + 88;
    const float rounding = 12582912;  /* 1.5 * 2 ** 23: sums have no place for a fraction */
    x = choose(x < least, least, choose(x > most, most, x));
    const vec n = (x * 1.44269504f + rounding) - rounding;
    const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  /* ln 2, in two parts */
    const vec above = 1.f / 6 + r * (1.f / 24 + r * (1.f / 120 + r * (1.f / 720 + r / 5040)));
    const vec power = (vec)((__builtin_convertvector(n, ints) + 127) << 23);
    return power * (r + r * r * (0.5f + r * above)) + (power - 1);
}

/* Returns the activation of z and writes its slope there, as torch defines both. */
static inline vec activation_of(int activation, vec z, vec *slope)
{
    const vec zero = {0}, one = zero + 1;
    vec y, share;
    switch (activation) {
    case LEAKY_RELU:
        *slope = choose(z > 0, one, zero + 0.01f);
        return z * *slope;
    case ELU:
        y = choose(z > 0, z, exponential_minus_1(z));
        *slope = choose(z > 0, one, y + 1);
        return y;
    case TANH:
        y = exponential_minus_1(2 * z);
        y /= y + 2;
        *slope = 1 - y * y;
        return y;
    case SILU:
        share = 1 / (exponential_minus_1(-z) + 2);
        *slope = share + z * share * (1 - share);
        return z * share;
    default:  /* RELU, of which NaN stays NaN */
        *slope = choose(z <= 0, zero, one);
        return choose(z <= 0, zero, z);
    }
}

/* Replaces sums by their activations, and writes the slopes there. */
static void activate(int activation, float *y, float *slope, int count)
{
    vec z = {0}, rise;
    for (; count >= LANES; count -= LANES, y += LANES, slope += LANES) {
        *(loose *)y = activation_of(activation, *(loose *)y, &rise);
        *(loose *)slope = rise;
    }
    memcpy(&z, y, count * sizeof *y);
    z = activation_of(activation, z, &rise);
    memcpy(y, &z, count * sizeof *y);
    memcpy(slope, &rise, count * sizeof *slope);
}

/* ---- dense layers -------------------------------------------------------------------------- */

enum {
    SIDE = 4,                      /* rows of a tile of a product */
    VECTORS = LANES == 8 ? 2 : 4,  /* and vectors across */
    ACROSS = VECTORS * LANES,
};

typedef struct {
    const float *weight, *bias;  /* [out][in], [out] */
    float *x, *y, *dx;           /* [images][in_pitch], [images][out_pitch], [images][in_pitch] */
    const float *dy;             /* [images][out_pitch] */
    float *x_slope, *y_slope;    /* of the activation at each x and y; NULL where there is none */
    float *columns, *rows;       /* the weights as [in][whole(out, ACROSS)], [out][in_pitch] */
    float *dweight, *dbias;
    int in, out, in_pitch, out_pitch;  /* no matter what is between `in` and the pitch */
    int activation;
} dense;

static void copy_weights(const dense *d)
{
    const int pitch = whole(d->out, ACROSS);
    float *to;
    memset(d->columns, 0, (size_t)d->in * pitch * sizeof *to);
    /* A few rows at a time: each cache line is then read and written once. */
    for (int first = 0; first < d->out; first += LANES)
        for (int i = 0; i < d->in; i++)
            for (int o = first; o < min(first + LANES, d->out); o++)
                d->columns[i * pitch + o] = d->weight[o * d->in + i];
    for (int o = 0; o < d->out; o++) {
        to = d->rows + o * d->in_pitch;
        memcpy(to, d->weight + o * d->in, d->in * sizeof *to);
        memset(to + d->in, 0, (d->in_pitch - d->in) * sizeof *to);
    }
}

/* Adds up rows of `from`, `pitch` apart, each times a factor, `step` apart: SIDE sums of them. */
static inline __attribute__((always_inline)) void
combine(const float *const factor[SIDE], size_t step, const float *from, size_t pitch, int count,
        float result[SIDE][ACROSS])
{
    vec sum[SIDE][VECTORS] = {{{0}}};
    for (int k = 0; k < count; k++, from += pitch) {
        vec row[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            row[v] = *(const loose *)(from + v * LANES);
        for (int n = 0; n < SIDE; n++)
            for (int v = 0; v < VECTORS; v++)
                sum[n][v] += row[v] * factor[n][k * step];
    }
    memcpy(result, sum, SIDE * sizeof *result);
}

/* The rows of SIDE images from `first` on; the first again, where fewer are left. */
static void rows_of(const float *rows, int pitch, size_t first, range images,
                    const float *row[SIDE])
{
    for (int n = 0; n < SIDE; n++)
        row[n] = rows + (first + n < images.end ? first + n : first) * pitch;
}

static void dense_forward(const dense *d, range images)
{
    const int pitch = whole(d->out, ACROSS);
    const float *x[SIDE];
    for (size_t image = images.first; image < images.end; image += SIDE) {
        rows_of(d->x, d->in_pitch, image, images, x);
        for (int first = 0; first < d->out; first += ACROSS) {
            float result[SIDE][ACROSS];
            combine(x, 1, d->columns + first, pitch, d->in, result);
            for (int n = 0; n < SIDE && image + n < images.end; n++) {
                float *y = d->y + (image + n) * d->out_pitch + first;
                for (int o = 0; o < min(ACROSS, d->out - first); o++)
                    y[o] = result[n][o] + d->bias[first + o];
            }
        }
    }
    if (d->y_slope)
        for (size_t image = images.first; image < images.end; image++) {
            const size_t first = image * d->out_pitch;
            activate(d->activation, d->y + first, d->y_slope + first, d->out);
        }
}

static void dense_input_gradient(const dense *d, range images)
{
    const int relu = d->activation == RELU;
    const float *dy[SIDE];
    for (size_t image = images.first; image < images.end; image += SIDE) {
        rows_of(d->dy, d->out_pitch, image, images, dy);
        for (int first = 0; first < d->in; first += ACROSS) {
            float result[SIDE][ACROSS];
            combine(dy, 1, d->rows + first, d->in_pitch, d->out, result);
            for (int n = 0; n < SIDE && image + n < images.end; n++) {
                size_t to = (image + n) * d->in_pitch + first;
                for (int i = 0; i < min(ACROSS, d->in - first); i++) {
                    float slope = d->x_slope ? d->x_slope[to + i] : 1;
                    /* ReLU stops even what is not finite; the other activations do not hide it. */
                    d->dx[to + i] = relu & (slope == 0) ? 0 : result[n][i] * slope;
                }
            }
        }
    }
}

/* SIDE rows of the weights' gradient, and of the biases'. */
static void dense_weight_gradient(const dense *d, int batch, int first)
{
    const int used = min(SIDE, d->out - first);
    const float *dy[SIDE];
    for (int n = 0; n < SIDE; n++)
        dy[n] = d->dy + first + (n < used ? n : 0);
    for (int i = 0; i < d->in; i += ACROSS) {
        float result[SIDE][ACROSS];
        combine(dy, d->out_pitch, d->x + i, d->in_pitch, batch, result);
        for (int n = 0; n < used; n++)
            memcpy(d->dweight + (first + n) * d->in + i, result[n],
                   min(ACROSS, d->in - i) * sizeof **result);
    }
    for (int n = 0; n < used; n++) {
        float sum = 0;
        for (int k = 0; k < batch; k++)
            sum += dy[n][k * d->out_pitch];
        d->dbias[first + n] = sum;
    }
}

/* ---- LeNet-5 ------------------------------------------------------------------------------- */

enum { CONVOLUTIONS = 2, DENSE = 3 };

typedef struct {
    layer conv[CONVOLUTIONS];
    dense dense[DENSE];
    const float *images;        /* [passes][batch][channels][height][width] */
    const float *factor, *shift;  /* of each channel, or NULL */
    float *x;                   /* standardised images, channels last */
    const int64_t *labels;      /* [batch], or */
    const float *target;        /* [batch][classes] */
    float *logits;              /* [batch][classes], of several passes the mean */
    float *outputs, *doutputs;  /* [passes][batch][classes] */
    float smoothing, temperature, scale, l1, l2;
    int batch, passes, classes;
} network;

/* Memory that is given away from its beginning on; without any, it only counts. */
typedef struct { float *memory; size_t used; } arena;

static float *take(arena *a, size_t floats)
{
    float *taken = a->memory ? a->memory + a->used : NULL;
    a->used += (floats + 15) / 16 * 16;
    return taken;
}

static size_t cells_of(const layer *l) { return (size_t)l->rows * l->columns * l->out; }

static size_t pixels_of(const layer *l) { return (size_t)l->height * l->width; }

/* Gives all that the passes write its place; returns the number of floats. */
static size_t place(network *n, float *memory)
{
    const size_t images = n->conv->batch;
    arena a = {memory, 0};
    if (n->factor)
        n->conv->x = n->x = take(&a, images * pixels_of(n->conv) * n->conv->channels);
    for (int i = 0; i < CONVOLUTIONS; i++) {
        layer *l = n->conv + i;
        float *dy = take(&a, images * cells_of(l));
        l->dy = dy;
        l->y = take(&a, images * cells_of(l));
        l->winner = (uint8_t *)take(&a, (images * cells_of(l) + 3) / 4);
        l->slope = l->activation > ABSOLUTE ? take(&a, images * cells_of(l)) : NULL;
        if (i) {
            l->x = l[-1].y;
            l->dx = (float *)l[-1].dy;
        }
    }
    for (int i = 0; i < DENSE; i++) {
        dense *d = n->dense + i;
        d->x = take(&a, images * d->in_pitch);
        d->dx = take(&a, images * d->in_pitch);
        d->rows = take(&a, (size_t)d->out * d->in_pitch);
        d->columns = take(&a, (size_t)d->in * whole(d->out, ACROSS));
        if (i) {
            d[-1].y = d->x;
            d[-1].dy = d->dx;
            d[-1].y_slope = d->x_slope = take(&a, images * d->in_pitch);
        }
    }
    n->dense[DENSE - 1].y = n->outputs = take(&a, images * n->classes);
    n->dense[DENSE - 1].dy = n->doutputs = take(&a, images * n->classes);
    return a.used;
}

/* The dense layers take channels first, the convolutions leave them last. */
static void transpose(const float *from, int rows, int columns, float *to)
{
    for (int column = 0; column < columns; column++)
        for (int row = 0; row < rows; row++)
            *to++ = from[row * columns + column];
}

/* The probability that is asked of a class. */
static float asked(const network *n, size_t image, int class)
{
    float target;
    if (!n->labels)
        target = n->target[image * n->classes + class];
    else if (n->labels[image] >= 0 && n->labels[image] < n->classes)
        target = n->labels[image] == class;
    else
        return NAN;
    return target * (1 - n->smoothing) + n->smoothing / n->classes;
}

/* Returns an image's loss, with its logits and the gradient of each pass's. */
static float cross_entropy(network *n, size_t image)
{
    /* Of one pass, the second is the first again. */
    const size_t first = image * n->classes;
    const size_t second = (n->passes - 1) * (size_t)n->batch * n->classes;
    const float *output = n->outputs + first, heat = n->temperature;
    float *z = n->logits + first, *dz = n->doutputs + first;
    float largest = -INFINITY, sum = 0, all = 0, loss = 0;
    for (int c = 0; c < n->classes; c++) {
        z[c] = (output[c] + output[c + second]) / 2;
        largest = z[c] > largest ? z[c] : largest;
    }
    for (int c = 0; c < n->classes; c++)
        sum += dz[c] = expf((z[c] - largest) / heat);
    const float log_sum = logf(sum);
    for (int c = 0; c < n->classes; c++) {
        float target = asked(n, image, c);
        all += target;
        loss += target * (log_sum - (z[c] - largest) / heat);
    }
    for (int c = 0; c < n->classes; c++)
        dz[c] = dz[c + second] =
            (all * dz[c] / sum - asked(n, image, c)) * heat * n->scale / n->passes;
    return loss * heat * heat;
}

/* Puts an image's channels last, each times its factor. `channels` is a constant where it is
 * usual. */
static inline __attribute__((always_inline)) void
scale_channels(const float *restrict from, int pixels, const int channels,
               const float *restrict factor, float *restrict to)
{
    for (int i = 0; i < pixels; i++)
        for (int c = 0; c < channels; c++)
            to[i * channels + c] = from[c * pixels + i] * factor[c];
}

static inline __attribute__((always_inline)) void
shift_channels(float *restrict to, int pixels, const int channels, const float *restrict shift)
{
    for (int i = 0; i < pixels; i++)
        for (int c = 0; c < channels; c++)
            to[i * channels + c] += shift[c];
}

/* Standardises an image. In two steps, for torch rounds twice. */
static inline __attribute__((always_inline)) void
standardize(const network *n, const float *from, const int channels, float *to)
{
    const int pixels = pixels_of(n->conv);
    scale_channels(from, pixels, channels, n->factor, to);
    __asm__ volatile("" ::: "memory");  /* no product may join its sum */
    shift_channels(to, pixels, channels, n->shift);
}

static void prepare_image(const network *n, size_t image)
{
    const int channels = n->conv->channels;
    const size_t first = image * pixels_of(n->conv) * channels;
    switch (channels) {
    case 1: standardize(n, n->images + first, 1, n->x + first); break;
    case 3: standardize(n, n->images + first, 3, n->x + first); break;
    default: standardize(n, n->images + first, channels, n->x + first);
    }
}

static void forward(void *task, int chunk)
{
    network *n = task;
    layer *last = n->conv + CONVOLUTIONS - 1;
    dense *d = n->dense;
    range images = images_of(last, chunk);
    for (size_t image = images.first; n->factor && image < images.end; image++)
        prepare_image(n, image);
    for (layer *l = n->conv; l <= last; l++) {
        const size_t first = images.first * cells_of(l), end = images.end * cells_of(l);
        l->chunk(l, chunk);
        if (l->slope)
            activate(l->activation, l->y + first, l->slope + first, end - first);
    }
    for (size_t image = images.first; image < images.end; image++)
        transpose(last->y + image * cells_of(last), last->rows * last->columns, last->out,
                  d->x + image * d->in_pitch);
    for (int i = 0; i < DENSE; i++)
        dense_forward(d + i, images);
}

static void backward(void *task, int chunk)
{
    network *n = task;
    layer *last = n->conv + CONVOLUTIONS - 1;
    dense *d = n->dense;
    range images = images_of(last, chunk);
    for (int i = DENSE - 1; i >= 0; i--)
        dense_input_gradient(d + i, images);
    for (size_t image = images.first; image < images.end; image++)
        transpose(d->dx + image * d->in_pitch, last->out, last->rows * last->columns,
                  (float *)last->dy + image * cells_of(last));
    for (layer *l = last; l >= n->conv; l--) {
        const size_t first = images.first * cells_of(l), end = images.end * cells_of(l);
        float *dy = (float *)l->dy;
        if (l->slope)
            for (size_t i = first; i < end; i++)
                dy[i] *= l->slope[i];
        l->chunk(l, chunk);
    }
}

static int pieces_of(const dense *d) { return blocks_of(d->out, SIDE); }

/* Pieces are numbered through the layers. */
static void weight_gradients(void *task, int piece)
{
    network *n = task;
    const dense *d = n->dense;
    for (; piece >= pieces_of(d); d++)
        piece -= pieces_of(d);
    dense_weight_gradient(d, n->conv->batch, piece * SIDE);
}

/* Runs `piece` on all chunks after `prepare` has prepared the convolutions. */
static int pass(network *n, void (*prepare)(layer *), void (*piece)(void *, int), int threads)
{
    int failed = 0;
    for (int i = 0; i < CONVOLUTIONS; i++) {
        prepare(n->conv + i);
        failed |= n->conv[i].failed;
    }
    if (!failed)
        share(piece, n, chunks_of(n->conv), threads);
    for (int i = 0; i < CONVOLUTIONS; i++)
        failed |= n->conv[i].failed;
    return failed;
}

/* Returns l1 * sum(|w|) + l2 * sum(w ** 2), and adds its gradient. In vectors, for gcc keeps the
 * order of a sum of floats. */
static float penalize(const float *w, float *dw, int count, float l1, float l2)
{
    vec sum = {0}, squares = {0};
    float penalty = 0;
    int i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec own = *(const loose *)(w + i);
        const vec sign = __builtin_convertvector((own < 0) - (own > 0), vec);
        *(loose *)(dw + i) += 2 * l2 * own + l1 * sign;
        sum += own * sign;
        squares += own * own;
    }
    for (; i < count; i++) {
        const float sign = (w[i] > 0) - (w[i] < 0);
        dw[i] += 2 * l2 * w[i] + l1 * sign;
        penalty += l1 * w[i] * sign + l2 * w[i] * w[i];
    }
    for (int lane = 0; lane < LANES; lane++)
        penalty += l1 * sum[lane] + l2 * squares[lane];
    return penalty;
}

static float penalize_all(const network *n)
{
    float penalty = 0;
    for (const layer *l = n->conv; l < n->conv + CONVOLUTIONS; l++)
        penalty += penalize(l->weight, l->dweight, l->out * l->channels * K * K, n->l1, n->l2);
    for (const dense *d = n->dense; d < n->dense + DENSE; d++)
        penalty += penalize(d->weight, d->dweight, d->out * d->in, n->l1, n->l2);
    return penalty;
}

static void release_all(network *n)
{
    for (int i = 0; i < CONVOLUTIONS; i++)
        release(n->conv + i);
}

static network new_network(const float *x, const float *const *parameters,
                           float *const *gradients, const int *out, int batch, int passes,
                           int channels, int height, int width, const int *activations)
{
    network n = {.images = x, .batch = batch, .passes = passes,
                 .classes = out[CONVOLUTIONS + DENSE - 1]};
    int in = channels;
    for (int i = 0; i < CONVOLUTIONS; i++, parameters += 2, gradients += 2) {
        layer *l = n.conv + i;
        *l = new_layer(x, parameters[0], passes * batch, in, height, width, *out);
        l->bias = parameters[1];
        l->activation = *activations++;
        l->dweight = gradients[0];
        l->dbias = gradients[1];
        in = *out++;
        height = l->rows;
        width = l->columns;
    }
    in *= height * width;
    for (int i = 0; i < DENSE; i++, parameters += 2, gradients += 2) {
        int last = i == DENSE - 1;
        n.dense[i] = (dense){
            .weight = parameters[0], .bias = parameters[1], .dweight = gradients[0],
            .dbias = gradients[1], .in = in, .out = *out, .activation = *activations,
            .in_pitch = whole(in, ACROSS), .out_pitch = last ? *out : whole(*out, ACROSS)};
        in = *out++;
    }
    return n;
}

/* Returns 1 when memory ran out. */
static int compute(network *n, float *loss, int threads)
{
    int failed, pieces = 0;
    *loss = 0;
    for (dense *d = n->dense; d < n->dense + DENSE; d++) {
        copy_weights(d);
        pieces += pieces_of(d);
    }
    failed = pass(n, prepare_forward, forward, threads);
    release_all(n);
    for (int image = 0; image < n->batch && !failed; image++)
        *loss += cross_entropy(n, image);
    failed = failed || pass(n, prepare_backward, backward, threads);
    if (!failed) {
        share(weight_gradients, n, pieces, threads);
        for (int i = 0; i < CONVOLUTIONS; i++)
            finish_backward(n->conv + i);
        if (n->l1 || n->l2)
            *loss += n->batch * penalize_all(n);
    }
    release_all(n);
    return failed;
}

/* Images are [passes, batch, channels, height, width]. Each channel is multiplied by its `factor`
 * and gets its `shift`; both may be NULL where there is one channel. An image's logits are the mean
 * of its passes'. `parameters` and `gradients` are those of the five layers in turn, weights and
 * biases, and `out` their widths; the first bias may be NULL, with its gradient. One of `labels`
 * and `target` is NULL. `activations` are those of each convolution and of the hidden dense layers.
 * `loss` is the sum over the images, the penalty with each. */
int lenet5_gradients(const float *x, const float *factor, const float *shift,
                     const float *const *parameters, const int64_t *labels,
                     const float *target, float *const *gradients, float *loss, float *logits,
                     const int *out, int batch, int passes, int channels, int height, int width,
                     const int *activations, float smoothing, float temperature, float scale,
                     float l1, float l2, int threads)
{
    network n = new_network(x, parameters, gradients, out, batch, passes, channels, height, width,
                            activations);
    n.factor = factor;
    n.shift = shift;
    n.labels = labels;
    n.target = target;
    n.logits = logits;
    n.smoothing = smoothing;
    n.temperature = temperature;
    n.scale = scale;
    n.l1 = l1;
    n.l2 = l2;
    float *memory = floats(place(&n, NULL));
    if (!memory)
        return 1;
    place(&n, memory);
    int failed = compute(&n, loss, threads);
    free(memory);
    return failed;
}
