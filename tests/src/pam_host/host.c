/* A program that calls PAM, as sshd and Dovecot do: through the real libpam, with a module that it knows nothing of.
 *
 *   host CONFDIR SERVICE USER phases         each phase once; prints "PHASE CODE"
 *   host CONFDIR SERVICE USER times N        prints the nanoseconds of each of N calls of pam_acct_mgmt
 *   host CONFDIR SERVICE USER cycles N SO    N times: start, account, session, end, which loads and unloads the modules;
 *                                            prints "N RSS_KB FDS THREADS STILL_LOADED" ten times on the way
 *   host CONFDIR SERVICE USER held N SO      the same while another login is open, so that the modules stay loaded
 *
 * USER "-" starts without a name. In C, because it stands for strangers: nothing of Rust's is in this process but what
 * the module brings. SIGPIPE is left alone, so that a module that raises it is found out.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
    (void)data;
    for (int i = 0; i < count; i++) {
        /* A module that only listens puts no question to anybody. */
        if (messages[i]->msg_style != PAM_TEXT_INFO) {
            puts("question");
            return PAM_CONV_ERR;
        }
        printf("shown: %s\n", messages[i]->msg);
    }
    /* Freed by libpam, as the answers of a real application are. */
    *responses = calloc((size_t)count, sizeof **responses);
    return *responses == NULL ? PAM_BUF_ERR : PAM_SUCCESS;
}

static const struct pam_conv conversation = {converse, NULL};
static const char *confdir, *service, *user;

static void must(const char *what, int code)
{
    if (code != PAM_SUCCESS) {
        printf("%s %d\n", what, code);
        exit(1);
    }
}

static pam_handle_t *start(void)
{
    pam_handle_t *handle = NULL;
    must("start", pam_start_confdir(service, user, &conversation, confdir, &handle));
    return handle;
}

static int entries(const char *path)
{
    int count = 0;
    DIR *folder = opendir(path);
    while (folder != NULL && readdir(folder) != NULL)
        count++;
    if (folder != NULL)
        closedir(folder);
    return count;
}

/* Counted page by page: the quick figure in /proc/self/statm may be off by dozens. */
static long rss_kb(void)
{
    char line[256];
    long kb = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Rss: %ld kB", &kb) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kb;
}

static void phases(void)
{
    pam_handle_t *handle = start();
    printf("auth %d\n", pam_authenticate(handle, 0));
    printf("account %d\n", pam_acct_mgmt(handle, 0));
    printf("cred %d\n", pam_setcred(handle, PAM_ESTABLISH_CRED));
    printf("open %d\n", pam_open_session(handle, 0));
    printf("close %d\n", pam_close_session(handle, 0));
    printf("password %d\n", pam_chauthtok(handle, 0));
    must("end", pam_end(handle, PAM_SUCCESS));
}

static void times(long count)
{
    struct timespec before, after;
    pam_handle_t *handle = start();
    long *taken = calloc((size_t)count, sizeof *taken);
    if (taken == NULL)
        exit(1);
    for (long i = 0; i < 20; i++)
        must("account", pam_acct_mgmt(handle, 0));
    for (long i = 0; i < count; i++) {
        clock_gettime(CLOCK_MONOTONIC, &before);
        int code = pam_acct_mgmt(handle, 0);
        clock_gettime(CLOCK_MONOTONIC, &after);
        must("account", code);
        taken[i] = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
        /* Logins do not come back to back; an agent that is up gets time to take each. */
        usleep(200);
    }
    for (long i = 0; i < count; i++)
        printf("%ld\n", taken[i]);
    must("end", pam_end(handle, PAM_SUCCESS));
}

static void cycles(long count, const char *module, int held)
{
    pam_handle_t *other = held ? start() : NULL;
    if (held)
        must("account", pam_acct_mgmt(other, 0));
    int still_loaded = 0;
    for (long i = 1; i <= count; i++) {
        pam_handle_t *handle = start();
        must("account", pam_acct_mgmt(handle, 0));
        must("open", pam_open_session(handle, 0));
        must("close", pam_close_session(handle, 0));
        must("end", pam_end(handle, PAM_SUCCESS));
        void *again = dlopen(module, RTLD_LAZY | RTLD_NOLOAD);
        if (again != NULL) {
            still_loaded++;
            dlclose(again);
        }
        if (i % (count / 10) == 0)
            printf("%ld %ld %d %d %d\n", i, rss_kb(), entries("/proc/self/fd"), entries("/proc/self/task"), still_loaded);
    }
    if (held)
        must("end", pam_end(other, PAM_SUCCESS));
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 64;
    confdir = argv[1];
    service = argv[2];
    user = strcmp(argv[3], "-") == 0 ? NULL : argv[3];
    if (strcmp(argv[4], "phases") == 0)
        phases();
    else if (strcmp(argv[4], "times") == 0 && argc == 6)
        times(atol(argv[5]));
    else if (strcmp(argv[4], "cycles") == 0 && argc == 7)
        cycles(atol(argv[5]), argv[6], 0);
    else if (strcmp(argv[4], "held") == 0 && argc == 7)
        cycles(atol(argv[5]), argv[6], 1);
    else
        return 64;
    return 0;
}
