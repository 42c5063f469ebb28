// SPDX-License-Identifier: MIT OR Apache-2.0

// Logs in by keyboard-interactive with golang.org/x/crypto/ssh: go_client HOST USER FILE COMMAND. Each prompt is answered with the
// content of FILE. Standard error gets what the server says ("text ...") and asks ("prompt ..."). Status 1: refused.
package main

import (
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func main() {
	if len(os.Args) != 5 {
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}

func run(host, user, path, command string) error {
	token, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	known, err := knownhosts.New("/etc/ssh/ssh_known_hosts")
	if err != nil {
		return err
	}
	answer := func(name, instruction string, prompts []string, echos []bool) ([]string, error) {
		if instruction != "" {
			fmt.Fprintln(os.Stderr, "text", instruction)
		}
		answers := make([]string, len(prompts))
		for i, prompt := range prompts {
			fmt.Fprintln(os.Stderr, "prompt", prompt)
			answers[i] = string(token)
		}
		return answers, nil
	}
	client, err := ssh.Dial("tcp", host+":22", &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.KeyboardInteractive(answer)},
		HostKeyCallback:   known,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	session.Stdout = os.Stdout
	return session.Run(command)
}
