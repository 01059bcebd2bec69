// A C library as programs load them: it knows nothing of hooks. The tests build it, load it, and look at what its calls did.
//
// Every function returns 0 when the C library did what its manual says, a line number of this file when not.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) return __LINE__; } while (0)

// ---- cancellation

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static int pipe_fds[2], socket_fds[2], listener;
static int handlers, destructors;
static volatile pid_t waiting;

static void handler(void *locked) {
    handlers++;
    // A cleanup handler may call what it likes, hooked functions too.
    char byte = 'x';
    if (write(pipe_fds[1], &byte, 1) == 1 && read(pipe_fds[0], &byte, 1) != 1) handlers += 100;
    if (locked) pthread_mutex_unlock(&lock);
}

static void destructor(int *p) { destructors += *p; }

enum { READ, NANOSLEEP, CLOCK_NANOSLEEP, USLEEP, COND_WAIT, COND_TIMEDWAIT, SEM_WAIT, SEM_TIMEDWAIT, RECV, RECVMSG, ACCEPT,
       POLL, SELECT, EPOLL_WAIT, PAUSE, WAITPID, SIGWAIT, JOIN, OPEN_FIFO, KINDS };

static void *sleeper(void *arg) {
    for (;;) pause();
    return arg;
}
static const char *fifo;

// In a frame of its own with a destructor, as C++ would have it.
static __attribute__((noinline)) void wait_in(int kind) {
    int one __attribute__((cleanup(destructor))) = 1;
    char buffer[8];
    struct timespec long_time = {1000, 0}, until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1000;
    struct pollfd p = {pipe_fds[0], POLLIN, 0};
    struct iovec iov = {buffer, sizeof buffer};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipe_fds[0], &set);
    struct epoll_event event = {EPOLLIN, {0}};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    int epoll;
    pthread_t t;
    waiting = syscall(SYS_gettid);
    switch (kind) {
    case READ: (void)!read(pipe_fds[0], buffer, 1); break;
    case NANOSLEEP: nanosleep(&long_time, 0); break;
    case CLOCK_NANOSLEEP: clock_nanosleep(CLOCK_MONOTONIC, 0, &long_time, 0); break;
    case USLEEP: usleep(900000000); break;
    case COND_WAIT: pthread_cond_wait(&cond, &lock); break;
    case COND_TIMEDWAIT: pthread_cond_timedwait(&cond, &lock, &until); break;
    case SEM_WAIT: sem_wait(&sem); break;
    case SEM_TIMEDWAIT: sem_timedwait(&sem, &until); break;
    case RECV: recv(socket_fds[0], buffer, 1, 0); break;
    case RECVMSG: recvmsg(socket_fds[0], &m, 0); break;
    case ACCEPT: accept(listener, 0, 0); break;
    case POLL: poll(&p, 1, -1); break;
    case SELECT: select(pipe_fds[0] + 1, &set, 0, 0, 0); break;
    case EPOLL_WAIT:
        epoll = epoll_create1(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_fds[0], &event);
        epoll_wait(epoll, &event, 1, -1);
        break;
    case PAUSE: pause(); break;
    case WAITPID: waitpid(-1, 0, 0); break;
    case SIGWAIT: sigwait(&signals, &(int){0}); break;
    case JOIN: pthread_create(&t, 0, sleeper, 0); pthread_join(t, 0); break;
    case OPEN_FIFO: open(fifo, O_RDONLY); break;
    }
    destructors += 1000; // not reached
}

static void *cancelled(void *arg) {
    int kind = (int)(long)arg;
    int locked = kind == COND_WAIT || kind == COND_TIMEDWAIT;
    if (locked) pthread_mutex_lock(&lock);
    pthread_cleanup_push(handler, (void *)(long)locked);
    wait_in(kind);
    pthread_cleanup_pop(0);
    return 0;
}

// Until the thread sleeps in the kernel.
static int asleep(pid_t tid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    for (int tries = 0; tries < 100000; tries++) {
        FILE *f = fopen(path, "r");
        if (!f) return 0;
        size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        char *state = strrchr(text, ')');
        if (state && state[2] == 'S') return 1;
        sched_yield();
    }
    return 0;
}

int guest_cancel_kinds(void) { return KINDS; }

int guest_cancel(int kind, int while_blocked, const char *fifo_path) {
    fifo = fifo_path;
    handlers = destructors = waiting = 0;
    CHECK(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, socket_fds) == 0);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(listener, (struct sockaddr *)&any, sizeof any) == 0 && listen(listener, 1) == 0);
    sem_init(&sem, 0, 0);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals, 0);
    pid_t child = kind == WAITPID ? fork() : 0;
    if (kind == WAITPID && child == 0) for (;;) pause();
    pthread_t t;
    CHECK(pthread_create(&t, 0, cancelled, (void *)(long)kind) == 0);
    if (while_blocked) {
        while (!waiting) sched_yield();
        CHECK(asleep(waiting));
    }
    CHECK(pthread_cancel(t) == 0);
    void *result;
    CHECK(pthread_join(t, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(handlers == 1);
    CHECK(destructors == 1);
    CHECK(pthread_mutex_trylock(&lock) == 0); // its handler let it go
    pthread_mutex_unlock(&lock);
    if (child) {
        kill(child, SIGKILL);
        CHECK(waitpid(child, 0, 0) == child);
    }
    close(pipe_fds[0]), close(pipe_fds[1]), close(socket_fds[0]), close(socket_fds[1]), close(listener);
    return 0;
}

// A pending cancellation is acted on by sem_wait even if the semaphore is free, and by nothing that is no cancellation point.
static void *pending(void *arg) {
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    int one __attribute__((cleanup(destructor))) = 1;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, 0);
    pthread_cancel(pthread_self());
    char byte;
    (void)!read(pipe_fds[0], &byte, 1); // disabled: reads
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, 0);
    pthread_mutex_lock(&own);
    pthread_mutex_unlock(&own);
    pthread_cond_signal(&cond);
    sem_post(&sem);
    if (arg) sem_wait(&sem);
    return (void *)1;
}

int guest_pending(void) {
    pthread_t t;
    void *result;
    for (long with = 0; with < 2; with++) {
        destructors = 0;
        sem_init(&sem, 0, 5);
        CHECK(pipe(pipe_fds) == 0 && write(pipe_fds[1], "x", 1) == 1);
        CHECK(pthread_create(&t, 0, pending, (void *)with) == 0 && pthread_join(t, &result) == 0);
        CHECK(result == (with ? PTHREAD_CANCELED : (void *)1));
        CHECK(destructors == 1);
        int left;
        CHECK(sem_getvalue(&sem, &left) == 0 && left == 6);
        close(pipe_fds[0]), close(pipe_fds[1]);
    }
    return 0;
}

static void *leaver(void *arg) {
    int one __attribute__((cleanup(destructor))) = 1;
    pthread_exit(arg);
}

int guest_exit(void) {
    pthread_t t;
    void *result;
    destructors = 0;
    CHECK(pthread_create(&t, 0, leaver, (void *)77) == 0 && pthread_join(t, &result) == 0);
    CHECK(result == (void *)77 && destructors == 1);
    return 0;
}

// ---- longjmp out of a blocked call, from a signal handler

static sigjmp_buf back;
static void jump(int signal) { (void)signal; siglongjmp(back, 1); }

int guest_longjmp(int rounds) {
    volatile int round = 0;
    int fds[2];
    CHECK(pipe(fds) == 0);
    struct sigaction act = {.sa_handler = jump}, old;
    sigaction(SIGALRM, &act, &old);
    char byte = 'x';
    while (round++ < rounds) {
        if (sigsetjmp(back, 1) == 0) {
            struct itimerspec soon = {.it_value.tv_nsec = 2000000};
            struct sigevent to = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
            timer_t timer;
            CHECK(timer_create(CLOCK_MONOTONIC, &to, &timer) == 0 && timer_settime(timer, 0, &soon, 0) == 0);
            if (round % 2) (void)!read(fds[0], &byte, 1); else sleep(1000);
            return __LINE__;
        }
        CHECK(write(fds[1], "y", 1) == 1 && read(fds[0], &byte, 1) == 1 && byte == 'y');
    }
    sigaction(SIGALRM, &old, 0);
    close(fds[0]), close(fds[1]);
    return 0;
}

// ---- locks between threads: 0 if the data that they guard is right

struct job { long rounds; int threads; };
static long counter, produced, consumed;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_mutex_t recursive;
static mtx_t mtx;
static cnd_t cnd;
static int turn;

static void spin(int n) { for (volatile int i = 0; i < n; i++) ; }

// Gives the lock's other users time to find it held: the machine may have one processor.
static void hold(long i) { if (i % 16 == 0) sched_yield(); else spin(200); }

static void *use_mutex(void *arg) {
    for (long i = 0; i < ((struct job *)arg)->rounds; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        hold(i);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

static void *use_recursive(void *arg) {
    for (long i = 0; i < ((struct job *)arg)->rounds; i++) {
        pthread_mutex_lock(&recursive);
        pthread_mutex_lock(&recursive);
        counter++;
        hold(i);
        pthread_mutex_unlock(&recursive);
        spin(100);
        pthread_mutex_unlock(&recursive);
    }
    return 0;
}

static void *use_cond(void *arg) {
    struct job *job = arg;
    pthread_mutex_lock(&lock);
    int me = turn++ % job->threads;
    for (long i = 0; i < job->rounds; i++) {
        while (counter % job->threads != me) pthread_cond_wait(&cond, &lock);
        counter++;
        pthread_cond_broadcast(&cond);
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

static void *use_sem(void *arg) {
    struct job *job = arg;
    int produce = __atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) % 2;
    for (long i = 0; i < job->rounds; i++)
        if (produce) { __atomic_fetch_add(&produced, 1, __ATOMIC_RELAXED); sem_post(&sem); if (i % 8 == 0) sched_yield(); }
        else { sem_wait(&sem); __atomic_fetch_add(&consumed, 1, __ATOMIC_RELAXED); }
    return 0;
}

static void *use_rwlock(void *arg) {
    for (long i = 0; i < ((struct job *)arg)->rounds; i++)
        if (i % 4 == 0) {
            pthread_rwlock_wrlock(&rwlock);
            counter++;
            hold(i);
            pthread_rwlock_unlock(&rwlock);
        } else {
            pthread_rwlock_rdlock(&rwlock);
            hold(i);
            pthread_rwlock_unlock(&rwlock);
        }
    return 0;
}

static void *use_barrier(void *arg) {
    struct job *job = arg;
    for (long i = 0; i < job->rounds; i++) {
        __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED);
        pthread_barrier_wait(&barrier);
        if (__atomic_load_n(&counter, __ATOMIC_RELAXED) < (i + 1) * job->threads) return (void *)1;
        pthread_barrier_wait(&barrier);
    }
    return 0;
}

static int use_c11(void *arg) {
    struct job *job = arg;
    mtx_lock(&mtx);
    int me = turn++ % job->threads;
    for (long i = 0; i < job->rounds; i++) {
        while (counter % job->threads != me) cnd_wait(&cnd, &mtx);
        counter++;
        cnd_broadcast(&cnd);
    }
    mtx_unlock(&mtx);
    return 5;
}

static int run(void *(*f)(void *), struct job *job) {
    pthread_t t[64];
    counter = produced = consumed = turn = 0;
    for (int i = 0; i < job->threads; i++) CHECK(pthread_create(&t[i], 0, f, job) == 0);
    for (int i = 0; i < job->threads; i++) {
        void *result;
        CHECK(pthread_join(t[i], &result) == 0 && result == 0);
    }
    return 0;
}

int guest_mutex(int threads, long rounds) {
    int bad = run(use_mutex, &(struct job){rounds, threads});
    return bad ? bad : counter == threads * rounds ? 0 : __LINE__;
}

int guest_recursive(int threads, long rounds) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &a);
    int bad = run(use_recursive, &(struct job){rounds, threads});
    return bad ? bad : counter == threads * rounds ? 0 : __LINE__;
}

int guest_cond(int threads, long rounds) {
    int bad = run(use_cond, &(struct job){rounds, threads});
    return bad ? bad : counter == threads * rounds ? 0 : __LINE__;
}

int guest_sem(int threads, long rounds) {
    sem_init(&sem, 0, 0);
    int bad = run(use_sem, &(struct job){rounds, threads / 2 * 2});
    return bad ? bad : produced == consumed && produced == threads / 2 * rounds ? 0 : __LINE__;
}

int guest_rwlock(int threads, long rounds) {
    int bad = run(use_rwlock, &(struct job){rounds, threads});
    return bad ? bad : counter == threads * ((rounds + 3) / 4) ? 0 : __LINE__;
}

int guest_barrier(int threads, long rounds) {
    pthread_barrier_init(&barrier, 0, threads);
    return run(use_barrier, &(struct job){rounds, threads});
}

int guest_c11(int threads, long rounds) {
    thrd_t t[64];
    struct job job = {rounds, threads};
    counter = turn = 0;
    CHECK(mtx_init(&mtx, mtx_plain) == thrd_success && cnd_init(&cnd) == thrd_success);
    for (int i = 0; i < threads; i++) CHECK(thrd_create(&t[i], use_c11, &job) == thrd_success);
    for (int i = 0; i < threads; i++) {
        int result;
        CHECK(thrd_join(t[i], &result) == thrd_success && result == 5);
    }
    CHECK(counter == threads * rounds);
    CHECK(thrd_sleep(&(struct timespec){0, 1000}, 0) == 0);
    return 0;
}

// Uncontended use of all of them, which is to leave no record.
int guest_uncontended(long rounds) {
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
    sem_t s;
    mtx_t m;
    sem_init(&s, 0, 1);
    mtx_init(&m, mtx_plain);
    struct timespec until = {.tv_sec = 1 << 30};
    for (long i = 0; i < rounds; i++) {
        errno = 77;
        CHECK(pthread_mutex_lock(&own) == 0 && pthread_mutex_unlock(&own) == 0);
        CHECK(pthread_mutex_timedlock(&own, &until) == 0 && pthread_mutex_unlock(&own) == 0);
        CHECK(pthread_rwlock_rdlock(&rw) == 0 && pthread_rwlock_rdlock(&rw) == 0);
        CHECK(pthread_rwlock_unlock(&rw) == 0 && pthread_rwlock_unlock(&rw) == 0);
        CHECK(pthread_rwlock_wrlock(&rw) == 0 && pthread_rwlock_unlock(&rw) == 0);
        CHECK(sem_wait(&s) == 0 && sem_post(&s) == 0 && sem_timedwait(&s, &until) == 0 && sem_post(&s) == 0);
        CHECK(mtx_lock(&m) == thrd_success && mtx_unlock(&m) == thrd_success);
        CHECK(pthread_cond_signal(&cond) == 0 && pthread_cond_broadcast(&cond) == 0);
        CHECK(errno == 77);
    }
    return 0;
}

// What the locks answer in every other case is theirs to say.
static void *hold_and_die(void *arg) { return (void *)(long)pthread_mutex_lock(arg); }

int guest_lock_answers(void) {
    pthread_mutexattr_t a;
    pthread_mutex_t m;
    struct timespec past = {.tv_sec = 1}, wrong = {.tv_nsec = 2000000000};
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&m, &a);
    CHECK(pthread_mutex_unlock(&m) == EPERM);
    CHECK(pthread_mutex_lock(&m) == 0);
    CHECK(pthread_mutex_lock(&m) == EDEADLK);
    CHECK(pthread_mutex_timedlock(&m, &past) == EDEADLK);
    CHECK(pthread_mutex_unlock(&m) == 0);
    CHECK(pthread_mutex_timedlock(&m, &wrong) == 0); // free: the time is not looked at
    CHECK(pthread_mutex_unlock(&m) == 0);
    pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
    CHECK(pthread_mutex_lock(&plain) == 0);
    CHECK(pthread_mutex_timedlock(&plain, &past) == ETIMEDOUT);
    CHECK(pthread_mutex_timedlock(&plain, &wrong) == EINVAL);
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    CHECK(pthread_cond_timedwait(&c, &plain, &past) == ETIMEDOUT);
    CHECK(pthread_mutex_unlock(&plain) == 0);
    // A robust mutex whose owner died.
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_NORMAL);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &a);
    pthread_t t;
    CHECK(pthread_create(&t, 0, hold_and_die, &m) == 0 && pthread_join(t, 0) == 0);
    CHECK(pthread_mutex_lock(&m) == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&m) == 0 && pthread_mutex_unlock(&m) == 0);
    CHECK(pthread_create(&t, 0, hold_and_die, &m) == 0 && pthread_join(t, 0) == 0);
    CHECK(pthread_mutex_lock(&m) == EOWNERDEAD && pthread_mutex_unlock(&m) == 0);
    CHECK(pthread_mutex_lock(&m) == ENOTRECOVERABLE);
    pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
    CHECK(pthread_rwlock_wrlock(&rw) == 0);
    CHECK(pthread_rwlock_rdlock(&rw) == EDEADLK && pthread_rwlock_wrlock(&rw) == EDEADLK);
    CHECK(pthread_rwlock_unlock(&rw) == 0);
    sem_t s;
    sem_init(&s, 0, 0);
    errno = 0;
    CHECK(sem_timedwait(&s, &past) == -1 && errno == ETIMEDOUT);
    CHECK(sem_timedwait(&s, &wrong) == -1 && errno == EINVAL);
    CHECK(pthread_join(pthread_self(), 0) == EDEADLK);
    return 0;
}

// ---- calls within calls, and the names that compilers put in place of others

static ssize_t cookie_read(void *cookie, char *to, size_t n) {
    // Called by fread, below the hook on it: a hooked call within a hooked call.
    return read(*(int *)cookie, to, n > 10 ? 10 : n);
}

int guest_nested(void) {
    int fd = open("/dev/zero", O_RDONLY);
    FILE *f = fopencookie(&fd, "r", (cookie_io_functions_t){.read = cookie_read});
    char buffer[100];
    CHECK(f && fread(buffer, 1, sizeof buffer, f) == sizeof buffer);
    CHECK(fclose(f) == 0 && close(fd) == 0);
    return 0;
}

// Built with _FORTIFY_SOURCE: sizes that are known here and lengths that are not make __read_chk and its like.
int guest_fortified(long unknown) {
    char buffer[16];
    int fds[2];
    CHECK(pipe(fds) == 0);
    CHECK(write(fds[1], "0123456789", 10) == 10);
    CHECK(read(fds[0], buffer, unknown) == unknown);
    volatile long number = 1;
    struct pollfd p[2] = {{fds[0], POLLIN, 0}, {-1, 0, 0}};
    struct timespec now = {0, 0};
    CHECK(poll(p, number, -1) == 1 && ppoll(p, number, &now, 0) == 1);
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[1], "0123456789", 10) == 10);
    CHECK(recv(pair[0], buffer, number, 0) == 1 && recvfrom(pair[0], buffer, number, 0, 0, 0) == 1);
    close(pair[0]), close(pair[1]);
    volatile int mode = O_RDONLY;
    int fd = open("/proc/self/cmdline", mode);
    CHECK(fd >= 0 && pread(fd, buffer, unknown, 0) == unknown && close(fd) == 0);
    close(fds[0]), close(fds[1]);
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f && fread(buffer, 1, unknown, f) == (size_t)unknown && fgets(buffer, (int)unknown, f) == buffer && fclose(f) == 0);
    return 0;
}

// Lines of a file: one record for each time the buffer is filled, not for each line.
long guest_lines(const char *path) {
    FILE *f = fopen(path, "r");
    char line[256];
    long lines = 0;
    if (!f) return -1;
    while (fgets(line, sizeof line, f)) lines++;
    fclose(f);
    return lines;
}

// A variadic call with and without its last argument.
int guest_variadic(const char *path) {
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0640);
    struct stat s;
    CHECK(fd >= 0 && fstat(fd, &s) == 0 && (s.st_mode & 0777) == 0640);
    CHECK(fcntl(fd, F_GETFD) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    struct flock whole = {.l_type = F_WRLCK};
    CHECK(fcntl(fd, F_SETLK, &whole) == 0);
    CHECK(close(fd) == 0);
    fd = openat(AT_FDCWD, path, O_RDONLY);
    CHECK(fd >= 0 && close(fd) == 0 && unlink(path) == 0);
    CHECK(syscall(SYS_getpid) == getpid());
    CHECK(syscall(SYS_openat, AT_FDCWD, "/nowhere/at/all", O_RDONLY) == -1 && errno == ENOENT);
    // Six arguments, the last of them on the stack.
    void *at = (void *)syscall(SYS_mmap, (void *)0, 4096L, 3L, 0x22L, -1L, 0L);
    CHECK(at != (void *)-1 && *(char *)at == 0 && syscall(SYS_munmap, at, 4096L) == 0);
    return 0;
}

int guest_fork(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pthread_t t;
        char *argv[] = {"true", 0};
        if (guest_cond(4, 50) || pthread_create(&t, 0, leaver, 0) || pthread_join(t, 0)) _exit(3);
        execvp("true", argv);
        _exit(4);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    child = vfork();
    CHECK(child >= 0);
    if (child == 0) { close(900); _exit(9); }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 9);
    CHECK(system("exit 7") == 7 << 8);
    FILE *f = popen("echo hello", "r");
    char line[16];
    CHECK(f && fgets(line, sizeof line, f) && !strcmp(line, "hello\n") && pclose(f) == 0);
    return 0;
}
