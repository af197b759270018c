/* Between Rust and intel-ipsec-mb: the layout of its structures is for C to know.
 *
 * Nothing here checks anything: library.rs says what each function needs.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <intel-ipsec-mb.h>

enum { TAG_LEN = 16 };

enum status { READY, NO_MEMORY, NO_INSTRUCTIONS, SELF_TEST_FAILED };

/* Taken from the library's manager once: it chooses by what the processor has. */
static struct {
    aes_gcm_pre_t expand;
    aes_gcm_enc_dec_t seal;
    aes_gcm_enc_dec_t open;
} functions;

int weft_gcm_init(void)
{
    IMB_MGR *manager = alloc_mb_mgr(0);
    if (manager == NULL)
        return NO_MEMORY;
    init_mb_mgr_auto(manager, NULL);
    const uint64_t features = manager->features;
    const uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
    int status = READY;
    if ((features & needed) != needed)
        status = NO_INSTRUCTIONS;
#ifdef IMB_FEATURE_SELF_TEST
    else if ((features & IMB_FEATURE_SELF_TEST) && !(features & IMB_FEATURE_SELF_TEST_PASS))
        status = SELF_TEST_FAILED;
#endif
    functions.expand = manager->gcm256_pre;
    functions.seal = manager->gcm256_enc;
    functions.open = manager->gcm256_dec;
    free_mb_mgr(manager);
    return status;
}

size_t weft_gcm_expanded_size(void)
{
    return sizeof(struct gcm_key_data);
}

size_t weft_gcm_expanded_alignment(void)
{
    return _Alignof(struct gcm_key_data);
}

void weft_gcm_expand(const uint8_t *key, void *expanded)
{
    functions.expand(key, expanded);
}

void weft_gcm_seal(const void *expanded, const uint8_t *nonce, const uint8_t *aad, size_t aad_len,
                   const uint8_t *text, size_t text_len, const uint8_t *tail, size_t tail_len,
                   uint8_t *out)
{
    struct gcm_context_data context;
    const size_t len = text_len + tail_len;
    if (tail_len > 0) {
        /* To copy both and seal in place is faster than the library's interface for parts. */
        memcpy(out, text, text_len);
        memcpy(out + text_len, tail, tail_len);
        text = out;
    }
    functions.seal(expanded, &context, out, text, len, nonce, aad, aad_len, out + len, TAG_LEN);
}

void weft_gcm_open(const void *expanded, const uint8_t *nonce, const uint8_t *aad, size_t aad_len,
                   const uint8_t *text, size_t text_len, uint8_t *out, uint8_t *tag)
{
    struct gcm_context_data context;
    functions.open(expanded, &context, out, text, text_len, nonce, aad, aad_len, tag, TAG_LEN);
}
