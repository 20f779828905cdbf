/* LD_PRELOAD library: a network disk in trouble, for Python programs, below one directory.
 *
 * FAULTY_PATH   the directory; FAULTY_SEED a number; FAULTY_PER_MILLE how many calls of a thousand fail (EIO, ESTALE, ETIMEDOUT)
 * FAULTY_LATE   of those that change something, how many in a hundred fail after having been done
 * FAULTY_LIES   of those renames, how many in a hundred say ENOENT, as a request that was sent again does
 * FAULTY_PLAIN  set: renameat2 with flags is refused (EINVAL), as NFS does
 * FAULTY_AWAY   a file: while it is there, the server is away: every call fails
 * FAULTY_COUNT  a file that gets one byte for each fault: 'e' before, 'l' late, 'n' an ENOENT that is not true
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ready = -1;
static unsigned long long state;
static const char *prefix;
static size_t length;
static const char *away;
static int per_mille, late, lies, count = -1;

static int number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static unsigned next_random(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33);
}

static void begin(void) {
    ready = 0;
    prefix = getenv("FAULTY_PATH");
    if (!prefix || strncmp(program_invocation_short_name, "python", 6) != 0) return;
    length = strlen(prefix);
    away = getenv("FAULTY_AWAY");
    per_mille = number("FAULTY_PER_MILLE"), late = number("FAULTY_LATE"), lies = number("FAULTY_LIES");
    state = 88172645463325252ULL ^ ((unsigned long long)number("FAULTY_SEED") << 32) ^ ((unsigned long long)getpid() * 2654435761u);
    for (int i = 0; i < 20; i++) next_random();
    const char *file = getenv("FAULTY_COUNT");
    if (file) count = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    ready = 1;
}

static int inside(const char *path) {
    if (ready < 0) begin();
    return ready && path && strncmp(path, prefix, length) == 0 && (path[length] == '/' || !path[length]);
}

static int inside_fd(int fd) {
    char link[40], path[4096];
    if (ready < 0) begin();
    if (!ready || fd < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long got = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (got <= 0) return 0;
    path[got] = 0;
    return inside(path);
}

static void note(char kind) {
    /* Python daemons close descriptors that they do not know. */
    if (count >= 0) (void)!syscall(SYS_write, count, &kind, 1);
}

static int is_away(void) { return away && syscall(SYS_faccessat, AT_FDCWD, away, F_OK) == 0; }

static int fails(void) { return is_away() || (int)(next_random() % 1000) < per_mille; }

static int refuse(void) {
    static const int kinds[] = {EIO, ESTALE, ETIMEDOUT};
    note('e');
    errno = kinds[next_random() % 3];
    return -1;
}

static int is_late(void) { return !is_away() && (int)(next_random() % 100) < late; }

static int refuse_late(int may_lie) {
    if (may_lie && (int)(next_random() % 100) < lies) {
        note('n');
        errno = ENOENT;
    } else {
        note('l');
        errno = EIO;
    }
    return -1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
/* A call that changes nothing, or nothing that matters. */
#define PLAIN(type, name, parameters, arguments, is_inside, failed) \
    type name parameters { REAL(name); if (is_inside && fails()) { refuse(); return failed; } return real arguments; }
/* A call that changes something: it may fail after it was done. */
#define CHANGE(name, parameters, arguments, is_inside, may_lie) \
    int name parameters { \
        REAL(name); \
        if (!is_inside || !fails()) return real arguments; \
        if (!is_late()) return refuse(); \
        int result = real arguments; \
        return result ? result : refuse_late(may_lie); }

CHANGE(rename, (const char *a, const char *b), (a, b), inside(a), 1)
CHANGE(mkdir, (const char *a, mode_t mode), (a, mode), inside(a), 0)
CHANGE(unlink, (const char *a), (a), inside(a), 0)
CHANGE(rmdir, (const char *a), (a), inside(a), 0)
CHANGE(symlink, (const char *a, const char *b), (a, b), inside(b), 0)
CHANGE(link, (const char *a, const char *b), (a, b), inside(b), 0)

int renameat2(int from, const char *a, int to, const char *b, unsigned flags) {
    REAL(renameat2);
    if (inside(a) && flags && getenv("FAULTY_PLAIN")) {
        errno = EINVAL;
        return -1;
    }
    if (!inside(a) || !fails()) return real(from, a, to, b, flags);
    if (!is_late()) return refuse();
    int result = real(from, a, to, b, flags);
    return result ? result : refuse_late(1);
}

PLAIN(int, stat, (const char *a, struct stat *b), (a, b), inside(a), -1)
PLAIN(int, lstat, (const char *a, struct stat *b), (a, b), inside(a), -1)
PLAIN(int, fstat, (int a, struct stat *b), (a, b), inside_fd(a), -1)
PLAIN(int, stat64, (const char *a, struct stat64 *b), (a, b), inside(a), -1)
PLAIN(int, lstat64, (const char *a, struct stat64 *b), (a, b), inside(a), -1)
PLAIN(int, fstat64, (int a, struct stat64 *b), (a, b), inside_fd(a), -1)
PLAIN(int, access, (const char *a, int b), (a, b), inside(a), -1)
PLAIN(int, chdir, (const char *a), (a), inside(a), -1)
PLAIN(int, chmod, (const char *a, mode_t b), (a, b), inside(a), -1)
PLAIN(int, fchmod, (int a, mode_t b), (a, b), inside_fd(a), -1)
PLAIN(int, fsync, (int a), (a), inside_fd(a), -1)
PLAIN(int, fdatasync, (int a), (a), inside_fd(a), -1)
PLAIN(int, futimens, (int a, const struct timespec b[2]), (a, b), inside_fd(a), -1)
PLAIN(ssize_t, read, (int a, void *b, size_t c), (a, b, c), inside_fd(a), -1)
PLAIN(ssize_t, pread, (int a, void *b, size_t c, off_t d), (a, b, c, d), inside_fd(a), -1)
PLAIN(ssize_t, pread64, (int a, void *b, size_t c, off64_t d), (a, b, c, d), inside_fd(a), -1)
PLAIN(DIR *, opendir, (const char *a), (a), inside(a), NULL)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (!inside_fd(fd) || !fails()) return real(fd, data, size);
    if (!is_late()) return refuse();
    /* All of it, or a part that is torn. */
    ssize_t done = real(fd, data, next_random() % 2 ? size : size / 2);
    return done < 0 ? done : refuse_late(0);
}

static int make(int result, int flags) {
    if (result < 0 || !(flags & O_CREAT)) return result;
    close(result);
    return refuse_late(0);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if (!inside(path) || !fails()) return real(path, flags, mode); \
        if (!(flags & O_CREAT) || !is_late()) return refuse(); \
        return make(real(path, flags, mode), flags); }
OPEN(open)
OPEN(open64)
