#pragma once
// libcurl's setters take their argument as C varargs, which Swift can't call. One function a kind of argument.
#include <curl/curl.h>
#include <stddef.h>

CURLcode joblet_curl_set_long(CURL *easy, CURLoption option, long value);
/// value may be NULL: libcurl's default goes away.
CURLcode joblet_curl_set_string(CURL *easy, CURLoption option, const char *value);
CURLcode joblet_curl_set_pointer(CURL *easy, CURLoption option, void *value);
/// libcurl copies the bytes.
CURLcode joblet_curl_set_blob(CURL *easy, CURLoption option, const void *bytes, size_t length);
CURLcode joblet_curl_set_headers(CURL *easy, struct curl_slist *list);

typedef size_t (*joblet_curl_receive)(char *bytes, size_t size, size_t count, void *context);
/// Who gets header lines and body bytes.
CURLcode joblet_curl_set_receivers(CURL *easy, joblet_curl_receive header, joblet_curl_receive body, void *context);

CURLMcode joblet_curl_multi_set_long(CURLM *multi, CURLMoption option, long value);
/// The next transfer that ended, NULL if there is none; *result says how.
CURL *joblet_curl_multi_next_done(CURLM *multi, CURLcode *result);
