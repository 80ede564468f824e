/* Records what a process does to files below $RECORD_DIR, in order, into $RECORD_LOG. For LD_PRELOAD.
 *
 * A log entry: type (1) | length of name (u32) | length of other name (u32) | offset (u64) | length (u64) | length of data (u64)
 * | name | other name | data; little-endian. Types: C create, M mkdir, N rename, U unlink, T truncate to nothing, L set length,
 * P extend, W write, s fsync begins, S fsync ended (offset: its number), A written to standard output.
 * Calls that do not go through libc are not seen: the files below come through std only.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 8192
static int log_fd = -1;
static char dir[512];
static size_t dir_length;
static char *names[FDS];
static int appends[FDS];
static uint32_t syncs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

__attribute__((constructor)) static void begin(void) {
    char *d = getenv("RECORD_DIR"), *l = getenv("RECORD_LOG");
    if (!d || !l) return;
    strncpy(dir, d, sizeof dir - 1);
    dir_length = strlen(dir);
    int fd = REAL(int, "open64", const char *, int, ...)(l, O_WRONLY | O_CREAT | O_APPEND, 0644);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    REAL(int, "close", int)(fd);
}

static void record(char type, const char *name, const char *other, uint64_t offset, uint64_t length, const void *data) {
    if (log_fd < 0) return;
    uint32_t name_length = name ? strlen(name) : 0, other_length = other ? strlen(other) : 0;
    uint64_t data_length = data ? length : 0;
    char header[33];
    header[0] = type;
    memcpy(header + 1, &name_length, 4);
    memcpy(header + 5, &other_length, 4);
    memcpy(header + 9, &offset, 8);
    memcpy(header + 17, &length, 8);
    memcpy(header + 25, &data_length, 8);
    struct iovec parts[4] = {{header, 33}, {(void *)name, name_length}, {(void *)other, other_length}, {(void *)data, data_length}};
    REAL(ssize_t, "writev", int, const struct iovec *, int)(log_fd, parts, 4);
}

static int inside(const char *path) { return log_fd >= 0 && path && strncmp(path, dir, dir_length) == 0; }

static const char *absolute(const char *path, char *buffer, size_t size) {
    if (path[0] == '/') snprintf(buffer, size, "%s", path);
    else {
        char here[512];
        snprintf(buffer, size, "%s/%s", getcwd(here, sizeof here) ? here : "", path);
    }
    return buffer;
}

static int known(int fd) { return fd >= 0 && fd < FDS && names[fd]; }

static void note(char type, int fd, uint64_t offset, uint64_t length, const void *data) {
    pthread_mutex_lock(&lock);
    record(type, names[fd], 0, offset, length, data);
    pthread_mutex_unlock(&lock);
}

static void opened(int fd, const char *path, int flags, int existed) {
    if (fd < 0 || fd >= FDS) return;
    char name[1100];
    absolute(path, name, sizeof name);
    pthread_mutex_lock(&lock);
    names[fd] = inside(name) ? strdup(name) : 0;
    appends[fd] = !!(flags & O_APPEND);
    if (names[fd] && (flags & O_CREAT) && !existed) record('C', name, 0, 0, 0, 0);
    else if (names[fd] && (flags & O_TRUNC)) record('T', name, 0, 0, 0, 0);
    pthread_mutex_unlock(&lock);
}

#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        va_list rest;                                                                    \
        va_start(rest, flags);                                                           \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;                      \
        va_end(rest);                                                                    \
        struct stat s;                                                                   \
        int existed = stat(path, &s) == 0;                                               \
        int fd = REAL(int, #name, const char *, int, ...)(path, flags, mode);            \
        opened(fd, path, flags, existed);                                                \
        return fd;                                                                       \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                     \
    int name(int at, const char *path, int flags, ...) {                                 \
        va_list rest;                                                                    \
        va_start(rest, flags);                                                           \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;                      \
        va_end(rest);                                                                    \
        struct stat s;                                                                   \
        int existed = fstatat(at, path, &s, 0) == 0;                                     \
        int fd = REAL(int, #name, int, const char *, int, ...)(at, path, flags, mode);   \
        if (at == AT_FDCWD || path[0] == '/') opened(fd, path, flags, existed);          \
        return fd;                                                                       \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t length) {
    ssize_t (*real)(int, const void *, size_t) = REAL(ssize_t, "write", int, const void *, size_t);
    if (fd == 1 && log_fd >= 0) {
        pthread_mutex_lock(&lock);
        record('A', 0, 0, 0, length, data);
        pthread_mutex_unlock(&lock);
    }
    if (!known(fd)) return real(fd, data, length);
    pthread_mutex_lock(&lock);
    struct stat s;
    uint64_t offset = appends[fd] && fstat(fd, &s) == 0 ? (uint64_t)s.st_size : (uint64_t)lseek(fd, 0, SEEK_CUR);
    ssize_t written = real(fd, data, length);
    if (written > 0) record('W', names[fd], 0, offset, written, data);
    pthread_mutex_unlock(&lock);
    return written;
}

#define PWRITE(name, offset_type)                                                                        \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) {                          \
        ssize_t written = REAL(ssize_t, #name, int, const void *, size_t, offset_type)(fd, data, length, offset); \
        if (written > 0 && known(fd)) note('W', fd, offset, written, data);                              \
        return written;                                                                                  \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        if (!parts[i].iov_len) continue;
        ssize_t written = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (written < 0) return total ? total : written;
        total += written;
        if ((size_t)written < parts[i].iov_len) break;
    }
    return total;
}

static int sync_with(const char *name, int fd) {
    int (*real)(int) = REAL(int, name, int);
    if (!known(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    uint32_t number = ++syncs;
    record('s', names[fd], 0, number, 0, 0);
    pthread_mutex_unlock(&lock);
    int result = real(fd);
    if (result == 0) note('S', fd, number, 0, 0);
    return result;
}
int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }

#define TRUNCATE(name, offset_type)                                      \
    int name(int fd, offset_type length) {                               \
        int result = REAL(int, #name, int, offset_type)(fd, length);     \
        if (!result && known(fd)) note('L', fd, length, 0, 0);           \
        return result;                                                   \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ALLOCATE(name, offset_type)                                                          \
    int name(int fd, offset_type offset, offset_type length) {                               \
        int result = REAL(int, #name, int, offset_type, offset_type)(fd, offset, length);    \
        if (!result && known(fd)) note('P', fd, offset + length, 0, 0);                      \
        return result;                                                                       \
    }
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)

int rename(const char *from, const char *to) {
    char a[1100], b[1100];
    int result = REAL(int, "rename", const char *, const char *)(from, to);
    pthread_mutex_lock(&lock);
    if (!result && inside(absolute(from, a, sizeof a))) record('N', a, absolute(to, b, sizeof b), 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    char name[1100];
    int result = REAL(int, "unlink", const char *)(path);
    pthread_mutex_lock(&lock);
    if (!result && inside(absolute(path, name, sizeof name))) record('U', name, 0, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    char name[1100];
    int result = REAL(int, "mkdir", const char *, mode_t)(path, mode);
    pthread_mutex_lock(&lock);
    if (!result && inside(absolute(path, name, sizeof name))) record('M', name, 0, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int close(int fd) {
    if (fd >= 0 && fd < FDS && fd != log_fd) names[fd] = 0;
    return REAL(int, "close", int)(fd);
}
