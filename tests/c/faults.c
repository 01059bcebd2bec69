// Programs that make it hard for a recorder: see tests/record_faults.rs and tests/record_ctl.rs.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *volatile sink;

// Says which descriptors there are, by asking for each and by looking.
static int fds(void) {
    for (int fd = 0; fd < 70000; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("open %d\n", fd);
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir))
            printf("listed %s\n", entry->d_name);
    closedir(dir);
    // Numbers stay the next free ones for as long as the program runs.
    for (int i = 0; i < 2000; i++) {
        int fd = open("/dev/null", O_RDONLY);
        if (fd != 3)
            printf("got %d\n", fd);
        close(fd);
        usleep(200);
    }
    return 0;
}

// A system call that no hook sees.
static long around(long number, long a, long b, long c) {
#ifdef __x86_64__
    long r;
    register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return r;
#else
    return syscall(number, a, b, c);
#endif
}

// Children that libc does not know of work as long as their parent does.
static int raw_clone(void) {
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
        children[i] = around(SYS_clone, SIGCHLD, 0, 0);
        if (children[i] == 0) {
            for (int n = 0; n < 200000; n++) {
                free((void *)(sink = malloc(100 + n % 1000)));
                access("/child", F_OK);
            }
            around(SYS_exit_group, 0, 0, 0);
        }
    }
    for (int n = 0; n < 20000; n++) {
        free((void *)(sink = malloc(100 + n % 1000)));
        access("/parent", F_OK);
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;
        if (waitpid(children[i], &status, 0) != children[i] || status != 0)
            return 1;
    }
    return 0;
}

// Many children at once, each of which says something.
static int bomb(int n) {
    int failed = 0, running = 0;
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            access("/child", F_OK);
            free((void *)(sink = malloc(1000)));
            _exit(0);
        }
        if (pid < 0)
            return 1;
        for (running++; running >= 16 || (i + 1 == n && running > 0); running--) {
            int status = -1;
            failed |= wait(&status) < 0 || status != 0;
        }
    }
    return failed;
}

static atomic_int got;

static void count(int signal) {
    (void)signal;
    int before = errno;
    atomic_fetch_add(&got, 1);
    access("/handler", F_OK);
    errno = before;
}

// Signals ten thousand times a second, into everything that can be interrupted.
static int signals(int n) {
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &every, NULL);
    int calls = 0;
    for (; atomic_load(&got) < n; calls++) {
        access("/main", F_OK);
        free((void *)(sink = malloc(100 + calls % 5000)));
    }
    struct itimerval never = {0};
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%d\n", calls + atomic_load(&got));
    return 0;
}

static void *short_life(void *arg) {
    for (int i = 0; i < 20; i++) {
        access("/thread", F_OK);
        free((void *)(sink = malloc(1000)));
    }
    return arg;
}

// Two hundred threads are born and die, again and again, until the standard input ends.
static int storm(void) {
    fcntl(0, F_SETFL, O_NONBLOCK);
    printf("ready\n");
    fflush(stdout);
    for (int round = 0;; round++) {
        pthread_t threads[200];
        for (int i = 0; i < 200; i++)
            if (pthread_create(&threads[i], NULL, short_life, NULL) != 0)
                return 1;
        for (int i = 0; i < 200; i++)
            pthread_join(threads[i], NULL);
        char c;
        if (read(0, &c, 1) == 0) {
            printf("%d\n", round + 1);
            return 0;
        }
    }
}

// Reads lines; for each it does as many calls as the line says, and says that it has.
static int obeys(void) {
    char line[100];
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        for (int i = atoi(line); i > 0; i--)
            access("/asked", F_OK);
        printf("done\n");
        fflush(stdout);
    }
    return 7;
}

// The same, but that a child of each line's own does the calls, after one of the parent's.
static int obeys_by_forks(void) {
    char line[100];
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        access("/parent", F_OK);
        pid_t pid = fork();
        if (pid == 0) {
            for (int i = atoi(line); i > 0; i--)
                access("/asked", F_OK);
            _exit(0);
        }
        int status = -1;
        if (waitpid(pid, &status, 0) != pid || status != 0)
            return 1;
        printf("done\n");
        fflush(stdout);
    }
    return 7;
}

// So many calls, and a little pause between some of them.
static int calls(int n) {
    for (int i = 0; i < n; i++) {
        access("/call", F_OK);
        if (i % 1000 == 999)
            usleep(1000);
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 0;
    if (strcmp(what, "fds") == 0)
        return fds();
    if (strcmp(what, "raw_clone") == 0)
        return raw_clone();
    if (strcmp(what, "bomb") == 0)
        return bomb(n);
    if (strcmp(what, "signals") == 0)
        return signals(n);
    if (strcmp(what, "storm") == 0)
        return storm();
    if (strcmp(what, "obeys") == 0)
        return obeys();
    if (strcmp(what, "obeys_by_forks") == 0)
        return obeys_by_forks();
    if (strcmp(what, "obeys_in_child") == 0) {
        pid_t pid = fork();
        if (pid == 0)
            return obeys();
        int status = -1;
        return waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : 1;
    }
    if (strcmp(what, "calls") == 0)
        return calls(n);
    return 99;
}
