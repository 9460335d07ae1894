// Wants to run before anything else: refused.
volatile int prepared;
__attribute__((constructor)) static void Prepare(void) { prepared = 1; }
