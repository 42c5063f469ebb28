// SPDX-License-Identifier: MIT OR Apache-2.0
// What a PAM module must leave as it was: threads, descriptors, signals, umask, ids, limits, locale, directory, environment.

// Gives the process a state in which a change is seen: handlers, blocked and ignored signals, a locale, a umask. Opens the connection to
// syslog, which the C library keeps after the first message.
void make_unusual(void);

// Takes the present state as the one that must stay.
void remember_state(void);

// Prints "changed WHERE - LINE" for each line that has gone and "changed WHERE + LINE" for each new one. Waits so many seconds for
// the state to be as before: a thread that was joined is listed for some microseconds more.
void compare_state(const char *where, int seconds);

// Changes each part of the state.
void spoil_state(void);
