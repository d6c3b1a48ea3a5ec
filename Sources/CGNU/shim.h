// glibc declares these only under _GNU_SOURCE, which Swift's Glibc module does not set.
#pragma once
#include <stddef.h>
#include <sys/types.h>

void *memmem(const void *haystack, size_t haystack_length, const void *needle, size_t needle_length);
void *memrchr(const void *bytes, int byte, size_t length);
int fallocate(int descriptor, int mode, off_t offset, off_t length);
int syncfs(int descriptor);
int pthread_setname_np(unsigned long thread, const char *name);
int accept4(int descriptor, void *address, void *address_length, int flags);
