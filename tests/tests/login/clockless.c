/* Laid before every program by /etc/ld.so.preload: the clock fails for pam_mailready.so and for nobody else, and a failing
 * clock is what makes the module as it is shipped panic: Rust's library takes it for impossible.
 * What was refused is told in /run/refused, a byte each time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    Dl_info caller;
    if (dladdr(__builtin_return_address(0), &caller) != 0 && caller.dli_fname != NULL &&
        strstr(caller.dli_fname, "pam_mailready.so") != NULL) {
        int log = open("/run/refused", O_WRONLY | O_APPEND | O_CLOEXEC);
        if (log >= 0) {
            if (write(log, "x", 1) < 0) { /* nobody to tell */
            }
            close(log);
        }
        errno = EPERM;
        return -1;
    }
    long code = syscall(SYS_clock_gettime, clock, now);
    return code < 0 ? -1 : 0;
}
