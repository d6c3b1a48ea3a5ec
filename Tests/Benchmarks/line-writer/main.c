// Writes lines of exactly 100 bytes, newline included, as fast as its output takes them: `line-writer COUNT`, 0 for ever.
// Each line has its number, so no two are the same, in text that compresses about as logs do.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { line = 100, batch = 640 };
static char block[line * batch];

static void number(char *at, unsigned long long value) {
  for (int digit = 9; digit >= 0; digit--, value /= 10) at[digit] = (char)('0' + value % 10);
}

int main(int argc, char **argv) {
  unsigned long long count = argc > 1 ? strtoull(argv[1], NULL, 10) : 0, written = 0;
  unsigned random = 2463534242u;
  static const char *words[] = {"GET /v1/jobs", "POST /login ", "cache miss  ", "retry queued", "done reading", "db connected"};
  for (int i = 0; i < batch; i++) {
    random ^= random << 13, random ^= random >> 17, random ^= random << 5;
    char text[200];
    int length = snprintf(
        text, sizeof text, "0000000000 INFO service=%-2u worker=%02u %s latency_us=%06u trace=%08x status=ok",
        random % 97, random % 13, words[random % 6], random % 1000000, random);
    memset(block + i * line, '.', line);
    memcpy(block + i * line, text, length < line - 1 ? (size_t)length : line - 1);
    block[i * line + line - 1] = '\n';
  }
  while (count == 0 || written < count) {
    size_t lines = count && count - written < batch ? (size_t)(count - written) : batch;
    for (size_t i = 0; i < lines; i++) number(block + i * line, ++written);
    for (size_t done = 0; done < lines * line;) {
      ssize_t n = write(1, block + done, lines * line - done);
      if (n < 0) return 1;
      done += (size_t)n;
    }
  }
  return 0;
}
