#pragma once
#include <stddef.h>

/// Many HTTPS clients on one thread: epoll and OpenSSL, so that a load costs the machine as little as it can, and the same for
/// whoever is measured. Clients have certificates, never resume a session and speak HTTP/1.1.

/// Where the clients go, and what each of them sends.
typedef struct benchmark_target {
  const char *address;  ///< An IPv4 address.
  int port;
  const char *ca, *certificate, *key;  ///< PEM files.
  const char *request;                 ///< The whole request, its empty line included.
} benchmark_target;

/// What came of a load.
typedef struct benchmark_load {
  long count;                  ///< Replies, handshakes or lines.
  long bytes;                  ///< Of replies.
  double seconds;              ///< How long it was measured.
  double p50, p99, worst;      ///< Milliseconds.
  long slowest;                ///< Followers: the fewest lines one of them got.
} benchmark_load;

/// The reason of the last failure, a sentence.
const char *benchmark_tls_error(void);

/// Each of `connections` sends the request, waits for its reply with status 200 and sends it again; the latency is that of a
/// reply. Nothing is counted in the first `warm_up` seconds. Returns 0, or -1.
int benchmark_requests(
    const benchmark_target *target, int connections, double warm_up, double seconds, benchmark_load *load);

/// Each of `connections` connects, shakes hands in full, sends the request (which must ask for the connection's end), reads its
/// reply and begins anew: a TLS 1.3 client knows only by a reply that its certificate was taken.
int benchmark_handshakes(const benchmark_target *target, int connections, double seconds, benchmark_load *load);

/// Clients that follow a stream of Server-Sent Events.
typedef struct benchmark_followers benchmark_followers;

/// Connects them, sends their request and waits until each has the head of a reply with status 200. With `stalled` they never
/// read again, and have little room for what is sent to them. Null on failure.
benchmark_followers *benchmark_followers_open(const benchmark_target *target, int count, int stalled);

/// Reads what comes for so long. If a line of the job begins with digits, they are CLOCK_MONOTONIC in nanoseconds when it was
/// written, and its latency is measured. With `lines` 0 only bytes are counted.
int benchmark_followers_read(benchmark_followers *followers, double seconds, int lines, benchmark_load *load);
void benchmark_followers_close(benchmark_followers *followers);
