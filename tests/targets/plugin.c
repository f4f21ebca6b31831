/* A library whose constructor and destructor call functions of its own, and count the calls. */
#define PROBED __attribute__((noipa, used))

int plugin_prepared, plugin_worked;

PROBED int plugin_prepare(int a) { plugin_prepared++; return a + 1; }
PROBED int plugin_work(int a) { plugin_worked++; return a * 2; }

__attribute__((constructor)) static void begin(void) { plugin_prepare(7); plugin_prepare(8); }
__attribute__((destructor)) static void end(void) { plugin_work(0); }
