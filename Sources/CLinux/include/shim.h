// The Linux calls and macros that Swift's Glibc module does not export.
#pragma once
#include <stddef.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

int trivet_accept4(int fd, struct sockaddr *address, socklen_t *length);  // non-blocking, close-on-exec
int trivet_pipe2(int fds[2]);                                             // close-on-exec
int trivet_random(void *bytes, size_t count);                             // 0, or -1 with errno
void *trivet_memmem(const void *haystack, size_t n, const void *needle, size_t m);
int trivet_unacknowledged(int fd);                                        // bytes sent that the peer's kernel has not taken
void trivet_thread_name(const char *name);
int trivet_thread_cpu(int cpu);                                           // pins the calling thread
int trivet_become_subreaper(void);                                        // orphans below this process become its children
int trivet_cpu_count(void);                                               // that this process may use, at least 1
int trivet_get_errno(void);
long trivet_gettid(void);

static inline int trivet_wifexited(int status) { return WIFEXITED(status); }
static inline int trivet_wexitstatus(int status) { return WEXITSTATUS(status); }
static inline int trivet_wifsignaled(int status) { return WIFSIGNALED(status); }
static inline int trivet_wtermsig(int status) { return WTERMSIG(status); }

// epoll_event is packed on x86-64; the tag is read and written whole.
static inline uint32_t trivet_event_mask(const struct epoll_event *event) { return event->events; }
static inline uint64_t trivet_event_tag(const struct epoll_event *event) { return event->data.u64; }
int trivet_epoll_add(int epoll, int fd, uint32_t events, uint64_t tag);
int trivet_epoll_modify(int epoll, int fd, uint32_t events, uint64_t tag);
int trivet_epoll_remove(int epoll, int fd);

// The event loop of the calling thread, or NULL.
void *trivet_current_loop(void);
void trivet_set_current_loop(void *loop);

#define TRIVET_SPAWN_PASSED_LIMIT 1024

// Starts a program in a child: fork, then only async-signal-safe calls, then execve.
struct trivet_spawn_request {
    const char *path;            // absolute: PATH is not searched
    char *const *arguments;      // with argv[0], NULL at the end
    char *const *environment;    // NULL at the end
    const char *directory;       // to change to first, or NULL
    int input, output;           // become 0, and 1 with 2; -1 keeps the parent's
    const int *passed;           // become 3, 4, …
    int passed_count;
    int set_user;                // 1: drop to user and group, with no supplementary groups
    uid_t user;
    gid_t group;
    int new_session;             // 1: setsid, else a process group of its own, so that Ctrl-C reaches the parent only
    int parent_death_signal;     // what the child gets when the thread that started it ends, or 0
};
pid_t trivet_spawn(const struct trivet_spawn_request *request);  // the child's pid, or -1 with errno (execve's included)

// The child of posix_spawn starts with no descriptor from `first` on.
int trivet_spawn_close_from(posix_spawn_file_actions_t *actions, int first);
