import com.sun.net.httpserver.HttpServer;
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

/** A small HTTP server and two clients of it in one process. For each line "go MILLISECONDS" the clients ask for that time; "done REQUESTS NANOSECONDS" says what came of it. A page has its keys interned, as a parser would. */
class Server {
    static final int CLIENTS = 2;

    static byte[] page(String query) {
        StringBuilder page = new StringBuilder("{\"query\":\"").append(query).append("\",\"rows\":[");
        Map<String, Integer> words = new TreeMap<>();
        for (int i = 0; i < 40; i++) words.merge(("word" + i % 37).intern(), i, Integer::sum);
        words.forEach((word, count) -> page.append("{\"").append(word).append("\":").append(count).append("},"));
        return page.append("null]}").toString().getBytes(StandardCharsets.UTF_8);
    }

    static int ask(InputStream in, OutputStream out, int number, byte[] buffer) throws IOException {
        out.write(("GET /page?q=" + number + " HTTP/1.1\r\nHost: localhost\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
        int length = 0, end = -1, body = -1;
        while (end < 0 || length < end + body) {
            int got = in.read(buffer, length, buffer.length - length);
            if (got < 0) throw new EOFException();
            length += got;
            if (end < 0) {
                String head = new String(buffer, 0, length, StandardCharsets.US_ASCII);
                int blank = head.indexOf("\r\n\r\n");
                if (blank < 0) continue;
                int at = head.toLowerCase().indexOf("content-length: ") + 16;
                body = Integer.parseInt(head.substring(at, head.indexOf('\r', at)).trim());
                end = blank + 4;
            }
        }
        return body;
    }

    public static void main(String[] arguments) throws Exception {
        System.setProperty("sun.net.httpserver.nodelay", "true");
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        ExecutorService workers = Executors.newFixedThreadPool(CLIENTS);
        server.setExecutor(workers);
        server.createContext("/page", exchange -> {
            byte[] page = page(exchange.getRequestURI().getQuery());
            exchange.sendResponseHeaders(200, page.length);
            try (OutputStream out = exchange.getResponseBody()) { out.write(page); }
        });
        server.start();
        ExecutorService clients = Executors.newFixedThreadPool(CLIENTS);
        Socket[] sockets = new Socket[CLIENTS];
        for (int i = 0; i < CLIENTS; i++) {
            sockets[i] = new Socket(server.getAddress().getAddress(), server.getAddress().getPort());
            sockets[i].setTcpNoDelay(true);
        }
        System.out.println("ready " + ProcessHandle.current().pid());
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = orders.readLine()) != null; ) {
            long start = System.nanoTime(), end = start + Long.parseLong(line.split(" ")[1]) * 1_000_000;
            List<Future<Integer>> all = new ArrayList<>();
            for (Socket socket : sockets)
                all.add(clients.submit(() -> {
                    byte[] buffer = new byte[1 << 16];
                    int done = 0;
                    for (; System.nanoTime() < end; done++) ask(socket.getInputStream(), socket.getOutputStream(), done, buffer);
                    return done;
                }));
            int requests = 0;
            for (Future<Integer> one : all) requests += one.get();
            System.out.println("done " + requests + " " + (System.nanoTime() - start));
        }
        System.exit(0);
    }
}
