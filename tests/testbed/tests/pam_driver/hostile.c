// SPDX-License-Identifier: MIT OR Apache-2.0
// A library that leaves a trace when a program loads it.
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void leave_trace(void) {
    int file = open("/home/alice/loaded", O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
    if (file >= 0) close(file);
}
