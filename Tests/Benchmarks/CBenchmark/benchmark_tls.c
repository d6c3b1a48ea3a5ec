#define _GNU_SOURCE
#include "benchmark_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char reason[512];

const char *benchmark_tls_error(void) { return reason; }

static int fail(const char *what) {
  unsigned long code = ERR_get_error();
  char text[256] = "";
  if (code) ERR_error_string_n(code, text, sizeof text);
  snprintf(reason, sizeof reason, "%s%s%s", what, text[0] ? ": " : "", text[0] ? text : "");
  return -1;
}

static int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Latencies, in buckets of a microsecond up to a second: a percentile costs no memory that grows. */
typedef struct { uint32_t buckets[1000001]; long count; int64_t worst; } latencies;

static void note(latencies *all, int64_t ns) {
  if (ns < 0) ns = 0;
  int64_t us = ns / 1000;
  all->buckets[us > 1000000 ? 1000000 : us]++;
  all->count++;
  if (ns > all->worst) all->worst = ns;
}

static double percentile(const latencies *all, double percent) {
  long rank = (long)(all->count * percent / 100 + 0.999999), seen = 0;
  if (rank < 1) rank = 1;
  for (int us = 0; us <= 1000000; us++)
    if ((seen += all->buckets[us]) >= rank) return us / 1000.0;
  return 1000;
}

static void report(const latencies *all, benchmark_load *load) {
  if (!all->count) return;
  load->p50 = percentile(all, 50);
  load->p99 = percentile(all, 99);
  load->worst = all->worst / 1e6;
}

enum state { CONNECTING, SENDING, HEAD, BODY };

typedef struct {
  SSL *tls;
  int fd, index;
  uint32_t waits;  /* what epoll is asked for */
  enum state state;
  size_t sent;
  char head[4096];
  size_t head_length;
  long body_left;
  int64_t begun;
  /* A follower's: how much of the pattern before a line was seen, and its stamp so far. */
  int matched, digits;
  int64_t stamp;
  long lines;
} client;

typedef struct {
  const benchmark_target *target;
  size_t request_length;
  SSL_CTX *context;
  int poll, count;
  client *clients;
  int receive_buffer;
} crowd;

static int crowd_open(crowd *all, const benchmark_target *target, int count) {
  memset(all, 0, sizeof *all);
  all->target = target;
  all->request_length = strlen(target->request);
  all->count = count;
  all->poll = epoll_create1(EPOLL_CLOEXEC);
  all->clients = calloc((size_t)count, sizeof *all->clients);
  all->context = SSL_CTX_new(TLS_client_method());
  if (all->poll < 0 || !all->clients || !all->context) return fail("no memory for clients");
  for (int i = 0; i < count; i++) all->clients[i].fd = -1;
  SSL_CTX_set_mode(all->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(all->context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(all->context, SSL_VERIFY_PEER, NULL);
  if (SSL_CTX_load_verify_locations(all->context, target->ca, NULL) != 1) return fail(target->ca);
  if (SSL_CTX_use_certificate_file(all->context, target->certificate, SSL_FILETYPE_PEM) != 1)
    return fail(target->certificate);
  if (SSL_CTX_use_PrivateKey_file(all->context, target->key, SSL_FILETYPE_PEM) != 1) return fail(target->key);
  return 0;
}

static void hang_up(client *one) {
  if (one->tls) SSL_free(one->tls);
  if (one->fd >= 0) close(one->fd);
  one->tls = NULL;
  one->fd = -1;
}

static void crowd_close(crowd *all) {
  for (int i = 0; all->clients && i < all->count; i++) hang_up(&all->clients[i]);
  free(all->clients);
  if (all->context) SSL_CTX_free(all->context);
  if (all->poll >= 0) close(all->poll);
}

static int dial(crowd *all, client *one) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)all->target->port)};
  int on = 1;
  one->index = (int)(one - all->clients);
  one->begun = nanoseconds();
  one->state = CONNECTING;
  one->sent = one->head_length = 0;
  one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (one->fd < 0 || inet_pton(AF_INET, all->target->address, &to.sin_addr) != 1) return fail("socket");
  setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (all->receive_buffer)
    setsockopt(one->fd, SOL_SOCKET, SO_RCVBUF, &all->receive_buffer, sizeof all->receive_buffer);
  if (connect(one->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
    snprintf(reason, sizeof reason, "connect: %s", strerror(errno));
    return -1;
  }
  one->tls = SSL_new(all->context);
  if (!one->tls || SSL_set_fd(one->tls, one->fd) != 1) return fail("SSL_new");
  SSL_set_connect_state(one->tls);
  struct epoll_event event = {.events = one->waits = EPOLLOUT, .data.ptr = one};
  return epoll_ctl(all->poll, EPOLL_CTL_ADD, one->fd, &event) ? fail("epoll_ctl") : 0;
}

/* Waits for what OpenSSL wants; -1 if it wants nothing that could come. */
static int wait_for(crowd *all, client *one, int result, const char *what) {
  int why = SSL_get_error(one->tls, result);
  uint32_t wanted = why == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN;
  if (why == SSL_ERROR_SYSCALL && errno) {
    snprintf(reason, sizeof reason, "%s: %s", what, strerror(errno));
    return -1;
  }
  if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) return fail(what);
  if (wanted == one->waits) return 0;
  struct epoll_event event = {.events = one->waits = wanted, .data.ptr = one};
  return epoll_ctl(all->poll, EPOLL_CTL_MOD, one->fd, &event) ? fail("epoll_ctl") : 0;
}

/* Brings a client as far as the first byte behind its reply's head. 1: there, with `*body` bytes of the body read already
   (they begin at one->head + one->head_length); 0: later; -1: failed. */
static int advance(crowd *all, client *one, size_t *body) {
  if (one->state == CONNECTING) {
    int result = SSL_do_handshake(one->tls);
    if (result != 1) return wait_for(all, one, result, "the handshake failed");
    one->state = SENDING;
  }
  while (one->state == SENDING) {
    int result = SSL_write(one->tls, all->target->request + one->sent, (int)(all->request_length - one->sent));
    if (result <= 0) return wait_for(all, one, result, "the request could not be sent");
    if ((one->sent += (size_t)result) == all->request_length) one->state = HEAD;
  }
  while (one->state == HEAD) {
    size_t room = sizeof one->head - 1 - one->head_length;
    if (!room) return fail("the reply's head is too long");
    int result = SSL_read(one->tls, one->head + one->head_length, (int)room);
    if (result <= 0) return wait_for(all, one, result, "no reply came");
    size_t had = one->head_length;
    one->head_length += (size_t)result;
    one->head[one->head_length] = 0;
    char *end = strstr(one->head + (had > 3 ? had - 3 : 0), "\r\n\r\n");
    if (!end) continue;
    if (strncmp(one->head, "HTTP/1.1 200", 12)) {
      one->head[120] = 0;
      return fail(one->head);
    }
    *body = one->head_length - (size_t)(end + 4 - one->head);
    one->head_length -= *body;
    end[2] = 0;
    const char *length = strcasestr(one->head, "\r\ncontent-length:");
    one->body_left = length ? atol(length + 17) : -1;
    one->state = BODY;
    return 1;
  }
  return 1;
}

/* 1 when the whole reply is there. */
static int reply(crowd *all, client *one) {
  static char rest[65536];
  size_t body = 0;
  if (one->state != BODY) {
    int result = advance(all, one, &body);
    if (result != 1) return result;
    if (one->body_left < 0) return fail("the reply has no Content-Length");
    one->body_left -= (long)body;
  }
  while (one->body_left > 0) {
    int result = SSL_read(one->tls, rest, sizeof rest);
    if (result <= 0) return wait_for(all, one, result, "the reply broke off");
    one->body_left -= result;
  }
  return 1;
}

static long reply_size(const client *one) {
  const char *length = strcasestr(one->head, "\r\ncontent-length:");
  return (long)one->head_length + (length ? atol(length + 17) : 0);
}

static int run(crowd *all, double warm_up, double seconds, int is_anew, benchmark_load *load) {
  latencies *times = calloc(1, sizeof *times);
  struct epoll_event events[64];
  int64_t start = nanoseconds() + (int64_t)(warm_up * 1e9), end = start + (int64_t)(seconds * 1e9), now = 0;
  int result = times ? 0 : fail("no memory");
  for (int i = 0; !result && i < all->count; i++) result = dial(all, &all->clients[i]);
  while (!result && (now = nanoseconds()) < end) {
    int ready = epoll_wait(all->poll, events, 64, (int)((end - now) / 1000000) + 1);
    for (int i = 0; !result && i < ready; i++) {
      client *one = events[i].data.ptr;
      int done;
      while ((done = reply(all, one)) == 1) {
        now = nanoseconds();
        if (now >= start) {
          load->count++;
          load->bytes += reply_size(one);
          note(times, now - one->begun);
        }
        if (is_anew) {
          hang_up(one);
          done = dial(all, one);
          break;
        }
        one->begun = now;
        one->state = SENDING;
        one->sent = one->head_length = 0;
      }
      if (done < 0) result = -1;
    }
  }
  if (!result) {
    load->seconds = (nanoseconds() - start) / 1e9;
    report(times, load);
  }
  free(times);
  return result;
}

static int measure(
    const benchmark_target *target, int connections, double warm_up, double seconds, int is_anew, benchmark_load *load) {
  crowd all;
  memset(load, 0, sizeof *load);
  int result = crowd_open(&all, target, connections);
  if (!result) result = run(&all, warm_up, seconds, is_anew, load);
  crowd_close(&all);
  return result;
}

int benchmark_requests(
    const benchmark_target *target, int connections, double warm_up, double seconds, benchmark_load *load) {
  return measure(target, connections, warm_up, seconds, 0, load);
}

int benchmark_handshakes(const benchmark_target *target, int connections, double seconds, benchmark_load *load) {
  return measure(target, connections, 0, seconds, 1, load);
}

/* Followers. */

struct benchmark_followers {
  crowd all;
  benchmark_target target;
  latencies *times;
};

void benchmark_followers_close(benchmark_followers *followers) {
  if (!followers) return;
  crowd_close(&followers->all);
  free(followers->times);
  free(followers);
}

benchmark_followers *benchmark_followers_open(const benchmark_target *target, int count, int stalled) {
  benchmark_followers *followers = calloc(1, sizeof *followers);
  struct epoll_event events[64];
  int result = followers ? 0 : fail("no memory"), open = 0, dialled = 0;
  if (result) return NULL;
  followers->target = *target;
  result = crowd_open(&followers->all, &followers->target, count);
  crowd *all = &followers->all;
  if (stalled) all->receive_buffer = 8192;
  int64_t limit = nanoseconds() + 120 * 1000000000LL;
  while (!result && open < count) {
    /* A few at a time: a thousand handshakes at once are another benchmark. */
    while (!result && dialled < count && dialled - open < 50) result = dial(all, &all->clients[dialled++]);
    int ready = epoll_wait(all->poll, events, 64, 1000);
    if (nanoseconds() > limit) result = fail("the followers were not let in within two minutes");
    for (int i = 0; !result && i < ready; i++) {
      client *one = events[i].data.ptr;
      size_t body;
      int done = one->state == BODY ? 0 : advance(all, one, &body);
      if (done < 0) result = -1;
      if (done != 1) continue;
      open++;
      /* Nobody looks at it again until it is read. */
      struct epoll_event none = {.events = one->waits = 0, .data.ptr = one};
      epoll_ctl(all->poll, EPOLL_CTL_MOD, one->fd, &none);
    }
  }
  if (!result) return followers;
  benchmark_followers_close(followers);
  return NULL;
}

/* Looks for `"line":"` and the digits behind it, however the bytes are cut. */
static void look(client *one, const char *bytes, size_t count, int64_t now, latencies *times) {
  static const char pattern[] = "\"line\":\"";
  const char *end = bytes + count;
  while (bytes < end) {
    if (one->matched == 8) {
      while (bytes < end && *bytes >= '0' && *bytes <= '9') {
        one->stamp = one->stamp * 10 + (*bytes++ - '0');
        one->digits++;
      }
      if (bytes == end) return;
      one->lines++;
      if (one->digits > 12) note(times, now - one->stamp);
      one->matched = 0;
    } else if (one->matched == 0) {
      bytes = memchr(bytes, '"', (size_t)(end - bytes));
      if (!bytes) return;
      bytes++;
      one->matched = 1;
    } else if (*bytes == pattern[one->matched]) {
      bytes++;
      if (++one->matched == 8) one->stamp = one->digits = 0;
    } else {
      one->matched = *bytes == '"';
      bytes++;
    }
  }
}

int benchmark_followers_read(benchmark_followers *followers, double seconds, int lines, benchmark_load *load) {
  static char buffer[65536];
  crowd *all = &followers->all;
  struct epoll_event events[64];
  memset(load, 0, sizeof *load);
  if (!followers->times) followers->times = malloc(sizeof *followers->times);
  if (!followers->times) return fail("no memory");
  memset(followers->times, 0, sizeof *followers->times);
  for (int i = 0; i < all->count; i++) {
    client *one = &all->clients[i];
    one->lines = 0;
    struct epoll_event event = {.events = one->waits = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(all->poll, EPOLL_CTL_MOD, one->fd, &event)) return fail("epoll_ctl");
  }
  int64_t start = nanoseconds(), end = start + (int64_t)(seconds * 1e9), now;
  while ((now = nanoseconds()) < end) {
    int ready = epoll_wait(all->poll, events, 64, (int)((end - now) / 1000000) + 1);
    for (int i = 0; i < ready; i++) {
      client *one = events[i].data.ptr;
      int result = 0;
      /* A turn has an end: a follower that always has more must not starve the others. */
      for (int turn = 0; turn < 16 || SSL_pending(one->tls) > 0; turn++) {
        result = SSL_read(one->tls, buffer, sizeof buffer);
        if (result <= 0) break;
        load->bytes += result;
        if (lines) look(one, buffer, (size_t)result, nanoseconds(), followers->times);
      }
      if (result <= 0 && wait_for(all, one, result, "a follower's stream broke off")) return -1;
    }
  }
  load->seconds = (nanoseconds() - start) / 1e9;
  for (int i = 0; i < all->count; i++) {
    client *one = &all->clients[i];
    load->count += one->lines;
    if (i == 0 || one->lines < load->slowest) load->slowest = one->lines;
  }
  report(followers->times, load);
  return 0;
}
