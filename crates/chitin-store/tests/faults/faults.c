/*
 * Faults of a disk, injected into a process that is started with this library preloaded.
 *
 * Calls that change files below a folder are counted: writes, syncs, cuts, new names, removals. The n-th one of the
 * process fails, or the process is killed in front of it. Whoever finds no hit in the report has gone past the last one.
 *
 * FAULTS_BELOW   the folder, as it resolves
 * FAULTS_NTH     which call, from 1; 0: only count
 * FAULTS_DO      an errno: the call fails with it, once; with "+" in front, from there on always; "kill": SIGKILL;
 *                "short": a write writes half of what it should
 * FAULTS_REPORT  a file, outside of the folder: a byte is appended for each call, and "!" at the hit
 * FAULTS_ARM     instead of FAULTS_NTH and FAULTS_DO a file that says both, with a blank between, while processes run: calls of
 *                all processes count together, from the report's beginning; without the file none does. "hang" instead of an
 *                errno: the call waits as long as the file is there
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static atomic_long count;

static int below(const char *path) {
    const char *folder = getenv("FAULTS_BELOW");
    size_t len = folder ? strlen(folder) : 0;
    return len && strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == 0);
}

static int fd_is_below(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (len <= 0) return 0;
    path[len] = 0;
    return below(path);
}

/* The report's length with it. */
static long report(const char *what) {
    const char *file = getenv("FAULTS_REPORT");
    if (!file) return 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return 0;
    syscall(SYS_write, fd, what, strlen(what));
    long len = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    syscall(SYS_close, fd);
    return len;
}

enum { GO = 0, SHORT = -1 };

/* What the file of FAULTS_ARM says: the n-th call, and what it meets; 0: nothing. */
static long armed(const char *file, char what[16]) {
    char text[64];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t len = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    text[len > 0 ? len : 0] = 0;
    long nth;
    return sscanf(text, "%ld %15s", &nth, what) == 2 ? nth : 0;
}

/* GO, SHORT, or the errno to fail with. */
static int fate(void) {
    const char *nth_text = getenv("FAULTS_NTH"), *what = getenv("FAULTS_DO"), *arm = getenv("FAULTS_ARM");
    char armed_with[16] = "";
    if (arm) {
        int saved = errno;
        long nth = armed(arm, armed_with), n = nth ? report(".") : 0;
        errno = saved;
        int from_there_on = armed_with[0] == '+';
        if (!nth || n < nth || (n > nth && !from_there_on)) return GO;
        if (n == nth) report("!");
        if (!strcmp(armed_with + from_there_on, "hang")) {
            while (armed(arm, armed_with)) usleep(1000);
            errno = saved;
            return GO;
        }
        return atoi(armed_with + from_there_on);
    }
    long nth = nth_text ? atol(nth_text) : 0, n = atomic_fetch_add(&count, 1) + 1;
    int always = what && what[0] == '+';
    if (!nth || !what || n < nth || (n > nth && !always)) {
        report(".");
        return GO;
    }
    report(n == nth ? "!" : ".");
    if (!strcmp(what, "kill")) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (!strcmp(what, "short")) return SHORT;
    return atoi(what + always);
}

static int fd_fate(int fd) { return fd_is_below(fd) ? fate() : GO; }
static int path_fate(const char *path) { return below(path) ? fate() : GO; }

#define WRITE(name, offset_type) \
    ssize_t name(int fd, const void *bytes, size_t len, offset_type at) { \
        REAL(ssize_t, name, int, const void *, size_t, offset_type); \
        int f = fd_fate(fd); \
        if (f > 0) { errno = f; return -1; } \
        return real(fd, bytes, f == SHORT && len > 1 ? len / 2 : len, at); \
    }
WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t len) {
    REAL(ssize_t, write, int, const void *, size_t);
    int f = fd_fate(fd);
    if (f > 0) { errno = f; return -1; }
    return real(fd, bytes, f == SHORT && len > 1 ? len / 2 : len);
}

#define ON_FD(name) \
    int name(int fd) { \
        REAL(int, name, int); \
        int f = fd_fate(fd); \
        if (f > 0) { errno = f; return -1; } \
        return real(fd); \
    }
ON_FD(fsync)
ON_FD(fdatasync)

#define CUT(name, offset_type) \
    int name(int fd, offset_type len) { \
        REAL(int, name, int, offset_type); \
        int f = fd_fate(fd); \
        if (f > 0) { errno = f; return -1; } \
        return real(fd, len); \
    }
CUT(ftruncate, off_t)
CUT(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    int f = path_fate(to);
    if (f > 0) { errno = f; return -1; }
    return real(from, to);
}

int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    int f = path_fate(to);
    if (f > 0) { errno = f; return -1; }
    return real(from, to);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    int f = to[0] == '/' ? path_fate(to) : GO;
    if (f > 0) { errno = f; return -1; }
    return real(from_fd, from, to_fd, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    int f = path_fate(path);
    if (f > 0) { errno = f; return -1; }
    return real(path, mode);
}

#define ON_PATH(name) \
    int name(const char *path) { \
        REAL(int, name, const char *); \
        int f = path_fate(path); \
        if (f > 0) { errno = f; return -1; } \
        return real(path); \
    }
ON_PATH(unlink)
ON_PATH(rmdir)

/* Opening counts where it makes a file. */
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        int f = (flags & O_CREAT) ? path_fate(path) : GO; \
        if (f > 0) { errno = f; return -1; } \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
