/* proxy: all of the guest's own software. As the first process it sets the guest up and starts itself again; then it executes, on the guest's kernel, the system
 * calls that a client sends through a virtio-serial port.
 *
 * Both directions carry frames: u32 length, u32 channel, then so many bytes. Each channel has a thread of its own and an arena (1 MiB at 0x1000000000 +
 * channel * 1 MiB), because ptrace and wait belong to the thread that attached. A client sends one frame for a channel and waits for the answer. An empty frame
 * ends the channel's thread, and with it all that this thread traces is let go.
 *
 * A request is a row of operations, whose answers follow each other in the answer's frame:
 *   W u32 offset, u32 length, bytes      writes into the arena; no answer
 *   R u32 offset, u32 length             bytes of the arena; with bit 31 of the length set: as many as call (length & 255) of this request returned
 *   S u64 number, u64 arguments[6]       a system call; its result, or -errno, as i64. An argument 0x7e57000000000000 + n is the result of call n of this request.
 *                                        EINTR is retried, except of wait4 (260) and ppoll (73).
 *   F u32 offset                         reads the whole file whose path stands at the offset: i64 length or -errno, then the bytes
 *   P u32 offset, u32 kind, u64 options  starts a program: see start(). i64 process id or -errno, i64 descriptors[4]
 *   T                                    i64 thread id of the channel's thread */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARENAS 0x1000000000ul
#define ARENA_LENGTH (1ul << 20)
#define CHANNELS 256
#define MAXIMAL_FRAME (8u << 20)
#define MAXIMAL_FILE (4u << 20)
#define RESULT_OF 0x7e57000000000000ul
#define WAKE_SIGNAL 63
#define ESCAPES(number) ((number) == SYS_wait4 || (number) == SYS_ppoll)

struct channel {
    uint32_t id;
    pthread_mutex_t lock;
    pthread_cond_t posted;
    uint8_t *request; /* owned by the channel's thread once posted */
    uint32_t length;
    int is_posted;
    uint8_t *answer;
    size_t filled, room;
};

static struct channel *channels[CHANNELS]; /* of the first thread alone; a channel belongs to its thread once that has been told to end */
static pthread_mutex_t port_lock = PTHREAD_MUTEX_INITIALIZER;
static int port;

static void die(const char *what)
{
    fprintf(stderr, "proxy: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void transfer(void *bytes, size_t length, int writes)
{
    for (char *at = bytes; length;) {
        ssize_t n = writes ? write(port, at, length) : read(port, at, length);
        if (n < 0 && errno != EINTR && errno != EAGAIN) die("port");
        if (n == 0 && !writes) usleep(1000); /* nobody has connected at the other end */
        if (n > 0) { at += n; length -= (size_t)n; }
    }
}

static void *grow(struct channel *c, size_t length)
{
    if (c->filled + length > c->room) {
        c->room = (c->filled + length) * 2;
        c->answer = realloc(c->answer, c->room);
        if (!c->answer) die("memory");
    }
    void *at = c->answer + c->filled;
    c->filled += length;
    return at;
}

static void put(struct channel *c, int64_t value) { memcpy(grow(c, sizeof value), &value, sizeof value); }

static void whole_file(struct channel *c, const char *path)
{
    size_t head = c->filled;
    put(c, 0);
    int64_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) length = -errno;
    while (fd >= 0 && length <= MAXIMAL_FILE) {
        const size_t piece = 32768;
        ssize_t n = read(fd, grow(c, piece), piece);
        int error = errno;
        c->filled -= piece - (n > 0 ? (size_t)n : 0);
        if (n > 0) length += n;
        else if (n == 0) break;
        else if (error != EINTR) { length = -error; break; }
    }
    if (length < 0) c->filled = head + sizeof length;
    if (length > MAXIMAL_FILE) die("a file is too long");
    if (fd >= 0) close(fd);
    memcpy(c->answer + head, &length, sizeof length);
}

/* Texts, each ended by a zero: the path, the working directory (empty: inherit), three files for the descriptors 0 to 2 (empty: inherit), then the arguments,
 * an empty text, the environment, an empty text.
 * kind 0: seized by the calling thread with the options before its first instruction, and left in its exec stop.
 * kind 1: with pipes as 0, 1 and 2 and a socket as 3, whose other ends are given. */
static pid_t start(const char *text, uint32_t kind, uint64_t options, int64_t given[4])
{
    const char *path = text, *files[3], *arguments[256], *environment[256];
    const char *directory = path + strlen(path) + 1;
    const char *at = directory + strlen(directory) + 1;
    for (int i = 0; i < 3; i++, at += strlen(at) + 1) files[i] = at;
    int count = 0;
    for (; *at && count < 255; at += strlen(at) + 1) arguments[count++] = at;
    arguments[count] = NULL;
    at++;
    for (count = 0; *at && count < 255; at += strlen(at) + 1) environment[count++] = at;
    environment[count] = NULL;
    int pipes[4][2], gate[2], failure[2];
    if (pipe2(gate, O_CLOEXEC) || pipe2(failure, O_CLOEXEC)) return -errno;
    if (kind == 1 && (pipe2(pipes[0], O_CLOEXEC) || pipe2(pipes[1], O_CLOEXEC) || pipe2(pipes[2], O_CLOEXEC) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pipes[3])))
        return -errno;
    pid_t child = fork();
    if (child == 0) {
        char byte;
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(WAKE_SIGNAL, SIG_DFL);
        close(gate[1]);
        while (read(gate[0], &byte, 1) < 0 && errno == EINTR) { }
        int ok = !*directory || chdir(directory) == 0;
        for (int i = 0; ok && i < 4; i++) {
            int fd = -1;
            if (kind == 1) fd = pipes[i][i == 0 ? 0 : 1];
            else if (i < 3 && *files[i]) {
                fd = i == 2 && strcmp(files[1], files[2]) == 0 ? dup(1) : open(files[i], i == 0 ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, 0666);
                ok = fd >= 0;
            }
            if (fd >= 0 && dup2(fd, i) < 0) ok = 0;
        }
        if (ok) execve(path, (char *const *)arguments, (char *const *)environment);
        int error = errno;
        if (write(failure[1], &error, sizeof error) < 0) _exit(126);
        _exit(127);
    }
    int error = child < 0 ? errno : 0;
    if (!error && kind == 0 && ptrace(PTRACE_SEIZE, child, 0, (void *)(options | PTRACE_O_TRACEEXEC))) {
        error = errno;
        kill(child, SIGKILL);
    }
    close(gate[0]);
    close(gate[1]); /* lets it go on */
    close(failure[1]);
    if (kind == 1) for (int i = 0; i < 4; i++) { close(pipes[i][i == 0 ? 0 : 1]); given[i] = pipes[i][i == 0 ? 1 : 0]; }
    int status = 0, failed = 0;
    while (!error && kind == 0) {
        if (waitpid(child, &status, __WALL) < 0) { if (errno == EINTR) continue; error = errno; break; }
        if (!WIFSTOPPED(status) || status >> 16 == PTRACE_EVENT_EXEC) break;
        ptrace(PTRACE_CONT, child, 0, (void *)(long)(status >> 16 ? 0 : WSTOPSIG(status)));
    }
    if (!error && (kind == 1 || !WIFSTOPPED(status)) && read(failure[0], &failed, sizeof failed) == (ssize_t)sizeof failed) error = failed;
    close(failure[0]);
    if (!error && kind == 0 && !WIFSTOPPED(status)) error = ESRCH;
    if (error && child > 0) {
        while (waitpid(child, &status, __WALL) < 0 && errno == EINTR) { }
        for (int i = 0; kind == 1 && i < 4; i++) close((int)given[i]);
    }
    return error ? -error : child;
}

static void answer(struct channel *c)
{
    uint8_t *arena = (uint8_t *)(ARENAS + c->id * ARENA_LENGTH), *at = c->request, *end = at + c->length;
    int64_t results[256];
    int calls = 0;
    uint32_t a, b;
    uint64_t words[7];
    while (at < end) {
        uint8_t operation = *at++;
        if (operation == 'W' || operation == 'R') { memcpy(&a, at, 4); memcpy(&b, at + 4, 4); at += 8; }
        switch (operation) {
        case 'W':
            memcpy(arena + a, at, b);
            at += b;
            break;
        case 'R':
            if (b >> 31) b = results[b & 255] > 0 ? (uint32_t)results[b & 255] : 0;
            memcpy(grow(c, b), arena + a, b);
            break;
        case 'S': {
            memcpy(words, at, sizeof words);
            at += sizeof words;
            for (int i = 1; i < 7; i++)
                if (words[i] >= RESULT_OF && words[i] < RESULT_OF + 256) words[i] = (uint64_t)results[words[i] - RESULT_OF];
            long result;
            do result = syscall((long)words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
            while (result == -1 && errno == EINTR && !ESCAPES((long)words[0]));
            results[calls & 255] = result == -1 ? -errno : result;
            put(c, results[calls++ & 255]);
            break;
        }
        case 'F':
            memcpy(&a, at, 4);
            at += 4;
            whole_file(c, (char *)arena + a);
            break;
        case 'P': {
            int64_t given[4] = { -1, -1, -1, -1 };
            memcpy(&a, at, 4);
            memcpy(&b, at + 4, 4);
            memcpy(words, at + 8, 8);
            at += 16;
            put(c, start((char *)arena + a, b, words[0], given));
            for (int i = 0; i < 4; i++) put(c, given[i]);
            break;
        }
        case 'T':
            put(c, syscall(SYS_gettid));
            break;
        default:
            errno = EPROTO;
            die("operation");
        }
    }
}

static void *serve(void *argument)
{
    struct channel *c = argument;
    for (;;) {
        pthread_mutex_lock(&c->lock);
        while (!c->is_posted) pthread_cond_wait(&c->posted, &c->lock);
        c->is_posted = 0;
        int ends = c->length == 0;
        pthread_mutex_unlock(&c->lock);
        if (ends) break;
        c->filled = 0;
        memset(grow(c, 8), 0, 8);
        answer(c);
        free(c->request);
        uint32_t head[2] = { (uint32_t)c->filled - 8, c->id };
        memcpy(c->answer, head, sizeof head);
        pthread_mutex_lock(&port_lock);
        transfer(c->answer, c->filled, 1);
        pthread_mutex_unlock(&port_lock);
    }
    free(c->answer);
    free(c);
    return NULL;
}

static void on_wake(int signal) { (void)signal; }

static void run_proxy(void)
{
    struct sigaction wake = { .sa_handler = on_wake }, ignore = { .sa_handler = SIG_IGN };
    sigaction(WAKE_SIGNAL, &wake, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    for (int i = 0; (port = open("/dev/vport0p1", O_RDWR | O_CLOEXEC)) < 0; i++) {
        if (i > 5000) die("/dev/vport0p1");
        usleep(1000);
    }
    if (mmap((void *)ARENAS, CHANNELS * ARENA_LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED) die("arenas");
    for (;;) {
        uint32_t head[2];
        transfer(head, sizeof head, 0);
        if (head[0] > MAXIMAL_FRAME || head[1] >= CHANNELS) { errno = EPROTO; die("frame"); }
        uint8_t *request = head[0] ? malloc(head[0]) : NULL;
        if (head[0]) transfer(request, head[0], 0);
        struct channel *c = channels[head[1]];
        if (!c) {
            if (head[0] == 0) continue;
            pthread_t thread;
            pthread_attr_t attributes;
            c = channels[head[1]] = calloc(1, sizeof *c);
            if (!c) die("memory");
            c->id = head[1];
            pthread_mutex_init(&c->lock, NULL);
            pthread_cond_init(&c->posted, NULL);
            pthread_attr_init(&attributes);
            pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
            pthread_attr_setstacksize(&attributes, 256 * 1024);
            if (pthread_create(&thread, &attributes, serve, c)) die("pthread_create");
        }
        if (head[0] == 0) channels[head[1]] = NULL;
        pthread_mutex_lock(&c->lock);
        c->request = request;
        c->length = head[0];
        c->is_posted = 1;
        pthread_cond_signal(&c->posted);
        pthread_mutex_unlock(&c->lock);
    }
}

static void run_first_process(char **argv)
{
    static const char *const modules[] = { "virtio", "virtio_ring", "virtio_mmio", "virtio_console" };
    mkdir("/proc", 0755); mkdir("/sys", 0755); mkdir("/dev", 0755); mkdir("/tmp", 01777);
    if (mount("proc", "/proc", "proc", 0, "") || mount("sys", "/sys", "sysfs", 0, "")) die("mount");
    mount("dev", "/dev", "devtmpfs", 0, "");
    mkdir("/dev/shm", 01777);
    for (int tries = 0; tries < 2; tries++)
        for (unsigned i = 0; i < sizeof modules / sizeof *modules; i++) {
            char path[64];
            snprintf(path, sizeof path, "/modules/%s.ko", modules[i]);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            /* The second round is for those which depended on a later one. */
            if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST && tries) die(path);
            close(fd);
        }
    pid_t proxy = fork();
    if (proxy == 0) {
        setsid();
        char *again[] = { argv[0], "serve", NULL };
        execv("/proc/self/exe", again);
        die("exec");
    }
    printf("guest is up\n");
    fflush(stdout);
    for (int status;;) {
        pid_t ended = wait(&status);
        if (ended == proxy || (ended < 0 && errno == ECHILD)) break;
    }
    printf("proxy has ended\n");
    fflush(stdout);
    reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
    if (argc == 1) run_first_process(argv);
    else run_proxy();
    return 0;
}
