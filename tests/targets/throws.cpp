// throws: exceptions of C++, thrown, caught and thrown again a known number of times. Command: go N; then quit.
#include "target.h"
#include <stdexcept>

static long thrown, caught, again;

PROBED void thrower(int n)
{
    thrown++;
    if (n % 2) throw std::runtime_error("odd");
    throw n;
}

PROBED void passer(int n)
{
    try { thrower(n); }
    catch (const std::exception &) { caught++; again++; throw; }
}

int main()
{
    char line[64];
    target_ready();
    while (target_command(line, sizeof line) && strncmp(line, "go", 2) == 0) {
        for (int n = 0; n < atoi(line + 3); n++) {
            try { passer(n); }
            catch (...) { caught++; }
        }
        target_say("count thrown %ld", thrown);
        target_say("count again %ld", again);
        target_say("count caught %ld", caught);
    }
    return target_end(0);
}
