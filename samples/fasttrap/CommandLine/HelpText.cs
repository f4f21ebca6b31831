namespace FastTrap.Tool.CommandLine;

/// <summary>What <c>--help</c> prints.</summary>
internal static class HelpText
{
    public const string Text = """
        fasttrap: look into running programs, without restarting or changing them.

        Usage: fasttrap VERB [-p PID]... [-c 'COMMAND ARGS'] [OPTIONS] DESCRIPTION...

        Verbs
          list      show the probes that a description matches; enables nothing
          trace     a line for each hit, with arguments or return value
          count     how often each probe was hit; live on a terminal
          latency   time from entry to return of each function, as a histogram
          stack     how often each call stack led to the probes
          clean     remove what a fasttrap that was killed has left in a process

        Descriptions: provider:module:function:name, any part empty or a glob, missing parts on the left
          libc.so.6:malloc:entry        the entry of malloc in libc
          'libc.so.6:mem*:return'       every return of every function named mem...
          a.out:main:1f                 the instruction at offset 0x1f of main in the executable
          'pid42:libfoo*:*:entry'       every function of libfoo in process 42
          'postgresql*:::query-start'   a static probe (USDT); 'list' shows them: '*:::*-*'

        Processes
          -p, --pid PID           attach to a running process; may be repeated
          -c, --command 'TEXT'    start a command; it owns standard output, results go to standard error or to -o
          -f, --follow            trace, count: follow its children, what they execute, and libraries loaded later;
                                  of a running process (-p) all descendants, too
          list FILE DESCRIPTION   list needs no process: fasttrap list /bin/ls ':main:entry'

        Options
          --json                  one JSON object a line
          -o, --output FILE       write the results to FILE
          -d, --duration SECONDS  end after that time
          --args N                trace: show N arguments, 0 to 12 (default 6)
          --all                   count: show the probes that were never hit, too
          --mechanism HOW         how hits are gathered: by code in the program where that can be had (auto, the default),
                                  by jumps to it alone (jump), by traps that lead to it (trap), or by stops (breakpoint)
          --depth N               stack: frames at most (default 64)
          --folded                stack: one line a stack, as flame graph tools read it
          -v, --verbose           name every probe that could not be enabled; say how many instructions have which mechanism, and why
          -h, --help; --version

        Ctrl-C (or SIGTERM) removes the probes, prints what was gathered and lets the program go on.
        With -c, Ctrl-C also waits for the command; a second one leaves it running.
        With --follow nothing need match yet: probes are enabled wherever they appear, until the process itself ends.
        Of several -p, those that do not exist are left out. A hit that several descriptions match is shown once.
        Latencies include the cost of the probes that are hit meanwhile.
        latency of more than 64 functions, and trace of descriptions that match more than 32 static probes, use stops. With --mechanism jump code reads
        memory by system calls, which is safe where no thread has a seccomp filter, or gets one. The end says by what hits were gathered, and why.
        At the end, what a hit has cost is told. Predicted: by jump, the same code run by fasttrap itself; by in-process trap, the same and a trap
        of fasttrap's own; by breakpoint, the mean stop of a small program of fasttrap's own. Measured: by jump, the share of looks at running threads (ten a second) that found them in the code,
        times the processor time, by hits; by breakpoint, the mean time for which a thread stood still, without the kernel's switches.
        Exit code: that of the command with -c; else 0, 1 after a failure, 2 if the command line is wrong.
        """;
}
