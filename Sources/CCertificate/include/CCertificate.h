#pragma once
// What a PEM certificate says, by OpenSSL's libcrypto, which is in the process anyway: libcurl uses it.
#include <stddef.h>
#include <stdint.h>

struct joblet_certificate {
  char common_name[256];  // empty if the subject has none
  char unit[256];         // the subject's first OU, likewise
  int64_t not_before;     // Unix seconds
  int64_t not_after;
};

/// Reads the first certificate of a PEM text. False if there is none that can be read.
_Bool joblet_certificate_read(const char *pem, size_t length, struct joblet_certificate *out);

/// Whether a PEM key belongs to the first certificate of a PEM text.
_Bool joblet_certificate_has_key(const char *pem, size_t length, const char *key, size_t key_length);
