/* Preloaded into User Mode Linux (a kernel that runs as a program).

   1. Its buffer for a process's floating-point state has a fixed size, and PTRACE_SETREGSET wants exactly the size that the processor has, which is larger on recent ones:
      without help the first process in the guest is killed. So the whole area is read and written on its behalf.

   2. The disks of the guest are files, which the kernel changes by pwrite and fallocate and by nothing else. With POWER_LOG set, each change is appended to that file after it was
      made and before the guest hears of it, and what the guest says on its console as well: one order for all disks and for the words. The disks are the files named by POWER_DISKS,
      separated by colons.

   A record: magic, kind, disk (u32 each), 0 (u32), offset, length (u64 each), then for writes and words `length` bytes. Little-endian. One writev to a file opened
   with O_APPEND, so records of several threads do not mix. tests/src/power/journal.rs reads them.

   What empties a disk's cache comes by another way: the kernel's disk thread takes such a request, does nothing (it goes through the request's parts, and this kind has none) and answers that it is done.
   The answer is a write of the request's address to a pipe, and behind the address it says which disk and how many parts.

   The kernel's disk thread is a bare clone(2) that shares everything with the main thread, thread-local storage included, so nothing here but system calls. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, FLUSH = 2, ZERO = 3, SAID = 4 };
#define MAGIC 0x474f4c50u
#define DISKS 4

struct record {
    uint32_t magic, kind, disk, zero;
    uint64_t offset, length;
};

static int log_fd = -1;
static long first;
static int disks;
static struct { dev_t dev; ino_t ino; } disk[DISKS];

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("POWER_LOG"), *names = getenv("POWER_DISKS");
    if (!path || !names)
        return;
    char copy[4096], *next = copy, *name;
    strncpy(copy, names, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    while (disks < DISKS && (name = strsep(&next, ":"))) {
        struct stat st;
        if (stat(name, &st) != 0)
            _exit(99);
        disk[disks].dev = st.st_dev;
        disk[disks++].ino = st.st_ino;
    }
    log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    /* Out of the way of the numbers that the kernel expects for its own. */
    first = syscall(SYS_getpid);
    int high = log_fd < 0 ? -1 : fcntl(log_fd, F_DUPFD_CLOEXEC, 200);
    if (high < 0)
        _exit(99);
    close(log_fd);
    log_fd = high;
}

/* Which disk a descriptor is, or -1. */
static int disk_of(int fd)
{
    struct stat st;
    if (log_fd < 0 || fstat(fd, &st) != 0)
        return -1;
    for (int i = 0; i < disks; i++)
        if (disk[i].dev == st.st_dev && disk[i].ino == st.st_ino)
            return i;
    return -1;
}

static void note(enum kind kind, int which, uint64_t offset, uint64_t length, const void *data)
{
    struct record head = { MAGIC, kind, (uint32_t)which, 0, offset, length };
    struct iovec parts[2] = { { &head, sizeof head }, { (void *)data, data ? length : 0 } };
    /* A log with a hole proves nothing. */
    if (syscall(SYS_writev, log_fd, parts, 2) != (long)(sizeof head + parts[1].iov_len))
        _exit(98);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    long done = syscall(SYS_pwrite64, fd, data, length, offset);
    int which = disk_of(fd);
    if (done > 0 && which >= 0)
        note(WRITE, which, (uint64_t)offset, (uint64_t)done, data);
    return done;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    long done = syscall(SYS_fallocate, fd, mode, offset, length);
    int which = disk_of(fd);
    if (done == 0 && which >= 0)
        note(ZERO, which, (uint64_t)offset, (uint64_t)length, NULL);
    return (int)done;
}

/* The beginning of the kernel's struct io_thread_req (arch/um/drivers/ubd_kern.c). */
struct request {
    void *of_block_layer;
    int disk, origin;
    unsigned long offsets[2];
    unsigned long long offset;
    int sector_size, error, parts;
};

/* The disk thread answers requests. */
static void note_flushes(struct request *const *done, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int which = disk_of(done[i]->disk);
        if (which >= 0 && done[i]->sector_size == 512 && done[i]->parts == 0)
            note(FLUSH, which, 0, 0, NULL);
    }
}

ssize_t write(int fd, const void *data, size_t length)
{
    /* Before the guest hears of it. The disk thread is a process to its number, and the only one beside the first that writes addresses. */
    if (log_fd >= 0 && fd != 1 && length >= sizeof(void *) && length % sizeof(void *) == 0 && syscall(SYS_getpid) != first)
        note_flushes(data, length / sizeof(void *));
    long done = syscall(SYS_write, fd, data, length);
    if (done > 0 && fd == 1 && log_fd >= 0)
        note(SAID, 0, 0, (uint64_t)done, data);
    return done;
}

static unsigned char area[65536] __attribute__((aligned(64)));

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    long pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *), *data = va_arg(rest, void *);
    va_end(rest);
    int op = (int)request;
    if ((op == PTRACE_GETREGSET || op == PTRACE_SETREGSET) && (long)address == NT_X86_XSTATE) {
        struct iovec *theirs = data, whole = { area, sizeof area };
        long done = syscall(SYS_ptrace, (long)PTRACE_GETREGSET, pid, address, &whole);
        if (done < 0)
            return done;
        size_t length = theirs->iov_len < whole.iov_len ? theirs->iov_len : whole.iov_len;
        if (op == PTRACE_GETREGSET) {
            memcpy(theirs->iov_base, area, length);
            theirs->iov_len = length;
            return 0;
        }
        memcpy(area, theirs->iov_base, length);
        return syscall(SYS_ptrace, (long)PTRACE_SETREGSET, pid, address, &whole);
    }
    /* The system call stores what these find, the library's function returns it. */
    if (op == PTRACE_PEEKTEXT || op == PTRACE_PEEKDATA || op == PTRACE_PEEKUSER) {
        long found;
        long done = syscall(SYS_ptrace, (long)op, pid, address, &found);
        return done < 0 ? done : found;
    }
    return syscall(SYS_ptrace, (long)op, pid, address, data);
}
