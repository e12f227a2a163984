/* Stands between a process and its disk: LD_PRELOAD it.
 *
 * SHIM_SYNC_DELAY_US  added to every fsync and fdatasync
 * SHIM_FAIL           a file: while it exists, syncs of files under SHIM_PREFIX fail with EIO
 * SHIM_FULL           a file: while it exists, writes under SHIM_PREFIX fail with ENOSPC
 * SHIM_PREFIX         the folder that is watched
 * SHIM_LOG            a file: every change under SHIM_PREFIX is appended to it, in the order in which it happened
 *
 * A record of the log: u8 kind, u32 length of path, u32 length of second path or data, u64 offset or size, path, rest.
 * Kinds: W write, T truncate, S sync of a file, D sync of a folder, C created, U unlinked, R renamed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *prefix, *fail_path, *full_path;
static size_t prefix_length;
static long delay_us;

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    const char *delay = getenv("SHIM_SYNC_DELAY_US"), *log_path = getenv("SHIM_LOG");
    delay_us = delay ? atol(delay) : 0;
    prefix = getenv("SHIM_PREFIX");
    prefix_length = prefix ? strlen(prefix) : 0;
    fail_path = getenv("SHIM_FAIL");
    full_path = getenv("SHIM_FULL");
    if (log_path) log_fd = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int watched(const char *path) {
    return prefix && path && !strncmp(path, prefix, prefix_length) && strcmp(path + strlen(path) - 4, "-shm");
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return watched(path);
}

static void record(char kind, const char *path, const void *rest, uint32_t rest_length, uint64_t number) {
    if (log_fd < 0) return;
    uint32_t path_length = strlen(path);
    char head[17];
    head[0] = kind;
    memcpy(head + 1, &path_length, 4);
    memcpy(head + 5, &rest_length, 4);
    memcpy(head + 9, &number, 8);
    struct iovec parts[3] = {{head, 17}, {(void *) path, path_length}, {(void *) rest, rest_length}};
    if (syscall(SYS_writev, log_fd, parts, 3) != (long) (17 + path_length + rest_length)) abort();
}

static ssize_t wrote(int fd, const void *data, ssize_t count, off64_t offset) {
    char path[PATH_MAX];
    if (count > 0 && log_fd >= 0 && path_of(fd, path)) record('W', path, data, count, offset);
    return count;
}

/* The change and its record under one lock: the log's order is the order in which the changes happened. */
#define LOCKED(expression) do { pthread_mutex_lock(&lock); expression; pthread_mutex_unlock(&lock); } while (0)

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t offset) {
    ssize_t done;
    char path[PATH_MAX];
    if (full_path && access(full_path, F_OK) == 0 && path_of(fd, path)) {
        errno = ENOSPC;
        return -1;
    }
    LOCKED(done = wrote(fd, data, REAL(pwrite64)(fd, data, count, offset), offset));
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) { return pwrite64(fd, data, count, offset); }

ssize_t write(int fd, const void *data, size_t count) {
    ssize_t done;
    LOCKED(done = REAL(write)(fd, data, count);
           if (done > 0 && log_fd >= 0) wrote(fd, data, done, lseek64(fd, 0, SEEK_CUR) - done));
    return done;
}

int ftruncate64(int fd, off64_t size) {
    char path[PATH_MAX];
    int result;
    LOCKED(result = REAL(ftruncate64)(fd, size);
           if (!result && log_fd >= 0 && path_of(fd, path)) record('T', path, "", 0, size));
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int synced(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (delay_us) {
        struct timespec pause = {delay_us / 1000000, delay_us % 1000000 * 1000};
        nanosleep(&pause, NULL);
    }
    if (fail_path && access(fail_path, F_OK) == 0 && path_of(fd, path)) {
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    struct stat info;
    if (!result && log_fd >= 0 && path_of(fd, path) && !fstat(fd, &info))
        LOCKED(record(S_ISDIR(info.st_mode) ? 'D' : 'S', path, "", 0, 0));
    return result;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

static int opened(const char *path, int flags, mode_t mode) {
    int fd, existed = access(path, F_OK) == 0;
    LOCKED(fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
           if (fd >= 0 && (flags & O_CREAT) && !existed && watched(path)) record('C', path, "", 0, 0));
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags | O_LARGEFILE, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int unlink(const char *path) {
    int result;
    LOCKED(result = REAL(unlink)(path); if (!result && watched(path)) record('U', path, "", 0, 0));
    return result;
}

int rename(const char *from, const char *to) {
    int result;
    LOCKED(result = REAL(rename)(from, to); if (!result && watched(from)) record('R', from, to, strlen(to), 0));
    return result;
}
