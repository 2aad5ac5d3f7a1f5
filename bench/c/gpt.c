// A GPT's training step (W4, W8) in C: pre-norm blocks, head tied to the embedding, forward, backward, clipping, AdamW. Plain loops shared out by OpenMP,
// or with the products of the dense layers and of the head on OpenBLAS. Build with -Ofast -march=native -fopenmp.
//
//   gpt TEXT [--blas]         reads lines "WORK STEPS", answers each with {"seconds": ..., "loss": ...}
//   gpt --blas --there        says whether there is an OpenBLAS: exit status 0
//   gpt --steps FILE [--blas] does the steps of FILE and writes loss and gradients of the first of them and the weights after the last: peers.py check-c
//                             compares them with PyTorch's
//
// Rows are the positions of all examples, R = B·T. Weights lie as PyTorch's, (outputs, inputs), one tensor after another in PyTorch's order of the model in
// peers.py. Every activation of the forward half is kept for the backward half.
#include <dlfcn.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct config {
	int vocab, positions, layers, heads, width, bias, tanh; // tanh: the approximation of GELU, else erf
	int batch, block;
	float lr, beta1, beta2, decay, clip; // clip: 0 is none
	int warmup;                          // of a cosine that goes on for ever; 0: the rate stays
};

static struct config c;
static int R; // rows

// Where weights begin in w, and likewise their gradients in g.
struct layer {
	long norm1, norm1b, norm2, norm2b, qkv, qkvb, proj, projb, up, upb, down, downb;
};
static struct layer *at;
static long tokens, positions, norm, normb, count;
static float *w, *g, *m1, *m2;
static char *decays; // by tensor: matrices decay
static long *ends;   // by tensor
static int tensors;

// What a layer keeps. x comes in, x2 is in the middle, x3 goes out.
struct kept {
	float *n1, *mean1, *r1, *qkv, *att, *ctx, *x2, *n2, *mean2, *r2, *up, *act, *x3;
};
static struct kept *k;
static float *x0, *nf, *meanf, *rf, *logits;
static float *dx, *dn, *dqkv, *datt, *dctx, *dup; // gradients on the way back
static int *ids, *targets;

static float *floats(long n) {
	float *p = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
	if (!p) {
		fprintf(stderr, "no memory for %ld numbers\n", n);
		exit(1);
	}
	memset(p, 0, n * sizeof(float));
	return p;
}

static long add(long n, int matrix) {
	long begin = count;
	count += n;
	decays = realloc(decays, tensors + 1);
	ends = realloc(ends, (tensors + 1) * sizeof *ends);
	decays[tensors] = matrix;
	ends[tensors++] = count;
	return begin;
}

// make lays out a model.
static void make(void) {
	const long C = c.width;
	R = c.batch * c.block;
	tokens = add(c.vocab * C, 1);
	positions = add(c.positions * C, 1);
	at = calloc(c.layers, sizeof *at);
	k = calloc(c.layers, sizeof *k);
	for (int l = 0; l < c.layers; l++) {
		struct layer *p = at + l;
#define VECTOR(field, n) p->field = add(n, 0)
#define BIAS(field, n) p->field = c.bias ? add(n, 0) : -1
		VECTOR(norm1, C), BIAS(norm1b, C), VECTOR(norm2, C), BIAS(norm2b, C);
		p->qkv = add(3 * C * C, 1), BIAS(qkvb, 3 * C);
		p->proj = add(C * C, 1), BIAS(projb, C);
		p->up = add(4 * C * C, 1), BIAS(upb, 4 * C);
		p->down = add(4 * C * C, 1), BIAS(downb, C);
		struct kept *q = k + l;
		q->n1 = floats(R * C), q->mean1 = floats(R), q->r1 = floats(R), q->qkv = floats(3 * R * C);
		q->att = floats((long)c.heads * R * c.block), q->ctx = floats(R * C), q->x2 = floats(R * C);
		q->n2 = floats(R * C), q->mean2 = floats(R), q->r2 = floats(R), q->up = floats(4 * R * C), q->act = floats(4 * R * C), q->x3 = floats(R * C);
	}
	norm = add(C, 0), normb = c.bias ? add(C, 0) : -1;
	w = floats(count), g = floats(count), m1 = floats(count), m2 = floats(count);
	x0 = floats(R * C), nf = floats(R * C), meanf = floats(R), rf = floats(R), logits = floats((long)R * c.vocab);
	dx = floats(R * C), dn = floats(R * C), dqkv = floats(3 * R * C), datt = floats((long)c.heads * R * c.block), dctx = floats(R * C), dup = floats(4 * R * C);
	ids = calloc(R, sizeof *ids), targets = calloc(R, sizeof *targets);
}

// Products. y (rows,out) = x (rows,in)·wᵀ + b and its gradients, w (out,in).

typedef void gemm(int order, int transA, int transB, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb, float beta,
                  float *c, int ldc);
static gemm *blas; // 0: loops
enum { ROWS = 101, NO = 111, YES = 112, BLOCK = 8 };

static int least(int a, int b) { return a < b ? a : b; }

// share gives a thread of a parallel region its part of n, in multiples of 16.
static void share(int n, int *lo, int *len) {
	int each = ((n + omp_get_num_threads() - 1) / omp_get_num_threads() + 15) / 16 * 16;
	*lo = least(n, each * omp_get_thread_num());
	*len = least(n - *lo, each);
}

static void dense(float *y, const float *x, const float *wt, const float *b, int rows, int in, int out) {
	if (blas) {
#pragma omp parallel
		{
			int lo, n;
			if (rows >= out) { // rows are shared out, or outputs
				share(rows, &lo, &n);
				if (n > 0)
					blas(ROWS, NO, YES, n, out, in, 1, x + (long)lo * in, in, wt, in, 0, y + (long)lo * out, out);
			} else {
				share(out, &lo, &n);
				if (n > 0)
					blas(ROWS, NO, YES, rows, n, in, 1, x, in, wt + (long)lo * in, in, 0, y + lo, out);
			}
#pragma omp barrier
			if (b)
#pragma omp for
				for (int r = 0; r < rows; r++)
					for (int o = 0; o < out; o++)
						y[(long)r * out + o] += b[o];
		}
		return;
	}
#pragma omp parallel for
	for (int r = 0; r < rows; r += BLOCK) { // a row of weights serves a block of rows
		int n = least(BLOCK, rows - r);
		for (int o = 0; o < out; o++) {
			const float *row = wt + (long)o * in;
			float s[BLOCK];
			for (int j = 0; j < BLOCK; j++)
				s[j] = b ? b[o] : 0;
			if (n == BLOCK)
				for (int i = 0; i < in; i++)
					for (int j = 0; j < BLOCK; j++)
						s[j] += x[(long)(r + j) * in + i] * row[i];
			else
				for (int j = 0; j < n; j++)
					for (int i = 0; i < in; i++)
						s[j] += x[(long)(r + j) * in + i] * row[i];
			for (int j = 0; j < n; j++)
				y[(long)(r + j) * out + o] = s[j];
		}
	}
}

// dx = dy·w, set or added to; dw += dyᵀ·x; db += column sums of dy. dw and db begin with zeros.
static void dense_back(float *dx, float *dw, float *db, const float *dy, const float *x, const float *wt, int rows, int in, int out, int addx) {
	if (blas) {
#pragma omp parallel
		{
			int lo, n;
			if (rows >= in) {
				share(rows, &lo, &n);
				if (n > 0)
					blas(ROWS, NO, NO, n, in, out, 1, dy + (long)lo * out, out, wt, in, addx, dx + (long)lo * in, in);
			} else {
				share(in, &lo, &n);
				if (n > 0)
					blas(ROWS, NO, NO, rows, n, out, 1, dy, out, wt + lo, in, addx, dx + lo, in);
			}
			share(out, &lo, &n);
			if (n > 0)
				blas(ROWS, YES, NO, n, in, rows, 1, dy + lo, out, x, in, 1, dw + (long)lo * in, in);
			if (db)
				for (int r = 0; r < rows; r++)
					for (int o = lo; o < lo + n; o++)
						db[o] += dy[(long)r * out + o];
		}
		return;
	}
#pragma omp parallel for
	for (int r = 0; r < rows; r++) {
		float *d = dx + (long)r * in;
		if (!addx)
			memset(d, 0, in * sizeof *d);
		for (int o = 0; o < out; o++) {
			const float *row = wt + (long)o * in, v = dy[(long)r * out + o];
			for (int i = 0; i < in; i++)
				d[i] += row[i] * v;
		}
	}
#pragma omp parallel for
	for (int o = 0; o < out; o++) {
		float *d = dw + (long)o * in, sum = 0;
		for (int r = 0; r < rows; r++) {
			const float *row = x + (long)r * in, v = dy[(long)r * out + o];
			sum += v;
			for (int i = 0; i < in; i++)
				d[i] += row[i] * v;
		}
		if (db)
			db[o] += sum;
	}
}

static void layernorm(float *y, float *mean, float *rstd, const float *x, const float *gain, const float *bias) {
	const int C = c.width;
#pragma omp parallel for
	for (int r = 0; r < R; r++) {
		const float *a = x + (long)r * C;
		float sum = 0, square = 0;
		for (int i = 0; i < C; i++)
			sum += a[i];
		float m = sum / C;
		for (int i = 0; i < C; i++)
			square += (a[i] - m) * (a[i] - m);
		float s = 1 / sqrtf(square / C + 1e-5f);
		for (int i = 0; i < C; i++)
			y[(long)r * C + i] = (a[i] - m) * s * gain[i] + (bias ? bias[i] : 0);
		mean[r] = m, rstd[r] = s;
	}
}

// dx = or += the gradient of the input.
static void layernorm_back(float *dx, float *dgain, float *dbias, const float *dy, const float *x, const float *mean, const float *rstd, const float *gain,
                           int addx) {
	const int C = c.width;
#pragma omp parallel for
	for (int r = 0; r < R; r++) {
		const float *a = x + (long)r * C, *d = dy + (long)r * C;
		float *o = dx + (long)r * C, m = mean[r], s = rstd[r], sum = 0, dot = 0;
		for (int i = 0; i < C; i++) {
			float v = d[i] * gain[i];
			sum += v;
			dot += v * (a[i] - m) * s;
		}
		sum /= C, dot /= C;
		for (int i = 0; i < C; i++) {
			float v = s * (d[i] * gain[i] - sum - (a[i] - m) * s * dot);
			o[i] = addx ? o[i] + v : v;
		}
	}
#pragma omp parallel for
	for (int i = 0; i < C; i += 16) // columns, so that no two threads add to one sum
		for (int r = 0; r < R; r++)
			for (int j = i; j < least(C, i + 16); j++) {
				float d = dy[(long)r * C + j];
				dgain[j] += d * (x[(long)r * C + j] - mean[r]) * rstd[r];
				if (dbias)
					dbias[j] += d;
			}
}

// Causal attention of all heads. qkv (R,3C): queries, keys and values side by side.
static void attention(float *ctx, float *att, const float *qkv) {
	const int C = c.width, T = c.block, H = c.heads, S = C / H;
	const float scale = 1 / sqrtf(S);
#pragma omp parallel for collapse(3)
	for (int b = 0; b < c.batch; b++)
		for (int h = 0; h < H; h++)
			for (int t = 0; t < T; t++) {
				const float *base = qkv + (long)b * T * 3 * C + h * S, *q = base + (long)t * 3 * C;
				float *p = att + ((long)(b * H + h) * T + t) * T, *o = ctx + ((long)b * T + t) * C + h * S, top = -1e30f, sum = 0;
				for (int s = 0; s <= t; s++) {
					const float *key = base + (long)s * 3 * C + C;
					float v = 0;
					for (int i = 0; i < S; i++)
						v += q[i] * key[i];
					p[s] = v * scale;
					top = p[s] > top ? p[s] : top;
				}
				for (int s = 0; s <= t; s++) {
					p[s] = expf(p[s] - top);
					sum += p[s];
				}
				sum = 1 / sum;
				for (int s = 0; s <= t; s++)
					p[s] *= sum;
				for (int i = 0; i < S; i++)
					o[i] = 0;
				for (int s = 0; s <= t; s++) {
					const float *value = base + (long)s * 3 * C + 2 * C;
					for (int i = 0; i < S; i++)
						o[i] += p[s] * value[i];
				}
			}
}

static void attention_back(float *dqkv, float *datt, const float *dctx, const float *att, const float *qkv) {
	const int C = c.width, T = c.block, H = c.heads, S = C / H;
	const float scale = 1 / sqrtf(S);
#pragma omp parallel for collapse(2)
	for (int b = 0; b < c.batch; b++)
		for (int h = 0; h < H; h++) {
			const long first = (long)b * T * 3 * C + h * S;
			for (int t = 0; t < T; t++)
				for (int part = 0; part < 3; part++)
					memset(dqkv + first + (long)t * 3 * C + part * C, 0, S * sizeof(float));
			for (int t = 0; t < T; t++) {
				const float *p = att + ((long)(b * H + h) * T + t) * T, *d = dctx + ((long)b * T + t) * C + h * S, *q = qkv + first + (long)t * 3 * C;
				float *dp = datt + ((long)(b * H + h) * T + t) * T, *dq = dqkv + first + (long)t * 3 * C, dot = 0;
				for (int s = 0; s <= t; s++) {
					const float *value = qkv + first + (long)s * 3 * C + 2 * C;
					float *dvalue = dqkv + first + (long)s * 3 * C + 2 * C, v = 0;
					for (int i = 0; i < S; i++) {
						v += d[i] * value[i];
						dvalue[i] += p[s] * d[i];
					}
					dp[s] = v;
					dot += v * p[s];
				}
				for (int s = 0; s <= t; s++) {
					const float *key = qkv + first + (long)s * 3 * C + C, v = p[s] * (dp[s] - dot) * scale;
					float *dkey = dqkv + first + (long)s * 3 * C + C;
					for (int i = 0; i < S; i++) {
						dq[i] += v * key[i];
						dkey[i] += v * q[i];
					}
				}
			}
		}
}

#define SQRT_HALF 0.70710678f
#define TANH_A 0.79788456f
#define TANH_B 0.044715f

static void gelu(float *y, const float *x, long n) {
	if (c.tanh) {
#pragma omp parallel for
		for (long i = 0; i < n; i++)
			y[i] = 0.5f * x[i] * (1 + tanhf(TANH_A * (x[i] + TANH_B * x[i] * x[i] * x[i])));
		return;
	}
#pragma omp parallel for
	for (long i = 0; i < n; i++)
		y[i] = 0.5f * x[i] * (1 + erff(SQRT_HALF * x[i]));
}

// d = d·gelu'(x).
static void gelu_back(float *d, const float *x, long n) {
	if (c.tanh) {
#pragma omp parallel for
		for (long i = 0; i < n; i++) {
			float t = tanhf(TANH_A * (x[i] + TANH_B * x[i] * x[i] * x[i]));
			d[i] *= 0.5f * (1 + t) + 0.5f * x[i] * (1 - t * t) * TANH_A * (1 + 3 * TANH_B * x[i] * x[i]);
		}
		return;
	}
#pragma omp parallel for
	for (long i = 0; i < n; i++)
		d[i] *= 0.5f * (1 + erff(SQRT_HALF * x[i])) + x[i] * 0.39894228f * expf(-0.5f * x[i] * x[i]);
}

static void sum(float *y, const float *a, const float *b, long n) {
#pragma omp parallel for
	for (long i = 0; i < n; i++)
		y[i] = a[i] + b[i];
}

#define W(i) (w + (i))
#define BIAS_OF(i) ((i) < 0 ? NULL : w + (i))
#define GRAD(i) ((i) < 0 ? NULL : g + (i))

static double forward(void) {
	const int C = c.width;
#pragma omp parallel for
	for (int r = 0; r < R; r++)
		for (int i = 0; i < C; i++)
			x0[(long)r * C + i] = w[tokens + (long)ids[r] * C + i] + w[positions + (long)(r % c.block) * C + i];
	float *x = x0;
	for (int l = 0; l < c.layers; l++) {
		struct layer *p = at + l;
		struct kept *q = k + l;
		layernorm(q->n1, q->mean1, q->r1, x, W(p->norm1), BIAS_OF(p->norm1b));
		dense(q->qkv, q->n1, W(p->qkv), BIAS_OF(p->qkvb), R, C, 3 * C);
		attention(q->ctx, q->att, q->qkv);
		dense(dx, q->ctx, W(p->proj), BIAS_OF(p->projb), R, C, C);
		sum(q->x2, x, dx, (long)R * C);
		layernorm(q->n2, q->mean2, q->r2, q->x2, W(p->norm2), BIAS_OF(p->norm2b));
		dense(q->up, q->n2, W(p->up), BIAS_OF(p->upb), R, C, 4 * C);
		gelu(q->act, q->up, 4l * R * C);
		dense(dx, q->act, W(p->down), BIAS_OF(p->downb), R, 4 * C, C);
		sum(q->x3, q->x2, dx, (long)R * C);
		x = q->x3;
	}
	layernorm(nf, meanf, rf, x, W(norm), BIAS_OF(normb));
	dense(logits, nf, W(tokens), NULL, R, C, c.vocab);
	double loss = 0;
#pragma omp parallel for reduction(+ : loss)
	for (int r = 0; r < R; r++) { // logits become their own gradient
		float *z = logits + (long)r * c.vocab, top = z[0], total = 0, by;
		for (int i = 1; i < c.vocab; i++)
			top = z[i] > top ? z[i] : top;
		const float mine = z[targets[r]] - top;
		for (int i = 0; i < c.vocab; i++) {
			z[i] = expf(z[i] - top);
			total += z[i];
		}
		loss += logf(total) - mine;
		by = 1 / total / R;
		for (int i = 0; i < c.vocab; i++)
			z[i] *= by;
		z[targets[r]] -= 1.0f / R;
	}
	return loss / R;
}

static void backward(void) {
	const int C = c.width;
#pragma omp parallel for
	for (int i = 0; i < 64; i++)
		memset(g + count * i / 64, 0, (count * (i + 1) / 64 - count * i / 64) * sizeof *g);
	dense_back(dn, GRAD(tokens), NULL, logits, nf, W(tokens), R, C, c.vocab, 0);
	layernorm_back(dx, GRAD(norm), GRAD(normb), dn, k[c.layers - 1].x3, meanf, rf, W(norm), 0);
	for (int l = c.layers - 1; l >= 0; l--) {
		struct layer *p = at + l;
		struct kept *q = k + l;
		const float *x = l ? k[l - 1].x3 : x0;
		dense_back(dup, GRAD(p->down), GRAD(p->downb), dx, q->act, W(p->down), R, 4 * C, C, 0);
		gelu_back(dup, q->up, 4l * R * C);
		dense_back(dn, GRAD(p->up), GRAD(p->upb), dup, q->n2, W(p->up), R, C, 4 * C, 0);
		layernorm_back(dx, GRAD(p->norm2), GRAD(p->norm2b), dn, q->x2, q->mean2, q->r2, W(p->norm2), 1);
		dense_back(dctx, GRAD(p->proj), GRAD(p->projb), dx, q->ctx, W(p->proj), R, C, C, 0);
		attention_back(dqkv, datt, dctx, q->att, q->qkv);
		dense_back(dn, GRAD(p->qkv), GRAD(p->qkvb), dqkv, q->n1, W(p->qkv), R, C, 3 * C, 0);
		layernorm_back(dx, GRAD(p->norm1), GRAD(p->norm1b), dn, x, q->mean1, q->r1, W(p->norm1), 1);
	}
#pragma omp parallel for
	for (int i = 0; i < C; i += 16)
		for (int r = 0; r < R; r++)
			for (int j = i; j < least(C, i + 16); j++) {
				g[tokens + (long)ids[r] * C + j] += dx[(long)r * C + j];
				g[positions + (long)(r % c.block) * C + j] += dx[(long)r * C + j];
			}
}

static void update(long step) {
	float scale = 1;
	if (c.clip > 0) {
		double square = 0;
#pragma omp parallel for reduction(+ : square)
		for (int b = 0; b < 1024; b++) { // blocks, so that the sum needs no more than float's digits within one
			float s = 0;
			for (long i = count * b / 1024; i < count * (b + 1) / 1024; i++)
				s += g[i] * g[i];
			square += s;
		}
		scale = c.clip / ((float)sqrt(square) + 1e-6f);
		scale = scale < 1 ? scale : 1;
	}
	double rate = c.lr;
	if (c.warmup)
		rate *= step < c.warmup ? (step + 1.0) / (c.warmup + 1) : 1; // the cosine stays at its beginning
	const float lr = rate, b1 = c.beta1, b2 = c.beta2, first = rate / (1 - pow(c.beta1, step + 1)), by = 1 / sqrt(1 - pow(c.beta2, step + 1));
	for (int t = 0; t < tensors; t++) {
		const float keep = 1 - lr * (decays[t] ? c.decay : 0);
#pragma omp parallel for
		for (long i = t ? ends[t - 1] : 0; i < ends[t]; i++) {
			float d = g[i] * scale, a = m1[i] = b1 * m1[i] + (1 - b1) * d, v = m2[i] = b2 * m2[i] + (1 - b2) * d * d;
			w[i] = w[i] * keep - first * a / (sqrtf(v) * by + 1e-8f);
		}
	}
}

// Randomness, data, protocol.

static uint64_t seed = 1;

static uint64_t draw(void) { // xorshift64*
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 2685821657736338717u;
}

// uniform is number i of a stream, strictly between 0 and 1 (SplitMix64).
static inline float uniform(uint64_t i) {
	uint64_t z = i * 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return ((z ^ z >> 31) >> 41) * 0x1p-23f + 0x1p-24f;
}

// normal fills n weights, an even number, from N(0, std).
static void normal(long from, long n, double std) {
#pragma omp parallel for
	for (long i = from; i < from + n; i += 2) {
		float radius = std * sqrtf(-2 * logf(uniform(i + 1))), angle = 6.2831853f * uniform(i + 2);
		w[i] = radius * cosf(angle);
		w[i + 1] = radius * sinf(angle);
	}
}

static void init(void) {
	const long C = c.width;
	const double small = 0.02 / sqrt(2.0 * c.layers);
	normal(tokens, c.vocab * C, 0.02);
	normal(positions, c.positions * C, 0.02);
	for (int l = 0; l < c.layers; l++) {
		normal(at[l].qkv, 3 * C * C, 0.02);
		normal(at[l].proj, C * C, small);
		normal(at[l].up, 4 * C * C, 0.02);
		normal(at[l].down, 4 * C * C, small);
		for (int i = 0; i < C; i++)
			w[at[l].norm1 + i] = w[at[l].norm2 + i] = 1;
	}
	for (int i = 0; i < C; i++)
		w[norm + i] = 1;
}

static int *text;
static long letters;

// read_text takes bytes as tokens, or their places in an alphabet, and the first share of them.
static int read_text(const char *path, const char *alphabet, double part) {
	FILE *f = fopen(path, "rb");
	if (!f)
		return 0;
	long room = 1 << 16;
	text = malloc(room * sizeof *text);
	for (int ch; (ch = fgetc(f)) != EOF;) {
		if (letters == room)
			text = realloc(text, (room *= 2) * sizeof *text);
		const char *p = alphabet ? strchr(alphabet, ch) : NULL;
		if (alphabet && (!ch || !p)) {
			fclose(f);
			return 0;
		}
		text[letters++] = alphabet ? p - alphabet : ch;
	}
	fclose(f);
	letters *= part;
	return letters > c.block + 1;
}

static double train(long step) {
	for (int b = 0; b < c.batch; b++) {
		long from = draw() % (letters - c.block);
		for (int t = 0; t < c.block; t++) {
			ids[b * c.block + t] = text[from + t];
			targets[b * c.block + t] = text[from + t + 1];
		}
	}
	double loss = forward();
	backward();
	update(step);
	return loss;
}

// given does the steps of a file: 14 numbers of the config, steps, the weights, then ids and targets of each step.
static int given(const char *path) {
	FILE *f = fopen(path, "rb");
	int n[9], steps;
	float x[5];
	if (!f || fread(n, sizeof n, 1, f) != 1 || fread(x, sizeof x, 1, f) != 1 || fread(&steps, sizeof steps, 1, f) != 1)
		return 1;
	c = (struct config){n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], x[0], x[1], x[2], x[3], x[4], 0};
	make();
	if (fread(w, sizeof *w, count, f) != (size_t)count)
		return 1;
	for (int s = 0; s < steps; s++) {
		if (fread(ids, sizeof *ids, R, f) != (size_t)R || fread(targets, sizeof *targets, R, f) != (size_t)R)
			return 1;
		float loss = forward();
		backward();
		if (!s) {
			fwrite(&loss, sizeof loss, 1, stdout);
			fwrite(g, sizeof *g, count, stdout);
		}
		update(s);
	}
	fwrite(w, sizeof *w, count, stdout);
	fclose(f);
	return 0;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void say_error(const char *what) {
	printf("{\"error\": \"%s\"}\n", what);
	fflush(stdout);
}

int main(int argc, char **argv) {
	const char *path = NULL, *steps_of = NULL;
	const char *core = "";
	int there = 0, wanted = 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--blas"))
			wanted = 1;
		else if (!strcmp(argv[i], "--there"))
			there = 1;
		else if (!strcmp(argv[i], "--steps") && i + 1 < argc)
			steps_of = argv[++i];
		else
			path = argv[i];
	}
	if (wanted) {
		void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
		blas = lib ? (gemm *)dlsym(lib, "cblas_sgemm") : NULL;
		char *(*name)(void) = lib ? (char *(*)(void))dlsym(lib, "openblas_get_corename") : NULL;
		core = name ? name() : "";
		if (!blas) {
			say_error("there is no libopenblas.so.0");
			return 1;
		}
	}
	if (there)
		return 0;
	if (steps_of)
		return given(steps_of);
	printf("{\"version\": \"gcc %d.%d.%d%s%s\"}\n", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__, wanted ? ", OpenBLAS with kernels for " : "", core);
	fflush(stdout);
	char work[64] = "", before[64] = "";
	long done = 0;
	for (long long steps; scanf("%63s %lld", work, &steps) == 2;) {
		if (!*before) {
			const char *alphabet = NULL;
			double part = 1;
			if (!strcmp(work, "W4")) {
				c = (struct config){65, 64, 4, 4, 128, 0, 0, 12, 64, 1e-3, 0.9, 0.99, 0.1, 1, 100};
				alphabet = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", part = 0.9;
			} else if (!strcmp(work, "W8")) {
				c = (struct config){50257, 1024, 12, 12, 768, 1, 1, 4, 64, 3e-4, 0.9, 0.95, 0.1, 0, 0};
			} else {
				say_error("only W4 and W8 are here");
				continue;
			}
			if (!path || !read_text(path, alphabet, part)) {
				say_error("no text that is long enough, of the letters of W4");
				return 1;
			}
			make();
			init();
			strcpy(before, work);
		} else if (strcmp(work, before)) {
			say_error("one work for each process");
			continue;
		}
		double loss = 0, from = now();
		for (; steps; steps--)
			loss = train(done++);
		printf("{\"seconds\": %.9f, \"loss\": %.7g}\n", now() - from, loss);
		fflush(stdout);
	}
	return 0;
}
