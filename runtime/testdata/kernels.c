// What library_test.cc loads and calls: everything that a compiled kernel may hold. Each function names what it exercises.

static const float kWeights[5] = {0.5f, -1.25f, 2.0f, 8.0f, -0.75f};
static int calls;  // zeros
int start = 41;    // a variable with a value

// Constants, a loop.
float weighted_sum(const float* x, long count) {
  float sum = 0.0f;
  for (long i = 0; i < count; ++i) sum += kWeights[i % 5] * x[i];
  return sum;
}

// A call of itself and, from the next, of another function.
__attribute__((noinline)) long fibonacci(long n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
long fibonacci_plus_weight(long n) { return fibonacci(n) + (long)kWeights[3]; }

// Variables of both kinds.
int count_call(void) { return start + ++calls; }

// A jump table: distances between constants and code.
int classify(int x) {
  switch (x) {
    case 0: return 17;
    case 1: return -4;
    case 2: return 99;
    case 3: return 12;
    case 4: return 1000;
    case 5: return start;
    case 6: return -77;
    case 7: return calls;
    default: return -1;
  }
}

// A table of addresses.
static int twice(int x) { return 2 * x; }
static int square(int x) { return x * x; }
static int negative(int x) { return -x; }
static int (*const kFunctions[])(int) = {twice, square, negative};
int apply(int which, int x) { return kFunctions[which](x); }

// More zeros than the file has bytes.
unsigned char scratch[3 << 20];
int touch_scratch(int at) { return scratch[at]++; }

// An address, to see where things lie.
const float* weights_address(void) { return kWeights; }
