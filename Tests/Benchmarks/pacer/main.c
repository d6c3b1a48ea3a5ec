// Writes lines of exactly 100 bytes, newline included, that begin with CLOCK_MONOTONIC in nanoseconds when they were written:
// `pacer FIRST LINES MILLISECONDS`: FIRST lines at once, then so many again and again, so many milliseconds apart.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { line = 100, most = 640 };
static char block[line * most];

static long long nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int put(long lines) {
  while (lines > 0) {
    long some = lines < most ? lines : most;
    char stamp[32];
    int digits = snprintf(stamp, sizeof stamp, "%lld", nanoseconds());
    for (long i = 0; i < some; i++) memcpy(block + i * line, stamp, (size_t)digits);
    for (long done = 0; done < some * line;) {
      ssize_t n = write(1, block + done, (size_t)(some * line - done));
      if (n < 0) return 1;
      done += n;
    }
    lines -= some;
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  long lines = atol(argv[2]);
  long long pause = atoll(argv[3]) * 1000000, next;
  if (lines < 1 || pause < 1) return 2;
  memset(block, '.', sizeof block);
  for (int i = 0; i < most; i++) memcpy(block + i * line + 20, " INFO paced ", 12), block[i * line + line - 1] = '\n';
  if (put(atol(argv[1]))) return 1;
  for (next = nanoseconds() + pause;; next += pause) {
    struct timespec until = {next / 1000000000, next % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    if (put(lines)) return 1;
  }
}
