// A C++ program that allocates in every way of the language, and says what it finds: see tests/record.rs.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

struct alignas(256) Wide {
    char bytes[512];
};

// A block of before `main`, and of before many a constructor.
static char *const early = static_cast<char *>(std::malloc(5000));

static bool work(int seed) {
    std::map<int, std::string> map;
    std::vector<std::unique_ptr<Wide>> wide;
    for (int i = 0; i < 3000; i++) {
        map[(i * 7919 + seed) % 1000] += std::string(i % 100, static_cast<char>('a' + i % 26));
        wide.push_back(std::make_unique<Wide>());
        if (reinterpret_cast<std::uintptr_t>(wide.back().get()) % 256 != 0)
            return false;
        std::memset(wide.back()->bytes, i, sizeof wide.back()->bytes);
        if (wide.size() > 50)
            wide.erase(wide.begin() + i % 50);
    }
    return map.size() == 1000;
}

int main() {
    if (!work(1))
        return 1;
    // Freed by another thread than allocated, and resized by a third.
    char *shared = static_cast<char *>(std::malloc(100));
    std::strcpy(shared, "kept");
    std::thread([&] { shared = static_cast<char *>(std::realloc(shared, 200000)); }).join();
    if (std::strcmp(shared, "kept") != 0)
        return 2;
    std::thread([&] { std::free(shared); }).join();
    bool good[4] = {};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] { good[i] = work(i); });
    for (std::thread &thread : threads)
        thread.join();
    for (bool one : good)
        if (!one)
            return 3;
    try {
        volatile std::size_t huge = PTRDIFF_MAX;
        delete[] new char[huge];
        return 4;
    } catch (const std::bad_alloc &) {
    }
    pid_t pid = fork();
    if (pid == 0)
        std::exit(work(9) ? 0 : 1);
    int status = -1;
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return 5;
    if (early == nullptr || malloc_usable_size(early) < 5000)
        return 6;
    std::memset(early, 1, 5000);
    char *moved = static_cast<char *>(std::realloc(early, 50000));
    if (moved == nullptr || moved[4999] != 1)
        return 7;
    std::free(moved);
    std::printf("%zu\n", malloc_usable_size(std::malloc(100)));
    return 0;
}
