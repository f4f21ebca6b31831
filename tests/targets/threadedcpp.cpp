// threadedcpp [THREADS] [LOOPS]: containers, virtual calls, and exceptions through several frames, in several threads.
#include "target.h"
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace shapes {
struct Shape {
    virtual ~Shape() = default;
    virtual long area(long scale) const = 0;
};
struct Square final : Shape {
    explicit Square(long side) : side(side) {}
    PROBED long area(long scale) const override { return side * side * scale; }
    long side;
};
struct Box final : Shape {
    Box(long a, long b) : a(a), b(b) {}
    PROBED long area(long scale) const override { return a * b * scale + 1; }
    long a, b;
};
}

static std::atomic<unsigned long> areas, thrown, caught, cleaned, inserts;
static std::mutex shared_lock;
static std::map<std::string, long> shared_map;

struct Cleaner { PROBED ~Cleaner() { cleaned++; } };

PROBED long may_throw(long value)
{
    Cleaner cleaner;
    if (value % 5 == 0) {
        thrown++;
        throw std::runtime_error("five " + std::to_string(value));
    }
    if (value % 7 == 0) {
        thrown++;
        throw value;
    }
    return value * 2;
}

PROBED long through(long value, int depth)
{
    Cleaner cleaner;
    return depth == 0 ? may_throw(value) : through(value, depth - 1) + 1;
}

PROBED long guarded(long value)
{
    try {
        return through(value, 3);
    } catch (const std::runtime_error &error) {
        caught++;
        return (long)std::string(error.what()).size();
    } catch (long number) {
        caught++;
        return -number;
    }
}

template <typename T> PROBED T total(const std::vector<T> &values) { return std::accumulate(values.begin(), values.end(), T{}); }

static long work(int index, int loops)
{
    unsigned long sum = (unsigned long)index;
    std::vector<std::unique_ptr<shapes::Shape>> all;
    for (int i = 0; i < loops; i++) {
        if (i % 2) all.push_back(std::make_unique<shapes::Square>(i));
        else all.push_back(std::make_unique<shapes::Box>(i, index));
        areas++;
        sum = target_mix(sum, (unsigned long)all.back()->area(3));
        sum = target_mix(sum, (unsigned long)guarded(i + index));
        std::vector<long> numbers(16);
        std::iota(numbers.begin(), numbers.end(), (long)i);
        sum = target_mix(sum, (unsigned long)total(numbers));
        std::lock_guard<std::mutex> guard(shared_lock);
        shared_map["key " + std::to_string(i % 50)] += i;
        inserts++;
    }
    return (long)sum;
}

int main(int argc, char **argv)
{
    int threads = target_argument(argc, argv, 1, 4), loops = target_argument(argc, argv, 2, 300);
    target_ready();
    target_wait();
    std::vector<std::thread> running;
    std::vector<long> sums((size_t)threads);
    for (int i = 0; i < threads; i++) running.emplace_back([i, loops, &sums] { sums[(size_t)i] = work(i, loops); });
    for (auto &thread : running) thread.join();
    unsigned long sum = 0;
    for (long part : sums) sum = target_mix(sum, (unsigned long)part);
    for (const auto &[key, value] : shared_map) sum = target_mix(sum, (unsigned long)value + key.size());
    if (thrown != caught) target_fail("%lu thrown, %lu caught", thrown.load(), caught.load());
    target_say("count guarded %d", threads * loops);
    target_say("count through %d", threads * loops * 4);
    target_say("count area %lu", areas.load());
    target_say("count thrown %lu", thrown.load());
    target_say("count ~Cleaner %lu", cleaned.load());
    target_say("checksum %016lx", sum);
    target_wait();
    return target_end(0);
}
