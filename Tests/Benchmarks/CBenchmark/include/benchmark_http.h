#pragma once
#include <stddef.h>

/// A blocking HTTPS client on one connection: no event loop and no second thread between the clock and the socket, so that
/// what is measured is the server.
typedef struct benchmark_http benchmark_http;

/// One client, one connection, HTTP/1.1 keep-alive. The three files are PEM; null for plain HTTP. Null if libcurl fails.
benchmark_http *benchmark_http_open(const char *ca, const char *certificate, const char *key);
void benchmark_http_close(benchmark_http *client);

/// Sends a request and reads its reply to the end.
/// Returns the HTTP status, or minus libcurl's error code; `benchmark_http_error` has the sentence.
long benchmark_http_request(
    benchmark_http *client, const char *method, const char *url, const char *body, const char *accept);

/// The last reply's body, valid until the next request; never null.
const char *benchmark_http_body(const benchmark_http *client, size_t *length);
const char *benchmark_http_error(const benchmark_http *client);

/// How many connections were made so far: 1 if the connection stayed warm.
long benchmark_http_connections(const benchmark_http *client);
