// Matrix products by OpenBLAS, one thread, and the FMA peak of a core.
//
// Reads lines "WORK STEPS" and answers each with {"seconds": ..., "loss": ...}. WORK is FORM:M,N,K with the form NN, NT or TN as in compute/kernel, or
// peak: then loss is the GFLOP of a step. For a product, loss is a sum over its elements by which both sides are compared.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

typedef void gemm(int order, int transA, int transB, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb, float beta,
                  float *c, int ldc);

// fill writes the same numbers as its twin in gemm.go: multiples of 1/8 between -1 and 7/8.
static float *fill(long n, uint32_t seed) {
	float *x = aligned_alloc(64, (n * 4 + 63) / 64 * 64);
	for (long i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		x[i] = (float)(int)(seed >> 28) / 8 - 1;
	}
	return x;
}

// peak does 12 chains of FMAs; all of them stay in registers.
static float peak(long steps, double *gflop) {
	float out[16] = {0};
#if defined(__AVX512F__)
#define VEC __m512
#define SET _mm512_set1_ps
#define FMA _mm512_fmadd_ps
#define ADD _mm512_add_ps
#define STORE _mm512_storeu_ps
	const int width = 16;
#elif defined(__AVX2__) && defined(__FMA__)
#define VEC __m256
#define SET _mm256_set1_ps
#define FMA _mm256_fmadd_ps
#define ADD _mm256_add_ps
#define STORE _mm256_storeu_ps
	const int width = 8;
#endif
#ifdef VEC
	enum { CHAINS = 12, TIMES = 1000 };
	VEC s[CHAINS], x = SET(0.5f), y = SET(1.0f);
	for (int i = 0; i < CHAINS; i++)
		s[i] = SET(i);
	for (long n = 0; n < steps; n++)
		for (int t = 0; t < TIMES; t++) {
#pragma GCC unroll 12
			for (int i = 0; i < CHAINS; i++)
				s[i] = FMA(s[i], x, y);
			__asm__ volatile("" : "+v"(x), "+v"(y));
		}
	for (int i = 1; i < CHAINS; i++)
		s[0] = ADD(s[0], s[i]);
	STORE(out, s[0]);
	*gflop = 2e-9 * width * CHAINS * TIMES;
#else
	*gflop = 0;
#endif
	return out[0];
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(void) {
	void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
	if (!lib)
		lib = dlopen("libopenblas.so", RTLD_NOW);
	gemm *sgemm = lib ? (gemm *)dlsym(lib, "cblas_sgemm") : 0;
	char *(*core)(void) = lib ? (char *(*)(void))dlsym(lib, "openblas_get_corename") : 0;
	char *(*config)(void) = lib ? (char *(*)(void))dlsym(lib, "openblas_get_config") : 0;
	void (*threads)(int) = lib ? (void (*)(int))dlsym(lib, "openblas_set_num_threads") : 0;
	if (threads)
		threads(1);
	printf("{\"version\": \"%.30s, core %s\"}\n", config ? config() : "no OpenBLAS", core ? core() : "unknown");
	fflush(stdout);

	char work[64], last[64] = "", form[8];
	int m = 0, n = 0, k = 0;
	float *a = 0, *b = 0, *c = 0;
	for (long long steps; scanf("%63s %lld", work, &steps) == 2;) {
		if (!strcmp(work, "peak")) {
			double gflop, from = now();
			volatile float keep = peak(steps, &gflop);
			(void)keep;
			printf("{\"seconds\": %.9f, \"loss\": %.9g}\n", now() - from, gflop);
			fflush(stdout);
			continue;
		}
		if (!sgemm || sscanf(work, "%7[NT]:%d,%d,%d", form, &m, &n, &k) != 4) {
			printf("{\"error\": \"%s\"}\n", sgemm ? "want FORM:M,N,K" : "libopenblas is not installed");
			fflush(stdout);
			continue;
		}
		if (strcmp(work, last)) {
			free(a), free(b), free(c);
			a = fill((long)m * k, 1), b = fill((long)k * n, 2), c = fill((long)m * n, 3);
			strcpy(last, work);
		}
		const int ta = form[0] == 'T', tb = form[1] == 'T';
		double from = now();
		for (long long i = 0; i < steps; i++)
			sgemm(101, 111 + ta, 111 + tb, m, n, k, 1, a, ta ? m : k, b, tb ? k : n, 0, c, n);
		double took = now() - from, sum = 0;
		for (long i = 0; i < (long)m * n; i++)
			sum += c[i] * (i % 7 + 1);
		printf("{\"seconds\": %.9f, \"loss\": %.17g}\n", took, sum);
		fflush(stdout);
	}
	return 0;
}
