/* hashing [BYTES] [ROUNDS]: SHA-256, CRC-32 and an LZ compressor with its decompressor over a deterministic buffer. */
#include "target.h"

static const uint32_t sha_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2 };
static uint32_t crc_table[256];
static uint64_t blocks;

static inline uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

PROBED void sha256_block(uint32_t state[8], const unsigned char *block)
{
    uint32_t w[64], a[8];
    blocks++;
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(a, state, sizeof a);
    for (int i = 0; i < 64; i++) {
        uint32_t t1 = a[7] + (rotate(a[4], 6) ^ rotate(a[4], 11) ^ rotate(a[4], 25)) + ((a[4] & a[5]) ^ (~a[4] & a[6])) + sha_constants[i] + w[i];
        uint32_t t2 = (rotate(a[0], 2) ^ rotate(a[0], 13) ^ rotate(a[0], 22)) + ((a[0] & a[1]) ^ (a[0] & a[2]) ^ (a[1] & a[2]));
        for (int k = 7; k > 0; k--) a[k] = a[k - 1];
        a[4] += t1;
        a[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) state[i] += a[i];
}

PROBED void sha256(const unsigned char *data, size_t length, unsigned char digest[32])
{
    uint32_t state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    unsigned char tail[128] = { 0 };
    size_t whole = length / 64 * 64, rest = length - whole, padded = rest < 56 ? 64 : 128;
    for (size_t i = 0; i < whole; i += 64) sha256_block(state, data + i);
    memcpy(tail, data + whole, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++) tail[padded - 1 - (size_t)i] = (unsigned char)((uint64_t)length * 8 >> (8 * i));
    for (size_t i = 0; i < padded; i += 64) sha256_block(state, tail + i);
    for (int i = 0; i < 32; i++) digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
}

PROBED void crc_prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        crc_table[i] = c;
    }
}

PROBED uint32_t crc32_of(const unsigned char *data, size_t length)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < length; i++) c = crc_table[(c ^ data[i]) & 0xff] ^ c >> 8;
    return ~c;
}

/* Literal: 0 BYTE. Match: LENGTH (4..255) OFFSET_LOW OFFSET_HIGH. */
PROBED size_t compress_bytes(const unsigned char *in, size_t length, unsigned char *out)
{
    static int32_t last[4096];
    size_t o = 0;
    for (int i = 0; i < 4096; i++) last[i] = -1;
    for (size_t i = 0; i < length;) {
        size_t best = 0;
        int32_t candidate = -1;
        if (i + 4 <= length) {
            uint32_t key;
            memcpy(&key, in + i, 4);
            uint32_t slot = key * 2654435761u >> 20;
            candidate = last[slot];
            last[slot] = (int32_t)i;
            if (candidate >= 0 && i - (size_t)candidate < 65536)
                while (best < 255 && i + best < length && in[(size_t)candidate + best] == in[i + best]) best++;
        }
        if (best >= 4) {
            size_t offset = i - (size_t)candidate;
            out[o++] = (unsigned char)best;
            out[o++] = (unsigned char)offset;
            out[o++] = (unsigned char)(offset >> 8);
            i += best;
        } else {
            out[o++] = 0;
            out[o++] = in[i++];
        }
    }
    return o;
}

PROBED size_t expand_bytes(const unsigned char *in, size_t length, unsigned char *out)
{
    size_t o = 0;
    for (size_t i = 0; i < length;) {
        if (in[i] == 0) {
            out[o++] = in[i + 1];
            i += 2;
        } else {
            size_t offset = in[i + 1] | (size_t)in[i + 2] << 8;
            for (int k = 0; k < in[i]; k++, o++) out[o] = out[o - offset];
            i += 3;
        }
    }
    return o;
}

int main(int argc, char **argv)
{
    size_t length = (size_t)target_argument(argc, argv, 1, 3000);
    int rounds = target_argument(argc, argv, 2, 1);
    unsigned char *data = malloc(length + 1), *packed = malloc(length * 2 + 16), *back = malloc(length + 256), digest[32];
    if (!data || !packed || !back) return 97;
    uint32_t seed = 12345;
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1103515245u + 12345u;
        data[i] = (i % 96 < 60) ? (unsigned char)"the quick brown fox jumps over the lazy dog again and again. "[i % 60] : (unsigned char)(seed >> 24);
    }
    target_ready();
    target_wait();
    crc_prepare();
    for (int r = 0; r < rounds; r++) {
        char text[65];
        sha256(data, length, digest);
        for (int i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
        size_t size = compress_bytes(data, length, packed);
        size_t expanded = expand_bytes(packed, size, back);
        if (expanded != length || memcmp(back, data, length) != 0) target_fail("round trip of %zu bytes gave %zu", length, expanded);
        target_say("sha256 %s", text);
        target_say("crc32 %08x packed %zu crc32 %08x", crc32_of(data, length), size, crc32_of(packed, size));
        data[(size_t)r % length]++;
    }
    sha256((const unsigned char *)"abc", 3, digest);
    if (digest[0] != 0xba || digest[1] != 0x78 || digest[31] != 0xad) target_fail("sha256 of abc");
    if (crc32_of((const unsigned char *)"123456789", 9) != 0xcbf43926u) target_fail("crc32 of 123456789");
    target_say("count sha256_block %llu", (unsigned long long)blocks);
    target_wait();
    return target_end(0);
}
