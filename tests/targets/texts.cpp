// texts: what libstdc++ itself does for strings, streams and locales. On each line "go N" it does so with N texts and prints what came out.
#include "target.h"
#include <algorithm>
#include <iomanip>
#include <iterator>
#include <locale>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// Numbers are written with points and in groups of three.
struct Grouped : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    char do_decimal_point() const override { return ','; }
    std::string do_grouping() const override { return "\3"; }
};

static void say(const char *name, const std::string &text)
{
    uint64_t sum = text.size();
    for (char c : text) sum = target_mix(sum, (unsigned char)c);
    target_say("result %s %016llx %.60s", name, (unsigned long long)sum, text.c_str());
}

PROBED std::vector<std::string> make(long count)
{
    std::vector<std::string> all;
    for (long i = 0; i < count; i++) {
        std::string text = "key ";
        text += std::to_string(i * 7919 % 1000);
        text.append(static_cast<size_t>(i % 23), 'x').insert(2, "--").replace(0, 1, "KK");
        if (i % 5 == 0) text.erase(1, 3);
        all.push_back(text + (i % 2 ? " odd" : " even"));
    }
    return all;
}

PROBED std::string sorted(std::vector<std::string> all)
{
    std::sort(all.begin(), all.end(), [](const std::string &a, const std::string &b) { return a.compare(b) < 0; });
    std::map<std::string, size_t> lengths;
    for (auto &text : all) lengths[text.substr(0, 5)] += text.find("even") + text.rfind('x');
    std::string joined;
    for (auto &text : all) joined += text;
    for (auto &[key, value] : lengths) joined += key + std::to_string(value);
    return joined;
}

PROBED std::string written(long count)
{
    std::ostringstream out;
    out.imbue(std::locale(std::locale::classic(), new Grouped));
    for (long i = 0; i < count; i++) {
        out << i * 1234567 << ' ' << std::hex << std::showbase << i * 77 << std::dec << ' ' << std::setw(12) << std::setfill('*') << (double)i / 7 << ' '
            << std::scientific << std::setprecision(9) << (double)i * 1e10 << std::defaultfloat << ' ' << std::boolalpha << (i % 2 == 0) << ' ' << (void *)(i * 16) << ';';
    }
    return out.str();
}

PROBED std::string parsed(long count)
{
    std::ostringstream text;
    for (long i = 0; i < count; i++) text << i << ' ' << (double)i / 3 << " word" << i << ' ';
    std::istringstream in(text.str());
    long number, total = 0;
    double real, reals = 0;
    std::string word, words;
    while (in >> number >> real >> word) {
        total += number;
        reals += real;
        words += word;
    }
    size_t failures = 0;
    try { (void)std::stol("none"); } catch (const std::invalid_argument &e) { failures += std::string(e.what()).size(); }
    try { (void)words.at(words.size()); } catch (const std::out_of_range &) { failures++; }
    std::ostringstream out;
    out << total << ' ' << std::setprecision(17) << reals << ' ' << words << ' ' << failures;
    return out.str();
}

int main()
{
    target_ready();
    char line[64];
    while (target_command(line, sizeof line) && strncmp(line, "go", 2) == 0) {
        long count = atol(line + 2);
        say("sorted", sorted(make(count)));
        say("written", written(count));
        say("parsed", parsed(count));
        target_say("done");
    }
    return target_end(0);
}
