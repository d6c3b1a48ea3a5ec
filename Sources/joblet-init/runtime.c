// The little that a C program expects to find: memory functions, the entry point, a clock.
#include <linux/time.h>

#include "init.h"

void *memcpy(void *restrict to, const void *restrict from, size_t length) {
#if defined(__x86_64__)
  void *start = to;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
  return start;
#else
  uint8_t *out = to;
  const uint8_t *in = from;
  for (; length >= 8; length -= 8, in += 8, out += 8) {
    uint64_t word;
    __builtin_memcpy_inline(&word, in, 8);
    __builtin_memcpy_inline(out, &word, 8);
  }
  while (length-- > 0) *out++ = *in++;
  return to;
#endif
}

void *memmove(void *to, const void *from, size_t length) {
  uint8_t *out = to;
  const uint8_t *in = from;
  if (out + length <= in || in + length <= out) return memcpy(to, from, length);
  if (out < in) {
    for (size_t i = 0; i < length; i++) out[i] = in[i];
  } else {
    while (length-- > 0) out[length] = in[length];
  }
  return to;
}

void *memset(void *to, int byte, size_t length) {
  uint8_t *out = to;
  while (length-- > 0) *out++ = (uint8_t)byte;
  return to;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length] != 0) length++;
  return length;
}

void text_string(struct text *text, const char *string) {
  while (*string != 0 && text->length < sizeof text->bytes - 1) text->bytes[text->length++] = *string++;
  text->bytes[text->length] = 0;
}

void text_number(struct text *text, uint64_t number, unsigned base) {
  char digits[24];
  int at = sizeof digits - 1;
  digits[at] = 0;
  do digits[--at] = (char)('0' + number % base);
  while ((number /= base) != 0);
  text_string(text, digits + at);
}

int64_t now(int clock) {
  struct __kernel_timespec time = {0, 0};
  sys(clock_gettime, clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// The kernel starts a program here with nothing but a stack pointer; joblet-init takes no arguments.
__attribute__((naked, used, noreturn)) void _start(void) {
#if defined(__x86_64__)
  __asm__ volatile("xor %ebp, %ebp\n\tand $-16, %rsp\n\tcall joblet_init_main\n\tud2");
#else
  __asm__ volatile("mov x29, xzr\n\tmov x30, xzr\n\tbl joblet_init_main\n\tbrk 1");
#endif
}
