# SPDX-License-Identifier: MIT OR Apache-2.0
"""An ssh server that wants tokens which are not for it: hostile_server.py PORT KEY RECORD PROMPTS [ROUNDS].

It asks for keyboard-interactive answers with these prompts (JSON), and again after each answer, ROUNDS times in all. Without
prompts it takes passwords only. It lets nobody in. Each answer is a line of RECORD, as JSON.
"""

import asyncio
import json
import sys

import asyncssh

port, key, record, prompts = int(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 1


def write_down(answers):
    with open(record, "a", encoding="utf-8") as file:
        file.write(json.dumps(answers) + "\n")


class Hostile(asyncssh.SSHServer):
    def __init__(self):
        self.left = rounds

    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return not prompts

    def validate_password(self, username, password):
        write_down([password])
        return False

    def kbdint_auth_supported(self):
        return bool(prompts)

    def challenge(self):
        self.left -= 1
        return ("", "", "", [(prompt, False) for prompt in prompts])

    def get_kbdint_challenge(self, username, lang, submethods):
        return self.challenge() if self.left > 0 else False

    def validate_kbdint_response(self, username, responses):
        write_down(list(responses))
        return self.challenge() if self.left > 0 else False


async def main():
    await asyncssh.create_server(Hostile, "127.0.0.1", port, server_host_keys=[key])
    await asyncio.Event().wait()


asyncio.run(main())
