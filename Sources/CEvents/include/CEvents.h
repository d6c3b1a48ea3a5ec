// Headers that Swift's Glibc module leaves out: epoll(7), eventfd(2), and the name of a thread.
#pragma once
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

// The flags as plain numbers: what they are in C (an enumerator, a macro) differs between libc versions.
static const int ce_epoll_cloexec = EPOLL_CLOEXEC;
static const int ce_eventfd_cloexec = EFD_CLOEXEC;
static const int ce_eventfd_nonblock = EFD_NONBLOCK;
static const int ce_eventfd_semaphore = EFD_SEMAPHORE;
static const uint32_t ce_in = EPOLLIN;
static const uint32_t ce_out = EPOLLOUT;

// Names the calling thread, as ps -L shows it; at most 15 bytes are kept.
void ce_name_thread(const char *name);
