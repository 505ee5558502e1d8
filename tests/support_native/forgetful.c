/* A library for LD_PRELOAD that writes down what a process does to the files of one directory, and when it is safe.
 *
 * FORGETFUL_DIRECTORY  absolute path, without links; files directly in it and below it are followed
 * FORGETFUL_JOURNAL    file that the record is appended to; outside of the directory
 * FORGETFUL_MARKS      when set, what is sent to sockets and written to other files is noted too, its first octets
 *
 * forgetful.py rebuilds from the record what a power cut at its end would have left. The end of an fsync is written
 * down after it returned and before the process goes on: what the process then tells anybody comes later.
 *
 * Followed: open and its kin, write, send (marks), pwrite, ftruncate, fsync, fdatasync, unlink, rename, close. Not followed: memory
 * maps (SQLite's -shm file, which is made anew after a power cut, is left out), dup, writev. One record is
 *   u8 type, u8 flags, u16 zero, u32 id, u64 offset, u64 length, then `length` octets
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 65536
#define MARK_OCTETS 256

static const char *directory;
static size_t directory_length;
static int journal = -1;
static int has_marks;
static uint32_t ids[MOST_FDS]; /* 0: not followed */
static uint32_t next_id = 1;
static uint32_t next_sync = 1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

struct record {
  uint8_t type, flags;
  uint16_t zero;
  uint32_t id;
  uint64_t offset, length;
};

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void die(const char *why) {
  static ssize_t (*real)(int, const void *, size_t);
  if (!real) real = REAL(write);
  real(2, "forgetful: ", 11);
  real(2, why, strlen(why));
  real(2, "\n", 1);
  _exit(99);
}

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("FORGETFUL_JOURNAL");
  directory = getenv("FORGETFUL_DIRECTORY");
  if (!path || !directory) return;
  directory_length = strlen(directory);
  has_marks = getenv("FORGETFUL_MARKS") != NULL;
  journal = REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (journal < 0) die("cannot open the journal");
}

/* Called with the mutex held. */
static void put(uint8_t type, uint8_t flags, uint32_t id, uint64_t offset, const void *octets, uint64_t length) {
  struct record record = {type, flags, 0, id, offset, length};
  struct iovec parts[2] = {{&record, sizeof record}, {(void *)octets, length}};
  if (writev(journal, parts, length ? 2 : 1) != (ssize_t)(sizeof record + length)) die("cannot write the journal");
}

/* The absolute path if it is followed, else NULL. */
static const char *followed(int at, const char *path, char *buffer) {
  size_t length;
  if (journal < 0 || !path) return NULL;
  if (path[0] != '/') {
    if (at != AT_FDCWD || !getcwd(buffer, PATH_MAX)) return NULL;
    length = strlen(buffer);
    if (length + strlen(path) + 2 > PATH_MAX) return NULL;
    buffer[length] = '/';
    strcpy(buffer + length + 1, path);
    path = buffer;
  }
  if (strncmp(path, directory, directory_length)) return NULL;
  if (path[directory_length] && path[directory_length] != '/') return NULL;
  length = strlen(path);
  if (length > 4 && !strcmp(path + length - 4, "-shm")) return NULL;
  return path;
}

static uint32_t id_of(int fd) { return journal >= 0 && fd >= 0 && fd < MOST_FDS ? ids[fd] : 0; }

/* Noted before it leaves the process, with its file descriptor in the place of the id. */
static void mark(int fd, const void *octets, size_t length) {
  int error = errno;
  if (!has_marks || journal < 0) return;
  pthread_mutex_lock(&mutex);
  put('M', 0, fd, length, octets, length < MARK_OCTETS ? length : MARK_OCTETS);
  pthread_mutex_unlock(&mutex);
  errno = error;
}

static int opened(int at, const char *path, int flags, mode_t mode, int (*real)(int, const char *, int, ...)) {
  char buffer[PATH_MAX];
  const char *full = followed(at, path, buffer);
  int fd, is_new;
  if (!full) return real(at, path, flags, mode);
  pthread_mutex_lock(&mutex);
  is_new = access(full, F_OK) != 0;
  fd = real(at, path, flags, mode);
  if (fd >= 0) {
    int error = errno;
    if (fd >= MOST_FDS) die("too many files");
    ids[fd] = next_id++;
    /* flags: 1 made by this open, 2 emptied by it */
    put('O', (is_new ? 1 : 0) | (flags & O_TRUNC ? 2 : 0), ids[fd], 0, full, strlen(full));
    errno = error;
  }
  pthread_mutex_unlock(&mutex);
  return fd;
}

#define MODE(flags)                                   \
  mode_t mode = 0;                                    \
  if ((flags) & (O_CREAT | O_TMPFILE)) {              \
    va_list rest;                                     \
    va_start(rest, flags);                            \
    mode = va_arg(rest, mode_t);                      \
    va_end(rest);                                     \
  }

int open(const char *path, int flags, ...) {
  MODE(flags)
  return opened(AT_FDCWD, path, flags, mode, REAL(openat));
}
int open64(const char *path, int flags, ...) {
  MODE(flags)
  return opened(AT_FDCWD, path, flags, mode, REAL(openat64));
}
int openat(int at, const char *path, int flags, ...) {
  MODE(flags)
  return opened(at, path, flags, mode, REAL(openat));
}
int openat64(int at, const char *path, int flags, ...) {
  MODE(flags)
  return opened(at, path, flags, mode, REAL(openat64));
}
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0, REAL(openat)); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0, REAL(openat64)); }
int creat(const char *path, mode_t mode) {
  return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, REAL(openat));
}

int close(int fd) {
  static int (*real)(int);
  if (!real) real = REAL(close);
  if (id_of(fd)) ids[fd] = 0;
  return real(fd);
}

ssize_t write(int fd, const void *octets, size_t length) {
  static ssize_t (*real)(int, const void *, size_t);
  ssize_t done;
  uint32_t id = id_of(fd);
  if (!real) real = REAL(write);
  if (!id) {
    mark(fd, octets, length);
    return real(fd, octets, length);
  }
  pthread_mutex_lock(&mutex);
  done = real(fd, octets, length);
  if (done > 0) put('W', 0, id, lseek(fd, 0, SEEK_CUR) - done, octets, done);
  pthread_mutex_unlock(&mutex);
  return done;
}

ssize_t send(int fd, const void *octets, size_t length, int flags) {
  static ssize_t (*real)(int, const void *, size_t, int);
  if (!real) real = REAL(send);
  mark(fd, octets, length);
  return real(fd, octets, length, flags);
}

static ssize_t written(int fd, const void *octets, size_t length, off64_t offset) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  ssize_t done;
  uint32_t id = id_of(fd);
  if (!real) real = REAL(pwrite64);
  if (!id) return real(fd, octets, length, offset);
  pthread_mutex_lock(&mutex);
  done = real(fd, octets, length, offset);
  if (done > 0) put('W', 0, id, offset, octets, done);
  pthread_mutex_unlock(&mutex);
  return done;
}
ssize_t pwrite(int fd, const void *octets, size_t length, off_t offset) { return written(fd, octets, length, offset); }
ssize_t pwrite64(int fd, const void *octets, size_t length, off64_t offset) {
  return written(fd, octets, length, offset);
}

static int truncated(int fd, off64_t length) {
  static int (*real)(int, off64_t);
  int failed;
  uint32_t id = id_of(fd);
  if (!real) real = REAL(ftruncate64);
  if (!id) return real(fd, length);
  pthread_mutex_lock(&mutex);
  failed = real(fd, length);
  if (!failed) put('T', 0, id, length, NULL, 0);
  pthread_mutex_unlock(&mutex);
  return failed;
}
int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

static int synced(int fd, int (*real)(int)) {
  uint32_t id = id_of(fd), sync;
  int failed, error;
  if (!id) return real(fd);
  pthread_mutex_lock(&mutex);
  sync = next_sync++;
  put('B', 0, id, sync, NULL, 0);
  pthread_mutex_unlock(&mutex);
  failed = real(fd);
  error = errno;
  if (!failed) {
    pthread_mutex_lock(&mutex);
    put('E', 0, id, sync, NULL, 0);
    pthread_mutex_unlock(&mutex);
  }
  errno = error;
  return failed;
}
int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

static int unlinked(int at, const char *path, int flags) {
  char buffer[PATH_MAX];
  const char *full = followed(at, path, buffer);
  int failed;
  if (!full) return REAL(unlinkat)(at, path, flags);
  pthread_mutex_lock(&mutex);
  failed = REAL(unlinkat)(at, path, flags);
  if (!failed) put('U', 0, 0, 0, full, strlen(full));
  pthread_mutex_unlock(&mutex);
  return failed;
}
int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlinked(at, path, flags); }

int rename(const char *from, const char *to) {
  char from_buffer[PATH_MAX], to_buffer[PATH_MAX], both[2 * PATH_MAX];
  const char *full_from = followed(AT_FDCWD, from, from_buffer), *full_to = followed(AT_FDCWD, to, to_buffer);
  int failed;
  if (!full_from || !full_to) return REAL(rename)(from, to);
  pthread_mutex_lock(&mutex);
  failed = REAL(rename)(from, to);
  if (!failed) {
    size_t length = strlen(full_from) + 1;
    memcpy(both, full_from, length);
    memcpy(both + length, full_to, strlen(full_to));
    put('R', 0, 0, 0, both, length + strlen(full_to));
  }
  pthread_mutex_unlock(&mutex);
  return failed;
}
