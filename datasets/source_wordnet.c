/* WordNet 3.0: the definition of every synset, and as its class the lexicographer file it belongs to
 * (45 "supersenses", lexnames(5WN)).
 *
 * The text is the gloss up to its first example sentence (about 10 words): examples contain the
 * word itself, definitions do not. Splits by the definition's hash, so that synsets with the same
 * words are never on both sides. id = the synset's. */
#include "datasets/wordnet.h"

const char *const pb_wordnet_labels[45] = {
    "adj.all",          "adj.pert",           "adv.all",
    "noun.Tops",        "noun.act",           "noun.animal",
    "noun.artifact",    "noun.attribute",     "noun.body",
    "noun.cognition",   "noun.communication", "noun.event",
    "noun.feeling",     "noun.food",          "noun.group",
    "noun.location",    "noun.motive",        "noun.object",
    "noun.person",      "noun.phenomenon",    "noun.plant",
    "noun.possession",  "noun.process",       "noun.quantity",
    "noun.relation",    "noun.shape",         "noun.state",
    "noun.substance",   "noun.time",          "verb.body",
    "verb.change",      "verb.cognition",     "verb.communication",
    "verb.competition", "verb.consumption",   "verb.contact",
    "verb.creation",    "verb.emotion",       "verb.motion",
    "verb.perception",  "verb.possession",    "verb.social",
    "verb.stative",     "verb.weather",       "adj.ppl"};

static pb_status begin(pb_texts *texts) {
    PB_RETURN(pb_texts_begin(texts, "wordnet", PB_TASK_CLASSIFY));
    for (int i = 0; i < 45; i++) {
        int32_t index = -1;
        PB_RETURN(pb_texts_label(texts, pb_wordnet_labels[i], true, &index));
    }
    return PB_OK;
}

static pb_status take(const pb_synset *s, pb_texts *texts) {
    pb_text_example e = {
        .text = s->gloss, .text_len = s->definition_len, .label = s->file, .id = s->id};
    return pb_texts_add(texts, pb_wordnet_split(e.text, e.text_len), &e);
}

const pb_wordnet_use pb_wordnet_definitions = {
    .begin = begin, .take = take, .n = 117659, .what = "synsets"};

static pb_status load(const char *dir, pb_texts *out) {
    return pb_wordnet_load(&pb_wordnet_definitions, dir, out);
}

extern const pb_source pb_source_wordnet;
const pb_source pb_source_wordnet = {
    .name = "wordnet",
    .title = "WordNet 3.0: definitions of 117,659 synsets -> 45 supersenses",
    .licence = PB_WORDNET_LICENCE,
    .task = PB_TASK_CLASSIFY,
    .how_to_get = PB_WORDNET_HOW_TO_GET,
    .load = load,
};
