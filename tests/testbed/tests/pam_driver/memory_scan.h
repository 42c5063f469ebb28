// SPDX-License-Identifier: MIT OR Apache-2.0
// The answers of the user, which the driver keeps in a form that the search does not find, and the search for all other copies.

// Reads the answers from a descriptor. Each ends with NUL. Returns 0 if that worked.
int read_answers(int descriptor);

// The next answer, from malloc. NULL: there is none.
char *next_answer(void);

// Searches the writable memory of this process for pieces of the answers, also of those that no prompt has taken. Prints "copy ..." for
// each place with its surroundings, and returns the number of places.
int scan_memory(void);
