// Says a word on stderr: the least a program with a libc can do, beside joblet-init.
#include <unistd.h>

int main(void) { return write(2, "said\n", 5) == 5 ? 0 : 1; }
