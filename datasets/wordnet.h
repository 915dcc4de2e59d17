/* Private to datasets/: the data files of WordNet 3.0 (Fellbaum 1998; wndb(5WN): "offset lex_filenum
 * ss_type ... | gloss"), read and checked here for every source that is made of them. */
#ifndef PB_DATASETS_WORDNET_H
#define PB_DATASETS_WORDNET_H

#include "datasets/texts_impl.h"

#define PB_WORDNET_HOW_TO_GET "apt-get install wordnet-base"
#define PB_WORDNET_LICENCE \
    "WordNet 3.0 licence (Princeton University; free use with the notice kept)"

/* One line. The gloss is a definition, then example sentences in double quotes:
 * "a dog; \"the dog barked\"; \"dogs\"". */
typedef struct pb_synset {
    const char *gloss; /* no NUL, valid UTF-8, not empty; not terminated */
    size_t gloss_len;
    size_t definition_len; /* up to the first example, without separators; a gloss that is only
                              quotations is one definition */
    int32_t file;          /* lexicographer file, 0 to 44 */
    uint64_t id;           /* part of speech (1 noun, 2 verb, 3 adjective, 4 adverb) * 10^8 + offset */
} pb_synset;

/* What a source makes of them. */
typedef struct pb_wordnet_use {
    pb_status (*begin)(pb_texts *texts);
    pb_status (*take)(const pb_synset *synset, pb_texts *texts);
    int64_t n;        /* examples that the whole of WordNet 3.0 gives */
    const char *what; /* "synsets" */
} pb_wordnet_use;
extern const pb_wordnet_use pb_wordnet_definitions, pb_wordnet_examples;

extern const char *const pb_wordnet_labels[45]; /* of the lexicographer files */

/* One data file (data.noun ...), pos 'n', 'v', 'a' or 'r', appended to the splits of texts (all zero
 * before the first call; free it also after a failure). PB_E_INPUT with file and offset. */
pb_status pb_wordnet_parse(const char *where, const char *data, size_t len, char pos,
                           const pb_wordnet_use *use, pb_texts *texts);
/* All four of a folder, NULL = where Debian has them. PB_E_ENV says how to get them; PB_E_INPUT when
 * the examples are not as many as there must be. */
pb_status pb_wordnet_load(const pb_wordnet_use *use, const char *dir, pb_texts *out);

/* 80 % train, 10 % valid, 10 % test by the hash of the text, so that equal texts are never on both
 * sides. */
pb_split_id pb_wordnet_split(const char *text, size_t len);

#endif
