using System.Runtime.InteropServices;

namespace FastTrap.Native;

/// <summary>
/// The one seam between FastTrap and a kernel. Everything above this layer reaches the operating system through these typed
/// methods and in no other way, which buys fault injection at every single call, a real arm64 kernel driven from x86-64 in tests,
/// and a written list of what the library asks of Linux.
/// </summary>
/// <remarks>
/// Conventions. A method that returns <see cref="Errno"/> gives <see cref="Errno.None"/> on success. A method that returns a count
/// gives a negative errno on failure. EINTR is retried inside, except by <see cref="Wait"/>, whose callers need to see it.
/// Ptrace requests must come from the thread which attached (<see cref="Errno.ESRCH"/> otherwise; ESRCH also means that the thread
/// is gone or not stopped). No method asks for the architecture of the process that runs this code.
/// </remarks>
internal interface IPlatform
{
    /// <summary>The architecture of the kernel behind this platform: of the 64-bit programs that it can trace.</summary>
    Architecture Architecture { get; }

    // ---- ptrace: only from the control thread -------------------------------------------------------------------------------

    /// <summary>PTRACE_SEIZE: attaches without stopping the thread.</summary>
    Errno Seize(int threadId, PtraceOptions options);

    /// <summary>PTRACE_INTERRUPT: asks a seized thread to stop; a wait will report PTRACE_EVENT_STOP.</summary>
    Errno Interrupt(int threadId);

    /// <summary>PTRACE_LISTEN: leaves a thread in its job-control stop, but reports what comes next.</summary>
    Errno Listen(int threadId);

    /// <summary>PTRACE_CONT with a signal to deliver, or 0.</summary>
    Errno Continue(int threadId, int signal);

    /// <summary>PTRACE_SYSCALL: continues to the next entry to or exit from a system call.</summary>
    Errno ContinueToSystemCall(int threadId, int signal);

    /// <summary>PTRACE_SINGLESTEP: the last resort.</summary>
    Errno SingleStep(int threadId, int signal);

    /// <summary>PTRACE_DETACH of a stopped thread, with a signal to deliver, or 0.</summary>
    Errno Detach(int threadId, int signal);

    /// <summary>PTRACE_GETREGSET of NT_PRSTATUS into <paramref name="registers"/>, whose architecture is already set.</summary>
    Errno GetRegisters(int threadId, ref RegisterSet registers);

    /// <summary>PTRACE_SETREGSET of NT_PRSTATUS.</summary>
    Errno SetRegisters(int threadId, in RegisterSet registers);

    /// <summary>As <see cref="SetRegisters"/>, of a thread whose registers are <paramref name="current"/>: where few differ, they may be written one by one.</summary>
    Errno SetChangedRegisters(int threadId, in RegisterSet registers, in RegisterSet current);

    /// <summary>PTRACE_GETREGSET of any other set (NT_PRFPREG 2, NT_X86_XSTATE 0x202, ...). Returns bytes, or a negative errno.</summary>
    int GetRegisterSet(int threadId, int noteType, Span<byte> buffer);

    /// <summary>PTRACE_SETREGSET of any other set.</summary>
    Errno SetRegisterSet(int threadId, int noteType, ReadOnlySpan<byte> buffer);

    /// <summary>PTRACE_GETSIGINFO: the signal a thread in signal-delivery-stop is about to get.</summary>
    Errno GetSignalInfo(int threadId, out SignalInfo info);

    /// <summary>PTRACE_SETSIGINFO.</summary>
    Errno SetSignalInfo(int threadId, in SignalInfo info);

    /// <summary>PTRACE_GETSIGMASK: bit n-1 is signal n.</summary>
    Errno GetSignalMask(int threadId, out ulong mask);

    /// <summary>PTRACE_SETSIGMASK.</summary>
    Errno SetSignalMask(int threadId, ulong mask);

    /// <summary>PTRACE_GETEVENTMSG: the new thread's id, the exit status, ... by the event.</summary>
    Errno GetEventMessage(int threadId, out ulong message);

    /// <summary>
    /// wait4 with __WALL and __WNOTHREAD: the next report of a thread that the calling thread traces.
    /// Returns the thread id, 0 if <paramref name="block"/> is false and there is none, or a negative errno (EINTR after
    /// <see cref="WakeThread"/>, ECHILD when the calling thread traces nobody).
    /// </summary>
    /// <param name="threadId">A thread, or -1 for any.</param>
    /// <param name="block">Whether to sleep until there is a report.</param>
    /// <param name="status">What happened.</param>
    int Wait(int threadId, bool block, out WaitStatus status);

    /// <summary>What <see cref="Wait"/> would report next, which stays to be reported (waitid with WNOWAIT).</summary>
    /// <param name="threadId">A thread, or -1 for any.</param>
    /// <param name="block">Whether to sleep until there is a report.</param>
    /// <param name="status">What happened, if the thread has stopped; else 0.</param>
    int Peek(int threadId, bool block, out WaitStatus status);

    // ---- the calling thread -------------------------------------------------------------------------------------------------

    /// <summary>gettid.</summary>
    int CurrentThreadId { get; }

    /// <summary>The tracer's own process id.</summary>
    int CurrentProcessId { get; }

    /// <summary>
    /// Makes a blocking <see cref="Wait"/> of that thread of ours return EINTR. It has no effect on a thread that is just about to
    /// block, so callers repeat it until they are acknowledged. Uses a real-time signal that nobody else has claimed, sent to that thread only.
    /// </summary>
    Errno WakeThread(int threadId);

    /// <summary>sched_setaffinity of a thread of ours (or 0: the calling one); an empty list allows all CPUs.</summary>
    Errno SetAffinity(int threadId, ReadOnlySpan<int> cpus);

    /// <summary>
    /// sched_setattr of the calling thread: whether it goes ahead of others on its CPU (a nice value of -10 instead of 0, which threads that it makes do not inherit, from then on). EPERM without the right to (CAP_SYS_NICE, RLIMIT_NICE), and for a thread that was
    /// given another policy or nice value: that stays. (A slice of its own does not.)
    /// </summary>
    Errno SetUrgent(bool isUrgent);

    // ---- memory: any thread -------------------------------------------------------------------------------------------------

    /// <summary>
    /// process_vm_readv. Returns bytes read, which may be fewer than asked when a page is missing, or a negative errno (EFAULT: nothing could be read).
    /// </summary>
    int ReadMemory(int processId, ulong address, Span<byte> buffer);

    /// <summary>process_vm_writev to data. Never for code: it does no instruction-cache maintenance. Same results as <see cref="ReadMemory"/>.</summary>
    int WriteMemory(int processId, ulong address, ReadOnlySpan<byte> buffer);

    /// <summary>
    /// Reads many equally long pieces with as few calls as possible: piece i of <paramref name="length"/> bytes from
    /// <paramref name="addresses"/>[i] goes to buffer[i * length]. Pieces that cannot be read are zeroed and marked false in <paramref name="ok"/>.
    /// </summary>
    void ReadMemoryBatch(int processId, ReadOnlySpan<ulong> addresses, int length, Span<byte> buffer, Span<bool> ok);

    /// <summary>
    /// Opens a process's memory for <see cref="WriteCode"/> and <see cref="ReadCode"/> (<c>/proc/PID/mem</c>). The handle belongs to
    /// the address space as it is now: after an exec it reads and writes nothing.
    /// </summary>
    Errno OpenMemory(int processId, out TargetMemory memory);

    /// <summary>
    /// Writes instructions: the one method that does, and the only one which knows how. Works on read-only text and keeps instruction caches
    /// right. A write of 1 byte (x86-64) or of an aligned word (arm64) is atomic for running threads. Returns bytes written or a negative errno.
    /// </summary>
    int WriteCode(TargetMemory memory, ulong address, ReadOnlySpan<byte> code);

    /// <summary>Reads text, also where it is execute-only. Returns bytes read or a negative errno.</summary>
    int ReadCode(TargetMemory memory, ulong address, Span<byte> code);

    // ---- sharing: any thread ------------------------------------------------------------------------------------------------

    /// <summary>
    /// Opens an empty memory file that a process has made (<c>/proc/PID/fd/N</c>), gives it a length and maps it here, for reading and writing. Nothing is done to a
    /// descriptor that is another file by now (EBADF).
    /// </summary>
    /// <param name="processId">The process.</param>
    /// <param name="descriptor">Its descriptor; it may close it afterwards.</param>
    /// <param name="name">The name which it gave to memfd_create.</param>
    /// <param name="length">Bytes, whole pages.</param>
    /// <param name="memory">The mapping; null on failure.</param>
    Errno MapMemoryFile(int processId, int descriptor, string name, long length, out SharedMemory? memory);

    /// <summary>Holds a word in a page of shared memory, at its end, which the kernel marks when the calling thread ends. ENOSYS where that cannot be, EAGAIN where this thread holds too many.</summary>
    Errno Hold(SharedMemory memory, long page, out HeldWord? word)
    {
        word = null;
        return Errno.ENOSYS;
    }

    /// <summary>The processor's time counter, which targets read without the kernel, and CLOCK_MONOTONIC at the same moment.</summary>
    Errno ReadClocks(out ClockSample sample);

    /// <summary>
    /// Executes code of ours in the tracer itself, to learn what it costs: a function for x86-64 at any address, which takes a count and an address and returns a number. ENOSYS where that cannot be.
    /// </summary>
    /// <param name="code">The function.</param>
    /// <param name="count">Its first argument.</param>
    /// <param name="address">Its second.</param>
    /// <param name="before">Called in front of each execution.</param>
    /// <param name="results">What it returned, once for each execution.</param>
    Errno Execute(ReadOnlySpan<byte> code, int count, nint address, Action before, Span<ulong> results) => Errno.ENOSYS;

    // ---- files and /proc ----------------------------------------------------------------------------------------------------

    /// <summary>Reads a whole file of /proc (or another small text file) as bytes; null with an errno when it cannot be read.</summary>
    byte[]? ReadProcFile(string path, out Errno error);

    /// <summary>readlink; null with an errno when it cannot be read.</summary>
    string? ReadLink(string path, out Errno error);

    /// <summary>The numeric names in a directory of /proc (thread ids in <c>/proc/PID/task</c>), or a negative errno.</summary>
    int ListProcIds(string path, List<int> ids);

    /// <summary>Opens a regular file for reading, by this machine's path (callers prepend <c>/proc/PID/root</c>).</summary>
    Errno OpenFile(string path, out TargetFile? file);

    // ---- processes ----------------------------------------------------------------------------------------------------------

    /// <summary>kill.</summary>
    Errno Kill(int processId, int signal);

    /// <summary>tgkill.</summary>
    Errno SignalThread(int processId, int threadId, int signal);

    /// <summary>rt_tgsigqueueinfo: queues a signal with the given siginfo, which the kernel allows for negative si_code only.</summary>
    Errno QueueSignal(int processId, int threadId, in SignalInfo info);

    /// <summary>pidfd_open: a descriptor which becomes readable when the process ends, and which no pid reuse can confuse.</summary>
    Errno OpenProcessDescriptor(int processId, out SafeHandle? descriptor);

    /// <summary>True if the process behind a pidfd has ended (poll, no waiting).</summary>
    bool HasEnded(SafeHandle processDescriptor);

    /// <summary>Whether two processes share one address space (kcmp KCMP_VM); null when the kernel does not say.</summary>
    bool? SharesAddressSpace(int processId, int otherProcessId);

    /// <summary>
    /// Starts a program by posix_spawn, seized by the calling thread before its first instruction: on return it stands in the
    /// PTRACE_EVENT_EXEC stop. On failure nothing is left behind.
    /// </summary>
    Errno SpawnSeized(SpawnRequest request, PtraceOptions options, out int processId);
}
