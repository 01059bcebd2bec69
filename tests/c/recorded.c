// A program that knows nothing of exectrace, for tests/record.rs: argv[1] says what it does.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static void *volatile sink;

// Answers as it would without being recorded: standard input in capitals, the first free descriptor, exit code 42.
static int echo(void) {
    int c;
    while ((c = getchar()) != EOF)
        putchar(c >= 'a' && c <= 'z' ? c - 32 : c);
    fflush(stdout);
    fprintf(stderr, "first %d\n", open("/dev/null", O_RDONLY));
    return 42;
}

__attribute__((noinline)) static void *by_malloc(void) { return malloc(1001); }
__attribute__((noinline)) static void *by_calloc(void) { return calloc(7, 300); }
__attribute__((noinline)) static void *by_realloc(void) { return realloc(malloc(10), 5000); }
__attribute__((noinline)) static void *by_reallocarray(void) { return reallocarray(NULL, 10, 700); }
__attribute__((noinline)) static void *by_aligned_alloc(void) { return aligned_alloc(64, 640); }
__attribute__((noinline)) static void *by_memalign(void) { return memalign(4096, 9000); }
__attribute__((noinline)) static void *by_valloc(void) { return valloc(10000); }
__attribute__((noinline)) static void *by_pvalloc(void) { return pvalloc(1); }
__attribute__((noinline)) static void *by_posix_memalign(void) {
    void *p = NULL;
    return posix_memalign(&p, 256, 2560) == 0 ? p : NULL;
}

static int zeroed(const unsigned char *p, size_t n) {
    while (n > 0 && p[n - 1] == 0)
        n--;
    return n == 0;
}

// Every allocation function once: prints what is held, by function, and keeps it. And what they answer in odd cases.
static int allocations(void) {
    struct {
        const char *name;
        void *(*f)(void);
        size_t align;
    } all[] = {{"by_malloc", by_malloc, 16},          {"by_calloc", by_calloc, 16},
               {"by_realloc", by_realloc, 16},        {"by_reallocarray", by_reallocarray, 16},
               {"by_aligned_alloc", by_aligned_alloc, 64}, {"by_memalign", by_memalign, 4096},
               {"by_valloc", by_valloc, 4096},        {"by_pvalloc", by_pvalloc, 4096},
               {"by_posix_memalign", by_posix_memalign, 256}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        void *p = all[i].f();
        if (p == NULL || (uintptr_t)p % all[i].align != 0)
            return 10 + (int)i;
        if (i == 1 && !zeroed(p, 2100))
            return 30;
        sink = p;
        printf("%s %zu\n", all[i].name, malloc_usable_size(p));
    }
    fflush(stdout);
    errno = 0;
    void *none = malloc(PTRDIFF_MAX);
    if (none != NULL || errno != ENOMEM)
        return 31;
    errno = 0;
    volatile size_t huge = SIZE_MAX / 2;
    if (reallocarray(NULL, huge, 3) != NULL || errno != ENOMEM)
        return 32;
    if (posix_memalign(&none, 3, 10) != EINVAL)
        return 33;
    free(NULL);
    void *p = malloc(100);
    strcpy(p, "kept");
    p = realloc(p, 100000);
    if (strcmp(p, "kept") != 0)
        return 34;
    errno = 77;
    free(p);
    return errno == 77 ? 0 : 35;
}

// Closes all that it may have and more, in one of several ways, and works on.
static int close_all(const char *how) {
    chdir("/");
    switch (how[0]) {
    case '0': closefrom(3); break;
    case '1': close_range(3, ~0u, 0); break;
    case '2': for (int i = 3; i < 70000; i++) close(i); break;
    case '3': syscall(SYS_close_range, 3, ~0u, 0); break;
    case '4': for (int i = 3; i < 6000; i++) syscall(SYS_close, i); break;
    case '5': for (int i = 3; i < 6000; i++) dup2(1, i); break;
    case '6': // Around libc: nobody sees it.
#ifdef __x86_64__
    {
        long r;
        __asm__ volatile("syscall" : "=a"(r) : "a"(SYS_close_range), "D"(3L), "S"(~0u), "d"(0L) : "rcx", "r11", "memory");
    }
#endif
        break;
    }
    if (close(4000) == 0 && how[0] != '5')
        return 1;
    for (int i = 0; i < 500; i++)
        access("/after", F_OK);
    return 0;
}

static void *waits(void *lock) {
    pthread_mutex_lock(lock);
    return NULL;
}

static void stop_in_handler(int signal) {
    (void)signal;
    _exit(5);
}

// Says N times that it is alive, with threads about, and ends in one of several ways.
static int last_words(int n, const char *how) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, waits, &lock);
    usleep(20000);
    for (int i = 0; i < n; i++) {
        access("/alive", F_OK);
        sink = malloc(100000);
    }
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(how, "segv") == 0)
        *(volatile int *)8 = 1;
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "term") == 0)
        raise(SIGTERM);
    if (strcmp(how, "exec") == 0)
        execl("/bin/true", "true", (char *)NULL);
    if (strcmp(how, "_exit") == 0)
        _exit(5);
    if (strcmp(how, "quick_exit") == 0)
        quick_exit(5);
    if (strcmp(how, "raw") == 0)
        syscall(SYS_exit_group, 5);
    if (strcmp(how, "handler") == 0) {
        signal(SIGALRM, stop_in_handler);
        ualarm(5000, 0);
        for (;;)
            free((void *)(sink = malloc(100)));
    }
    return 5;
}

// Children of every sort, each of which says something.
static int children(void) {
    int status;
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            access("/child", F_OK);
            if (i == 1)
                execl("/bin/true", "true", (char *)NULL);
            if (i == 2)
                _exit(0);
            exit(0);
        }
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 1;
    }
    pid_t pid = vfork();
    if (pid == 0) {
        close(20);
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return 2;
    pid = vfork();
    if (pid == 0)
        _exit(3);
    if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 3)
        return 3;
    char *args[] = {"true", NULL};
    if (posix_spawn(&pid, "/bin/true", NULL, NULL, args, environ) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return 4;
    for (int i = 0; i < 300; i++)
        access("/parent", F_OK);
    return 0;
}

static void *outlives(void *arg) {
    usleep(20000);
    free((void *)(sink = malloc(100)));
    return arg;
}

static void *forks(void *status) {
    pid_t pid = fork();
    // The child's only thread ends here, as a thread. That ends the child.
    if (pid != 0 && waitpid(pid, status, 0) != pid)
        *(int *)status = -1;
    return NULL;
}

// A process that ends with its last thread, after the first, and a child that does.
static int last_thread(void) {
    pthread_t threads[3];
    int status = -1;
    pthread_create(&threads[0], NULL, forks, &status);
    pthread_join(threads[0], NULL);
    if (status != 0)
        return 1;
    for (int i = 0; i < 3; i++) {
        pthread_create(&threads[i], NULL, outlives, NULL);
        pthread_detach(threads[i]);
    }
    pthread_exit(NULL);
}

struct session {
    struct session *next;
    char *body;
};

// Keeps what it should forget. Here is the leak.
__attribute__((noinline)) static void remember(struct session **cache, size_t bytes) {
    struct session *s = malloc(sizeof *s);
    char *body = s ? malloc(bytes) : NULL;
    if (body == NULL) {
        fprintf(stderr, "out of memory\n");
        abort();
    }
    memset(body, 'x', bytes);
    s->body = body;
    s->next = *cache;
    *cache = s;
}

__attribute__((noinline)) static void handle_request(struct session **cache, int n) {
    char *scratch = malloc(30000);
    memset(scratch, n, 30000);
    if (n % 4 == 0)
        remember(cache, 64 << 10);
    free(scratch);
}

// A server whose cache grows without bound, 25 MB a second.
static int serve(void) {
    struct session *cache = NULL;
    for (int n = 0;; n++) {
        handle_request(&cache, n);
        if (n % 16 == 15)
            usleep(10000);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "echo") == 0)
        return echo();
    if (strcmp(what, "allocations") == 0)
        return allocations();
    if (strcmp(what, "close_all") == 0)
        return close_all(argv[2]);
    if (strcmp(what, "last_words") == 0)
        return last_words(atoi(argv[2]), argv[3]);
    if (strcmp(what, "children") == 0)
        return children();
    if (strcmp(what, "last_thread") == 0)
        return last_thread();
    if (strcmp(what, "serve") == 0)
        return serve();
    if (strcmp(what, "signal") == 0) {
        puts("ready");
        fflush(stdout);
        pause();
    }
    return 99;
}
