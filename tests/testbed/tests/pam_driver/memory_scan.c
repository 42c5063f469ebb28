// SPDX-License-Identifier: MIT OR Apache-2.0
#define _GNU_SOURCE
#include "memory_scan.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    KEY = 0xa5,
    // A piece of an answer: a copy of two pieces and a half has a whole one somewhere.
    PIECE = 16,
    STEP = 8,
    // A shorter answer is one piece. Less would be found by chance.
    SHORTEST = 8,
    SHOWN = 40,
};

// Each byte is combined with KEY, also the ends.
static unsigned char answers[1 << 20];
static size_t length, position;

int read_answers(int descriptor) {
    // read(2) and not stdio, whose buffer would be another copy.
    for (ssize_t count; length < sizeof answers; length += (size_t)count) {
        count = read(descriptor, answers + length, sizeof answers - length);
        if (count < 0) return -1;
        if (count == 0) return 0;
        for (ssize_t i = 0; i < count; i++) answers[length + (size_t)i] ^= KEY;
    }
    return -1;
}

static size_t answer_length(size_t begin) {
    size_t end = begin;
    while (end < length && answers[end] != KEY) end++;
    return end - begin;
}

char *next_answer(void) {
    if (position >= length) return NULL;
    size_t size = answer_length(position);
    char *answer = malloc(size + 1);
    if (!answer) return NULL;
    for (size_t i = 0; i < size; i++) answer[i] = (char)(answers[position + i] ^ KEY);
    answer[size] = 0;
    position += size + 1;
    return answer;
}

// The pieces: offset and size in `answers`. By their first two bytes they are found quickly.
static struct { size_t begin, size; } pieces[1 << 14];
static size_t piece_count;
static unsigned char known[65536];

static void add_piece(size_t begin, size_t size) {
    if (piece_count == sizeof pieces / sizeof *pieces) return;
    pieces[piece_count].begin = begin;
    pieces[piece_count++].size = size;
    known[answers[begin] << 8 | answers[begin + 1]] = 1;
}

static void cut_answers(void) {
    for (size_t begin = 0; begin < length;) {
        size_t size = answer_length(begin);
        if (size >= SHORTEST && size < PIECE) add_piece(begin, size);
        for (size_t at = 0; at + PIECE <= size; at += STEP) add_piece(begin + at, PIECE);
        begin += size + 1;
    }
}

// Compares without a readable copy on the stack.
static int is_piece(const volatile unsigned char *memory, size_t left, size_t piece) {
    if (left < pieces[piece].size) return 0;
    for (size_t i = 0; i < pieces[piece].size; i++)
        if ((memory[i] ^ KEY) != answers[pieces[piece].begin + i]) return 0;
    return 1;
}

static void show(const volatile unsigned char *begin, size_t before, size_t size) {
    for (size_t i = 0; i < before + size; i++) {
        unsigned char byte = begin[i];
        putchar(isprint(byte) ? byte : '.');
    }
    putchar('\n');
}

static int scan_region(const volatile unsigned char *begin, size_t size, const char *name) {
    int found = 0;
    size_t end_of_copy = 0;
    for (size_t at = 0; at + SHORTEST <= size; at++) {
        if (!known[(begin[at] ^ KEY) << 8 | (begin[at + 1] ^ KEY)]) continue;
        for (size_t piece = 0; piece < piece_count; piece++) {
            if (!is_piece(begin + at, size - at, piece)) continue;
            // The pieces of one copy overlap.
            if (at >= end_of_copy) {
                size_t before = at < SHOWN ? at : SHOWN, after = size - at < SHOWN ? size - at : SHOWN;
                found++;
                printf("copy in %s: ", name);
                show(begin + at - before, before, after);
            }
            end_of_copy = at + pieces[piece].size;
            break;
        }
    }
    return found;
}

// The C library can have guard pages in regions that the kernel lists as readable (since glibc 2.42 below the stack of a thread).
static int is_readable(const unsigned char *page) {
    unsigned char byte;
    struct iovec to = {&byte, 1}, from = {(void *)page, 1};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

// Scans what can be read, in runs of pages.
static int scan_pages(const unsigned char *memory, size_t size, const char *name) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), begin = 0;
    int found = 0;
    for (size_t at = 0; at < size; at += page - (size_t)(memory + at) % page) {
        if (is_readable(memory + at)) continue;
        if (at > begin) found += scan_region(memory + begin, at - begin, name);
        begin = at + page - (size_t)(memory + at) % page;
    }
    return begin < size ? found + scan_region(memory + begin, size - begin, name) : found;
}

int scan_memory(void) {
    // The text of the output must not be searched: its buffer is written first and is not used meanwhile.
    static char maps[1 << 18];
    static char output[1 << 16];
    fflush(stdout);
    setvbuf(stdout, output, _IOFBF, sizeof output);
    cut_answers();
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), found = 0;
    size_t filled = 0;
    for (ssize_t count; file >= 0 && filled < sizeof maps - 1 && (count = read(file, maps + filled, sizeof maps - 1 - filled)) > 0;)
        filled += (size_t)count;
    if (file >= 0) close(file);
    if (filled == 0) return -1;
    for (char *line = strtok(maps, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long begin, end;
        char access[5];
        int name = 0;
        if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %n", &begin, &end, access, &name) != 3) continue;
        if (access[0] != 'r' || access[1] != 'w' || end - begin > 1UL << 30) continue;
        const char *label = name && line[name] ? line + name : "memory without a name";
        const unsigned char *memory = (const unsigned char *)begin;
        size_t size = end - begin;
        // The buffer of the output holds what was found.
        const unsigned char *buffer = (const unsigned char *)output;
        if (buffer >= memory && buffer < memory + size) {
            size_t first = (size_t)(buffer - memory);
            found += scan_pages(memory, first, label);
            memory += first + sizeof output;
            size -= first + sizeof output;
        }
        found += scan_pages(memory, size, label);
    }
    return found;
}
