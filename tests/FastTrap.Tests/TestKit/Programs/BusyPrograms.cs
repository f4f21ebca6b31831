namespace FastTrap.Tests.TestKit.Programs;

/// <summary>Programs that do much of what programs do, and say what came of it.</summary>
internal static class BusyPrograms
{
    /// <summary>Each round gives the same digest, whatever happens to the program; it runs one round, and more for as many seconds as it is told, and ends when told a negative number.</summary>
    public const string Python = """
        import collections, hashlib, json, math, re, socket, struct, subprocess, tempfile, threading, time, zlib
        def round_of_work():
            digest = hashlib.sha256()
            digest.update(json.dumps({str(i): [math.sqrt(i), 3 ** i % 1000007] for i in range(200)}).encode())
            digest.update(zlib.compress(bytes(range(256)) * 50))
            digest.update(repr(collections.Counter(re.findall(r"\w+", "one two three two one " * 50))).encode())
            digest.update(time.strftime("%Y %j %H", time.gmtime(10 ** 9)).encode())
            left, right = socket.socketpair()
            left.sendall(b"x" * 1000)
            digest.update(right.recv(1000, socket.MSG_WAITALL))
            left.close(); right.close()
            with tempfile.TemporaryFile() as file:
                file.write(struct.pack("<100d", *range(100)))
                file.seek(0)
                digest.update(file.read())
            sums = []
            def add(n): sums.append(sum(range(n)))
            threads = [threading.Thread(target=add, args=(1000 * n,)) for n in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            digest.update(repr(sorted(sums)).encode())
            pid = os.fork()
            if pid == 0:
                os._exit(9)
            digest.update(repr(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
            digest.update(subprocess.run(["/bin/sh", "-c", "echo child; exit 3"], stdout=subprocess.PIPE).stdout)
            return digest.hexdigest()
        ready()
        while True:
            seconds = int(wait() or 0)
            if seconds < 0: break
            end = time.monotonic() + seconds
            digests = collections.Counter()
            while True:
                digests[round_of_work()] += 1
                if time.monotonic() >= end: break
            print("rounds", sum(digests.values()), flush=True)
            print("digest", *digests, flush=True)
        sys.exit(6)
        """;

    /// <summary>"work" makes it work and collect garbage, "gap" asks for the longest time since then that a thread which looks at the clock all the time did not see it; an empty line ends it.</summary>
    private const string Java = """
        import java.io.*;
        import java.util.*;
        class Program {
            static volatile long gap;
            static void spin() {
                for (long last = System.nanoTime(), now; ; last = now) {
                    now = System.nanoTime();
                    if (now - last > gap) gap = now - last;
                }
            }
            static long work() {
                Map<String, Integer> map = new TreeMap<>();
                long sum = 0;
                for (int i = 0; i < 20000; i++) {
                    map.merge("key" + i % 97, i, Integer::sum);
                    byte[] garbage = new byte[i % 500];
                    sum = sum * 31 + garbage.length + map.size();
                }
                return sum ^ map.hashCode();
            }
            public static void main(String[] arguments) throws Exception {
                Thread spinner = new Thread(Program::spin);
                spinner.setDaemon(true);
                System.out.println("ready " + ProcessHandle.current().pid());
                BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
                for (String line; (line = input.readLine()).length() != 0; ) {
                    if (line.equals("gap")) {
                        if (!spinner.isAlive()) spinner.start();
                        System.out.println("gap " + gap / 1000);
                        gap = 0;
                    } else {
                        long result = work();
                        System.gc();
                        System.out.println("result " + result);
                    }
                }
                System.exit(8);
            }
        }
        """;

    public static TargetProcess StartJava(PrivateDirectory directory) => RealPrograms.StartJava(Java, directory, ["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
}
