/* A table of what the C library's and the kernel's headers say. It is compiled, not run: the test reads it out of the object file, so that a cross compiler does as well. */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
/* The C library has that one, too. */
#define sched_param kernel_sched_param
#include <linux/sched/types.h>
#undef sched_param
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#ifndef NT_ARM_SVE
#define NT_ARM_SVE 0x405
#endif
#ifndef NT_ARM_SYSTEM_CALL
#define NT_ARM_SYSTEM_CALL 0x404
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

struct entry {
    char name[56];
    uint64_t value;
};

#define VALUE(x) { #x, (uint64_t)(x) },
#define NAMED(name, x) { name, (uint64_t)(x) },
#define FIELD(type, field) { #type "." #field, offsetof(struct type, field) }, { #type "." #field "#", sizeof(((struct type *)0)->field) },
#define SIZE(type) { #type "#", sizeof(struct type) },

const struct entry fasttrap_layout[] = {
    { "FASTTRAP-LAYOUT-BEGIN", 0 },
    SIZE(user_regs_struct)
#if defined(__x86_64__)
    FIELD(user_regs_struct, r15) FIELD(user_regs_struct, r14) FIELD(user_regs_struct, r13) FIELD(user_regs_struct, r12)
    FIELD(user_regs_struct, rbp) FIELD(user_regs_struct, rbx) FIELD(user_regs_struct, r11) FIELD(user_regs_struct, r10)
    FIELD(user_regs_struct, r9) FIELD(user_regs_struct, r8) FIELD(user_regs_struct, rax) FIELD(user_regs_struct, rcx)
    FIELD(user_regs_struct, rdx) FIELD(user_regs_struct, rsi) FIELD(user_regs_struct, rdi) FIELD(user_regs_struct, orig_rax)
    FIELD(user_regs_struct, rip) FIELD(user_regs_struct, cs) FIELD(user_regs_struct, eflags) FIELD(user_regs_struct, rsp)
    FIELD(user_regs_struct, ss) FIELD(user_regs_struct, fs_base) FIELD(user_regs_struct, gs_base) FIELD(user_regs_struct, ds)
    FIELD(user_regs_struct, es) FIELD(user_regs_struct, fs) FIELD(user_regs_struct, gs)
    VALUE(SYS_open)
#elif defined(__aarch64__)
    FIELD(user_regs_struct, regs) FIELD(user_regs_struct, sp) FIELD(user_regs_struct, pc) FIELD(user_regs_struct, pstate)
#endif
    NAMED("siginfo#", sizeof(siginfo_t))
    NAMED("siginfo.si_signo", offsetof(siginfo_t, si_signo)) NAMED("siginfo.si_errno", offsetof(siginfo_t, si_errno))
    NAMED("siginfo.si_code", offsetof(siginfo_t, si_code)) NAMED("siginfo.si_pid", offsetof(siginfo_t, si_pid))
    NAMED("siginfo.si_uid", offsetof(siginfo_t, si_uid)) NAMED("siginfo.si_addr", offsetof(siginfo_t, si_addr))
    SIZE(timespec) FIELD(timespec, tv_sec) FIELD(timespec, tv_nsec)
    { "sched_attr#", SCHED_ATTR_SIZE_VER0 }, FIELD(sched_attr, size) FIELD(sched_attr, sched_policy) FIELD(sched_attr, sched_flags) FIELD(sched_attr, sched_nice) FIELD(sched_attr, sched_priority) FIELD(sched_attr, sched_runtime)
    SIZE(iovec) FIELD(iovec, iov_base) FIELD(iovec, iov_len)
    SIZE(pollfd) FIELD(pollfd, fd) FIELD(pollfd, events) FIELD(pollfd, revents)
    SIZE(statx) FIELD(statx, stx_mode) FIELD(statx, stx_ino) FIELD(statx, stx_size)
    FIELD(statx, stx_dev_major) FIELD(statx, stx_dev_minor)
    NAMED("statx.stx_mtime_sec", offsetof(struct statx, stx_mtime.tv_sec)) NAMED("statx.stx_mtime_nsec", offsetof(struct statx, stx_mtime.tv_nsec))
    FIELD(dirent64, d_reclen) NAMED("dirent64.d_name", offsetof(struct dirent64, d_name))
    SIZE(sigaction)
    NAMED("sigaction.sa_handler", offsetof(struct sigaction, sa_handler)) FIELD(sigaction, sa_mask) FIELD(sigaction, sa_flags)
    FIELD(sigaction, sa_restorer)
    NAMED("sigset_t#", sizeof(sigset_t))
    NAMED("posix_spawnattr_t#", sizeof(posix_spawnattr_t)) NAMED("posix_spawn_file_actions_t#", sizeof(posix_spawn_file_actions_t))

    VALUE(PTRACE_POKEUSER) VALUE(PTRACE_CONT) VALUE(PTRACE_SINGLESTEP) VALUE(PTRACE_DETACH) VALUE(PTRACE_SYSCALL) VALUE(PTRACE_GETEVENTMSG)
    VALUE(PTRACE_GETSIGINFO) VALUE(PTRACE_SETSIGINFO) VALUE(PTRACE_GETREGSET) VALUE(PTRACE_SETREGSET) VALUE(PTRACE_SEIZE)
    VALUE(PTRACE_INTERRUPT) VALUE(PTRACE_LISTEN) VALUE(PTRACE_GETSIGMASK) VALUE(PTRACE_SETSIGMASK) VALUE(NT_PRSTATUS)
    VALUE(NT_ARM_SYSTEM_CALL) VALUE(NT_ARM_SVE)
    VALUE(PTRACE_O_TRACESYSGOOD) VALUE(PTRACE_O_TRACEFORK) VALUE(PTRACE_O_TRACEVFORK) VALUE(PTRACE_O_TRACECLONE) VALUE(PTRACE_O_TRACEEXEC)
    VALUE(PTRACE_O_TRACEVFORKDONE) VALUE(PTRACE_O_TRACEEXIT) VALUE(PTRACE_O_TRACESECCOMP) VALUE(PTRACE_O_EXITKILL)
    VALUE(PTRACE_EVENT_FORK) VALUE(PTRACE_EVENT_VFORK) VALUE(PTRACE_EVENT_CLONE) VALUE(PTRACE_EVENT_EXEC) VALUE(PTRACE_EVENT_VFORK_DONE)
    VALUE(PTRACE_EVENT_EXIT) VALUE(PTRACE_EVENT_SECCOMP) VALUE(PTRACE_EVENT_STOP)
    VALUE(WNOHANG) VALUE(__WALL) VALUE(__WNOTHREAD) VALUE(KCMP_VM) NAMED("SCHED_OTHER", SCHED_NORMAL) VALUE(SCHED_FLAG_RESET_ON_FORK) VALUE(IOV_MAX)
    VALUE(SIGHUP) VALUE(SIGINT) VALUE(SIGQUIT) VALUE(SIGILL) VALUE(SIGTRAP) VALUE(SIGABRT) VALUE(SIGBUS) VALUE(SIGFPE) VALUE(SIGKILL)
    VALUE(SIGUSR1) VALUE(SIGSEGV) VALUE(SIGUSR2) VALUE(SIGPIPE) VALUE(SIGALRM) VALUE(SIGTERM) VALUE(SIGCHLD) VALUE(SIGCONT) VALUE(SIGSTOP)
    VALUE(SIGTSTP) VALUE(SIGTTIN) VALUE(SIGTTOU) VALUE(SIGSYS) VALUE(SI_KERNEL) VALUE(TRAP_BRKPT) VALUE(SIG_UNBLOCK)
    VALUE(O_RDONLY) VALUE(O_WRONLY) VALUE(O_RDWR) VALUE(O_CREAT) VALUE(O_NOCTTY) VALUE(O_TRUNC) VALUE(O_NONBLOCK) VALUE(O_CLOEXEC)
    VALUE(O_PATH) VALUE(AT_EMPTY_PATH) VALUE(STATX_BASIC_STATS) VALUE(S_IFMT) VALUE(S_IFREG) VALUE(POLLIN)
    VALUE(POSIX_SPAWN_SETSIGDEF) VALUE(POSIX_SPAWN_SETSIGMASK)
    VALUE(PROT_READ) VALUE(PROT_WRITE) VALUE(PROT_EXEC) VALUE(MAP_PRIVATE) VALUE(MAP_SHARED) VALUE(MAP_FIXED) VALUE(MAP_ANONYMOUS) VALUE(MAP_FIXED_NOREPLACE)
    VALUE(EPERM) VALUE(ENOENT) VALUE(ESRCH) VALUE(EINTR) VALUE(EIO) VALUE(ENOEXEC) VALUE(EBADF) VALUE(ECHILD) VALUE(EAGAIN) VALUE(ENOMEM)
    VALUE(EACCES) VALUE(EFAULT) VALUE(EBUSY) VALUE(EEXIST) VALUE(ENOTDIR) VALUE(EISDIR) VALUE(EINVAL) VALUE(EMFILE) VALUE(ENAMETOOLONG)
    VALUE(ENOSYS) VALUE(ELOOP)
    VALUE(SYS_read) VALUE(SYS_mmap) VALUE(SYS_mprotect) VALUE(SYS_munmap) VALUE(SYS_getpid) VALUE(SYS_gettid) VALUE(SYS_getdents64)
    VALUE(SYS_tgkill) VALUE(SYS_rt_tgsigqueueinfo) VALUE(SYS_kcmp) VALUE(SYS_sched_setattr) VALUE(SYS_sched_getattr) VALUE(SYS_statx) VALUE(SYS_pidfd_open) VALUE(SYS_openat)
    VALUE(SYS_close) VALUE(SYS_madvise) VALUE(SYS_memfd_create) VALUE(MADV_WIPEONFORK) VALUE(MFD_CLOEXEC) VALUE(MFD_NOEXEC_SEAL)
    { "", 0 },
};
