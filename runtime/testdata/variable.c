// A variable that other objects might replace (default visibility: through the global offset table), or whose address is put
// into 32 bits of code (without -fPIC): refused, naming the relocation.
int counter;
int* where(void) { return &counter; }
int next(void) { return ++counter; }
