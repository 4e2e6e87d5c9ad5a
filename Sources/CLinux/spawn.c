#define _GNU_SOURCE
#include "shim.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

// Moves `fd` out of the way of the numbers it could be overwritten under.
static int above_the_standard(int fd) {
    if (fd < 0 || fd > 3) return fd;
    return fcntl(fd, F_DUPFD_CLOEXEC, 4);
}

// Runs in the child; returns only to say that something failed, with errno.
static void become(const struct trivet_spawn_request *request, pid_t parent) {
    int input = above_the_standard(request->input);
    int output = above_the_standard(request->output);
    int passed = above_the_standard(request->passed);
    if (input >= 0 && dup2(input, 0) < 0) return;
    if (output >= 0 && (dup2(output, 1) < 0 || dup2(output, 2) < 0)) return;
    if (passed >= 0 && dup2(passed, 3) < 0) return;
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
    if (pipe2(failure, O_CLOEXEC) < 0) return -1;
    // Above 3 in the child as well, or dup2 would close it before it could tell.
    int telling = fcntl(failure[1], F_DUPFD_CLOEXEC, 4);
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
