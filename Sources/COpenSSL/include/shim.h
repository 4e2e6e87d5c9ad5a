// OpenSSL 3.0 (Debian: libssl-dev): a static inline for each function-like macro that is used, a constant for each SSL_OP.
#pragma once
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static const unsigned long trivet_ERR_SYSTEM_FLAG = ERR_SYSTEM_FLAG;
static const uint64_t trivet_SSL_OP_NO_RENEGOTIATION = SSL_OP_NO_RENEGOTIATION;
static const uint64_t trivet_SSL_OP_NO_COMPRESSION = SSL_OP_NO_COMPRESSION;
static const uint64_t trivet_SSL_OP_IGNORE_UNEXPECTED_EOF = SSL_OP_IGNORE_UNEXPECTED_EOF;
static const uint64_t trivet_SSL_OP_CIPHER_SERVER_PREFERENCE = SSL_OP_CIPHER_SERVER_PREFERENCE;
static const uint64_t trivet_SSL_OP_PRIORITIZE_CHACHA = SSL_OP_PRIORITIZE_CHACHA;

static inline long trivet_SSL_CTX_set_mode(SSL_CTX *c, long mode) { return SSL_CTX_set_mode(c, mode); }
static inline int trivet_SSL_CTX_set_min_proto_version(SSL_CTX *c, int v) { return (int)SSL_CTX_set_min_proto_version(c, v); }
static inline long trivet_SSL_CTX_set_session_cache_mode(SSL_CTX *c, long m) { return SSL_CTX_set_session_cache_mode(c, m); }
static inline long trivet_SSL_CTX_set_read_ahead(SSL_CTX *c, int on) { return SSL_CTX_set_read_ahead(c, on); }
static inline long trivet_SSL_CTX_set1_groups_list(SSL_CTX *c, const char *list) { return SSL_CTX_set1_groups_list(c, (char *)list); }
static inline long trivet_SSL_CTX_set_tlsext_ticket_keys(SSL_CTX *c, void *keys, size_t n) { return SSL_CTX_set_tlsext_ticket_keys(c, keys, n); }
static inline long trivet_SSL_CTX_set_tlsext_servername_callback(SSL_CTX *c, int (*f)(SSL *, int *, void *)) { return SSL_CTX_set_tlsext_servername_callback(c, f); }
static inline long trivet_SSL_CTX_set_tlsext_servername_arg(SSL_CTX *c, void *arg) { return SSL_CTX_set_tlsext_servername_arg(c, arg); }
static inline long trivet_SSL_set_tlsext_host_name(SSL *s, const char *name) { return SSL_set_tlsext_host_name(s, (char *)name); }
static inline long trivet_SSL_set_msg_callback_arg(SSL *s, void *arg) { return SSL_set_msg_callback_arg(s, arg); }
static inline void trivet_BIO_set_retry_read(BIO *b) { BIO_set_retry_read(b); }
static inline void trivet_BIO_set_retry_write(BIO *b) { BIO_set_retry_write(b); }
static inline void trivet_BIO_clear_retry_flags(BIO *b) { BIO_clear_retry_flags(b); }
static inline EVP_PKEY *trivet_EVP_EC_gen(const char *curve) { return EVP_EC_gen(curve); }
static inline int trivet_BIO_pending(BIO *b) { return (int)BIO_pending(b); }
static inline BIO *trivet_BIO_new_file(const char *path, const char *mode) { return BIO_new_file(path, mode); }
static inline int trivet_SSL_set_proto_version(SSL *s, int v) { return (int)(SSL_set_min_proto_version(s, v) && SSL_set_max_proto_version(s, v)); }
