// How fast a program is where it runs: prints nanoseconds of a fixed amount of computing, and of system calls.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// Integers, floating point and memory, 150 ms or so; the result is used, so that nothing is left out.
static uint64_t compute(void) {
  static uint64_t table[1 << 15];
  uint64_t x = 88172645463325252ull;
  double sum = 0;
  for (int i = 0; i < 40 << 20; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    table[x & 0x7FFF] += x;
    sum += (double)(x >> 40) * 1.0000001;
  }
  return table[x & 0x7FFF] + (uint64_t)sum;
}

int main(void) {
  enum { CALLS = 200000 };
  int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDONLY);
  char bytes[64];
  int64_t begin = now();
  volatile uint64_t result = compute();
  (void)result;
  printf("cpu %lld\n", (long long)(now() - begin));

  // A loop of the calls programs make: the smallest one there is, a read, a write, an open with its close.
  begin = now();
  for (int i = 0; i < CALLS; i++) {
    syscall(SYS_getppid);
    if (read(zero, bytes, sizeof bytes) != sizeof bytes || write(null, bytes, sizeof bytes) != sizeof bytes) return 1;
    int file = open("/dev/null", O_RDONLY);
    if (file < 0) return 1;
    close(file);
  }
  printf("syscalls %lld\n", (long long)(now() - begin));

  // The smallest call alone, on which a filter weighs most.
  begin = now();
  for (int i = 0; i < 4 * CALLS; i++) syscall(SYS_getppid);
  printf("getppid %lld\n", (long long)(now() - begin));
  return 0;
}
