// A variable per thread: refused.
__thread int mine = 3;
int next(void) { return ++mine; }
