// Makes one call on a file below a directory fail, and writes down all such calls.
//
// Preloaded into the program under test. `FAULT_DIR` is the directory; `FAULT_LOG` a file that gets a line `call path`
// per call, the path below the directory with every 16 hex digits (names that are new each time) written as `T`.
// `FAULT_CALL` is such a line, `FAULT_NTH` which of its occurrences fails, counted from 0, `FAULT_ERRNO` with what;
// 0 makes a write short instead. With `FAULT_STAYS`, every call after it that needs room or the device fails, too.
// `FAULT_CLOCK` seconds are added to the time of day that the program is told; files get the true one.
#define _GNU_SOURCE
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char dir[PATH_MAX], want[PATH_MAX];
static int log_fd = -1, error_number = EIO, stays, wanted;
static long nth;
static atomic_long seen;
static atomic_int has_failed;

__attribute__((constructor)) static void begin(void) {
  const char *text = getenv("FAULT_DIR");
  if (!text) return;
  snprintf(dir, sizeof dir, "%s", text);
  if ((text = getenv("FAULT_LOG"))) log_fd = syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if ((text = getenv("FAULT_CALL"))) snprintf(want, sizeof want, "%s", text), wanted = 1;
  if ((text = getenv("FAULT_NTH"))) nth = atol(text);
  if ((text = getenv("FAULT_ERRNO"))) error_number = atoi(text);
  stays = getenv("FAULT_STAYS") != NULL;
}

// Every run of 16 hex digits becomes `T`.
static void plain(const char *from, char *to, size_t room) {
  size_t at = 0;
  while (*from && at + 2 < room) {
    int digits = 0;
    while (digits < 17 && isxdigit((unsigned char)from[digits])) digits++;
    if (digits == 16) {
      to[at++] = 'T';
      from += 16;
    } else {
      int n = digits ? digits : 1;
      while (n-- && at + 2 < room) to[at++] = *from++;
    }
  }
  to[at] = 0;
}

// 0: go on; else the call is to fail (-1: to be short).
static int fails(const char *call, const char *path) {
  size_t length = strlen(dir);
  if (!length || strncmp(path, dir, length) || (path[length] && path[length] != '/')) return 0;
  char line[2 * PATH_MAX], below[PATH_MAX];
  plain(path + length, below, sizeof below);
  int n = snprintf(line, sizeof line, "%s %s\n", call, below);
  if (log_fd >= 0) syscall(SYS_write, log_fd, line, n);
  line[n - 1] = 0;
  if (wanted && !strcmp(line, want) && atomic_fetch_add(&seen, 1) == nth) {
    has_failed = 1;
    return error_number ? error_number : -1;
  }
  if (stays && has_failed && error_number && strcmp(call, "unlink")) return error_number;
  return 0;
}

static int fails_at(const char *call, int at, const char *path) {
  char full[PATH_MAX], base[PATH_MAX];
  if (!*dir) return 0;
  if (path && path[0] == '/') return fails(call, path);
  if (at == AT_FDCWD) {
    if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
  } else {
    snprintf(full, sizeof full, "/proc/self/fd/%d", at);
    ssize_t n = readlink(full, base, sizeof base - 1);
    if (n < 0) return 0;
    base[n] = 0;
  }
  if (!path || !*path) return fails(call, base);
  if (snprintf(full, sizeof full, "%s/%s", base, path) >= (int)sizeof full) return 0;
  return fails(call, full);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define REFUSE(call, at, path)                \
  do {                                        \
    int code = fails_at(call, at, path);      \
    if (code > 0) { errno = code; return -1; } \
  } while (0)

static const char *opening(int flags) { return flags & O_CREAT ? "create" : (flags & O_ACCMODE) != O_RDONLY ? "open" : NULL; }

#define OPENS(name)                                                            \
  int name(const char *path, int flags, ...) {                                 \
    va_list rest;                                                              \
    va_start(rest, flags);                                                     \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;  \
    va_end(rest);                                                              \
    if (opening(flags)) REFUSE(opening(flags), AT_FDCWD, path);                \
    return REAL(name)(path, flags, mode);                                      \
  }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name)                                                         \
  int name(int at, const char *path, int flags, ...) {                         \
    va_list rest;                                                              \
    va_start(rest, flags);                                                     \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;  \
    va_end(rest);                                                              \
    if (opening(flags)) REFUSE(opening(flags), at, path);                      \
    return REAL(name)(at, path, flags, mode);                                  \
  }
OPENS_AT(openat)
OPENS_AT(openat64)

int mkdir(const char *path, mode_t mode) { REFUSE("mkdir", AT_FDCWD, path); return REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { REFUSE("rename", AT_FDCWD, to); return REAL(rename)(from, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { REFUSE("exchange", b, to); return REAL(renameat2)(a, from, b, to, flags); }
int unlink(const char *path) { REFUSE("unlink", AT_FDCWD, path); return REAL(unlink)(path); }
int fsync(int fd) { REFUSE("fsync", fd, NULL); return REAL(fsync)(fd); }
int fdatasync(int fd) { REFUSE("fdatasync", fd, NULL); return REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t size) { REFUSE("truncate", fd, NULL); return REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { REFUSE("truncate", fd, NULL); return REAL(ftruncate64)(fd, size); }

#define PART(code, n) ((code) < 0 && (n) > 1 ? (n) / 2 : (n))
#define REFUSE_OR(code, call, fd)                   \
  int code = fails_at(call, fd, NULL);              \
  if (code > 0) { errno = code; return -1; }
ssize_t write(int fd, const void *bytes, size_t n) { REFUSE_OR(code, "write", fd) return REAL(write)(fd, bytes, PART(code, n)); }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) { REFUSE_OR(code, "write", fd) return REAL(pwrite)(fd, bytes, PART(code, n), at); }
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) { REFUSE_OR(code, "write", fd) return REAL(pwrite64)(fd, bytes, PART(code, n), at); }
ssize_t writev(int fd, const struct iovec *parts, int n) {
  REFUSE_OR(code, "write", fd)
  if (code < 0 && n > 0) return REAL(write)(fd, parts[0].iov_base, PART(code, parts[0].iov_len));
  return REAL(writev)(fd, parts, n);
}
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned flags) { REFUSE_OR(code, "copy", out) return REAL(copy_file_range)(in, a, out, b, PART(code, n), flags); }

// Reads are counted and refused only when asked for: there are many.
static int reads(void) { static int asked = -1; if (asked < 0) asked = getenv("FAULT_READS") != NULL; return asked; }
ssize_t read(int fd, void *bytes, size_t n) { if (reads()) { REFUSE_OR(code, "read", fd) n = PART(code, n); } return REAL(read)(fd, bytes, n); }
ssize_t pread(int fd, void *bytes, size_t n, off_t at) { if (reads()) { REFUSE_OR(code, "read", fd) n = PART(code, n); } return REAL(pread)(fd, bytes, n, at); }
ssize_t pread64(int fd, void *bytes, size_t n, off64_t at) { if (reads()) { REFUSE_OR(code, "read", fd) n = PART(code, n); } return REAL(pread64)(fd, bytes, n, at); }

int clock_gettime(clockid_t clock, struct timespec *now) {
  static long skew = LONG_MIN;
  if (skew == LONG_MIN) skew = getenv("FAULT_CLOCK") ? atol(getenv("FAULT_CLOCK")) : 0;
  int code = syscall(SYS_clock_gettime, clock, now);
  if (!code && clock == CLOCK_REALTIME) now->tv_sec += skew;
  return code;
}
