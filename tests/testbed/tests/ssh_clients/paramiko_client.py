# SPDX-License-Identifier: MIT OR Apache-2.0
"""Logs in by keyboard-interactive with paramiko: paramiko_client.py HOST USER COMMAND.

Standard input has JSON: a list of attempts in one connection. An attempt is a list with the answers to its first request, its second
one, and so on; a request with no answers left gets none. Standard error gets what the server says ("text ..."), asks ("prompt ...") and
how each attempt ends ("attempt ..."). After an accepted attempt the command runs.
"""

import json
import sys

import paramiko

host, user, command = sys.argv[1:]
attempts = json.load(sys.stdin)


def handler_of(answers):
    """The answers of one attempt. OpenSSH sends texts in requests without prompts, which need none."""
    left = list(answers)

    def handler(title, instructions, prompts):
        if instructions:
            print("text", instructions, file=sys.stderr)
        for prompt, _ in prompts:
            print("prompt", prompt, file=sys.stderr)
        return left.pop(0) if prompts and left else []

    return handler


client = paramiko.SSHClient()
client.load_host_keys("/etc/ssh/ssh_known_hosts")
transport = paramiko.Transport((host, 22))
wanted = client.get_host_keys().lookup(host)
transport.get_security_options().key_types = list(wanted)
transport.start_client(timeout=20)
key = transport.get_remote_server_key()
if wanted[key.get_name()] != key:
    sys.exit("another host key")
for answers in attempts:
    try:
        transport.auth_interactive(user, handler_of(answers))
    except (paramiko.SSHException, EOFError) as error:
        print("attempt", type(error).__name__, file=sys.stderr)
        continue
    print("attempt accepted", file=sys.stderr)
    channel = transport.open_session()
    channel.exec_command(command)
    sys.stdout.write(channel.makefile("rb").read().decode())
    break
transport.close()
