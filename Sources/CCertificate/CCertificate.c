#include "CCertificate.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <time.h>

static X509 *read_certificate(const char *pem, size_t length) {
  if (length > INT_MAX) return NULL;
  BIO *text = BIO_new_mem_buf(pem, (int)length);
  if (text == NULL) return NULL;
  X509 *certificate = PEM_read_bio_X509(text, NULL, NULL, NULL);
  BIO_free(text);
  ERR_clear_error();
  return certificate;
}

// UTF-8, whatever the certificate has; too long a name is left out rather than cut.
static void read_name(X509_NAME *name, int field, char *out, size_t size) {
  out[0] = 0;
  int at = X509_NAME_get_index_by_NID(name, field, -1);
  if (at < 0) return;
  unsigned char *text = NULL;
  int length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
  if (length > 0 && (size_t)length < size && memchr(text, 0, (size_t)length) == NULL) {
    memcpy(out, text, (size_t)length);
    out[length] = 0;
  }
  if (length >= 0) OPENSSL_free(text);
}

static _Bool read_time(const ASN1_TIME *time, int64_t *out) {
  struct tm parts;
  if (time == NULL || ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  *out = (int64_t)timegm(&parts);
  return 1;
}

_Bool joblet_certificate_read(const char *pem, size_t length, struct joblet_certificate *out) {
  X509 *certificate = read_certificate(pem, length);
  if (certificate == NULL) return 0;
  X509_NAME *subject = X509_get_subject_name(certificate);
  read_name(subject, NID_commonName, out->common_name, sizeof out->common_name);
  read_name(subject, NID_organizationalUnitName, out->unit, sizeof out->unit);
  _Bool has_times = read_time(X509_get0_notBefore(certificate), &out->not_before) &&
                    read_time(X509_get0_notAfter(certificate), &out->not_after);
  X509_free(certificate);
  return has_times;
}

// Instead of asking at the terminal for a password, which PEM_read_bio_PrivateKey(3) does without a callback.
static int no_password(char *buffer, int size, int for_writing, void *context) {
  (void)buffer, (void)size, (void)for_writing, (void)context;
  return -1;
}

_Bool joblet_certificate_has_key(const char *pem, size_t length, const char *key, size_t key_length) {
  X509 *certificate = read_certificate(pem, length);
  if (certificate == NULL) return 0;
  BIO *text = key_length > INT_MAX ? NULL : BIO_new_mem_buf(key, (int)key_length);
  EVP_PKEY *private_key = text == NULL ? NULL : PEM_read_bio_PrivateKey(text, NULL, no_password, NULL);
  _Bool matches = private_key != NULL && X509_check_private_key(certificate, private_key) == 1;
  EVP_PKEY_free(private_key);
  BIO_free(text);
  X509_free(certificate);
  ERR_clear_error();
  return matches;
}
