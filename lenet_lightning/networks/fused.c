/* A 5x5 convolution, 2x2 max-pooling and an optional ReLU or absolute value as one layer, forward
 * and backward.
 *
 * On a handful of channels it beats convolution and pooling as separate calls because
 *   - the convolution's full map is never written: the four sums of a pooled cell stay in vector
 *     registers, and only the largest and its position reach memory;
 *   - the forward pass is one small matrix product whose vector lanes run over output channels;
 *   - the backward pass visits only the window that won each cell, a quarter of the map, and
 *     skips the cells that ReLU silenced; its lanes run along a row of the 5x5 patch.
 *
 * Images are [batch, height, width, channels], so that a row of a patch, 5 * channels numbers, is
 * contiguous. Weights are [out, channels, 5, 5]. `winner` holds for each pooled cell the window
 * (2 * dy + dx) of its maximum, plus NEGATIVE where an absolute value changed its sign, or SILENT
 * where nothing flows back: ReLU returned zero, or the largest absolute value is zero.
 * Several sets of weights can work at once, each on images of its own: weights are then
 * [sets, out, channels, 5, 5], and images [batch, sets, height, width, channels].
 * The batch is cut into chunks of one set, whose gradients are added in order: results depend
 * neither on the number of threads nor on the other sets. Both entry points return 0, or 1 when
 * memory ran out.
 */
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
    SILENT = 4,
    NEGATIVE = 8,
    ROW = 16,   /* the forward pass computes TILE rows of 16 sums, in PARTS vectors each: */
    PARTS = ROW / LANES,
    TILE = LANES == 16 ? 8 : 4,  /* as many as registers hold */
    BLOCK = 8,  /* vectors of sums held by the input's gradient */
    CHUNK = 8,  /* images that a thread takes at a time */
};

typedef float vec __attribute__((vector_size(4 * LANES)));
enum { NONE, RELU, ABSOLUTE };  /* what follows the convolution; known to fused.py */

/* The same vector anywhere in an array of floats. */
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct layer {
    const float *x, *weight, *bias, *dy;
    float *y, *dx, *packed, *partial;
    uint8_t *winner;
    int *offset;        /* of each tap in the image, from the patch's first */
    int batch, sets, channels, height, width, out, activation;
    int rows, columns;  /* of the pooled map */
    int span, patch;    /* floats in a row of a patch and in a cell's patch, rounded up */
    int packing, gradient;  /* floats of `packed` and of `partial` that one set or chunk takes */
    int next, failed;   /* next chunk to take; whether any thread ran out of memory */
    void (*chunk)(struct layer *, int);
} layer;

/* Threads are borrowed from the OpenMP runtime that torch has loaded, so that there is never a
 * second pool of them on the same cores; without one, the caller does all the work. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));

static int chunks_of(const layer *l) { return (l->batch + CHUNK - 1) / CHUNK; }

static void work(void *task)
{
    layer *l = task;
    int chunks = l->sets * chunks_of(l), i;
    while ((i = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED)) < chunks)
        l->chunk(l, i);
}

static void share(layer *l, int threads)
{
    int chunks = l->sets * chunks_of(l);
    if (threads > chunks)
        threads = chunks;
    if (threads > 1 && GOMP_parallel)
        GOMP_parallel(work, l, threads, 0);
    else
        work(l);
}

static int min(int a, int b) { return a < b ? a : b; }

/* Chunks go through one set after another, so that its weights stay in the cache. */
static int set_of(const layer *l, int chunk) { return chunk / chunks_of(l); }

/* A chunk's images, first and one past the last; they lie `sets` apart. */
typedef struct { size_t first, end; } range;

static range images_of(const layer *l, int chunk)
{
    int first = chunk % chunks_of(l) * CHUNK, end = min(first + CHUNK, l->batch);
    size_t set = set_of(l, chunk), sets = l->sets;
    return (range){first * sets + set, end * sets + set};
}

static int whole(int count, int unit) { return (count + unit - 1) / unit * unit; }

/* Aligned to cache lines, which loads of whole vectors should not straddle. */
static float *zeros(size_t count)
{
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    float *array = aligned_alloc(64, bytes);
    return array ? memset(array, 0, bytes) : NULL;
}

/* ---- forward ------------------------------------------------------------------------------- */

/* Few channels would leave lanes empty, so a row of sums then holds two windows side by side:
 * `pair` is 2, a patch row is one pixel wider, and the weights of the second half are shifted by
 * one, with zeros around them (so that an infinite pixel may come out as NaN). */
static int pair_of(int out) { return 2 * out <= ROW ? 2 : 1; }

/* Weights as [set][block][1 + taps][ROW], the first row being the biases; and the taps' places in
 * an image. */
static int pack_forward(layer *l)
{
    int pair = pair_of(l->out), half = ROW / pair, blocks = (l->out + half - 1) / half;
    int run = (K + pair - 1) * l->channels, size = (1 + K * run) * ROW;
    l->packing = blocks * size;
    l->packed = zeros((size_t)l->sets * l->packing);
    l->offset = malloc(K * run * sizeof(int));
    if (!l->packed || !l->offset)
        return 1;
    for (int i = 0; i < K * run; i++)
        l->offset[i] = i / run * l->width * l->channels + i % run;
    for (int n = 0; n < l->sets * l->out; n++)
        for (int dx = 0; dx < pair; dx++) {
            int set = n / l->out, o = n % l->out;
            float *to = l->packed + set * l->packing + o / half * size + o % half + dx * half;
            *to = l->bias ? l->bias[n] : 0;
            for (int c = 0; c < l->channels; c++)
                for (int t = 0; t < K * K; t++)
                    to[(1 + t / K * run + (t % K + dx) * l->channels + c) * ROW] =
                        l->weight[(n * l->channels + c) * K * K + t];
        }
    return 0;
}

/* `pair` and `absolute` are constants where it is called, so that each has code of its own. */
static inline __attribute__((always_inline)) void
forward_image(const layer *l, const float *packed, size_t image, int first, const int pair,
              const int absolute)
{
    const int relu = l->activation == RELU;
    const int half = ROW / pair, used = min(half, l->out - first), cells = l->rows * l->columns;
    const int stride = l->width * l->channels, taps = K * (K + pair - 1) * l->channels;
    packed += first / half * (1 + taps) * ROW;
    const float *x = l->x + image * l->height * stride;
    for (int begin = 0; begin < cells; begin += TILE * pair / 4) {
        const float *from[TILE];
        vec sum[TILE][PARTS];
        for (int n = 0; n < TILE; n++) {
            /* Beyond the last cell the tile repeats it. */
            int cell = min(begin + n * pair / 4, cells - 1), window = n * pair % 4;
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

        /* Read as floats, the tile is [cell][window][half] whatever `pair` is. */
        float sums[TILE * ROW], largest[ROW];
        int where[ROW];
        uint8_t bytes[ROW];
        memcpy(sums, sum, sizeof sums);
        for (int cell = begin; cell < min(begin + TILE * pair / 4, cells); cell++) {
            const float *s = sums + (cell - begin) * 4 * half;
            for (int o = 0; o < half; o++) {
                /* As in torch, the first of equals wins and NaN beats every number. */
                float best = absolute ? __builtin_fabsf(s[o]) : s[o];
                int at = absolute & (s[o] < 0) ? NEGATIVE : 0;
                for (int window = 1; window < 4; window++) {
                    float sum = s[window * half + o];
                    float value = absolute ? __builtin_fabsf(sum) : sum;
                    int better = (value > best) | (value != value);
                    best = better ? value : best;
                    at = better ? window + (absolute & (sum < 0) ? NEGATIVE : 0) : at;
                }
                int silent = (relu & (best <= 0)) | (absolute & (best == 0));
                largest[o] = silent ? 0 : best;
                where[o] = silent ? SILENT : at;
            }
            for (int o = 0; o < half; o++)
                bytes[o] = where[o];
            /* Whole vectors are quicker to write; what spills over is overwritten in turn. */
            int to = cell * l->out + first;
            float *y = l->y + image * cells * l->out + to;
            uint8_t *winner = l->winner + image * cells * l->out + to;
            if (to + half <= cells * l->out) {
                memcpy(y, largest, half * sizeof *y);
                memcpy(winner, bytes, half);
            } else {
                memcpy(y, largest, used * sizeof *y);
                memcpy(winner, bytes, used);
            }
        }
    }
}

static void forward_chunk(layer *l, int chunk)
{
    int pair = pair_of(l->out), half = ROW / pair;
    const float *packed = l->packed + set_of(l, chunk) * l->packing;
    range images = images_of(l, chunk);
    /* The last block, which may spill over, comes first. */
    for (int first = (l->out - 1) / half * half; first >= 0; first -= half)
        for (size_t image = images.first; image < images.end; image += l->sets)
            if (l->activation == ABSOLUTE)
                pair == 2 ? forward_image(l, packed, image, first, 2, 1)
                          : forward_image(l, packed, image, first, 1, 1);
            else
                pair == 2 ? forward_image(l, packed, image, first, 2, 0)
                          : forward_image(l, packed, image, first, 1, 0);
}

int conv_pool_forward(const float *x, const float *weight, const float *bias, float *y,
                      uint8_t *winner, int batch, int sets, int channels, int height, int width,
                      int out, int activation, int threads)
{
    layer l = {.x = x, .weight = weight, .bias = bias, .y = y, .winner = winner, .batch = batch,
               .sets = sets, .channels = channels, .height = height, .width = width, .out = out,
               .activation = activation,
               .rows = (height - K + 1) / 2, .columns = (width - K + 1) / 2,
               .chunk = forward_chunk};
    int failed = pack_forward(&l);
    if (!failed)
        share(&l, threads);
    free(l.packed);
    free(l.offset);
    return failed;
}

/* ---- backward ------------------------------------------------------------------------------ */

typedef struct { int at; float dy; } term;  /* one live cell's share: `dy` times what lies `at` */

/* The gradient of a cell's sum, given that of the cell. */
static float signed_dy(int winner, float dy) { return winner & NEGATIVE ? -dy : dy; }

/* Adds the gradients of one image to the weights' [out][K][span] and the biases' [out]. Rows of
 * patches are read as whole vectors: `x` needs room for that, and lanes past the row are unused. */
static void weight_gradient(const layer *l, size_t image, const float *x, float *dw, term *live)
{
    const int pixel = l->channels, stride = l->width * pixel, span = l->span;
    const int step[] = {0, pixel, stride, stride + pixel, 0};
    float *db = dw + l->out * K * span;
    for (int o = 0; o < l->out; o++) {
        size_t from = image * l->rows * l->columns * l->out + o;
        int count = 0;
        float bias = 0;
        for (int row = 0; row < l->rows; row++)
            for (int column = 0; column < l->columns; column++, from += l->out) {
                int winner = l->winner[from];
                float dy = signed_dy(winner, l->dy[from]);
                live[count].at = 2 * (row * stride + column * pixel) + step[winner & ~NEGATIVE];
                live[count].dy = dy;
                bias += winner == SILENT ? 0 : dy;
                count += winner != SILENT;
            }
        db[o] += bias;
        for (int v = 0; v < span; v += LANES) {
            float *to = dw + o * K * span + v;
            const float *patch = x + v;
            vec sum[K];
            for (int row = 0; row < K; row++)
                sum[row] = *(loose *)(to + row * span);
            for (int i = 0; i < count; i++)
                for (int row = 0; row < K; row++)
                    sum[row] += *(const loose *)(patch + live[i].at + row * stride) * live[i].dy;
            for (int row = 0; row < K; row++)
                *(loose *)(to + row * span) = sum[row];
        }
    }
}

/* Writes the gradient of one image, a pooled cell's patch of 6x6 pixels at a time. */
static void input_gradient(const layer *l, const float *packed, size_t image, float *dx,
                           float *patch, term *live)
{
    const int stride = l->width * l->channels, side = (K + 1) * l->channels;
    memset(dx, 0, (size_t)l->height * stride * sizeof *dx);
    for (int cell = 0; cell < l->rows * l->columns; cell++) {
        size_t from = (image * l->rows * l->columns + cell) * l->out;
        int count = 0;
        for (int o = 0; o < l->out; o++) {
            int winner = l->winner[from + o];
            live[count].at = (4 * o + (winner & ~NEGATIVE)) * l->patch;
            live[count].dy = signed_dy(winner, l->dy[from + o]);
            count += winner != SILENT;
        }
        for (int v = 0; v < l->patch; v += BLOCK * LANES) {
            vec sum[BLOCK] = {{0}};
            for (int i = 0; i < count; i++)
                for (int n = 0; n < BLOCK; n++)
                    sum[n] += *(loose *)(packed + live[i].at + v + n * LANES) * live[i].dy;
            memcpy(patch + v, sum, sizeof sum);
        }
        float *to = dx + 2 * (cell / l->columns * stride + cell % l->columns * l->channels);
        for (int row = 0; row <= K; row++)
            for (int i = 0; i < side; i++)
                to[row * stride + i] += patch[row * side + i];
    }
}

static void backward_chunk(layer *l, int chunk)
{
    const int pixels = l->height * l->width * l->channels, cells = l->rows * l->columns;
    const float *packed = l->dx ? l->packed + set_of(l, chunk) * l->packing : NULL;
    float *dw = l->partial + (size_t)chunk * l->gradient;
    range images = images_of(l, chunk);
    float *x = zeros(pixels + l->span), *patch = zeros(l->patch);
    term *live = malloc((cells + l->out + 1) * sizeof *live);
    if (!x || !patch || !live)
        l->failed = 1;
    else
        for (size_t image = images.first; image < images.end; image += l->sets) {
            memcpy(x, l->x + image * pixels, pixels * sizeof *x);
            weight_gradient(l, image, x, dw, live);
            if (l->dx)
                input_gradient(l, packed, image, l->dx + image * pixels, patch, live);
        }
    free(x);
    free(patch);
    free(live);
}

/* Weights for the input's gradient: [set][out][window][patch], each kernel within the 6x6 patch of
 * a pooled cell at the window's place, zeros around it. */
static void pack_backward(layer *l)
{
    for (int o = 0; o < l->sets * l->out; o++)
        for (int window = 0; window < 4; window++)
            for (int c = 0; c < l->channels; c++)
                for (int t = 0; t < K * K; t++) {
                    int row = t / K + window / 2, column = t % K + window % 2;
                    l->packed[(4 * o + window) * l->patch
                              + (row * (K + 1) + column) * l->channels + c] =
                        l->weight[(o * l->channels + c) * K * K + t];
                }
}

/* Adds up the gradients of a set's chunks and puts them in the weights' order. */
static void sum_chunks(const layer *l, int set, float *total, float *dweight, float *dbias)
{
    const int chunks = chunks_of(l);
    const float *partial = l->partial + (size_t)set * chunks * l->gradient;
    memset(total, 0, l->gradient * sizeof *total);
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int i = 0; i < l->gradient; i++)
            total[i] += partial[(size_t)chunk * l->gradient + i];
    memcpy(dbias, total + l->out * K * l->span, l->out * sizeof *dbias);
    for (int o = 0; o < l->out; o++)
        for (int c = 0; c < l->channels; c++)
            for (int t = 0; t < K * K; t++)
                dweight[(o * l->channels + c) * K * K + t] =
                    total[(o * K + t / K) * l->span + t % K * l->channels + c];
}

/* `dx` may be NULL. */
int conv_pool_backward(const float *x, const float *weight, const uint8_t *winner, const float *dy,
                       float *dx, float *dweight, float *dbias, int batch, int sets, int channels,
                       int height, int width, int out, int threads)
{
    layer l = {.x = x, .weight = weight, .winner = (uint8_t *)winner, .dy = dy, .dx = dx,
               .batch = batch, .sets = sets, .channels = channels, .height = height,
               .width = width, .out = out,
               .rows = (height - K + 1) / 2, .columns = (width - K + 1) / 2,
               .span = whole(K * channels, LANES),
               .patch = whole((K + 1) * (K + 1) * channels, BLOCK * LANES),
               .chunk = backward_chunk};
    int chunks = sets * chunks_of(&l), kernel = channels * K * K;
    l.gradient = whole(out * (K * l.span + 1), LANES);
    l.packing = out * 4 * l.patch;
    l.partial = zeros((size_t)(chunks + 1) * l.gradient);
    l.packed = dx ? zeros((size_t)sets * l.packing) : NULL;
    if (!l.partial || (dx && !l.packed))
        l.failed = 1;
    else {
        if (dx)
            pack_backward(&l);
        share(&l, threads);
        for (int set = 0; set < sets; set++)
            sum_chunks(&l, set, l.partial + (size_t)chunks * l.gradient,
                       dweight + set * out * kernel, dbias + set * out);
    }
    free(l.partial);
    free(l.packed);
    return l.failed;
}
