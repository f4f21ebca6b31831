/* crypto: hashes, ciphers, big numbers and compression of OpenSSL and zlib, linked statically so that their assembly has names. On each line "go BYTES"
 * it does all of it with so many bytes, 2400 at most, and prints what came out. */
#include "target.h"
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <zlib.h>

static uint64_t digest(const unsigned char *bytes, size_t length)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < length; i++) sum = target_mix(sum, bytes[i]);
    return sum;
}

static void hash(const char *name, const unsigned char *data, size_t length)
{
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (!EVP_Digest(data, length, out, &size, EVP_get_digestbyname(name), NULL)) target_fail("digest %s", name);
    target_say("result %s %016llx", name, (unsigned long long)digest(out, size));
}

static void cipher(const char *name, const unsigned char *data, int length)
{
    unsigned char key[64], iv[16], out[4096], tag[16] = { 0 };
    for (int i = 0; i < 64; i++) key[i] = (unsigned char)(i * 7 + 1);
    for (int i = 0; i < 16; i++) iv[i] = (unsigned char)(i * 3);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int size = 0, more = 0;
    if (!EVP_EncryptInit_ex(context, EVP_get_cipherbyname(name), NULL, key, iv) || !EVP_EncryptUpdate(context, out, &size, data, length)
        || !EVP_EncryptFinal_ex(context, out + size, &more)) target_fail("cipher %s", name);
    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag);
    EVP_CIPHER_CTX_free(context);
    target_say("result %s %016llx", name, (unsigned long long)(digest(out, (size_t)(size + more)) ^ digest(tag, 16)));
}

static void power(const unsigned char *data)
{
    BN_CTX *context = BN_CTX_new();
    BIGNUM *base = BN_bin2bn(data, 64, NULL), *exponent = BN_bin2bn(data + 64, 2, NULL), *modulus = BN_bin2bn(data + 96, 64, NULL), *result = BN_new();
    unsigned char out[64] = { 0 };
    BN_set_bit(modulus, 0);
    if (!BN_mod_exp(result, base, exponent, modulus, context)) target_fail("power");
    BN_bn2binpad(result, out, 64);
    target_say("result power %016llx", (unsigned long long)digest(out, 64));
    BN_free(base);
    BN_free(exponent);
    BN_free(modulus);
    BN_free(result);
    BN_CTX_free(context);
}

/* Of text that comes again and bytes that do not. */
static void deflated(const unsigned char *random, uLong length)
{
    unsigned char packed[8192], back[4096], text[4096];
    uLongf size = sizeof packed, whole = sizeof back;
    const unsigned char *data = text;
    for (uLong i = 0; i < length; i++) text[i] = i % 97 < 80 ? (unsigned char)"sphinx of black quartz, judge my vow; "[i % 97 % 38] : random[i];
    if (compress2(packed, &size, data, length, 9) != Z_OK || uncompress(back, &whole, packed, size) != Z_OK) target_fail("zlib");
    if (whole != length || memcmp(back, data, length)) target_fail("not the same");
    target_say("result zlib %lu %016llx %lx %lx", (unsigned long)size, (unsigned long long)digest(packed, size), crc32(0, data, (uInt)length),
        adler32(1, data, (uInt)length));
}

int main(void)
{
    unsigned char data[2400];
    for (int i = 0; i < (int)sizeof data; i++) data[i] = (unsigned char)((i * i >> 3) ^ (i % 61 < 40 ? i % 61 : 7));
    target_ready();
    char line[64];
    while (target_command(line, sizeof line)) {
        if (strcmp(line, "end") == 0) return target_end(0);
        int length = atoi(line + 2);
        if (length < 160 || length > (int)sizeof data) return 96;
        static const char *hashes[] = { "SHA256", "SHA512", "SHA1", "MD5", "SHA3-256", "BLAKE2s256" };
        static const char *ciphers[] = { "AES-128-CBC", "AES-256-GCM", "AES-128-CTR", "ChaCha20-Poly1305", "CAMELLIA-128-CBC" };
        for (unsigned i = 0; i < sizeof hashes / sizeof *hashes; i++) hash(hashes[i], data, (size_t)length);
        for (unsigned i = 0; i < sizeof ciphers / sizeof *ciphers; i++) cipher(ciphers[i], data, length);
        power(data);
        deflated(data, (uLong)length);
        target_say("done");
    }
    return 97;
}
