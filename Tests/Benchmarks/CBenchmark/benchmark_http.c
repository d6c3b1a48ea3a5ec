#include "benchmark_http.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

struct benchmark_http {
  CURL *curl;
  char *body;
  size_t length, capacity;
  long connections;
  char error[CURL_ERROR_SIZE];
};

static size_t collect(char *data, size_t size, size_t count, void *context) {
  benchmark_http *client = context;
  size_t bytes = size * count;
  if (client->length + bytes + 1 > client->capacity) {
    size_t capacity = (client->length + bytes + 1) * 2;
    char *grown = realloc(client->body, capacity);
    if (!grown) return 0;
    client->body = grown;
    client->capacity = capacity;
  }
  memcpy(client->body + client->length, data, bytes);
  client->length += bytes;
  client->body[client->length] = 0;
  return bytes;
}

benchmark_http *benchmark_http_open(const char *ca, const char *certificate, const char *key) {
  benchmark_http *client = calloc(1, sizeof *client);
  if (!client) return NULL;
  client->curl = curl_easy_init();
  client->body = calloc(1, client->capacity = 4096);
  if (!client->curl || !client->body) {
    benchmark_http_close(client);
    return NULL;
  }
  curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, client->error);
  curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, collect);
  curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, client);
  curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(client->curl, CURLOPT_TCP_NODELAY, 1L);
  curl_easy_setopt(client->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
  if (ca) curl_easy_setopt(client->curl, CURLOPT_CAINFO, ca);
  if (certificate) curl_easy_setopt(client->curl, CURLOPT_SSLCERT, certificate);
  if (key) curl_easy_setopt(client->curl, CURLOPT_SSLKEY, key);
  return client;
}

void benchmark_http_close(benchmark_http *client) {
  if (!client) return;
  if (client->curl) curl_easy_cleanup(client->curl);
  free(client->body);
  free(client);
}

long benchmark_http_request(
    benchmark_http *client, const char *method, const char *url, const char *body, const char *accept) {
  struct curl_slist *headers = NULL;
  char line[256] = "Accept: ";
  client->length = 0;
  client->body[0] = 0;
  client->error[0] = 0;
  if (accept && strlen(accept) < sizeof line - 16) headers = curl_slist_append(headers, strcat(line, accept));
  if (body) headers = curl_slist_append(headers, "Content-Type: application/json");
  curl_easy_setopt(client->curl, CURLOPT_URL, url);
  curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
  if (body) {
    curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
  } else {
    curl_easy_setopt(client->curl, CURLOPT_HTTPGET, 1L);
  }
  curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
  CURLcode code = curl_easy_perform(client->curl);
  curl_slist_free_all(headers);
  long status = -(long)code, made = 0;
  if (code == CURLE_OK) curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(client->curl, CURLINFO_NUM_CONNECTS, &made);
  client->connections += made;
  return status;
}

const char *benchmark_http_body(const benchmark_http *client, size_t *length) {
  if (length) *length = client->length;
  return client->body;
}

const char *benchmark_http_error(const benchmark_http *client) { return client->error; }

long benchmark_http_connections(const benchmark_http *client) { return client->connections; }
