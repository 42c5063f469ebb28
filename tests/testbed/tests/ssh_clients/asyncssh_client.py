# SPDX-License-Identifier: MIT OR Apache-2.0
"""Logs in with asyncssh and its parameter `password`: asyncssh_client.py HOST USER FILE COMMAND."""

import asyncio
import sys

import asyncssh

host, user, path, command = sys.argv[1:]
with open(path, encoding="ascii") as file:
    token = file.read()


async def main():
    options = {"username": user, "password": token, "client_keys": None, "agent_path": None, "config": None}
    async with asyncssh.connect(host, known_hosts="/etc/ssh/ssh_known_hosts", **options) as connection:
        sys.stdout.write((await connection.run(command)).stdout)


try:
    asyncio.run(main())
except asyncssh.Error as error:
    sys.exit(f"refused: {error}")
