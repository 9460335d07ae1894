// Calls what it does not bring: refused, with both names.
double log(double x);
extern int verbosity;
double entropy(double p) { return verbosity ? -p * log(p) : 0; }
