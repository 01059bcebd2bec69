/* The programs of gc-peers on Boehm's collector, each as one would write it there. Prints what src/main.rs says. */
#define _GNU_SOURCE
#include <gc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LRU_ENTRIES 1000000
#define LRU_CHAINS (1u << 20)
#define LRU_OPS 4000000
#define VECS_LIVE (1u << 16)
#define VECS_OPS 2000000
#define LIST_NODES 1000000
#define LIST_ROUNDS 20
#define WIDE_PLACES (1u << 20)
#define WIDE_OPS 8000000
#define STR_LIVE (1u << 16)
#define STR_OPS 4000000
#define BATCH 64
#define TICK_DEPTH 7
#define STOP_NS 20000

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct stop {
    uint64_t end, wall, cpu;
};
static uint64_t begin_ns, last_ns, slow_wall, slow_cpu;
static struct stop *stops;
static size_t stop_count, stop_room;

/* As watch.rs. The list of stops is not the collector's. */
static void tick(void) {
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (now - last_ns >= STOP_NS) {
        uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), gap = now - last_ns;
        uint64_t own = cpu - slow_cpu, between = last_ns - slow_wall;
        own = own > between ? own - between : 0;
        if (stop_count == stop_room) {
            stop_room = stop_room ? 2 * stop_room : 1024;
            stops = realloc(stops, stop_room * sizeof *stops);
            if (!stops) abort();
        }
        stops[stop_count++] = (struct stop){now - begin_ns, gap, own < gap ? own : gap};
        now = clock_ns(CLOCK_MONOTONIC);
        slow_wall = now;
        slow_cpu = cpu;
    }
    last_ns = now;
}

/* What was done until now does not count. */
static void skip(void) {
    last_ns = slow_wall = clock_ns(CLOCK_MONOTONIC);
    slow_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t rng_state = 88172645463325252u;
static uint64_t next(void) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state >> 11;
}

struct tree {
    struct tree *left, *right;
};

static struct tree *small(int depth) {
    struct tree *t = GC_MALLOC(sizeof *t);
    if (depth > 0) {
        t->left = small(depth - 1);
        t->right = small(depth - 1);
    }
    return t;
}

static struct tree *build(int depth) {
    if (depth <= TICK_DEPTH) return small(depth);
    tick();
    struct tree *t = GC_MALLOC(sizeof *t);
    t->left = build(depth - 1);
    t->right = build(depth - 1);
    return t;
}

static uint64_t count_small(const struct tree *t) {
    return t->left ? 1 + count_small(t->left) + count_small(t->right) : 1;
}

static uint64_t count(const struct tree *t, int depth) {
    if (depth <= TICK_DEPTH) return count_small(t);
    tick();
    return 1 + count(t->left, depth - 1) + count(t->right, depth - 1);
}

static uint64_t temporaries(int depth, uint32_t n) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += count(build(depth), depth);
        if (i % (1 + (256 >> depth)) == 0) tick();
    }
    return sum;
}

static struct tree *kept;

static uint64_t binary_trees(int depth) {
    uint64_t sum = count(build(depth + 1), depth + 1);
    kept = build(depth);
    for (int d = 4; d <= depth; d += 2) sum += temporaries(d, 1u << (depth - d + 4));
    return sum + count(kept, depth);
}

static uint64_t gc_bench(int depth) {
    uint64_t sum = 0;
    kept = build(depth);
    for (int d = 4; d < depth; d += 2) sum += temporaries(d, (2u << depth) / ((2u << d) - 1));
    return sum + count(kept, depth);
}

struct entry {
    uint64_t key, *value;
    struct entry *chain, *newer, *older;
};
static struct entry **table, *newest, *oldest;
static uint32_t entries;

static uint64_t *leaf(uint64_t v) {
    uint64_t *p = GC_MALLOC_ATOMIC(sizeof *p);
    *p = v;
    return p;
}

static void unlink_entry(struct entry *e) {
    *(e->newer ? &e->newer->older : &newest) = e->older;
    *(e->older ? &e->older->newer : &oldest) = e->newer;
}

static void link_entry(struct entry *e) {
    e->newer = NULL;
    e->older = newest;
    *(newest ? &newest->newer : &oldest) = e;
    newest = e;
}

static int touch(uint64_t key) {
    struct entry **head = &table[key % LRU_CHAINS];
    for (struct entry *e = *head; e; e = e->chain) {
        if (e->key == key) {
            unlink_entry(e);
            link_entry(e);
            e->value = leaf(key);
            return 1;
        }
    }
    struct entry *e = GC_MALLOC(sizeof *e);
    e->key = key;
    e->value = leaf(key);
    e->chain = *head;
    *head = e;
    link_entry(e);
    if (++entries > LRU_ENTRIES) {
        struct entry *victim = oldest;
        unlink_entry(victim);
        for (struct entry **at = &table[victim->key % LRU_CHAINS]; *at; at = &(*at)->chain) {
            if (*at == victim) {
                *at = victim->chain;
                break;
            }
        }
        entries--;
    }
    return 0;
}

static uint64_t lru(void) {
    uint64_t hits = 0;
    table = GC_MALLOC(LRU_CHAINS * sizeof *table);
    skip();
    for (uint32_t i = 0; i < LRU_OPS; i++) {
        hits += touch(next() % (LRU_ENTRIES * 3 / 2));
        if (i % BATCH == 0) tick();
    }
    return hits;
}

struct vec {
    uint64_t **items;
    size_t len, room;
};
static struct vec **slots;

static uint64_t vecs(void) {
    uint64_t sum = 0;
    slots = GC_MALLOC(VECS_LIVE * sizeof *slots);
    skip();
    for (uint64_t op = 0; op < VECS_OPS; op++) {
        struct vec **slot = &slots[next() % VECS_LIVE], *v = GC_MALLOC(sizeof *v);
        uint64_t n = 1 + next() % 8;
        for (uint64_t i = 0; i < n; i++) {
            if (v->len == v->room) {
                v->room = v->room ? 2 * v->room : 4;
                v->items = GC_REALLOC(v->items, v->room * sizeof *v->items);
            }
            v->items[v->len++] = leaf(op + i);
        }
        if (*slot)
            for (size_t i = 0; i < (*slot)->len; i++) sum += *(*slot)->items[i];
        *slot = v;
        if (op % BATCH == 0) tick();
    }
    return sum;
}

struct node {
    struct node *next;
    uint64_t value;
};
static struct node *list, *old;

static uint64_t walk(const struct node *at) {
    uint64_t sum = 0;
    for (; at; at = at->next) {
        sum += at->value;
        if (at->value % 256 == 0) tick();
    }
    return sum;
}

static uint64_t lists(void) {
    uint64_t sum = 0;
    for (uint64_t round = 0; round < LIST_ROUNDS; round++) {
        list = NULL;
        for (uint64_t i = 0; i < LIST_NODES; i++) {
            struct node *n = GC_MALLOC(sizeof *n);
            n->next = list;
            n->value = i + round;
            list = n;
            if (i % BATCH == 0) tick();
        }
        sum += walk(list) + walk(old);
        old = list;
    }
    return sum;
}

static uint64_t **array;

static uint64_t wide(void) {
    uint64_t sum = 0;
    array = GC_MALLOC(WIDE_PLACES * sizeof *array);
    for (uint64_t i = 0; i < WIDE_PLACES; i++) array[i] = leaf(i);
    skip();
    for (uint64_t op = 0; op < WIDE_OPS; op++) {
        uint64_t place = next() % WIDE_PLACES;
        sum += *array[place];
        array[place] = leaf(op);
        if (op % BATCH == 0) tick();
    }
    return sum;
}

static char **texts;

static uint64_t strings(void) {
    uint64_t sum = 0;
    texts = GC_MALLOC(STR_LIVE * sizeof *texts);
    for (uint32_t i = 0; i < STR_LIVE; i++) {
        texts[i] = GC_MALLOC_ATOMIC(16);
        snprintf(texts[i], 16, "%u", i);
    }
    skip();
    for (uint32_t op = 0; op < STR_OPS; op++) {
        const char *a = texts[next() % STR_LIVE], *b = texts[next() % STR_LIVE];
        size_t na = strnlen(a, 32), nb = strnlen(b, 32);
        char *text = GC_MALLOC_ATOMIC(na + nb + 1);
        memcpy(text, a, na);
        memcpy(text + na, b, nb);
        text[na + nb] = 0;
        sum += na + nb + (unsigned char)text[0];
        texts[next() % STR_LIVE] = text;
        if (op % BATCH == 0) tick();
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    const char *program = argv[1];
    GC_INIT();
    uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    begin_ns = last_ns = slow_wall = clock_ns(CLOCK_MONOTONIC);
    slow_cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t answer;
    if (!strcmp(program, "lru")) answer = lru();
    else if (!strcmp(program, "vecs")) answer = vecs();
    else if (!strcmp(program, "lists")) answer = lists();
    else if (!strcmp(program, "wide")) answer = wide();
    else if (!strcmp(program, "strings")) answer = strings();
    else if (!strncmp(program, "bt", 2)) answer = binary_trees(atoi(program + 2));
    else if (!strncmp(program, "gb", 2)) answer = gc_bench(atoi(program + 2));
    else return 2;
    uint64_t wall = clock_ns(CLOCK_MONOTONIC) - begin_ns;
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    char line[256];
    long peak = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &peak);
    printf("%lu %lu %lu %ld\n", answer, cpu, wall, peak);
    for (size_t i = 0; i < stop_count; i++) printf("%lu %lu %lu\n", stops[i].end, stops[i].wall, stops[i].cpu);
    return 0;
}
