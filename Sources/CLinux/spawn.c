#define _GNU_SOURCE
#include "shim.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

// Moves `fd` out of the way of the numbers below `free`, which are about to be overwritten.
static int moved_above(int fd, int free) {
    if (fd < 0 || fd >= free) return fd;
    return fcntl(fd, F_DUPFD_CLOEXEC, free);
}

// Runs in the child; returns only to say that something failed, with errno.
static void become(const struct trivet_spawn_request *request, pid_t parent) {
    int free = 3 + request->passed_count;
    int passed[TRIVET_SPAWN_PASSED_LIMIT];
    int input = moved_above(request->input, free);
    int output = moved_above(request->output, free);
    for (int i = 0; i < request->passed_count; i++) {
        passed[i] = moved_above(request->passed[i], free);
        if (passed[i] < 0) return;
    }
    if (input >= 0 && dup2(input, 0) < 0) return;
    if (output >= 0 && (dup2(output, 1) < 0 || dup2(output, 2) < 0)) return;
    for (int i = 0; i < request->passed_count; i++)
        if (dup2(passed[i], 3 + i) < 0) return;
    if (request->new_session ? setsid() < 0 : setpgid(0, 0) < 0) return;
    if (request->directory && chdir(request->directory) < 0) return;
    if (request->set_user
        && (setgroups(0, NULL) < 0 || setgid(request->group) < 0 || setuid(request->user) < 0)) return;
    if (request->parent_death_signal) {
        // After setuid, which forgets it. A parent that is gone by now will send nothing any more.
        if (prctl(PR_SET_PDEATHSIG, request->parent_death_signal) < 0) return;
        if (getppid() != parent) _exit(127);
    }
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(request->path, request->arguments, request->environment);
}

pid_t trivet_spawn(const struct trivet_spawn_request *request) {
    int failure[2];
    if (request->passed_count < 0 || request->passed_count > TRIVET_SPAWN_PASSED_LIMIT) {
        errno = EINVAL;
        return -1;
    }
    if (pipe2(failure, O_CLOEXEC) < 0) return -1;
    // Above what is passed in the child as well, or dup2 would close it before it could tell.
    int telling = fcntl(failure[1], F_DUPFD_CLOEXEC, 3 + request->passed_count);
    close(failure[1]);
    if (telling < 0) {
        close(failure[0]);
        return -1;
    }
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        become(request, parent);
        int why = errno;
        ssize_t ignored = write(telling, &why, sizeof why);
        (void)ignored;
        _exit(127);
    }
    int why = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(telling);
    if (child > 0) {
        ssize_t count;
        do count = read(failure[0], &why, sizeof why);
        while (count < 0 && errno == EINTR);
        if (count == sizeof why) {
            while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
            child = -1;
        }
    }
    close(failure[0]);
    if (child < 0) errno = why;
    return child;
}

int trivet_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1); }
