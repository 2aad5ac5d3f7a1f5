// microgpt on names (W5) in C: one layer, four heads, 16 wide, at most 16 tokens, RMSNorm without gain, ReLU, 4192 weights, Adam, one name a step.
//
//   microgpt NAMES            reads lines "WORK STEPS", answers each with {"seconds": ..., "loss": ...}; every 1000 steps a new run begins, outside of
//                             the time
//   microgpt NAMES --train    1000 steps; prints the mean loss of the last 200
//   microgpt NAMES --check    compares all gradients with central differences; wants -DREAL=double
//
// All positions of a name go through a layer together. Weights lie input by output, so that the inner loops run over outputs.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

enum { C = 16, T_MAX = 16, H = 4, HS = C / H, F = 64, V = 27, VP = 32, BOS = 26 }; // VP: the head's columns, filled up with weights that stay 0

struct weights {
	real wte[V][C], wpe[T_MAX][C];
	real qkv[C][3 * C], proj[C][C], up[C][F], down[F][C], head[C][VP];
};

enum { N = sizeof(struct weights) / sizeof(real), RUN = 1000 };

static struct weights w, g, m1, m2;

// What a step keeps for its way back.
static struct {
	int n;
	real e[T_MAX][C], x0[T_MAX][C], n1[T_MAX][C], qkv[T_MAX][3 * C], att[H][T_MAX][T_MAX], ctx[T_MAX][C], x1[T_MAX][C], n2[T_MAX][C],
	    up[T_MAX][F], x2[T_MAX][C], p[T_MAX][VP];
	real r0[T_MAX], r1[T_MAX], r2[T_MAX];
} a;

#define INLINE static inline __attribute__((always_inline))

// y = x·w (+ y), x (n,in), w (in,out).
INLINE void product(int n, int in, int out, const real *restrict x, const real *restrict w, real *restrict y, int add) {
	for (int t = 0; t < n; t++) {
		real s[F];
		for (int o = 0; o < out; o++)
			s[o] = add ? y[t * out + o] : 0;
		for (int i = 0; i < in; i++)
			for (int o = 0; o < out; o++)
				s[o] += x[t * in + i] * w[i * out + o];
		for (int o = 0; o < out; o++)
			y[t * out + o] = s[o];
	}
}

// dx = dy·wᵀ, dw = xᵀ·dy.
INLINE void product_back(int n, int in, int out, const real *restrict x, const real *restrict w, const real *restrict dy, real *restrict dx,
                         real *restrict dw) {
	real wt[F * F]; // turned once: the sums over outputs would need a reduction for each element
	for (int i = 0; i < in; i++)
		for (int o = 0; o < out; o++)
			wt[o * in + i] = w[i * out + o];
	product(n, out, in, dy, wt, dx, 0);
	for (int i = 0; i < in; i++) {
		real s[F];
		for (int o = 0; o < out; o++)
			s[o] = 0;
		for (int t = 0; t < n; t++)
			for (int o = 0; o < out; o++)
				s[o] += x[t * in + i] * dy[t * out + o];
		for (int o = 0; o < out; o++)
			dw[i * out + o] = s[o];
	}
}

INLINE void norm(int n, real (*restrict x)[C], real (*restrict y)[C], real *restrict r) {
	for (int t = 0; t < n; t++) {
		real s = 0;
		for (int c = 0; c < C; c++)
			s += x[t][c] * x[t][c];
		r[t] = 1 / (real)sqrt(s / C + (real)1e-5);
		for (int c = 0; c < C; c++)
			y[t][c] = x[t][c] * r[t];
	}
}

// dx (+)= gradient of the norm; y is its output.
INLINE void norm_back(int n, real (*restrict y)[C], const real *restrict r, real (*restrict dy)[C], real (*restrict dx)[C], int add) {
	for (int t = 0; t < n; t++) {
		real s = 0;
		for (int c = 0; c < C; c++)
			s += dy[t][c] * y[t][c];
		s /= C;
		for (int c = 0; c < C; c++)
			dx[t][c] = (add ? dx[t][c] : 0) + r[t] * (dy[t][c] - s * y[t][c]);
	}
}

static real forward(const int *doc, int n) {
	a.n = n;
	for (int t = 0; t < n; t++)
		for (int c = 0; c < C; c++)
			a.e[t][c] = w.wte[doc[t]][c] + w.wpe[t][c];
	norm(n, a.e, a.x0, a.r0);
	norm(n, a.x0, a.n1, a.r1);
	product(n, C, 3 * C, &a.n1[0][0], &w.qkv[0][0], &a.qkv[0][0], 0);
	const real scale = 1 / (real)sqrt((real)HS);
	for (int h = 0; h < H; h++) {
		real k[HS][T_MAX]; // keys turned, so that the scores of a query lie side by side
		for (int j = 0; j < HS; j++)
			for (int s = 0; s < T_MAX; s++)
				k[j][s] = s < n ? a.qkv[s][C + h * HS + j] : 0;
		for (int t = 0; t < n; t++) {
			const real *q = &a.qkv[t][h * HS];
			real z[T_MAX], top, sum = 0;
			for (int s = 0; s < T_MAX; s++) {
				z[s] = 0;
				for (int j = 0; j < HS; j++)
					z[s] += q[j] * k[j][s];
				z[s] = s <= t ? z[s] * scale : (real)-1e30;
			}
			top = z[0];
			for (int s = 1; s < T_MAX; s++)
				top = z[s] > top ? z[s] : top;
			for (int s = 0; s < T_MAX; s++) {
				z[s] = s <= t ? (real)exp(z[s] - top) : 0;
				sum += z[s];
			}
			real by = 1 / sum, o[HS] = {0};
			for (int s = 0; s < T_MAX; s++)
				a.att[h][t][s] = z[s] * by;
			for (int s = 0; s <= t; s++)
				for (int j = 0; j < HS; j++)
					o[j] += a.att[h][t][s] * a.qkv[s][2 * C + h * HS + j];
			for (int j = 0; j < HS; j++)
				a.ctx[t][h * HS + j] = o[j];
		}
	}
	memcpy(a.x1, a.x0, sizeof a.x1);
	product(n, C, C, &a.ctx[0][0], &w.proj[0][0], &a.x1[0][0], 1);
	norm(n, a.x1, a.n2, a.r2);
	product(n, C, F, &a.n2[0][0], &w.up[0][0], &a.up[0][0], 0);
	for (int t = 0; t < n; t++)
		for (int i = 0; i < F; i++)
			a.up[t][i] = a.up[t][i] > 0 ? a.up[t][i] : 0;
	memcpy(a.x2, a.x1, sizeof a.x2);
	product(n, F, C, &a.up[0][0], &w.down[0][0], &a.x2[0][0], 1);
	product(n, C, VP, &a.x2[0][0], &w.head[0][0], &a.p[0][0], 0);
	real loss = 0;
	for (int t = 0; t < n; t++) {
		real top = a.p[t][0], sum = 0;
		for (int i = 1; i < V; i++)
			top = a.p[t][i] > top ? a.p[t][i] : top;
		for (int i = 0; i < VP; i++) {
			a.p[t][i] = i < V ? (real)exp(a.p[t][i] - top) : 0;
			sum += a.p[t][i];
		}
		for (int i = 0; i < VP; i++)
			a.p[t][i] /= sum;
		loss -= (real)log(a.p[t][doc[t + 1]]);
	}
	return loss / n;
}

static void backward(const int *doc) {
	const int n = a.n;
	real dz[T_MAX][VP], dx[T_MAX][C], du[T_MAX][F], dn[T_MAX][C], dctx[T_MAX][C], dqkv[T_MAX][3 * C];
	for (int t = 0; t < n; t++) {
		for (int i = 0; i < VP; i++)
			dz[t][i] = a.p[t][i] / n;
		dz[t][doc[t + 1]] -= (real)1 / n;
	}
	product_back(n, C, VP, &a.x2[0][0], &w.head[0][0], &dz[0][0], &dx[0][0], &g.head[0][0]);
	product_back(n, F, C, &a.up[0][0], &w.down[0][0], &dx[0][0], &du[0][0], &g.down[0][0]);
	for (int t = 0; t < n; t++)
		for (int i = 0; i < F; i++)
			du[t][i] = a.up[t][i] > 0 ? du[t][i] : 0;
	product_back(n, C, F, &a.n2[0][0], &w.up[0][0], &du[0][0], &dn[0][0], &g.up[0][0]);
	norm_back(n, a.n2, a.r2, dn, dx, 1);
	product_back(n, C, C, &a.ctx[0][0], &w.proj[0][0], &dx[0][0], &dctx[0][0], &g.proj[0][0]);
	const real scale = 1 / (real)sqrt((real)HS);
	memset(dqkv, 0, sizeof dqkv);
	for (int h = 0; h < H; h++) {
		real v[HS][T_MAX];
		for (int j = 0; j < HS; j++)
			for (int s = 0; s < T_MAX; s++)
				v[j][s] = s < n ? a.qkv[s][2 * C + h * HS + j] : 0;
		for (int t = 0; t < n; t++) {
			const real *p = a.att[h][t], *d = &dctx[t][h * HS], *q = &a.qkv[t][h * HS];
			real ds[T_MAX], sum = 0, dq[HS] = {0};
			for (int s = 0; s < T_MAX; s++) {
				ds[s] = 0;
				for (int j = 0; j < HS; j++)
					ds[s] += d[j] * v[j][s];
				sum += ds[s] * p[s];
			}
			for (int s = 0; s < T_MAX; s++)
				ds[s] = p[s] * (ds[s] - sum) * scale;
			for (int s = 0; s <= t; s++)
				for (int j = 0; j < HS; j++) {
					dq[j] += ds[s] * a.qkv[s][C + h * HS + j];
					dqkv[s][C + h * HS + j] += ds[s] * q[j];
					dqkv[s][2 * C + h * HS + j] += p[s] * d[j];
				}
			for (int j = 0; j < HS; j++)
				dqkv[t][h * HS + j] = dq[j];
		}
	}
	product_back(n, C, 3 * C, &a.n1[0][0], &w.qkv[0][0], &dqkv[0][0], &dn[0][0], &g.qkv[0][0]);
	norm_back(n, a.n1, a.r1, dn, dx, 1);
	memcpy(dn, dx, sizeof dn);
	norm_back(n, a.x0, a.r0, dn, dx, 0);
	memset(g.wte, 0, sizeof g.wte + sizeof g.wpe);
	for (int t = 0; t < n; t++)
		for (int c = 0; c < C; c++) {
			g.wte[doc[t]][c] += dx[t][c];
			g.wpe[t][c] += dx[t][c];
		}
}

static void adam(int64_t step, int64_t steps) {
	static double b1, b2;
	if (!step)
		b1 = b2 = 1;
	b1 *= 0.85;
	b2 *= 0.99;
	const real lr = 0.01 * (1 - (double)step / steps) / (1 - b1), by = 1 / sqrt(1 - b2);
	real *restrict x = (real *)&w, *restrict u = (real *)&m1, *restrict v = (real *)&m2;
	const real *restrict d = (real *)&g;
	for (int i = 0; i < N; i++) {
		u[i] = (real)0.85 * u[i] + (real)0.15 * d[i];
		v[i] = (real)0.99 * v[i] + (real)0.01 * d[i] * d[i];
		x[i] -= lr * u[i] / ((real)sqrt(v[i]) * by + (real)1e-8);
	}
}

// Randomness, names, protocol.

static uint64_t seed = 42;

static double uniform(void) { // xorshift64*
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (double)((seed * 2685821657736338717u) >> 11) / 9007199254740992.0;
}

static real gauss(void) {
	double u = uniform() + 1e-300, v = uniform();
	return 0.08 * sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static void init(void) {
	real *x = (real *)&w;
	seed = 5;
	memset(&m1, 0, sizeof m1);
	memset(&m2, 0, sizeof m2);
	for (int i = 0; i < N; i++)
		x[i] = gauss();
	for (int i = 0; i < C; i++)
		for (int j = V; j < VP; j++)
			w.head[i][j] = 0;
}

struct doc {
	int n, t[T_MAX + 2];
};
static struct doc *docs;
static int count;

static void read_names(const char *path) {
	FILE *f = fopen(path, "r");
	char line[256];
	int cap = 0;
	if (!f) {
		printf("{\"error\": \"the names can't be read\"}\n");
		exit(1);
	}
	while (fgets(line, sizeof line, f)) {
		struct doc d = {0, {BOS}};
		for (char *p = line; *p >= 'a' && *p <= 'z' && d.n < T_MAX; p++)
			d.t[++d.n] = *p - 'a';
		if (!d.n)
			continue;
		if (d.n < T_MAX)
			d.t[++d.n] = BOS;
		if (count == cap)
			docs = realloc(docs, (cap = 2 * cap + 1024) * sizeof *docs);
		docs[count++] = d;
	}
	fclose(f);
	for (int i = count - 1; i > 0; i--) {
		int j = uniform() * (i + 1);
		struct doc d = docs[i];
		docs[i] = docs[j];
		docs[j] = d;
	}
}

static real train(int64_t step, int64_t steps) {
	const struct doc *d = &docs[step % count];
	real loss = forward(d->t, d->n);
	backward(d->t);
	adam(step, steps);
	return loss;
}

// check compares each gradient of three names with (f(x+h) - f(x-h)) / 2h.
static int check(void) {
	double worst = 0;
	real *x = (real *)&w, *d = (real *)&g;
	for (int k = 0; k < 3; k++) {
		const struct doc *doc = &docs[k];
		for (int i = 0; i < 50; i++)
			train(i, RUN);
		forward(doc->t, doc->n);
		backward(doc->t);
		for (int i = 0; i < N; i++) {
			const real old = x[i], h = 1e-5;
			x[i] = old + h;
			double up = forward(doc->t, doc->n);
			x[i] = old - h;
			double down = forward(doc->t, doc->n);
			x[i] = old;
			double far = fabs((up - down) / (2 * h) - d[i]) / (1e-3 + fabs(d[i]));
			if (far > worst)
				worst = far;
		}
	}
	printf("largest relative error of %d gradients: %.2g\n", 3 * N, worst);
	return !(worst < 1e-4);
}

int main(int argc, char **argv) {
	if (argc < 2)
		return 2;
	read_names(argv[1]);
	init();
	if (argc > 2 && !strcmp(argv[2], "--check"))
		return check();
	if (argc > 2 && !strcmp(argv[2], "--train")) {
		double sum = 0;
		for (int i = 0; i < RUN; i++) {
			double l = train(i, RUN);
			sum += i >= RUN - 200 ? l : 0;
		}
		printf("%.4f\n", sum / 200);
		return 0;
	}
	printf("{\"version\": \"gcc %d.%d.%d\"}\n", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
	fflush(stdout);
	char work[64];
	int64_t done = 0;
	for (long long steps; scanf("%63s %lld", work, &steps) == 2;) {
		if (strcmp(work, "W5")) {
			printf("{\"error\": \"only W5 is here\"}\n");
			fflush(stdout);
			continue;
		}
		struct timespec from, to;
		real loss = 0;
		double seconds = 0;
		while (steps) {
			if (done == RUN) {
				init();
				done = 0;
			}
			long long n = steps < RUN - done ? steps : RUN - done;
			steps -= n;
			clock_gettime(CLOCK_MONOTONIC, &from);
			for (; n; n--)
				loss = train(done++, RUN);
			clock_gettime(CLOCK_MONOTONIC, &to);
			seconds += (to.tv_sec - from.tv_sec) + 1e-9 * (to.tv_nsec - from.tv_nsec);
		}
		printf("{\"seconds\": %.9f, \"loss\": %.7g}\n", seconds, (double)loss);
		fflush(stdout);
	}
	return 0;
}
