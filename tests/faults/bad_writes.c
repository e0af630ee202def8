/* LD_PRELOAD: while the file named by BAD_WRITES exists, every seventh write to a segment of the journal fails with EIO.
   Of a failed write of several buffers the first bytes may be on disk, as on a real one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static unsigned calls;

static int fails(int fd) {
    const char *control = getenv("BAD_WRITES");
    char name[64], path[4096];
    if (control == NULL || access(control, F_OK) != 0) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, ".seg") != NULL && ++calls % 7 == 0;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
    if (!fails(fd)) return real(fd, data, size, offset);
    if (size > 100) real(fd, data, size / 2, offset);
    errno = EIO;
    return -1;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    ssize_t (*real)(int, const struct iovec *, int, off64_t) = dlsym(RTLD_NEXT, "pwritev64");
    if (!fails(fd)) return real(fd, parts, count, offset);
    if (count > 1) real(fd, parts, 1, offset);
    errno = EIO;
    return -1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }
